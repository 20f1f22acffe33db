//! From what should be and what is to the steps between them. Pure.

use super::desired::{Desired, Target};
use super::sleep;
use crate::engine::{Progress, Status};
use crate::gitlab::DeploymentOutcome;
use crate::preview::{EngineKind, Preview, Reason, Release, State};

/// One step. Each is idempotent and may be repeated after a crash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Bring our GitLab deployment to a final status.
    FinishDeployment(DeploymentOutcome),
    /// Make ready what the target needs and, when it is news, hand it to the engine.
    Deploy(Box<Target>),
    /// Have the engine put what serves to sleep.
    Sleep,
    /// Have the engine wake it.
    Wake,
    /// Remove everything the engine has.
    StopEngine,
    /// Stop and delete the GitLab environment.
    RemoveEnvironment,
}

/// The steps from `record` and `status` to `desired`, in order.
pub fn plan(desired: &Desired, record: &Preview, status: &Status) -> Vec<Step> {
    let mut steps = Vec::new();
    // First of all: GitLab may be slow or refuse what comes next.
    if matches!(desired, Desired::Gone(_)) && (!status.is_gone() || !record.leaving.is_empty()) {
        steps.push(Step::StopEngine);
    }
    if let Some(outcome) = deployment_outcome(desired, record, status) {
        steps.push(Step::FinishDeployment(outcome));
    }
    match desired {
        Desired::Leave => {}
        Desired::Run(target) if !is_settled(target, record, status) => {
            steps.push(Step::Deploy(target.clone()));
        }
        Desired::Keep(..) | Desired::Run(_) => steps.extend(sleep::step(record, status)),
        Desired::Gone(_) => {
            // A deploy that was begun may have left an environment whose id we never learned, however it went on. Those of branches
            // are GitLab's own: what we know nothing of is not ours to remove.
            let may_be_unknown = record.state != State::Stopped && !record.key.subject.is_branch();
            if record.environment_id.is_some() || may_be_unknown {
                steps.push(Step::RemoveEnvironment);
            }
        }
    }
    steps
}

/// Whether the engine has this target already, works on it, or is known to be unable to serve it.
fn is_settled(target: &Target, record: &Preview, status: &Status) -> bool {
    let Some(release) = &record.release else { return false };
    let here = record.place().is_some_and(|place| place == target.place);
    if here && release.sha == target.sha && status.pending.is_none() && sleep::is_wanted(record, status) {
        return true;
    }
    let known = release.settings == target.settings || release.job_id == Release::UNKNOWN_JOB;
    let same =
        here && known && release.is_of(&target.sha, target.job_id) && !has_other_files(record, release);
    // After a trouble of the engine's own the same order is worth another try.
    let pending = matches!(pending(release, status), Some(Progress::Working | Progress::Failed(_)));
    // What somebody else has changed is put back by the same order.
    same && status.drifted.is_empty() && (release.failure.is_some() || serves(release, status) || pending)
}

/// Whether the very job that made the release has sent other files since.
fn has_other_files(record: &Preview, release: &Release) -> bool {
    let sent = record.order.as_ref().and_then(|order| order.upload_of(&release.sha, release.job_id));
    sent.is_some_and(|digest| release.was_submitted() && release.digest != digest)
}

fn serves(release: &Release, status: &Status) -> bool {
    status
        .serving
        .as_ref()
        .is_some_and(|running| running.sha == release.sha && running.digest == release.digest)
}

fn pending<'a>(release: &Release, status: &'a Status) -> Option<&'a Progress> {
    let (sha, digest, progress) = status.pending.as_ref()?;
    (*sha == release.sha && *digest == release.digest).then_some(progress)
}

/// How our open deployment ended, if it has.
fn deployment_outcome(desired: &Desired, record: &Preview, status: &Status) -> Option<DeploymentOutcome> {
    let deployment = record.deployment.as_ref().filter(|deployment| !deployment.finished)?;
    let release = record.release.as_ref();
    if release.is_some_and(|release| serves(release, status)) {
        return Some(DeploymentOutcome::Success);
    }
    if release.is_some_and(|release| release.failure.is_some()) {
        return Some(DeploymentOutcome::Failed);
    }
    match (desired, release.and_then(|release| pending(release, status))) {
        (Desired::Gone(_), _) => Some(DeploymentOutcome::Canceled),
        // Another one takes its place, and the record has room for one only.
        (Desired::Run(target), Some(Progress::Working | Progress::Trouble(_)))
            if target.pipeline_sha != deployment.sha =>
        {
            Some(DeploymentOutcome::Canceled)
        }
        (_, Some(Progress::Working)) | (Desired::Run(_), Some(Progress::Trouble(_))) => None,
        // Nobody tries again for a head that was left behind.
        (_, Some(Progress::Failed(_) | Progress::Trouble(_))) => Some(DeploymentOutcome::Failed),
        // The engine does not know the order (a crash in between): the same target is deployed again under the same
        // deployment, another one supersedes it.
        (Desired::Run(target), None) if target.pipeline_sha == deployment.sha => None,
        _ => Some(DeploymentOutcome::Canceled),
    }
}

