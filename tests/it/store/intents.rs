//! What an operator asked for stays until a look has worked it in, and what was asked for last counts.

use greenroom::{
    preview::{Hold, HoldOrigin, Intent, Preview, PreviewKey, State},
    store::Store,
};

use super::{Database, mr, preview};
use crate::on_both_databases;

on_both_databases! {
    an_intent_comes_with_a_hint_and_a_line_of_history
    a_look_that_knew_nothing_of_it_does_not_overwrite_it
    only_the_intent_that_was_taken_up_is_done
    a_stop_takes_back_what_a_refresh_or_a_reopen_would_lift
}

const KEY: PreviewKey = PreviewKey::of_mr(42, 7);

async fn ready(store: &Store) -> Preview {
    let ready = preview(KEY, State::Ready, 1);
    store.save(&ready, None).await.unwrap();
    ready
}

async fn an_intent_comes_with_a_hint_and_a_line_of_history(database: &Database) {
    let store = database.open().await;
    let ready = ready(&store).await;
    assert_eq!(store.asked(KEY).await.unwrap(), None);
    store.ask(&ready, Intent::Stop, 5).await.unwrap();
    store.close().await;

    let store = database.open().await;
    let asked = store.asked(KEY).await.unwrap().unwrap();
    assert_eq!((asked.intent, asked.at), (Intent::Stop, 5));
    let history = store.history(KEY, 9).await.unwrap();
    let told: Vec<_> = history.iter().map(|line| (line.at, &*line.state, &*line.text)).collect();
    assert_eq!(told, [(5, "ready", "the operator asked to stop it")]);
    assert_eq!(store.claim("worker", 5, 9).await.unwrap().unwrap().key, mr(7));
}

async fn a_look_that_knew_nothing_of_it_does_not_overwrite_it(database: &Database) {
    let store = database.open().await;
    let ready = ready(&store).await;
    store.enqueue(&[mr(7)], 1).await.unwrap();
    let look = store.claim("worker", 1, 100).await.unwrap().unwrap();
    store.ask(&ready, Intent::Stop, 5).await.unwrap();
    store.save(&preview(KEY, State::Failed, 6), Some("failed")).await.unwrap();
    store.finish(&look, "worker", None).await.unwrap();

    assert_eq!(store.asked(KEY).await.unwrap().unwrap().intent, Intent::Stop);
    assert_eq!(store.claim("worker", 6, 100).await.unwrap().unwrap().key, mr(7), "a look follows at once");
}

async fn only_the_intent_that_was_taken_up_is_done(database: &Database) {
    let store = database.open().await;
    let ready = ready(&store).await;
    store.ask(&ready, Intent::Stop, 5).await.unwrap();
    let first = store.asked(KEY).await.unwrap().unwrap();
    store.ask(&ready, Intent::Stop, 5).await.unwrap();
    let held = Preview { hold: Some(Hold { sha: None, since: 5, origin: HoldOrigin::Operator }), ..ready };
    store.take_up(&first, &held).await.unwrap();
    assert_eq!(store.preview(KEY).await.unwrap(), Some(held.clone()));

    let second = store.asked(KEY).await.unwrap().unwrap();
    assert_ne!(second, first);
    store.take_up(&second, &held).await.unwrap();
    assert_eq!(store.asked(KEY).await.unwrap(), None);
}

async fn a_stop_takes_back_what_a_refresh_or_a_reopen_would_lift(database: &Database) {
    let store = database.open().await;
    let ready = ready(&store).await;
    let lifts = async || {
        let claim = store.claim("worker", 9, 100).await.unwrap().unwrap();
        store.retry(&claim, "worker", 9, "GitLab is away").await.unwrap();
        claim.lift
    };
    store.ask(&ready, Intent::Stop, 1).await.unwrap();
    assert!(!lifts().await);
    store.ask(&ready, Intent::Refresh, 2).await.unwrap();
    assert!(lifts().await);
    assert!(lifts().await, "until a run has finished");
    store.ask(&ready, Intent::Stop, 3).await.unwrap();
    assert!(!lifts().await);
}
