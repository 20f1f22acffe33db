//! Sending an order to the cluster, in a task of its own.
//!
//! The order of things is what makes a crash harmless: the namespace says what is to come before it comes, so that nothing is
//! ever there that no later order would find and remove.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Namespace;
use kube::core::ObjectMeta;
use serde_json::{Map, Value, json};

use super::super::{Order, Progress};
use super::cache::{Place, Seen};
use super::desk::{Attempt, Stage};
use super::guards::{guards, pod_security};
use super::names::is_ours;
use super::prepare::{keep_jobs, leave_counts_to_autoscalers, prepare};
use super::ready::Readiness;
use super::record::{self, Begun, Failure, Objects, Record, Wanted};
use super::reference::{Reference, waves};
use super::refusal::{Refusal, unchangeable};
use super::{Inner, Profile, names};
use crate::preview::{PreviewName, Quoted};
use crate::render::Manifest;

/// How long what the API server has confirmed may take to show in a watch.
const SHOWN_WITHIN: Duration = Duration::from_secs(30);
/// How often it is asked whether something that was deleted is gone.
const GONE_EVERY: Duration = Duration::from_millis(500);
/// How long an object may take to go so that it can come back.
const GONE_WITHIN: Duration = Duration::from_mins(2);

/// Why an order was not sent to its end.
enum End {
    /// A newer one, or a stop, took its place.
    Overtaken,
    /// The same order would fail again.
    Failed(String),
    /// The same order is worth another try.
    Trouble(String),
}

/// All that is sent for one order.
pub(super) struct Parcel {
    pub name: PreviewName,
    pub labels: Map<String, Value>,
    pub pod_security: BTreeMap<String, String>,
    pub annotations: Map<String, Value>,
    pub guards: Vec<Value>,
    pub objects: Vec<Value>,
    pub wanted: Vec<Wanted>,
    pub ready_within: Duration,
}

impl Parcel {
    /// Everything of `order` as it is sent.
    pub(super) fn pack(order: &Order, objects: &[Manifest], profile: &Profile, instance: &str) -> Self {
        let ours = names::labels(instance, order.key);
        let ready = |object: &Value| prepare(object, order.name.as_str(), &ours, &order.digest, profile);
        let guards: Vec<Value> = guards(profile).iter().map(ready).collect();
        let mut objects: Vec<Value> = objects.iter().map(|manifest| ready(&manifest.object)).collect();
        leave_counts_to_autoscalers(&mut objects);
        keep_jobs(&mut objects);
        let wanted = guards.iter().chain(&objects).filter_map(|object| {
            let replicas = object.pointer("/spec/replicas").and_then(Value::as_i64);
            Some(Wanted { object: Reference::of(object)?, replicas })
        });
        let pod_security = pod_security(profile);
        Self {
            name: order.name.clone(),
            wanted: wanted.collect(),
            labels: ours
                .into_iter()
                .chain(pod_security.clone())
                .map(|(name, it)| (name, json!(it)))
                .collect(),
            pod_security,
            annotations: profile.annotations.iter().map(|(name, it)| (name.clone(), json!(it))).collect(),
            guards,
            objects,
            ready_within: profile.ready_within,
        }
    }
}

impl Inner {
    /// Sends `parcel` for `attempt`, once whoever is at it now has let go.
    pub(super) async fn send(self: Arc<Self>, parcel: Parcel, attempt: Attempt) {
        let turn = self.turn(&parcel.name);
        let sent = async {
            let _turn = turn.lock_owned().await;
            go_on(&attempt)?;
            self.send_all(&parcel, &attempt).await
        }
        .await;
        let stage = match sent {
            Ok(()) => Stage::Sent,
            Err(End::Overtaken) => return,
            Err(End::Failed(why)) => {
                self.note_failure(parcel.name.as_str(), attempt.at, &why).await;
                Stage::Ended(Progress::Failed(why))
            }
            Err(End::Trouble(why)) => {
                tracing::warn!(preview.name = %parcel.name, cluster = %self.cluster, error = why, "an order was given up");
                Stage::Ended(Progress::Trouble(why))
            }
        };
        let sent = stage == Stage::Sent;
        self.set_stage(&parcel.name, attempt.at, stage);
        // What has to get ready first is told when it is.
        if !sent || self.cache().places.get(parcel.name.as_str()).is_some_and(|it| it.record.is_ready()) {
            self.tell(attempt.key);
        }
        self.touched(parcel.name.as_str().to_owned());
    }

