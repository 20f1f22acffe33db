//! Previews and their history.

use futures::TryStreamExt;
use serde::Serialize;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, Row};

use super::{Error, Store, doing, key, signed, subject};
use crate::preview::{Preview, PreviewKey, PreviewName, ProjectId, State};

/// The only preview of a merge request or branch so far; the key has room for more.
pub(super) const MAIN: &str = "main";

macro_rules! save {
    ($more:literal) => {
        concat!(
            "INSERT INTO previews (project_id, mr_iid, preview, name, state, source_branch, updated_at, document) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
             ON CONFLICT (project_id, mr_iid, preview) DO UPDATE SET state = excluded.state, \
             source_branch = excluded.source_branch, updated_at = excluded.updated_at, document = excluded.document",
            $more
        )
    };
}

const SAVE: &str = save!("");

const SAVE_FOUND: &str =
    save!(", name = excluded.name WHERE previews.updated_at = $9 AND previews.state = $10");

/// One line of a preview's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HistoryEntry {
    /// Unique.
    pub id: String,
    /// When, Unix milliseconds.
    pub at: i64,
    /// The state it entered.
    pub state: String,
    /// What happened, in words.
    pub text: String,
}

/// What the resync needs of a preview.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LivePreview {
    /// Whose it is.
    pub key: PreviewKey,
    /// Whether only what GitLab's list shows, or an event, can change what was decided.
    pub at_rest: bool,
    /// Its environment, if a stop of that counts.
    pub environment: Option<u64>,
}

impl LivePreview {
    fn of(preview: &Preview) -> Self {
        Self {
            key: preview.key,
            at_rest: preview.at_rest,
            environment: preview
                .environment_id
                .filter(|_| preview.environment_seen || preview.key.subject.is_branch()),
        }
    }
}

