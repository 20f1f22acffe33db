//! What templates are told.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};
use sha2::Sha256;

use super::Tools;
use super::error::RenderError;
use super::policy::{Exposure, ManifestRules};
use super::template::{Source, Templates};
use crate::preview::{PreviewName, Sha, ref_slug};
use crate::render::KubernetesSettings;

/// Name of the Secret with the operator's secrets.
const SECRET: &str = "greenroom";

/// What templates are told of a merge request and its preview.
#[derive(Debug, Clone)]
pub struct Values {
    /// The pipeline's commit, `CI_COMMIT_SHA`: what CI has tagged the image with.
    pub sha: Sha,
    /// The merge request's head.
    pub head_sha: Sha,
    /// The preview's name, and its namespace's.
    pub name: PreviewName,
    /// Host of the preview's address.
    pub host: String,
    /// The preview's address.
    pub url: String,
    /// Number of the merge request in its project; a branch without one has none.
    pub iid: Option<u64>,
    /// The merge request's title.
    pub title: String,
    /// Its source branch.
    pub branch: String,
    /// Its author's user name.
    pub author: String,
    /// The project's image in GitLab's registry, `CI_REGISTRY_IMAGE`.
    pub registry_image: Option<String>,
    /// The image as the registry knows it, by digest. Without it, as the settings have it.
    pub image: Option<String>,
    /// What the operator says of the project.
    pub configured: BTreeMap<String, Value>,
    /// What passwords are derived from: a secret of the server's own that stays. Without it there are none.
    pub password_key: Option<SecretString>,
}

impl Values {
    /// The values that every template sees.
    pub(super) fn plain(&self) -> Result<Value, RenderError> {
        let mut values = json!({
            "sha": self.sha.as_str(),
            "head_sha": self.head_sha.as_str(),
            "short_sha": self.sha.short(),
            "ref_slug": ref_slug(&self.branch),
            "name": self.name.as_str(),
            "namespace": self.name.as_str(),
            "host": self.host,
            "url": self.url,
            "title": self.title,
            "branch": self.branch,
            "author": self.author,
        });
        if let Some(iid) = self.iid {
            values["iid"] = json!(iid);
        }
        if let Some(password) = self.password_key.as_ref().map(|key| password(key, &self.name)) {
            values["password"] = json!(password);
        }
        if let Some(image) = &self.registry_image {
            values["registry_image"] = json!(image);
        }
        for (name, value) in &self.configured {
            if values.get(name).is_some() || ["app", "image", "password"].contains(&name.as_str()) {
                let problem =
                    format!("the value {name} is greenroom's own; call the configured one something else");
                return Err(RenderError::Trouble(problem));
            }
            values[name] = value.clone();
        }
        Ok(values)
    }

    /// All that the templates of a preview see.
    pub(super) async fn context(
        &self,
        settings: &KubernetesSettings,
        rules: &ManifestRules,
        tools: &Tools,
    ) -> Result<Value, RenderError> {
        let mut context = self.plain()?;
        let texts = Templates::new(context.clone(), tools);
        let image = match (&self.image, &settings.image) {
            (Some(image), _) => Some(image.clone()),
            (None, Some(image)) => Some(texts.text("kubernetes.image", image).await?),
            (None, None) => None,
        };
        if let Some(image) = image {
            context["image"] = json!(image);
        }
        let unknown = settings.secrets.iter().find(|secret| !rules.secrets.contains(secret.as_str()));
        if let Some(secret) = unknown {
            let problem = format!("the operator has given this project no secret {secret}");
            return Err(RenderError::file(".greenroom.yml kubernetes.secrets", problem));
        }
        let mut app = serde_json::to_value(settings).map_err(|error| {
            RenderError::Trouble(format!("the settings cannot be handed to templates: {error}"))
        })?;
        let source = |place: String, text: &str| Source { place, text: text.to_owned() };
        let env = settings.env.iter().map(|(name, text)| source(format!("kubernetes.env.{name}"), text));
        let args = settings.args.iter().map(|text| source(String::from("kubernetes.args"), text));
        let seed = settings.seed.as_ref().and_then(|seed| seed.image.as_deref());
        let seed = seed.map(|text| source(String::from("kubernetes.seed.image"), text));
        let mut written = texts.texts(env.chain(args).chain(seed).collect()).await?.into_iter();
        let names = settings.env.keys().map(ToString::to_string);
        app["env"] = json!(names.zip(written.by_ref().map(Value::from)).collect::<Map<_, _>>());
        app["args"] = json!(written.by_ref().take(settings.args.len()).collect::<Vec<_>>());
        if let Some(image) = written.next() {
            app["seed"]["image"] = json!(image);
        }
        context["app"] = app;
        context["secret_name"] = json!(SECRET);
        context["tls_secret"] = json!(rules.tls_secret);
        (context["ingress_class"], context["gateway"]) = match &rules.exposure {
            Exposure::Ingress { class } => (json!(class), Value::Null),
            Exposure::Gateway { name, namespace, section } => {
                let mut parent = json!({ "name": name, "namespace": namespace });
                if let Some(section) = section {
                    parent["sectionName"] = json!(section);
                }
                (Value::Null, parent)
            }
        };
        Ok(context)
    }
}

/// A password that stays the same as long as the preview has its name, and tells nothing of others'.
pub fn password(key: &SecretString, name: &PreviewName) -> String {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.expose_secret().as_bytes()) else {
        return String::new();
    };
    mac.update(b"greenroom password\0");
    mac.update(name.as_str().as_bytes());
    hex::encode(&mac.finalize().into_bytes()[..16])
}
