//! What stands for GitLab's container registry: the part of the distribution API that tells which images there are, behind
//! GitLab's token flow. Images are pushed by tests, and consist of a manifest alone.
//!
//! ```ignore
//! let registry = Registry::start().await;
//! let digest = registry.push("acme/web", "1.0");
//! registry.fails(Fault::Answers(500)); // until `heals`
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use anyhow::Result;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::{net::TcpListener, task::JoinHandle};
use url::Url;

use super::wire;

/// Who may read every repository: GitLab's bot or a deploy token.
pub const USER: &str = "greenroom";
/// Its password.
pub const PASSWORD: &str = "registry-password";

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A registry on a free port, which speaks plain HTTP, and in the same place GitLab's `/jwt/auth`.
pub struct Registry {
    url: Url,
    state: Arc<Mutex<State>>,
    accepting: JoinHandle<()>,
}

/// What is the matter with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// This status with a page of a proxy, to everything but the token flow.
    Answers(u16),
    /// Takes the request and says nothing.
    Hangs,
    /// Breaks the connection.
    Breaks,
    /// GitLab's `/jwt/auth` answers with this status; the registry itself is well.
    TokensAnswer(u16),
    /// A manifest has no `Docker-Content-Digest`, as behind some proxies.
    NoDigestHeader,
}

/// A request as it came by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The scheme of its `Authorization`, such as `Basic`; empty without one.
    pub authorization: String,
    pub status: u16,
}

#[derive(Default)]
struct State {
    /// By repository.
    repositories: BTreeMap<String, Repository>,
    public: BTreeSet<String>,
    realm: Option<Url>,
    fault: Option<Fault>,
    asked: Vec<Asked>,
}

#[derive(Default)]
struct Repository {
    /// Manifests by digest: media type and text.
    manifests: BTreeMap<String, (&'static str, String)>,
    /// Digests by tag.
    tags: BTreeMap<String, String>,
}

impl Registry {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url: Url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let accepting = tokio::spawn({
            let (state, url) = (state.clone(), url.clone());
            wire::serve(listener, move |request| {
                let (state, url) = (state.clone(), url.clone());
                async move { answer(&state, &url, &request).await }
            })
        });
        Self { url, state, accepting }
    }

    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Host and port: what the names of its images begin with.
    pub fn host(&self) -> String {
        self.url.authority().to_owned()
    }

    /// A CI job pushes an image; its digest. The same tag again is another image.
    pub fn push(&self, repository: &str, tag: &str) -> String {
        let config = json!({ "mediaType": "application/vnd.oci.image.config.v1+json", "size": 2, "digest": digest(tag) });
        self.push_manifest(repository, tag, MANIFEST, json!({ "config": config, "layers": [] }))
    }

    /// The same for an image for several architectures; the digest of its index.
    pub fn push_index(&self, repository: &str, tag: &str) -> String {
        let one = |architecture: &str| {
            let digest = self.push(repository, &format!("{tag}-{architecture}"));
            json!({
                "mediaType": MANIFEST, "size": 2, "digest": digest,
                "platform": { "architecture": architecture, "os": "linux" },
            })
        };
        let manifests = json!({ "manifests": [one("amd64"), one("arm64")] });
        self.push_manifest(repository, tag, INDEX, manifests)
    }

    fn push_manifest(&self, repository: &str, tag: &str, kind: &'static str, mut manifest: Value) -> String {
        let mut state = self.state.lock().unwrap();
        let repository = state.repositories.entry(repository.to_owned()).or_default();
        manifest["schemaVersion"] = 2.into();
        manifest["mediaType"] = kind.into();
        manifest["annotations"] = json!({ "push": repository.manifests.len().to_string() });
        let text = manifest.to_string();
        let digest = digest(&text);
        repository.manifests.insert(digest.clone(), (kind, text));
        repository.tags.insert(tag.to_owned(), digest.clone());
        digest
    }

    /// A cleanup policy removes a tag; the image stays there by its digest.
    pub fn remove_tag(&self, repository: &str, tag: &str) {
        let mut state = self.state.lock().unwrap();
        let repository = state.repositories.get_mut(repository).expect("the repository");
        assert!(repository.tags.remove(tag).is_some(), "no tag {tag}");
    }

    /// Who has no credentials gets a token for this repository too.
    pub fn make_public(&self, repository: &str) {
        self.state.lock().unwrap().public.insert(repository.to_owned());
    }

    /// The registry sends its clients there for a token, such as to GitLab itself or to a stranger.
    pub fn send_for_tokens_to(&self, realm: &Url) {
        self.state.lock().unwrap().realm = Some(realm.clone());
    }

    pub fn fails(&self, fault: Fault) {
        self.state.lock().unwrap().fault = Some(fault);
    }

    pub fn heals(&self) {
        self.state.lock().unwrap().fault = None;
    }

