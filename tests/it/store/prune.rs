//! Old rows go, each kind at its own age; nothing that is still needed goes with them.

use std::time::Duration;

use futures::future::join_all;
use greenroom::{
    preview::{PreviewKey, State, Subject},
    store::{Accepted, Delivery, Retention},
};

use super::{Database, delivery, mr, preview, queue::somebody_waits};
use crate::on_both_databases;

on_both_databases! {
    more_rows_than_one_statement_takes_are_pruned
    each_table_has_an_age_of_its_own
    work_that_is_asked_for_is_never_pruned
    everything_may_be_kept_for_ever
}

const HOUR: i64 = 3_600_000;

/// As the settings have it: deliveries for two hours, history for five.
const RETENTION: Retention =
    Retention { deliveries: Duration::from_hours(2), history: Duration::from_hours(5) };

async fn more_rows_than_one_statement_takes_are_pruned(database: &Database) {
    let (store, raw) = (database.open().await, database.raw().await);
    let all = (0..1_200).map(|n| store.accept(delivery(&n.to_string(), mr(n))));
    assert!(join_all(all).await.iter().all(Result::is_ok));
    sqlx::query("UPDATE work SET done = requested").execute(&raw).await.unwrap();
    sqlx::query("INSERT INTO history SELECT key, 42, 7, 'main', 10, 'ready', 'ready' FROM work")
        .execute(&raw)
        .await
        .unwrap();
    sqlx::query(
        "INSERT INTO previews SELECT 42, requested + run_at, key, key, 'stopped', 'feature', 10, '{}' FROM work",
    )
    .execute(&raw)
    .await
    .unwrap();
    assert_eq!(store.prune(RETENTION, 100 * HOUR).await.unwrap(), 4 * 1_200);
    assert_eq!(store.prune(RETENTION, 100 * HOUR).await.unwrap(), 0);
}

async fn each_table_has_an_age_of_its_own(database: &Database) {
    let store = database.open().await;
    let accept = async |id: &str, at| store.accept(Delivery { work: None, at, ..delivery(id, mr(1)) }).await;
    accept("old", 0).await.unwrap();
    accept("new", 1).await.unwrap();
    for (iid, state, at) in [(1, State::Stopped, 0), (2, State::Stopped, 1), (3, State::Ready, 0)] {
        store.save(&preview(PreviewKey::of_mr(42, iid), state, at), Some("a line")).await.unwrap();
    }

    assert_eq!(store.prune(RETENTION, 2 * HOUR).await.unwrap(), 0, "old enough is not too old");
    assert_eq!(store.prune(RETENTION, 2 * HOUR + 1).await.unwrap(), 1);
    assert_eq!(accept("old", 2 * HOUR).await.unwrap(), Accepted::New);
    assert_eq!(accept("new", 2 * HOUR).await.unwrap(), Accepted::Repeated);

    assert_eq!(store.prune(RETENTION, 5 * HOUR).await.unwrap(), 2, "the two deliveries");
    assert_eq!(store.prune(RETENTION, 5 * HOUR + 1).await.unwrap(), 3, "two lines, one preview");
    let left: Vec<_> = store.previews().await.unwrap().iter().map(|preview| preview.key.subject).collect();
    assert_eq!(left, [2, 3].map(Subject::MergeRequest), "one is too young to go, one still runs");
    assert_eq!(store.history(PreviewKey::of_mr(42, 3), 9).await.unwrap(), []);
    assert_eq!(store.history(PreviewKey::of_mr(42, 2), 9).await.unwrap().len(), 1);
}

async fn work_that_is_asked_for_is_never_pruned(database: &Database) {
    let store = database.open().await;
    store.enqueue(&[mr(1), mr(2), mr(3)], 0).await.unwrap();
    let done = store.claim("worker", 0, 1).await.unwrap().unwrap();
    store.finish(&done, "worker", None).await.unwrap();
    let leased = store.claim("worker", 0, 1).await.unwrap().unwrap();
    assert_eq!(store.prune(RETENTION, 24 * HOUR).await.unwrap(), 0);
    assert_eq!(store.prune(RETENTION, 24 * HOUR + 1).await.unwrap(), 1);
    assert!(store.renew(&leased, "worker", 100 * HOUR).await.unwrap());
    assert_eq!(store.claim("another", HOUR, HOUR).await.unwrap().unwrap().key, mr(3));
}

async fn everything_may_be_kept_for_ever(database: &Database) {
    let store = database.open().await;
    store.accept(Delivery { work: None, ..delivery("1", mr(7)) }).await.unwrap();
    store.save(&preview(PreviewKey::of_mr(42, 7), State::Stopped, 0), Some("gone")).await.unwrap();
    let for_ever = Retention { deliveries: Duration::MAX, history: Duration::MAX };
    for now in [0, 1_000_000 * HOUR, i64::MAX] {
        assert_eq!(store.prune(for_ever, now).await.unwrap(), 0);
    }
}

/// On PostgreSQL a statement goes on with a row as it finds it when its turn comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hint_that_comes_while_its_key_is_pruned_is_kept() {
    Database::postgres(async |database| {
        let (store, raw) = (database.open().await, database.raw().await);
        store.enqueue(&[mr(7)], 0).await.unwrap();
        let run = store.claim("worker", 0, 1).await.unwrap().unwrap();
        store.finish(&run, "worker", None).await.unwrap();
        let mut hint = raw.begin().await.unwrap();
        sqlx::query("UPDATE work SET requested = requested + 1").execute(&mut *hint).await.unwrap();
        let (pruned, ()) = tokio::join!(store.prune(RETENTION, 100 * HOUR), async {
            somebody_waits(&raw).await;
            hint.commit().await.unwrap();
        });
        assert_eq!(pruned.unwrap(), 0);
        assert_eq!(store.claim("worker", 0, 1).await.unwrap().unwrap().key, mr(7));
    })
    .await;
}
