//! Fresh databases, one per test: a SQLite file in a folder of its own, or a database on a PostgreSQL server.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use greenroom::store::Store;
use sqlx::{AnyPool, AssertSqlSafe};
use tempfile::TempDir;
use url::Url;

use super::parts::part;

/// An empty database.
pub struct Database {
    url: String,
    home: Home,
}

enum Home {
    Folder { _folder: TempDir },
    Server { admin: AnyPool, name: String },
}

impl Database {
    /// Runs `test` on a SQLite file.
    pub async fn sqlite(test: impl AsyncFnOnce(&Self)) {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("store.db").display());
        Self { url, home: Home::Folder { _folder: folder } }.run(test).await;
    }

    /// Runs `test` on a PostgreSQL database, which is dropped afterwards.
    pub async fn postgres(test: impl AsyncFnOnce(&Self)) {
        let Some(server) = part("GREENROOM_TEST_POSTGRES", "the store on PostgreSQL") else { return };
        let mut url: Url = server.to_str().and_then(|url| url.parse().ok()).expect("a URL");
        sqlx::any::install_default_drivers();
        let admin = AnyPool::connect(url.as_str()).await.expect("the server of GREENROOM_TEST_POSTGRES");
        let name = format!("greenroom_{}", uuid::Uuid::new_v4().simple());
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&admin).await.unwrap();
        url.set_path(&name);
        Self { url: url.into(), home: Home::Server { admin, name } }.run(test).await;
    }

    /// Also cleans up after a test that fails.
    async fn run(self, test: impl AsyncFnOnce(&Self)) {
        let ended = AssertUnwindSafe(test(&self)).catch_unwind().await;
        if let Home::Server { admin, name } = self.home {
            let drop = format!("DROP DATABASE {name} WITH (FORCE)");
            sqlx::query(AssertSqlSafe(drop)).execute(&admin).await.unwrap();
            admin.close().await;
        }
        if let Err(panic) = ended {
            std::panic::resume_unwind(panic);
        }
    }

    /// What greenroom is told to open.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Opens it as greenroom does.
    pub async fn open(&self) -> Store {
        Store::open(&self.url).await.unwrap()
    }

    /// A connection past the store, for what other processes do to its rows.
    pub async fn raw(&self) -> AnyPool {
        AnyPool::connect(&self.url).await.unwrap()
    }

    pub fn is_shared(&self) -> bool {
        matches!(self.home, Home::Server { .. })
    }
}

/// Each named test twice: as `sqlite::…` and as `postgres::…`.
#[macro_export]
macro_rules! on_both_databases {
    ($($test:ident)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                $crate::support::database::Database::sqlite(super::$test).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                $crate::support::database::Database::postgres(super::$test).await;
            })*
        }
    };
}