    async fn send_all(self: &Arc<Self>, parcel: &Parcel, attempt: &Attempt) -> Result<(), End> {
        let before = self.begin(parcel, attempt).await?;
        self.begin_watches(&parcel.wanted);
        let all = |objects: Vec<Value>| async move {
            go_on(attempt)?;
            try_join_all(objects.iter().map(|object| self.put(parcel, attempt, object))).await.map(drop)
        };
        all(parcel.guards.clone()).await?;
        let objects: Vec<(Reference, Value)> =
            parcel.objects.iter().filter_map(|it| Some((Reference::of(it)?, it.clone()))).collect();
        for wave in waves(objects, |(reference, _)| &reference.kind) {
            all(wave.into_iter().map(|(_, object)| object).collect()).await?;
        }
        if let Some(counts) = &before.asleep {
            let name = parcel.name.as_str();
            let woken = self.patient(parcel, attempt, || self.restore(name, counts, &parcel.wanted)).await;
            woken.map_err(|refusal| end(refusal, "what slept"))?;
        }
        self.until_shown(parcel, attempt).await
    }

    /// Has the namespace say what is to come; what it said before.
    async fn begin(self: &Arc<Self>, parcel: &Parcel, attempt: &Attempt) -> Result<Record, End> {
        let name = parcel.name.as_str();
        let mut place = self.cache().places.get(name).cloned();
        let namespace = || format!("the namespace {}", Quoted::new(name));
        loop {
            go_on(attempt)?;
            let result = match &place {
                Some(place) if place.deleting => {
                    self.until_gone(parcel, attempt).await?;
                    Err(Refusal::NotFound)
                }
                Some(place) => {
                    let labels = &parcel.labels;
                    let annotations = self.announcement(parcel, attempt, &place.record);
                    self.patient(parcel, attempt, || self.server.note(name, &place.uid, labels, &annotations))
                        .await
                }
                None => {
                    let fresh = self.new_namespace(parcel, attempt);
                    self.patient(parcel, attempt, || self.server.create_namespace(&fresh)).await
                }
            };
            match result {
                Ok(()) => return Ok(place.map(|place| place.record).unwrap_or_default()),
                Err(refusal @ (Refusal::Access(_) | Refusal::Unavailable(_) | Refusal::UnknownKind)) => {
                    return Err(end(refusal, &namespace()));
                }
                // What the watch has shown is out of date: ask.
                Err(refusal) => {
                    let found = self.patient(parcel, attempt, || self.server.namespace(name)).await;
                    let found = found.map_err(|refusal| end(refusal, &namespace()))?;
                    place = match found {
                        None if place.is_none() => return Err(end(refusal, &namespace())),
                        None => None,
                        Some(found) if !is_ours(&found.metadata, &self.instance) => {
                            return Err(End::Failed(format!(
                                "the cluster has a namespace {} that this greenroom did not make, and that it does not \
                                 touch; remove or rename it",
                                Quoted::new(name)
                            )));
                        }
                        Some(found) => {
                            let found = Place::of(&found.metadata);
                            let news = match (&place, &found) {
                                (Some(before), Some(now)) => {
                                    before.uid != now.uid || before.deleting != now.deleting
                                }
                                (None, Some(_)) => true,
                                (_, None) => false,
                            };
                            if !news {
                                return Err(end(refusal, &namespace()));
                            }
                            found
                        }
                    };
                }
            }
        }
    }

