//! The engine for front ends: a zip archive from a CI job, served as it is.
//!
//! Needs: a folder of its own on a local disk, for this process alone; it is locked.
//!
//! ```text
//! incoming/                what is being made or thrown away; cleared when the engine opens
//! releases/<digest>/       files that never change, shared by equal sites
//! previews/<name>.json     the pointer: which release a preview serves, and since when
//! lock
//! ```
//!
//! Properties, beside those of every engine:
//! * A release is complete and flushed before it has its name, and a pointer is replaced as a whole. A crash at any
//!   point leaves what was served before; the order can simply be given again.
//! * What is served can be looked up without touching the disk.
//! * Nothing in an archive leads out of its release, and no archive takes more than the [`Limits`] allow.
//!
//! Races, with the decision for each:
//! * *A newer order comes while an older one is unpacked.* The older one stops at its next 64 KiB. Should it be past
//!   that, it finds itself overtaken when it comes to switch: both look at the same book, under one lock.
//! * *`stop` comes while an order is unpacked.* It overtakes the order, waits until it has let go, and only then
//!   removes. An order given after the stop waits for its turn.
//! * *A release is superfluous just when another order is about to use it.* See `release.rs`.
//! * *A request is about to open a file of a release that was replaced.* It holds the [`Site`]; the release is removed
//!   by the first collection after it let go. An open file outlives its removal.

mod archive;
mod durable;
mod entry;
mod limits;
mod order;
mod refusal;
mod release;
mod site;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use async_trait::async_trait;
use tokio::sync::{Semaphore, broadcast};
use tokio::task::{JoinError, spawn_blocking};

use super::{Action, Change, Engine, Error, Input, Order, Progress, Running, Status};
use crate::clock::Clock;
use crate::preview::{PreviewKey, PreviewName};
use durable::failed;
pub use limits::Limits;
use order::{Book, Desk};
pub use release::Recorded;
use release::{Release, Shelf};
pub use site::Site;
use site::{Found, Pointer, Pointers, Revision};

/// How many events may wait for a slow listener.
const EVENTS: usize = 256;

/// Serves archives. See the module's documentation.
#[derive(Debug)]
pub struct StaticSite {
    inner: Arc<Inner>,
}

/// What the engine's own tasks share with it.
#[derive(Debug)]
struct Inner {
    incoming: PathBuf,
    limits: Limits,
    clock: Clock,
    shelf: Shelf,
    pointers: Pointers,
    sites: RwLock<HashMap<PreviewName, Arc<Site>>>,
    desks: Mutex<HashMap<PreviewName, Arc<Desk>>>,
    slots: Semaphore,
    events: broadcast::Sender<PreviewKey>,
    /// Locked for as long as it is open.
    _lock: File,
}

impl StaticSite {
    /// Opens the engine in `folder`, which is made when missing, for the greenroom instance called `instance`.
    ///
    /// Reads what is served, and removes what a crash has left and releases that nobody needs.
    pub fn open(folder: &Path, instance: &str, limits: Limits, clock: Clock) -> Result<Arc<Self>, Error> {
        let [incoming, releases, previews] =
            ["incoming", "releases", "previews"].map(|name| folder.join(name));
        fs::create_dir_all(folder).map_err(failed("make", folder))?;
        let lock = folder.join("lock");
        let lock = File::create(&lock)
            .and_then(|file| file.try_lock().map_err(io::Error::from).map(|()| file))
            .map_err(failed("lock (does another greenroom run here?)", &lock))?;
        if incoming.exists() {
            fs::remove_dir_all(&incoming).map_err(failed("clear", &incoming))?;
        }
        for folder in [&incoming, &releases, &previews] {
            fs::create_dir_all(folder).map_err(failed("make", folder))?;
        }
        durable::sync_folder(folder)?;
        let inner = Inner {
            limits,
            clock,
            shelf: Shelf::new(releases, incoming.clone()),
            pointers: Pointers::new(previews, incoming.clone(), instance.to_owned()),
            incoming,
            sites: RwLock::default(),
            desks: Mutex::default(),
            slots: Semaphore::new(limits.parallel.max(1)),
            events: broadcast::Sender::new(EVENTS),
            _lock: lock,
        };
        inner.load()?;
        inner.shelf.collect()?;
        Ok(Arc::new(Self { inner: Arc::new(inner) }))
    }

