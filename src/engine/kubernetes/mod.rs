//! The engine for teams with a cluster: a namespace per preview.
//!
//! Needs: an account that may do what `docs/install/` grants it, and the namespaces' names for itself. One engine per cluster.
//!
//! What is known of a preview stands in the cluster, as labels and annotations of its namespace (`record.rs`), so a restart
//! needs nothing else. What the watches show is kept reduced (`cache.rs`), and questions are answered from there.
//!
//! Properties, beside those of every engine:
//! * Nothing is touched but namespaces that carry our label and our instance's id, and what is in them. A request that
//!   changes a namespace names its uid; a namespace of that name which is not ours is a refusal.
//! * The namespace says what is to come before it comes. So whatever crashes when, a later order finds it and removes it.
//! * A revision is ready when every object of it is (`ready.rs`), as seen at the digest of the order: every object carries
//!   it. What earlier revisions had beyond that goes only then.
//! * An answer of the cluster about one object is the project's failure; a cluster that does not answer, or not us, is a
//!   trouble, and nothing is removed for it.
//!
//! Races, with the decision for each:
//! * *A newer order comes while an older one is sent.* The older one lets go between two waves of objects; the newer one
//!   waits for that. What only the older one had is pruned with the rest.
//! * *A newer order comes when an older one has got ready.* What that one has not is removed, and its verdict written down, in
//!   its turn only: the newer one may want it.
//! * *`stop` comes while an order is sent.* It overtakes the order, waits until it has let go, and deletes.
//! * *An order comes while the namespace of an earlier life is being deleted.* It waits until that is gone.
//! * *greenroom is ended while an order is sent.* The objects that are missing or of an earlier digest tell it; the status is
//!   a [`Progress::Trouble`](super::Progress::Trouble), and the order is given again.
//! * *A revision was given up, and gets ready after all.* It is what serves from then on.

mod assess;
mod cache;
mod desk;
mod diagnose;
mod diff;
mod errand;
mod guards;
mod judge;
mod logs;
mod names;
mod plan;
mod prepare;
mod profile;
mod ready;
mod record;
mod reference;
mod refusal;
mod server;
mod sleep;
mod status;
mod stop;
mod submit;
mod watch;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{broadcast, mpsc, watch as signal};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Change, Ended, Engine, Errand, Error, Input, Order, Status};
use crate::clock::Clock;
use crate::preview::{PreviewKey, PreviewName, Quoted};
use cache::Cache;
use desk::{Attempt, Desk, Stage};
pub use profile::{Egress, PodSecurity, Profile};
use refusal::Refusal;
use server::Server;
use submit::Parcel;

/// How many events may wait for a slow listener.
const EVENTS: usize = 1024;

/// How long a question waits for the first look at the cluster.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// Runs previews in one cluster. See the module's documentation.
pub struct Kubernetes {
    inner: Arc<Inner>,
    /// Ends the watches with the engine.
    _stop: DropGuard,
}

/// What the engine's own tasks share with it.
struct Inner {
    server: Server,
    cluster: String,
    instance: String,
    clock: Clock,
    cache: Mutex<Cache>,
    desks: Mutex<HashMap<PreviewName, Desk>>,
    /// Previews to judge again.
    touched: mpsc::UnboundedSender<String>,
    /// Told whenever a namespace has changed, or how the watches get on.
    changed: signal::Sender<()>,
    /// Told whenever something was seen of an errand.
    errands: signal::Sender<()>,
    events: broadcast::Sender<PreviewKey>,
    stop: CancellationToken,
}

