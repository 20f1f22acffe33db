//! The work queue.
//!
//! Its contract, in the words used everywhere: *a key is queued at most once; the earlier time wins; a key is leased to
//! one worker; a hint during a run causes exactly one more run; a dead worker's lease runs out.*
//!
//! `requested` counts hints, `done` is the `requested` that the last finished run had seen at its claim, and `lift` and
//! `thorough` are the `requested` of the last hint that asked for one.
//!
//! Two workers may choose the same row at once. The one that comes second waits for the first, then finds that what made
//! it choose the row no longer holds, updates nothing, and asks again. The row may even be done by then, or put back for
//! later; that is why the whole condition is repeated, not the lease alone.

use sqlx::Row;

use super::{Error, Store, doing};
use crate::preview::WorkKey;

macro_rules! due {
    () => {
        "requested > done AND run_at <= $1 AND lease_until <= $1"
    };
}

const CLAIM: &str = concat!(
    "UPDATE work SET lease_until = $2, lease_owner = $3 WHERE key = (SELECT key FROM work WHERE ",
    due!(),
    " ORDER BY lane, run_at, key LIMIT 1) AND ",
    due!(),
    " RETURNING key, requested, attempts, lift, done, lane, thorough",
);

const IS_DUE: &str = concat!("SELECT key FROM work WHERE ", due!(), " LIMIT 1");

const FINISH: &str = "UPDATE work SET done = $2, lease_until = 0, lease_owner = NULL, attempts = 0, \
     last_error = NULL, \
     run_at = CASE WHEN requested = $2 AND $4 > 0 THEN $4 ELSE run_at END, \
     lane = CASE WHEN requested = $2 AND $4 > 0 THEN $5 ELSE lane END, \
     requested = CASE WHEN requested = $2 AND $4 > 0 THEN requested + 1 ELSE requested END \
     WHERE key = $1 AND lease_owner = $3";

const RETRY: &str = "UPDATE work SET lease_until = 0, lease_owner = NULL, attempts = attempts + 1, last_error = $5, \
     run_at = CASE WHEN requested = $2 THEN $4 ELSE run_at END \
     WHERE key = $1 AND lease_owner = $3";

const BEGIN_ANEW: &str = "UPDATE work SET requested = requested + 1, attempts = 0, \
     run_at = CASE WHEN run_at > $1 THEN $1 ELSE run_at END \
     WHERE requested > done AND attempts > 0";

/// Which work goes first. Within a lane the earlier time does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Somebody waits for it.
    Interactive,
    /// It only makes sure.
    Background,
}

impl Lane {
    const fn number(self) -> i64 {
        match self {
            Self::Interactive => 0,
            Self::Background => 1,
        }
    }

    pub(super) fn to_text(self) -> String {
        self.number().to_string()
    }
}

/// A key leased to this worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// What to look at.
    pub key: WorkKey,
    /// How many hints had come when it was claimed.
    pub requested: i64,
    /// How often it failed in a row before.
    pub attempts: i64,
    /// Whether a reopen or an operator asks to lift a stop by hand; as long as no run that knew of it has finished.
    pub lift: bool,
    /// Whether nothing may be left out that usually need not be asked; as long as no run that knew of it has finished.
    pub thorough: bool,
    /// Why it is looked at.
    pub lane: Lane,
}

/// How much waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueDepth {
    /// Keys that are due, those that are being worked on included.
    pub due: i64,
    /// Keys that wait for a later time.
    pub later: i64,
    /// How long the oldest due key waits, milliseconds.
    pub oldest: i64,
}

impl Store {
    /// Leases the most urgent due key to `owner` until `lease_until`. `None` means that nothing is due at `now`.
    ///
    /// `owner` names one worker, not a process: it is all that tells a worker whose lease ran out from the next one.
    pub async fn claim(&self, owner: &str, now: i64, lease_until: i64) -> Result<Option<Claim>, Error> {
        loop {
            let row = sqlx::query(CLAIM)
                .bind(now)
                .bind(lease_until)
                .bind(owner)
                .fetch_optional(&self.write)
                .await
                .map_err(doing("lease work"))?;
            let Some(row) = row else {
                if self.is_due(now).await? {
                    continue; // Another worker was faster, and there is more.
                }
                return Ok(None);
            };
            let text: String = row.get(0);
            let Ok(key) = text.parse() else {
                // Written by a newer version. Dropped, so that nobody stumbles over it again; resync makes up for it.
                tracing::warn!(work.key = text, "a queued key cannot be read and is dropped");
                sqlx::query("DELETE FROM work WHERE key = $1")
                    .bind(text)
                    .execute(&self.write)
                    .await
                    .map_err(doing("drop work"))?;
                continue;
            };
            let done: i64 = row.get(4);
            return Ok(Some(Claim {
                key,
                requested: row.get(1),
                attempts: row.get(2),
                lift: row.get::<i64, _>(3) > done,
                thorough: row.get::<i64, _>(6) > done,
                lane: if row.get::<i64, _>(5) == 0 { Lane::Interactive } else { Lane::Background },
            }));
        }
    }

