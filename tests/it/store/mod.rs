//! The store's contract, held to by both databases: each test here runs on SQLite, and on PostgreSQL too.

mod checks;
mod intake;
mod intents;
mod orders;
mod places;
mod previews;
mod prune;
mod queue;
mod removals;

use std::time::Duration;

use futures::future::join_all;
use greenroom::{
    preview::{Cause, Intent, Preview, PreviewKey, State, WorkKey},
    store::{Claim, Delivery, Error, Lane, Retention, Store},
};
use insta::assert_snapshot;

use crate::{
    on_both_databases,
    support::{PATIENCE, database::Database, world::World},
};

on_both_databases! {
    what_was_stored_is_there_after_opening_again
    a_closed_store_answers_with_errors
    it_is_ready_only_while_it_can_be_written
    what_is_remembered_first_stays
    whoever_waits_for_work_is_woken
}

/// Merge request `!iid` of project 42.
fn mr(iid: u64) -> WorkKey {
    WorkKey::Preview(PreviewKey::of_mr(42, iid))
}

/// A delivery at time 10 that asks for a look at `work`.
fn delivery(id: &str, work: WorkKey) -> Delivery {
    Delivery {
        id: id.to_owned(),
        event: "Merge Request Hook".to_owned(),
        outcome: "look",
        project: Some((42, "acme/web".to_owned())),
        work: Some(work),
        reopened: false,
        at: 10,
    }
}

/// A preview of `key` in this state, changed at `at`.
fn preview(key: PreviewKey, state: State, at: i64) -> Preview {
    let new = Preview::new(key, "acme/web", "feature", |name| format!("https://{name}.example.com"), at);
    Preview { state, source_branch: "feature".to_owned(), ..new }
}

