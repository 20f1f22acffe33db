//! Durable intake with group commit: whatever deliveries wait together go into one transaction, with one statement per
//! table, so that durability does not cost one fsync each.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use sqlx::{AnyConnection, AnyPool, Row};
use tokio::sync::{Notify, mpsc, oneshot};

use super::{Backend, Error, Store, doing, signed, unsigned};
use crate::preview::{ProjectId, WorkKey};

/// A verified delivery. Never its body: that carries CI variables in clear.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// GitLab's id of it; equal ids are one delivery.
    pub id: String,
    /// The `X-Gitlab-Event` header.
    pub event: String,
    /// What became of it: `look`, `irrelevant`, `foreign`, `unknown` or `unreadable`.
    pub outcome: &'static str,
    /// Project it came from, with its path.
    pub project: Option<(ProjectId, String)>,
    /// What is to be looked at.
    pub work: Option<WorkKey>,
    /// Whether a merge request was reopened, which lifts a stop by hand.
    pub reopened: bool,
    /// When it came, Unix milliseconds.
    pub at: i64,
}

/// Whether a delivery was new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// Stored now.
    New,
    /// Stored before; nothing was changed.
    Repeated,
}

pub(super) struct Waiting {
    delivery: Delivery,
    done: oneshot::Sender<Result<Accepted, Arc<sqlx::Error>>>,
}

/// The most deliveries in one transaction.
const BATCH: usize = 256;

/// How long a delivery waits for its place in a batch and for the commit. GitLab hangs up after 10 s.
const PATIENCE: Duration = Duration::from_secs(8);

macro_rules! from_json {
    ($before:literal, $after:literal) => {
        [
            concat!($before, " FROM json_each($1) AS item WHERE true ", $after),
            concat!($before, " FROM json_array_elements($1::json) AS item(value) WHERE true ", $after),
        ]
    };
}

const DELIVERIES: [&str; 2] = from_json!(
    "INSERT INTO deliveries (id, event, key, at, outcome) \
     SELECT item.value->>0, item.value->>1, item.value->>2, CAST(item.value->>3 AS BIGINT), item.value->>4",
    "ON CONFLICT (id) DO NOTHING RETURNING id"
);

const WORK: [&str; 2] = from_json!(
    "INSERT INTO work (key, run_at, requested, done, attempts, lease_until, lift) \
     SELECT item.value->>0, CAST(item.value->>1 AS BIGINT), 1, 0, 0, 0, CAST(item.value->>2 AS BIGINT)",
    "ON CONFLICT (key) DO UPDATE SET requested = work.requested + 1, \
     run_at = CASE WHEN excluded.run_at < work.run_at OR work.requested = work.done \
              THEN excluded.run_at ELSE work.run_at END, \
     lift = CASE WHEN excluded.lift > 0 THEN work.requested + 1 \
            WHEN excluded.lift < 0 THEN work.done ELSE work.lift END"
);

/// What a hint says of a stop by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lift {
    /// It is over.
    Yes,
    /// Nothing.
    No,
    /// It came last: what would have lifted it before does not any more.
    Never,
}

const PROJECTS: [&str; 2] = from_json!(
    "INSERT INTO projects (id, path, seen_at) \
     SELECT CAST(item.value->>0 AS BIGINT), item.value->>1, CAST(item.value->>2 AS BIGINT)",
    "ON CONFLICT (id) DO UPDATE SET path = excluded.path, seen_at = excluded.seen_at"
);

impl Store {
    /// Stores a delivery and the work it asks for. Durable when this returns. After [`Error::Slow`] it may be stored yet.
    pub async fn accept(&self, delivery: Delivery) -> Result<Accepted, Error> {
        tokio::time::timeout(PATIENCE, self.wait_for(delivery))
            .await
            .unwrap_or(Err(Error::Slow { what: "keep a delivery" }))
    }

    async fn wait_for(&self, delivery: Delivery) -> Result<Accepted, Error> {
        let (done, answer) = oneshot::channel();
        self.intake.send(Waiting { delivery, done }).await.map_err(|_| Error::Closed)?;
        match answer.await {
            Ok(accepted) => accepted.map_err(doing("keep a delivery")),
            Err(_) => Err(Error::Closed),
        }
    }

    /// Asks for looks at `keys`, all at `run_at`.
    pub async fn enqueue(&self, keys: &[WorkKey], run_at: i64) -> Result<(), Error> {
        if keys.is_empty() {
            return Ok(());
        }
        let what = "queue work";
        let mut connection = self.write.acquire().await.map_err(doing(what))?;
        self.put_work(&mut connection, keys, run_at, Lift::No).await.map_err(doing(what))?;
        self.wake.notify_waiters();
        Ok(())
    }