    fn announcement(&self, parcel: &Parcel, attempt: &Attempt, before: &Record) -> Map<String, Value> {
        let within = i64::try_from(parcel.ready_within.as_millis()).unwrap_or(i64::MAX);
        let begun = Begun {
            sha: attempt.sha.clone(),
            digest: attempt.digest.clone(),
            at: attempt.at,
            ready_by: self.clock.now().saturating_add(within),
            pod_security: parcel.pod_security.clone(),
        };
        let objects = Objects { wanted: parcel.wanted.clone(), old: before.leftovers(&parcel.wanted) };
        let mut annotations = parcel.annotations.clone();
        annotations.extend(record::begun(&begun, &objects));
        annotations
    }

    fn new_namespace(&self, parcel: &Parcel, attempt: &Attempt) -> Namespace {
        let strings = |map: Map<String, Value>| {
            map.into_iter().filter_map(|(name, value)| Some((name, value.as_str()?.to_owned()))).collect()
        };
        let metadata = ObjectMeta {
            name: Some(parcel.name.to_string()),
            labels: Some(strings(parcel.labels.clone())),
            annotations: Some(strings(self.announcement(parcel, attempt, &Record::default()))),
            ..ObjectMeta::default()
        };
        Namespace { metadata, ..Namespace::default() }
    }

    /// Applies one object. What cannot be changed in place goes and comes back, where that does no harm; and so does a Job that
    /// has failed, which would not run again.
    async fn put(&self, parcel: &Parcel, attempt: &Attempt, object: &Value) -> Result<(), End> {
        let Some(reference) = Reference::of(object) else { return Ok(()) };
        let namespace = parcel.name.as_str();
        let what = reference.to_string();
        let stuck = |seen: &Seen| matches!(seen.readiness, Readiness::Stuck(_));
        if reference.kind.kind == "Job" && self.cache().get(namespace, &reference).is_some_and(stuck) {
            self.take_away(parcel, attempt, &reference).await?;
        }
        // It would take its pods down before it notices that it may not make others.
        let ask_first =
            reference.kind.kind == "StatefulSet" && self.cache().get(namespace, &reference).is_some();
        let apply = || async {
            if ask_first {
                self.server.dry_run(namespace, object).await?;
            }
            self.server.apply(namespace, object).await
        };
        match self.patient(parcel, attempt, apply).await {
            Ok(()) => Ok(()),
            Err(Refusal::Immutable(_)) if reference.kind.may_be_replaced(object) => {
                self.take_away(parcel, attempt, &reference).await?;
                self.patient(parcel, attempt, apply).await.map_err(|refusal| end(refusal, &what))
            }
            Err(refusal) => Err(end(refusal, &what)),
        }
    }

    /// Deletes an object that is to come back, and waits until it is gone.
    async fn take_away(&self, parcel: &Parcel, attempt: &Attempt, object: &Reference) -> Result<(), End> {
        let delete = || self.server.delete(parcel.name.as_str(), object);
        let began = tokio::time::Instant::now();
        while !self.patient(parcel, attempt, delete).await.map_err(|it| end(it, &object.to_string()))? {
            go_on(attempt)?;
            if began.elapsed() > GONE_WITHIN {
                return Err(End::Failed(format!(
                    "{object} has to be made anew for this change, and does not go; something holds it with a finalizer"
                )));
            }
            tokio::time::sleep(GONE_EVERY).await;
        }
        // Until the watch shows the next one, it is not there: how this one stood says nothing.
        self.cache().remove(parcel.name.as_str(), &object.kind.id(), &object.name);
        Ok(())
    }

