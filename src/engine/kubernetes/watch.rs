//! The watches: one per kind and cluster, whatever the number of previews.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use backon::ExponentialBuilder;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Namespace;
use kube::core::{ApiResource, DynamicObject, ObjectMeta, PartialObjectMeta};
use kube::runtime::watcher::{self, Event, ExponentialBackoff};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::Inner;
use super::cache::{Place, Seen, Watched};
use super::names;
use super::record::Wanted;
use super::reference::Kind;
use super::refusal::{Refusal, classify};
use crate::preview::{PreviewKey, PreviewName};

/// The longest pause before a broken watch is begun again.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What a watch needs to know of an object: its metadata, and all of it where that was asked for.
trait Shown: Resource<DynamicType = ApiResource> + Clone + DeserializeOwned + Debug + Send + 'static {
    fn shown(self) -> (ObjectMeta, Value);
}

impl Shown for DynamicObject {
    fn shown(self) -> (ObjectMeta, Value) {
        let mut object = self.data;
        object["metadata"] = json!({"generation": self.metadata.generation});
        if let Some(at) = &self.metadata.deletion_timestamp {
            object["metadata"]["deletionTimestamp"] = json!(at);
        }
        (self.metadata, object)
    }
}

impl Shown for PartialObjectMeta<DynamicObject> {
    fn shown(self) -> (ObjectMeta, Value) {
        (self.metadata, Value::Null)
    }
}

/// The kinds to watch for previews of these objects: theirs, and what their controllers make.
fn kinds<'a>(wanted: impl IntoIterator<Item = &'a Wanted>) -> BTreeSet<Kind> {
    let mut kinds = BTreeSet::new();
    for kind in wanted.into_iter().map(|wanted| &wanted.object.kind).filter(|kind| kind.is_watched()) {
        kinds.insert(kind.clone());
        match kind.kind.as_str() {
            "Deployment" => {
                kinds.extend([Kind::new("apps/v1", "ReplicaSet"), Kind::new("v1", "Pod")]);
            }
            "StatefulSet" => {
                kinds.extend([Kind::new("v1", "PersistentVolumeClaim"), Kind::new("v1", "Pod")]);
            }
            "DaemonSet" | "ReplicaSet" | "Job" | "CronJob" => {
                kinds.insert(Kind::new("v1", "Pod"));
            }
            _ => {}
        }
    }
    kinds
}

