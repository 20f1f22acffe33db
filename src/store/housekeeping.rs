//! Pruning: old rows go in small batches, so that no writer waits long.

use std::time::Duration;

use super::{Error, Store, doing};
use crate::preview::State;

/// How long what is kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Deliveries; GitLab itself keeps them for seven days.
    pub deliveries: Duration,
    /// History, and the rows of previews that are gone.
    pub history: Duration,
}

/// Rows per statement.
const BATCH: i64 = 500;

impl Store {
    /// Removes what is older than `retention` at `now`; returns how many rows went.
    pub async fn prune(&self, retention: Retention, now: i64) -> Result<u64, Error> {
        let before = |age: Duration| now - i64::try_from(age.as_millis()).unwrap_or(i64::MAX / 2);
        let mut removed = 0;
        for (statement, limit) in [
            (
                "DELETE FROM deliveries WHERE id IN (SELECT id FROM deliveries WHERE at < $1 LIMIT $2)",
                before(retention.deliveries),
            ),
            (
                "DELETE FROM history WHERE id IN (SELECT id FROM history WHERE at < $1 LIMIT $2)",
                before(retention.history),
            ),
            (
                "DELETE FROM work WHERE key IN (SELECT key FROM work \
                 WHERE requested = done AND run_at < $1 AND lease_until = 0 LIMIT $2)",
                before(Duration::from_hours(24)),
            ),
        ] {
            loop {
                let rows = sqlx::query(statement)
                    .bind(limit)
                    .bind(BATCH)
                    .execute(&self.write)
                    .await
                    .map_err(doing("prune"))?
                    .rows_affected();
                removed += rows;
                if rows < BATCH.unsigned_abs() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        removed += sqlx::query("DELETE FROM previews WHERE state = $1 AND updated_at < $2")
            .bind(State::Stopped.as_str())
            .bind(before(retention.history))
            .execute(&self.write)
            .await
            .map_err(doing("prune"))?
            .rows_affected();
        Ok(removed)
    }
}
