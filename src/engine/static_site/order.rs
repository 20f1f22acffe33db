//! The life of one order: taken, in turn, unpacked, switched to. Or overtaken, or given up.

use std::path::Path;
use std::sync::{Arc, Weak};

use tempfile::TempPath;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::archive::{Stop, unpack};
use super::release::Release;
use super::site::{Revision, Site};
use super::{Inner, Progress};
use crate::engine::Error;

/// Where the orders for one preview meet.
#[derive(Debug, Default)]
pub(super) struct Desk {
    /// Held by whoever works for the preview: an order, or a stop. Long.
    pub(super) turn: Arc<Mutex<()>>,
    /// Held to take note of an order, or to switch to one. Short.
    pub(super) book: Mutex<Book>,
}

/// What is known of the orders for one preview.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// The newest order, until it is served.
    pub(super) newest: Option<Newest>,
    /// What a stop took away; dead when its files are gone.
    pub(super) leaving: Weak<Release>,
}

/// The newest order.
#[derive(Debug)]
pub(super) struct Newest {
    pub(super) revision: Revision,
    pub(super) progress: Progress,
    overtaken: CancellationToken,
}

impl Desk {
    /// A desk whose newest order cannot be served for a trouble of ours.
    pub(super) fn with_trouble(revision: Revision, why: String) -> Self {
        let newest =
            Newest { revision, progress: Progress::Trouble(why), overtaken: CancellationToken::new() };
        Self { turn: Arc::default(), book: Mutex::new(Book { newest: Some(newest), leaving: Weak::new() }) }
    }

    /// Whether nothing is lost when it is forgotten.
    pub(super) fn is_clear(&mut self) -> bool {
        let book = self.book.get_mut();
        book.newest.is_none() && book.leaving.strong_count() == 0
    }
}

impl Book {
    /// Strikes the newest order: it will never be served.
    pub(super) fn overtake(&mut self) {
        if let Some(newest) = self.newest.take() {
            newest.overtaken.cancel();
        }
    }

    /// Writes down a new order, which overtakes the one before it. Cancelled when it is overtaken in turn.
    pub(super) fn note(&mut self, revision: Revision) -> CancellationToken {
        self.overtake();
        let overtaken = CancellationToken::new();
        self.newest = Some(Newest { revision, progress: Progress::Working, overtaken: overtaken.clone() });
        overtaken
    }
}

impl Inner {
    /// Takes an order: writes it into the book, and starts its work. Returns at once.
    pub(super) async fn take(inner: &Arc<Self>, revision: Revision, archive: TempPath) {
        let desk = inner.desk(&revision.name);
        let mut book = desk.book.lock().await;
        let under_way = book
            .newest
            .as_ref()
            .is_some_and(|newest| newest.revision == revision && newest.progress == Progress::Working);
        if under_way {
            return discard(archive);
        }
        if inner.site(&revision.name).is_some_and(|site| site.revision == revision) {
            book.overtake();
            inner.tell(revision.key);
            return discard(archive);
        }
        let overtaken = book.note(revision.clone());
        drop(book);
        let work = Work { inner: Arc::clone(inner), desk, revision, overtaken };
        tokio::spawn(work.run(archive));
    }
}

/// Removes an archive that is not needed, without waiting for it.
fn discard(archive: TempPath) {
    spawn_blocking(move || drop(archive));
}

/// One order at work.
pub(super) struct Work {
    pub(super) inner: Arc<Inner>,
    pub(super) desk: Arc<Desk>,
    pub(super) revision: Revision,
    pub(super) overtaken: CancellationToken,
}

impl Work {
    async fn run(self, archive: TempPath) {
        let turn = async {
            let turn = Arc::clone(&self.desk.turn).lock_owned().await;
            // Never closed; were it, there would be no bound and still no harm.
            let slot = self.inner.slots.acquire().await.ok();
            (turn, slot)
        };
        // The turn goes along with the blocking work, the slot does not need to: it only bounds.
        let Some((turn, _slot)) = self.overtaken.run_until_cancelled(turn).await else {
            return discard(archive);
        };
        let (inner, desk, revision) =
            (Arc::clone(&self.inner), Arc::clone(&self.desk), self.revision.clone());
        let overtaken = self.overtaken.clone();
        let work = Self { inner, desk, revision, overtaken };
        let done = spawn_blocking(move || {
            work.bring_up(&archive);
            drop(archive);
            drop(turn);
        });
        if let Err(error) = done.await {
            tracing::error!(%error, preview.name = %self.revision.name, "unpacking an archive ended early");
            let mut book = self.desk.book.lock().await;
            self.give_up(&mut book, Progress::Trouble("greenroom stopped working on it".to_owned()));
            self.inner.tell(self.revision.key);
        }
    }

    /// Unpacks and switches. Runs where blocking is fine.
    fn bring_up(&self, archive: &Path) {
        let done = self.release(archive).and_then(|release| Ok(self.switch(release)?));
        match done {
            Ok(()) | Err(Stop::Overtaken) => {}
            Err(Stop::Refused(refusal)) => {
                tracing::info!(preview.name = %self.revision.name, reason = %refusal, "archive refused");
                self.give_up(&mut self.desk.book.blocking_lock(), Progress::Failed(refusal.to_string()));
            }
            Err(Stop::Io(error)) => {
                // The log has the path and the reason; the merge request gets neither.
                tracing::error!(preview.name = %self.revision.name, %error, "an archive could not be served");
                let why = "greenroom cannot use its disk and tries again; tell its operator".to_owned();
                self.give_up(&mut self.desk.book.blocking_lock(), Progress::Trouble(why));
            }
        }
        self.inner.tell(self.revision.key);
        self.inner.collect();
    }

    /// The release of this order: the one that is served if it has the same files, else a new one.
    pub(super) fn release(&self, archive: &Path) -> Result<Arc<Release>, Stop> {
        if let Some(site) = self.inner.site(&self.revision.name)
            && site.revision.same_files(&self.revision)
        {
            return Ok(Arc::clone(&site.release));
        }
        let draft = self.inner.shelf.draft()?;
        let limits = &self.inner.limits;
        let manifest = unpack(archive, &self.revision.root, &draft.files(), limits, &self.overtaken)?;
        Ok(self.inner.shelf.put(&draft, manifest)?)
    }

    /// Serves `release`, unless the order was overtaken.
    pub(super) fn switch(&self, release: Arc<Release>) -> Result<(), Error> {
        let mut book = self.desk.book.blocking_lock();
        // Cancelled under the same lock, so that no newer order can come in before the switch is done.
        if self.overtaken.is_cancelled() {
            return Ok(());
        }
        let since = self.inner.clock.now();
        match self.inner.pointers.set(self.revision.clone(), &release, since)? {
            Some(pointer) => {
                let name = self.revision.name.clone();
                self.inner.serve(name, Arc::new(Site::new(pointer, release)));
                book.newest = None;
                tracing::info!(preview.name = %self.revision.name, sha = %self.revision.sha, "serving");
            }
            None => self.give_up(
                &mut book,
                Progress::Trouble(format!(
                    "another greenroom instance serves a preview called `{}` from the same folder; tell its operator",
                    self.revision.name
                )),
            ),
        }
        Ok(())
    }

    fn give_up(&self, book: &mut Book, progress: Progress) {
        if !self.overtaken.is_cancelled()
            && let Some(newest) = &mut book.newest
        {
            newest.progress = progress;
        }
    }
}
