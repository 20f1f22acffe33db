//! Small things to remember, by name: our instance id, what was said already, when something was done last.

use super::{Error, Store, doing};

impl Store {
    /// Keeps `value` under `key`. Whether that is news.
    pub async fn note(&self, key: &str, value: &str) -> Result<bool, Error> {
        sqlx::query(
            "INSERT INTO meta (key, value) VALUES ($1, $2) \
             ON CONFLICT (key) DO UPDATE SET value = excluded.value WHERE meta.value <> excluded.value",
        )
        .bind(key)
        .bind(value)
        .execute(&self.write)
        .await
        .map(|done| done.rows_affected() > 0)
        .map_err(doing("keep a value"))
    }

    /// The value kept under `key`.
    pub async fn noted(&self, key: &str) -> Result<Option<String>, Error> {
        sqlx::query_scalar("SELECT value FROM meta WHERE key = $1")
            .bind(key)
            .fetch_optional(&self.read)
            .await
            .map_err(doing("read a value"))
    }

    /// Forgets the value kept under `key`. Whether there was one.
    pub async fn forget(&self, key: &str) -> Result<bool, Error> {
        if self.noted(key).await?.is_none() {
            return Ok(false);
        }
        sqlx::query("DELETE FROM meta WHERE key = $1")
            .bind(key)
            .execute(&self.write)
            .await
            .map(|done| done.rows_affected() > 0)
            .map_err(doing("forget a value"))
    }
}
