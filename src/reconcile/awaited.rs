//! Whose engine events are waited for by a look, and so are no reason for another one.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::preview::PreviewKey;

/// The merge requests whose engine events a look waits for. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Awaited(Arc<Mutex<HashSet<PreviewKey>>>);

impl Awaited {
    /// Whether a look waits for this merge request's events.
    pub(super) fn has(&self, key: PreviewKey) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&key)
    }

    /// Takes the events of `key` until the watch is dropped. Begun before the engine is given anything to do.
    pub(super) fn watch(&self, key: PreviewKey, events: Receiver<PreviewKey>) -> Watch {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
        Watch { awaited: self.clone(), key, events }
    }
}

/// See [`Awaited::watch`].
pub(super) struct Watch {
    awaited: Awaited,
    key: PreviewKey,
    events: Receiver<PreviewKey>,
}

impl Watch {
    /// Waits for an event, at most `patience`. Ask the engine afterwards: from here on its events are hints again.
    pub(super) async fn event(mut self, patience: Duration) {
        let ours = async {
            loop {
                match self.events.recv().await {
                    Ok(key) if key == self.key => return,
                    Ok(_) => {}
                    Err(RecvError::Lagged(_) | RecvError::Closed) => return,
                }
            }
        };
        // Without an event in time the next look is the engine's or the timer's to ask for.
        let _ = tokio::time::timeout(patience, ours).await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.awaited.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}
