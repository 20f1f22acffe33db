//! What every engine promises, asked of each of them.

use greenroom::engine::{Action, Ended, Error, Progress};

use super::commit;
use super::{App, Bench, kubernetes, preview, run, settled, static_site, stopped};

/// One test per promise and engine. A bench that cannot be had is said, and is a failure where nothing may be left out.
macro_rules! every_engine {
    ($($promise:ident)*) => {
        mod of_static {
            $(#[tokio::test]
            async fn $promise() {
                super::$promise(&mut super::static_site::Folder::new()).await;
            })*
        }
        mod of_kubernetes {
            $(#[tokio::test]
            async fn $promise() {
                let Some(mut bench) = super::kubernetes::Room::new(concat!("c-", stringify!($promise))).await else { return };
                super::$promise(&mut bench).await;
            })*
        }
    };
}

every_engine! {
    an_order_is_served_and_survives_a_restart
    a_repeated_order_changes_nothing_and_is_told
    an_order_says_what_it_would_change
    a_new_commit_of_the_same_is_served_as_the_new_commit
    the_last_good_revision_serves_while_the_newest_is_broken
    the_newest_order_wins
    a_stop_leaves_nothing_and_is_idempotent
    a_stop_strikes_the_orders_before_it_and_spares_those_after_it
    what_was_never_there_is_gone
    an_order_for_another_engine_is_refused
    a_program_beside_a_preview_is_no_part_of_it
}

async fn an_order_is_served_and_survives_a_restart(bench: &mut dyn Bench) {
    let (web, _) = preview(1);
    let order = bench.order(&web, 'a', App::Works(1));
    let digest = order.digest.clone();
    let status = run(&*bench.engine(), order).await;
    let running = status.serving.clone().expect("it serves");
    assert_eq!((&running.sha, &running.digest, &status.pending), (&commit('a'), &digest, &None));
    bench.reopen().await;
    assert_eq!(bench.engine().status(&web).await.unwrap(), status);
    assert_eq!(bench.engine().inventory().await.unwrap(), [web]);
}

async fn a_repeated_order_changes_nothing_and_is_told(bench: &mut dyn Bench) {
    let (web, key) = preview(2);
    let before = run(&*bench.engine(), bench.order(&web, 'a', App::Works(1))).await;
    let mut events = bench.engine().events();
    bench.engine().apply(bench.order(&web, 'a', App::Works(1))).await.unwrap();
    assert_eq!(events.recv().await.unwrap(), key);
    assert_eq!(settled(&*bench.engine(), &mut events, &web).await, before);
}

async fn an_order_says_what_it_would_change(bench: &mut dyn Bench) {
    let (web, _) = preview(3);
    let order = bench.order(&web, 'a', App::Works(1));
    let changes = bench.engine().plan(&order).await.unwrap();
    assert!(
        !changes.is_empty() && changes.iter().all(|change| change.action == Action::Create),
        "{changes:#?}"
    );
    assert!(bench.engine().status(&web).await.unwrap().is_gone());
    run(&*bench.engine(), order).await;
    let again = bench.order(&web, 'b', App::Works(1));
    assert_eq!(bench.engine().plan(&again).await.unwrap(), []);
    let next = bench.order(&web, 'b', App::Works(2));
    let changes = bench.engine().plan(&next).await.unwrap();
    assert_eq!(changes.iter().map(|change| change.action).collect::<Vec<_>>(), [Action::Update]);
}

async fn a_new_commit_of_the_same_is_served_as_the_new_commit(bench: &mut dyn Bench) {
    let (web, _) = preview(4);
    run(&*bench.engine(), bench.order(&web, 'a', App::Works(1))).await;
    let status = run(&*bench.engine(), bench.order(&web, 'b', App::Works(1))).await;
    assert_eq!((status.serving.unwrap().sha, status.pending), (commit('b'), None));
}

async fn the_last_good_revision_serves_while_the_newest_is_broken(bench: &mut dyn Bench) {
    let (web, _) = preview(5);
    run(&*bench.engine(), bench.order(&web, 'a', App::Works(1))).await;
    let status = run(&*bench.engine(), bench.order(&web, 'b', App::Broken)).await;
    assert_eq!(status.serving.unwrap().sha, commit('a'));
    assert!(matches!(status.pending, Some((sha, _, Progress::Failed(_))) if sha == commit('b')));
    // Back to the one that is served: the failure is history.
    let status = run(&*bench.engine(), bench.order(&web, 'a', App::Works(1))).await;
    assert_eq!((status.serving.unwrap().sha, status.pending), (commit('a'), None));
}

