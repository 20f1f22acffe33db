//! From a decision to what the engine has afterwards: plans, and does the steps.

use std::time::Duration;

use super::controller::Parts;
use super::desired::Desired;
use super::engines::place_of;
use super::look::{Error, keep};
use super::plan::{Step, plan};
use super::{apply, moving, places, unreachable};
use crate::engine::{Progress, Status};
use crate::preview::{Preview, ProjectRules, Reason, Sha, State};
use crate::telemetry::Deployed;

/// How long a look waits for an engine that is nearly done, so that people are told once instead of twice.
const SETTLE: Duration = Duration::from_millis(300);

/// How acting came out.
pub(super) struct Acted {
    /// What the engine has now.
    pub(super) status: Status,
    /// What a removal has left, in words.
    pub(super) left: Vec<String>,
    /// Whether the merge request moved on meanwhile, or its place was taken, so that nothing was deployed.
    pub(super) head_moved: bool,
    /// What is not there yet, so that nothing was deployed.
    pub(super) waits: Option<Reason>,
    /// What is left at the places that it moved away from, in words.
    pub(super) remains: Vec<String>,
}

impl Acted {
    /// Nothing but what the engine has.
    pub(super) const fn of(status: Status) -> Self {
        Self { status, left: Vec::new(), head_moved: false, waits: None, remains: Vec::new() }
    }
}

/// Plans and does the steps.
pub(super) async fn act(
    parts: &Parts,
    record: &mut Preview,
    saved: &mut Option<Preview>,
    desired: &Desired,
    head: Option<&Sha>,
    rules: &ProjectRules,
) -> Result<Acted, Error> {
    let place = match desired {
        Desired::Run(target) => target.place.clone(),
        _ => place_of(record),
    };
    if matches!(desired, Desired::Gone(_)) && !parts.engines.has(&place) {
        return unreachable::stop(parts, record, saved, desired, head).await;
    }
    let watch = parts.awaited.watch(record.key, parts.engines.at(&place)?.events());
    let status = match parts.engines.status(&place, record).await {
        Err(Error::Place { .. }) if matches!(desired, Desired::Gone(_)) => {
            return unreachable::stop(parts, record, saved, desired, head).await;
        }
        status => status?,
    };
    settle(parts, record, &status);
    let steps = plan(desired, record, &status);
    let deploys = steps.iter().any(|step| matches!(step, Step::Deploy(_)));
    // Told before it is begun: a crash in between leaves no state behind that never was.
    let begun = match desired {
        // Once: while something is left, the reason names it.
        Desired::Gone(reason) if !steps.is_empty() && record.state != State::Stopping => {
            record.environment_seen = false;
            Some((State::Stopping, reason.clone()))
        }
        // What is tried again is not told again; only its outcome is.
        Desired::Run(target)
            if deploys
                && status.drifted.is_empty()
                && !matches!(progress(&status), Some(Progress::Trouble(_))) =>
        {
            Some((State::Deploying, Reason::Deploying(target.sha.clone())))
        }
        _ => None,
    };
    let mut acted = Acted::of(status);
    if let Some((state, reason)) = begun {
        let untold = record.clone();
        record.enter(state, &reason, head);
        if deploys && !places::take(parts, record, saved, rules).await? {
            *record = untold;
            acted.head_moved = true;
            return Ok(acted);
        }
        keep(parts, record, saved).await?;
    }

    for step in &steps {
        match apply::step(parts, record, saved, step).await? {
            apply::Done::Yes => {}
            apply::Done::Left(remains) => {
                acted.left = remains;
                break;
            }
            apply::Done::Waits(reason) => {
                acted.waits = Some(reason);
                return Ok(acted);
            }
            apply::Done::HeadMoved => {
                acted.head_moved = true;
                return Ok(acted);
            }
        }
    }

    if deploys && progress(&parts.engines.status(&place, record).await?) == Some(&Progress::Working) {
        watch.event(SETTLE).await;
    } else {
        drop(watch);
    }
    acted.status = parts.engines.status(&place, record).await?;
    settle(parts, record, &acted.status);
    if deploys {
        let ends = |step: &Step| matches!(step, Step::FinishDeployment(_));
        for step in plan(desired, record, &acted.status).into_iter().filter(ends) {
            apply::step(parts, record, saved, &step).await?;
        }
    }
    let serves = acted.status.serving.is_some() && acted.status.pending.is_none();
    if serves && matches!(desired, Desired::Run(_)) && !record.leaving.is_empty() {
        acted.remains = moving::leave(parts, record, &place).await;
    }
    Ok(acted)
}

/// As [`apply::settle`], and counts what came to its end.
fn settle(parts: &Parts, record: &mut Preview, status: &Status) {
    if apply::settle(record, status, parts.clock.now()) {
        let failed = record.release.as_ref().is_some_and(|release| release.failure.is_some());
        parts.count_deploy(record, if failed { Deployed::Failed } else { Deployed::Ready });
    }
}

fn progress(status: &Status) -> Option<&Progress> {
    status.pending.as_ref().map(|(_, _, progress)| progress)
}
