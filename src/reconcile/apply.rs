//! Doing a step. Thin: what to do was decided before.

use super::controller::Parts;
use super::deploy::deploy;
use super::engines::place_of;
use super::look::{Error, keep};
use super::moving;
use super::plan::Step;
use crate::engine::{Progress, Status};
use crate::preview::{Preview, Reason};

/// How a step ended.
#[derive(Debug)]
pub(super) enum Done {
    Yes,
    /// Something is left, in words.
    Left(Vec<String>),
    /// Something is not there yet; nothing was deployed.
    Waits(Reason),
    /// The merge request moved on meanwhile; nothing was deployed.
    HeadMoved,
}

impl Step {
    /// The step's name in logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::FinishDeployment(_) => "finish deployment",
            Self::Deploy(_) => "deploy",
            Self::Sleep => "sleep",
            Self::Wake => "wake",
            Self::StopEngine => "stop engine",
            Self::RemoveEnvironment => "remove environment",
        }
    }
}

pub(super) async fn step(
    parts: &Parts,
    record: &mut Preview,
    saved: &mut Option<Preview>,
    step: &Step,
) -> Result<Done, Error> {
    tracing::info!(mr.key = %record.key, step = step.name(), "step");
    match step {
        Step::FinishDeployment(outcome) => {
            unless_refused(parts.reporter.finish_deployment(record, *outcome).await)?;
            keep(parts, record, saved).await?;
            Ok(Done::Yes)
        }
        Step::Deploy(target) => deploy(parts, record, saved, target).await,
        Step::Sleep | Step::Wake => {
            let place = place_of(record);
            let engine = parts.engines.at(&place)?;
            let done = match step {
                Step::Sleep => engine.sleep(&record.name).await,
                _ => engine.wake(&record.name).await,
            };
            done.map_err(|error| Error::engine(&place, error))?;
            Ok(Done::Yes)
        }
        Step::StopEngine => {
            let left = moving::stop_everywhere(parts, record).await;
            record.serving = None;
            Ok(if left.is_empty() { Done::Yes } else { Done::Left(left) })
        }
        Step::RemoveEnvironment => {
            let left = match parts.reporter.remove_environment(record).await {
                Err(crate::report::Error::GitLab(error)) if error.is_refusal() => {
                    let name = record.environment_name();
                    vec![format!(
                        "GitLab does not let greenroom remove the environment `{name}` (it answered with {})",
                        error.status().unwrap_or_default()
                    )]
                }
                other => other?,
            };
            Ok(if left.is_empty() { Done::Yes } else { Done::Left(left) })
        }
    }
}

/// Nothing instead of a refusal. Whatever GitLab is told of a preview besides, the preview does not depend on it.
pub(super) fn unless_refused<T>(
    told: Result<T, crate::report::Error>,
) -> Result<Option<T>, crate::report::Error> {
    match told {
        Ok(value) => Ok(Some(value)),
        Err(crate::report::Error::GitLab(error)) if error.is_refusal() => {
            tracing::warn!(%error, "GitLab is not told of a preview, which goes on without");
            Ok(None)
        }
        Err(error @ crate::report::Error::Taken { .. }) => {
            tracing::warn!(%error, "GitLab is not told of a preview, which goes on without");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Writes down that the engine came to an end with the last order: when, and why not. Whether that is news.
pub(super) fn settle(record: &mut Preview, status: &Status, now: i64) -> bool {
    let Some(release) = record.release.as_mut().filter(|release| release.settled_at.is_none()) else {
        return false;
    };
    if let Some(running) = &status.serving
        && running.sha == release.sha
        && running.digest == release.digest
    {
        release.settled_at = Some(running.since);
        record.served = Some(running.digest.clone());
    }
    if let Some((sha, digest, Progress::Failed(why))) = &status.pending
        && *sha == release.sha
        && *digest == release.digest
    {
        release.settled_at = Some(now);
        release.failure = Some(why.clone());
    }
    release.settled_at.is_some()
}