async fn the_newest_order_wins(bench: &mut dyn Bench) {
    let (web, _) = preview(6);
    let engine = bench.engine();
    let mut events = engine.events();
    for (sha, version) in [('a', 1), ('b', 2), ('c', 3)] {
        engine.apply(bench.order(&web, sha, App::Works(version))).await.unwrap();
    }
    let order = bench.order(&web, 'c', App::Works(3));
    assert_eq!(settled(&*engine, &mut events, &web).await.serving.unwrap().sha, commit('c'));
    assert_eq!(engine.plan(&order).await.unwrap(), []);
}

async fn a_stop_leaves_nothing_and_is_idempotent(bench: &mut dyn Bench) {
    let (web, _) = preview(7);
    run(&*bench.engine(), bench.order(&web, 'a', App::Works(1))).await;
    for _ in 0..2 {
        stopped(&*bench.engine(), &web).await;
        assert_eq!(bench.engine().inventory().await.unwrap(), []);
    }
    bench.reopen().await;
    assert!(bench.engine().status(&web).await.unwrap().is_gone());
    // A failure is forgotten as well.
    run(&*bench.engine(), bench.order(&web, 'b', App::Broken)).await;
    assert!(!bench.engine().status(&web).await.unwrap().is_gone());
    stopped(&*bench.engine(), &web).await;
    bench.reopen().await;
    assert!(bench.engine().status(&web).await.unwrap().is_gone());
}

async fn a_stop_strikes_the_orders_before_it_and_spares_those_after_it(bench: &mut dyn Bench) {
    let (web, _) = preview(8);
    let engine = bench.engine();
    let mut events = engine.events();
    engine.apply(bench.order(&web, 'a', App::Works(1))).await.unwrap();
    engine.stop(&web).await.unwrap();
    engine.apply(bench.order(&web, 'b', App::Works(2))).await.unwrap();
    let status = settled(&*engine, &mut events, &web).await;
    assert_eq!((status.serving.unwrap().sha, status.pending), (commit('b'), None));
}

async fn what_was_never_there_is_gone(bench: &mut dyn Bench) {
    let (web, _) = preview(9);
    let engine = bench.engine();
    assert!(engine.status(&web).await.unwrap().is_gone());
    engine.sleep(&web).await.unwrap();
    engine.wake(&web).await.unwrap();
    assert_eq!(engine.logs(&web, 30).await.unwrap(), [""; 0]);
    assert_eq!(engine.stop(&web).await.unwrap(), [""; 0]);
    assert_eq!(engine.inventory().await.unwrap(), []);
}

async fn an_order_for_another_engine_is_refused(bench: &mut dyn Bench) {
    let (web, _) = preview(10);
    let refused = bench.engine().apply(bench.misdirected(&web)).await;
    assert!(matches!(refused, Err(Error::Input { .. })), "{refused:?}");
    assert!(bench.engine().status(&web).await.unwrap().is_gone());
}

async fn a_program_beside_a_preview_is_no_part_of_it(bench: &mut dyn Bench) {
    let (web, _) = preview(11);
    let before = run(&*bench.engine(), bench.order(&web, 'a', App::Works(1))).await;
    match bench.engine().run(&bench.errand(&web, "first", true)).await {
        Ok(ended) => assert_eq!(ended, Ended::Well),
        // Not every engine has programs, and none takes them for something else.
        Err(error) => return assert!(matches!(error, Error::Input { .. }), "{error}"),
    }
    let failing = bench.errand(&web, "second", false);
    for _ in 0..2 {
        let ended = bench.engine().run(&failing).await.unwrap();
        let Ended::Badly { why, lines } = ended else { panic!("{ended:?}") };
        assert!(why.contains("exit code 3") && !lines.is_empty(), "{why} {lines:?}");
        assert_eq!(bench.engine().status(&web).await.unwrap(), before);
        bench.reopen().await;
    }
    let status = run(&*bench.engine(), bench.order(&web, 'b', App::Works(2))).await;
    assert_eq!((status.serving.unwrap().sha, status.pending), (commit('b'), None));
    stopped(&*bench.engine(), &web).await;
    let ended = bench.engine().run(&bench.errand(&web, "late", true)).await.unwrap();
    assert!(matches!(ended, Ended::Badly { .. }), "{ended:?}");
    assert_eq!(bench.engine().inventory().await.unwrap(), []);
}