    /// As [`Self::enqueue`], as part of a transaction and without waking anybody.
    pub(super) async fn put_work(
        &self,
        connection: &mut AnyConnection,
        keys: &[WorkKey],
        run_at: i64,
        lift: Lift,
    ) -> Result<(), sqlx::Error> {
        let lift = match lift {
            Lift::Yes => "1",
            Lift::No => "0",
            Lift::Never => "-1",
        };
        // Each key once, which PostgreSQL insists on, and in the order in which the intake takes them.
        let rows: BTreeSet<(String, String, &str)> =
            keys.iter().map(|key| (key.to_string(), run_at.to_string(), lift)).collect();
        sqlx::query(WORK[self.backend as usize]).bind(json(&rows)).execute(connection).await.map(drop)
    }

    /// Every project that ever delivered, with its path as last seen.
    pub async fn projects(&self) -> Result<Vec<(ProjectId, String)>, Error> {
        let rows = sqlx::query("SELECT id, path FROM projects ORDER BY id")
            .fetch_all(&self.read)
            .await
            .map_err(doing("list projects"))?;
        Ok(rows.iter().map(|row| (unsigned(row.get(0)), row.get(1))).collect())
    }

    /// When each project delivered last, Unix milliseconds.
    pub async fn last_deliveries(&self) -> Result<BTreeMap<ProjectId, i64>, Error> {
        let rows = sqlx::query("SELECT id, seen_at FROM projects")
            .fetch_all(&self.read)
            .await
            .map_err(doing("list projects"))?;
        Ok(rows.iter().map(|row| (unsigned(row.get(0)), row.get(1))).collect())
    }
}

/// Starts the writer. It ends when the last [`Store`] is dropped.
pub(super) fn start(pool: AnyPool, backend: Backend, wake: Arc<Notify>) -> mpsc::Sender<Waiting> {
    let (sender, mut receiver) = mpsc::channel::<Waiting>(4 * BATCH);
    tokio::spawn(async move {
        let mut batch = Vec::with_capacity(BATCH);
        while receiver.recv_many(&mut batch, BATCH).await > 0 {
            let mut written = write(&pool, backend, &batch).await.map_err(Arc::new);
            wake.notify_waiters();
            for waiting in batch.drain(..) {
                // Of two equal ids in one batch the first is the new one.
                let answer = written.as_mut().map_err(|error| Arc::clone(error)).map(|new| {
                    if new.remove(&waiting.delivery.id) { Accepted::New } else { Accepted::Repeated }
                });
                // Who hung up does not need the answer, and the delivery is stored all the same; but nobody else would
                // tell that it is not.
                if let Err(Err(error)) = waiting.done.send(answer) {
                    tracing::error!(%error, delivery.id = waiting.delivery.id, "a delivery could not be stored");
                }
            }
        }
    });
    sender
}

/// One transaction for all of `batch`; returns the ids that were new.
async fn write(pool: &AnyPool, backend: Backend, batch: &[Waiting]) -> Result<HashSet<String>, sqlx::Error> {
    let mut first: BTreeMap<&str, &Delivery> = BTreeMap::new();
    for waiting in batch {
        first.entry(&waiting.delivery.id).or_insert(&waiting.delivery);
    }
    let key = |delivery: &Delivery| delivery.work.as_ref().map(ToString::to_string);
    let rows: Vec<_> =
        first.values().map(|d| (&d.id, &d.event, key(d), d.at.to_string(), d.outcome)).collect();

    let mut transaction = pool.begin().await?;
    let new: HashSet<String> = sqlx::query_scalar(DELIVERIES[backend as usize])
        .bind(json(&rows))
        .fetch_all(&mut *transaction)
        .await?
        .into_iter()
        .collect();

    let mut work: BTreeMap<String, (i64, bool)> = BTreeMap::new();
    let mut projects: BTreeMap<ProjectId, (i64, &str)> = BTreeMap::new();
    for delivery in first.values().filter(|d| new.contains(&d.id)) {
        if let Some(key) = key(delivery) {
            let entry = work.entry(key).or_insert((delivery.at, false));
            *entry = (entry.0.min(delivery.at), entry.1 || delivery.reopened);
        }
        if let Some((id, path)) = &delivery.project {
            let seen = (delivery.at, path.as_str());
            projects.entry(*id).and_modify(|last| *last = seen.max(*last)).or_insert(seen);
        }
    }
    if !work.is_empty() {
        let rows: Vec<_> =
            work.iter().map(|(key, (at, lift))| (key, at.to_string(), u8::from(*lift).to_string())).collect();
        sqlx::query(WORK[backend as usize]).bind(json(&rows)).execute(&mut *transaction).await?;
    }
    if !projects.is_empty() {
        let rows: Vec<_> =
            projects.iter().map(|(id, (at, path))| (signed(*id).to_string(), path, at.to_string())).collect();
        sqlx::query(PROJECTS[backend as usize]).bind(json(&rows)).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(new)
}

/// Rows as a JSON array. Strings and arrays always serialise.
fn json<T: serde::Serialize>(rows: &T) -> String {
    serde_json::to_string(rows).unwrap_or_default()
}
