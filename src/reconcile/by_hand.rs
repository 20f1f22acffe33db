//! A person stops an environment in GitLab's own page. There is no webhook for it.

use super::apply;
use super::controller::Parts;
use super::look::Error;
use crate::gitlab::EnvironmentState;
use crate::preview::{Hold, HoldOrigin, MergeRequest, Preview, State};

/// Works into the record that a person stopped the environment.
///
/// Our own stop is no such case: `stopping` was saved before it. Nor is GitLab's own at the end of a merge request,
/// which a reopen takes back.
pub(super) async fn notice(
    parts: &Parts,
    record: &mut Preview,
    now: &MergeRequest,
    reopened: bool,
) -> Result<(), Error> {
    let ending =
        record.held_by_operator().is_some() || matches!(record.state, State::Stopping | State::Stopped);
    if record.environment_id.is_none() || ending {
        return Ok(());
    }
    let Some(shown) = apply::unless_refused(parts.reporter.environment(record).await)? else {
        return Ok(());
    };
    match shown.map(|environment| environment.state) {
        Some(EnvironmentState::Available) => record.environment_seen = true,
        Some(EnvironmentState::Stopped) | None if reopened => {
            apply::unless_refused(parts.reporter.renew_environment(record).await)?;
        }
        // Pushed to since we last looked: that may have been after the stop, and then the new head counts.
        Some(EnvironmentState::Stopped) if record.environment_seen && record.sha != now.sha => {
            apply::unless_refused(parts.reporter.renew_environment(record).await)?;
        }
        // A stop job that cannot run must hold nothing up.
        Some(EnvironmentState::Stopping) if reopened || record.sha != now.sha => {}
        Some(EnvironmentState::Stopped | EnvironmentState::Stopping) if record.environment_seen => {
            record.hold =
                Some(Hold { sha: now.sha.clone(), since: parts.clock.now(), origin: HoldOrigin::Gitlab });
        }
        Some(_) => {}
        // Somebody deleted it, or the token lost sight of it: the next deploy makes a new one.
        None => record.environment_id = None,
    }
    Ok(())
}