    async fn is_due(&self, now: i64) -> Result<bool, Error> {
        let row = sqlx::query(IS_DUE).bind(now).fetch_optional(&self.read).await;
        row.map(|row| row.is_some()).map_err(doing("look for work"))
    }

    /// Keeps a lease for longer. `false` when it is no longer ours.
    pub async fn renew(&self, claim: &Claim, owner: &str, lease_until: i64) -> Result<bool, Error> {
        sqlx::query("UPDATE work SET lease_until = $2 WHERE key = $1 AND lease_owner = $3")
            .bind(claim.key.to_string())
            .bind(lease_until)
            .bind(owner)
            .execute(&self.write)
            .await
            .map(|done| done.rows_affected() > 0)
            .map_err(doing("keep a lease"))
    }

    /// Gives a key back, done; `again` asks for one more look at that time, unless a hint asks for an earlier one.
    pub async fn finish(&self, claim: &Claim, owner: &str, again: Option<(i64, Lane)>) -> Result<(), Error> {
        sqlx::query(FINISH)
            .bind(claim.key.to_string())
            .bind(claim.requested)
            .bind(owner)
            .bind(again.map_or(0, |(at, _)| at))
            .bind(again.map_or(0, |(_, lane)| lane.number()))
            .execute(&self.write)
            .await
            .map_err(doing("finish work"))?;
        self.wake.notify_waiters();
        Ok(())
    }

    /// Gives a key back, failed: another try at `run_at`, or at once when a hint came meanwhile. `error` is kept until a
    /// run finishes.
    pub async fn retry(&self, claim: &Claim, owner: &str, run_at: i64, error: &str) -> Result<(), Error> {
        sqlx::query(RETRY)
            .bind(claim.key.to_string())
            .bind(claim.requested)
            .bind(owner)
            .bind(run_at)
            .bind(error.replace('\0', "")) // which PostgreSQL cannot hold
            .execute(&self.write)
            .await
            .map_err(doing("put work back"))?;
        self.wake.notify_waiters();
        Ok(())
    }

    /// Asks for a look at whatever failed, at `now`, as if it had not failed before: what it failed of may be over.
    pub async fn begin_anew(&self, now: i64) -> Result<(), Error> {
        let begun = sqlx::query(BEGIN_ANEW).bind(now).execute(&self.write).await;
        begun.map_err(doing("queue what failed"))?;
        self.wake.notify_waiters();
        Ok(())
    }

    /// Gives back whatever is leased, to anybody. Only for a store that one process uses, at its start: the leases are
    /// those of a process that died.
    pub async fn release_all(&self) -> Result<(), Error> {
        for statement in [
            "UPDATE work SET lease_until = 0, lease_owner = NULL WHERE lease_owner IS NOT NULL",
            "UPDATE check_runs SET lease_until = 0, lease_owner = ''",
        ] {
            sqlx::query(statement).execute(&self.write).await.map_err(doing("release leases"))?;
        }
        Ok(())
    }

    /// When the next key becomes due, Unix milliseconds.
    pub async fn next_due(&self) -> Result<Option<i64>, Error> {
        let row = sqlx::query(
            "SELECT MIN(CASE WHEN lease_until > run_at THEN lease_until ELSE run_at END) FROM work \
             WHERE requested > done",
        )
        .fetch_one(&self.read)
        .await
        .map_err(doing("look for work"))?;
        Ok(row.get::<Option<i64>, _>(0))
    }

    /// Why the last try at `key` failed, with the time of the next one.
    pub async fn trouble(&self, key: &WorkKey) -> Result<Option<(String, i64)>, Error> {
        let row =
            sqlx::query("SELECT last_error, run_at FROM work WHERE key = $1 AND last_error IS NOT NULL")
                .bind(key.to_string())
                .fetch_optional(&self.read)
                .await
                .map_err(doing("look for trouble"))?;
        Ok(row.map(|row| (row.get(0), row.get(1))))
    }

    /// How much waits at `now`.
    pub async fn queue_depth(&self, now: i64) -> Result<QueueDepth, Error> {
        let row = sqlx::query(
            "SELECT COUNT(CASE WHEN run_at <= $1 THEN 1 END), COUNT(CASE WHEN run_at > $1 THEN 1 END), \
             MIN(run_at) FROM work WHERE requested > done",
        )
        .bind(now)
        .fetch_one(&self.read)
        .await
        .map_err(doing("count work"))?;
        let oldest = row.get::<Option<i64>, _>(2).map_or(0, |at| (now - at).max(0));
        Ok(QueueDepth { due: row.get(0), later: row.get(1), oldest })
    }
}
