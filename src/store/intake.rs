//! Durable intake with group commit: whatever deliveries wait together go into one transaction, and that to the database in
//! one go, so that durability costs neither an fsync nor a way there and back for each.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use sqlx::{AnyConnection, AnyPool, Row};
use tokio::sync::{Notify, mpsc, oneshot};

use super::{Backend, Error, Lane, Store, doing, signed, unsigned};
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

/// What is remembered of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The `X-Gitlab-Event` header.
    pub event: String,
    /// What became of it, as in [`Delivery`].
    pub outcome: String,
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
    ($before:literal, $after:expr) => {
        [
            concat!($before, " FROM json_each($1) AS item WHERE true ", $after),
            concat!($before, " FROM json_array_elements($1::json) AS item(value) WHERE true ", $after),
        ]
    };
}

pub(super) use from_json;

/// What a hint does to a key that is known: one more is asked for, and the earlier time and the more urgent lane win.
macro_rules! again {
    () => {
        "ON CONFLICT (key) DO UPDATE SET requested = work.requested + 1, \
         run_at = CASE WHEN excluded.run_at < work.run_at OR work.requested = work.done \
                  THEN excluded.run_at ELSE work.run_at END, \
         lift = CASE WHEN excluded.lift > 0 THEN work.requested + 1 \
                WHEN excluded.lift < 0 THEN work.done ELSE work.lift END, \
         thorough = CASE WHEN excluded.thorough > 0 THEN work.requested + 1 ELSE work.thorough END, \
         lane = CASE WHEN excluded.lane < work.lane OR work.requested = work.done \
                THEN excluded.lane ELSE work.lane END"
    };
}

macro_rules! seen {
    () => {
        "ON CONFLICT (id) DO UPDATE SET path = excluded.path, seen_at = excluded.seen_at"
    };
}

/// Stores a batch, in one text, so that it goes to the database in one go: deliveries as a JSON array of [`Columns`], and
/// projects as one of id, path and time. Returns the ids that were new; only those ask for work.
const ACCEPT: [&str; 2] = [
    // Work first: afterwards no row would tell whether its delivery was new.
    concat!(
        "BEGIN IMMEDIATE; \
         INSERT INTO work (key, run_at, requested, done, attempts, lease_until, lift, lane, thorough) \
         SELECT item.value->>2 AS key, MIN(CAST(item.value->>3 AS BIGINT)), 1, 0, 0, 0, \
                MAX(CAST(item.value->>5 AS BIGINT)), 0, 0 FROM json_each($1) AS item \
         WHERE item.value->>2 IS NOT NULL \
           AND NOT EXISTS (SELECT 1 FROM deliveries WHERE id = item.value->>0) \
         GROUP BY item.value->>2 ",
        again!(),
        "; INSERT INTO projects (id, path, seen_at) \
         SELECT CAST(item.value->>0 AS BIGINT), item.value->>1, CAST(item.value->>2 AS BIGINT) \
         FROM json_each($2) AS item WHERE true ",
        seen!(),
        "; INSERT INTO deliveries (id, event, key, at, outcome) \
         SELECT item.value->>0, item.value->>1, item.value->>2, CAST(item.value->>3 AS BIGINT), item.value->>4 \
         FROM json_each($1) AS item WHERE true ON CONFLICT (id) DO NOTHING RETURNING id; \
         COMMIT",
    ),
    concat!(
        "WITH item AS (SELECT value->>0 AS id, value->>1 AS event, value->>2 AS key, \
                CAST(value->>3 AS BIGINT) AS at, value->>4 AS outcome, CAST(value->>5 AS BIGINT) AS lift \
              FROM json_array_elements($1::json) AS batch(value)), \
         fresh AS (INSERT INTO deliveries (id, event, key, at, outcome) \
              SELECT id, event, key, at, outcome FROM item ON CONFLICT (id) DO NOTHING RETURNING id), \
         queued AS (INSERT INTO work (key, run_at, requested, done, attempts, lease_until, lift, lane, thorough) \
              SELECT key, MIN(at), 1, 0, 0, 0, MAX(lift), 0, 0 FROM item JOIN fresh USING (id) \
              WHERE key IS NOT NULL GROUP BY key ORDER BY key ",
        again!(),
        "), known AS (INSERT INTO projects (id, path, seen_at) \
              SELECT CAST(value->>0 AS BIGINT), value->>1, CAST(value->>2 AS BIGINT) \
              FROM json_array_elements($2::json) AS batch(value) ",
        seen!(),
        ") SELECT id FROM fresh",
    ),
];