    /// Where to put an archive before it is handed over in an order: the file system of the releases.
    pub fn incoming(&self) -> &Path {
        &self.inner.incoming
    }

    /// What is served of a preview. Does not touch the disk.
    pub fn site(&self, name: &PreviewName) -> Option<Arc<Site>> {
        self.inner.site(name)
    }
}

impl Inner {
    /// Reads the pointers.
    fn load(&self) -> Result<(), Error> {
        for found in self.pointers.all()? {
            match found {
                Found::Ours(pointer) => self.load_one(pointer)?,
                Found::Foreign { release, .. } => self.shelf.keep(&release),
                Found::Unreadable => self.shelf.keep_all(),
            }
        }
        Ok(())
    }

    fn load_one(&self, pointer: Pointer) -> Result<(), Error> {
        let name = pointer.revision.name.clone();
        if let Some(release) = self.shelf.get(&pointer.release)? {
            self.serve(name, Arc::new(Site::new(pointer, release)));
        } else {
            let why = "its files on greenroom's disk are gone or damaged and are made anew";
            let desk = Desk::with_trouble(pointer.revision, why.to_owned());
            self.desks().insert(name, Arc::new(desk));
        }
        Ok(())
    }

    fn site(&self, name: &PreviewName) -> Option<Arc<Site>> {
        self.sites.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn serve(&self, name: PreviewName, site: Arc<Site>) {
        self.sites.write().unwrap_or_else(PoisonError::into_inner).insert(name, site);
    }

    /// Takes a preview's site away.
    fn withdraw(&self, name: &PreviewName) -> Option<Arc<Site>> {
        self.sites.write().unwrap_or_else(PoisonError::into_inner).remove(name)
    }

    fn desks(&self) -> std::sync::MutexGuard<'_, HashMap<PreviewName, Arc<Desk>>> {
        self.desks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn desk(&self, name: &PreviewName) -> Arc<Desk> {
        Arc::clone(self.desks().entry(name.clone()).or_default())
    }

    /// Forgets a desk that nobody is at and that has nothing on it.
    fn tidy(&self, name: &PreviewName) {
        let mut desks = self.desks();
        if desks.get_mut(name).and_then(Arc::get_mut).is_some_and(Desk::is_clear) {
            desks.remove(name);
        }
    }

    fn tell(&self, key: PreviewKey) {
        // Nobody listening is fine: the resync is the net.
        let _ = self.events.send(key);
    }

    /// Removes releases that nobody needs. A failure costs disk space only, and the next collection tries again.
    fn collect(&self) {
        if let Err(error) = self.shelf.collect() {
            tracing::error!(%error, "releases that nobody needs could not be removed");
        }
    }

    /// Removes a preview's pointer and site. What is left, in words.
    fn remove(&self, name: &PreviewName, book: &mut Book) -> Result<Vec<String>, Error> {
        self.pointers.remove(name)?;
        if let Some(site) = self.withdraw(name) {
            book.leaving = Arc::downgrade(&site.release);
            self.tell(site.revision.key);
        }
        self.collect();
        let mut left = Vec::new();
        match self.pointers.get(name)? {
            Some(Found::Ours(_)) => left.push(format!("the record of what `{name}` serves")),
            Some(Found::Unreadable) => left.push(format!(
                "a record of what `{name}` served that cannot be read; an operator has to look at it"
            )),
            Some(Found::Foreign { .. }) | None => {}
        }
        if self.is_only_read(&book.leaving) {
            left.push(format!("the files of `{name}`, which a request still reads"));
        }
        Ok(left)
    }

    /// Whether a release is held by requests alone, and by no preview that serves it.
    fn is_only_read(&self, release: &Weak<Release>) -> bool {
        let sites = self.sites.read().unwrap_or_else(PoisonError::into_inner);
        release
            .upgrade()
            .is_some_and(|release| !sites.values().any(|site| Arc::ptr_eq(&site.release, &release)))
    }
}

#[async_trait]
impl Engine for StaticSite {
    fn name(&self) -> &'static str {
        "static"
    }

