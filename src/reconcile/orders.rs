//! What CI jobs asked for, worked into a look.
//!
//! An order counts for exactly the head that it was admitted for, and then it is all that is known of the pipeline: the job has
//! sent what is to be deployed, or asks for what its pipeline has made so far. So a deploy never waits for the pipeline that waits
//! for it. Everything else is decided as always.

use super::apply;
use super::controller::Parts;
use super::desired::{Decision, HeadFact};
use super::look::Error;
use super::{elsewhere, observe, sleep};
use crate::preview::{HoldOrigin, JobOrder, MergeRequest, Preview, PreviewKey, ProjectId};
use crate::render::{ProjectFile, WaitFor, Workload};
use crate::store::KeptOrder;

/// The order that counts for the merge request as it is now. One that was left behind is told so.
pub(super) async fn current(
    parts: &Parts,
    kept: Option<KeptOrder>,
    merge_request: &MergeRequest,
) -> Result<Option<JobOrder>, Error> {
    let Some(KeptOrder { order, refused: None }) = kept else { return Ok(None) };
    if merge_request.sha.as_ref() == Some(&order.sha) {
        return Ok(Some(order));
    }
    let why = if merge_request.is_lost_branch() {
        "GitLab does not show the branch any more"
    } else if merge_request.key.subject.is_branch() {
        "the branch has a newer commit, whose own pipeline deploys it"
    } else {
        "the merge request has a newer commit, whose own pipeline deploys it"
    };
    parts.store.refuse_order(merge_request.key, &order.id, why).await?;
    Ok(None)
}

/// Tells the job, if one waits, that nothing comes of its order.
pub(super) async fn refuse(
    parts: &Parts,
    key: PreviewKey,
    order: Option<&JobOrder>,
    why: &str,
) -> Result<(), Error> {
    if let Some(order) = order.filter(|order| !order.answered) {
        parts.store.refuse_order(key, &order.id, why).await?;
    }
    Ok(())
}

/// Works the order into the record. A job that was started after its environment was stopped wants it back, and what slept
/// awake; what the operator stopped stays stopped.
pub(super) fn note(record: &mut Preview, order: Option<&JobOrder>) {
    if let Some(order) = order {
        record.hold.take_if(|hold| hold.origin != HoldOrigin::Operator && hold.since < order.at);
        if record.sleep.as_ref().is_some_and(|sleep| sleep.since < order.at) {
            sleep::wake(record, order.at);
        }
    }
    let known = |known: &mut JobOrder| order.is_some_and(|order| order.id == known.id);
    if record.order.as_mut().is_none_or(|order| !known(order)) {
        record.order = order.cloned();
    }
}

/// Takes over the environment that GitLab made for the job, whatever becomes of the order: it has to go with the preview.
pub(super) async fn own_environment(parts: &Parts, record: &mut Preview) -> Result<(), Error> {
    if record.order.as_ref().is_some_and(|order| order.has_deployment && !order.answered) {
        apply::unless_refused(parts.reporter.ensure_environment(record).await)?;
    }
    Ok(())
}

/// Leaves a head to the job that may yet ask for it. Where jobs deploy a project's previews, nothing else does before their
/// pipeline has passed; a pipeline that passed without asking has no such job.
pub(super) async fn leave_to_jobs(
    parts: &Parts,
    order: Option<&JobOrder>,
    key: PreviewKey,
    file: &mut ProjectFile,
) -> Result<bool, Error> {
    if key.subject.is_branch() {
        // Nothing else deploys those at all.
        return Ok(false);
    }
    let waits = order.is_none() && are_usual(parts, key.project_id).await?;
    if waits {
        file.wait_for = WaitFor::Pipeline;
    }
    Ok(waits)
}

/// Whether jobs deploy a project's previews.
pub(super) async fn are_usual(parts: &Parts, project: ProjectId) -> Result<bool, Error> {
    Ok(parts.store.has_orders(project).await? || elsewhere::is_usual(parts, project).await?)
}

/// Why nothing comes of an order that [is unfit](is_unfit).
pub(super) const UNFIT: &str = "the engine `kubernetes` takes no folder; use `greenroom deploy` without one";

/// Whether the job has sent something that the engine cannot deploy.
pub(super) fn is_unfit(order: &JobOrder, file: &ProjectFile) -> bool {
    matches!(file.workload, Workload::Kubernetes(_)) && order.upload.is_some()
}

/// Writes down which of these rules counted.
pub(super) fn tell(decision: &mut Decision, order: Option<&JobOrder>, left_to_jobs: bool) {
    let told = match order {
        Some(JobOrder { job_id, pipeline_id, upload, .. }) => {
            let what =
                if upload.is_some() { "with files of its own" } else { "of what its pipeline has made" };
            format!("job {job_id} of pipeline {pipeline_id} asked for a deploy {what}")
        }
        None if left_to_jobs => String::from(
            "jobs deploy this project's previews, so nothing else does before the pipeline has passed",
        ),
        None => return,
    };
    // After the one that says of the merge request whether it is open.
    decision.rules.insert(decision.rules.len().min(1), told);
}

/// What is known of the head's pipeline when a job asks for a deploy.
pub(super) async fn head(
    parts: &Parts,
    order: Option<&JobOrder>,
    merge_request: &MergeRequest,
    file: &ProjectFile,
) -> Result<HeadFact, Error> {
    let mut names = Vec::new();
    if let Workload::Static(site) = &file.workload {
        names.push(site.job.as_str());
    }
    if let WaitFor::Job(name) = &file.wait_for {
        names.push(name);
    }
    match order.filter(|order| !is_unfit(order, file)) {
        Some(order) if order.upload.is_some() => Ok(HeadFact::Pipeline(order.head(names))),
        Some(order) if merge_request.key.subject.is_branch() => {
            let head = observe::of_pipeline(&parts.forge, order.head([]).pipeline, file).await?;
            Ok(HeadFact::Pipeline(head.so_far(order.job_id, &names)))
        }
        Some(order) => Ok(match observe::head(&parts.forge, merge_request, file).await? {
            HeadFact::Pipeline(head) => HeadFact::Pipeline(head.so_far(order.job_id, &names)),
            other => other,
        }),
        None => Ok(observe::head(&parts.forge, merge_request, file).await?),
    }
}
