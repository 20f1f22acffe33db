//! What is told of a preview, from what the cluster and this process remember.

use super::super::{Error, Progress, Running, Status};
use super::Inner;
use super::assess::assess;
use super::cache::Place;
use super::desk::{Attempt, Stage};
use crate::preview::{PreviewName, Quoted, Sha};

impl Inner {
    /// What is there now. Asks the cluster nothing.
    pub(super) async fn status(&self, name: &PreviewName) -> Result<Status, Error> {
        if let Err(error) = self.read().await {
            // What this process is at is known even so.
            return match self.attempt(name).filter(Attempt::is_sending) {
                Some(attempt) => Ok(of_attempt(&attempt, None)),
                None => Err(error),
            };
        }
        let attempt = self.attempt(name);
        let cache = self.cache();
        let Some(place) = cache.places.get(name.as_str()) else {
            let attempt = attempt.filter(|attempt| attempt.stage != Stage::Sent);
            return Ok(attempt.map_or_else(Status::default, |attempt| of_attempt(&attempt, None)));
        };
        if let Some(attempt) = attempt.as_ref().filter(|attempt| attempt.stage != Stage::Sent) {
            return Ok(of_attempt(attempt, Some(place).filter(|place| !place.deleting)));
        }
        if place.deleting {
            return Ok(deleted(name, place));
        }
        let assessed = assess(&cache, name.as_str());
        let record = &place.record;
        let pending = record.order.as_ref().filter(|_| !record.is_ready()).map(|order| {
            let sent = attempt.is_some_and(|attempt| attempt.at == order.at);
            let progress = match record.failed() {
                Some(failure) => Progress::Failed(failure.why.clone()),
                None if assessed.partial && !sent => Progress::Trouble(
                    "only a part of what was ordered has reached the cluster, so it is sent again".into(),
                ),
                None => Progress::Working,
            };
            (order.sha.clone(), order.digest.clone(), progress)
        });
        let lost = || nameless("its namespace does not say any more what is in it".into());
        let pending = if record.order.is_none() { lost() } else { pending };
        Ok(Status {
            serving: serving(place),
            pending,
            waits_for: if record.asleep.is_some() { Vec::new() } else { assessed.waits_for },
            log: record.failed().map(|failure| failure.log.clone()).unwrap_or_default(),
            asleep: record.asleep.is_some(),
            drifted: assessed.drifted,
        })
    }
}

/// While this process is at an order, or gave it up.
fn of_attempt(attempt: &Attempt, place: Option<&Place>) -> Status {
    let (progress, note) = match &attempt.stage {
        Stage::Ended(progress) => (progress.clone(), None),
        Stage::Sending(note) => (Progress::Working, note.clone()),
        Stage::Sent => (Progress::Working, None),
    };
    Status {
        serving: place.and_then(serving),
        pending: Some((attempt.sha.clone(), attempt.digest.clone(), progress)),
        waits_for: note.into_iter().collect(),
        ..Status::default()
    }
}

fn serving(place: &Place) -> Option<Running> {
    let ready = place.record.ready.clone()?;
    Some(Running { sha: ready.sha, digest: ready.digest, since: ready.since })
}

/// While the namespace is being deleted.
fn deleted(name: &PreviewName, place: &Place) -> Status {
    let why = format!("its namespace {} is being deleted", Quoted::new(name.as_str()));
    let pending = match &place.record.order {
        Some(order) => Some((order.sha.clone(), order.digest.clone(), Progress::Trouble(why.clone()))),
        None => nameless(why.clone()),
    };
    Status { pending, waits_for: vec![why], ..Status::default() }
}

/// For a namespace of ours that does not say what is in it: it is not nothing, and no order is for it.
fn nameless(why: String) -> Option<(Sha, String, Progress)> {
    Some((Sha::parse(&"0".repeat(40))?, String::new(), Progress::Trouble(why)))
}
