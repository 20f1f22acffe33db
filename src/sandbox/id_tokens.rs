//! ID tokens of jobs (`id_tokens:`), and GitLab as their issuer: discovery, keys, rotation.
//!
//! A token is made by hand (`POST /sandbox/projects/:id/jobs/:job/id_token`), as GitLab would hand it to the job, or with
//! whatever an attacker would write into it.

use super::{
    jobs::Job,
    json::with,
    refusal::{Answer, Refusal},
    state::{Gitlab, State},
};
use actix_web::{HttpResponse, web};
use aws_lc_rs::{
    encoding::AsDer,
    hmac,
    rand::SystemRandom,
    rsa::{KeyPair, KeySize, PublicKeyComponents},
    signature::{KeyPair as _, RSA_PKCS1_SHA256},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Value, json};

/// How long a token lives, seconds: a job's timeout.
const LIFETIME: i64 = 3_600;

/// The keys: the one that signs now, and those it took the place of, which GitLab does not publish any more.
#[derive(Debug, Default)]
pub(super) struct Issuer {
    current: Option<Key>,
    retired: Option<Key>,
}

#[derive(Debug)]
struct Key {
    kid: String,
    pair: KeyPair,
}

impl Key {
    fn new() -> Result<Self, Refusal> {
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| Refusal::unprocessable("no key"))?;
        Ok(Self { kid: uuid::Uuid::new_v4().simple().to_string(), pair })
    }

    fn public(&self) -> Value {
        let PublicKeyComponents { n, e } = PublicKeyComponents::<Vec<u8>>::from(self.pair.public_key());
        let (n, e) = (URL_SAFE_NO_PAD.encode(n), URL_SAFE_NO_PAD.encode(e));
        json!({ "kty": "RSA", "kid": self.kid, "e": e, "n": n, "use": "sig", "alg": "RS256" })
    }

    fn sign(&self, text: &str) -> Result<Vec<u8>, Refusal> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)
            .map_err(|_| Refusal::unprocessable("cannot be signed"))?;
        Ok(signature)
    }
}

impl Issuer {
    fn current(&mut self) -> Result<&Key, Refusal> {
        let key = match self.current.take() {
            Some(key) => key,
            None => Key::new()?,
        };
        Ok(self.current.insert(key))
    }

    /// From now on another key signs, and the one before is not published any more.
    pub(super) fn rotate(&mut self) -> Result<(), Refusal> {
        self.current()?;
        self.retired = self.current.replace(Key::new()?);
        Ok(())
    }
}

