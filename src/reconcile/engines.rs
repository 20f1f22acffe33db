//! Everything that runs previews, by place.
//!
//! Properties:
//! * A place that the settings do not name (any more) is an error, never nothing: what is there is not forgotten.
//! * What one place cannot tell says nothing of another.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::look::Error;
use crate::engine::{Engine, Status};
use crate::preview::{EngineKind, Place, Preview};

/// The engines there are. Cheap to clone.
#[derive(Clone)]
pub struct Engines(Arc<BTreeMap<Place, Arc<dyn Engine>>>);

impl Engines {
    /// These, each at its place; where two places are one, it is the same one.
    pub fn new(engines: impl IntoIterator<Item = (Place, Arc<dyn Engine>)>) -> Self {
        Self(Arc::new(engines.into_iter().collect()))
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Place, &Arc<dyn Engine>)> {
        self.0.iter()
    }

    /// Whether there is this place.
    pub(super) fn has(&self, place: &Place) -> bool {
        self.0.contains_key(place)
    }

    /// The names of the clusters there are.
    pub(super) fn clusters(&self) -> Vec<String> {
        self.0.keys().filter_map(|place| place.cluster.clone()).collect()
    }

    /// Whether two places are one: a cluster under two names.
    pub(super) fn are_one(&self, place: &Place, other: &Place) -> bool {
        self.0.get(place).zip(self.0.get(other)).is_some_and(|(engine, other)| Arc::ptr_eq(engine, other))
    }

    /// The engine at a place.
    pub(super) fn at(&self, place: &Place) -> Result<&Arc<dyn Engine>, Error> {
        self.0.get(place).ok_or_else(|| Error::NoPlace(place.clone()))
    }

    /// What is there of a preview at a place.
    pub(super) async fn status(&self, place: &Place, record: &Preview) -> Result<Status, Error> {
        let status = self.at(place)?.status(&record.name).await;
        status.map_err(|error| Error::engine(place, error))
    }

    /// The last lines that a preview's programs wrote, at most `most`, oldest first.
    ///
    /// # Errors
    /// Where it runs is not in the settings, or cannot be asked; one sentence for whoever asked.
    pub async fn app_log(&self, record: &Preview, most: usize) -> Result<Vec<String>, String> {
        let place = place_of(record);
        let lines = match self.at(&place) {
            Ok(engine) => engine.logs(&record.name, most).await.map_err(|error| Error::engine(&place, error)),
            Err(error) => Err(error),
        };
        lines.map_err(|error| error.to_string())
    }

    /// Removes a preview from a place. Returns what is left, in words; an engine that cannot be asked may have all of it.
    pub(super) async fn stop(&self, place: &Place, record: &Preview) -> Vec<String> {
        let stopped = match self.at(place) {
            Ok(engine) => engine.stop(&record.name).await.map_err(|error| Error::engine(place, error)),
            Err(error) => Err(error),
        };
        stopped.unwrap_or_else(|error| vec![error.to_string()])
    }
}

/// Every place where something of a preview may be.
pub(super) fn places_of(record: &Preview) -> Vec<Place> {
    std::iter::once(place_of(record)).chain(record.leaving.iter().cloned()).collect()
}

/// Where a record without a place is looked for: there was one engine before there were places.
pub(super) fn place_of(record: &Preview) -> Place {
    record.place().unwrap_or(Place::STATIC)
}

impl Error {
    /// An engine's error, with where it is. The machine's own engine needs no name.
    pub(super) fn engine(place: &Place, error: crate::engine::Error) -> Self {
        match place.engine {
            EngineKind::Static => Self::Engine(error),
            EngineKind::Kubernetes => Self::Place { place: place.clone(), error },
        }
    }
}
