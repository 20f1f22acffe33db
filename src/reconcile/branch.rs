//! Branches without a merge request. Their previews are made by CI jobs alone, in GitLab's environment `review/<slug>`.
//!
//! Properties:
//! * Nothing but a job's order deploys one, and nothing comments: there is nowhere to.
//! * It ends when GitLab says that its environment is stopped, or is being stopped: GitLab does that when the branch is deleted,
//!   when `auto_stop_in` is over, and when somebody asks. Or by its lifetime, by an operator, or because a merge request of the branch
//!   serves by now. That GitLab does not show the branch, or the environment, ends nothing by itself.
//! * It ends with its branch, whatever GitLab says of the environment, when two looks, a resync interval apart, were shown the
//!   project's default branch and were told that this one is not there. The brake counts such ends.
//! * What was stopped stays stopped until a newer job asks.
//!
//! Races, and what was decided:
//! * *A job deploys again into an environment that is still marked as stopped*: GitLab marks it as available when the job has
//!   succeeded. So a stop counts only where the environment was seen to be available since, or where the job is over.
//! * *The branch is gone before GitLab has stopped the environment*: it is asked again soon.
//! * *The stop job fails, or the deploy job ends after the branch was deleted*: GitLab marks the environment as available again. That
//!   it was being stopped has been seen, or the preview ends with the branch.

use super::apply::unless_refused;
use super::controller::Parts;
use super::desired::Desired;
use super::look::Error;
use crate::gitlab::EnvironmentState;
use crate::preview::{
    BranchId, Hold, HoldOrigin, JobOrder, JobStatus, MergeRequest, MrKey, Preview, PreviewKey, Reason, State,
    Subject, WorkKey, subject_of_environment,
};

/// How long a job's order is taken to go on, whatever GitLab says of the job, milliseconds: its environment follows it with a delay.
const UNDER_WAY: i64 = 300_000;

/// How soon an environment is asked for again whose branch is gone, and for how long, milliseconds.
const AGAIN: i64 = 15_000;
const SOON: i64 = 600_000;

/// What a look at `key` goes by: the merge request, or what stands in its place.
pub(super) async fn read(
    parts: &Parts,
    key: PreviewKey,
    record: Option<&Preview>,
    order: Option<&JobOrder>,
) -> Result<MergeRequest, crate::gitlab::Error> {
    let id = match key.subject {
        Subject::MergeRequest(iid) => {
            return parts.forge.merge_request(MrKey::new(key.project_id, iid)).await;
        }
        Subject::Branch(id) => id,
    };
    let project = key.project_id;
    let path = parts.forge.project_path(project).await?;
    let known = order.map(|order| &order.pipeline_ref).or(record.map(|record| &record.source_branch));
    let branch = match known.filter(|branch| !branch.is_empty()) {
        Some(branch) => branch.clone(),
        None => find(parts, key, id).await?,
    };
    let sha = parts.forge.branch_head(project, &branch).await?;
    let branch_deleted = sha.is_none() && parts.forge.shows_branches(project).await?;
    Ok(MergeRequest { branch_deleted, ..MergeRequest::of_branch(key, path, &branch, sha) })
}

/// The branch whose id this is, as GitLab's environments tell.
async fn find(parts: &Parts, key: PreviewKey, id: BranchId) -> Result<String, crate::gitlab::Error> {
    let project = key.project_id;
    let environments = parts.forge.review_environments(project).await?;
    let is_its = |name: &str| subject_of_environment(name) == Some(Subject::Branch(id));
    if let Some(environment) = environments.iter().find(|environment| is_its(&environment.name))
        && let Some(branch) = parts.forge.deployed_branch(project, &environment.name).await?
        && BranchId::of(&branch) == Some(id)
    {
        return Ok(branch);
    }
    Err(crate::gitlab::Error::Status {
        what: format!("environments of project {project}"),
        status: 404,
        message: format!("none of them tells which branch the preview {key} is of"),
    })
}

/// Whether there is nothing to be looked at without an order. What GitLab has stopped is: something of it may have come back.
pub(super) fn is_over(record: &Preview) -> bool {
    let by_operator = |hold: &Hold| hold.origin == HoldOrigin::Operator;
    record.state == State::Stopped && record.hold.as_ref().is_none_or(by_operator)
}