impl Kubernetes {
    /// Opens the engine for the cluster that operators call `cluster`, for the greenroom instance called `instance`, and
    /// begins to watch. Does not wait for the cluster, which may be down.
    pub fn connect(client: kube::Client, cluster: &str, instance: &str, clock: Clock) -> Arc<Self> {
        let (touched, to_judge) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let inner = Arc::new(Inner {
            server: Server::new(client),
            cluster: cluster.to_owned(),
            instance: instance.to_owned(),
            clock,
            cache: Mutex::default(),
            desks: Mutex::default(),
            touched,
            changed: signal::Sender::new(()),
            errands: signal::Sender::new(()),
            events: broadcast::Sender::new(EVENTS),
            stop: stop.clone(),
        });
        tokio::spawn(Arc::clone(&inner).watch_namespaces(stop.clone()));
        tokio::spawn(Arc::clone(&inner).judge(to_judge, stop.clone()));
        Arc::new(Self { inner, _stop: stop.drop_guard() })
    }
}

impl fmt::Debug for Kubernetes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kubernetes").field("cluster", &self.inner.cluster).finish_non_exhaustive()
    }
}

impl Inner {
    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn desks(&self) -> MutexGuard<'_, HashMap<PreviewName, Desk>> {
        self.desks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cluster's name, for people.
    fn named(&self) -> Quoted {
        Quoted::new(&self.cluster)
    }

    fn tell(&self, key: PreviewKey) {
        // Nobody listening is fine: the resync is the net.
        let _ = self.events.send(key);
    }

    /// Something was seen of a namespace, or in it.
    fn touched(&self, namespace: String) {
        // The judge ends with the engine.
        let _ = self.touched.send(namespace);
    }

    /// Waits until `seen` holds of the namespaces, or of the watches. What is in a namespace wakes nobody here: with many
    /// orders under way, everybody would be woken by everything.
    async fn until(&self, seen: impl Fn(&Cache) -> bool) {
        let mut changes = self.changed.subscribe();
        while !seen(&self.cache()) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits until what is there was read once.
    async fn read(&self) -> Result<(), Error> {
        if tokio::time::timeout(READ_WITHIN, self.until(Cache::synced)).await.is_ok() {
            let trouble = self.cache().trouble();
            return trouble.map_or(Ok(()), |why| Err(self.error("show what is there", &why)));
        }
        Err(self.error("show what is there", "it did not answer yet"))
    }

    fn error(&self, what: &str, why: &str) -> Error {
        Error::Cluster { cluster: self.cluster.clone(), what: what.to_owned(), why: why.to_owned() }
    }

    /// A request that did not succeed, where no refusal of an object is expected.
    fn refused(&self, what: &str, refusal: &Refusal) -> Error {
        self.error(what, &refusal.to_string())
    }

    fn turn(&self, name: &PreviewName) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(&self.desks().entry(name.clone()).or_default().turn)
    }

    /// Forgets a desk that has nothing on it and that nobody is at.
    fn tidy(&self, name: &str) {
        let Some(name) = PreviewName::parse(name) else { return };
        let mut desks = self.desks();
        if desks.get(&name).is_some_and(|desk| desk.attempt.is_none() && Arc::strong_count(&desk.turn) == 1) {
            desks.remove(&name);
        }
    }

    fn attempt(&self, name: &PreviewName) -> Option<Attempt> {
        self.desks().get(name)?.attempt.clone()
    }

    fn set_stage(&self, name: &PreviewName, at: i64, stage: Stage) {
        let mut desks = self.desks();
        let attempt = desks.get_mut(name).and_then(|desk| desk.attempt.as_mut());
        if let Some(attempt) = attempt.filter(|attempt| attempt.at == at) {
            attempt.stage = stage;
        }
    }

    /// Says what holds an order up; tells of it when that is news.
    fn set_note(&self, name: &PreviewName, at: i64, note: Option<String>) {
        let mut desks = self.desks();
        let attempt = desks.get_mut(name).and_then(|desk| desk.attempt.as_mut());
        let Some(attempt) = attempt.filter(|attempt| attempt.at == at && attempt.is_sending()) else {
            return;
        };
        let stage = Stage::Sending(note);
        if attempt.stage != stage {
            let news = stage != Stage::Sending(None);
            attempt.stage = stage;
            let key = attempt.key;
            drop(desks);
            if news {
                self.tell(key);
            }
        }
    }

