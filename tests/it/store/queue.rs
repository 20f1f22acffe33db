//! *A key is queued at most once; the earlier time wins; a key is leased to one worker; a hint during a run causes
//! exactly one more run; a dead worker's lease runs out.* Times are made up, so no test waits for one.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Mutex,
};

use futures::future::join_all;
use greenroom::{
    preview::WorkKey,
    store::{Accepted, Claim, Lane, QueueDepth, Store},
};
use sqlx::AnyPool;
use tokio_util::sync::CancellationToken;

use super::{Database, delivery, mr};
use crate::{
    on_both_databases,
    support::{PATIENCE, until},
};

on_both_databases! {
    a_key_is_queued_at_most_once
    the_earlier_time_wins
    the_most_urgent_key_comes_first
    a_key_is_leased_to_one_worker
    a_hint_during_a_run_causes_exactly_one_more_run
    a_dead_workers_lease_runs_out
    a_lease_can_be_kept_for_longer
    a_failure_is_shown_until_a_run_finishes
    a_hint_cuts_a_failures_pause_short
    what_failed_may_begin_anew
    a_run_may_ask_for_another_look
    a_hint_comes_before_the_look_that_a_run_asked_for
    a_lift_is_for_the_runs_up_to_the_first_that_finishes
    a_start_takes_back_every_lease
    what_waits_is_counted
    a_key_nobody_can_read_hides_no_other
    any_text_is_a_key
    each_worker_finds_a_key_of_its_own
    many_workers_lose_nothing_and_run_nothing_twice_at_once
}

async fn claim(store: &Store, owner: &str, now: i64) -> Option<Claim> {
    store.claim(owner, now, now + 100).await.unwrap()
}

/// One more run of `key` is due, and only one.
async fn runs_once(store: &Store, key: &WorkKey, now: i64) {
    let run = claim(store, "once", now).await.unwrap_or_else(|| panic!("{key} is not due at {now}"));
    assert_eq!(&run.key, key);
    store.finish(&run, "once", None).await.unwrap();
    rests(store).await;
}

/// Nothing is queued.
async fn rests(store: &Store) {
    assert_eq!(store.next_due().await.unwrap(), None);
    assert_eq!(claim(store, "rests", i64::MAX - 100).await, None);
}

async fn a_key_is_queued_at_most_once(database: &Database) {
    let store = database.open().await;
    store.enqueue(&[], 1).await.unwrap();
    rests(&store).await;
    store.enqueue(&[mr(7), mr(7)], 1).await.unwrap();
    store.enqueue(&[mr(7)], 1).await.unwrap();
    runs_once(&store, &mr(7), 1).await;
    store.enqueue(&[mr(7)], 1).await.unwrap();
    runs_once(&store, &mr(7), 1).await;
}

async fn the_earlier_time_wins(database: &Database) {
    let store = database.open().await;
    for at in [100, 50, 70] {
        store.enqueue(&[mr(7)], at).await.unwrap();
    }
    assert_eq!(store.next_due().await.unwrap(), Some(50));
    assert_eq!(claim(&store, "worker", 49).await, None);
    runs_once(&store, &mr(7), 50).await;
    // A time that was met counts no more.
    store.enqueue(&[mr(7)], 200).await.unwrap();
    assert_eq!(claim(&store, "worker", 199).await, None);
    runs_once(&store, &mr(7), 200).await;
}

async fn the_most_urgent_key_comes_first(database: &Database) {
    let store = database.open().await;
    for (iid, at) in [(1, 30), (2, 10), (3, 20)] {
        store.enqueue(&[mr(iid)], at).await.unwrap();
    }
    for iid in [2, 3, 1] {
        assert_eq!(claim(&store, "worker", 30).await.unwrap().key, mr(iid));
    }
}

