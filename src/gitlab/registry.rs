//! Whether an image is there, asked of its registry (OCI Distribution, and Docker's token flow that GitLab speaks too).
//!
//! Properties:
//! * A tag that is not there is told from a registry that cannot be asked: only the registry's own 404 means "missing".
//! * GitLab's API token goes to GitLab alone, and what GitLab gives for it to GitLab's own registry alone: an image is named by
//!   whoever may push a branch, and the registry there could name GitLab as the one that hands out its tokens. What a pull secret
//!   says of a registry goes to the service that this registry names, and never over a plain connection to another machine.

use std::time::Duration;

use http::header::{ACCEPT, WWW_AUTHENTICATE};
use http::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use url::Url;

use super::image::{Image, Login, login_of};
use super::{Error, Forge};
use crate::outgoing::is_loopback;
use crate::preview::ProjectId;

/// The kinds of manifest that an image may have.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json, \
                         application/vnd.docker.distribution.manifest.v2+json";

/// What an answer says of its manifest.
const DIGEST: &str = "docker-content-digest";

/// The largest manifest, bytes; what a registry has to take at least.
const LARGEST_MANIFEST: u64 = 4 << 20;

/// The longest a registry may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why nobody can tell whether an image is there. Markdown-safe; never contains a secret.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No answer.
    #[error("the registry {registry} did not answer ({why})")]
    Unreachable {
        /// Its host.
        registry: String,
        /// Why.
        why: String,
    },
    /// The registry lets us not see it.
    #[error("the registry {registry} does not let greenroom see it (it answered with {status}); {remedy}")]
    Refused {
        /// Its host.
        registry: String,
        /// HTTP status.
        status: u16,
        /// What to do.
        remedy: &'static str,
    },
    /// It wants what GitLab gives to its own registry alone.
    #[error(
        "the registry {registry} asks for a token of GitLab's, and is not where GitLab keeps the project's images; name the image by \
         `registry_image`, or give the project a `pull_secret`"
    )]
    NotGitLabs {
        /// Its host.
        registry: String,
    },
    /// An answer that is none.
    #[error("the registry {registry} gave an answer that cannot be used ({why})")]
    Unreadable {
        /// Its host.
        registry: String,
        /// Why.
        why: String,
    },
    /// GitLab could not be asked.
    #[error(transparent)]
    GitLab(#[from] Error),
}

/// What a registry wants to see, from its `WWW-Authenticate`.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    /// A token of this service.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
    /// User and password.
    Basic,
}

/// What a registry is shown.
enum Pass {
    None,
    Login(Login),
    Token(SecretString),
}

impl Pass {
    fn on(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match self {
            Self::None => request,
            Self::Login(Login { user, password }) => request.basic_auth(user, Some(password.expose_secret())),
            Self::Token(token) => request.bearer_auth(token.expose_secret()),
        }
    }
}

#[derive(Deserialize)]
struct Token {
    token: Option<SecretString>,
    access_token: Option<SecretString>,
}

