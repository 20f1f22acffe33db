//! Deliveries: kept with the work they ask for, once, and durable before anybody is told so.

use futures::future::join_all;
use greenroom::{
    preview::{PreviewKey, WorkKey},
    store::{Accepted, Delivery},
};
use tokio::sync::Mutex;

use super::{Database, delivery, mr};
use crate::on_both_databases;

on_both_databases! {
    a_repeated_delivery_changes_nothing
    of_equal_deliveries_at_once_one_is_new
    what_was_accepted_is_there_after_opening_again
    a_delivery_and_its_work_are_kept_together_or_not_at_all
    who_hangs_up_is_stored_all_the_same
    what_came_is_known_by_its_id
    any_text_is_kept
    a_project_has_the_path_it_was_last_seen_with
}

async fn a_repeated_delivery_changes_nothing(database: &Database) {
    let store = database.open().await;
    let reopened = Delivery { reopened: true, ..delivery("1", mr(8)) };
    assert_eq!(store.accept(delivery("1", mr(7))).await.unwrap(), Accepted::New);
    assert_eq!(store.accept(reopened).await.unwrap(), Accepted::Repeated);
    assert_eq!(store.accept(delivery("1", mr(7))).await.unwrap(), Accepted::Repeated);
    let run = store.claim("worker", 10, 20).await.unwrap().unwrap();
    assert_eq!((&run.key, run.requested, run.lift), (&mr(7), 1, false));
    assert_eq!(store.claim("worker", 10, 20).await.unwrap(), None);
}

async fn what_came_is_known_by_its_id(database: &Database) {
    let store = database.open().await;
    let sent = delivery("1", mr(7));
    assert_eq!(store.delivery("1").await.unwrap(), None);
    store.accept(sent.clone()).await.unwrap();
    let received = store.delivery("1").await.unwrap().unwrap();
    assert_eq!(
        (received.event, received.outcome, received.at),
        (sent.event, sent.outcome.to_owned(), sent.at)
    );
    assert_eq!(store.delivery("2").await.unwrap(), None);
}

async fn of_equal_deliveries_at_once_one_is_new(database: &Database) {
    let store = database.open().await;
    let copies = (0..100).map(|n| store.accept(delivery(&(n % 2).to_string(), mr(7))));
    let answers = join_all(copies).await;
    let new = answers.iter().filter(|answer| *answer.as_ref().unwrap() == Accepted::New).count();
    assert_eq!(new, 2, "{answers:?}");
    let run = store.claim("worker", 10, 20).await.unwrap().unwrap();
    assert!((1..=2).contains(&run.requested), "two deliveries in one batch are one hint: {run:?}");
}

async fn what_was_accepted_is_there_after_opening_again(database: &Database) {
    let store = database.open().await;
    let all = || (0..1_000).map(|n| delivery(&format!("delivery {n}"), mr(n)));
    for answer in join_all(all().map(|delivery| store.accept(delivery))).await {
        assert_eq!(answer.unwrap(), Accepted::New);
    }
    // The first one is not closed: it may as well have been killed.
    let store = database.open().await;
    assert_eq!(store.queue_depth(10).await.unwrap().due, 1_000);
    for answer in join_all(all().map(|delivery| store.accept(delivery))).await {
        assert_eq!(answer.unwrap(), Accepted::Repeated);
    }
}

