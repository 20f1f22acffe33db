//! Our own pages, word by word.

use insta::assert_snapshot;

use super::*;

#[actix_web::test]
async fn a_host_without_a_preview_is_not_found() {
    let bench = Bench::new().await;
    let page = bench.get("/").await;
    assert_snapshot!(page.words(), @r"
    404
    There is no preview here
    No merge request has a preview at this address. It may be mistyped: the link stands in the comment on the merge request.
    ");
    for host in ["preview.test", "a.web-42-mr-7.preview.test", "elsewhere.test", ""] {
        assert_eq!(bench.ask_host(host, TestRequest::get()).await.words(), page.words(), "{host}");
    }
}

#[actix_web::test]
async fn a_preview_that_was_stopped_is_gone() {
    let bench = Bench::new().await;
    bench.know(State::Stopped, "the merge request was merged").await;
    let page = bench.get("/some/page?x=1").await;
    assert_snapshot!(page.words(), @r"
    410
    This preview was removed
    The preview of acme/web!7 was removed: the merge request was merged.
    Removed 2023-11-14T22:19:20Z.
    ");
    assert_eq!(page.header("retry-after"), None);
    bench.know(State::Stopping, "its lifetime ended at 2023-11-14T22:13:20Z").await;
    assert_snapshot!(bench.get("/").await.words(), @r"
    410
    This preview was removed
    The preview of acme/web!7 is being removed: its lifetime ended at 2023-11-14T22:13:20Z.
    Since 2023-11-14T22:13:20Z.
    ");
}

#[actix_web::test]
async fn a_preview_that_is_not_there_yet_says_why_and_looks_again() {
    let bench = Bench::new().await;
    bench.know(State::Waiting, "job `build <b>` of pipeline 12 has not finished").await;
    let page = bench.get("/").await;
    assert_snapshot!(page.words(), @r"
    503
    The preview is not there yet
    The preview of acme/web!7 has the state waiting: job build <b> of pipeline 12 has not finished.
    This page looks again every 10 seconds.
    ");
    assert_eq!(page.header("retry-after"), Some("10"));
    assert_eq!(page.header("cache-control"), Some("no-store"));
    assert!(page.body.contains(r#"<meta http-equiv="refresh" content="10">"#));
    assert!(page.body.contains("<code>build &lt;b&gt;</code>"));

    bench.know(State::Deploying, "commit `aaaaaaaa` is being deployed").await;
    assert_snapshot!(bench.get("/").await.words(), @r"
    503
    The preview is about to be there
    The preview of acme/web!7 has the state deploying: commit aaaaaaaa is being deployed.
    This page looks again every 3 seconds.
    ");
    bench.know(State::Failed, "the artifact cannot be served: it is empty").await;
    assert_snapshot!(bench.get("/").await.words(), @r"
    503
    The preview could not be deployed
    The preview of acme/web!7 has the state failed: the artifact cannot be served: it is empty.
    This page looks again every 30 seconds.
    ");
    bench.know(State::Skipped, "the change comes from a fork, and forks get no preview").await;
    assert_snapshot!(bench.get("/").await.words(), @r"
    503
    This merge request has no preview
    The preview of acme/web!7 has the state skipped: the change comes from a fork, and forks get no preview.
    This page looks again every 60 seconds.
    ");
    for state in State::ALL {
        bench.know(state, "").await;
        let expected = if matches!(state, State::Stopping | State::Stopped) { 410 } else { 503 };
        assert_eq!(bench.get("/").await.status, expected, "{state}");
    }
}

#[actix_web::test]
async fn a_store_that_is_down_stops_nobody_who_is_served() {
    let bench = Bench::serving(&[("index.html", "still here")], false).await;
    bench.gateway.store.close().await;
    assert_eq!(bench.get("/").await.body, "still here");
    let page = bench.ask_host("docs-43-mr-1.preview.test", TestRequest::get()).await;
    assert_snapshot!(page.words(), @r"
    503
    greenroom cannot answer right now
    The record of this preview cannot be read. Previews that are served already are not affected.
    This page tries again every 10 seconds. If it stays like this, tell whoever runs greenroom.
    ");
    assert_eq!(page.header("retry-after"), Some("10"));
}

#[actix_web::test]
async fn a_missing_file_is_the_sites_404_page_or_ours() {
    let bench = Bench::serving(&[("index.html", "x")], false).await;
    let page = bench.get("/nope/%3Cscript%3E.js").await;
    assert_snapshot!(page.words(), @r"
    404
    This page does not exist
    The preview has no file /nope/%3Cscript%3E.js, and no 404.html of its own.
    To its first page
    ");
    bench.deploy("web-42-mr-7", &[("index.html", "x"), ("404.html", "theirs")], false).await;
    let page = bench.get("/nope").await;
    assert_eq!((page.status, page.body.as_str(), page.header("etag")), (404, "theirs", None));
    let ranged = bench.ask(TestRequest::get().uri("/nope").insert_header(("range", "bytes=0-1"))).await;
    assert_eq!((ranged.status, ranged.body.as_str()), (404, "theirs"));
}

#[actix_web::test]
async fn other_methods_are_refused() {
    let bench = Bench::serving(&[("index.html", "x")], false).await;
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let page = bench.ask(TestRequest::default().method(method)).await;
        assert_eq!((page.status, page.header("allow")), (405, Some("GET, HEAD")));
    }
    assert_snapshot!(bench.ask(TestRequest::post()).await.words(), @r"
    405
    This request cannot be answered
    A preview of a static site can only be read: use GET or HEAD.
    ");
}

#[actix_web::test]
async fn a_head_request_gets_the_headers_alone() {
    let bench = Bench::new().await;
    bench.know(State::Waiting, "").await;
    let page = bench.ask(TestRequest::default().method(Method::HEAD)).await;
    assert_eq!((page.status, page.body.as_str(), page.header("retry-after")), (503, "", Some("10")));
}

#[actix_web::test]
async fn a_file_that_is_gone_from_the_disk_is_our_fault() {
    let bench = Bench::serving(&[("index.html", "x")], false).await;
    let site = bench.gateway.sites.site(&PreviewName::parse("web-42-mr-7").unwrap()).unwrap();
    std::fs::remove_file(site.root().join("index.html")).unwrap();
    assert_snapshot!(bench.get("/").await.words(), @r"
    500
    greenroom cannot answer right now
    A file of this preview cannot be read from the disk.
    This page tries again every 10 seconds. If it stays like this, tell whoever runs greenroom.
    ");
}

#[actix_web::test]
async fn a_preview_on_a_cluster_says_that_it_is_there() {
    let bench = Bench::new().await;
    bench.know_on(Some("eu"), State::Ready, "commit `aaaaaaaa` is deployed").await;
    let page = bench.get("/").await;
    assert_snapshot!(page.words(), @r"
    503
    The preview is elsewhere
    The preview of acme/web!7 has the state ready: it runs on the cluster eu, and this request came to greenroom in place of the cluster's ingress controller or gateway; where that stays so, the operator has to let the DNS record of this host lead there, or give the project another base_domain.
    This page looks again every 10 seconds.
    ");
    bench.know_on(Some("eu"), State::Failed, "it is not ready").await;
    assert!(bench.get("/").await.words().contains("it is not ready"));
}
