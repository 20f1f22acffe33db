//! What CI jobs ask for: the newest pipeline's newest job counts, and the same job asks once.

use greenroom::{
    preview::{JobOrder, PreviewKey, Sha, State},
    store::Store,
};

use super::{Database, mr, preview};
use crate::on_both_databases;

on_both_databases! {
    an_order_comes_with_a_hint_and_a_line_of_history
    the_newest_job_counts_in_whatever_order_they_come
    a_job_that_asks_again_gets_its_own_order_and_other_files_are_another_one
    a_refused_order_says_why_until_another_takes_its_place
}

const KEY: PreviewKey = PreviewKey::of_mr(42, 7);

fn order(id: &str, pipeline: u64, job: u64, upload: &str) -> JobOrder {
    let sha = Sha::parse(&"a".repeat(40)).unwrap();
    JobOrder {
        id: id.to_owned(),
        at: 5,
        job_id: job,
        pipeline_id: pipeline,
        pipeline_project: 42,
        pipeline_sha: sha.clone(),
        pipeline_ref: "refs/merge-requests/7/head".to_owned(),
        pipeline_source: "merge_request_event".to_owned(),
        sha,
        upload: Some(upload.to_owned()),
        has_deployment: true,
        answered: false,
    }
}

/// Asks, and tells whose order is kept then.
async fn asks(store: &Store, order: &JobOrder) -> String {
    store.order(KEY, order, None).await.unwrap().order.id
}

async fn an_order_comes_with_a_hint_and_a_line_of_history(database: &Database) {
    let store = database.open().await;
    let ready = preview(KEY, State::Ready, 1);
    store.save(&ready, None).await.unwrap();
    assert!(!store.has_orders(42).await.unwrap());
    let asked = order("1", 9, 3, "d");
    store.order(KEY, &asked, Some(&ready)).await.unwrap();
    store.close().await;

    let store = database.open().await;
    assert_eq!(store.job_order(KEY).await.unwrap().unwrap().order, asked);
    assert!(store.has_orders(42).await.unwrap() && !store.has_orders(43).await.unwrap());
    assert_eq!(store.uploads().await.unwrap(), ["d"]);
    let history = store.history(KEY, 9).await.unwrap();
    assert_eq!(history[0].text, "job 3 of pipeline 9 asked for a deploy");
    assert_eq!(store.claim("worker", 5, 9).await.unwrap().unwrap().key, mr(7));
}

async fn the_newest_job_counts_in_whatever_order_they_come(database: &Database) {
    let store = database.open().await;
    assert_eq!(asks(&store, &order("1", 9, 3, "d")).await, "1");
    assert_eq!(asks(&store, &order("2", 9, 4, "d")).await, "2", "another attempt");
    assert_eq!(asks(&store, &order("3", 9, 3, "d")).await, "2", "the attempt before");
    assert_eq!(asks(&store, &order("4", 10, 1, "d")).await, "4", "a newer pipeline");
    assert_eq!(asks(&store, &order("5", 9, 9, "d")).await, "4", "an older one");
}

async fn a_job_that_asks_again_gets_its_own_order_and_other_files_are_another_one(database: &Database) {
    let store = database.open().await;
    assert_eq!(asks(&store, &order("1", 9, 3, "d")).await, "1");
    assert_eq!(asks(&store, &order("2", 9, 3, "d")).await, "1");
    assert_eq!(asks(&store, &order("3", 9, 3, "e")).await, "3");
}

async fn a_refused_order_says_why_until_another_takes_its_place(database: &Database) {
    let store = database.open().await;
    asks(&store, &order("1", 9, 3, "d")).await;
    store.refuse_order(KEY, "another", "not this one").await.unwrap();
    assert_eq!(store.job_order(KEY).await.unwrap().unwrap().refused, None);
    store.refuse_order(KEY, "1", "a newer commit").await.unwrap();
    assert_eq!(store.job_order(KEY).await.unwrap().unwrap().refused.as_deref(), Some("a newer commit"));
    asks(&store, &order("2", 9, 4, "d")).await;
    assert_eq!(store.job_order(KEY).await.unwrap().unwrap().refused, None);
}
