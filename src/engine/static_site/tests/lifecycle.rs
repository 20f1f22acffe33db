//! Orders, stops and what overtakes what.

use super::super::order::Newest;
use super::*;

fn page(text: &str) -> Vec<u8> {
    zip(&[("index.html", text), ("assets/same.js", "same")])
}

#[tokio::test]
async fn an_order_is_served_and_survives_a_restart() {
    let mut bench = Bench::new();
    let order = bench.order(&web(), 'a', &page("one"));
    let digest = order.digest.clone();
    let status = bench.run(order).await;
    let running = status.serving.clone().unwrap();
    assert_eq!((&running.sha, &running.digest, &status.pending), (&commit('a'), &digest, &None));
    assert_eq!(bench.content(&web(), "index.html"), "one");
    bench.quiet(&web()).await;
    assert_eq!(listing(bench.engine.incoming()), [""; 0]);

    let bench = bench.reopen().await;
    assert_eq!(bench.engine().status(&web()).await.unwrap(), status);
    assert_eq!(bench.engine().inventory().await.unwrap(), [web()]);
    assert_eq!(bench.content(&web(), "assets/same.js"), "same");
}

#[tokio::test]
async fn a_repeated_order_changes_nothing_and_is_still_told() {
    let mut bench = Bench::new();
    let order = bench.order(&web(), 'a', &page("one"));
    let before = bench.run(order).await;
    let mut events = bench.engine().events();
    bench.engine().apply(bench.order(&web(), 'a', &page("one"))).await.unwrap();
    assert_eq!(events.recv().await.unwrap(), PreviewKey::of_mr(42, 7));
    assert_eq!(bench.engine().status(&web()).await.unwrap(), before);
}

#[tokio::test]
async fn an_order_that_is_repeated_while_it_is_worked_on_is_the_same_order() {
    let mut bench = Bench::new();
    let inner = Arc::clone(&bench.engine.inner);
    let busy = inner.slots.acquire_many(2).await.unwrap();
    let (work, _archive) = inner.at_work(bench.order(&web(), 'a', &page("one"))).await;
    bench.engine().apply(bench.order(&web(), 'a', &page("one"))).await.unwrap();
    assert!(!work.overtaken.is_cancelled());
    bench.engine().apply(bench.order(&web(), 'b', &page("one"))).await.unwrap();
    assert!(work.overtaken.is_cancelled());
    drop(busy);
    assert_eq!(bench.settled(&web()).await.serving.unwrap().sha, commit('b'));
}

#[tokio::test]
async fn a_new_commit_with_the_same_archive_unpacks_nothing() {
    let mut bench = Bench::new();
    let first = bench.order(&web(), 'a', &page("one"));
    bench.run(first).await;
    let site = bench.engine.site(&web()).unwrap();
    // An archive that could not be unpacked shows that nobody tries.
    let mut second = bench.order(&web(), 'b', b"not an archive");
    second.digest = site.digest().to_owned();
    let status = bench.run(second).await;
    assert_eq!(status.serving.unwrap().sha, commit('b'));
    assert!(Arc::ptr_eq(&site.release, &bench.engine.site(&web()).unwrap().release));
}

#[tokio::test]
async fn the_last_good_revision_serves_while_the_newest_is_broken() {
    let mut bench = Bench::new();
    let good = bench.order(&web(), 'a', &page("one"));
    bench.run(good).await;
    let broken = bench.order(&web(), 'b', b"no archive");
    let status = bench.run(broken).await;
    assert_eq!(status.serving.unwrap().sha, commit('a'));
    assert!(matches!(status.pending, Some((sha, _, Progress::Failed(_))) if sha == commit('b')));
    // Back to the one that is served: the failure is history.
    let again = bench.order(&web(), 'a', &page("one"));
    assert_eq!(bench.run(again).await.pending, None);
}

#[tokio::test]
async fn the_newest_order_wins_whatever_the_ones_before_it() {
    let mut bench = Bench::new();
    let busy = bench.engine.inner.slots.acquire_many(2).await.unwrap();
    for (sha, text) in [('a', "one"), ('b', "two"), ('c', "three")] {
        bench.engine().apply(bench.order(&web(), sha, &page(text))).await.unwrap();
    }
    let waiting = bench.engine().status(&web()).await.unwrap();
    assert!(matches!(waiting.pending, Some((sha, _, Progress::Working)) if sha == commit('c')));
    drop(busy);
    assert_eq!(bench.settled(&web()).await.serving.unwrap().sha, commit('c'));
    bench.quiet(&web()).await;
    assert_eq!(bench.content(&web(), "index.html"), "three");
    assert_eq!(listing(&bench.folder.path().join("releases")).len(), 1);
}