async fn a_key_is_leased_to_one_worker(database: &Database) {
    let store = database.open().await;
    store.enqueue(&[mr(7)], 1).await.unwrap();
    let (first, others) = {
        let mut claims = join_all((0..8).map(async |n| claim(&store, &format!("worker {n}"), 1).await)).await;
        let first = claims.iter().position(Option::is_some).unwrap();
        ((first, claims[first].take().unwrap()), claims)
    };
    assert!(others.iter().all(Option::is_none), "{others:?}");
    let (owner, run) = (format!("worker {}", first.0), first.1);

    // Nobody else can give it back.
    store.finish(&run, "another", None).await.unwrap();
    store.retry(&run, "another", 1, "not mine").await.unwrap();
    assert!(!store.renew(&run, "another", 500).await.unwrap());
    assert_eq!(claim(&store, "another", 2).await, None);
    assert_eq!(store.trouble(&mr(7)).await.unwrap(), None);
    store.finish(&run, &owner, None).await.unwrap();
    rests(&store).await;
}

async fn a_hint_during_a_run_causes_exactly_one_more_run(database: &Database) {
    let store = database.open().await;
    store.enqueue(&[mr(7)], 1).await.unwrap();
    let run = claim(&store, "worker", 1).await.unwrap();
    for at in [2, 3, 4] {
        store.enqueue(&[mr(7)], at).await.unwrap();
        assert_eq!(claim(&store, "another", at).await, None, "not beside the run");
    }
    store.finish(&run, "worker", None).await.unwrap();
    runs_once(&store, &mr(7), 4).await;
}

async fn a_dead_workers_lease_runs_out(database: &Database) {
    let store = database.open().await;
    store.enqueue(&[mr(7)], 1).await.unwrap();
    let dead = claim(&store, "dead", 1).await.unwrap();
    assert_eq!(store.next_due().await.unwrap(), Some(101));
    assert_eq!(claim(&store, "next", 100).await, None);
    let run = claim(&store, "next", 101).await.unwrap();
    assert_eq!(run, dead, "as if it had never been claimed");

    // The dead one was only slow. Whatever it does now changes nothing.
    assert!(!store.renew(&dead, "dead", 900).await.unwrap());
    store.finish(&dead, "dead", Some((5, Lane::Interactive))).await.unwrap();
    store.retry(&dead, "dead", 5, "too late").await.unwrap();
    assert_eq!(claim(&store, "third", 200).await, None);
    assert!(store.renew(&run, "next", 300).await.unwrap());
    store.finish(&run, "next", None).await.unwrap();
    rests(&store).await;
}

async fn a_lease_can_be_kept_for_longer(database: &Database) {
    let store = database.open().await;
    store.enqueue(&[mr(7)], 1).await.unwrap();
    let run = claim(&store, "worker", 1).await.unwrap();
    assert!(store.renew(&run, "worker", 300).await.unwrap());
    assert_eq!(claim(&store, "another", 299).await, None);
    // Late, but nobody took it.
    assert!(store.renew(&run, "worker", 400).await.unwrap());
    assert_eq!(claim(&store, "another", 300).await, None);
    store.finish(&run, "worker", None).await.unwrap();
    assert!(!store.renew(&run, "worker", 500).await.unwrap(), "what is done is no longer leased");
    rests(&store).await;
}

async fn a_failure_is_shown_until_a_run_finishes(database: &Database) {
    let store = database.open().await;
    store.enqueue(&[mr(7)], 1).await.unwrap();
    for (attempt, (now, next, error)) in
        [(1, 10, "GitLab\0 said \"no\""), (10, 30, "it's\\ down")].into_iter().enumerate()
    {
        let run = claim(&store, "worker", now).await.unwrap();
        assert_eq!(usize::try_from(run.attempts), Ok(attempt));
        store.retry(&run, "worker", next, error).await.unwrap();
        assert_eq!(store.trouble(&mr(7)).await.unwrap(), Some((error.replace('\0', ""), next)));
        assert_eq!(store.next_due().await.unwrap(), Some(next));
        assert_eq!(claim(&store, "worker", next - 1).await, None);
    }
    let run = claim(&store, "worker", 30).await.unwrap();
    assert_eq!(run.attempts, 2);
    assert!(store.trouble(&mr(7)).await.unwrap().is_some(), "the new try has not succeeded yet");
    store.finish(&run, "worker", None).await.unwrap();
    assert_eq!(store.trouble(&mr(7)).await.unwrap(), None);
    store.enqueue(&[mr(7)], 40).await.unwrap();
    assert_eq!(claim(&store, "worker", 40).await.unwrap().attempts, 0);
}

