//! Project webhooks: what they are, what became of their deliveries, sending again. All of it needs the role Maintainer.

use std::collections::BTreeMap;

use gitlab::api;
use http::Method;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;

use super::health::is_before;
use super::{Call, Error, Forge, built};
use crate::preview::ProjectId;

/// The first GitLab that signs deliveries. An older one takes a signing token and does nothing with it.
const SIGNS_SINCE: (u32, u32) = (19, 0);

/// A page of deliveries holds at most this many, unlike other lists.
const PER_PAGE: usize = 20;

/// The event that a test request tells of: every project with a commit can give one.
const TEST: &str = "push_events";

/// What GitLab thinks of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertStatus {
    /// Events are sent.
    #[default]
    Executable,
    /// After failures, events are dropped for some time.
    TemporarilyDisabled,
    /// Events are dropped until a test request succeeds.
    Disabled,
    /// A word that GitLab did not know when this was written.
    #[serde(other)]
    Unknown,
}

/// A webhook of a project. Its tokens are never told.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Hook {
    /// Unique per GitLab instance.
    pub id: u64,
    /// Where it goes, as it was written.
    pub url: String,
    /// Whether GitLab sends to it.
    #[serde(default)]
    pub alert_status: AlertStatus,
    /// Whether it has a secret token; `None` where GitLab does not say.
    pub token_present: Option<bool>,
    /// Whether it has a signing token; `None` where GitLab does not say, such as before 19.0.
    pub signing_token_present: Option<bool>,
    /// What is sent in the place of GitLab's own body.
    pub custom_webhook_template: Option<String>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

impl Hook {
    /// Whether it has this flag, such as `push_events`.
    pub fn has(&self, flag: &str) -> bool {
        self.others.get(flag) == Some(&Value::Bool(true))
    }

    /// Whether GitLab proves to whom it sends. `None` where it does not say.
    pub fn verifies_tls(&self) -> Option<bool> {
        self.others.get("enable_ssl_verification")?.as_bool()
    }
}

/// What a webhook is made with, or what is changed of it; the rest of it stays as it is.
#[derive(Debug, Clone)]
pub struct HookChange {
    /// Where it goes. For a hook that is there: what it has, to the letter, or GitLab drops its secret token.
    pub url: String,
    /// Flags to set.
    pub on: Vec<&'static str>,
    /// A signing token to set.
    pub signing_token: Option<SecretString>,
    /// A secret token to set.
    pub secret_token: Option<SecretString>,
}

impl HookChange {
    fn form(&self) -> Vec<(&'static str, String)> {
        let token =
            |token: &Option<SecretString>| token.as_ref().map(|token| token.expose_secret().to_owned());
        let mut form = vec![("url", self.url.clone())];
        form.extend(self.on.iter().map(|flag| (*flag, String::from("true"))));
        form.extend(token(&self.signing_token).map(|token| ("signing_token", token)));
        form.extend(token(&self.secret_token).map(|token| ("token", token)));
        form
    }
}

/// A delivery in a webhook's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookDelivery {
    /// GitLab's number of this attempt.
    pub attempt: u64,
    /// The delivery's own id, the same for all attempts; `None` where GitLab does not say.
    pub id: Option<String>,
    /// The status of the answer, or `internal error` where none came.
    pub status: String,
}

/// How a test request went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TestOutcome {
    /// It was answered with 2xx.
    Answered,
    /// Nobody answered, or with something else; GitLab's words.
    Failed(String),
    /// The project has nothing that a test could tell of; GitLab's words.
    NothingToTell(String),
}

/// What the token may do in a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Its path.
    pub path: String,
    /// The role, as GitLab's access level (40 is Maintainer); `None` when GitLab names none, as for administrators.
    pub role: Option<u64>,
}

/// Whether this version of GitLab signs deliveries; `None` when it cannot be read.
pub fn signs_deliveries(version: &str) -> Option<bool> {
    is_before(version, SIGNS_SINCE).map(|before| !before)
}

impl Forge {
    /// The webhooks of a project itself, not those of its groups.
    pub async fn hooks(&self, project: ProjectId) -> Result<Vec<Hook>, Error> {
        let endpoint = api::projects::hooks::Hooks::builder().project(project).build();
        self.of(project).await?.all(built(endpoint)?).await
    }

    /// Makes a webhook.
    pub async fn create_hook(&self, project: ProjectId, change: &HookChange) -> Result<Hook, Error> {
        let call =
            Call { method: Method::POST, path: format!("projects/{project}/hooks"), form: change.form() };
        self.of(project).await?.get(call).await
    }

    /// Changes a webhook.
    pub async fn update_hook(
        &self,
        project: ProjectId,
        hook: u64,
        change: &HookChange,
    ) -> Result<Hook, Error> {
        let call = Call {
            method: Method::PUT,
            path: format!("projects/{project}/hooks/{hook}"),
            form: change.form(),
        };
        self.of(project).await?.get(call).await
    }

