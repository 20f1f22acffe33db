//! The brake: removals that may be a mistake stop when they come in numbers.
//!
//! What counts is every removal whose [`Reason`] has a [`Cause`], and those of previews nobody remembers ([`Cause::Orphan`]).
//! An end of the merge request or of the lifetime, and a person's hand, never count and never wait.
//!
//! Looks come one by one, on several workers and replicas, so that nobody sees the whole at once. Therefore such a removal
//! is first *wanted*: a row in the store, with its time and cause. It is done by a later look, which decides anew and needs
//! the merge request's own answer again. Until then it waits for
//! * a settle time since it was wanted, and since the newest one was ([`Brake::settle`]; of an orphan, and
//!   of what goes with its branch, a resync interval since it was wanted, so that two sweeps have seen it),
//! * every look that was due when it was wanted. So the first of a sweep does not slip through while the rest is still
//!   being looked at, however slow GitLab is.
//!
//! It waits for others no longer than [`Brake::window`]: a constant trickle must not hold everything up. Where no more
//! than three previews live, only these two wait: the brake could not come in.
//!
//! A *sweep* is a sliding window: what is wanted now, and what was done within the window. When that is more than three
//! **and** more than a third of the previews that live or went within the window, none of what is wanted is done.
//! Releasing marks the rows that are there; they go on and count no more, and one that is wanted later is held again. A
//! look that finds the cause gone removes the row; when too few are left, the others go on by themselves.
//!
//! Races, and what was decided:
//! * *A crash after a removal was let go*: the row stays until the preview was seen to be gone, and its record says
//!   `stopping` before anything is removed; one that is under way goes on and does not ask again.
//! * *A removal is wanted just when the last one before it is let go*: it finds that one among those done, and is held if
//!   it is one too many.
//! * *A release and a look at once*: the release marks rows in one statement and returns just these.

use std::time::Duration;

use super::controller::Parts;
use super::desired::{Decision, Desired};
use super::engines;
use super::look::{Error, Next, SOONEST};
use super::plan::{Step, plan};
use crate::engine::{Progress, Status};
use crate::preview::{Cause, Preview, PreviewKey, Reason, State, WorkKey};
use crate::store::{Removal, Store, Sweep};
use crate::telemetry::{Health, Warning};

/// As many removals at once are always let through.
const HARMLESS: i64 = 3;

/// As long an interval at least belongs to one sweep.
const SHORTEST_WINDOW: Duration = Duration::from_mins(10);

/// What the store remembers while the brake holds.
const ENGAGED: &str = "brake";

/// The brake's times, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Brake {
    /// How long a removal waits for others like it.
    pub settle: i64,
    /// How far apart removals may be that belong to one sweep.
    pub window: i64,
    /// How long lies between two sweeps for orphans, and between two looks at what is held.
    pub resync: i64,
}

/// How things stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrakeState {
    /// How many removals are held; 0 while the brake is open.
    pub held: i64,
    /// Previews that live, or went within the window.
    pub live: i64,
}

/// What the brake says of one removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Go,
    /// Ask again at this time, Unix milliseconds.
    Wait(i64),
    /// One of so many.
    Hold(i64),
}

/// What a look is to do about a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// As decided.
    GoOn,
    /// Nothing; look again at this time, Unix milliseconds.
    Wait(i64),
    /// The decision has become "keep"; look again at this time, Unix milliseconds.
    Held(i64),
}

impl Brake {
    /// The brake for a server that looks at everything every `resync`.
    pub fn new(settle: Duration, resync: Duration) -> Self {
        let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self { settle: millis(settle), window: millis(resync.max(SHORTEST_WINDOW)), resync: millis(resync) }
    }

    /// How things stand at `now`.
    pub async fn state(self, store: &Store, now: i64) -> Result<BrakeState, crate::store::Error> {
        let sweep = store.sweep(now - self.window).await?;
        let held = if is_too_much(sweep) { sweep.wanted } else { 0 };
        Ok(BrakeState { held, live: sweep.live })
    }

    /// Lets go on what is wanted now; returns it.
    pub async fn release(
        self,
        store: &Store,
        health: &Health,
        now: i64,
    ) -> Result<Vec<Removal>, crate::store::Error> {
        let released = store.release_removals().await?;
        tracing::warn!(removals = released.len(), "an operator lets removals go on");
        self.review(store, health, now).await?;
        let keys: Vec<_> = released.iter().map(|removal| WorkKey::Preview(removal.key)).collect();
        store.enqueue(&keys, now).await?;
        Ok(released)
    }

    /// Says when the brake comes in and when it opens; to the log once, whichever replica sees it first.
    pub(super) async fn review(
        self,
        store: &Store,
        health: &Health,
        now: i64,
    ) -> Result<Sweep, crate::store::Error> {
        let sweep = store.sweep(now - self.window).await?;
        let held = is_too_much(sweep).then(|| {
            Warning::new(
                "brake",
                "removals are held, for they are many at once",
                "see `greenroom brake`; mend the cause, or let them go on with `greenroom brake --release`",
            )
        });
        health.set("brake", held.into_iter().collect());
        if is_too_much(sweep) {
            if store.note(ENGAGED, "engaged").await? {
                tracing::error!(
                    removals = sweep.wanted,
                    previews = sweep.live,
                    "the brake holds removals, for they are many at once; see `greenroom brake`"
                );
            }
        } else if store.forget(ENGAGED).await? {
            tracing::warn!("the brake is open again");
        }
        Ok(sweep)
    }