/// The state and reason that people are told once the steps are done.
pub(super) fn outcome(
    desired: &Desired,
    record: &Preview,
    status: &Status,
    left: &[String],
) -> (State, Reason) {
    match desired {
        Desired::Leave => (record.state, Reason::FileRemoved),
        Desired::Keep(state, reason) => (*state, reason.clone()),
        Desired::Gone(_) if !left.is_empty() => (State::Stopping, Reason::Leftover(left.join("; "))),
        Desired::Gone(reason) => (State::Stopped, reason.clone()),
        Desired::Run(target) => {
            let Some(release) = record.release.as_ref().filter(|release| release.sha == target.sha) else {
                return (State::Deploying, Reason::Deploying(target.sha.clone()));
            };
            if serves(release, status) && status.asleep {
                return (State::Asleep, Reason::Asleep(target.sha.clone()));
            }
            if serves(release, status) && sleep::is_waking(record, status) {
                return (State::Deploying, Reason::Waking(target.sha.clone()));
            }
            if serves(release, status) {
                return (State::Ready, Reason::Ready(target.sha.clone()));
            }
            match (&release.failure, pending(release, status)) {
                (Some(why), _) | (None, Some(Progress::Failed(why))) => {
                    (State::Failed, refused(target, release.was_submitted(), why.clone()))
                }
                (None, Some(Progress::Trouble(why))) => (State::Failed, Reason::EngineFailed(why.clone())),
                _ => (State::Deploying, Reason::Deploying(target.sha.clone())),
            }
        }
    }
}

/// Why what was ordered is not served, in the words of its engine.
pub(super) fn refused(target: &Target, was_submitted: bool, why: String) -> Reason {
    match target.place.engine {
        EngineKind::Static => Reason::ArtifactRefused(why),
        EngineKind::Kubernetes if was_submitted => Reason::NotReady(why),
        EngineKind::Kubernetes => Reason::Undeployable(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preview::{Deployment, Place, PreviewKey, Sha};
    use crate::render::ProjectFile;

    fn sha(digit: &str) -> Sha {
        Sha::parse(&digit.repeat(40)).unwrap()
    }

    fn target(digit: &str, job_id: u64) -> Box<Target> {
        Box::new(Target {
            sha: sha(digit),
            pipeline_id: Some(1),
            pipeline_sha: sha(digit),
            pipeline_ref: "refs/merge-requests/7/head".into(),
            job_id,
            place: Place::STATIC,
            settings: None,
            title: String::new(),
            author: String::new(),
            file: ProjectFile::parse("version: 1\nengine: static\nstatic: {job: build}\n").unwrap(),
            seen_at: 0,
        })
    }

    /// Commit `a` was handed to the engine, and its deployment runs.
    fn deploying() -> Preview {
        let mut record = Preview::new(
            PreviewKey::of_mr(42, 7),
            "acme/web",
            "feature",
            |name| format!("http://{name}.example"),
            1,
        );
        record.state = State::Deploying;
        record.move_to(&Place::STATIC);
        record.environment_id = Some(1);
        record.deployment =
            Some(Deployment { id: Some(5), sha: sha("a"), reference: "feature".into(), finished: false });
        record.release = Some(Release {
            sha: sha("a"),
            job_id: 3,
            digest: "d".into(),
            submitted_at: 1,
            settled_at: None,
            failure: None,
            settings: None,
            by_job: false,
        });
        record
    }

    fn working() -> Status {
        Status { pending: Some((sha("a"), "d".into(), Progress::Working)), ..Status::default() }
    }

    #[test]
    fn a_deployment_that_is_overtaken_is_ended_before_the_next_takes_its_place() {
        let next = target("b", 4);
        assert_eq!(
            plan(&Desired::Run(next.clone()), &deploying(), &working()),
            [Step::FinishDeployment(DeploymentOutcome::Canceled), Step::Deploy(next)],
        );
        // The job alone ran again: the deployment stays the same.
        let again = target("a", 4);
        assert_eq!(plan(&Desired::Run(again.clone()), &deploying(), &working()), [Step::Deploy(again)]);
        assert_eq!(plan(&Desired::Run(target("a", 3)), &deploying(), &working()), []);
    }

    #[test]
    fn at_the_end_the_engine_comes_before_everything_that_gitlab_could_refuse() {
        assert_eq!(
            plan(&Desired::Gone(Reason::Closed), &deploying(), &working()),
            [Step::StopEngine, Step::FinishDeployment(DeploymentOutcome::Canceled), Step::RemoveEnvironment,],
        );
    }
}
