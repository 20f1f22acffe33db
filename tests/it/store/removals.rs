//! Removals that count for the brake, and previews that were found.

use greenroom::{
    preview::{Cause, Preview, PreviewKey, State},
    store::{Lane, Sweep},
};

use super::{mr, preview};
use crate::{on_both_databases, support::database::Database};

on_both_databases! {
    a_wanted_removal_keeps_its_time_as_long_as_its_cause
    what_is_wanted_and_what_went_is_counted_until_the_window_is_over
    a_release_lets_go_what_is_there_and_nothing_else
    looks_that_were_due_before_are_waited_for
    what_was_found_is_never_written_over_what_lives
    a_note_tells_whether_it_is_news
}

const fn key(iid: u64) -> PreviewKey {
    PreviewKey::of_mr(42, iid)
}

async fn a_wanted_removal_keeps_its_time_as_long_as_its_cause(database: &Database) {
    let store = database.open().await;
    let first = store.want_removal(key(7), Cause::ProjectFile, "no file", 10).await.unwrap();
    assert_eq!((first.key, first.since, first.released), (key(7), 10, false));
    assert_eq!(store.want_removal(key(7), Cause::ProjectFile, "no file", 20).await.unwrap(), first);
    let reworded = store.want_removal(key(7), Cause::ProjectFile, "not there", 30).await.unwrap();
    assert_eq!((reworded.since, &*reworded.reason), (10, "not there"));
    store.release_removals().await.unwrap();
    let another = store.want_removal(key(7), Cause::Policy, "a draft", 40).await.unwrap();
    assert_eq!((another.since, another.released), (40, false), "another cause is another removal");
    assert_eq!(store.wanted_removals().await.unwrap(), [another]);

    assert!(store.drop_removal(key(7)).await.unwrap());
    assert!(!store.drop_removal(key(7)).await.unwrap());
    assert_eq!(store.wanted_removals().await.unwrap(), []);
}

async fn what_is_wanted_and_what_went_is_counted_until_the_window_is_over(database: &Database) {
    let store = database.open().await;
    assert_eq!(store.sweep(0).await.unwrap(), Sweep::default());
    for iid in 1..=4 {
        store.save(&preview(key(iid), State::Ready, 1), None).await.unwrap();
        let at = i64::try_from(iid).unwrap() * 10;
        store.want_removal(key(iid), Cause::ProjectFile, "no file", at).await.unwrap();
    }
    assert_eq!(store.sweep(0).await.unwrap(), Sweep { wanted: 4, gone: 0, newest: 40, live: 4 });
    store.save(&preview(key(1), State::Stopped, 2), None).await.unwrap();
    assert_eq!(
        store.sweep(0).await.unwrap(),
        Sweep { wanted: 4, gone: 0, newest: 40, live: 4 },
        "on its way"
    );
    store.removal_is_done(key(1), 100).await.unwrap();
    store.removal_is_done(key(9), 100).await.unwrap();
    assert_eq!(store.sweep(99).await.unwrap(), Sweep { wanted: 3, gone: 1, newest: 40, live: 4 });
    assert_eq!(store.sweep(100).await.unwrap(), Sweep { wanted: 3, gone: 0, newest: 40, live: 3 });
    // The same one may come and go again.
    store.want_removal(key(1), Cause::ProjectFile, "no file", 110).await.unwrap();
    store.removal_is_done(key(1), 120).await.unwrap();
    assert_eq!(store.sweep(99).await.unwrap().gone, 2);
}

async fn a_release_lets_go_what_is_there_and_nothing_else(database: &Database) {
    let store = database.open().await;
    for iid in [2, 1] {
        store.want_removal(key(iid), Cause::Orphan, "closed", 10).await.unwrap();
    }
    let released = store.release_removals().await.unwrap();
    assert_eq!(
        released.iter().map(|one| (one.key, one.released)).collect::<Vec<_>>(),
        [(key(1), true), (key(2), true)]
    );
    assert_eq!(store.release_removals().await.unwrap(), []);
    assert_eq!(store.sweep(0).await.unwrap().wanted, 0, "what was let go does not count");
    let later = store.want_removal(key(3), Cause::Orphan, "closed", 20).await.unwrap();
    assert!(!later.released);
    assert_eq!(store.sweep(0).await.unwrap().wanted, 1);
}

async fn looks_that_were_due_before_are_waited_for(database: &Database) {
    let store = database.open().await;
    store.enqueue(&[mr(7)], 10).await.unwrap();
    assert!(!store.is_behind(10, key(7)).await.unwrap(), "a look does not wait for itself");
    store.enqueue(&[mr(8)], 20).await.unwrap();
    assert!(!store.is_behind(19, key(7)).await.unwrap());
    assert!(store.is_behind(20, key(7)).await.unwrap());
    let claim = store.claim("worker", 10, 100).await.unwrap().unwrap();
    store.finish(&claim, "worker", None).await.unwrap();
    let claim = store.claim("worker", 20, 100).await.unwrap().unwrap();
    assert!(store.is_behind(20, key(7)).await.unwrap(), "it is being looked at");
    store.finish(&claim, "worker", Some((30, Lane::Interactive))).await.unwrap();
    assert!(!store.is_behind(20, key(7)).await.unwrap());
}

async fn what_was_found_is_never_written_over_what_lives(database: &Database) {
    let store = database.open().await;
    assert!(store.is_fresh().await.unwrap());
    let found = |at| Preview { found_at: Some(at), ..preview(key(7), State::Waiting, at) };
    assert!(store.save_found(&found(1), None).await.unwrap());
    assert!(!store.is_fresh().await.unwrap());
    assert!(!store.save_found(&found(2), None).await.unwrap());
    assert!(!store.save_found(&found(2), Some(1)).await.unwrap(), "it lives");
    store.save(&preview(key(7), State::Stopped, 3), None).await.unwrap();
    assert!(!store.save_found(&found(4), Some(2)).await.unwrap(), "it has changed since");
    assert!(store.save_found(&found(4), Some(3)).await.unwrap());
    assert_eq!(store.preview(key(7)).await.unwrap(), Some(found(4)));
}

async fn a_note_tells_whether_it_is_news(database: &Database) {
    let store = database.open().await;
    assert_eq!(store.noted("brake").await.unwrap(), None);
    assert!(!store.forget("brake").await.unwrap());
    assert!(store.note("brake", "engaged").await.unwrap());
    assert!(!store.note("brake", "engaged").await.unwrap());
    assert!(store.note("brake", "again").await.unwrap());
    assert_eq!(store.noted("brake").await.unwrap().as_deref(), Some("again"));
    assert!(store.forget("brake").await.unwrap());
}
