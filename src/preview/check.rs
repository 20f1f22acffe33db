//! How a project's own checks of what serves come out.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::facts::Sha;
use super::record::Release;

/// The checks of one revision, asked once: another revision has another run, and so has a refresh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckRun {
    /// Unique.
    pub id: String,
    /// Head commit of the revision.
    pub sha: Sha,
    /// Its digest.
    pub digest: String,
    /// Each check, in the order of the project file.
    pub checks: Vec<CheckResult>,
}

/// One check, as far as it has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckResult {
    /// What is asked, such as ``GET `/healthz` ``.
    pub name: String,
    /// How it stands.
    pub state: CheckState,
    /// What was found, in words without a full stop, Markdown-safe; empty while it is asked.
    pub reason: String,
    /// The last lines that a program wrote, oldest first, each as [`shown_line`](super::shown_line) makes it.
    #[serde(default)]
    pub lines: Vec<String>,
    /// How long it took, milliseconds.
    pub took_ms: Option<i64>,
}

/// How a check stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckState {
    /// It is being asked.
    Running,
    /// It found what it expects.
    Passed,
    /// It did not.
    Failed,
}

impl CheckRun {
    /// A run of checks with these names that nothing is known of yet.
    pub fn new(id: String, release: &Release, names: impl IntoIterator<Item = String>) -> Self {
        let checks = names.into_iter().map(CheckResult::running).collect();
        Self { id, sha: release.sha.clone(), digest: release.digest.clone(), checks }
    }

    /// Whether it asks the revision that was handed over with `release`.
    pub fn is_of(&self, release: &Release) -> bool {
        self.sha == release.sha && self.digest == release.digest
    }

    /// Whether any of them has not come to its end.
    pub fn is_running(&self) -> bool {
        self.checks.iter().any(|check| check.state == CheckState::Running)
    }

    /// Those that failed.
    pub fn failed(&self) -> impl Iterator<Item = &CheckResult> {
        self.checks.iter().filter(|check| check.state == CheckState::Failed)
    }

    /// All of them in a few words, such as `1 of 2 checks failed`; `None` while some are being asked.
    pub fn summary(&self) -> Option<String> {
        if self.is_running() {
            return None;
        }
        let (all, failed) = (self.checks.len(), self.failed().count());
        let checks = if all == 1 { "check" } else { "checks" };
        Some(match failed {
            0 => format!("{all} {checks} passed"),
            _ => format!("{failed} of {all} {checks} failed"),
        })
    }

    /// What has come to its end here and not in `before`, in words.
    pub fn news<'a>(&'a self, before: Option<&'a Self>) -> impl Iterator<Item = String> + 'a {
        let before = before.filter(|before| before.id == self.id);
        let known = move |at: usize, check: &CheckResult| {
            check.state == CheckState::Running
                || before.is_some_and(|before| before.checks.get(at) == Some(check))
        };
        self.checks
            .iter()
            .enumerate()
            .filter(move |(at, check)| !known(*at, check))
            .map(|(_, check)| check.to_string())
    }
}

impl CheckResult {
    /// One that is being asked.
    pub const fn running(name: String) -> Self {
        Self { name, state: CheckState::Running, reason: String::new(), lines: Vec::new(), took_ms: None }
    }
}

/// As in a line of history: ``GET `/healthz` failed: it answered with 500 instead of 200``.
impl fmt::Display for CheckResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, reason, .. } = self;
        match self.state {
            CheckState::Running => write!(f, "{name} is being asked"),
            CheckState::Passed => write!(f, "{name} passed: {reason}"),
            CheckState::Failed => write!(f, "{name} failed: {reason}"),
        }
    }
}