    /// Repeats `request` for as long as the cluster is not available, until the order's time is up.
    pub(super) async fn patient<T, F>(
        &self,
        parcel: &Parcel,
        attempt: &Attempt,
        request: impl Fn() -> F,
    ) -> Result<T, Refusal>
    where
        F: Future<Output = Result<T, Refusal>>,
    {
        let pauses = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(50))
            .with_max_delay(Duration::from_secs(5))
            .with_total_delay(Some(parcel.ready_within))
            .without_max_times()
            .with_jitter();
        let mut pauses = pauses.build();
        loop {
            let refusal = match request().await {
                Err(refusal @ Refusal::Unavailable(_)) => refusal,
                result => {
                    self.set_note(&parcel.name, attempt.at, None);
                    return result;
                }
            };
            let Some(pause) = pauses.next() else { return Err(refusal) };
            if let Refusal::Unavailable(why) = &refusal {
                self.set_note(&parcel.name, attempt.at, Some(format!("The cluster {}: {why}", self.named())));
            }
            if attempt.overtaken.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return Err(refusal);
            }
        }
    }

    /// Waits until the namespace of an earlier life is gone.
    async fn until_gone(&self, parcel: &Parcel, attempt: &Attempt) -> Result<(), End> {
        let name = parcel.name.as_str();
        let note = format!("The namespace {}, which is being deleted, has to go first", Quoted::new(name));
        self.set_note(&parcel.name, attempt.at, Some(note));
        let gone = self.until(|cache| cache.places.get(name).is_none_or(|place| !place.deleting));
        if attempt.overtaken.run_until_cancelled(gone).await.is_none() {
            return Err(End::Overtaken);
        }
        self.set_note(&parcel.name, attempt.at, None);
        Ok(())
    }

    /// Waits until the watch shows the order, so that whoever asks for the status from now on hears of it.
    async fn until_shown(&self, parcel: &Parcel, attempt: &Attempt) -> Result<(), End> {
        let name = parcel.name.as_str();
        let shown = self.until(|cache| {
            let order = cache.places.get(name).and_then(|place| place.record.order.as_ref());
            order.is_some_and(|order| order.at >= attempt.at)
        });
        match attempt.overtaken.run_until_cancelled(tokio::time::timeout(SHOWN_WITHIN, shown)).await {
            None => Err(End::Overtaken),
            Some(Ok(())) => Ok(()),
            Some(Err(_)) => Err(End::Trouble(format!(
                "all was sent to the cluster {}, but its namespaces cannot be watched",
                self.named()
            ))),
        }
    }

    /// Writes down why an order failed, as far as that can be done; this process knows it anyway.
    pub(super) async fn note_failure(&self, name: &str, at: i64, why: &str) {
        let place = self.cache().places.get(name).cloned();
        let Some(place) = place.filter(|place| !place.deleting) else { return };
        let failure = record::failed(&Failure { at, why: why.to_owned(), log: Vec::new() });
        if let Err(refusal) = self.server.note(name, &place.uid, &Map::new(), &failure).await {
            tracing::warn!(preview.name = name, error = %refusal, "a failure could not be written down in the cluster");
        }
    }
}

/// A safe point: here an order that was overtaken lets go.
fn go_on(attempt: &Attempt) -> Result<(), End> {
    if attempt.overtaken.is_cancelled() { Err(End::Overtaken) } else { Ok(()) }
}

/// What a refusal of `what` means for the order.
fn end(refusal: Refusal, what: &str) -> End {
    if let Refusal::Immutable(why) = &refusal {
        return End::Failed(format!("{what} {}", unchangeable(why)));
    }
    if let Some(why) = refusal.of_object() {
        return End::Failed(format!("{what}: {why}"));
    }
    End::Trouble(match refusal {
        Refusal::NotFound => format!("{what}: its namespace went away in the meantime"),
        Refusal::Conflict(why) => {
            format!("{what} was changed by somebody else at the same time: {}", Quoted::new(&why))
        }
        other => format!("{what} could not be sent to the cluster: {other}"),
    })
}
