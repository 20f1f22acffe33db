//! Sleeping and waking: everything is scaled to nothing and back to what it was.
//!
//! The counts are remembered on the namespace before anything is changed, so a crash in between loses none of them.

use std::collections::BTreeMap;

use futures::future::try_join_all;
use serde_json::{Map, Value, json};

use super::super::Error;
use super::Inner;
use super::assess::called;
use super::cache::{Place, Seen};
use super::names::SLEEP_MANAGER;
use super::record::{self, Wanted};
use super::reference::Reference;
use super::refusal::Refusal;
use crate::preview::PreviewName;

/// A label that no node has.
const NOWHERE: &str = "greenroom.dev/asleep";

/// How an object is put to sleep.
#[derive(Clone, Copy)]
enum How {
    /// By `spec.replicas`. An autoscaler lets be what has none.
    Replicas,
    /// By `spec.suspend`.
    Suspend,
    /// By asking for nodes that do not exist.
    Nowhere,
}

fn how(object: &Reference) -> Option<How> {
    match object.kind.kind.as_str() {
        "Deployment" | "StatefulSet" | "ReplicaSet" => Some(How::Replicas),
        "CronJob" => Some(How::Suspend),
        "DaemonSet" => Some(How::Nowhere),
        _ => None,
    }
}

impl How {
    /// Whether it was seen to be asleep.
    fn sleeps(self, seen: &Seen) -> bool {
        match self {
            Self::Replicas => seen.replicas == Some(0),
            Self::Suspend => seen.suspended,
            // What it asks of nodes is not kept.
            Self::Nowhere => false,
        }
    }

    /// What has to be remembered; `None` for what sleeps anyway.
    fn count(self, seen: &Seen) -> Option<i64> {
        match self {
            Self::Replicas => Some(seen.replicas.unwrap_or(1)).filter(|count| *count > 0),
            Self::Suspend => (!seen.suspended).then_some(1),
            Self::Nowhere => Some(1),
        }
    }

    /// The change that leaves `count` of it.
    fn change(self, count: i64) -> Value {
        match self {
            Self::Replicas => json!({"spec": {"replicas": count}}),
            Self::Suspend => json!({"spec": {"suspend": count == 0}}),
            Self::Nowhere => {
                let selector = if count == 0 { json!("true") } else { Value::Null };
                json!({"spec": {"template": {"spec": {"nodeSelector": {NOWHERE: selector}}}}})
            }
        }
    }
}

impl Inner {
    pub(super) async fn sleep(&self, name: &PreviewName) -> Result<(), Error> {
        let _turn = self.turn(name).lock_owned().await;
        let Some(place) = self.live(name) else { return Ok(()) };
        let wanted = &place.record.objects.wanted;
        // Repeated after a crash: what was remembered first is what there was.
        let counts = place.record.asleep.clone().unwrap_or_else(|| {
            let cache = self.cache();
            let counts = wanted.iter().filter_map(|wanted| {
                let seen = cache.get(name.as_str(), &wanted.object)?;
                Some((called(&wanted.object), how(&wanted.object)?.count(seen)?))
            });
            counts.collect()
        });
        let asleep = record::asleep(Some(&counts));
        self.change(name.as_str(), &place, &asleep).await.map_err(|it| self.refused("put to sleep", &it))?;
        let slept = self.scale(name.as_str(), wanted, &counts, |_| 0).await;
        slept.map_err(|refusal| self.refused("put to sleep", &refusal))?;
        self.shown(name.as_str(), true).await;
        Ok(())
    }

    pub(super) async fn wake(&self, name: &PreviewName) -> Result<(), Error> {
        let _turn = self.turn(name).lock_owned().await;
        let Some(place) = self.live(name) else { return Ok(()) };
        let Some(counts) = &place.record.asleep else { return Ok(()) };
        let woken = self.scale(name.as_str(), &place.record.objects.wanted, counts, |count| count).await;
        woken.map_err(|refusal| self.refused("wake", &refusal))?;
        // What still shows as it slept would pass for ready, or for changed by somebody else.
        let back = self.until(|cache| {
            place.record.objects.wanted.iter().all(|wanted| {
                let scaled = counts.contains_key(&called(&wanted.object));
                let seen = cache.get(name.as_str(), &wanted.object).filter(|_| scaled);
                seen.zip(how(&wanted.object)).is_none_or(|(seen, how)| !how.sleeps(seen))
            })
        });
        let _ = tokio::time::timeout(super::READ_WITHIN, back).await;
        let awake = record::asleep(None);
        self.change(name.as_str(), &place, &awake).await.map_err(|it| self.refused("wake", &it))?;
        self.shown(name.as_str(), false).await;
        Ok(())
    }

    /// Gives back the counts of what an order does not speak of; what it does speak of, it has set already.
    pub(super) async fn restore(
        &self,
        namespace: &str,
        counts: &BTreeMap<String, i64>,
        wanted: &[Wanted],
    ) -> Result<(), Refusal> {
        let silent: Vec<Wanted> = wanted.iter().filter(|wanted| wanted.replicas.is_none()).cloned().collect();
        self.scale(namespace, &silent, counts, |count| count).await
    }

    fn live(&self, name: &PreviewName) -> Option<Place> {
        self.cache().places.get(name.as_str()).filter(|place| !place.deleting).cloned()
    }

    async fn change(
        &self,
        name: &str,
        place: &Place,
        annotations: &Map<String, Value>,
    ) -> Result<(), Refusal> {
        self.server.note(name, &place.uid, &Map::new(), annotations).await
    }

    async fn scale(
        &self,
        namespace: &str,
        wanted: &[Wanted],
        counts: &BTreeMap<String, i64>,
        to: impl Fn(i64) -> i64,
    ) -> Result<(), Refusal> {
        let to = &to;
        let each = wanted.iter().filter_map(|wanted| {
            let (object, count) = (&wanted.object, *counts.get(&called(&wanted.object))?);
            let change = how(object)?.change(to(count));
            Some(async move {
                match self.server.patch(namespace, object, SLEEP_MANAGER, &change).await {
                    // Somebody removed it: there is nothing to put to sleep.
                    Err(Refusal::NotFound) => Ok(()),
                    result => result,
                }
            })
        });
        try_join_all(each).await.map(drop)
    }

    /// Waits until the watch shows whether a preview sleeps, so that the status says so.
    async fn shown(&self, name: &str, asleep: bool) {
        let shown = self.until(|cache| {
            cache.places.get(name).is_none_or(|place| place.record.asleep.is_some() == asleep)
        });
        // A watch that is broken shows it later.
        let _ = tokio::time::timeout(super::READ_WITHIN, shown).await;
    }
}
