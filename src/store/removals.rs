//! Removals that count for the brake: what is wanted, what was let go by an operator, what is done.
//!
//! Of each merge request at most one is wanted at a time. What is done stays a while, to be counted with what comes next.
//! All replicas see the same rows, so they come to the same verdict.

use serde::Serialize;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::{Error, Store, doing, key, signed, subject};
use crate::preview::{Cause, PreviewKey, State, WorkKey};

/// A removal that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Removal {
    /// Whose preview is to go.
    #[serde(flatten)]
    pub key: PreviewKey,
    /// What it counts as.
    pub cause: Cause,
    /// Why, in one sentence.
    pub reason: String,
    /// When it was wanted first, Unix milliseconds.
    pub since: i64,
    /// Whether an operator lets it go on.
    pub released: bool,
}

/// Removals that belong together, counted. Those that an operator let go do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sweep {
    /// Wanted and not done.
    pub wanted: i64,
    /// Done within the window.
    pub gone: i64,
    /// When the newest wanted one came, Unix milliseconds.
    pub newest: i64,
    /// Previews that are not gone, those of `wanted` and `gone` included.
    pub live: i64,
}

const WANT: &str = "INSERT INTO removals (project_id, mr_iid, cause, reason, since, released, gone_at) \
     VALUES ($1, $2, $3, $4, $5, 0, 0) \
     ON CONFLICT (project_id, mr_iid, gone_at) DO UPDATE SET \
     since = CASE WHEN removals.cause = excluded.cause THEN removals.since ELSE excluded.since END, \
     released = CASE WHEN removals.cause = excluded.cause THEN removals.released ELSE 0 END, \
     cause = excluded.cause, reason = excluded.reason";

macro_rules! wanted {
    ($more:literal) => {
        concat!(
            "SELECT project_id, mr_iid, cause, reason, since, released FROM removals WHERE gone_at = 0 ",
            $more
        )
    };
}

// Of what is wanted the preview may be gone already, and of what is done it is: each counts once, as live.
const COUNT: &str = "SELECT COUNT(CASE WHEN gone_at = 0 THEN 1 END), COUNT(CASE WHEN gone_at > 0 THEN 1 END), \
     MAX(CASE WHEN gone_at = 0 THEN since ELSE 0 END), \
     (SELECT COUNT(*) FROM previews WHERE state <> $2 AND NOT EXISTS (SELECT 1 FROM removals AS own \
      WHERE own.project_id = previews.project_id AND own.mr_iid = previews.mr_iid \
      AND own.gone_at = 0 AND own.released = 0)) \
     FROM removals WHERE released = 0 AND (gone_at = 0 OR gone_at > $1)";

impl Store {
    /// Notes that the preview of `key` is to be removed, and since when. A removal for another cause is another one.
    pub async fn want_removal(
        &self,
        key: PreviewKey,
        cause: Cause,
        reason: &str,
        now: i64,
    ) -> Result<Removal, Error> {
        let what = "note a removal";
        if let Some(known) = self.wanted_removal(key).await?
            && known.cause == cause
            && known.reason == reason
        {
            return Ok(known);
        }
        sqlx::query(WANT)
            .bind(signed(key.project_id))
            .bind(subject(key))
            .bind(cause.as_str())
            .bind(reason)
            .bind(now)
            .execute(&self.write)
            .await
            .map_err(doing(what))?;
        let fresh = Removal { key, cause, reason: reason.to_owned(), since: now, released: false };
        Ok(self.wanted_removal(key).await?.unwrap_or(fresh))
    }

    async fn wanted_removal(&self, key: PreviewKey) -> Result<Option<Removal>, Error> {
        let row = sqlx::query(wanted!("AND project_id = $1 AND mr_iid = $2"))
            .bind(signed(key.project_id))
            .bind(subject(key))
            .fetch_optional(&self.read)
            .await
            .map_err(doing("read a removal"))?;
        Ok(row.as_ref().and_then(removal))
    }

    /// Every removal that is wanted and not done.
    pub async fn wanted_removals(&self) -> Result<Vec<Removal>, Error> {
        let rows = sqlx::query(wanted!("ORDER BY project_id, mr_iid"))
            .fetch_all(&self.read)
            .await
            .map_err(doing("list removals"))?;
        Ok(rows.iter().filter_map(removal).collect())
    }

    /// Forgets that a preview was to be removed. Whether it was.
    pub async fn drop_removal(&self, key: PreviewKey) -> Result<bool, Error> {
        if self.wanted_removal(key).await?.is_none() {
            return Ok(false); // Almost always, and no reason to keep writers waiting.
        }
        let dropped =
            sqlx::query("DELETE FROM removals WHERE project_id = $1 AND mr_iid = $2 AND gone_at = 0")
                .bind(signed(key.project_id))
                .bind(subject(key))
                .execute(&self.write)
                .await
                .map_err(doing("forget a removal"))?;
        Ok(dropped.rows_affected() > 0)
    }

    /// Notes that a removal is done.
    pub async fn removal_is_done(&self, key: PreviewKey, now: i64) -> Result<(), Error> {
        if self.wanted_removal(key).await?.is_none() {
            return Ok(());
        }
        sqlx::query("UPDATE removals SET gone_at = $3 WHERE project_id = $1 AND mr_iid = $2 AND gone_at = 0")
            .bind(signed(key.project_id))
            .bind(subject(key))
            .bind(now)
            .execute(&self.write)
            .await
            .map(drop)
            .map_err(doing("note that a removal is done"))
    }

    /// Lets every removal that is wanted now go on; returns them.
    pub async fn release_removals(&self) -> Result<Vec<Removal>, Error> {
        let rows = sqlx::query(
            "UPDATE removals SET released = 1 WHERE gone_at = 0 AND released = 0 \
             RETURNING project_id, mr_iid, cause, reason, since, released",
        )
        .fetch_all(&self.write)
        .await
        .map_err(doing("let removals go on"))?;
        let mut released: Vec<_> = rows.iter().filter_map(removal).collect();
        released.sort_by_key(|removal| removal.key);
        Ok(released)
    }

    /// Counts what is wanted, and what was done after `after`.
    pub async fn sweep(&self, after: i64) -> Result<Sweep, Error> {
        let row = sqlx::query(COUNT)
            .bind(after)
            .bind(State::Stopped.as_str())
            .fetch_one(&self.read)
            .await
            .map_err(doing("count removals"))?;
        let (wanted, gone): (i64, i64) = (row.get(0), row.get(1));
        let newest = row.get::<Option<i64>, _>(2).unwrap_or(0);
        Ok(Sweep { wanted, gone, newest, live: row.get::<i64, _>(3) + wanted + gone })
    }

    /// Whether a look that was due at `then` has not come to its end; that at `except` does not count.
    pub async fn is_behind(&self, then: i64, except: PreviewKey) -> Result<bool, Error> {
        sqlx::query("SELECT key FROM work WHERE requested > done AND run_at <= $1 AND key <> $2 LIMIT 1")
            .bind(then)
            .bind(WorkKey::Preview(except).to_string())
            .fetch_optional(&self.read)
            .await
            .map(|row| row.is_some())
            .map_err(doing("look for work"))
    }
}

/// `None` for what a newer version wrote.
fn removal(row: &AnyRow) -> Option<Removal> {
    let cause: String = row.get(2);
    Some(Removal {
        key: key(row.get(0), row.get(1)),
        cause: serde_json::from_value(cause.into()).ok()?,
        reason: row.get(3),
        since: row.get(4),
        released: row.get::<i64, _>(5) > 0,
    })
}
