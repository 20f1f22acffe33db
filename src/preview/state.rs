//! The states of a preview, as the API, the comment and the metrics name them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where the preview of a merge request's *head* stands. What answers right now may be an older release.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Something is not there yet: a pipeline, a job, an artifact.
    Waiting,
    /// The engine is bringing the head up.
    Deploying,
    /// The head is served.
    Ready,
    /// Scaled to nothing by the operator, until it is woken, refreshed or pushed to.
    Asleep,
    /// The head cannot be served; the last good release may still be.
    Failed,
    /// Being removed.
    Stopping,
    /// Removed, and seen to be gone.
    Stopped,
    /// A policy excludes this merge request.
    Skipped,
}

impl State {
    /// Every state, in the order of a preview's life.
    pub const ALL: [Self; 8] = [
        Self::Waiting,
        Self::Deploying,
        Self::Ready,
        Self::Asleep,
        Self::Failed,
        Self::Stopping,
        Self::Stopped,
        Self::Skipped,
    ];

    /// The name used in the API, in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Deploying => "deploying",
            Self::Ready => "ready",
            Self::Asleep => "asleep",
            Self::Failed => "failed",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Skipped => "skipped",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
