//! Sleeping and waking, as the operator asks for it.
//!
//! Properties:
//! * What sleeps, sleeps for the commit that served: another one is deployed awake, and nothing is put to sleep while an order
//!   is under way.
//! * While it sleeps nothing of the same commit is deployed: what a look would repair or bring up to date is done once it is
//!   awake, so no resync wakes it.
//! * What the engine has asleep and nobody wants asleep is woken; a record that was lost takes it over as it is (`sweep.rs`).

use super::plan::Step;
use crate::engine::{Progress, Status};
use crate::preview::{EngineKind, Preview, Sleep};

/// How long what was woken may take to be there before it counts as any other that is not well, milliseconds.
const WAKES_WITHIN: i64 = 600_000;

/// The operator puts what serves to sleep. What serves nothing, or uses nothing while nobody looks, has nothing to gain.
pub(super) fn put(record: &mut Preview, now: i64) {
    let is_static = record.place().is_none_or(|place| place.engine == EngineKind::Static);
    let Some(serving) = record.serving.as_ref().filter(|_| !is_static) else { return };
    if record.sleeps_since().is_none() {
        record.sleep = Some(Sleep { sha: serving.sha.clone(), since: now, waking: false });
    }
}

/// What sleeps is to wake.
pub(super) fn wake(record: &mut Preview, now: i64) {
    if let Some(sleep) = record.sleep.as_mut().filter(|sleep| !sleep.waking) {
        (sleep.since, sleep.waking) = (now, true);
    }
}

/// Whether what serves is to sleep.
pub(super) fn is_wanted(record: &Preview, status: &Status) -> bool {
    let Some(sleep) = record.sleep.as_ref().filter(|sleep| !sleep.waking) else { return false };
    is_undisturbed(status) && status.serving.as_ref().is_some_and(|running| running.sha == sleep.sha)
}

/// Whether it is being woken, and something of it is not back yet.
pub(super) fn is_waking(record: &Preview, status: &Status) -> bool {
    record.sleep.as_ref().is_some_and(|sleep| sleep.waking) && !status.waits_for.is_empty()
}

/// The step from what sleeps to what should sleep.
pub(super) fn step(record: &Preview, status: &Status) -> Option<Step> {
    let wanted = is_wanted(record, status);
    let serves = status.serving.is_some() && is_undisturbed(status);
    (serves && wanted != status.asleep).then_some(if wanted { Step::Sleep } else { Step::Wake })
}

/// Whether no order is under way.
fn is_undisturbed(status: &Status) -> bool {
    !matches!(status.pending, Some((_, _, Progress::Working)))
}

/// Forgets the sleep of what is awake again, or is not what serves any more.
pub(super) fn settle(record: &mut Preview, status: &Status, now: i64) {
    record.sleep.take_if(|sleep| {
        let is_back = status.waits_for.is_empty() || now - sleep.since > WAKES_WITHIN;
        let awake = sleep.waking && !status.asleep && is_back;
        awake || status.serving.as_ref().is_none_or(|running| running.sha != sleep.sha)
    });
}
