//! Whether the webhooks of a project still come: a resync that finds what no delivery told of is the sign that they do
//! not.
//!
//! Races, and what was decided:
//! * *The resync is faster than the delivery.* A change counts only once it is older than a grace period.
//! * *Another replica took the delivery.* When a project delivered last is asked of the store.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::health::Warning;

/// How long before a change a delivery may have come and still speak for the hook, milliseconds.
const AROUND: i64 = 3_600_000;

/// The projects whose changes no delivery told of. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Webhooks(Arc<Mutex<BTreeMap<u64, Found>>>);

#[derive(Debug)]
struct Found {
    path: String,
    at: i64,
}

impl Webhooks {
    /// The resync found a change in a project at this time, Unix milliseconds. Calls to come are of no matter until the
    /// project delivers.
    pub fn resync_found_changes(&self, project: u64, path: &str, at: i64) {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        found.entry(project).or_insert_with(|| Found { path: path.to_owned(), at });
    }

    /// One warning for each project that has been silent for longer than `grace` (milliseconds) since a change was
    /// found. `delivered` tells when a project delivered last.
    pub fn silent(&self, delivered: impl Fn(u64) -> Option<i64>, now: i64, grace: i64) -> Vec<Warning> {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        found.retain(|project, found| delivered(*project).is_none_or(|last| last < found.at - AROUND));
        let silent = found.values().filter(|found| now - found.at > grace);
        silent
            .map(|found| {
                Warning::new(
                    "webhook_silent",
                    format!("no webhook comes from `{}`, though the resync found changes there", found.path),
                    "look at the webhook's page in GitLab (Settings → Webhooks → Edit → Recent events): enable it \
                     again, or correct its URL, token and triggers",
                )
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;
    const GRACE: i64 = 60_000;

    #[test]
    fn silence_counts_once_a_change_is_old_enough_and_ends_with_a_delivery() {
        let at = 10 * HOUR;
        for (last, now, warned) in [
            (None, at + GRACE + 1, true),
            (Some(at - 2 * HOUR), at + GRACE + 1, true),
            (Some(at - 2 * HOUR), at + GRACE, false),
            (Some(at - HOUR / 2), at + GRACE + 1, false),
            (Some(at + 1), at + GRACE + 1, false),
        ] {
            let webhooks = Webhooks::default();
            webhooks.resync_found_changes(42, "acme/web", at);
            webhooks.resync_found_changes(42, "acme/web", at + HOUR);
            let warnings = webhooks.silent(|_| last, now, GRACE);
            assert_eq!(warnings.len(), usize::from(warned), "{last:?} {now}");
        }
    }

    #[test]
    fn what_a_delivery_has_explained_is_forgotten() {
        let webhooks = Webhooks::default();
        webhooks.resync_found_changes(42, "acme/web", 10 * HOUR);
        assert_eq!(webhooks.silent(|_| Some(10 * HOUR), 11 * HOUR, GRACE), []);
        assert_eq!(webhooks.silent(|_| None, 11 * HOUR, GRACE), []);
    }
}
