//! What GitLab's list of open merge requests said last, so that the resync looks only at what has changed.
//!
//! An entry is written in the transaction that asks for the look: whatever is listed as it was last time has been looked
//! at since, or will be.

use std::collections::BTreeMap;

use sqlx::Row;

use super::intake::{Hint, Lift, enqueue, from_json, json};
use super::{Error, Lane, Store, doing, signed, unsigned};
use crate::preview::{PreviewKey, ProjectId, WorkKey};

const LIST: [&str; 2] = from_json!(
    "INSERT INTO listed (project_id, mr_iid, fingerprint) \
     SELECT $2, CAST(item.value->>0 AS BIGINT), item.value->>1",
    "ON CONFLICT (project_id, mr_iid) DO UPDATE SET fingerprint = excluded.fingerprint"
);

const UNLIST: [&str; 2] = from_json!(
    "DELETE FROM listed WHERE project_id = $2 AND mr_iid IN (SELECT CAST(item.value->>0 AS BIGINT)",
    ")"
);

/// How the list of a project's open merge requests differs from the last one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Relisted {
    /// New and changed ones, with what the list says of them.
    pub changed: Vec<(u64, String)>,
    /// Those that are not in the list any more.
    pub vanished: Vec<u64>,
    /// Others that are to be looked at, and whether in all respects.
    pub others: BTreeMap<PreviewKey, bool>,
}

impl Store {
    /// What the list said of each merge request of a project.
    pub async fn listed(&self, project: ProjectId) -> Result<BTreeMap<u64, String>, Error> {
        let rows = sqlx::query("SELECT mr_iid, fingerprint FROM listed WHERE project_id = $1")
            .bind(signed(project))
            .fetch_all(&self.read)
            .await
            .map_err(doing("read the last list"))?;
        Ok(rows.iter().map(|row| (unsigned(row.get(0)), row.get(1))).collect())
    }

    /// Writes down what the list says now, and asks for a look at everybody in `news`, in one transaction.
    pub async fn relist(&self, project: ProjectId, news: &Relisted, now: i64) -> Result<(), Error> {
        let what = "keep a list";
        let listed = news.changed.iter().map(|(iid, _)| iid).chain(&news.vanished);
        let listed = listed.map(|iid| (PreviewKey::of_mr(project, *iid), false));
        let others = news.others.iter().map(|(key, thorough)| (*key, *thorough));
        let keys: Vec<_> =
            listed.chain(others).map(|(key, thorough)| (WorkKey::Preview(key), thorough)).collect();
        if keys.is_empty() {
            return Ok(());
        }
        let hints: Vec<_> = keys
            .iter()
            .map(|(key, thorough)| Hint { key, lane: Lane::Background, thorough: *thorough, lift: Lift::No })
            .collect();
        let mut transaction = self.write.begin().await.map_err(doing(what))?;
        enqueue(&mut transaction, self.backend, &hints, now).await.map_err(doing(what))?;
        let changed: BTreeMap<_, _> = news.changed.iter().map(|(iid, said)| (signed(*iid), said)).collect();
        let changed: Vec<_> = changed.iter().map(|(iid, said)| (iid.to_string(), said)).collect();
        let vanished: Vec<_> = news.vanished.iter().map(|iid| [iid.to_string()]).collect();
        for (statement, rows) in [(LIST, json(&changed)), (UNLIST, json(&vanished))] {
            sqlx::query(statement[self.backend as usize])
                .bind(rows)
                .bind(signed(project))
                .execute(&mut *transaction)
                .await
                .map_err(doing(what))?;
        }
        transaction.commit().await.map_err(doing(what))?;
        self.wake.notify_waiters();
        Ok(())
    }
}