    /// Pure: what becomes of the removal `mine` of this sweep. `behind` says that looks which were due when it was wanted
    /// have not come to their end.
    const fn verdict(self, mine: &Removal, sweep: Sweep, behind: bool, now: i64) -> Verdict {
        if mine.released {
            return Verdict::Go;
        }
        let is_small = sweep.live <= HARMLESS && sweep.wanted + sweep.gone <= HARMLESS;
        let own = match mine.cause {
            Cause::Orphan | Cause::Branch if self.resync > self.settle => self.resync,
            Cause::ProjectFile | Cause::Policy | Cause::Settings if is_small => 0,
            _ => self.settle,
        };
        if now < mine.since + own {
            return Verdict::Wait(mine.since + own);
        }
        if !is_small && now < mine.since + own + self.window {
            if now < sweep.newest + self.settle {
                return Verdict::Wait(sweep.newest + self.settle);
            }
            if behind {
                return Verdict::Wait(now + SOONEST);
            }
        }
        if is_too_much(sweep) { Verdict::Hold(sweep.wanted) } else { Verdict::Go }
    }
}

/// Whether so many are not to be believed.
const fn is_too_much(sweep: Sweep) -> bool {
    let all = sweep.wanted + sweep.gone;
    sweep.wanted > 0 && all > HARMLESS && all * 3 > sweep.live
}

/// Asks the brake about a decision, and turns it into "keep" when the brake holds.
pub(super) async fn ask(parts: &Parts, record: &mut Preview, decision: &mut Decision) -> Result<Word, Error> {
    let Some((cause, reason)) = counted(record, &decision.desired) else {
        forget(parts, record.key).await?;
        return Ok(Word::GoOn);
    };
    // What is under way was let go before, and what removes nothing needs no leave.
    // What cannot be asked may be there.
    let status = parts.engines.status(&engines::place_of(record), record).await.ok();
    let removes = status.as_ref().is_none_or(|status| removes(record, &decision.desired, status));
    if record.state == State::Stopping || !removes {
        return Ok(Word::GoOn);
    }
    let now = parts.clock.now();
    let state = status.as_ref().map_or(record.state, |status| state_of_held(record.state, status));
    let sha = record.sha.clone();
    // A lifetime ends all the same, and does not count.
    let wanted = Desired::Keep(state, Reason::RemovalWanted(reason.clone()));
    let mut kept = Decision { desired: wanted, ..decision.clone() };
    kept.expire(record, now);
    if matches!(kept.desired, Desired::Gone(_)) {
        *decision = kept;
        forget(parts, record.key).await?;
        return Ok(Word::GoOn);
    }
    let mine = parts.store.want_removal(record.key, cause, &reason, now).await?;
    let sweep = parts.brake.review(&parts.store, &parts.health, now).await?;
    let behind = parts.store.is_behind(mine.since, record.key).await?;
    let verdict = parts.brake.verdict(&mine, sweep, behind, now);
    tracing::info!(mr.key = %record.key, reason, ?verdict, "asked the brake");
    match verdict {
        Verdict::Go => Ok(Word::GoOn),
        Verdict::Wait(until) => {
            record.enter(state, &Reason::RemovalWanted(reason), sha.as_ref());
            Ok(Word::Wait(until))
        }
        Verdict::Hold(count) => {
            let reason = Reason::RemovalHeld(usize::try_from(count).unwrap_or_default(), reason);
            decision.desired = Desired::Keep(state, reason);
            Ok(Word::Held(now + parts.brake.resync.max(SOONEST)))
        }
    }
}

/// Once a look has come to its end: what was done is done.
pub(super) async fn settle(
    parts: &Parts,
    record: &Preview,
    word: Word,
    next: Result<Next, Error>,
) -> Result<Next, Error> {
    let is_over = matches!(record.state, State::Stopped | State::Skipped);
    if is_over && word == Word::GoOn && next.is_ok() {
        parts.store.removal_is_done(record.key, parts.clock.now()).await?;
    }
    match (word, next) {
        (Word::Held(at), Ok(Next::Rest)) => Ok(Next::At(at)),
        (Word::Held(at), Ok(Next::At(other))) => Ok(Next::At(other.min(at))),
        (_, next) => next,
    }
}

/// Nothing is to be removed any more, or for a reason that does not count.
pub(super) async fn forget(parts: &Parts, key: PreviewKey) -> Result<(), Error> {
    if parts.store.drop_removal(key).await? {
        parts.brake.review(&parts.store, &parts.health, parts.clock.now()).await?;
    }
    Ok(())
}