async fn what_was_stored_is_there_after_opening_again(database: &Database) {
    let store = database.open().await;
    store.save(&preview(PreviewKey::of_mr(42, 7), State::Ready, 1), Some("ready")).await.unwrap();
    store.enqueue(&[mr(7)], 1).await.unwrap();
    store.close().await;

    let store = database.open().await;
    assert_eq!(store.previews().await.unwrap(), [preview(PreviewKey::of_mr(42, 7), State::Ready, 1)]);
    assert_eq!(store.history(PreviewKey::of_mr(42, 7), 9).await.unwrap().len(), 1);
    assert_eq!(store.claim("worker", 1, 2).await.unwrap().unwrap().key, mr(7));
    assert_eq!(Store::is_shared(database.url()), database.is_shared());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_start_at_once_make_the_schema_once() {
    Database::postgres(async |database| {
        for store in join_all((0..4).map(|_| database.open())).await {
            store.ready().await.unwrap();
        }
    })
    .await;
}

async fn a_closed_store_answers_with_errors(database: &Database) {
    let store = database.open().await;
    let key = PreviewKey::of_mr(42, 7);
    let seven = preview(key, State::Ready, 1);
    let retention = Retention { deliveries: Duration::ZERO, history: Duration::ZERO };
    let claim = Claim {
        key: mr(7),
        requested: 1,
        attempts: 0,
        lift: false,
        thorough: false,
        lane: Lane::Interactive,
    };
    store.close().await;
    let answers = [
        store.ready().await,
        store.remember("key", "value").await.map(drop),
        store.accept(delivery("1", mr(7))).await.map(drop),
        store.enqueue(&[mr(7)], 1).await,
        store.claim("worker", 1, 2).await.map(drop),
        store.renew(&claim, "worker", 3).await.map(drop),
        store.finish(&claim, "worker", None).await,
        store.retry(&claim, "worker", 1, "error").await,
        store.release_all().await,
        store.next_due().await.map(drop),
        store.queue_depth(1).await.map(drop),
        store.trouble(&mr(7)).await.map(drop),
        store.projects().await.map(drop),
        store.last_deliveries().await.map(drop),
        store.ask(&seven, Intent::Stop, 1).await,
        store.asked(key).await.map(drop),
        store.project_path(42).await.map(drop),
        store.save(&seven, Some("ready")).await,
        store.preview(key).await.map(drop),
        store.preview_by_name(&seven.name).await.map(drop),
        store.previews().await.map(drop),
        store.live_previews(42).await.map(drop),
        store.previews_of_branch(42, "feature").await.map(drop),
        store.history(key, 9).await.map(drop),
        store.want_removal(key, Cause::Policy, "", 1).await.map(drop),
        store.wanted_removals().await.map(drop),
        store.drop_removal(key).await.map(drop),
        store.removal_is_done(key, 1).await,
        store.release_removals().await.map(drop),
        store.sweep(1).await.map(drop),
        store.is_behind(1, key).await.map(drop),
        store.is_fresh().await.map(drop),
        store.save_found(&seven, None).await.map(drop),
        store.note("key", "value").await.map(drop),
        store.noted("key").await.map(drop),
        store.forget("key").await.map(drop),
        store.prune(retention, 1).await.map(drop),
    ];
    for (number, answer) in answers.into_iter().enumerate() {
        assert!(matches!(answer, Err(Error::Closed)), "{number}: {answer:?}");
    }
    store.close().await;
}

async fn it_is_ready_only_while_it_can_be_written(database: &Database) {
    let store = database.open().await;
    store.ready().await.unwrap();
    store.ready().await.unwrap();
    sqlx::query("DROP TABLE meta").execute(&database.raw().await).await.unwrap();
    let error = store.ready().await.unwrap_err().to_string();
    assert!(error.starts_with("the store cannot be written: "), "{error}");
}

async fn what_is_remembered_first_stays(database: &Database) {
    let store = database.open().await;
    let asked: Vec<String> = (0..8).map(|n| format!("'{n}\"\\ ü")).collect();
    let told = join_all(asked.iter().map(|value| store.remember("instance", value))).await;
    let first = told[0].as_ref().unwrap();
    assert!(asked.contains(first), "{first}");
    assert!(told.iter().all(|value| value.as_ref().unwrap() == first), "{told:?}");
    assert_eq!(store.remember("another", "value").await.unwrap(), "value");
    store.close().await;
    assert_eq!(&database.open().await.remember("instance", "late").await.unwrap(), first);
}

async fn whoever_waits_for_work_is_woken(database: &Database) {
    let store = database.open().await;
    woken(&store, async || store.enqueue(&[mr(7)], 1).await.unwrap()).await;
    woken(&store, async || assert!(store.accept(delivery("1", mr(7))).await.is_ok())).await;
    let claim = store.claim("worker", 10, 20).await.unwrap().unwrap();
    woken(&store, async || store.retry(&claim, "worker", 30, "error").await.unwrap()).await;
    let claim = store.claim("worker", 30, 40).await.unwrap().unwrap();
    woken(&store, async || store.finish(&claim, "worker", None).await.unwrap()).await;
}

/// Whoever registered before `act` is woken by it.
async fn woken(store: &Store, act: impl AsyncFnOnce()) {
    let woken = store.woken();
    tokio::pin!(woken);
    woken.as_mut().enable();
    act().await;
    tokio::time::timeout(PATIENCE, woken).await.expect("woken");
}

#[tokio::test]
async fn what_cannot_be_opened_is_told_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let refusal = async |url: &str| {
        let error = Store::open(url).await.unwrap_err().to_string();
        error.replace(folder.path().to_str().unwrap(), "/data")
    };
    let missing = format!("sqlite://{}/missing/greenroom.db?mode=rwc", folder.path().display());
    assert_snapshot!(refusal(&missing).await, @r"
    the store `/data/missing/greenroom.db` cannot be opened: there is no folder `/data/missing`
    hint: create it
    ");
    let no_file = format!("sqlite://{}?mode=rwc", folder.path().display());
    assert_snapshot!(refusal(&no_file).await, @"the store cannot be opened: error returned from database: (code: 14) unable to open database file");
    assert_snapshot!(refusal("mysql://localhost/greenroom").await, @"`mysql` is no store; use `sqlite:///path/to/file` or `postgres://user@host/database`");
    assert_snapshot!(refusal("sqlite::memory:").await, @"`sqlite::memory:` is no store; use `sqlite:///path/to/file` or `postgres://user@host/database`");
    assert_snapshot!(refusal("postgres://nobody:secret@127.0.0.1:1/greenroom").await, @"the store cannot be opened: error communicating with database: Connection refused (os error 111)");
}

#[tokio::test]
async fn a_merge_request_lives_its_life_on_postgresql() {
    Database::postgres(async |database| {
        let world = World::start_with(&[("GREENROOM_STORE_URL", database.url())]).await;
        let first = world.ready_mr("feature", "one").await;
        world.shows(first, "one").await;
        // A second one of the same branch: the branch's hint then names a merge request that has a preview.
        world.gitlab.push("feature", &[("a", "2")]).await;
        world.build(first, "two").await;
        world.becomes(first, "ready").await;
        world.shows(first, "two").await;
        world.rests().await;

        world.greenroom.restart().await;
        world.shows(first, "two").await;
        world.gitlab.close(first).await;
        world.becomes(first, "stopped").await;
        world.is_gone(first).await;
        let log = world.greenroom.log();
        assert!(!log.contains("ERROR") && !log.contains("a look failed"), "{log}");
        assert!(!world.greenroom.data().join("greenroom.db").exists());
        world.ends_well().await;
    })
    .await;
}