    /// Puts an order on its desk, in place of the one before it; `None` when it is being sent already.
    fn take(&self, order: &Order) -> Option<Attempt> {
        let mut desks = self.desks();
        let desk = desks.entry(order.name.clone()).or_default();
        let mut at = self.clock.now();
        if let Some(before) = &desk.attempt {
            if before.is_sending() && before.sha == order.sha && before.digest == order.digest {
                return None;
            }
            before.overtaken.cancel();
            at = at.max(before.at + 1);
        }
        let attempt = Attempt {
            key: order.key,
            sha: order.sha.clone(),
            digest: order.digest.clone(),
            at,
            overtaken: self.stop.child_token(),
            stage: Stage::Sending(None),
        };
        desk.attempt = Some(attempt.clone());
        Some(attempt)
    }
}

#[async_trait]
impl Engine for Kubernetes {
    fn name(&self) -> &'static str {
        "kubernetes"
    }

    async fn apply(&self, order: Order) -> Result<(), Error> {
        let Input::Manifests { objects, profile } = &order.input else {
            return Err(Error::Input { engine: self.name() });
        };
        if let Some(attempt) = self.inner.take(&order) {
            let parcel = Parcel::pack(&order, objects, profile, &self.inner.instance);
            tokio::spawn(Arc::clone(&self.inner).send(parcel, attempt));
        }
        Ok(())
    }

    async fn status(&self, name: &PreviewName) -> Result<Status, Error> {
        self.inner.status(name).await
    }

    async fn plan(&self, order: &Order) -> Result<Vec<Change>, Error> {
        let Input::Manifests { objects, profile } = &order.input else {
            return Err(Error::Input { engine: self.name() });
        };
        self.inner.plan(&Parcel::pack(order, objects, profile, &self.inner.instance)).await
    }

    async fn logs(&self, name: &PreviewName, most: usize) -> Result<Vec<String>, Error> {
        self.inner.read().await?;
        self.inner.logs(name.as_str(), most).await
    }

    async fn run(&self, errand: &Errand) -> Result<Ended, Error> {
        self.inner.errand(errand).await
    }

    async fn sleep(&self, name: &PreviewName) -> Result<(), Error> {
        self.inner.read().await?;
        self.inner.sleep(name).await
    }

    async fn wake(&self, name: &PreviewName) -> Result<(), Error> {
        self.inner.read().await?;
        self.inner.wake(name).await
    }

    async fn stop(&self, name: &PreviewName) -> Result<Vec<String>, Error> {
        self.inner.stop(name).await
    }

    async fn inventory(&self) -> Result<Vec<PreviewName>, Error> {
        // Asked of the cluster itself: removals may follow from it.
        let found = self.inner.server.select_namespaces(&names::ours(&self.inner.instance)).await;
        let found = found.map_err(|refusal| self.inner.refused("list its namespaces", &refusal))?;
        let mut names: BTreeSet<PreviewName> = found
            .iter()
            .filter_map(|namespace| PreviewName::parse(namespace.metadata.name.as_deref()?))
            .collect();
        let desks = self.inner.desks();
        let at_work = desks.iter().filter(|(_, desk)| desk.attempt.as_ref().is_some_and(Attempt::is_sending));
        names.extend(at_work.map(|(name, _)| name.clone()));
        Ok(names.into_iter().collect())
    }

    async fn foreign(&self) -> Result<Vec<String>, Error> {
        let found = self.inner.server.select_namespaces(&names::theirs(&self.inner.instance)).await;
        let found = found.map_err(|refusal| self.inner.refused("list its namespaces", &refusal))?;
        let ids: BTreeSet<String> = found
            .into_iter()
            .filter_map(|namespace| namespace.metadata.labels?.remove(names::INSTANCE))
            .collect();
        Ok(ids.into_iter().collect())
    }

    fn events(&self) -> broadcast::Receiver<PreviewKey> {
        self.inner.events.subscribe()
    }
}
