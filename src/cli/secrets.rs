//! What `serve` does beside its work: it takes secrets that were replaced.

use std::time::Duration;

use actix_web::web;
use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use tokio_util::sync::CancellationToken;

use super::serve::check_signing_token;
use crate::gitlab::{Credentials, Forge};
use crate::settings::{Cluster, Secret, SecretFile, Settings, SharedSecret};
use crate::web::ApiToken;
use crate::webhook::{Intake, Secrets, SigningKey};

/// How often the files of secrets are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// Every secret that is in use, and who uses it.
pub(super) struct SecretsInUse {
    forge: Forge,
    intake: web::Data<Intake>,
    api_token: ApiToken,
    credentials: Credentials,
    signing: Vec<SecretString>,
    tokens: Vec<SecretString>,
    shared: Vec<SharedSecret>,
}

/// The secrets that prove a delivery. The settings have checked the form of the signing tokens.
pub(super) fn webhook_secrets(signing: &[SecretString], tokens: &[SecretString]) -> anyhow::Result<Secrets> {
    let keys = signing.iter().map(|token| token.expose_secret().parse::<SigningKey>());
    Ok(Secrets::new(keys.collect::<Result<_, _>>()?, tokens.to_vec()))
}

impl SecretsInUse {
    pub(super) fn new(
        settings: &Settings,
        credentials: Credentials,
        forge: Forge,
        intake: web::Data<Intake>,
        api_token: ApiToken,
    ) -> Self {
        let (signing, tokens) = (settings.signing_tokens.clone(), settings.secret_tokens.clone());
        let of_clusters = settings.clusters.iter().filter_map(Cluster::secret);
        let shared = settings.per_project.shared_secrets().map(|(_, secret)| secret);
        let shared = shared.chain(of_clusters).cloned().collect();
        Self { forge, intake, api_token, credentials, signing, tokens, shared }
    }

    /// Takes what is new in the files, until stopped.
    pub(super) async fn follow(mut self, mut files: Vec<SecretFile>, stop: CancellationToken) {
        while !files.is_empty() {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = stop.cancelled() => return,
            }
            for file in &mut files {
                let secret = file.secret;
                let Some(new) = file.replaced(|text| check(secret, text)).await else { continue };
                match self.take(secret, new) {
                    Ok(()) => tracing::info!(setting = file.name, "a secret was replaced"),
                    Err(error) => {
                        tracing::error!(setting = file.name, %error, "a secret could not be replaced");
                    }
                }
            }
        }
    }

    fn take(&mut self, secret: Secret, new: SecretString) -> anyhow::Result<()> {
        match secret {
            Secret::GitLabToken => {
                self.credentials.default.secret = new;
                self.forge.replace_tokens(self.credentials.clone());
            }
            Secret::ProjectToken(table) => {
                if let Some((_, token)) = self.credentials.projects.get_mut(table) {
                    token.secret = new;
                }
                self.forge.replace_tokens(self.credentials.clone());
            }
            Secret::ApiToken => self.api_token.replace(new),
            Secret::OnCluster(place) => {
                if let Some(secret) = self.shared.get(place) {
                    secret.replace(new);
                }
            }
            Secret::SigningTokens => {
                self.signing = list(new.expose_secret()).map(SecretString::from).collect();
                self.intake.reload(webhook_secrets(&self.signing, &self.tokens)?);
            }
            Secret::SecretTokens => {
                self.tokens = list(new.expose_secret()).map(SecretString::from).collect();
                self.intake.reload(webhook_secrets(&self.signing, &self.tokens)?);
            }
        }
        Ok(())
    }
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// Whether a secret has the form of its kind.
fn check(secret: Secret, text: &str) -> Result<(), String> {
    match secret {
        Secret::SigningTokens => list(text).try_for_each(check_signing_token),
        Secret::SecretTokens => list(text).next().map(drop).ok_or_else(|| String::from("holds no token")),
        Secret::OnCluster(_) => Ok(()),
        Secret::GitLabToken | Secret::ProjectToken(_) | Secret::ApiToken => {
            HeaderValue::from_str(text).map(drop).map_err(|_| String::from("holds no token"))
        }
    }
}