impl Forge {
    /// The digest that an image's tag has now, or its own; `None` when its registry has no such image.
    pub async fn image_digest(
        &self,
        project: ProjectId,
        image: &Image,
        pull_secret: Option<&SecretString>,
    ) -> Result<Option<String>, RegistryError> {
        let login = pull_secret.and_then(|config| login_of(config.expose_secret(), &image.registry));
        let registry = || image.registry.clone();
        let unreadable = |why: &str| RegistryError::Unreadable { registry: registry(), why: why.to_owned() };
        let scheme = if Url::parse(&format!("http://{}", image.registry)).is_ok_and(|url| is_loopback(&url)) {
            "http"
        } else {
            "https"
        };
        let reference = image.reference();
        let url = format!("{scheme}://{}/v2/{}/manifests/{reference}", image.registry, image.repository);
        let url = Url::parse(&url).map_err(|_| unreadable("its address is none"))?;
        let http = self.shared.link.http.to(&url);
        let ask = async |method: Method, pass: &Pass| {
            let request = pass.on(http.request(method, url.clone()));
            let answer = request.header(ACCEPT, MANIFESTS).timeout(PATIENCE).send().await;
            answer.map_err(|error| RegistryError::Unreachable { registry: registry(), why: plain(&error) })
        };
        let mut pass = Pass::None;
        let mut answer = ask(Method::HEAD, &pass).await?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            let mut challenges = answer.headers().get_all(WWW_AUTHENTICATE).iter();
            let challenge = challenges.find_map(|value| challenge_of(value.to_str().ok()?));
            pass = match (challenge, login) {
                (Some(Challenge::Bearer { realm, service, scope }), login) => {
                    let realm = url.join(&realm).map_err(|_| unreadable("it names no token service"))?;
                    if !is_asked(&realm, &url, &self.shared.link.api) {
                        return Err(unreadable("it names a token service without encryption"));
                    }
                    let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", image.repository));
                    Pass::Token(self.registry_token(project, image, realm, service, &scope, login).await?)
                }
                (Some(Challenge::Basic), Some(login)) => Pass::Login(login),
                _ => Pass::None,
            };
            if !matches!(pass, Pass::None) {
                answer = ask(Method::HEAD, &pass).await?;
            }
        }
        match answer.status() {
            status if status.is_success() => {
                let told = answer.headers().get(DIGEST).and_then(|digest| digest.to_str().ok());
                let sound = |digest: &&str| Image::parse(&format!("x@{digest}")).is_some();
                if let Some(digest) = told.filter(sound) {
                    return Ok(Some(digest.to_owned()));
                }
                // Some proxies take the header away. The digest is that of the manifest's bytes, whoever counts them.
                let answer = ask(Method::GET, &pass).await?;
                if !answer.status().is_success() {
                    return Err(unreadable(&format!("status {}", answer.status().as_u16())));
                }
                let manifest = super::client::read(answer, LARGEST_MANIFEST, "the image's manifest").await?;
                Ok(Some(format!("sha256:{}", hex::encode(Sha256::digest(&manifest)))))
            }
            StatusCode::NOT_FOUND => Ok(None),
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Err(RegistryError::Refused {
                registry: registry(),
                status: status.as_u16(),
                remedy: "the API token needs the scope `api` or `read_registry`, or the project a `pull_secret`",
            }),
            status => Err(unreadable(&format!("status {}", status.as_u16()))),
        }
    }

    /// Whether a registry is GitLab's own: where the project's images are, or GitLab itself, which passes on those of others.
    async fn keeps_images_at(&self, project: ProjectId, registry: &str) -> Result<bool, Error> {
        let prefix = self.registry_image(project).await?;
        let own = prefix.as_deref().and_then(|prefix| prefix.split('/').next());
        let gitlab = Some(self.shared.link.api.authority());
        Ok([own, gitlab].into_iter().flatten().any(|host| host.eq_ignore_ascii_case(registry)))
    }

    /// A token for a registry: from GitLab by our API token, from elsewhere by the pull secret's login, or by none.
    async fn registry_token(
        &self,
        project: ProjectId,
        image: &Image,
        mut realm: Url,
        service: Option<String>,
        scope: &str,
        login: Option<Login>,
    ) -> Result<SecretString, RegistryError> {
        let registry = || image.registry.clone();
        if let Some(service) = service {
            realm.query_pairs_mut().append_pair("service", &service);
        }
        realm.query_pairs_mut().append_pair("scope", scope);
        let is_gitlab = realm.origin() == self.shared.link.api.origin();
        let login = match login {
            None if is_gitlab => {
                if !self.keeps_images_at(project, &image.registry).await? {
                    return Err(RegistryError::NotGitLabs { registry: registry() });
                }
                // GitLab looks at the password alone, which is an access token.
                let password = self.of(project).await?.credential.secret.clone();
                Some(Login { user: String::from("greenroom"), password })
            }
            login => login.filter(|_| realm.scheme() == "https" || is_loopback(&realm)),
        };
        let request = self.shared.link.http.to(&realm).get(realm).timeout(PATIENCE);
        let answer = login.map_or(Pass::None, Pass::Login).on(request).send().await;
        let answer = answer
            .map_err(|error| RegistryError::Unreachable { registry: registry(), why: plain(&error) })?;
        let status = answer.status();
        if !status.is_success() {
            return Err(RegistryError::Refused {
                registry: registry(),
                status: status.as_u16(),
                remedy: "the API token needs the scope `api` or `read_registry`, or the project a `pull_secret`",
            });
        }
        let body = super::client::read(answer, 64 << 10, "the registry's token").await?;
        let token: Option<Token> = serde_json::from_slice(&body).ok();
        token.and_then(|token| token.token.or(token.access_token)).ok_or_else(|| RegistryError::Unreadable {
            registry: registry(),
            why: String::from("its token service gave no token"),
        })
    }
}