pub(super) async fn discovery(gitlab: Gitlab) -> HttpResponse {
    let url = gitlab.lock().url.clone();
    HttpResponse::Ok().json(json!({
        "issuer": url,
        "authorization_endpoint": format!("{url}/oauth/authorize"),
        "token_endpoint": format!("{url}/oauth/token"),
        "jwks_uri": format!("{url}/oauth/discovery/keys"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "claims_supported": ["iss", "sub", "aud", "exp", "iat"],
    }))
}

pub(super) async fn keys(gitlab: Gitlab) -> Answer {
    let mut state = gitlab.lock();
    Ok(HttpResponse::Ok().json(json!({ "keys": [state.issuer.current()?.public()] })))
}

/// What a token is to be like.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Whom it is for.
    aud: Value,
    /// Claims in place of the job's own; null takes one away.
    #[serde(default)]
    claims: serde_json::Map<String, Value>,
    /// How it is signed.
    #[serde(default)]
    alg: Signing,
    /// Signed with the key that was in use before the last rotation.
    #[serde(default)]
    retired_key: bool,
    /// Signed with a key of somebody else's under the id of GitLab's.
    #[serde(default)]
    forged_key: bool,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
enum Signing {
    /// As GitLab does.
    #[default]
    #[serde(rename = "RS256")]
    Rs256,
    /// With GitLab's public key as a shared secret.
    #[serde(rename = "HS256")]
    Hs256,
    /// Not at all.
    #[serde(rename = "none")]
    None,
}

impl State {
    /// The token that a job would be given.
    pub(super) fn id_token(&mut self, project: u64, job: u64, wanted: Wanted) -> Result<String, Refusal> {
        let mut claims = with(self.claims_of(project, job)?, json!({ "aud": wanted.aud }));
        for (name, value) in wanted.claims {
            match claims.as_object_mut() {
                Some(claims) if value.is_null() => drop(claims.remove(&name)),
                _ => claims[&name] = value,
            }
        }
        let (alg, forged) = (wanted.alg, wanted.forged_key.then(Key::new).transpose()?);
        let current = self.issuer.current()?;
        let kid = current.kid.clone();
        let retired = self.issuer.retired.as_ref().filter(|_| wanted.retired_key);
        let key = match self.issuer.current.as_ref() {
            _ if retired.is_some() => retired,
            current => forged.as_ref().or(current),
        };
        let key = key.ok_or_else(|| Refusal::not_found("Key"))?;
        let kid = retired.map_or(kid, |retired| retired.kid.clone());
        let name = match alg {
            Signing::Rs256 => "RS256",
            Signing::Hs256 => "HS256",
            Signing::None => "none",
        };
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let head = part(&json!({ "alg": name, "kid": kid, "typ": "JWT" }));
        let text = format!("{head}.{}", part(&claims));
        let signature = match alg {
            Signing::Rs256 => key.sign(&text)?,
            Signing::Hs256 => {
                let public = key.pair.public_key().as_der().map_err(|_| Refusal::unprocessable("no key"))?;
                let secret = hmac::Key::new(hmac::HMAC_SHA256, public.as_ref());
                hmac::sign(&secret, text.as_bytes()).as_ref().to_vec()
            }
            Signing::None => Vec::new(),
        };
        Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// The claims as GitLab writes them: numbers as strings, and the fork as the project of a fork's merge request.
    fn claims_of(&self, project: u64, job: u64) -> Result<Value, Refusal> {
        let job: &Job = self.job(project, job)?;
        let runs_in = self.project(project)?;
        let pipeline = self.pipeline(project, job.pipeline)?;
        let merge_request =
            pipeline.merge_request.map(|(target, iid)| self.merge_request(target, iid)).transpose()?;
        let source = merge_request.and_then(|merge_request| merge_request.source_project);
        let of = self.project(source.unwrap_or(project))?;
        let reference =
            merge_request.map_or(&pipeline.reference, |merge_request| &merge_request.source_branch);
        let ref_type = if pipeline.tag { "tag" } else { "branch" };
        let now = self.now().as_second();
        let environment = job.environment.as_ref();
        let namespace =
            |path: &str| path.rsplit_once('/').map_or(path, |(namespace, _)| namespace).to_owned();
        let user = self.users.get(&job.user);
        Ok(json!({
            "iss": self.url,
            "sub": format!("project_path:{}:ref_type:{ref_type}:ref:{reference}", of.path),
            "iat": now,
            "nbf": now - 5,
            "exp": now + LIFETIME,
            "jti": uuid::Uuid::new_v4(),
            "namespace_path": namespace(&of.path),
            "project_id": of.id.to_string(),
            "project_path": of.path,
            "project_visibility": of.visibility,
            "user_id": job.user.to_string(),
            "user_login": user.map(|user| user.username.clone()),
            "user_access_level": "developer",
            "pipeline_id": pipeline.id.to_string(),
            "pipeline_source": pipeline.source,
            "job_id": job.id.to_string(),
            "job_project_id": runs_in.id.to_string(),
            "job_project_path": runs_in.path,
            "ref": reference,
            "ref_type": ref_type,
            "ref_path": format!("refs/heads/{reference}"),
            "ref_protected": "false",
            "environment": environment.map(|environment| environment.name.clone()),
            "environment_protected": environment.map(|_| "false"),
            "environment_action": environment.map(|environment| environment.action.clone()),
            "sha": pipeline.sha,
            "runner_id": 1,
            "runner_environment": "self-hosted",
        }))
    }
}

pub(super) async fn mint(
    gitlab: Gitlab,
    path: web::Path<(String, u64)>,
    wanted: web::Json<Wanted>,
) -> Answer {
    let (project, job) = path.into_inner();
    let mut state = gitlab.lock();
    let project = state.find_project(&project)?;
    let token = state.id_token(project, job, wanted.into_inner())?;
    Ok(HttpResponse::Created().json(json!({ "id_token": token })))
}

pub(super) async fn rotate(gitlab: Gitlab) -> Answer {
    gitlab.lock().issuer.rotate()?;
    Ok(HttpResponse::NoContent().finish())
}
