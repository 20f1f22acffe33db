//! What stands on the disk: sharing, collection, crashes, strangers.

use std::fs;

use super::*;

fn site(text: &str) -> Vec<u8> {
    zip(&[("index.html", text)])
}

#[tokio::test]
async fn equal_sites_share_a_release_until_the_last_one_stops() {
    let mut bench = Bench::new();
    // Packed differently, so that only the content is equal.
    let one = bench.order(&web(), 'a', &zip(&[("a.js", "1"), ("index.html", "x")]));
    let two = bench.order(&docs(), 'b', &zip(&[("index.html", "x"), ("a.js", "1"), ("empty/", "")]));
    assert_ne!(one.digest, two.digest);
    bench.run(one).await;
    bench.run(two).await;
    assert_eq!(bench.engine.site(&web()).unwrap().root(), bench.engine.site(&docs()).unwrap().root());
    assert_eq!(bench.engine().stop(&web()).await.unwrap(), [""; 0]);
    assert_eq!(bench.content(&docs(), "a.js"), "1");
    assert_eq!(bench.engine().stop(&docs()).await.unwrap(), [""; 0]);
    assert_eq!(listing(&bench.folder.path().join("releases")), [""; 0]);
}

#[tokio::test]
async fn a_release_is_kept_for_as_long_as_a_request_reads_it() {
    let mut bench = Bench::new();
    let order = bench.order(&web(), 'a', &site("one"));
    bench.run(order).await;
    let read = bench.engine.site(&web()).unwrap();
    let order = bench.order(&web(), 'b', &site("two"));
    bench.run(order).await;
    bench.quiet(&web()).await;
    assert_eq!(fs::read_to_string(read.root().join("index.html")).unwrap(), "one");
    drop(read);
    let read = bench.engine.site(&web()).unwrap();
    assert_eq!(
        bench.engine().stop(&web()).await.unwrap(),
        ["the files of `web-42-mr-7`, which a request still reads"]
    );
    assert_eq!(fs::read_to_string(read.root().join("index.html")).unwrap(), "two");
    drop(read);
    assert_eq!(bench.engine().stop(&web()).await.unwrap(), [""; 0]);
    assert_eq!(listing(&bench.folder.path().join("releases")), [""; 0]);
}

#[tokio::test]
async fn a_release_in_somebodys_hand_is_not_collected() {
    let mut bench = Bench::new();
    let order = bench.order(&web(), 'a', &site("one"));
    bench.run(order).await;
    let digest = bench.engine.site(&web()).unwrap().release.digest.clone();
    let inner = Arc::clone(&bench.engine.inner);
    let hand = inner.shelf.get(&digest).unwrap().unwrap();
    bench.engine().stop(&web()).await.unwrap();
    inner.shelf.collect().unwrap();
    assert!(hand.root.join("index.html").exists());
    drop(hand);
    inner.shelf.collect().unwrap();
    assert!(inner.shelf.get(&digest).unwrap().is_none());
}

#[tokio::test]
async fn what_a_crash_leaves_is_cleared_and_what_was_served_still_is() {
    let mut bench = Bench::new();
    let order = bench.order(&web(), 'a', &site("one"));
    bench.run(order).await;
    bench.quiet(&web()).await;
    let folder = bench.folder.path().to_owned();
    // Cut off while unpacking, before the rename, and between the rename and the pointer.
    fs::create_dir_all(folder.join("incoming/release-x/release/files")).unwrap();
    fs::write(folder.join("incoming/artifact.zip"), "half").unwrap();
    fs::create_dir_all(folder.join("releases").join("0".repeat(64)).join("files")).unwrap();
    let bench = bench.reopen().await;
    assert_eq!(listing(bench.engine.incoming()), [""; 0]);
    assert_eq!(listing(&folder.join("releases")).len(), 1);
    assert_eq!(bench.content(&web(), "index.html"), "one");
}

#[tokio::test]
async fn a_release_that_was_damaged_is_said_to_be_and_made_anew() {
    let mut bench = Bench::new();
    let order = bench.order(&web(), 'a', &site("one"));
    bench.run(order).await;
    let digest = bench.engine.site(&web()).unwrap().release.digest.clone();
    let manifest = bench.folder.path().join("releases").join(&digest).join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("index", "outdex")).unwrap();
    let mut bench = bench.reopen().await;
    let status = bench.engine().status(&web()).await.unwrap();
    assert_eq!(status.serving, None);
    assert!(
        matches!(&status.pending, Some((_, _, Progress::Trouble(why))) if why.contains("gone or damaged"))
    );
    assert_eq!(bench.engine().inventory().await.unwrap(), [web()]);
    let order = bench.order(&web(), 'a', &site("one"));
    assert_eq!(bench.run(order).await.pending, None);
    assert_eq!(bench.content(&web(), "index.html"), "one");
}

#[tokio::test]
async fn what_another_instance_serves_is_left_alone() {
    let mut bench = Bench::new();
    let order = bench.order(&web(), 'a', &site("theirs"));
    bench.run(order).await;
    let pointer = bench.folder.path().join("previews/web-42-mr-7.json");
    let text = fs::read_to_string(&pointer).unwrap().replace("\"ours\"", "\"theirs\"");
    fs::write(&pointer, &text).unwrap();
    let mut bench = bench.reopen().await;
    assert!(bench.engine.site(&web()).is_none());
    assert!(bench.engine().inventory().await.unwrap().is_empty());
    assert_eq!(bench.engine().stop(&web()).await.unwrap(), [""; 0]);
    let order = bench.order(&web(), 'a', &site("ours"));
    let status = bench.run(order).await;
    assert_eq!(status.serving, None);
    assert!(
        matches!(status.pending, Some((_, _, Progress::Trouble(why))) if why.contains("another greenroom"))
    );
    bench.quiet(&web()).await;
    assert_eq!(fs::read_to_string(&pointer).unwrap(), text);
    assert_eq!(listing(&bench.folder.path().join("releases")).len(), 1);
}

#[tokio::test]
async fn a_pointer_that_cannot_be_read_removes_nothing() {
    let mut bench = Bench::new();
    let order = bench.order(&web(), 'a', &site("one"));
    bench.run(order).await;
    let pointer = bench.folder.path().join("previews/web-42-mr-7.json");
    fs::write(&pointer, "{").unwrap();
    let bench = bench.reopen().await;
    assert!(bench.engine.site(&web()).is_none());
    assert_eq!(listing(&bench.folder.path().join("releases")).len(), 1);
    let left = bench.engine().stop(&web()).await.unwrap();
    assert!(left[0].contains("an operator has to look at it"), "{left:?}");
    assert_eq!(fs::read_to_string(&pointer).unwrap(), "{");
}

#[test]
fn a_folder_belongs_to_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let first = StaticSite::open(folder.path(), "ours", Limits::default(), Clock).unwrap();
    let second = StaticSite::open(folder.path(), "ours", Limits::default(), Clock);
    assert!(second.unwrap_err().to_string().contains("does another greenroom run here?"));
    drop(first);
    StaticSite::open(folder.path(), "ours", Limits::default(), Clock).unwrap();
}
