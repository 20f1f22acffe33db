//! Checks that are being asked: one owner at a time, and what is known already is not asked again.

use greenroom::{
    preview::{CheckResult, CheckState, PreviewKey},
    store::Asking,
};

use super::{Database, mr};
use crate::on_both_databases;

on_both_databases! {
    a_run_has_one_owner_until_its_lease_is_over
    what_came_of_a_check_is_kept_with_a_hint
    a_newer_run_takes_the_place_of_an_older_one
    at_the_start_every_lease_is_given_back
}

const KEY: PreviewKey = PreviewKey::of_mr(42, 7);

fn asking(run: &str, owner: &str) -> Asking {
    Asking { key: KEY, run: run.to_owned(), owner: owner.to_owned() }
}

fn passed() -> CheckResult {
    CheckResult { state: CheckState::Passed, took_ms: Some(3), ..CheckResult::running("GET `/`".to_owned()) }
}

async fn a_run_has_one_owner_until_its_lease_is_over(database: &Database) {
    let store = database.open().await;
    assert_eq!(store.lease_checks(&asking("r", "a"), 1, 10).await.unwrap(), Some(vec![]));
    assert_eq!(store.lease_checks(&asking("r", "b"), 9, 19).await.unwrap(), None);
    assert!(store.renew_checks(&asking("r", "a"), 20).await.unwrap());
    assert_eq!(store.lease_checks(&asking("r", "b"), 19, 29).await.unwrap(), None);
    assert_eq!(store.lease_checks(&asking("r", "b"), 20, 30).await.unwrap(), Some(vec![]));
    assert!(!store.renew_checks(&asking("r", "a"), 40).await.unwrap());
}

async fn what_came_of_a_check_is_kept_with_a_hint(database: &Database) {
    let store = database.open().await;
    store.lease_checks(&asking("r", "a"), 1, 10).await.unwrap();
    assert!(store.note_checks(&asking("r", "a"), &[passed()], 5).await.unwrap());
    assert_eq!(store.claim("worker", 5, 9).await.unwrap().unwrap().key, mr(7));
    assert_eq!(store.check_results(KEY, "r").await.unwrap(), [passed()]);
    assert_eq!(store.check_results(KEY, "another").await.unwrap(), []);
    // Whoever goes on knows it.
    assert_eq!(store.lease_checks(&asking("r", "b"), 10, 20).await.unwrap(), Some(vec![passed()]));
    assert!(!store.note_checks(&asking("r", "a"), &[], 11).await.unwrap(), "it is not its own any more");
    assert_eq!(store.check_results(KEY, "r").await.unwrap(), [passed()]);
    store.forget_checks(KEY).await.unwrap();
    assert!(!store.renew_checks(&asking("r", "b"), 30).await.unwrap());
    assert_eq!(store.check_results(KEY, "r").await.unwrap(), []);
}

async fn a_newer_run_takes_the_place_of_an_older_one(database: &Database) {
    let store = database.open().await;
    store.lease_checks(&asking("r", "a"), 1, 10).await.unwrap();
    store.note_checks(&asking("r", "a"), &[passed()], 2).await.unwrap();
    assert_eq!(store.lease_checks(&asking("s", "b"), 3, 10).await.unwrap(), Some(vec![]));
    assert!(!store.renew_checks(&asking("r", "a"), 20).await.unwrap());
    assert!(!store.note_checks(&asking("r", "a"), &[passed()], 4).await.unwrap());
}

async fn at_the_start_every_lease_is_given_back(database: &Database) {
    let store = database.open().await;
    store.lease_checks(&asking("r", "a"), 1, 1_000).await.unwrap();
    store.release_all().await.unwrap();
    assert_eq!(store.lease_checks(&asking("r", "b"), 2, 1_000).await.unwrap(), Some(vec![]));
}