/// A delivery as [`ACCEPT`] takes it: id, event, key, time, outcome, and whether it lifts.
type Columns<'a> = (&'a str, &'a str, Option<String>, String, &'a str, &'a str);

const WORK: [&str; 2] = from_json!(
    "INSERT INTO work (key, run_at, requested, done, attempts, lease_until, lift, lane, thorough) \
     SELECT item.value->>0, CAST(item.value->>1 AS BIGINT), 1, 0, 0, 0, CAST(item.value->>2 AS BIGINT), \
     CAST(item.value->>3 AS BIGINT), CAST(item.value->>4 AS BIGINT)",
    again!()
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

    /// Asks for looks at `keys`, all at `run_at`; somebody waits for them.
    pub async fn enqueue(&self, keys: &[WorkKey], run_at: i64) -> Result<(), Error> {
        self.enqueue_in(Lane::Interactive, keys, run_at).await
    }

    /// Asks for looks at `keys`, all at `run_at`.
    pub async fn enqueue_in(&self, lane: Lane, keys: &[WorkKey], run_at: i64) -> Result<(), Error> {
        let hints: Vec<_> =
            keys.iter().map(|key| Hint { key, lane, thorough: false, lift: Lift::No }).collect();
        let mut connection = self.write.acquire().await.map_err(doing("queue work"))?;
        enqueue(&mut connection, self.backend, &hints, run_at).await.map_err(doing("queue work"))?;
        self.wake.notify_waiters();
        Ok(())
    }

    /// The delivery with this id: its event, outcome and time, if it came and is still remembered.
    pub async fn delivery(&self, id: &str) -> Result<Option<Received>, Error> {
        // PostgreSQL takes no such text, so neither came one.
        if id.contains('\0') {
            return Ok(None);
        }
        let row = sqlx::query("SELECT event, outcome, at FROM deliveries WHERE id = $1")
            .bind(id)
            .fetch_optional(&self.read)
            .await
            .map_err(doing("read a delivery"))?;
        Ok(row.map(|row| Received { event: row.get(0), outcome: row.get(1), at: row.get(2) }))
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

    /// The path of a project that delivered, as last seen.
    pub async fn project_path(&self, project: ProjectId) -> Result<Option<String>, Error> {
        sqlx::query_scalar("SELECT path FROM projects WHERE id = $1")
            .bind(signed(project))
            .fetch_optional(&self.read)
            .await
            .map_err(doing("read a project"))
    }
}

/// Starts the writer. It ends when the last [`Store`] is dropped.
pub(super) fn start(pool: AnyPool, backend: Backend, wake: Arc<Notify>) -> mpsc::Sender<Waiting> {
    let (sender, mut receiver) = mpsc::channel::<Waiting>(4 * BATCH);
    tokio::spawn(async move {
        let mut batch = Vec::with_capacity(BATCH);
        while receiver.recv_many(&mut batch, BATCH).await > 0 {
            let written = write(&pool, backend, &batch).await.map_err(Arc::new);
            wake.notify_waiters();
            let answered = std::mem::replace(&mut batch, Vec::with_capacity(BATCH));
            // Beside the next batch, which waits only for the database.
            tokio::spawn(async move { answer(answered, written) });
        }
    });
    sender
}

fn answer(batch: Vec<Waiting>, mut written: Result<HashSet<String>, Arc<sqlx::Error>>) {
    for waiting in batch {
        // Of two equal ids in one batch the first is the new one.
        let answer = written
            .as_mut()
            .map_err(|error| Arc::clone(error))
            .map(|new| if new.remove(&waiting.delivery.id) { Accepted::New } else { Accepted::Repeated });
        // Who hung up does not need the answer, and the delivery is stored all the same; but nobody else would tell that
        // it is not.
        if let Err(Err(error)) = waiting.done.send(answer) {
            tracing::error!(%error, delivery.id = waiting.delivery.id, "a delivery could not be stored");
        }
    }
}

/// One transaction for all of `batch`; returns the ids that were new.
async fn write(pool: &AnyPool, backend: Backend, batch: &[Waiting]) -> Result<HashSet<String>, sqlx::Error> {
    // By id: each one once, and in the order in which every transaction takes them.
    let mut first: BTreeMap<&str, &Delivery> = BTreeMap::new();
    for waiting in batch {
        first.entry(&waiting.delivery.id).or_insert(&waiting.delivery);
    }
    // Each with its newest path.
    let mut projects: BTreeMap<ProjectId, (i64, &str)> = BTreeMap::new();
    for delivery in first.values() {
        if let Some((id, path)) = &delivery.project {
            let seen = (delivery.at, path.as_str());
            projects.entry(*id).and_modify(|last| *last = seen.max(*last)).or_insert(seen);
        }
    }
    let deliveries: Vec<Columns<'_>> = first.into_values().map(columns).collect();
    let projects: Vec<_> =
        projects.iter().map(|(id, (at, path))| (signed(*id).to_string(), path, at.to_string())).collect();
    let mut connection = pool.acquire().await?;
    let stored = sqlx::query_scalar(ACCEPT[backend as usize])
        .bind(json(&deliveries))
        .bind(json(&projects))
        .fetch_all(&mut *connection)
        .await;
    if stored.is_err() && backend == Backend::Sqlite {
        // Where it failed at its beginning there is nothing to take back.
        let _ = sqlx::query("ROLLBACK").execute(&mut *connection).await;
    }
    stored.map(|new| new.into_iter().collect())
}

fn columns(delivery: &Delivery) -> Columns<'_> {
    let Delivery { id, event, outcome, work, reopened, at, .. } = delivery;
    let lifts = if *reopened { "1" } else { "0" };
    (id, event, work.as_ref().map(ToString::to_string), at.to_string(), outcome, lifts)
}