    /// Has GitLab send a push event of the project's own data, and waits for the answer. Allowed five times a minute. An
    /// answer that is good switches a disabled webhook on.
    pub async fn test_hook(&self, project: ProjectId, hook: u64) -> Result<TestOutcome, Error> {
        let path = format!("projects/{project}/hooks/{hook}/test/{TEST}");
        let call = Call { method: Method::POST, path, form: Vec::new() };
        match self.of(project).await?.send(call).await {
            Ok(()) => Ok(TestOutcome::Answered),
            Err(error) if error.status() == Some(422) => Ok(match error.message() {
                words if words.starts_with("Ensure the project has") => {
                    TestOutcome::NothingToTell(words.to_owned())
                }
                words => TestOutcome::Failed(words.to_owned()),
            }),
            Err(error) => Err(error),
        }
    }

    /// The newest deliveries of a webhook, newest first: one page.
    pub async fn hook_deliveries(&self, project: ProjectId, hook: u64) -> Result<Vec<HookDelivery>, Error> {
        self.deliveries(project, hook, "", 1).await
    }

    /// Deliveries of the last seven days that failed, newest first: at most `pages` of 20.
    pub async fn failed_deliveries(
        &self,
        project: ProjectId,
        hook: u64,
        pages: usize,
    ) -> Result<Vec<HookDelivery>, Error> {
        let mut all = Vec::new();
        for page in 1..=pages {
            let filter = "&status=client_failure,server_failure";
            let found = self.deliveries(project, hook, filter, page).await?;
            let full = found.len() >= PER_PAGE;
            all.extend(found);
            if !full {
                break;
            }
        }
        Ok(all)
    }

    async fn deliveries(
        &self,
        project: ProjectId,
        hook: u64,
        filter: &str,
        page: usize,
    ) -> Result<Vec<HookDelivery>, Error> {
        #[derive(Deserialize)]
        struct Shape {
            id: u64,
            #[serde(default)]
            request_headers: BTreeMap<String, Value>,
            #[serde(default)]
            response_status: Value,
        }
        let path = format!("projects/{project}/hooks/{hook}/events?per_page={PER_PAGE}&page={page}{filter}");
        let call = Call { method: Method::GET, path, form: Vec::new() };
        let shapes: Vec<Shape> = self.of(project).await?.get(call).await?;
        let delivery = |shape: Shape| {
            let id = shape.request_headers.get("Idempotency-Key").and_then(Value::as_str).map(str::to_owned);
            let status = match shape.response_status {
                Value::String(text) => text,
                other => other.to_string(),
            };
            HookDelivery { attempt: shape.id, id, status }
        };
        Ok(shapes.into_iter().map(delivery).collect())
    }

    /// Has GitLab send a delivery once more, and waits for the answer: its status. Allowed five times a minute.
    pub async fn resend(&self, project: ProjectId, hook: u64, attempt: u64) -> Result<u16, Error> {
        #[derive(Deserialize)]
        struct Shape {
            response_status: u16,
        }
        let path = format!("projects/{project}/hooks/{hook}/events/{attempt}/resend");
        let call = Call { method: Method::POST, path, form: Vec::new() };
        let shape: Shape = self.of(project).await?.get(call).await?;
        Ok(shape.response_status)
    }

    /// What our token may do in the project.
    pub async fn access(&self, project: ProjectId) -> Result<Access, Error> {
        #[derive(Deserialize)]
        struct Shape {
            path_with_namespace: String,
            #[serde(default)]
            permissions: BTreeMap<String, Option<Level>>,
        }
        #[derive(Deserialize)]
        struct Level {
            access_level: u64,
        }
        let endpoint = built(api::projects::Project::builder().project(project).build())?;
        let client = self.of(project).await?;
        let shape: Shape = client.get(endpoint).await?;
        self.check_path(&client, project, &shape.path_with_namespace)?;
        Ok(Access {
            path: shape.path_with_namespace,
            role: shape.permissions.into_values().flatten().map(|level| level.access_level).max(),
        })
    }

    /// What time GitLab has; `None` when it does not tell.
    pub async fn date(&self) -> Result<Option<Timestamp>, Error> {
        self.at("").date().await
    }

    /// The name of the setting that the token for this path comes from.
    pub fn token_name(&self, path: &str) -> String {
        self.at(path).credential.name.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_are_signed_since_19_0() {
        for (version, signs) in [
            ("18.11.4-ee", Some(false)),
            ("19.0.0", Some(true)),
            ("19.2.0-pre", Some(true)),
            ("20.0", Some(true)),
            ("unheard of", None),
        ] {
            assert_eq!(signs_deliveries(version), signs, "{version}");
        }
    }
}