async fn a_hint_cuts_a_failures_pause_short(database: &Database) {
    let store = database.open().await;
    store.enqueue(&[mr(7)], 1).await.unwrap();
    let run = claim(&store, "worker", 1).await.unwrap();
    store.enqueue(&[mr(7)], 2).await.unwrap();
    store.retry(&run, "worker", 1_000, "down").await.unwrap();
    // The hint came during the run: again at once.
    let run = claim(&store, "worker", 2).await.unwrap();
    store.retry(&run, "worker", 1_000, "down").await.unwrap();
    assert_eq!(claim(&store, "worker", 3).await, None);
    // It comes during the pause.
    store.enqueue(&[mr(7)], 4).await.unwrap();
    assert!(store.trouble(&mr(7)).await.unwrap().is_some());
    runs_once(&store, &mr(7), 4).await;
}

async fn what_failed_may_begin_anew(database: &Database) {
    let store = database.open().await;
    store.enqueue(&[mr(7), mr(8)], 1).await.unwrap();
    for _ in 0..2 {
        let run = claim(&store, "worker", 1).await.unwrap();
        store.retry(&run, "worker", 1_000, "down").await.unwrap();
    }
    // One is at it again, and one has not failed.
    let busy = claim(&store, "worker", 1_000).await.unwrap();
    store.enqueue(&[mr(9)], 2_000).await.unwrap();
    store.begin_anew(10).await.unwrap();
    let again = claim(&store, "worker", 10).await.unwrap();
    assert_ne!(again.key, busy.key);
    assert_eq!(again.attempts, 0, "as if it had not failed");
    store.finish(&again, "worker", None).await.unwrap();
    assert_eq!(claim(&store, "worker", 10).await, None);
    // What it was at may have begun before: once more, without a pause.
    store.retry(&busy, "worker", 5_000, "still down").await.unwrap();
    let run = claim(&store, "worker", 1_001).await.unwrap();
    assert_eq!(run.key, busy.key);
    store.finish(&run, "worker", None).await.unwrap();
    assert_eq!(store.next_due().await.unwrap(), Some(2_000));
}

async fn a_run_may_ask_for_another_look(database: &Database) {
    let store = database.open().await;
    store.enqueue(&[mr(7)], 1).await.unwrap();
    let run = claim(&store, "worker", 1).await.unwrap();
    store.finish(&run, "worker", Some((50, Lane::Interactive))).await.unwrap();
    assert_eq!(store.next_due().await.unwrap(), Some(50));
    assert_eq!(claim(&store, "worker", 49).await, None);
    runs_once(&store, &mr(7), 50).await;
}

async fn a_hint_comes_before_the_look_that_a_run_asked_for(database: &Database) {
    let store = database.open().await;
    store.enqueue(&[mr(7)], 1).await.unwrap();
    let run = claim(&store, "worker", 1).await.unwrap();
    store.enqueue(&[mr(7)], 2).await.unwrap();
    store.finish(&run, "worker", Some((50, Lane::Interactive))).await.unwrap();
    // The hint came during the run; the run it causes asks again, if there still is a reason to.
    let run = claim(&store, "worker", 2).await.unwrap();
    store.finish(&run, "worker", Some((50, Lane::Interactive))).await.unwrap();
    // The hint comes while the look waits, and the two become one.
    store.enqueue(&[mr(7)], 20).await.unwrap();
    assert_eq!(claim(&store, "worker", 19).await, None);
    runs_once(&store, &mr(7), 20).await;
    // A hint for later moves nothing.
    store.enqueue(&[mr(7)], 30).await.unwrap();
    store.enqueue(&[mr(7)], 90).await.unwrap();
    runs_once(&store, &mr(7), 30).await;
}

