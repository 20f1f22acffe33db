//! All SQL: deliveries, the work queue, previews and their history.
//!
//! Needs: a SQLite file (one process) or a PostgreSQL database (several replicas). One SQL text serves both; the single
//! difference is how a JSON array becomes rows.
//!
//! Properties:
//! * A delivery and the work it asks for are durable, in one transaction, before [`Store::accept`] returns. Deliveries
//!   that wait together share one commit.
//! * The queue's contract stands in `work.rs`.
//! * SQLite is written through one connection, so that writers queue in this process instead of failing with
//!   "database is locked"; readers do not wait for it (WAL).
//!
//! Races: two processes on one SQLite file would both write; `cli` holds a lock file in the data folder against that.

mod housekeeping;
mod intake;
mod previews;
mod work;

use std::sync::Arc;
use std::time::Duration;

use sqlx::any::{AnyPoolOptions, install_default_drivers};
use sqlx::{AnyPool, Executor};
use tokio::sync::{Notify, mpsc};

pub use housekeeping::Retention;
pub use intake::{Accepted, Delivery};
pub use previews::HistoryEntry;
pub use work::{Claim, QueueDepth};

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL names neither SQLite nor PostgreSQL.
    #[error("`{0}` is no store; use `sqlite:///path/to/file` or `postgres://user@host/database`")]
    Url(String),
    /// The database refused or is gone.
    #[error("the store cannot {what}: {source}")]
    Database {
        /// What was being done.
        what: &'static str,
        /// The driver's reason.
        #[source]
        source: sqlx::Error,
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
    /// The writer is gone; the process is about to end.
    #[error("the store is shutting down")]
    Closed,
}

/// Names what was being done in a database error.
fn doing(what: &'static str) -> impl FnOnce(sqlx::Error) -> Error {
    move |source| Error::Database { what, source }
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
        let pool = |size: u32| {
            AnyPoolOptions::new()
                .max_connections(size)
                .acquire_timeout(Duration::from_secs(5))
                .after_connect(move |connection, _| {
                    Box::pin(async move {
                        if backend == Backend::Sqlite {
                            for pragma in [
                                "PRAGMA journal_mode = WAL",
                                "PRAGMA synchronous = FULL",
                                "PRAGMA busy_timeout = 5000",
                            ] {
                                connection.execute(pragma).await?;
                            }
                        }
                        Ok(())
                    })
                })
                .connect(url)
        };
        let open = doing("be opened");
        let (write, read) = match backend {
            Backend::Sqlite => {
                let write = pool(1).await.map_err(open)?;
                (write, pool(4).await.map_err(doing("be opened for reading"))?)
            }
            Backend::Postgres => {
                let both = pool(8).await.map_err(open)?;
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
