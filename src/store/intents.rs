//! What operators ask for: durable when [`Store::ask`] returns, kept until a look has taken it up.
//!
//! Races, and what was decided:
//! * *A look is under way when an operator asks.* It saves the preview as a whole, and knows nothing of the intent; so
//!   the intent has a row of its own, which only the look that worked it in removes, in the transaction that saves the
//!   preview. The key is queued with the intent, so such a look follows at once.
//! * *A reopen is not looked at yet when an operator stops.* The stop takes back what the reopen would have lifted; one that
//!   comes after the stop lifts it.
//! * *An operator asks again while a look takes the first intent up.* The second has another id and stays.

use sqlx::Row;

use super::intake::{Hint, Lift, enqueue};
use super::previews::{MAIN, note, put};
use super::{Error, Lane, Store, doing, signed, subject};
use crate::preview::{Intent, Preview, PreviewKey, WorkKey};

/// What an operator asked for and no look has taken up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    id: String,
    /// What.
    pub intent: Intent,
    /// When, Unix milliseconds.
    pub at: i64,
}

impl Store {
    /// Keeps an operator's intent, with a line of history and a hint, all or nothing. It replaces an earlier one.
    pub async fn ask(&self, preview: &Preview, intent: Intent, at: i64) -> Result<(), Error> {
        let what = "keep an intent";
        let mut transaction = self.write.begin().await.map_err(doing(what))?;
        sqlx::query(
            "INSERT INTO intents (project_id, mr_iid, preview, id, intent, at) VALUES ($1, $2, $3, $4, $5, $6) \
             ON CONFLICT (project_id, mr_iid, preview) DO UPDATE SET id = excluded.id, intent = excluded.intent, \
             at = excluded.at",
        )
        .bind(signed(preview.key.project_id))
        .bind(subject(preview.key))
        .bind(MAIN)
        .bind(uuid::Uuid::now_v7().to_string())
        .bind(intent.as_str())
        .bind(at)
        .execute(&mut *transaction)
        .await
        .map_err(doing(what))?;
        note(&mut transaction, preview, at, intent.told()).await.map_err(doing(what))?;
        let lift = match intent {
            Intent::Stop | Intent::StopInGitlab => Lift::Never,
            Intent::Refresh => Lift::Yes,
            Intent::Sleep | Intent::Wake => Lift::No,
        };
        let key = WorkKey::Preview(preview.key);
        let hint = Hint { key: &key, lane: Lane::Interactive, thorough: true, lift };
        enqueue(&mut transaction, self.backend, &[hint], at).await.map_err(doing(what))?;
        transaction.commit().await.map_err(doing(what))?;
        self.wake.notify_waiters();
        Ok(())
    }

    /// What an operator asked for and no look has taken up.
    pub async fn asked(&self, key: PreviewKey) -> Result<Option<Asked>, Error> {
        let row = sqlx::query(
            "SELECT id, intent, at FROM intents WHERE project_id = $1 AND mr_iid = $2 AND preview = $3",
        )
        .bind(signed(key.project_id))
        .bind(subject(key))
        .bind(MAIN)
        .fetch_optional(&self.read)
        .await
        .map_err(doing("read an intent"))?;
        // A word that a newer version wrote waits for that version.
        Ok(row.and_then(|row| {
            let intent = Intent::parse(&row.get::<String, _>(1))?;
            Some(Asked { id: row.get(0), intent, at: row.get(2) })
        }))
    }

    /// Saves a preview that `asked` was worked into, and is done with it, all or nothing.
    pub async fn take_up(&self, asked: &Asked, preview: &Preview) -> Result<(), Error> {
        let what = "take up an intent";
        let mut transaction = self.write.begin().await.map_err(doing(what))?;
        put(&mut transaction, preview).await?;
        sqlx::query("DELETE FROM intents WHERE project_id = $1 AND mr_iid = $2 AND preview = $3 AND id = $4")
            .bind(signed(preview.key.project_id))
            .bind(subject(preview.key))
            .bind(MAIN)
            .bind(&asked.id)
            .execute(&mut *transaction)
            .await
            .map_err(doing(what))?;
        transaction.commit().await.map_err(doing(what))
    }
}
