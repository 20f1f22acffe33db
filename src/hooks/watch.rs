//! What `serve` does about webhooks that lead here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use url::Url;

use super::lost::candidates;
use super::plan::{missing_events, ours};
use crate::gitlab::{AlertStatus, Error, Forge, Hook, TestOutcome};
use crate::preview::{ProjectId, Quoted};
use crate::store::{self, Store};
use crate::telemetry::{Health, Warning};

/// How soon after the start it is looked first, so that whatever stands before us has seen that we are there.
const FIRST: Duration = Duration::from_secs(10);

/// So many deliveries of one project are sent again in one round; GitLab allows five a minute.
const AT_ONCE: usize = 5;

/// When it goes on where there are more.
const MORE: Duration = Duration::from_secs(65);

/// Pages of failed deliveries that are read: 100 of them. What is older, later states have overtaken.
const PAGES: usize = 5;

/// How often one process asks for one delivery to be sent again.
const ASKS: usize = 2;

/// What the watch needs.
pub struct Watch {
    /// Which deliveries came, and which projects there are.
    pub store: Store,
    /// GitLab.
    pub forge: Forge,
    /// Where findings are told.
    pub health: Health,
    /// Which project paths are served.
    pub served: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    /// Where our webhooks lead to.
    pub url: Url,
    /// How often it is looked.
    pub every: Duration,
}

/// What is known from the rounds before.
#[derive(Default)]
struct Known {
    /// What was found of each project when it was looked at last.
    found: BTreeMap<ProjectId, Found>,
    /// How often we asked for a failed delivery of a project to be sent again.
    asked: BTreeMap<ProjectId, BTreeMap<String, usize>>,
}

enum Found {
    Hidden(String),
    Warnings(Vec<Warning>),
}

/// Why a round ended early.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    GitLab(#[from] Error),
}

