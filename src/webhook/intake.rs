//! What the route works with: secrets, the served projects, the store, the clock, and counts of what came in.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::suspects::Suspects;
use super::verify::Secrets;
use crate::clock::Clock;
use crate::store::Store;
use crate::telemetry::Warning;

/// Tells whether the project with this path is served.
pub type Projects = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// Everything a delivery needs on its way into the store. Shared by all workers as `web::Data<Intake>`.
pub struct Intake {
    secrets: RwLock<Arc<Secrets>>,
    pub(super) projects: Projects,
    pub(super) store: Store,
    pub(super) clock: Clock,
    counts: [AtomicU64; Outcome::ALL.len()],
    suspects: Suspects,
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intake").field("counts", &self.counts).finish_non_exhaustive()
    }
}

impl Intake {
    /// An intake that believes deliveries proven by `secrets` and keeps hints for `projects` in `store`.
    pub fn new(secrets: Secrets, projects: Projects, store: Store, clock: Clock) -> Self {
        let secrets = RwLock::new(Arc::new(secrets));
        Self { secrets, projects, store, clock, counts: Default::default(), suspects: Suspects::default() }
    }

    /// Replaces the secrets. A delivery that is being received keeps the ones it began with.
    pub fn reload(&self, secrets: Secrets) {
        *self.secrets.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(secrets);
    }

    pub(super) fn secrets(&self) -> Arc<Secrets> {
        Arc::clone(&self.secrets.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts one delivery. Every one is counted exactly once.
    pub(super) fn count(&self, outcome: Outcome) {
        self.counts[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Remembers what a hook did that it should not; `path` is its project's, where that is known.
    pub(super) fn suspect(&self, outcome: Outcome, path: Option<&str>) {
        self.suspects.note(outcome, path, self.clock.now());
    }

    /// What hooks did lately that they should not.
    pub(super) fn suspects(&self) -> Vec<Warning> {
        self.suspects.warnings(self.clock.now())
    }

    /// How many deliveries had each outcome since the start.
    pub fn counts(&self) -> impl Iterator<Item = (Outcome, u64)> {
        Outcome::ALL
            .into_iter()
            .zip(&self.counts)
            .map(|(outcome, count)| (outcome, count.load(Ordering::Relaxed)))
    }
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Stored; somebody is looked at.
    Look,
    /// Stored; nothing is to be done.
    Irrelevant,
    /// Stored; of a project that is not served here.
    Foreign,
    /// Stored; a kind of event we do not know.
    Unknown,
    /// Stored; a payload we cannot use.
    Unreadable,
    /// Stored before.
    Repeated,
    /// Not proven to be GitLab's.
    Refused,
    /// Over the limit.
    TooLarge,
    /// The sender stopped half-way.
    Interrupted,
    /// The store could not keep it.
    Unstored,
}

impl Outcome {
    /// All of them, in the order of declaration.
    pub const ALL: [Self; 10] = [
        Self::Look,
        Self::Irrelevant,
        Self::Foreign,
        Self::Unknown,
        Self::Unreadable,
        Self::Repeated,
        Self::Refused,
        Self::TooLarge,
        Self::Interrupted,
        Self::Unstored,
    ];

    /// The name used in logs, in metrics and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Look => "look",
            Self::Irrelevant => "irrelevant",
            Self::Foreign => "foreign",
            Self::Unknown => "unknown",
            Self::Unreadable => "unreadable",
            Self::Repeated => "repeated",
            Self::Refused => "refused",
            Self::TooLarge => "too_large",
            Self::Interrupted => "interrupted",
            Self::Unstored => "unstored",
        }
    }
}