#[tokio::test]
async fn an_order_that_is_overtaken_when_it_has_been_unpacked_is_never_served() {
    let mut bench = Bench::new();
    let inner = Arc::clone(&bench.engine.inner);
    let busy = inner.slots.acquire_many(2).await.unwrap();
    let old = bench.order(&web(), 'a', &page("old"));
    let (work, archive) = inner.at_work(old).await;
    let (work, release) = spawn_blocking(move || {
        let release = work.release(&archive).unwrap();
        (work, release)
    })
    .await
    .unwrap();
    bench.engine().apply(bench.order(&web(), 'b', &page("new"))).await.unwrap();
    spawn_blocking(move || work.switch(release).unwrap()).await.unwrap();
    assert!(bench.engine.site(&web()).is_none());
    drop(busy);
    assert_eq!(bench.settled(&web()).await.serving.unwrap().sha, commit('b'));
}

#[tokio::test]
async fn previews_do_not_wait_for_each_other() {
    let mut bench = Bench::new();
    let turn = Arc::clone(&bench.engine.inner.desk(&web()).turn).lock_owned().await;
    bench.engine().apply(bench.order(&web(), 'a', &page("web"))).await.unwrap();
    let order = bench.order(&docs(), 'b', &page("docs"));
    assert!(bench.run(order).await.serving.is_some());
    assert!(bench.engine.site(&web()).is_none());
    drop(turn);
    assert!(bench.settled(&web()).await.serving.is_some());
}

#[tokio::test]
async fn a_stop_leaves_nothing_and_is_idempotent() {
    let mut bench = Bench::new();
    let order = bench.order(&web(), 'a', &page("one"));
    bench.run(order).await;
    for _ in 0..2 {
        assert_eq!(bench.engine().stop(&web()).await.unwrap(), [""; 0]);
        assert!(bench.engine().status(&web()).await.unwrap().is_gone());
        assert!(bench.engine().inventory().await.unwrap().is_empty());
    }
    for folder in ["releases", "previews", "incoming"] {
        assert_eq!(listing(&bench.folder.path().join(folder)), [""; 0], "{folder}");
    }
    assert!(bench.engine.inner.desks().is_empty());
    assert!(bench.reopen().await.engine().status(&web()).await.unwrap().is_gone());
}

#[tokio::test]
async fn a_stop_strikes_the_orders_before_it_and_spares_those_after_it() {
    let mut bench = Bench::new();
    let busy = bench.engine.inner.slots.acquire_many(2).await.unwrap();
    bench.engine().apply(bench.order(&web(), 'a', &page("one"))).await.unwrap();
    assert_eq!(bench.engine().stop(&web()).await.unwrap(), [""; 0]);
    assert!(bench.engine().status(&web()).await.unwrap().is_gone());
    bench.engine().apply(bench.order(&web(), 'b', &page("two"))).await.unwrap();
    drop(busy);
    assert_eq!(bench.settled(&web()).await.serving.unwrap().sha, commit('b'));
}

#[tokio::test]
async fn a_stop_forgets_a_failure() {
    let mut bench = Bench::new();
    bench.refused(b"no archive").await;
    assert_eq!(bench.engine().inventory().await.unwrap(), [web()]);
    assert_eq!(bench.engine().stop(&web()).await.unwrap(), [""; 0]);
    assert!(bench.engine().status(&web()).await.unwrap().is_gone());
}

#[tokio::test]
async fn a_new_folder_or_mode_is_a_new_order() {
    let mut bench = Bench::new();
    let archive = zip(&[("index.html", "top"), ("dist/index.html", "dist")]);
    let top = bench.order(&web(), 'a', &archive);
    bench.run(top).await;
    let mut dist = bench.order(&web(), 'a', &archive);
    let Input::Artifact { root, spa, .. } = &mut dist.input else { unreachable!() };
    (*root, *spa) = ("dist".into(), true);
    bench.run(dist).await;
    assert_eq!(bench.content(&web(), "index.html"), "dist");
    assert!(bench.engine.site(&web()).unwrap().spa());
}

/// Takes an order as [`Inner::take`] does, but leaves the work to the test.
impl Inner {
    async fn at_work(self: &Arc<Self>, order: Order) -> (super::super::order::Work, tempfile::TempPath) {
        let Order { key, name, sha, digest, input } = order;
        let Input::Artifact { archive, root, spa } = input else { unreachable!() };
        let revision = Revision { key, name, sha, digest, root, spa };
        let desk = self.desk(&revision.name);
        let overtaken = desk.book.lock().await.note(revision.clone());
        assert!(matches!(desk.book.lock().await.newest, Some(Newest { progress: Progress::Working, .. })));
        (super::super::order::Work { inner: Arc::clone(self), desk, revision, overtaken }, archive)
    }
}