/// Whether the token service that a registry names is asked at all: what it answers with goes on to the registry, and what
/// answers without encryption is most likely a service of the network inside that a stranger cannot reach by himself.
fn is_asked(realm: &Url, registry: &Url, gitlab: &Url) -> bool {
    realm.scheme() == "https" || registry.scheme() == "http" || realm.origin() == gitlab.origin()
}

/// Reads a `WWW-Authenticate`.
fn challenge_of(header: &str) -> Option<Challenge> {
    let (kind, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
    if kind.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !kind.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let (mut realm, mut service, mut scope) = (None, None, None);
    let mut rest = rest;
    while let Some((name, after)) = rest.split_once("=\"") {
        let (value, more) = after.split_once('"')?;
        match name.trim_matches([' ', ',']) {
            "realm" => realm = Some(value.to_owned()),
            "service" => service = Some(value.to_owned()),
            "scope" => scope = Some(value.to_owned()),
            _ => {}
        }
        rest = more;
    }
    Some(Challenge::Bearer { realm: realm?, service, scope })
}

/// The innermost cause, without addresses.
fn plain(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return String::from("no answer in time");
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_read_as_gitlab_writes_it() {
        let header = r#"Bearer realm="https://gitlab.example.com/jwt/auth",service="container_registry",scope="repository:acme/web:pull""#;
        let read = Challenge::Bearer {
            realm: "https://gitlab.example.com/jwt/auth".into(),
            service: Some("container_registry".into()),
            scope: Some("repository:acme/web:pull".into()),
        };
        assert_eq!(challenge_of(header), Some(read));
        assert_eq!(challenge_of("Basic realm=\"x\""), Some(Challenge::Basic));
        assert_eq!(challenge_of("Negotiate"), None);
        assert_eq!(challenge_of("Bearer service=\"x\""), None);
    }
    #[test]
    fn a_registry_leads_to_no_service_of_the_network_inside() {
        let gitlab: Url = "http://gitlab.internal/api/v4/".parse().unwrap();
        for (registry, realm, asked) in [
            ("https://registry.example.com/v2/", "https://auth.example.com/token", true),
            (
                "https://registry.example.com/v2/",
                "http://169.254.169.254/metadata/identity/oauth2/token",
                false,
            ),
            ("https://registry.example.com/v2/", "http://127.0.0.1:8080/api/v1/previews", false),
            ("https://registry.example.com/v2/", "file:///etc/passwd", false),
            ("https://registry.example.com/v2/", "http://gitlab.internal/jwt/auth", true),
            ("http://127.0.0.1:5000/v2/", "http://127.0.0.1:5000/jwt/auth", true),
        ] {
            let (realm, registry) = (realm.parse().unwrap(), registry.parse().unwrap());
            assert_eq!(is_asked(&realm, &registry, &gitlab), asked, "{realm}");
        }
    }
}
