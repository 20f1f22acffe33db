//! What the operator asked for, worked into the record at the start of a look.
//!
//! The operator's word counts where GitLab's is missing: a stop needs nothing of the merge request, so it also works while
//! GitLab is down or does not show it. Whatever else is asked waits until there is something to look at.

use super::controller::Parts;
use super::desired::{Decision, Desired, Life};
use super::look::{Error, Next, act_and_tell};
use super::{checks, engines, sleep};
use crate::preview::{Hold, HoldOrigin, Intent, MergeRequest, Preview, Reason};
use crate::report::NoteCheck;
use crate::store::Asked;

/// Works `asked` into the record and saves it. `seen` is the merge request, when GitLab shows it.
pub(super) async fn take_up(
    parts: &Parts,
    record: &mut Preview,
    asked: &Asked,
    seen: Option<&MergeRequest>,
) -> Result<(), Error> {
    let now = parts.clock.now();
    if !work_in(record, asked, seen, now) {
        return Ok(());
    }
    if asked.intent == Intent::Refresh {
        checks::forget(parts, record).await?;
    }
    record.updated_at = now;
    parts.store.take_up(asked, record).await?;
    tracing::info!(mr.key = %record.key, intent = asked.intent.as_str(), "taken up");
    Ok(())
}

/// Works `asked` into the record. Whether that can be done yet.
pub(super) fn work_in(record: &mut Preview, asked: &Asked, seen: Option<&MergeRequest>, now: i64) -> bool {
    match (asked.intent, seen) {
        // Nothing runs, and a hold would outlive a reopen that nobody told of.
        (Intent::Stop | Intent::StopInGitlab, Some(merge_request)) if merge_request.state.is_over() => {}
        (Intent::Stop | Intent::StopInGitlab, _) => {
            let by_operator = asked.intent == Intent::Stop;
            let origin = if by_operator { HoldOrigin::Operator } else { HoldOrigin::Gitlab };
            let sha = seen.map_or_else(|| record.sha.clone(), |merge_request| merge_request.sha.clone());
            record.hold = Some(Hold { sha, since: asked.at, origin });
        }
        (Intent::Refresh, Some(_)) => {
            record.hold = None;
            record.release.take_if(|release| release.failure.is_some());
            record.deployed_at = record.serving.is_some().then_some(now);
            // Written anew, whatever became of it.
            record.note_digest = None;
            sleep::wake(record, now);
        }
        // What serves goes anyway.
        (Intent::Sleep, Some(merge_request)) if merge_request.state.is_over() => {}
        (Intent::Sleep, Some(_)) => sleep::put(record, asked.at),
        (Intent::Wake, Some(_)) => sleep::wake(record, now),
        (Intent::Refresh | Intent::Sleep | Intent::Wake, None) => return false,
    }
    true
}

/// Stops what the operator holds while nothing is known of the merge request; `why` says why not.
pub(super) async fn stop_unseen(parts: &Parts, mut record: Preview, why: String) -> Result<Next, Error> {
    let mut saved = Some(record.clone());
    let decision = Decision {
        desired: Desired::Gone(Reason::StoppedByOperator),
        life: Life::AsTold,
        rules: vec![String::from("the operator stopped it at the commit that was seen last"), why],
    };
    record.decision.clone_from(&decision.rules);
    // GitLab may be away for long: what it has to be told of the end comes after the end.
    for place in engines::places_of(&record) {
        parts.engines.stop(&place, &record).await;
    }
    record.serving = None;
    let head = record.sha.clone();
    act_and_tell(parts, &mut record, &mut saved, &decision, head.as_ref(), NoteCheck::ALL).await
}