    /// Every request so far, in order of their answers.
    pub fn asked(&self) -> Vec<Asked> {
        self.state.lock().unwrap().asked.clone()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn answer<B>(state: &Mutex<State>, url: &Url, request: &Request<B>) -> Result<Response<Full<Bytes>>> {
    let tokens = request.uri().path() == "/jwt/auth";
    let fault = state.lock().unwrap().fault;
    let answer = match fault {
        Some(Fault::Hangs) if !tokens => std::future::pending().await,
        Some(Fault::Breaks) if !tokens => anyhow::bail!("broken"),
        Some(Fault::Answers(status)) if !tokens => page(status),
        Some(Fault::TokensAnswer(status)) if tokens => page(status),
        _ if tokens => state.lock().unwrap().token(request),
        _ => state.lock().unwrap().manifest(url, request),
    };
    let authorization = authorization(request.headers()).map_or("", |(scheme, _)| scheme);
    state.lock().unwrap().asked.push(Asked {
        method: request.method().to_string(),
        path: request.uri().path_and_query().map_or_else(String::new, ToString::to_string),
        authorization: authorization.to_owned(),
        status: answer.status().as_u16(),
    });
    // As to every HEAD: the headers, and nothing more.
    Ok(if request.method() == Method::HEAD { answer.map(|_| Full::default()) } else { answer })
}

impl State {
    /// `GET /jwt/auth?service=container_registry&scope=repository:acme/web:pull`. Wrong credentials are refused. Without any,
    /// GitLab refuses too unless the repository is public. Who may not read a repository gets a token that is of no use.
    fn token<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let query: Vec<_> =
            url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()).collect();
        let value = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_ref());
        if request.method() != Method::GET || value("service") != Some("container_registry") {
            return error(StatusCode::NOT_FOUND, "UNSUPPORTED", "no such service");
        }
        let scope = value("scope").unwrap_or_default();
        let repository = scope.strip_prefix("repository:").and_then(|scope| scope.strip_suffix(":pull"));
        let known = BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}"));
        let authenticated = match authorization(request.headers()) {
            Some(("Basic", credentials)) if credentials == known => true,
            None => false,
            Some(_) => {
                return error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "HTTP Basic: Access denied");
            }
        };
        match repository {
            Some(repository) if authenticated || self.public.contains(repository) => {
                json_answer(StatusCode::OK, &json!({ "token": pass(repository) }))
            }
            _ if authenticated => json_answer(StatusCode::OK, &json!({ "token": pass("") })),
            _ => error(StatusCode::FORBIDDEN, "DENIED", "access forbidden"),
        }
    }

    /// `/v2/` and `/v2/<repository>/manifests/<tag or digest>`.
    fn manifest<B>(&self, url: &Url, request: &Request<B>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return error(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "the operation is unsupported");
        }
        let Some(path) = request.uri().path().strip_prefix("/v2/") else { return page(404) };
        let wanted = path.rsplit_once("/manifests/");
        let (name, pass_for) = wanted.map_or(("", String::new()), |(name, _)| (name, pass(name)));
        let bearer = matches!(authorization(request.headers()),
            Some(("Bearer", token)) if token == pass_for || (wanted.is_none() && token == pass("")));
        if !bearer {
            return self.challenge(url, name);
        }
        let Some((name, reference)) = wanted else { return json_answer(StatusCode::OK, &json!({})) };
        let Some(repository) = self.repositories.get(name) else {
            return error(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "repository name not known to registry");
        };
        let digest = repository.tags.get(reference).map_or(reference, String::as_str);
        let accepted = accept(request.headers());
        match repository.manifests.get(digest) {
            Some((kind, text)) if accepted.iter().any(|one| one == kind || one == "*/*") => {
                let mut answer = Response::new(Full::from(text.clone()));
                let headers = answer.headers_mut();
                headers.insert(header::CONTENT_TYPE, kind.parse().unwrap());
                if self.fault != Some(Fault::NoDigestHeader) {
                    headers.insert("docker-content-digest", digest.parse().unwrap());
                }
                answer
            }
            Some((INDEX, _)) => error(
                StatusCode::NOT_FOUND,
                "MANIFEST_UNKNOWN",
                "OCI index found, but accept header does not support OCI indexes",
            ),
            Some(_) => error(
                StatusCode::NOT_FOUND,
                "MANIFEST_UNKNOWN",
                "OCI manifest found, but accept header does not support OCI manifests",
            ),
            None => error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", "manifest unknown"),
        }
    }

    fn challenge(&self, url: &Url, name: &str) -> Response<Full<Bytes>> {
        let realm = self.realm.clone().unwrap_or_else(|| url.join("/jwt/auth").unwrap());
        let scope =
            if name.is_empty() { String::new() } else { format!(",scope=\"repository:{name}:pull\"") };
        let challenge = format!("Bearer realm=\"{realm}\",service=\"container_registry\"{scope}");
        let mut answer = error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "authentication required");
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge.parse().unwrap());
        answer
    }
}

/// The token for a repository; opaque to its bearer.
pub fn pass(repository: &str) -> String {
    hex::encode(Sha256::digest(format!("pull {repository}")))
}

fn digest(text: &str) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(text)))
}

fn authorization(headers: &HeaderMap) -> Option<(&str, &str)> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')
}

/// The media types of all `Accept` headers.
fn accept(headers: &HeaderMap) -> Vec<String> {
    let lines = headers.get_all(header::ACCEPT).into_iter().filter_map(|line| line.to_str().ok());
    let kinds =
        lines.flat_map(|line| line.split(',')).map(|kind| kind.split(';').next().unwrap_or(kind).trim());
    kinds.map(str::to_owned).collect()
}

/// What something in between says.
fn page(status: u16) -> Response<Full<Bytes>> {
    let answer = Response::builder().status(status).header(header::CONTENT_TYPE, "text/html");
    answer.body(Full::from(format!("<html><body>{status}</body></html>"))).unwrap()
}

fn error(status: StatusCode, code: &str, message: &str) -> Response<Full<Bytes>> {
    json_answer(status, &json!({ "errors": [{ "code": code, "message": message }] }))
}

fn json_answer(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let answer = Response::builder().status(status).header(header::CONTENT_TYPE, "application/json");
    let answer = answer.header("docker-distribution-api-version", "registry/2.0");
    answer.body(Full::from(body.to_string())).unwrap()
}
