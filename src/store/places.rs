//! Which previews of a project run, where somebody limits how many may.

use super::previews::{document, note, put};
use super::{Error, Store, doing, signed};
use crate::preview::{Preview, PreviewKey, ProjectId, State};

/// Locks out everybody else who takes a place, on both databases, until the transaction ends.
const LOCK: &str = "INSERT INTO meta (key, value) VALUES ('places', '') \
     ON CONFLICT (key) DO UPDATE SET value = excluded.value";

const LIVE: &str = "SELECT document FROM previews WHERE project_id = $1 AND state <> $2";

/// The places of a project.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Places {
    /// Merge requests whose preview has one.
    pub taken: Vec<PreviewKey>,
    /// Merge requests whose preview waits for one, the longest first.
    pub waiting: Vec<PreviewKey>,
}

impl Store {
    /// Who has a place in the project, and who waits for one.
    pub async fn places(&self, project: ProjectId) -> Result<Places, Error> {
        let rows = sqlx::query(LIVE)
            .bind(signed(project))
            .bind(State::Stopped.as_str())
            .fetch_all(&self.read)
            .await
            .map_err(doing("count previews"))?;
        let previews = rows.iter().map(document).collect::<Result<Vec<_>, _>>()?;
        let mut waiting: Vec<_> = previews
            .iter()
            .filter_map(|preview| Some((preview.waits_for_place_since?, preview.key)))
            .collect();
        waiting.sort_unstable();
        Ok(Places {
            taken: previews
                .iter()
                .filter(|preview| preview.takes_place())
                .map(|preview| preview.key)
                .collect(),
            waiting: waiting.into_iter().map(|(_, key)| key).collect(),
        })
    }

    /// Saves `preview`, which takes a place, with a line of history, unless `limit` others of its project have one. Of two
    /// that do so at once, one waits for the other, in other processes too.
    pub async fn take_place(&self, preview: &Preview, limit: u64, history: &str) -> Result<bool, Error> {
        let what = "take a place";
        let mut transaction = self.write.begin().await.map_err(doing(what))?;
        sqlx::query(LOCK).execute(&mut *transaction).await.map_err(doing(what))?;
        let rows = sqlx::query(LIVE)
            .bind(signed(preview.key.project_id))
            .bind(State::Stopped.as_str())
            .fetch_all(&mut *transaction)
            .await
            .map_err(doing(what))?;
        let mut others = 0;
        for row in &rows {
            let other: Preview = document(row)?;
            others += u64::from(other.key != preview.key && other.takes_place());
        }
        if others >= limit {
            return Ok(false);
        }
        put(&mut transaction, preview).await?;
        note(&mut transaction, preview, preview.updated_at, history).await.map_err(doing(what))?;
        transaction.commit().await.map_err(doing(what))?;
        Ok(true)
    }
}