async fn a_lift_is_for_the_runs_up_to_the_first_that_finishes(database: &Database) {
    let store = database.open().await;
    let reopen = async |id: &str| {
        let reopened = greenroom::store::Delivery { reopened: true, ..delivery(id, mr(7)) };
        assert_eq!(store.accept(reopened).await.unwrap(), Accepted::New);
    };
    let lifts = async |owner: &str| {
        let run = claim(&store, owner, 10).await.unwrap();
        (run.lift, run)
    };
    store.enqueue(&[mr(7)], 1).await.unwrap();
    reopen("1").await;
    store.enqueue(&[mr(7)], 10).await.unwrap();
    let (lift, run) = lifts("a").await;
    assert!(lift, "other hints do not hide it");
    store.retry(&run, "a", 10, "down").await.unwrap();
    let (lift, run) = lifts("b").await;
    assert!(lift, "a failed run has not lifted anything");
    // A person stops it by hand now, which comes as a hint: that stop is not to be lifted.
    store.enqueue(&[mr(7)], 10).await.unwrap();
    store.finish(&run, "b", None).await.unwrap();
    let (lift, run) = lifts("c").await;
    assert!(!lift, "the finished run has lifted what there was");
    reopen("2").await;
    store.finish(&run, "c", Some((900, Lane::Interactive))).await.unwrap();
    let (lift, run) = lifts("d").await;
    assert!(lift, "this reopen came during the run before");
    store.finish(&run, "d", Some((10, Lane::Interactive))).await.unwrap();
    let (lift, run) = lifts("e").await;
    assert!(!lift, "nobody reopened since");
    store.finish(&run, "e", None).await.unwrap();
    rests(&store).await;
}

async fn a_start_takes_back_every_lease(database: &Database) {
    let store = database.open().await;
    store.enqueue(&[mr(7), mr(8), mr(9)], 1).await.unwrap();
    let done = claim(&store, "done", 1).await.unwrap();
    store.finish(&done, "done", None).await.unwrap();
    let held = [claim(&store, "dead", 1).await.unwrap(), claim(&store, "dead", 1).await.unwrap()];
    assert_eq!(claim(&store, "next", 1).await, None);
    store.close().await;

    let store = database.open().await;
    store.release_all().await.unwrap();
    let again = [claim(&store, "next", 1).await.unwrap(), claim(&store, "next", 1).await.unwrap()];
    assert_eq!(again, held);
    assert_eq!(claim(&store, "next", 1).await, None, "what was done stays done");
}

async fn what_waits_is_counted(database: &Database) {
    let store = database.open().await;
    let depth = async |now| store.queue_depth(now).await.unwrap();
    assert_eq!(depth(5).await, QueueDepth::default());
    store.enqueue(&[mr(1), mr(2)], 10).await.unwrap();
    store.enqueue(&[mr(3)], 20).await.unwrap();
    assert_eq!(depth(5).await, QueueDepth { due: 0, later: 3, oldest: 0 });
    assert_eq!(depth(15).await, QueueDepth { due: 2, later: 1, oldest: 5 });
    let run = claim(&store, "worker", 15).await.unwrap();
    assert_eq!(depth(15).await.due, 2, "it is not done yet");
    store.finish(&run, "worker", None).await.unwrap();
    assert_eq!(depth(25).await, QueueDepth { due: 2, later: 0, oldest: 15 });
    assert_eq!(store.next_due().await.unwrap(), Some(10));
}

async fn a_key_nobody_can_read_hides_no_other(database: &Database) {
    let store = database.open().await;
    store.enqueue(&[mr(7)], 1).await.unwrap();
    let columns = "run_at, requested, done, attempts, lease_until, lift";
    let insert = format!("INSERT INTO work (key, {columns}) SELECT 'comet:7', 0, 1, 0, 0, 0, 0 FROM work");
    sqlx::query(sqlx::AssertSqlSafe(insert)).execute(&database.raw().await).await.unwrap();
    runs_once(&store, &mr(7), 1).await;
}

async fn any_text_is_a_key(database: &Database) {
    let store = database.open().await;
    let long = "ä€😀'\"".repeat(80);
    let branches = ["it's", "a\"b", "back\\slash\\", "$1; DROP TABLE work; --", "{}[],:", "ünï/😀", &long];
    let keys: Vec<WorkKey> = branches
        .iter()
        .map(|branch| WorkKey::Branch(u64::MAX, (*branch).to_owned()))
        .chain([WorkKey::Project(0), WorkKey::Project(u64::MAX)])
        .collect();
    store.enqueue(&keys, 1).await.unwrap();
    let mut found = HashSet::new();
    while let Some(run) = claim(&store, "it's \"me\"", 1).await {
        store.retry(&run, "it's \"me\"", 5, &long).await.unwrap();
        assert_eq!(store.trouble(&run.key).await.unwrap(), Some((long.clone(), 5)));
        found.insert(run.key);
    }
    assert_eq!(found, keys.into_iter().collect());
}

