//! Pruning: old rows go in small batches, so that no writer waits long.

use std::time::Duration;

use super::{Error, Store, doing};

/// How long what is kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Deliveries; GitLab itself keeps them for seven days.
    pub deliveries: Duration,
    /// History, and the rows of previews that are gone.
    pub history: Duration,
}

/// How long a key, or a removal, that is done keeps its row.
const DONE: Duration = Duration::from_hours(24);

/// Rows per statement.
const BATCH: i64 = 500;

// Rows that change after they were written are judged twice: a hint that comes in between must not go with its row.

const DELIVERIES: &str =
    "DELETE FROM deliveries WHERE id IN (SELECT id FROM deliveries WHERE at < $1 LIMIT $2)";

const HISTORY: &str = "DELETE FROM history WHERE id IN (SELECT id FROM history WHERE at < $1 LIMIT $2)";

const WORK: &str = "DELETE FROM work WHERE key IN (SELECT key FROM work \
     WHERE requested = done AND run_at < $1 AND lease_until = 0 LIMIT $2) \
     AND requested = done AND run_at < $1 AND lease_until = 0";

const PREVIEWS: &str = "DELETE FROM previews WHERE name IN (SELECT name FROM previews \
     WHERE state = 'stopped' AND updated_at < $1 LIMIT $2) AND state = 'stopped' AND updated_at < $1";

const REMOVALS: &str = "DELETE FROM removals WHERE gone_at IN (SELECT gone_at FROM removals WHERE gone_at BETWEEN 1 AND $1 LIMIT $2)";

/// Orders of previews that are gone: what they name is nobody's to deploy any more.
const ORDERS: &str = "DELETE FROM job_orders WHERE id IN (SELECT id FROM job_orders WHERE at < $1 AND NOT EXISTS \
     (SELECT 1 FROM previews WHERE previews.project_id = job_orders.project_id AND previews.mr_iid = job_orders.mr_iid \
     AND previews.preview = job_orders.preview AND previews.state <> 'stopped') LIMIT $2) AND at < $1";

impl Store {
    /// Removes what is older than `retention` at `now`; returns how many rows went.
    pub async fn prune(&self, retention: Retention, now: i64) -> Result<u64, Error> {
        let mut removed = 0;
        for (statement, age) in [
            (DELIVERIES, retention.deliveries),
            (HISTORY, retention.history),
            (WORK, DONE),
            (REMOVALS, DONE),
            (ORDERS, retention.deliveries),
            (PREVIEWS, retention.history),
        ] {
            let limit = now.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
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
        Ok(removed)
    }
}
