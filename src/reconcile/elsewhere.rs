//! What a CI job has deployed without this server, under the same instance id, is taken over as it is.
//!
//! Two sources tell of it: the engine, which has an order that is not ours, and GitLab, which records a deployment for a job
//! with the preview's environment. Where the head's own pipeline has such a job, nothing else deploys that head.
//!
//! Races, and what was decided:
//! * *The job is at it*: an order of the head that is not ours is under way, whoever sends it. If nobody does any more, its
//!   time runs out and it has failed.
//! * *The job took it away again*: what a job deployed and what is not there any more was stopped by hand, until a new head.
//! * *And another job brought it back*: what is there after everything was seen to be gone ends that stop.

use super::controller::Parts;
use super::desired::{Decision, Desired};
use super::look::Error;
use super::plan::{Step, plan};
use super::{apply, sweep};
use crate::engine::{Progress, Status};
use crate::preview::{
    Hold, HoldOrigin, JobStatus, MergeRequest, Preview, ProjectId, Quoted, Reason, Release, Sha, State,
    environment_name,
};

/// How long it is remembered that jobs deploy a project's previews, milliseconds.
const REMEMBERED: i64 = 30 * 86_400_000;

/// Takes over what the engine has of the head that we did not order, before anything is decided.
pub(super) async fn notice(
    parts: &Parts,
    record: &mut Preview,
    merge_request: &MergeRequest,
) -> Result<(), Error> {
    // Nobody but a server deploys where there is no cluster.
    let place = record.place().filter(|place| place.cluster.is_some());
    let Some((place, head)) = place.zip(merge_request.sha.as_ref()) else { return Ok(()) };
    // What cannot be asked is unknown; the look itself tells of it.
    let Ok(status) = parts.engines.status(&place, record).await else { return Ok(()) };
    let now = parts.clock.now();
    if status.is_gone() {
        record.served = None;
        let release = record.release.take_if(|release| release.by_job);
        let was_there = release.is_some_and(|it| it.sha == *head && it.settled_at.is_some());
        let ending = matches!(record.state, State::Stopping | State::Stopped);
        if was_there && !ending && record.hold.is_none() {
            record.hold = Some(Hold { sha: Some(head.clone()), since: now, origin: HoldOrigin::Gitlab });
        }
        return Ok(());
    }
    let Some(release) = foreign(record, &status, head, now) else { return Ok(()) };
    let stopped_in_gitlab = |hold: &mut Hold| hold.origin == HoldOrigin::Gitlab;
    if record.state == State::Stopped {
        record.hold.take_if(stopped_in_gitlab);
    }
    tracing::info!(mr.key = %record.key, "taken over from a job");
    match status.serving.filter(|running| running.sha == release.sha && running.digest == release.digest) {
        Some(running) => sweep::take_over_running(record, running),
        None => record.deployed_at = Some(now),
    }
    record.release = Some(release);
    remember(parts, record.key.project_id).await
}

/// The order of the head that the engine has and that is not ours.
fn foreign(record: &Preview, status: &Status, head: &Sha, now: i64) -> Option<Release> {
    let ours = record.release.as_ref();
    let is_ours =
        |sha: &Sha, digest: &str| ours.is_some_and(|ours| ours.sha == *sha && ours.digest == digest);
    let release = |digest: &str, settled_at| Release {
        sha: head.clone(),
        job_id: Release::UNKNOWN_JOB,
        digest: digest.to_owned(),
        submitted_at: now,
        settled_at,
        failure: None,
        settings: None,
        by_job: true,
    };
    if let Some((sha, digest, _)) = &status.pending {
        return (sha == head && !is_ours(sha, digest)).then(|| release(digest, None));
    }
    let running = status.serving.as_ref().filter(|it| it.sha == *head && !is_ours(&it.sha, &it.digest))?;
    // The head may have gone back to what serves.
    let known = record.served.as_ref() == Some(&running.digest);
    // Ours may not have reached the engine yet, or is why an earlier one goes on serving.
    let ours_came_to_nothing =
        ours.is_some_and(|it| it.sha == *head && (it.settled_at.is_none() || it.failure.is_some()));
    let is_news = !known && !ours_came_to_nothing;
    is_news.then(|| release(&running.digest, Some(running.since)))
}

/// Leaves the head to the job that has deployed it, or is to.
pub(super) async fn leave(
    parts: &Parts,
    record: Option<&Preview>,
    merge_request: &MergeRequest,
    decision: &mut Decision,
) -> Result<(), Error> {
    let Some(head) = &merge_request.sha else { return Ok(()) };
    let release = record.and_then(|record| record.release.as_ref());
    if let Some((record, release)) = record.zip(release.filter(|it| it.by_job && it.sha == *head)) {
        if let Some(place) = record.place()
            && (matches!(decision.desired, Desired::Run(_)) || is_of_pipeline(&decision.desired))
        {
            let status = parts.engines.status(&place, record).await?;
            if let Some(desired) = by_job(release, &status) {
                decision.rules.push(String::from("a job has deployed this commit without the server"));
                decision.desired = desired;
            }
        }
        return Ok(());
    }
    let Desired::Run(target) = &decision.desired else { return Ok(()) };
    let Some(pipeline) = target.pipeline_id else { return Ok(()) };
    let deploys = match record {
        None => true,
        Some(record) => {
            let status = parts.engines.status(&target.place, record).await?;
            plan(&decision.desired, record, &status).iter().any(|step| matches!(step, Step::Deploy(_)))
        }
    };
    if !deploys {
        return Ok(());
    }
    let key = merge_request.key;
    let environment = environment_name(key.subject, &merge_request.source_branch);
    let made = parts.forge.job_deployment(key.project_id, &environment, pipeline).await;
    let Some((job, status)) = apply::unless_refused(made.map_err(Into::into))?.flatten() else {
        return Ok(());
    };
    let job = Quoted::new(&job);
    decision.rules.push(format!("job {job} of pipeline {pipeline} deploys to `{environment}`"));
    decision.desired = match status {
        JobStatus::Success => Desired::Keep(State::Skipped, Reason::LeftToJob(job, pipeline)),
        JobStatus::Unfinished => Desired::Keep(State::Waiting, Reason::JobUnfinished(job, pipeline)),
        JobStatus::Manual => Desired::Keep(State::Waiting, Reason::JobManual(job, pipeline)),
        status @ (JobStatus::Failed | JobStatus::Canceled | JobStatus::Skipped) => {
            Desired::Keep(State::Failed, Reason::JobFailed(job, pipeline, status))
        }
    };
    remember(parts, key.project_id).await
}