impl Inner {
    /// Watches namespaces of ours, and begins the watches that their objects need, until `stop`.
    pub(super) async fn watch_namespaces(self: Arc<Self>, stop: CancellationToken) {
        let kind = Kind::new("v1", "Namespace");
        self.cache().watches.insert(kind.clone(), Watched::default());
        let api: Api<PartialObjectMeta<Namespace>> = Api::all(self.server.client.clone());
        let begin = || watch(api.clone(), self.selector()).backoff(backoff()).take_until(stop.cancelled());
        let mut listed = BTreeSet::new();
        let mut stream = std::pin::pin!(begin());
        while let Some(event) = stream.next().await {
            match event {
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitApply(namespace)) => {
                    listed.insert(namespace.metadata.name.clone().unwrap_or_default());
                    self.place(&namespace.metadata);
                }
                Ok(Event::Apply(namespace)) => {
                    if let Some(key) = self.place(&namespace.metadata) {
                        self.tell(key);
                    }
                }
                Ok(Event::Delete(namespace)) => {
                    self.gone(namespace.metadata.name.as_deref().unwrap_or_default());
                }
                Ok(Event::InitDone) => {
                    let known: Vec<String> = self.cache().places.keys().cloned().collect();
                    for name in known.iter().filter(|name| !listed.contains(*name)) {
                        self.gone(name);
                    }
                    self.progress(&kind, Ok(true));
                }
                Err(error) => {
                    self.progress(&kind, Err(&error));
                    if is_silent(&error) {
                        tokio::time::sleep(LONGEST_PAUSE).await;
                        stream.set(begin());
                    }
                }
            }
        }
    }

    /// Whose preview it is, where somebody else than this process has ordered something or seen how an order came out.
    fn place(self: &Arc<Self>, metadata: &ObjectMeta) -> Option<PreviewKey> {
        let (name, place) = metadata.name.clone().zip(Place::of(metadata))?;
        self.begin_watches(&place.record.objects.wanted);
        let before = self.cache().places.insert(name.clone(), place.clone());
        self.progress(&Kind::new("v1", "Namespace"), Ok(false));
        let ours = PreviewName::parse(&name).and_then(|name| self.attempt(&name)).map(|attempt| attempt.at);
        let is_ours = ours.is_some() && ours == place.record.order.as_ref().map(|order| order.at);
        let is_news = before.is_none_or(|before| before.record != place.record);
        self.touched(name);
        self.changed.send_replace(());
        (is_news && !is_ours).then_some(place.key)
    }

    fn gone(&self, name: &str) {
        let gone = self.cache().places.remove(name);
        self.cache().objects.remove(name);
        if let Some(place) = gone {
            self.tell(place.key);
        }
        self.touched(name.to_owned());
        self.changed.send_replace(());
        self.errands.send_replace(());
    }

    /// Begins the watches that objects need and that nobody has begun.
    pub(super) fn begin_watches(self: &Arc<Self>, wanted: &[Wanted]) {
        for kind in kinds(wanted) {
            let mut cache = self.cache();
            if cache.watches.contains_key(&kind) {
                continue;
            }
            cache.watches.insert(kind.clone(), Watched::default());
            drop(cache);
            let inner = Arc::clone(self);
            let stop = self.stop.clone();
            tokio::spawn(async move { stop.run_until_cancelled(inner.watch_kind(kind)).await });
        }
    }

    async fn watch_kind(self: Arc<Self>, kind: Kind) {
        let resource = loop {
            match self.server.resource(&kind).await {
                Ok(resource) => break resource,
                Err(refusal) => self.trouble(&kind, &refusal),
            }
            tokio::time::sleep(LONGEST_PAUSE).await;
        };
        // Of a ReplicaSet only the revision matters, which is an annotation.
        if kind.is_inert() || kind.kind == "ReplicaSet" {
            self.follow::<PartialObjectMeta<DynamicObject>>(&kind, &resource).await;
        } else {
            self.follow::<DynamicObject>(&kind, &resource).await;
        }
    }

    async fn follow<K: Shown>(&self, kind: &Kind, resource: &ApiResource) {
        let api: Api<K> = Api::all_with(self.server.client.clone(), resource);
        let begin = || watch(api.clone(), self.selector()).backoff(backoff());
        let mut stream = std::pin::pin!(begin());
        let mut listed = BTreeSet::new();
        loop {
            match stream.try_next().await {
                Ok(Some(Event::Init)) => listed.clear(),
                Ok(Some(Event::InitApply(object))) => listed.extend(self.see(kind, object)),
                Ok(Some(Event::Apply(object))) => {
                    self.see(kind, object);
                }
                Ok(Some(Event::Delete(object))) => {
                    let metadata = object.meta();
                    if let (Some(namespace), Some(name)) = (&metadata.namespace, &metadata.name) {
                        self.cache().remove(namespace, &kind.id(), name);
                        self.touched(namespace.clone());
                        self.errands.send_replace(());
                    }
                }
                Ok(Some(Event::InitDone)) => {
                    let gone = self.cache().retain(&kind.id(), &listed);
                    for namespace in gone {
                        self.touched(namespace);
                    }
                    self.errands.send_replace(());
                    self.progress(kind, Ok(true));
                }
                Ok(None) => return,
                Err(error) => {
                    self.progress(kind, Err(&error));
                    if is_silent(&error) {
                        tokio::time::sleep(LONGEST_PAUSE).await;
                        stream.set(begin());
                    }
                }
            }
        }
    }

    /// Remembers an object; where it is.
    fn see<K: Shown>(&self, kind: &Kind, object: K) -> Option<(String, String)> {
        let (metadata, object) = object.shown();
        let at = (metadata.namespace.clone()?, metadata.name.clone()?);
        let seen = Seen::of(&kind.kind, &metadata, &object);
        let errand = seen.errand.is_some();
        self.cache().insert(&at.0, &kind.id(), &at.1, seen);
        if errand {
            self.errands.send_replace(());
        }
        self.progress(kind, Ok(false));
        self.touched(at.0.clone());
        Some(at)
    }

    fn selector(&self) -> watcher::Config {
        watcher::Config::default().labels(&names::ours(&self.instance))
    }

    /// Notes how a watch gets on; `Ok(true)` says that it has read all there is.
    fn progress(&self, kind: &Kind, result: Result<bool, &watcher::Error>) {
        match result {
            Ok(complete) => {
                let mut cache = self.cache();
                let watched = cache.watches.entry(kind.clone()).or_default();
                let recovered = watched.trouble.take().is_some();
                let first = complete && !watched.synced;
                watched.synced |= complete;
                cache.recoveries += u64::from(recovered);
                if first || recovered {
                    let everybody: Vec<String> = cache.places.keys().cloned().collect();
                    drop(cache);
                    for name in everybody {
                        self.touched(name);
                    }
                    self.changed.send_replace(());
                }
            }
            Err(error) => {
                use watcher::Error::{
                    InitialListFailed, NoResourceVersion, WatchError, WatchFailed, WatchStartFailed,
                };
                match error {
                    // The stream ended, as it does from time to time, and is begun again.
                    WatchFailed(_) | WatchError(_) => {}
                    InitialListFailed(error) | WatchStartFailed(error) => {
                        self.trouble(kind, &classify(error));
                    }
                    NoResourceVersion => {
                        self.trouble(
                            kind,
                            &Refusal::Unavailable("it does not let this kind be watched".into()),
                        );
                    }
                }
            }
        }
    }

    fn trouble(&self, kind: &Kind, refusal: &Refusal) {
        let why = refusal.to_string();
        let mut cache = self.cache();
        let watched = cache.watches.entry(kind.clone()).or_default();
        if watched.trouble.as_ref() != Some(&why) {
            tracing::warn!(cluster = %self.cluster, resource = %kind.kind, error = why, "a watch does not get on");
        }
        watched.trouble = Some(why);
        drop(cache);
        self.changed.send_replace(());
    }
}

/// Whether nothing would tell that the watch goes on: what is begun again after its list says nothing until something
/// happens. From the list on, it does.
const fn is_silent(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(_))
}

fn backoff() -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(LONGEST_PAUSE)
        .with_jitter()
        .without_max_times()
        .into()
}

#[cfg(test)]
mod tests {
    use super::super::reference::Reference;
    use super::*;

    #[test]
    fn what_controllers_make_is_watched_and_secrets_are_not() {
        let wanted = ["apps/v1 Deployment", "v1 Secret", "v1 Service"].map(|text| {
            let (api_version, kind) = text.split_once(' ').unwrap();
            let object = Reference { kind: Kind::new(api_version, kind), name: "web".into() };
            Wanted { object, replicas: None }
        });
        let names: BTreeSet<String> = kinds(&wanted).into_iter().map(|kind| kind.kind).collect();
        assert_eq!(names, ["Deployment", "Pod", "ReplicaSet", "Service"].map(str::to_owned).into());
    }
}