    async fn apply(&self, order: Order) -> Result<(), Error> {
        let Order { key, name, sha, digest, input } = order;
        let Input::Artifact { archive, root, spa } = input else {
            return Err(Error::Input { engine: self.name() });
        };
        let revision = Revision { key, name, sha, digest, root, spa };
        Inner::take(&self.inner, revision, archive).await;
        Ok(())
    }

    async fn status(&self, name: &PreviewName) -> Result<Status, Error> {
        // Kept locked while the site is read: an order leaves the book when its site is served, not before.
        let desk = self.inner.desk(name);
        let book = desk.book.lock().await;
        let pending = book.newest.as_ref().map(|newest| {
            (newest.revision.sha.clone(), newest.revision.digest.clone(), newest.progress.clone())
        });
        let serving = self.inner.site(name).map(|site| Running {
            sha: site.sha().clone(),
            digest: site.digest().to_owned(),
            since: site.since(),
        });
        drop(book);
        drop(desk);
        self.inner.tidy(name);
        Ok(Status { serving, pending, ..Status::default() })
    }

    async fn plan(&self, order: &Order) -> Result<Vec<Change>, Error> {
        let site = self.inner.site(&order.name);
        let action = match &site {
            None => Action::Create,
            Some(site) if site.digest() == order.digest => return Ok(Vec::new()),
            Some(_) => Action::Update,
        };
        Ok(vec![Change {
            object: format!("Site {}", order.name),
            action,
            diff: String::new(),
            refused: None,
        }])
    }

    async fn logs(&self, _: &PreviewName, _: usize) -> Result<Vec<String>, Error> {
        Ok(Vec::new()) // files do not speak
    }

    async fn sleep(&self, _: &PreviewName) -> Result<(), Error> {
        Ok(()) // files cost nothing while nobody looks
    }

    async fn wake(&self, _: &PreviewName) -> Result<(), Error> {
        Ok(())
    }

    async fn stop(&self, name: &PreviewName) -> Result<Vec<String>, Error> {
        let desk = self.inner.desk(name);
        desk.book.lock().await.overtake();
        let turn = Arc::clone(&desk.turn).lock_owned().await;
        // The turn goes along: should the caller give up waiting, no order starts before the removal has ended.
        let inner = Arc::clone(&self.inner);
        let preview = name.clone();
        let left = spawn_blocking(move || {
            let _turn = turn;
            inner.remove(&preview, &mut desk.book.blocking_lock())
        })
        .await
        .map_err(interrupted)?;
        self.inner.tidy(name);
        left
    }

    async fn inventory(&self) -> Result<Vec<PreviewName>, Error> {
        let mut names: BTreeSet<PreviewName> =
            self.inner.sites.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
        let desks: Vec<(PreviewName, Arc<Desk>)> =
            self.inner.desks().iter().map(|(name, desk)| (name.clone(), Arc::clone(desk))).collect();
        for (name, desk) in desks {
            if desk.book.lock().await.newest.is_some() {
                names.insert(name);
            }
        }
        Ok(names.into_iter().collect())
    }

    async fn foreign(&self) -> Result<Vec<String>, Error> {
        let inner = Arc::clone(&self.inner);
        let found = spawn_blocking(move || inner.pointers.all()).await.map_err(interrupted)??;
        let ids: BTreeSet<String> = found
            .into_iter()
            .filter_map(|found| match found {
                Found::Foreign { instance, .. } => Some(instance),
                Found::Ours(_) | Found::Unreadable => None,
            })
            .collect();
        Ok(ids.into_iter().collect())
    }

    fn events(&self) -> broadcast::Receiver<PreviewKey> {
        self.inner.events.subscribe()
    }
}

/// A blocking piece of work that panicked, or that the end of the process cut off.
fn interrupted(error: JoinError) -> Error {
    Error::Io { what: "a task of the static engine ended early".to_owned(), source: io::Error::other(error) }
}