async fn each_worker_finds_a_key_of_its_own(database: &Database) {
    let store = database.open().await;
    for round in 0..20 {
        let keys: Vec<_> = (0..8).map(|n| mr(round * 8 + n)).collect();
        store.enqueue(&keys, 1).await.unwrap();
        let claims = join_all((0..8).map(async |n| claim(&store, &format!("worker {n}"), 1).await)).await;
        let found: HashSet<_> = claims.iter().flatten().map(|run| run.key.clone()).collect();
        assert_eq!(found.len(), 8, "round {round}: {claims:?}");
    }
}

async fn many_workers_lose_nothing_and_run_nothing_twice_at_once(database: &Database) {
    const HINTS: u64 = 500;
    const KEYS: u64 = 25;
    let mut stores = vec![database.open().await];
    if database.is_shared() {
        stores.push(database.open().await); // another replica
    }
    let running = Mutex::new(HashSet::new());
    let seen = Mutex::new(BTreeMap::new());
    let no_more = CancellationToken::new();
    let worker = async |n: usize| {
        let (store, owner) = (&stores[n % stores.len()], format!("worker {n}"));
        loop {
            let woken = store.woken();
            tokio::pin!(woken);
            woken.as_mut().enable();
            let last = no_more.is_cancelled();
            let Some(run) = claim(store, &owner, 100).await else {
                if last {
                    break;
                }
                tokio::select! {
                    () = woken => {}
                    () = no_more.cancelled() => {}
                }
                continue;
            };
            assert!(running.lock().unwrap().insert(run.key.clone()), "{} runs twice at once", run.key);
            assert_eq!(store.trouble(&run.key).await.unwrap(), None); // takes a while
            running.lock().unwrap().remove(&run.key);
            seen.lock().unwrap().insert(run.key.clone(), run.requested);
            store.finish(&run, &owner, None).await.unwrap();
        }
    };
    let hints = async {
        for n in 0..HINTS {
            let at = i64::try_from(n % 90).unwrap();
            stores[0].enqueue(&[mr(n % KEYS)], at).await.unwrap();
        }
        no_more.cancel();
    };
    tokio::join!(join_all((0..8).map(worker)), hints);
    for store in &stores {
        rests(store).await;
    }
    let each = i64::try_from(HINTS / KEYS).unwrap();
    let expected: BTreeMap<_, _> = (0..KEYS).map(|n| (mr(n), each)).collect();
    assert_eq!(seen.into_inner().unwrap(), expected, "the last run of each key knew of every hint");
}

/// On PostgreSQL a statement goes on with a row as it finds it when its turn comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_waited_for_a_key_takes_it_only_if_it_is_still_due() {
    Database::postgres(async |database| {
        let (store, raw) = (database.open().await, database.raw().await);
        for change in ["done = requested", "run_at = 1000", "lease_until = 1000, lease_owner = 'first'"] {
            store.enqueue(&[mr(7)], 1).await.unwrap();
            let mut first = raw.begin().await.unwrap();
            let change = format!("UPDATE work SET {change}");
            sqlx::query(sqlx::AssertSqlSafe(change.clone())).execute(&mut *first).await.unwrap();
            let (late, ()) = tokio::join!(claim(&store, "late", 1), async {
                somebody_waits(&raw).await;
                first.commit().await.unwrap();
            });
            assert_eq!(late, None, "{change}");
            sqlx::query("DELETE FROM work").execute(&raw).await.unwrap();
        }
    })
    .await;
}

/// Waits until a statement waits for a row.
pub(super) async fn somebody_waits(raw: &AnyPool) {
    until("a statement waits for a row", PATIENCE, || async {
        let waiting: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
        )
        .fetch_one(raw)
        .await
        .unwrap();
        (waiting > 0).then_some(())
    })
    .await;
}