/// Works into the record what GitLab says of the environment.
pub(super) async fn notice_end(
    parts: &Parts,
    record: &mut Preview,
    now: &MergeRequest,
    order: Option<&JobOrder>,
) -> Result<(), Error> {
    if record.hold.is_some() || matches!(record.state, State::Stopping | State::Stopped) {
        return Ok(());
    }
    let hold = |origin| Some(Hold { sha: now.sha.clone(), since: parts.clock.now(), origin });
    // A job that was let in knew of no merge request.
    let is_settled = order.is_none_or(|order| record.has_answered(&order.id));
    if let Some(successor) = successor(parts, record).await?.filter(|_| is_settled) {
        record.hold = hold(HoldOrigin::Successor);
        // In branch pipelines its jobs go on with the environment, which ends with the branch.
        let shared = |order: &JobOrder| order.pipeline_ref == record.source_branch;
        if successor.order.as_ref().is_some_and(shared) {
            record.environment_id = None;
        }
        return Ok(());
    }
    // Made by GitLab, for the job; whose it is its name tells.
    unless_refused(parts.reporter.adopt_environment(record).await)?;
    let shown = unless_refused(parts.reporter.environment(record).await)?.flatten();
    match shown.map(|environment| environment.state) {
        Some(EnvironmentState::Available) => record.environment_seen = true,
        Some(EnvironmentState::Stopped | EnvironmentState::Stopping)
            if record.environment_seen || !is_under_way(parts, record, order).await? =>
        {
            record.hold = hold(HoldOrigin::Gitlab);
        }
        Some(_) => {}
        None => record.environment_id = None,
    }
    Ok(())
}

/// Whether the job that asked for the last deploy may still be at it.
async fn is_under_way(parts: &Parts, record: &Preview, order: Option<&JobOrder>) -> Result<bool, Error> {
    let Some(order) = order else { return Ok(false) };
    if parts.clock.now() - order.at < UNDER_WAY {
        return Ok(true);
    }
    let name = record.environment_name();
    let job = parts.forge.job_deployment(record.key.project_id, &name, order.pipeline_id).await;
    let job = unless_refused(job.map_err(Into::into))?.flatten();
    Ok(job.is_some_and(|(_, status)| status == JobStatus::Unfinished))
}

/// The preview of a merge request of the branch, once it serves.
async fn successor(parts: &Parts, record: &Preview) -> Result<Option<Preview>, Error> {
    let keys = parts.store.previews_of_branch(record.key.project_id, &record.source_branch).await?;
    for key in keys.into_iter().filter(|key| !key.subject.is_branch()) {
        let other = parts.store.preview(key).await?;
        if let Some(other) = other.filter(|other| other.serving.is_some()) {
            return Ok(Some(other));
        }
    }
    Ok(None)
}

/// What ends the preview of a branch, or keeps it as it is although there is nothing to be read of the branch. Pure.
pub(super) fn end(
    merge_request: &MergeRequest,
    record: Option<&Preview>,
    rules: &mut Vec<String>,
) -> Option<Desired> {
    match record.and_then(|record| record.hold.as_ref()).map(|hold| hold.origin) {
        Some(HoldOrigin::Gitlab) => {
            rules.push(String::from("GitLab has stopped its environment, and no job has asked for it since"));
            return Some(Desired::Gone(Reason::StoppedInGitlab));
        }
        Some(HoldOrigin::Successor) => {
            rules.push(String::from("a merge request of the branch has a preview that serves"));
            return Some(Desired::Gone(Reason::Replaced));
        }
        Some(HoldOrigin::Operator) | None => {}
    }
    if merge_request.sha.is_some() {
        return None;
    }
    rules.push(String::from(if merge_request.branch_deleted {
        "GitLab shows the default branch, and says that this one is not there"
    } else {
        "GitLab does not show the branch, which ends nothing"
    }));
    Some(match record {
        Some(record) if !record.has_begun() => Desired::Keep(State::Stopped, Reason::BranchOver),
        Some(_) if merge_request.branch_deleted => Desired::Gone(Reason::BranchDeleted),
        Some(record) => Desired::Keep(record.state, Reason::BranchGone(record.environment_name())),
        None => Desired::Leave,
    })
}

/// When a branch that is gone is looked at again.
pub(super) fn next_look(record: &Preview, now: i64) -> Option<i64> {
    let lives = record.key.subject.is_branch() && !matches!(record.state, State::Stopping | State::Stopped);
    let since = record.unseen_since.filter(|_| lives)?;
    (now - since < SOON).then_some(now + AGAIN)
}

/// Passes on that a merge request of a branch serves, to the preview that the branch had without one.
pub(super) async fn pass_on(parts: &Parts, record: &Preview) -> Result<(), Error> {
    let Some(id) = BranchId::of(&record.source_branch).filter(|_| !record.key.subject.is_branch()) else {
        return Ok(());
    };
    let key = PreviewKey::new(record.key.project_id, Subject::Branch(id));
    if parts.store.preview(key).await?.is_some_and(|preview| preview.state != State::Stopped) {
        parts.store.enqueue(&[WorkKey::Preview(key)], parts.clock.now()).await?;
    }
    Ok(())
}
