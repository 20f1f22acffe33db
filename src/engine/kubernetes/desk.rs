//! What this process does for a preview: at most one order at a time, and a newer one overtakes it.

use std::sync::Arc;

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::super::Progress;
use crate::preview::{PreviewKey, Sha};

/// Where the orders of one preview lie.
#[derive(Debug, Default)]
pub(super) struct Desk {
    /// Held by whoever changes something in the cluster for this preview.
    pub turn: Arc<Mutex<()>>,
    /// The newest order that was given to this process.
    pub attempt: Option<Attempt>,
}

/// An order that was given to this process.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub key: PreviewKey,
    pub sha: Sha,
    pub digest: String,
    /// When, Unix milliseconds; no two of a preview have the same.
    pub at: i64,
    pub overtaken: CancellationToken,
    pub stage: Stage,
}

/// How far an order has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stage {
    /// It is being sent; what for the moment holds it up.
    Sending(Option<String>),
    /// All of it was sent. From here on the cluster knows.
    Sent,
    /// It was given up before all of it was sent.
    Ended(Progress),
}

impl Attempt {
    pub(super) fn is_sending(&self) -> bool {
        matches!(self.stage, Stage::Sending(_))
    }
}
