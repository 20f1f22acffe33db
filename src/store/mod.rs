//! All SQL: deliveries, the work queue, previews and their history.
//!
//! Needs: a SQLite file (one process) or a PostgreSQL database (several replicas), at its defaults `READ COMMITTED` and
//! `synchronous_commit`. One SQL text serves both; the single difference is how a JSON array becomes rows.
//!
//! Properties:
//! * A delivery and the work it asks for are durable, in one transaction, before [`Store::accept`] returns. Deliveries
//!   that wait together share one commit.
//! * The queue's contract stands in `work.rs`.
//! * SQLite is written through one connection, so that writers queue in this process instead of failing with
//!   "database is locked"; readers do not wait for it (WAL).
//! * Ids of 64 bits come back as they went in, though databases count in signed ones.
//!
//! Several replicas on one PostgreSQL:
//! * They share the queue: a key is leased to one worker of one of them.
//! * [`Store::woken`] hears of work that this process added. Other replicas find it when they next ask, which the
//!   controller does at least every five seconds.
//! * Nobody calls [`Store::release_all`]: the leases may be those of a replica that lives. What a dead one held is free
//!   when its lease has run out.
//! * They may start at once: the schema is migrated under a lock of the database.
//!
//! Races, and what was decided:
//! * *Two processes on one SQLite file* would both write, and the later one would release the leases of the other. `cli`
//!   holds a lock file in the data folder against that; a file outside that folder is the operator's to keep apart.
//! * *A statement waits for a row that another one changes* (PostgreSQL only): it then goes by the row it chose, without
//!   choosing again. So each `UPDATE` and `DELETE` repeats outside its subquery what made it choose the row.
//! * *Two transactions take the same rows*: in the order of their text, so that neither waits for the other for ever.

mod checks;
mod housekeeping;
mod intake;
mod intents;
mod listed;
mod notes;
mod orders;
mod places;
mod previews;
mod removals;
mod work;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::time::Duration;

use sqlx::any::{AnyPoolOptions, install_default_drivers};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AnyConnection, AnyPool, Connection, Executor};
use tokio::sync::{Notify, mpsc};

use crate::preview::{BranchId, PreviewKey, Subject};

pub use checks::Asking;
pub use housekeeping::Retention;
pub use intake::{Accepted, Delivery, Received};
pub use intents::Asked;
pub use listed::Relisted;
pub use orders::KeptOrder;
pub use places::Places;
pub use previews::{HistoryEntry, LivePreview};
pub use removals::{Removal, Sweep};
pub use work::{Claim, Lane, QueueDepth};

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL names neither SQLite nor PostgreSQL.
    #[error("`{0}` is no store; use `sqlite:///path/to/file` or `postgres://user@host/database`")]
    Url(String),
    /// The folder of the SQLite file is missing.
    #[error("the store `{file}` cannot be opened: there is no folder `{folder}`\nhint: create it")]
    Folder {
        /// The file.
        file: String,
        /// The folder it would be in.
        folder: String,
    },
    /// The database refused or is gone.
    #[error("the store cannot {what}: {source}")]
    Database {
        /// What was being done.
        what: &'static str,
        /// The driver's reason.
        #[source]
        source: Arc<sqlx::Error>,
    },
    /// The schema could not be brought up to date.
    #[error("the store's schema cannot be brought up to date: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A stored document cannot be read.
    #[error("the store holds a document that cannot be read ({what}): {source}")]
    Document {
        /// Which one.
        what: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// It took too long; it may happen yet.
    #[error("the store did not {what} in time")]
    Slow {
        /// What was being done.
        what: &'static str,
    },
    /// It was closed; the process is about to end.
    #[error("the store is shutting down")]
    Closed,
}

/// Names what was being done in a database error.
fn doing<E: Into<Arc<sqlx::Error>>>(what: &'static str) -> impl FnOnce(E) -> Error {
    move |source| {
        let source = source.into();
        match *source {
            sqlx::Error::PoolClosed => Error::Closed,
            _ => Error::Database { what, source },
        }
    }
}

/// An id as a database holds it: the same 64 bits.
const fn signed(id: u64) -> i64 {
    id.cast_signed()
}

/// The id that [`signed`] made this of.
const fn unsigned(id: i64) -> u64 {
    id.cast_unsigned()
}

/// What of a project a key is about, as the columns `mr_iid` hold it: the number of a merge request, or below zero that of a
/// branch without one.
fn subject(key: PreviewKey) -> i64 {
    match key.subject {
        Subject::MergeRequest(iid) => signed(iid),
        Subject::Branch(id) => -1 - signed(id.number()),
    }
}

/// The key whose project and [`subject`] these are.
fn key(project: i64, subject: i64) -> PreviewKey {
    let subject = if subject < 0 {
        Subject::Branch(BranchId::from_number(unsigned(-1 - subject)))
    } else {
        Subject::MergeRequest(unsigned(subject))
    };
    PreviewKey::new(unsigned(project), subject)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Backend {
    Sqlite,
    Postgres,
}

impl Backend {
    fn of(url: &str) -> Option<Self> {
        match url.split(':').next() {
            Some("sqlite") => Some(Self::Sqlite),
            Some("postgres" | "postgresql") => Some(Self::Postgres),
            _ => None,
        }
    }
}

/// How long to wait for a connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// How each SQLite connection is set up. Delivery ids are random, so each one changes a page of its own, and a busy time
/// the same pages again and again: a checkpoint after 64 MiB instead of 4 copies most of them once instead of often.
const PRAGMAS: [&str; 6] = [
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA busy_timeout = 5000",
    "PRAGMA wal_autocheckpoint = 16000",
    "PRAGMA cache_size = -4000",
    // With a full batch a statement's own journal outgrows its buffer; else it is a file, made and removed each time.
    "PRAGMA temp_store = MEMORY",
];

/// The open store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    write: AnyPool,
    read: AnyPool,
    backend: Backend,
    intake: mpsc::Sender<intake::Waiting>,
    wake: Arc<Notify>,
}

