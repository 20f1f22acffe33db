//! Handing a target to its engine: what it is made of, what people are told before, the order itself.

use std::path::PathBuf;

use super::apply::{Done, unless_refused};
use super::controller::Parts;
use super::desired::Target;
use super::look::{Error, keep};
use super::{branch, checks, commit_status, manifests};
use crate::engine::{Input, Order, Status};
use crate::preview::{Deployment, Preview, Quoted, Reason, Release, Sha, Subject};
use crate::render::{StaticSettings, Workload};
use crate::telemetry::Deployed;

/// How old the reading of a head may be when it is deployed, milliseconds; a long download outlives it.
const FRESH: i64 = 1_000;

/// What came of making a target ready.
pub(super) enum Made {
    /// It can be handed over: SHA-256 in hexadecimal, and the input.
    Ready(String, Input),
    /// What the project gives cannot be deployed; why not. The same would be refused again.
    Refused(String),
    /// Something is not there yet.
    Waits(Reason),
}

/// Makes a target ready: fetches what it is made of. Changes nothing.
pub(super) async fn make(parts: &Parts, record: &Preview, target: &Target) -> Result<Made, Error> {
    match &target.file.workload {
        Workload::Static(site) => artifact(parts, record, target, site).await,
        Workload::Kubernetes(settings) => manifests::make(parts, record, target, settings).await,
    }
}

/// Whether what was made of a commit is what is served for it already: the job ran again and made the same.
pub(super) fn serves_it(record: &Preview, status: &Status, sha: &Sha, digest: &str) -> bool {
    record.release.as_ref().is_some_and(|release| release.sha == *sha && release.digest == digest)
        && status.serving.as_ref().is_some_and(|running| running.sha == *sha && running.digest == digest)
}

/// Makes ready, reads the head again, announces the deployment, hands over.
pub(super) async fn deploy(
    parts: &Parts,
    record: &mut Preview,
    saved: &mut Option<Preview>,
    target: &Target,
) -> Result<Done, Error> {
    let now = parts.clock.now();
    let made = make(parts, record, target).await?;
    let release = |digest: &str| Release {
        sha: target.sha.clone(),
        job_id: target.job_id,
        digest: digest.to_owned(),
        submitted_at: now,
        settled_at: None,
        failure: None,
        settings: target.settings.clone(),
        by_job: false,
    };
    if let Made::Waits(reason) = made {
        return Ok(Done::Waits(reason));
    }
    commit_status::begin(parts, record, saved, target).await?;
    let (digest, input) = match made {
        Made::Ready(digest, input) => (digest, input),
        Made::Refused(why) => {
            record.move_to(&target.place);
            overtake(parts, record);
            record.release = Some(Release { settled_at: Some(now), failure: Some(why), ..release("") });
            parts.count_deploy(record, Deployed::Failed);
            return Ok(Done::Yes);
        }
        Made::Waits(reason) => return Ok(Done::Waits(reason)),
    };

    if parts.clock.now() - target.seen_at > FRESH {
        let again = branch::read(parts, record.key, Some(record), None).await?;
        if again.state.is_over() || again.sha.as_ref() != Some(&target.sha) {
            return Ok(Done::HeadMoved);
        }
    }

    let status = parts.engines.status(&target.place, record).await?;
    if serves_it(record, &status, &target.sha, &digest) {
        let mut another = false;
        if let Some(known) = &mut record.release {
            // The job ran again and made the same: nothing to deploy.
            another = known.job_id != target.job_id;
            known.job_id = target.job_id;
            known.settings.clone_from(&target.settings);
        }
        if another && record.check_run.as_ref().is_some_and(|run| run.failed().next().is_some()) {
            // Whoever runs it again wants to know whether they pass by now.
            checks::forget(parts, record).await?;
        }
        record.move_to(&target.place);
        if !status.drifted.is_empty() {
            tracing::warn!(mr.key = %record.key, drifted = ?status.drifted, "put back as it was ordered");
            hand_over(parts, record, target, digest, input).await?;
        }
        return Ok(Done::Yes);
    }

    let same = |r: &Release| r.sha == target.sha && r.job_id == target.job_id && r.digest == digest;
    let retry = record.release.as_ref().is_some_and(same);
    // Before anything else is told: from here on a pipeline that is required to wait must not pass.
    commit_status::run(parts, record, saved, target, retry).await?;
    let environment = unless_refused(parts.reporter.ensure_environment(record).await)?;
    let open = record.deployment.as_ref().is_some_and(|d| !d.finished && d.sha == target.pipeline_sha);
    if !open {
        record.deployment = Some(Deployment {
            id: None,
            sha: target.pipeline_sha.clone(),
            reference: deployment_ref(record.key.subject, &target.pipeline_ref),
            finished: false,
        });
    }
    let lives = |release: &Release| release.sha == target.sha && release.was_submitted();
    if !record.release.as_ref().is_some_and(lives) || record.deployed_at.is_none() {
        record.deployed_at = Some(now);
    }
    if !retry {
        overtake(parts, record);
    }
    record.move_to(&target.place);
    record.release = Some(release(&digest));
    record.sleep = None;
    checks::forget(parts, record).await?;
    keep(parts, record, saved).await?;
    // Without its environment a deployment would make one that leads nowhere; the one that GitLab records for a job is enough.
    let wanted = environment.is_some() && !has_jobs_deployment(parts, record, target).await?;
    if !wanted || unless_refused(parts.reporter.open_deployment(record).await)?.is_none() {
        record.deployment = None;
    }
    keep(parts, record, saved).await?;
    hand_over(parts, record, target, digest, input).await?;
    Ok(Done::Yes)
}

