//! How many previews of a project run at once, where the operator limits that.
//!
//! Needs: the store, which counts.
//!
//! Properties:
//! * Who has a place keeps it until nothing of it runs; nobody is sent away for a limit that was lowered.
//! * A place is taken in one transaction with counting the others, so two looks never take the last one both.
//! * When a place becomes free, those that wait longest are looked at again, as many as there is room for. Who is looked
//!   at and no longer wants a place passes it on.

use super::controller::Parts;
use super::look::Error;
use crate::engine::{Progress, Status};
use crate::preview::{Preview, PreviewKey, ProjectRules, Reason, State, WorkKey};

/// How a preview stands to the places of its project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    takes: bool,
    waits: bool,
}

impl Standing {
    pub(super) fn of(record: &Preview) -> Self {
        Self { takes: record.takes_place(), waits: record.waits_for_place_since.is_some() }
    }
}

/// How many other previews of the project take a place; not counted without a limit.
pub(super) async fn others(parts: &Parts, key: PreviewKey, rules: &ProjectRules) -> Result<u64, Error> {
    if rules.max_previews.is_none() {
        return Ok(0);
    }
    let places = parts.store.places(key.project_id).await?;
    Ok(places.taken.iter().filter(|other| **other != key).count() as u64)
}

/// Takes a place for a preview that has none and is about to be deployed, unless the others have them all. Saves the
/// record when it does.
pub(super) async fn take(
    parts: &Parts,
    record: &mut Preview,
    saved: &mut Option<Preview>,
    rules: &ProjectRules,
) -> Result<bool, Error> {
    let Some(limit) = rules.max_previews.as_ref().filter(|_| !record.takes_place()) else { return Ok(true) };
    let now = parts.clock.now();
    let taking = Preview { place_since: Some(now), updated_at: now, ..record.clone() };
    if !parts.store.take_place(&taking, limit.value, &taking.reason).await? {
        return Ok(false);
    }
    record.clone_from(&taking);
    *saved = Some(taking);
    Ok(true)
}

/// Writes down how the preview stands after a look.
pub(super) fn note(record: &mut Preview, status: &Status, reason: &Reason, now: i64) {
    let works = matches!(status.pending, Some((_, _, Progress::Working | Progress::Trouble(_))));
    let runs = status.serving.is_some() || works || record.state == State::Stopping;
    let waits = matches!(reason, Reason::NoRoom { .. });
    record.place_since = runs.then(|| record.place_since.unwrap_or(now));
    record.waits_for_place_since = waits.then(|| record.waits_for_place_since.unwrap_or(now));
}

/// Asks for a look at those that wait, where a look has left room for them.
pub(super) async fn pass_on(
    parts: &Parts,
    before: Standing,
    record: &Preview,
    rules: &ProjectRules,
) -> Result<(), Error> {
    let now = Standing::of(record);
    let freed = before.takes && !now.takes;
    let left = before.waits && !now.waits;
    let Some(limit) = rules.max_previews.as_ref().filter(|_| freed || left || now.waits) else {
        return Ok(());
    };
    let places = parts.store.places(record.key.project_id).await?;
    let free = limit.value.saturating_sub(places.taken.len() as u64);
    let free = usize::try_from(free).unwrap_or(usize::MAX);
    let keys: Vec<_> = places.waiting.into_iter().take(free).map(WorkKey::Preview).collect();
    if !keys.is_empty() {
        parts.store.enqueue(&keys, parts.clock.now()).await?;
    }
    Ok(())
}