impl Store {
    /// The preview of a merge request.
    pub async fn preview(&self, key: PreviewKey) -> Result<Option<Preview>, Error> {
        let row = sqlx::query(
            "SELECT document FROM previews WHERE project_id = $1 AND mr_iid = $2 AND preview = $3",
        )
        .bind(signed(key.project_id))
        .bind(subject(key))
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

    /// The previews of a project that are not gone.
    pub async fn live_previews(&self, project: ProjectId) -> Result<Vec<LivePreview>, Error> {
        let live = sqlx::query(
            "SELECT document, mr_iid FROM previews WHERE project_id = $1 AND state <> $2 ORDER BY mr_iid",
        )
        .bind(signed(project))
        .bind(State::Stopped.as_str())
        .fetch(&self.read)
        .map_ok(|row| {
            // One that cannot be read is looked at, and the look says why not.
            let key = key(signed(project), row.get(1));
            let unread = LivePreview { key, at_rest: false, environment: None };
            document(&row).map_or(unread, |preview| LivePreview::of(&preview))
        });
        live.try_collect().await.map_err(doing("list previews"))
    }

    /// Whose previews are not gone, in all projects.
    pub async fn live_keys(&self) -> Result<Vec<PreviewKey>, Error> {
        let rows = sqlx::query("SELECT project_id, mr_iid FROM previews WHERE state <> $1")
            .bind(State::Stopped.as_str())
            .fetch_all(&self.read)
            .await
            .map_err(doing("list previews"))?;
        Ok(rows.iter().map(|row| key(row.get(0), row.get(1))).collect())
    }

    /// The projects that have a preview which is not gone, each with its path as one of them has it.
    pub async fn preview_projects(&self) -> Result<Vec<(ProjectId, String)>, Error> {
        let rows = sqlx::query(
            "SELECT document FROM previews WHERE name IN \
             (SELECT MIN(name) FROM previews WHERE state <> $1 GROUP BY project_id)",
        )
        .bind(State::Stopped.as_str())
        .fetch_all(&self.read)
        .await
        .map_err(doing("list projects"))?;
        let project = |row| document(row).map(|preview| (preview.key.project_id, preview.project_path));
        rows.iter().map(project).collect()
    }

    /// Whether there never was a preview, or none that is remembered.
    pub async fn is_fresh(&self) -> Result<bool, Error> {
        sqlx::query("SELECT 1 FROM previews LIMIT 1")
            .fetch_optional(&self.read)
            .await
            .map(|row| row.is_none())
            .map_err(doing("look for previews"))
    }

    /// Whose previews of a project are not gone and were last seen on this source branch.
    pub async fn previews_of_branch(
        &self,
        project: ProjectId,
        branch: &str,
    ) -> Result<Vec<PreviewKey>, Error> {
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
        Ok(rows.iter().map(|row| key(signed(project), row.get(0))).collect())
    }

    /// Writes a preview, and a line of history with it in the same transaction.
    pub async fn save(&self, preview: &Preview, history: Option<&str>) -> Result<(), Error> {
        let what = "save a preview";
        let mut transaction = self.write.begin().await.map_err(doing(what))?;
        put(&mut transaction, preview).await?;
        if let Some(text) = history {
            note(&mut transaction, preview, preview.updated_at, text).await.map_err(doing(what))?;
        }
        transaction.commit().await.map_err(doing(what))
    }

    /// Writes a preview that was found without anybody's doing. Whether it was written: not over one that lives, and over
    /// one that is gone only when it has not changed since `known_at`.
    pub async fn save_found(&self, preview: &Preview, known_at: Option<i64>) -> Result<bool, Error> {
        row_of(SAVE_FOUND, preview)?
            .bind(known_at.unwrap_or(i64::MIN))
            .bind(State::Stopped.as_str())
            .execute(&self.write)
            .await
            .map(|done| done.rows_affected() > 0)
            .map_err(doing("save a preview"))
    }

    /// The history of a merge request's preview, newest first, at most `limit` lines.
    pub async fn history(&self, key: PreviewKey, limit: i64) -> Result<Vec<HistoryEntry>, Error> {
        let rows = sqlx::query(
            "SELECT at, state, text, id FROM history WHERE project_id = $1 AND mr_iid = $2 AND preview = $3 \
             ORDER BY id DESC LIMIT $4",
        )
        .bind(signed(key.project_id))
        .bind(subject(key))
        .bind(MAIN)
        .bind(limit)
        .fetch_all(&self.read)
        .await
        .map_err(doing("read a history"))?;
        Ok(rows
            .iter()
            .map(|row| HistoryEntry { id: row.get(3), at: row.get(0), state: row.get(1), text: row.get(2) })
            .collect())
    }
}

/// Writes a preview as a whole.
pub(super) async fn put(transaction: &mut AnyConnection, preview: &Preview) -> Result<(), Error> {
    row_of(SAVE, preview)?.execute(transaction).await.map(drop).map_err(doing("save a preview"))
}

/// A statement whose first values are a preview's row.
fn row_of<'q>(statement: &'static str, preview: &'q Preview) -> Result<Query<'q, Any, AnyArguments>, Error> {
    let document = serde_json::to_string(preview)
        .map_err(|source| Error::Document { what: preview.key.to_string(), source })?;
    Ok(sqlx::query(statement)
        .bind(signed(preview.key.project_id))
        .bind(subject(preview.key))
        .bind(MAIN)
        .bind(preview.name.as_str())
        .bind(preview.state.as_str())
        .bind(&preview.source_branch)
        .bind(preview.updated_at)
        .bind(document))
}

/// Adds a line to a preview's history.
pub(super) async fn note(
    transaction: &mut AnyConnection,
    preview: &Preview,
    at: i64,
    text: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO history (id, project_id, mr_iid, preview, at, state, text) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(uuid::Uuid::now_v7().to_string())
    .bind(signed(preview.key.project_id))
    .bind(subject(preview.key))
    .bind(MAIN)
    .bind(at)
    .bind(preview.state.as_str())
    .bind(text.replace('\0', "")) // which PostgreSQL cannot hold
    .execute(transaction)
    .await
    .map(drop)
}

pub(super) fn document(row: &AnyRow) -> Result<Preview, Error> {
    let text: String = row.get(0);
    serde_json::from_str(&text)
        .map_err(|source| Error::Document { what: text.chars().take(60).collect(), source })
}
