//! The sandbox's clock, and the four shapes in which GitLab writes a moment.
//!
//! REST answers use ISO 8601 with milliseconds. Webhooks use `2026-01-16 05:56:22 UTC` for most
//! objects, a numeric offset for deployments and seconds with an offset for commits.

use jiff::{SignedDuration, Timestamp};

/// A clock that tests can put forward (`POST /sandbox/clock`), so that nothing has to be waited for.
#[derive(Debug, Default)]
pub(super) struct Clock {
    ahead: SignedDuration,
}

impl Clock {
    pub(super) fn now(&self) -> Timestamp {
        #[expect(
            clippy::disallowed_methods,
            reason = "the sandbox is a world of its own, with its own clock"
        )]
        let now = Timestamp::now();
        now.checked_add(self.ahead).unwrap_or(now)
    }

    pub(super) fn advance(&mut self, by: SignedDuration) {
        self.ahead = self.ahead.saturating_add(by);
    }
}

/// `2021-02-23T02:41:37.886Z`, the shape of REST answers.
pub(super) fn iso(at: Timestamp) -> String {
    format!("{at:.3}")
}

/// `2026-01-16 05:56:22 UTC`, the shape of merge request, note and job webhooks.
pub(super) fn utc(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// `2021-04-28 21:50:00 +0000`, the shape of deployment webhooks.
pub(super) fn offset(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S +0000").to_string()
}

/// `2026-01-16T05:01:10+00:00`, the shape of commits inside webhooks.
pub(super) fn commit(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string()
}