/// What a removal counts as, and why it is wanted; `None` when it never counts.
fn counted(record: &Preview, desired: &Desired) -> Option<(Cause, String)> {
    let Desired::Gone(reason) = desired else { return None };
    let orphan = record.found_at.is_some() && matches!(reason, Reason::Closed | Reason::Merged);
    let cause = if orphan { Some(Cause::Orphan) } else { reason.cause() };
    cause.map(|cause| (cause, reason.to_string()))
}

/// Whether the decision takes anything away.
fn removes(record: &Preview, desired: &Desired, status: &Status) -> bool {
    let steps = plan(desired, record, status);
    steps.iter().any(|step| matches!(step, Step::StopEngine | Step::RemoveEnvironment))
}

/// The state of a preview that nobody works on any more: a deploy that was under way has come to its end.
const fn state_of_held(state: State, status: &Status) -> State {
    match (state, &status.pending, &status.serving) {
        (State::Deploying, None, Some(_)) => State::Ready,
        (State::Deploying, None, None) => State::Waiting,
        (State::Deploying, Some((_, _, Progress::Failed(_) | Progress::Trouble(_))), _) => State::Failed,
        _ => state,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BRAKE: Brake = Brake { settle: 3, window: 600, resync: 300 };

    fn wanted(cause: Cause, since: i64) -> Removal {
        Removal { key: PreviewKey::of_mr(42, 7), cause, reason: String::new(), since, released: false }
    }

    #[test]
    fn a_removal_waits_until_all_that_belongs_to_it_is_known() {
        let file = wanted(Cause::ProjectFile, 100);
        let orphan = wanted(Cause::Orphan, 100);
        let branch = wanted(Cause::Branch, 100);
        let released = Removal { released: true, ..file.clone() };
        let sweep = |wanted, gone, newest, live| Sweep { wanted, gone, newest, live };
        for (mine, sweep, behind, now, verdict) in [
            // Too few to hold anything.
            (&file, sweep(1, 0, 100, 3), true, 100, Verdict::Go),
            (&file, sweep(1, 2, 100, 3), true, 100, Verdict::Go),
            // One of many: after the settle time.
            (&file, sweep(1, 0, 100, 20), false, 102, Verdict::Wait(103)),
            (&file, sweep(1, 0, 100, 20), false, 103, Verdict::Go),
            (&file, sweep(2, 0, 102, 20), false, 103, Verdict::Wait(105)),
            (&file, sweep(2, 0, 100, 20), true, 103, Verdict::Wait(103 + SOONEST)),
            // Not for ever.
            (&file, sweep(2, 0, 703, 20), true, 703, Verdict::Go),
            // More than three, and more than a third.
            (&file, sweep(3, 0, 100, 3), false, 103, Verdict::Go),
            (&file, sweep(3, 0, 100, 4), false, 103, Verdict::Go),
            (&file, sweep(4, 0, 100, 4), false, 103, Verdict::Hold(4)),
            (&file, sweep(4, 0, 100, 11), false, 103, Verdict::Hold(4)),
            (&file, sweep(4, 0, 100, 12), false, 103, Verdict::Go),
            (&file, sweep(2, 2, 100, 11), false, 103, Verdict::Hold(2)),
            (&file, sweep(2, 2, 100, 12), false, 103, Verdict::Go),
            (&released, sweep(9, 9, 100, 9), true, 100, Verdict::Go),
            // An orphan has to be seen by two sweeps, and the deletion of a branch by two looks.
            (&orphan, sweep(1, 0, 100, 20), false, 399, Verdict::Wait(400)),
            (&orphan, sweep(1, 0, 100, 20), false, 400, Verdict::Go),
            (&branch, sweep(1, 0, 100, 1), true, 399, Verdict::Wait(400)),
            (&branch, sweep(1, 0, 100, 1), true, 400, Verdict::Go),
            (&orphan, sweep(1, 0, 100, 1), true, 399, Verdict::Wait(400)),
            (&orphan, sweep(1, 0, 100, 1), true, 400, Verdict::Go),
            (&orphan, sweep(4, 0, 100, 0), false, 400, Verdict::Hold(4)),
        ] {
            assert_eq!(BRAKE.verdict(mine, sweep, behind, now), verdict, "{mine:?} {sweep:?} {behind} {now}");
        }
    }

    proptest! {
        /// However they are spread over a window, and in whatever order they are asked for.
        #[test]
        fn without_leave_a_window_never_takes_more_than_three_or_a_third(
            live in 0_i64..60, comes in prop::collection::vec((0_i64..50, any::<bool>()), 1..60),
        ) {
            let mut sweep = Sweep { live, ..Sweep::default() };
            let (mut now, mut open) = (1_000, Vec::new());
            for (pause, behind) in comes.into_iter().take(usize::try_from(live).unwrap()) {
                now += pause.min(BRAKE.window / 60);
                open.push(wanted(Cause::ProjectFile, now));
                sweep.wanted += 1;
                sweep.newest = now;
                open.retain(|mine| {
                    let goes = BRAKE.verdict(mine, sweep, behind, now) == Verdict::Go;
                    sweep.wanted -= i64::from(goes);
                    sweep.gone += i64::from(goes);
                    !goes
                });
                prop_assert!(sweep.gone <= HARMLESS.max(live / 3), "{sweep:?}");
            }
        }
    }
}