impl Store {
    /// Opens the store at `url` and brings its schema up to date.
    ///
    /// A SQLite file is created when missing; its folder must exist.
    pub async fn open(url: &str) -> Result<Self, Error> {
        install_default_drivers();
        let backend = Backend::of(url)
            .ok_or_else(|| Error::Url(url.split(':').next().unwrap_or_default().to_owned()))?;
        let url = if backend == Backend::Sqlite { sqlite_file(url)? } else { url.to_owned() };
        let pool = async |size: u32| {
            let options = AnyPoolOptions::new()
                .max_connections(size)
                .acquire_timeout(PATIENCE)
                // A file's connection does not break while it waits.
                .test_before_acquire(backend == Backend::Postgres)
                .after_connect(move |connection, _| {
                    Box::pin(async move {
                        if backend == Backend::Sqlite {
                            for pragma in PRAGMAS {
                                connection.execute(pragma).await?;
                            }
                        }
                        Ok(())
                    })
                });
            match options.connect(&url).await {
                Err(sqlx::Error::PoolTimedOut) => Err(unreachable(&url).await),
                connected => connected,
            }
            .map_err(doing("be opened"))
        };
        let (write, read) = match backend {
            Backend::Sqlite => (pool(1).await?, pool(4).await?),
            Backend::Postgres => {
                let both = pool(8).await?;
                (both.clone(), both)
            }
        };
        sqlx::migrate!("src/store/migrations").run(&write).await?;
        let wake = Arc::new(Notify::new());
        let intake = intake::start(write.clone(), backend, Arc::clone(&wake));
        Ok(Self { write, read, backend, intake, wake })
    }

    /// Whether the store answers and can be written.
    pub async fn ready(&self) -> Result<(), Error> {
        sqlx::query(
            "INSERT INTO meta (key, value) VALUES ('ready', '1') ON CONFLICT (key) DO UPDATE SET value = '1'",
        )
        .execute(&self.write)
        .await
        .map(drop)
        .map_err(doing("be written"))
    }

    /// The value kept under `key`, or `value`, which is kept from now on.
    pub async fn remember(&self, key: &str, value: &str) -> Result<String, Error> {
        sqlx::query("INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING")
            .bind(key)
            .bind(value)
            .execute(&self.write)
            .await
            .map_err(doing("keep a value"))?;
        sqlx::query_scalar("SELECT value FROM meta WHERE key = $1")
            .bind(key)
            .fetch_one(&self.write)
            .await
            .map_err(doing("read a value"))
    }

    /// Woken whenever work was added in this process. Register before looking for work, and none is missed.
    pub fn woken(&self) -> tokio::sync::futures::Notified<'_> {
        self.wake.notified()
    }

    /// Whether several processes may share the store at `url`.
    pub fn is_shared(url: &str) -> bool {
        Backend::of(url) == Some(Backend::Postgres)
    }

    /// Closes all connections; waits until what was being written is written.
    pub async fn close(&self) {
        self.write.close().await;
        self.read.close().await;
    }
}

/// Why nobody answers at `url`; a pool only says that its time is up.
async fn unreachable(url: &str) -> sqlx::Error {
    match tokio::time::timeout(PATIENCE, AnyConnection::connect(url)).await {
        Ok(Err(reason)) => reason,
        Ok(Ok(_)) | Err(_) => sqlx::Error::PoolTimedOut,
    }
}

/// The URL of a SQLite file in a folder that exists, opened so that it is created when missing.
fn sqlite_file(url: &str) -> Result<String, Error> {
    let options: SqliteConnectOptions = url.parse().map_err(doing::<sqlx::Error>("be opened"))?;
    let file = options.get_filename();
    match file.parent() {
        // In memory, each connection would have a database of its own.
        _ if url.contains(":memory:") => return Err(Error::Url(url.to_owned())),
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => {
            return Err(Error::Folder {
                file: file.display().to_string(),
                folder: folder.display().to_string(),
            });
        }
        _ => {}
    }
    let url = match url.split_once('?') {
        None => format!("{url}?mode=rwc"),
        Some((_, options)) if options.contains("mode=") => url.to_owned(),
        Some(_) => format!("{url}&mode=rwc"),
    };
    if url.contains("mode=rwc") {
        // SQLite would let everybody on this machine read it, and gives the files beside it the rights of this one. What goes wrong
        // here it tells itself.
        let _ = OpenOptions::new().append(true).create(true).mode(0o600).open(file);
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn nobody_else_on_this_machine_reads_a_new_store() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("greenroom.db").display());
        let store = Store::open(&url).await.unwrap();
        store.remember("password_key", "hush").await.unwrap();
        let files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(Result::unwrap).collect();
        assert!(files.len() > 1, "there is a log beside it: {files:?}");
        for file in files {
            let mode = file.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{} has {mode:o}", file.path().display());
        }
    }
}
