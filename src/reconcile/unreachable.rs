//! A cluster that cannot be asked: it is down, refuses us, or the settings do not name it any more.
//!
//! Nothing is forgotten and nothing is taken away for it. People are told why a deploy or a removal does not come to its
//! end; of what serves nobody is told, for it most likely goes on serving. The look fails, and is repeated.

use super::act::Acted;
use super::controller::Parts;
use super::desired::Desired;
use super::look::{Error, Next, keep};
use super::{apply, moving};
use crate::engine::Status;
use crate::preview::{Preview, Reason, Sha, State};
use crate::report::NoteCheck;

/// Tells what a look could not do, and fails with it.
pub(super) async fn tell(
    parts: &Parts,
    record: &mut Preview,
    saved: &mut Option<Preview>,
    desired: &Desired,
    head: Option<&Sha>,
    note: NoteCheck,
    error: Error,
) -> Result<Next, Error> {
    let serves = record.serving.as_ref().map(|serving| &serving.sha) == head && head.is_some();
    let (state, reason) = match desired {
        Desired::Leave => return Err(error),
        Desired::Keep(state, reason) => (*state, reason.clone()),
        Desired::Gone(_) => (State::Stopping, Reason::Leftover(error.to_string())),
        Desired::Run(_) if serves => {
            let asleep = record.sleeps_since().is_some();
            let state = if asleep { State::Asleep } else { State::Ready };
            (state, Reason::Unreachable(error.to_string()))
        }
        Desired::Run(_) => (State::Waiting, Reason::Unreachable(error.to_string())),
    };
    record.enter(state, &reason, head);
    record.at_rest = false;
    keep(parts, record, saved).await?;
    if !matches!(state, State::Ready | State::Asleep) {
        record.note_begun |= crate::report::note_is_due(state);
        apply::unless_refused(parts.reporter.comment(record, parts.clock.now(), note).await)?;
        keep(parts, record, saved).await?;
    }
    Err(error)
}

/// Removes what can be reached of a preview that is to go.
pub(super) async fn stop(
    parts: &Parts,
    record: &mut Preview,
    saved: &mut Option<Preview>,
    desired: &Desired,
    head: Option<&Sha>,
) -> Result<Acted, Error> {
    if let Desired::Gone(reason) = desired
        && record.state != State::Stopping
    {
        record.environment_seen = false;
        record.enter(State::Stopping, reason, head);
        keep(parts, record, saved).await?;
    }
    let left = moving::stop_everywhere(parts, record).await;
    Ok(Acted { left, ..Acted::of(Status::default()) })
}
