//! What CI jobs ask for: durable when [`Store::order`] returns, and kept, for as long as its commit is the head it says what
//! to deploy.
//!
//! Races, and what was decided:
//! * *Two jobs at once*: the one of the newer pipeline counts, of one pipeline the newer job, in whatever order they come.
//! * *A job asks again, because the answer was lost*: the order it made before is the answer.
//! * *A look is under way*: the key is queued with the order, so one that knows of it follows at once.

use sqlx::Row;

use super::intake::{Hint, Lift, enqueue};
use super::previews::{MAIN, note};
use super::{Error, Lane, Store, doing, signed, subject};
use crate::preview::{JobOrder, Preview, PreviewKey, ProjectId, WorkKey};

/// The order of a merge request as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptOrder {
    /// What was asked for.
    pub order: JobOrder,
    /// Why nothing comes of it, once that is known.
    pub refused: Option<String>,
}

const ORDER: &str = "INSERT INTO job_orders \
     (project_id, mr_iid, preview, id, pipeline_id, job_id, upload, document, refused, at) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, '', $9) \
     ON CONFLICT (project_id, mr_iid, preview) DO UPDATE SET id = excluded.id, pipeline_id = excluded.pipeline_id, \
     job_id = excluded.job_id, upload = excluded.upload, document = excluded.document, refused = '', at = excluded.at \
     WHERE job_orders.pipeline_id < excluded.pipeline_id OR (job_orders.pipeline_id = excluded.pipeline_id AND \
     (job_orders.job_id < excluded.job_id OR \
     (job_orders.job_id = excluded.job_id AND job_orders.upload <> excluded.upload)))";

impl Store {
    /// Keeps what a job asked for and asks for a look, all or nothing. Returns what is kept then: this order, the same one
    /// that was asked for before, or that of a newer job.
    pub async fn order(
        &self,
        key: PreviewKey,
        order: &JobOrder,
        preview: Option<&Preview>,
    ) -> Result<KeptOrder, Error> {
        let what = "keep an order";
        let document = serde_json::to_string(order)
            .map_err(|source| Error::Document { what: key.to_string(), source })?;
        let mut transaction = self.write.begin().await.map_err(doing(what))?;
        let taken = sqlx::query(ORDER)
            .bind(signed(key.project_id))
            .bind(subject(key))
            .bind(MAIN)
            .bind(&order.id)
            .bind(signed(order.pipeline_id))
            .bind(signed(order.job_id))
            .bind(order.upload.as_deref().unwrap_or_default())
            .bind(document)
            .bind(order.at)
            .execute(&mut *transaction)
            .await
            .map_err(doing(what))?
            .rows_affected();
        if taken > 0 {
            if let Some(preview) = preview {
                let text =
                    format!("job {} of pipeline {} asked for a deploy", order.job_id, order.pipeline_id);
                note(&mut transaction, preview, order.at, &text).await.map_err(doing(what))?;
            }
            let key = WorkKey::Preview(key);
            let hint = Hint { key: &key, lane: Lane::Interactive, thorough: false, lift: Lift::No };
            enqueue(&mut transaction, self.backend, &[hint], order.at).await.map_err(doing(what))?;
        }
        transaction.commit().await.map_err(doing(what))?;
        self.wake.notify_waiters();
        match self.job_order(key).await? {
            Some(kept) => Ok(kept),
            None => Ok(KeptOrder { order: order.clone(), refused: None }),
        }
    }

    /// The order of a merge request, if a job asked for one.
    pub async fn job_order(&self, key: PreviewKey) -> Result<Option<KeptOrder>, Error> {
        let row = sqlx::query(
            "SELECT document, refused FROM job_orders WHERE project_id = $1 AND mr_iid = $2 AND preview = $3",
        )
        .bind(signed(key.project_id))
        .bind(subject(key))
        .bind(MAIN)
        .fetch_optional(&self.read)
        .await
        .map_err(doing("read an order"))?;
        let Some(row) = row else { return Ok(None) };
        let order = serde_json::from_str(&row.get::<String, _>(0))
            .map_err(|source| Error::Document { what: key.to_string(), source })?;
        let refused: String = row.get(1);
        Ok(Some(KeptOrder { order, refused: Some(refused).filter(|why| !why.is_empty()) }))
    }

    /// Whether jobs deploy previews of this project: one has asked for that, and it is not long forgotten.
    pub async fn has_orders(&self, project: ProjectId) -> Result<bool, Error> {
        sqlx::query("SELECT 1 FROM job_orders WHERE project_id = $1 LIMIT 1")
            .bind(signed(project))
            .fetch_optional(&self.read)
            .await
            .map(|row| row.is_some())
            .map_err(doing("look for orders"))
    }

    /// Writes down that nothing comes of this order, and why.
    pub async fn refuse_order(&self, key: PreviewKey, id: &str, why: &str) -> Result<(), Error> {
        sqlx::query(
            "UPDATE job_orders SET refused = $5 WHERE project_id = $1 AND mr_iid = $2 AND preview = $3 AND id = $4",
        )
        .bind(signed(key.project_id))
        .bind(subject(key))
        .bind(MAIN)
        .bind(id)
        .bind(why)
        .execute(&self.write)
        .await
        .map(drop)
        .map_err(doing("refuse an order"))
    }

    /// The digests of all archives that orders name.
    pub async fn uploads(&self) -> Result<Vec<String>, Error> {
        sqlx::query_scalar("SELECT upload FROM job_orders WHERE upload <> ''")
            .fetch_all(&self.read)
            .await
            .map_err(doing("list uploads"))
    }
}
