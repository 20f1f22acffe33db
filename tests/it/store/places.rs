//! Who runs and who waits, where the number is limited.

use greenroom::{
    preview::{Preview, PreviewKey, State},
    store::Places,
};

use super::{Database, preview};
use crate::on_both_databases;

on_both_databases! {
    places_are_counted_by_project
    of_many_at_once_only_as_many_as_there_is_room_for_get_a_place
    who_is_refused_a_place_is_not_saved
}

fn placed(iid: u64) -> Preview {
    Preview { place_since: Some(1), ..preview(PreviewKey::of_mr(42, iid), State::Deploying, 1) }
}

async fn places_are_counted_by_project(database: &Database) {
    let store = database.open().await;
    assert_eq!(store.places(42).await.unwrap(), Places::default());
    let waiting = |iid, since| Preview {
        waits_for_place_since: Some(since),
        ..preview(PreviewKey::of_mr(42, iid), State::Waiting, 1)
    };
    for one in [
        placed(1),
        waiting(2, 20),
        waiting(3, 10),
        preview(PreviewKey::of_mr(42, 4), State::Failed, 1),
        Preview { place_since: None, state: State::Stopping, ..placed(5) },
        Preview { place_since: None, state: State::Stopped, ..placed(6) },
        Preview {
            key: PreviewKey::of_mr(43, 1),
            name: preview(PreviewKey::of_mr(43, 1), State::Ready, 1).name,
            ..placed(1)
        },
    ] {
        store.save(&one, None).await.unwrap();
    }
    let mut places = store.places(42).await.unwrap();
    places.taken.sort_unstable();
    let keys = |iids: &[u64]| iids.iter().map(|iid| PreviewKey::of_mr(42, *iid)).collect::<Vec<_>>();
    assert_eq!(places, Places { taken: keys(&[1]), waiting: keys(&[3, 2]) });
}

async fn of_many_at_once_only_as_many_as_there_is_room_for_get_a_place(database: &Database) {
    // Two processes, where the database lets them.
    let stores = [database.open().await, database.open().await];
    let tries = (1..=20).zip(stores.iter().cycle()).map(|(iid, store)| {
        let store = store.clone();
        tokio::spawn(async move { store.take_place(&placed(iid), 3, "deploying").await.unwrap() })
    });
    let mut taken = 0;
    for one in tries.collect::<Vec<_>>() {
        taken += u32::from(one.await.unwrap());
    }
    assert_eq!(taken, 3);
    assert_eq!(stores[0].places(42).await.unwrap().taken.len(), 3);
}

async fn who_is_refused_a_place_is_not_saved(database: &Database) {
    let store = database.open().await;
    assert!(store.take_place(&placed(1), 1, "deploying").await.unwrap());
    assert!(store.take_place(&placed(1), 1, "deploying again").await.unwrap(), "its own");
    assert!(!store.take_place(&placed(2), 1, "deploying").await.unwrap());
    assert_eq!(store.preview(PreviewKey::of_mr(42, 2)).await.unwrap(), None);
    assert_eq!(store.history(PreviewKey::of_mr(42, 2), 9).await.unwrap(), []);
    assert_eq!(store.history(PreviewKey::of_mr(42, 1), 9).await.unwrap().len(), 2);
}