/// Whether GitLab records a deployment for the job that asked. It goes with its environment when that is removed while the job runs,
/// and with it what tells GitLab to stop the environment that is made anew.
async fn has_jobs_deployment(parts: &Parts, record: &Preview, target: &Target) -> Result<bool, Error> {
    let order = record.order.as_ref().filter(|order| order.sha == target.sha && order.has_deployment);
    let Some(order) = order else { return Ok(false) };
    let name = record.environment_name();
    let known = parts.forge.job_deployment(record.key.project_id, &name, order.pipeline_id).await;
    Ok(unless_refused(known.map_err(Into::into))?.is_none_or(|known| known.is_some()))
}

/// Counts the deploy before, if it did not come to its end.
fn overtake(parts: &Parts, record: &Preview) {
    if record.release.as_ref().is_some_and(|release| release.settled_at.is_none()) {
        parts.count_deploy(record, Deployed::Overtaken);
    }
}

async fn hand_over(
    parts: &Parts,
    record: &Preview,
    target: &Target,
    digest: String,
    input: Input,
) -> Result<(), Error> {
    let order = order(record, target, digest, input);
    let applied = parts.engines.at(&target.place)?.apply(order).await;
    applied.map_err(|error| Error::engine(&target.place, error))
}

/// What the engine is given.
pub(super) fn order(record: &Preview, target: &Target, digest: String, input: Input) -> Order {
    Order { key: record.key, name: record.name.clone(), sha: target.sha.clone(), digest, input }
}

/// The job's artifact, as it was fetched.
async fn artifact(
    parts: &Parts,
    record: &Preview,
    target: &Target,
    site: &StaticSettings,
) -> Result<Made, Error> {
    let project = record.key.project_id;
    let job = Quoted::new(&site.job);
    let upload = record.order.as_ref().and_then(|order| order.upload_of(&target.sha, target.job_id));
    let fetched = match upload {
        Some(digest) => parts.uploads.artifact(digest, &parts.incoming).await.map_err(Into::into),
        None => parts.forge.artifact(project, target.job_id, &parts.incoming, parts.limits).await,
    };
    let refused = match fetched {
        Ok(Some(artifact)) => {
            let input = Input::Artifact {
                archive: artifact.archive,
                // What a job sends is the site itself.
                root: if upload.is_some() { PathBuf::new() } else { site.path.as_path().to_owned() },
                spa: site.spa,
            };
            return Ok(Made::Ready(artifact.digest, input));
        }
        Ok(None) if upload.is_some() => {
            String::from("the files that the job sent are not here any more; run the job again")
        }
        Ok(None) => format!("GitLab has no artifact of job {job}: it was never made or has expired"),
        Err(crate::gitlab::Error::TooLarge { limit, .. }) => {
            format!("the archive is larger than {} MiB", limit >> 20)
        }
        Err(error) if error.is_refusal() => format!(
            "GitLab does not let greenroom fetch the artifact of job {job} (it answered with {}); let it, then run \
             the job again",
            error.status().unwrap_or_default()
        ),
        Err(error) => return Err(error.into()),
    };
    Ok(Made::Refused(refused))
}

/// The ref that a deployment names. GitLab stops what was deployed from a branch when the branch is deleted, and nobody
/// could tell that from a stop by hand; the merge request's own ref outlives the branch.
fn deployment_ref(subject: Subject, pipeline_ref: &str) -> String {
    match subject {
        Subject::MergeRequest(iid) if !pipeline_ref.starts_with("refs/merge-requests/") => {
            format!("refs/merge-requests/{iid}/head")
        }
        _ => pipeline_ref.to_owned(),
    }
}
