//! Checks that are being asked of previews: who asks, and what came of them until a look has taken it up.
//!
//! Races, and what was decided:
//! * *Two processes want to ask at once*: one of them leases the run. When it dies, the lease runs out, and another one goes
//!   on with what is not known yet.
//! * *A newer run takes the place of one that is being asked*: the older one's owner finds at its next word that the run is
//!   not its own any more, and lets go.
//! * *A look is under way when a check ends*: the key is queued with the result, so one that knows of it follows.

use sqlx::any::AnyArguments;
use sqlx::query::Query;
use sqlx::{Any, Row};

use super::intake::{Hint, Lift, enqueue};
use super::previews::MAIN;
use super::{Error, Lane, Store, doing, signed, subject};
use crate::preview::{CheckResult, PreviewKey, WorkKey};

const LEASE: &str = "INSERT INTO check_runs (project_id, mr_iid, preview, run, results, lease_until, lease_owner) \
     VALUES ($1, $2, $3, $4, '[]', $6, $5) \
     ON CONFLICT (project_id, mr_iid, preview) DO UPDATE SET run = excluded.run, \
     results = CASE WHEN check_runs.run = excluded.run THEN check_runs.results ELSE excluded.results END, \
     lease_until = excluded.lease_until, lease_owner = excluded.lease_owner \
     WHERE check_runs.run <> excluded.run OR check_runs.lease_until <= $7 \
     RETURNING results";

const RENEW: &str = "UPDATE check_runs SET lease_until = $6 \
     WHERE project_id = $1 AND mr_iid = $2 AND preview = $3 AND run = $4 AND lease_owner = $5";

const NOTE: &str = "UPDATE check_runs SET results = $6 \
     WHERE project_id = $1 AND mr_iid = $2 AND preview = $3 AND run = $4 AND lease_owner = $5";

/// Names a run of checks, and who asks them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asking {
    /// Whose checks.
    pub key: PreviewKey,
    /// The run.
    pub run: String,
    /// Who asks.
    pub owner: String,
}

impl Store {
    /// Leases a run until `until`, in place of any other of the same preview. Returns what is known of it, empty at first;
    /// `None` when somebody else has it at `now`.
    pub async fn lease_checks(
        &self,
        asking: &Asking,
        now: i64,
        until: i64,
    ) -> Result<Option<Vec<CheckResult>>, Error> {
        let row = owned(LEASE, asking)
            .bind(until)
            .bind(now)
            .fetch_optional(&self.write)
            .await
            .map_err(doing("lease checks"))?;
        row.map(|row| read(asking.key, &row.get::<String, _>(0))).transpose()
    }

    /// Goes on until `until`. Whether the run is still its owner's.
    pub async fn renew_checks(&self, asking: &Asking, until: i64) -> Result<bool, Error> {
        owned(RENEW, asking)
            .bind(until)
            .execute(&self.write)
            .await
            .map(|done| done.rows_affected() > 0)
            .map_err(doing("renew a lease"))
    }

    /// Keeps what came of a run so far and asks for a look at `at`, all or nothing. Whether the run is still its owner's.
    pub async fn note_checks(
        &self,
        asking: &Asking,
        results: &[CheckResult],
        at: i64,
    ) -> Result<bool, Error> {
        let what = "keep the result of a check";
        let document = serde_json::to_string(results)
            .map_err(|source| Error::Document { what: asking.key.to_string(), source })?;
        let mut transaction = self.write.begin().await.map_err(doing(what))?;
        let kept = owned(NOTE, asking)
            .bind(document)
            .execute(&mut *transaction)
            .await
            .map_err(doing(what))?
            .rows_affected();
        if kept > 0 {
            let key = WorkKey::Preview(asking.key);
            let hint = Hint { key: &key, lane: Lane::Interactive, thorough: false, lift: Lift::No };
            enqueue(&mut transaction, self.backend, &[hint], at).await.map_err(doing(what))?;
        }
        transaction.commit().await.map_err(doing(what))?;
        self.wake.notify_waiters();
        Ok(kept > 0)
    }

    /// What came of a run so far.
    pub async fn check_results(&self, key: PreviewKey, run: &str) -> Result<Vec<CheckResult>, Error> {
        let row = sqlx::query(
            "SELECT results FROM check_runs WHERE project_id = $1 AND mr_iid = $2 AND preview = $3 AND run = $4",
        )
        .bind(signed(key.project_id))
        .bind(subject(key))
        .bind(MAIN)
        .bind(run)
        .fetch_optional(&self.read)
        .await
        .map_err(doing("read the results of checks"))?;
        row.map_or(Ok(Vec::new()), |row| read(key, &row.get::<String, _>(0)))
    }

    /// Forgets the run of a preview: all of it was taken up, or nobody wants it any more. Whoever asks it lets go.
    pub async fn forget_checks(&self, key: PreviewKey) -> Result<(), Error> {
        sqlx::query("DELETE FROM check_runs WHERE project_id = $1 AND mr_iid = $2 AND preview = $3")
            .bind(signed(key.project_id))
            .bind(subject(key))
            .bind(MAIN)
            .execute(&self.write)
            .await
            .map(drop)
            .map_err(doing("forget checks"))
    }
}

/// A statement whose first five parameters name a run and its owner.
fn owned<'a>(statement: &'static str, asking: &'a Asking) -> Query<'a, Any, AnyArguments> {
    sqlx::query(statement)
        .bind(signed(asking.key.project_id))
        .bind(subject(asking.key))
        .bind(MAIN)
        .bind(&asking.run)
        .bind(&asking.owner)
}

fn read(key: PreviewKey, document: &str) -> Result<Vec<CheckResult>, Error> {
    serde_json::from_str(document)
        .map_err(|source| Error::Document { what: format!("checks of {key}"), source })
}
