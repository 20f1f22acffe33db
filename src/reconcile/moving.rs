//! From one place to another: the project asks for another engine, or the operator names another cluster.
//!
//! Properties:
//! * The record remembers every place where something may be, before anything is made at the new one.
//! * What serves at the old place goes once the new one serves, and no sooner.
//! * A place that cannot be asked, or that the settings do not name any more, is kept in mind and tried again.
//! * One cluster under two names is one place: what would be removed is the very thing that serves.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::controller::Parts;
use super::engines::places_of;
use crate::preview::{Place, Preview, PreviewKey};

/// What a sweep found at places where the record knows of nothing: left behind by a move that the store has forgotten. Kept in
/// memory, for the next sweep finds it again. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Strays(Arc<Mutex<HashMap<PreviewKey, Vec<Place>>>>);

impl Strays {
    /// Something of `key` is at `place`.
    pub(super) fn add(&self, key: PreviewKey, place: Place) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default().push(place);
    }

    /// Lets the record know of it.
    pub(super) fn take_up(&self, record: &mut Preview) {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&record.key);
        for place in found.into_iter().flatten() {
            if !places_of(record).contains(&place) {
                record.leaving.push(place);
            }
        }
    }
}

/// Removes a preview from every place where something of it may be. Returns what is left, in words; nothing of one place
/// keeps another from being cleared.
pub(super) async fn stop_everywhere(parts: &Parts, record: &mut Preview) -> Vec<String> {
    let mut left = Vec::new();
    for place in places_of(record) {
        let remains = parts.engines.stop(&place, record).await;
        if remains.is_empty() {
            record.leaving.retain(|other| *other != place);
        }
        left.extend(remains);
    }
    left
}

/// Clears the places that a preview has left, now that it serves at `place`.
pub(super) async fn leave(parts: &Parts, record: &mut Preview, place: &Place) -> Vec<String> {
    let mut left = Vec::new();
    for old in record.leaving.clone() {
        let remains = if parts.engines.are_one(&old, place) {
            Vec::new()
        } else {
            parts.engines.stop(&old, record).await
        };
        if remains.is_empty() {
            tracing::info!(mr.key = %record.key, place.before = %old, %place, "moved");
            record.leaving.retain(|other| *other != old);
        }
        left.extend(remains);
    }
    left
}
