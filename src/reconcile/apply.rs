//! Doing a step. Thin: what to do was decided before.

use std::path::PathBuf;

use super::commit_status;
use super::controller::Parts;
use super::desired::Target;
use super::look::{Error, keep};
use super::plan::Step;
use crate::engine::{Input, Order, Progress, Status};
use crate::preview::{Deployment, Preview, Quoted, Release, environment_name};
use crate::render::Workload;

/// How old the reading of a head may be when it is deployed, milliseconds; a long download outlives it.
const FRESH: i64 = 1_000;

/// How a step ended.
#[derive(Debug)]
pub(super) enum Done {
    Yes,
    /// Something is left, in words.
    Left(Vec<String>),
    /// The merge request moved on meanwhile; nothing was deployed.
    HeadMoved,
}

impl Step {
    /// The step's name in logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::FinishDeployment(_) => "finish deployment",
            Self::Deploy(_) => "deploy",
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
        Step::StopEngine => {
            let left = parts.engine.stop(&record.name).await?;
            record.serving = None;
            Ok(if left.is_empty() { Done::Yes } else { Done::Left(left) })
        }
        Step::RemoveEnvironment => {
            let left = match parts.reporter.remove_environment(record).await {
                Err(crate::report::Error::GitLab(error)) if error.is_refusal() => {
                    let name = environment_name(record.key.iid);
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

/// Fetches the artifact, reads the head again, announces the deployment, hands over.
async fn deploy(
    parts: &Parts,
    record: &mut Preview,
    saved: &mut Option<Preview>,
    target: &Target,
) -> Result<Done, Error> {
    let Workload::Static(site) = &target.file.workload else { return Ok(Done::HeadMoved) };
    let now = parts.clock.now();
    let project = record.key.project_id;
    let order = record.order.as_ref().filter(|order| order.sha == target.sha);
    let has_deployment = order.is_some_and(|order| order.has_deployment);
    let upload = order.and_then(|order| order.upload_of(&target.sha, target.job_id)).map(str::to_owned);
    let fetched = match &upload {
        Some(digest) => parts.uploads.artifact(digest, &parts.incoming).await.map_err(Into::into),
        None => parts.forge.artifact(project, target.job_id, &parts.incoming, parts.limits).await,
    };
    let refused = match fetched {
        Ok(Some(artifact)) => Ok(artifact),
        Ok(None) if upload.is_some() => {
            Err(String::from("the files that the job sent are not here any more; run the job again"))
        }
        Ok(None) => Err(format!(
            "GitLab has no artifact of job {}: it was never made or has expired",
            Quoted::new(&target.job_name)
        )),
        Err(crate::gitlab::Error::TooLarge { limit, .. }) => {
            Err(format!("the archive is larger than {} MiB", limit >> 20))
        }
        Err(error) if error.is_refusal() => Err(format!(
            "GitLab does not let greenroom fetch the artifact of job {} (it answered with {}); let it, then run the \
             job again",
            Quoted::new(&target.job_name),
            error.status().unwrap_or_default()
        )),
        Err(error) => return Err(error.into()),
    };
    commit_status::begin(parts, record, saved, target).await?;
    let artifact = match refused {
        Ok(artifact) => artifact,
        Err(why) => {
            record.release = Some(Release {
                sha: target.sha.clone(),
                job_id: target.job_id,
                digest: String::new(),
                submitted_at: now,
                settled_at: Some(now),
                failure: Some(why),
            });
            return Ok(Done::Yes);
        }
    };

    if parts.clock.now() - target.seen_at > FRESH {
        let again = parts.forge.merge_request(record.key).await?;
        if again.state.is_over() || again.sha.as_ref() != Some(&target.sha) {
            return Ok(Done::HeadMoved);
        }
    }

    let status = parts.engine.status(&record.name).await?;
    if let Some(release) =
        record.release.as_mut().filter(|r| r.sha == target.sha && r.digest == artifact.digest)
    {
        let known = status
            .serving
            .iter()
            .any(|running| running.digest == release.digest && running.sha == release.sha);
        if known {
            // The job ran again and made the same: nothing to deploy.
            release.job_id = target.job_id;
            return Ok(Done::Yes);
        }
    }

    let same = |r: &Release| r.sha == target.sha && r.job_id == target.job_id && r.digest == artifact.digest;
    let retry = record.release.as_ref().is_some_and(same);
    // Before anything else is told: from here on a pipeline that is required to wait must not pass.
    commit_status::run(parts, record, saved, target, retry).await?;
    let environment = unless_refused(parts.reporter.ensure_environment(record).await)?;
    let open = record.deployment.as_ref().is_some_and(|d| !d.finished && d.sha == target.pipeline_sha);
    if !open {
        record.deployment = Some(Deployment {
            id: None,
            sha: target.pipeline_sha.clone(),
            reference: deployment_ref(record.key.iid, &target.pipeline_ref),
            finished: false,
        });
    }
    let lives = |release: &Release| release.sha == target.sha && release.was_submitted();
    if !record.release.as_ref().is_some_and(lives) || record.deployed_at.is_none() {
        record.deployed_at = Some(now);
    }
    record.release = Some(Release {
        sha: target.sha.clone(),
        job_id: target.job_id,
        digest: artifact.digest.clone(),
        submitted_at: now,
        settled_at: None,
        failure: None,
    });
    keep(parts, record, saved).await?;
    // Without its environment a deployment would make one that leads nowhere.
    // One that GitLab itself records for the job is enough.
    let wanted = environment.is_some() && !has_deployment;
    if !wanted || unless_refused(parts.reporter.open_deployment(record).await)?.is_none() {
        record.deployment = None;
    }
    keep(parts, record, saved).await?;
    parts
        .engine
        .apply(Order {
            key: record.key,
            name: record.name.clone(),
            sha: target.sha.clone(),
            digest: artifact.digest,
            input: Input::Artifact {
                archive: artifact.archive,
                // What a job sends is the site itself.
                root: if upload.is_some() { PathBuf::new() } else { site.path.as_path().to_owned() },
                spa: site.spa,
            },
        })
        .await?;
    Ok(Done::Yes)
}

/// The ref that a deployment names. GitLab stops what was deployed from a branch when the branch is deleted, and nobody
/// could tell that from a stop by hand; the merge request's own ref outlives the branch.
fn deployment_ref(iid: u64, pipeline_ref: &str) -> String {
    if pipeline_ref.starts_with("refs/merge-requests/") {
        pipeline_ref.to_owned()
    } else {
        format!("refs/merge-requests/{iid}/head")
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

/// Writes down that the engine came to an end with the last order: when, and why not.
pub(super) fn settle(parts: &Parts, record: &mut Preview, status: &Status) {
    let Some(release) = record.release.as_mut().filter(|release| release.settled_at.is_none()) else {
        return;
    };
    if let Some(running) = &status.serving
        && running.sha == release.sha
        && running.digest == release.digest
    {
        release.settled_at = Some(running.since);
    }
    if let Some((sha, digest, Progress::Failed(why))) = &status.pending
        && *sha == release.sha
        && *digest == release.digest
    {
        release.settled_at = Some(parts.clock.now());
        release.failure = Some(why.clone());
    }
}