async fn a_delivery_and_its_work_are_kept_together_or_not_at_all(database: &Database) {
    let (store, others) = (database.open().await, database.raw().await);
    // One connection: of what another one does to the schema SQLite's hear late.
    let raw = Mutex::new(others.acquire().await.unwrap());
    let (refuse, allow): (&[&str], &str) = if database.is_shared() {
        let function = "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger AS \
                        $$ BEGIN RAISE EXCEPTION 'refused'; END $$ LANGUAGE plpgsql";
        let trigger = "CREATE TRIGGER refuse BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()";
        (&[function, trigger], "DROP TRIGGER refuse ON {table}")
    } else {
        let trigger =
            "CREATE TRIGGER refuse BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'refused'); END";
        (&[trigger], "DROP TRIGGER refuse")
    };
    for table in ["work", "projects", "deliveries"] {
        let run = async |sql: &str| {
            let sql = sqlx::AssertSqlSafe(sql.replace("{table}", table));
            sqlx::query(sql).execute(&mut **raw.lock().await).await.unwrap();
        };
        for sql in refuse {
            run(sql).await;
        }
        let refusals = join_all((1..=3).map(|n| store.accept(delivery(&n.to_string(), mr(n))))).await;
        for refusal in refusals {
            let error = refusal.unwrap_err().to_string();
            assert!(error.starts_with("the store cannot keep a delivery: "), "{error}");
        }
        run(allow).await;
        assert_eq!(store.projects().await.unwrap(), []);
        assert_eq!(store.queue_depth(10).await.unwrap().due, 0);
    }
    assert_eq!(store.accept(delivery("1", mr(1))).await.unwrap(), Accepted::New);
    assert_eq!(store.claim("worker", 10, 20).await.unwrap().unwrap().key, mr(1));
    assert_eq!(store.claim("worker", 10, 20).await.unwrap(), None);
}

async fn who_hangs_up_is_stored_all_the_same(database: &Database) {
    let store = database.open().await;
    {
        let accept = std::pin::pin!(store.accept(delivery("1", mr(7))));
        let _ = futures::poll!(accept);
    }
    assert_eq!(store.accept(delivery("1", mr(7))).await.unwrap(), Accepted::Repeated);
    assert_eq!(store.claim("worker", 10, 20).await.unwrap().unwrap().key, mr(7));
}

async fn any_text_is_kept(database: &Database) {
    let store = database.open().await;
    let long = "ä€😀'\"".repeat(80);
    for (n, text) in ["it's", "a\"b", "\\", "\\u0041\\n", "$1', NULL); --", "null", "ünï😀", " ", &long]
        .into_iter()
        .enumerate()
    {
        let project = u64::MAX - n as u64;
        let hostile = Delivery {
            id: text.to_owned(),
            event: text.to_owned(),
            outcome: "look",
            project: Some((project, text.to_owned())),
            work: Some(WorkKey::Branch(project, text.to_owned())),
            reopened: false,
            at: 10,
        };
        assert_eq!(store.accept(hostile.clone()).await.unwrap(), Accepted::New, "{text}");
        assert_eq!(store.accept(hostile.clone()).await.unwrap(), Accepted::Repeated, "{text}");
        assert_eq!(store.claim("worker", 10, 20).await.unwrap().map(|run| run.key), hostile.work);
        assert!(store.projects().await.unwrap().contains(&(project, text.to_owned())), "{text}");
    }
}

async fn a_project_has_the_path_it_was_last_seen_with(database: &Database) {
    let store = database.open().await;
    let seen = |id: &str, project, path: &str, at| {
        let work = WorkKey::Preview(PreviewKey::of_mr(project, 1));
        Delivery { project: Some((project, path.to_owned())), at, ..delivery(id, work) }
    };
    assert_eq!(store.projects().await.unwrap(), []);
    store.accept(seen("1", 43, "acme/shop", 1)).await.unwrap();
    store.accept(seen("2", 42, "acme/old", 2)).await.unwrap();
    store.accept(seen("3", 42, "acme/web", 3)).await.unwrap();
    let irrelevant = Delivery { work: None, project: None, outcome: "irrelevant", ..delivery("4", mr(1)) };
    store.accept(irrelevant).await.unwrap();
    let projects = [(42, "acme/web".to_owned()), (43, "acme/shop".to_owned())];
    assert_eq!(store.projects().await.unwrap(), projects);

    // Ids tell nothing about the order, not even within a batch.
    let renames = ["z", "a", "m"].into_iter().zip(10..).map(|(id, at)| seen(id, 44, id, at));
    join_all(renames.map(|delivery| store.accept(delivery))).await;
    assert_eq!(store.projects().await.unwrap()[2], (44, "m".to_owned()));
    assert_eq!(store.project_path(44).await.unwrap().as_deref(), Some("m"));
    assert_eq!(store.project_path(45).await.unwrap(), None);
}