impl Watch {
    /// Looks at the webhooks of every served project that ever delivered or has a preview, until stopped.
    pub async fn run(self, stop: CancellationToken) {
        let mut known = Known::default();
        let mut pause = self.every.min(FIRST);
        while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
            let Some(round) = stop.run_until_cancelled(self.round(&mut known)).await else { return };
            let more = round.unwrap_or_else(|error| {
                tracing::debug!(%error, "the webhooks could not be looked at");
                false
            });
            self.health.set("hooks", warnings(&known));
            pause = if more { self.every.min(MORE) } else { self.every };
        }
    }

    /// Looks at each project once; whether there is more to send again.
    async fn round(&self, known: &mut Known) -> Result<bool, Trouble> {
        let mut projects: BTreeMap<ProjectId, String> =
            self.store.preview_projects().await?.into_iter().collect();
        projects.extend(self.store.projects().await?);
        projects.retain(|_, path| (self.served)(path));
        known.found.retain(|project, _| projects.contains_key(project));
        let mut more = false;
        for (project, path) in projects {
            match self.project(project, &path, known.asked.entry(project).or_default()).await {
                Ok((found, left)) => {
                    known.found.insert(project, Found::Warnings(found));
                    more |= left;
                }
                // What a role does not show is 403; what is gone, or not for us at all, is 404.
                Err(Trouble::GitLab(error)) if error.status() == Some(403) => {
                    known.found.insert(project, Found::Hidden(path));
                }
                Err(Trouble::GitLab(error)) if error.is_not_found() => drop(known.found.remove(&project)),
                Err(Trouble::GitLab(Error::RateLimited { .. })) => more = true,
                // One project must not keep the others from being looked at.
                Err(Trouble::GitLab(error)) if !matches!(error, Error::Unreachable { .. }) => {
                    tracing::debug!(project.path = path, %error, "the webhooks of a project could not be looked at");
                }
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(more)
    }

    async fn project(
        &self,
        project: ProjectId,
        path: &str,
        asked: &mut BTreeMap<String, usize>,
    ) -> Result<(Vec<Warning>, bool), Trouble> {
        let forge = self.forge.in_background();
        let hooks = forge.hooks(project).await?;
        let (mut found, mut more) = (Vec::new(), false);
        for hook in ours(&hooks, &self.url) {
            let missing = missing_events(hook);
            if !missing.is_empty() {
                found.push(Warning::new(
                    "webhook_events",
                    format!("the webhook of `{path}` does not tell of {}", missing.join(", ")),
                    format!("run `greenroom connect {path}`, or tick them on the webhook's page"),
                ));
            }
            let refused = self.switch_on(&forge, project, path, hook).await?;
            let works = refused.is_none();
            found.extend(refused);
            if works {
                more |= self.send_again(&forge, project, hook, asked).await?;
            }
        }
        Ok((found, more))
    }

    /// A webhook that GitLab does not send to gets a test request, which switches it on if we answer.
    async fn switch_on(
        &self,
        forge: &Forge,
        project: ProjectId,
        path: &str,
        hook: &Hook,
    ) -> Result<Option<Warning>, Trouble> {
        let state = match hook.alert_status {
            AlertStatus::Executable | AlertStatus::Unknown => return Ok(None),
            AlertStatus::TemporarilyDisabled => "pauses",
            AlertStatus::Disabled => "has switched off",
        };
        let why = match forge.test_hook(project, hook.id).await {
            Ok(TestOutcome::Answered) => {
                tracing::info!(project.id = project, project.path = path, "a webhook was switched on again");
                return Ok(None);
            }
            Ok(TestOutcome::Failed(words) | TestOutcome::NothingToTell(words)) if words.is_empty() => {
                String::from("the answer to a test event was not good")
            }
            Ok(TestOutcome::Failed(words) | TestOutcome::NothingToTell(words)) => {
                format!("a test event says: {}", Quoted::new(&words))
            }
            Err(error) if matches!(error.status(), Some(400 | 405)) => error.to_string(),
            Err(error) => return Err(error.into()),
        };
        Ok(Some(Warning::new(
            "webhook_disabled",
            format!("GitLab {state} the webhook of `{path}`, because its deliveries failed; {why}"),
            format!(
                "see *Recent events* on the webhook's page for what GitLab was answered, and run `greenroom connect \
                 {path}`"
            ),
        )))
    }

    /// Has GitLab send again what failed and never came; whether there is more of it.
    async fn send_again(
        &self,
        forge: &Forge,
        project: ProjectId,
        hook: &Hook,
        asked: &mut BTreeMap<String, usize>,
    ) -> Result<bool, Trouble> {
        let failed = forge.failed_deliveries(project, hook.id, PAGES).await?;
        asked.retain(|id, _| failed.iter().any(|delivery| delivery.id.as_ref() == Some(id)));
        let mut sent = 0;
        for (id, attempt) in candidates(&failed) {
            if asked.get(id).is_some_and(|asks| *asks >= ASKS) || self.store.delivery(id).await?.is_some() {
                continue;
            }
            if sent == AT_ONCE {
                return Ok(true);
            }
            sent += 1;
            *asked.entry(id.to_owned()).or_default() += 1;
            match forge.resend(project, hook.id, attempt).await {
                Ok(200..300) => {
                    tracing::info!(delivery.id = id, project.id = project, "a lost delivery was sent again");
                }
                // The next would fare no better.
                Ok(status) => {
                    tracing::warn!(
                        delivery.id = id,
                        project.id = project,
                        status,
                        "a lost delivery failed again"
                    );
                    return Ok(false);
                }
                Err(error) if error.is_refusal() => {
                    tracing::debug!(delivery.id = id, %error, "a lost delivery cannot be sent again");
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }
}

/// What is told: all that was found, and once whatever cannot be seen.
fn warnings(known: &Known) -> Vec<Warning> {
    let mut all = Vec::new();
    let mut hidden: Option<&str> = None;
    for found in known.found.values() {
        match found {
            Found::Warnings(warnings) => all.extend(warnings.iter().cloned()),
            // The same one each time: another text would be news.
            Found::Hidden(path) => hidden = Some(hidden.map_or(path, |first| first.min(path))),
        }
    }
    all.extend(hidden.map(|path| {
        Warning::new(
            "webhooks_hidden",
            format!(
                "webhooks cannot be watched, such as that of `{path}`: GitLab shows them to Maintainers only, and the \
                 token has a lower role there"
            ),
            "give the token the role Maintainer, or set GREENROOM_WATCH_WEBHOOKS=off; the resync finds what no webhook \
             told",
        )
    }));
    all
}