/// Who is to be looked at, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hint<'a> {
    pub key: &'a WorkKey,
    pub lane: Lane,
    pub thorough: bool,
    pub lift: Lift,
}

/// Asks for looks, all at `run_at`.
pub(super) async fn enqueue(
    connection: &mut AnyConnection,
    backend: Backend,
    hints: &[Hint<'_>],
    run_at: i64,
) -> Result<(), sqlx::Error> {
    if hints.is_empty() {
        return Ok(());
    }
    // Each key once, which PostgreSQL insists on, and in the order in which the intake takes them.
    let mut rows: BTreeMap<String, (Lane, bool, &str)> = BTreeMap::new();
    for hint in hints {
        let lift = match hint.lift {
            Lift::Yes => "1",
            Lift::No => "0",
            Lift::Never => "-1",
        };
        let row = rows.entry(hint.key.to_string()).or_insert((hint.lane, hint.thorough, lift));
        *row = (row.0.min(hint.lane), row.1 || hint.thorough, row.2);
    }
    let at = run_at.to_string();
    let rows: Vec<_> = rows
        .iter()
        .map(|(key, (lane, thorough, lift))| {
            (key, &at, lift, lane.to_text(), u8::from(*thorough).to_string())
        })
        .collect();
    sqlx::query(WORK[backend as usize]).bind(json(&rows)).execute(connection).await.map(drop)
}

/// Rows as a JSON array. Strings and arrays always serialise.
pub(super) fn json<T: serde::Serialize>(rows: &T) -> String {
    serde_json::to_string(rows).unwrap_or_default()
}