/// Whether it is the rest of the pipeline that something waits for.
const fn is_of_pipeline(desired: &Desired) -> bool {
    matches!(
        desired,
        Desired::Keep(
            _,
            Reason::NoPipeline(_)
                | Reason::PipelineRunning(_)
                | Reason::PipelineBlocked(..)
                | Reason::PipelineFailed(..)
                | Reason::JobUnfinished(..)
                | Reason::JobManual(..)
                | Reason::JobFailed(..)
                | Reason::JobNotYet(..)
                | Reason::JobMissing(..)
                | Reason::LeftToBranch(_)
        )
    )
}

/// How the head stands that a job has deployed; `None` when the engine has something else.
fn by_job(release: &Release, status: &Status) -> Option<Desired> {
    let sha = release.sha.clone();
    if let Some((of, digest, progress)) = &status.pending {
        let theirs = *of == sha && *digest == release.digest;
        return theirs.then(|| match progress {
            Progress::Failed(why) => Desired::Keep(State::Failed, Reason::NotReady(why.clone())),
            Progress::Working | Progress::Trouble(_) => {
                Desired::Keep(State::Deploying, Reason::Deploying(sha))
            }
        });
    }
    if status.asleep {
        return None;
    }
    let serves = status.serving.as_ref().is_some_and(|it| it.sha == sha && it.digest == release.digest);
    serves.then(|| Desired::Keep(State::Ready, Reason::Ready(sha)))
}

/// Takes over the environment that GitLab made for the job: it has to go with the preview.
pub(super) async fn own_environment(parts: &Parts, record: &mut Preview) -> Result<(), Error> {
    if record.release.as_ref().is_some_and(|release| release.by_job) {
        apply::unless_refused(parts.reporter.ensure_environment(record).await)?;
    }
    Ok(())
}

/// Whether jobs deploy previews of this project without the server.
pub(super) async fn is_usual(parts: &Parts, project: ProjectId) -> Result<bool, Error> {
    let seen: Option<i64> = parts.store.noted(&note(project)).await?.and_then(|at| at.parse().ok());
    Ok(seen.is_some_and(|seen| parts.clock.now() - seen < REMEMBERED))
}

async fn remember(parts: &Parts, project: ProjectId) -> Result<(), Error> {
    parts.store.note(&note(project), &parts.clock.now().to_string()).await?;
    Ok(())
}

fn note(project: ProjectId) -> String {
    format!("jobs_deploy:{project}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Running;
    use crate::preview::{PreviewKey, Serving};

    fn sha(digit: char) -> Sha {
        Sha::parse(&digit.to_string().repeat(40)).unwrap()
    }

    /// What we ordered last: commit, digest, whether it settled, whether it failed.
    type Ours = Option<(char, &'static str, bool, bool)>;

    #[test]
    fn only_what_is_news_and_not_ours_is_a_jobs() {
        let serving = |of, digest: &str| Status {
            serving: Some(Running { sha: sha(of), digest: digest.into(), since: 5 }),
            ..Status::default()
        };
        let pending = |of, digest: &str| Status {
            pending: Some((sha(of), digest.into(), Progress::Working)),
            ..serving('9', "old")
        };
        for (what, ours, served, status, expected) in [
            ("nothing was ordered, and it serves", None, None, serving('a', "d"), true),
            ("nothing was ordered, and it is on its way", None, None, pending('a', "d"), true),
            ("ours serves", Some(('a', "d", true, false)), Some("d"), serving('a', "d"), false),
            ("ours is on its way", Some(('a', "d", false, false)), None, pending('a', "d"), false),
            ("another commit is on its way", Some(('9', "old", true, false)), None, pending('b', "d"), false),
            ("after us a job", Some(('a', "c", true, false)), Some("c"), serving('a', "d"), true),
            ("ours has not arrived", Some(('a', "c", false, false)), Some("d"), serving('a', "d"), false),
            ("ours failed", Some(('a', "c", true, true)), Some("d"), serving('a', "d"), false),
            ("ours failed, and is forgotten", None, Some("d"), serving('a', "d"), false),
            ("the head went back", Some(('b', "c", true, true)), Some("d"), serving('a', "d"), false),
            ("a job deploys a new head", Some(('b', "c", true, false)), Some("c"), serving('a', "d"), true),
        ] {
            let ours: Ours = ours;
            let mut record =
                Preview::new(PreviewKey::of_mr(42, 7), "acme/web", "feature", ToString::to_string, 1);
            record.served = served.map(str::to_owned);
            record.release = ours.map(|(of, digest, settled, failed)| Release {
                settled_at: settled.then_some(3),
                failure: failed.then(|| "no".to_owned()),
                ..Release::found(&Serving { sha: sha(of), since: 3 }, digest)
            });
            assert_eq!(foreign(&record, &status, &sha('a'), 9).is_some(), expected, "{what}");
        }
    }
}
