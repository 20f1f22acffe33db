//! Previews and their history.

use serde::Serialize;
use sqlx::any::AnyRow;
use sqlx::{Any, Row, Transaction};

use super::{Error, Store, doing, signed, unsigned};
use crate::preview::{MrKey, Preview, PreviewName, ProjectId, State};

/// The only preview of a merge request so far; the key has room for more.
const MAIN: &str = "main";

const SAVE: &str = "INSERT INTO previews \
     (project_id, mr_iid, preview, name, state, source_branch, updated_at, document) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
     ON CONFLICT (project_id, mr_iid, preview) DO UPDATE SET state = excluded.state, \
     source_branch = excluded.source_branch, updated_at = excluded.updated_at, document = excluded.document";

/// One line of a preview's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HistoryEntry {
    /// When, Unix milliseconds.
    pub at: i64,
    /// The state it entered.
    pub state: String,
    /// What happened, in words.
    pub text: String,
}

impl Store {
    /// The preview of a merge request.
    pub async fn preview(&self, key: MrKey) -> Result<Option<Preview>, Error> {
        let row = sqlx::query(
            "SELECT document FROM previews WHERE project_id = $1 AND mr_iid = $2 AND preview = $3",
        )
        .bind(signed(key.project_id))
        .bind(signed(key.iid))
        .bind(MAIN)
        .fetch_optional(&self.read)
        .await
        .map_err(doing("read a preview"))?;
        row.as_ref().map(document).transpose()
    }

    /// The preview with this name.
    pub async fn preview_by_name(&self, name: &PreviewName) -> Result<Option<Preview>, Error> {
        let row = sqlx::query("SELECT document FROM previews WHERE name = $1")
            .bind(name.as_str())
            .fetch_optional(&self.read)
            .await
            .map_err(doing("read a preview"))?;
        row.as_ref().map(document).transpose()
    }

    /// Every preview, those that are gone included, oldest key first.
    pub async fn previews(&self) -> Result<Vec<Preview>, Error> {
        let rows = sqlx::query("SELECT document FROM previews ORDER BY project_id, mr_iid")
            .fetch_all(&self.read)
            .await
            .map_err(doing("list previews"))?;
        rows.iter().map(document).collect()
    }

    /// The merge requests of a project that have a preview which is not gone.
    pub async fn live_previews(&self, project: ProjectId) -> Result<Vec<MrKey>, Error> {
        let rows =
            sqlx::query("SELECT mr_iid FROM previews WHERE project_id = $1 AND state <> $2 ORDER BY mr_iid")
                .bind(signed(project))
                .bind(State::Stopped.as_str())
                .fetch_all(&self.read)
                .await
                .map_err(doing("list previews"))?;
        Ok(rows.iter().map(|row| MrKey::new(project, unsigned(row.get(0)))).collect())
    }

    /// The merge requests of a project whose preview is not gone and was last seen on this source branch.
    pub async fn previews_of_branch(&self, project: ProjectId, branch: &str) -> Result<Vec<MrKey>, Error> {
        let rows = sqlx::query(
            "SELECT mr_iid FROM previews WHERE project_id = $1 AND source_branch = $2 AND state <> $3 \
             ORDER BY mr_iid",
        )
        .bind(signed(project))
        .bind(branch)
        .bind(State::Stopped.as_str())
        .fetch_all(&self.read)
        .await
        .map_err(doing("find a branch"))?;
        Ok(rows.iter().map(|row| MrKey::new(project, unsigned(row.get(0)))).collect())
    }

    /// Writes a preview, and a line of history with it in the same transaction.
    pub async fn save(&self, preview: &Preview, history: Option<&str>) -> Result<(), Error> {
        let what = "save a preview";
        let mut transaction = self.write.begin().await.map_err(doing(what))?;
        write(&mut transaction, preview, history, what).await?;
        transaction.commit().await.map_err(doing(what))
    }

    /// The history of a merge request's preview, newest first, at most `limit` lines.
    pub async fn history(&self, key: MrKey, limit: i64) -> Result<Vec<HistoryEntry>, Error> {
        let rows = sqlx::query(
            "SELECT at, state, text FROM history WHERE project_id = $1 AND mr_iid = $2 AND preview = $3 \
             ORDER BY id DESC LIMIT $4",
        )
        .bind(signed(key.project_id))
        .bind(signed(key.iid))
        .bind(MAIN)
        .bind(limit)
        .fetch_all(&self.read)
        .await
        .map_err(doing("read a history"))?;
        Ok(rows
            .iter()
            .map(|row| HistoryEntry { at: row.get(0), state: row.get(1), text: row.get(2) })
            .collect())
    }
}

/// Writes a preview, and a line of history with it, as part of something larger.
pub(super) async fn write(
    transaction: &mut Transaction<'_, Any>,
    preview: &Preview,
    history: Option<&str>,
    what: &'static str,
) -> Result<(), Error> {
    let document = serde_json::to_string(preview)
        .map_err(|source| Error::Document { what: preview.key.to_string(), source })?;
    sqlx::query(SAVE)
        .bind(signed(preview.key.project_id))
        .bind(signed(preview.key.iid))
        .bind(MAIN)
        .bind(preview.name.as_str())
        .bind(preview.state.as_str())
        .bind(&preview.source_branch)
        .bind(preview.updated_at)
        .bind(document)
        .execute(&mut **transaction)
        .await
        .map_err(doing(what))?;
    let Some(text) = history else { return Ok(()) };
    sqlx::query(
        "INSERT INTO history (id, project_id, mr_iid, preview, at, state, text) VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(uuid::Uuid::now_v7().to_string())
    .bind(signed(preview.key.project_id))
    .bind(signed(preview.key.iid))
    .bind(MAIN)
    .bind(preview.updated_at)
    .bind(preview.state.as_str())
    .bind(text.replace('\0', "")) // which PostgreSQL cannot hold
    .execute(&mut **transaction)
    .await
    .map(drop)
    .map_err(doing(what))
}

pub(super) fn document(row: &AnyRow) -> Result<Preview, Error> {
    let text: String = row.get(0);
    serde_json::from_str(&text)
        .map_err(|source| Error::Document { what: text.chars().take(60).collect(), source })
}
