//! What an operator should know though everything goes on: found by several parts, told in one place.
//!
//! Properties:
//! * A finding is logged once when it appears and once when it clears, however often it is found in between.
//! * A finding is what its source, code and text say. So a text names nothing that changes by itself, such as a number of
//!   days left; a time is better.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::webhooks::Webhooks;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Warning {
    /// For scripts and metrics: a fixed word. Each is explained in `docs/operations.md`.
    pub code: &'static str,
    /// What is wrong, in one sentence without a full stop.
    pub text: String,
    /// What to do about it.
    pub remedy: String,
}

impl Warning {
    /// A warning. `code` is a literal, so that a test finds it and looks it up in the documentation.
    pub fn new(code: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { code, text: text.into(), remedy: remedy.into() }
    }
}

/// A warning that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// What it says.
    pub warning: Warning,
    /// When it was found first, Unix milliseconds.
    pub since: i64,
}

/// All warnings that stand. Cheap to clone.
#[derive(Clone)]
pub struct Health {
    inner: Arc<Inner>,
    /// Whether webhooks still come.
    pub webhooks: Webhooks,
}

struct Inner {
    now: Box<dyn Fn() -> i64 + Send + Sync>,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    standing: BTreeMap<(&'static str, Warning), i64>,
    codes: BTreeSet<&'static str>,
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health").finish_non_exhaustive()
    }
}

impl Health {
    /// Nothing found yet. `now` reads the time, Unix milliseconds.
    pub fn new(now: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        let inner = Inner { now: Box::new(now), found: Mutex::default() };
        Self { inner: Arc::new(inner), webhooks: Webhooks::default() }
    }

    /// What `source` finds now, all of it; what it found before and does not any more is over.
    pub fn set(&self, source: &'static str, warnings: Vec<Warning>) {
        let mut found = self.found();
        found.codes.extend(warnings.iter().map(|warning| warning.code));
        let now: BTreeSet<_> = warnings.into_iter().map(|warning| (source, warning)).collect();
        found.standing.retain(|known, _| {
            let stands = known.0 != source || now.contains(known);
            if !stands {
                tracing::info!(warning.code = known.1.code, "no longer: {}", known.1.text);
            }
            stands
        });
        for warning in now {
            found.standing.entry(warning).or_insert_with_key(|(_, Warning { code, text, remedy })| {
                tracing::warn!(warning.code = code, remedy, "{text}");
                (self.inner.now)()
            });
        }
    }

    /// Everything that stands, by code.
    pub fn standing(&self) -> Vec<Standing> {
        let mut all: Vec<_> = self
            .found()
            .standing
            .iter()
            .map(|((_, warning), since)| Standing { warning: warning.clone(), since: *since })
            .collect();
        all.sort_by(|a, b| a.warning.cmp(&b.warning));
        all
    }

    /// How many warnings of each code stand; zero for those that are over.
    pub fn counts(&self) -> Vec<(&'static str, i64)> {
        let found = self.found();
        let count = |code: &str| found.standing.keys().filter(|(_, warning)| warning.code == code).count();
        found.codes.iter().map(|code| (*code, i64::try_from(count(code)).unwrap_or(i64::MAX))).collect()
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.inner.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    fn warning(text: &str) -> Warning {
        Warning::new("odd", text, "mend it")
    }

    #[test]
    fn a_warning_stands_from_when_it_was_found_first_until_its_source_finds_it_no_more() {
        let time = Arc::new(AtomicI64::new(1));
        let clock = Arc::clone(&time);
        let health = Health::new(move || clock.load(Ordering::Relaxed));
        assert_eq!((health.standing(), health.counts()), (vec![], vec![]));

        health.set("a", vec![warning("one"), warning("two"), warning("two")]);
        time.store(2, Ordering::Relaxed);
        health.set("a", vec![warning("two"), warning("three")]);
        health.set("b", vec![warning("three")]);
        let standing = health.standing();
        let told: Vec<_> = standing.iter().map(|s| (s.warning.text.as_str(), s.since)).collect();
        assert_eq!(told, [("three", 2), ("three", 2), ("two", 1)]);
        assert_eq!(health.counts(), [("odd", 3)]);

        health.set("a", vec![]);
        health.set("b", vec![]);
        assert_eq!((health.standing(), health.counts()), (vec![], vec![("odd", 0)]));
    }
}
