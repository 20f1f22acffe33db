//! The test machinery itself: what the other tests rely on when they pass.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use reqwest::{Client, redirect::Policy};
use tokio::net::TcpListener;
use url::Url;

use crate::support::{
    PATIENCE,
    browser::Browser,
    until,
    wire::{Wire, serve},
    world::says,
};

/// A server that answers every path with what `answer` makes of the request.
async fn server(answer: fn(&Request<Incoming>) -> Response<Vec<u8>>) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(serve(listener, move |request| {
        let answer = answer(&request).map(|body| Full::from(Bytes::from(body)));
        async move { Ok(answer) }
    }));
    url
}

/// What a fitting GitLab would say to the few calls made here, and misfits on `/projects/13`.
fn gitlab(request: &Request<Incoming>) -> Response<Vec<u8>> {
    let json = |status: u16, body: &str| {
        let answer = Response::builder().status(status).header("content-type", "application/json");
        answer.body(body.into()).unwrap()
    };
    match request.uri().path() {
        "/api/v4/metadata" => json(200, r#"{"version": "19.2.0", "revision": "abc", "enterprise": false}"#),
        "/api/v4/projects/13/merge_requests/7" => json(200, r#"{"iid": "seven"}"#),
        path if path.ends_with("/merge_requests/7") => json(200, r#"{"id": 1, "iid": 7}"#),
        path if path.ends_with("/raw") => {
            let answer = Response::builder().header("content-type", "text/plain");
            answer.body(request.uri().to_string().into_bytes()).unwrap()
        }
        path if path.ends_with("/artifacts") => {
            let away = "https://storage.example.com/artifacts.zip?signature=1";
            Response::builder().status(302).header("location", away).body(Vec::new()).unwrap()
        }
        path if path.ends_with("/download") => {
            let answer = Response::builder().header("content-type", "application/octet-stream");
            answer.body((0..=255).collect()).unwrap()
        }
        _ if request.method() == "DELETE" => Response::builder().status(204).body(Vec::new()).unwrap(),
        _ => json(404, r#"{"message": "404 Not found"}"#),
    }
}

fn client() -> Client {
    Client::builder().no_proxy().redirect(Policy::none()).build().unwrap()
}

struct Gitlab {
    wire: Wire,
    client: Client,
}

impl Gitlab {
    async fn start() -> Self {
        Self { wire: Wire::to_gitlab(&server(gitlab).await).await, client: client() }
    }

    fn ask(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let url = format!("{}api/v4/{path}", self.wire.url());
        self.client.request(method.parse().unwrap(), url).header("private-token", "dev-token")
    }

    async fn status(&self, method: &str, path: &str) -> Option<u16> {
        self.ask(method, path).send().await.ok().map(|answer| answer.status().as_u16())
    }
}

#[tokio::test]
async fn a_wire_counts_and_breaks_as_planned() {
    let gitlab = Gitlab::start().await;
    let mr = "projects/42/merge_requests/7";
    assert_eq!(gitlab.status("GET", mr).await, Some(200));

    gitlab.wire.on("GET", "*/merge_requests/*").nth(2).answer(429, &[("retry-after", "1")], "Retry later");
    gitlab.wire.on("DELETE", "*").lose();
    let statuses =
        [gitlab.status("GET", mr).await, gitlab.status("GET", mr).await, gitlab.status("GET", mr).await];
    assert_eq!(statuses, [Some(200), Some(429), Some(200)]);
    assert_eq!(gitlab.status("DELETE", "projects/42/environments/9").await, None);
    assert_eq!(gitlab.status("DELETE", "projects/42/environments/9").await, Some(204));

    gitlab.wire.cut();
    assert_eq!(gitlab.status("GET", mr).await, None);
    gitlab.wire.heal();
    assert_eq!(gitlab.status("GET", mr).await, Some(200));

    gitlab.wire.any().hang();
    let arrives = until("the call arrives", PATIENCE, || async {
        (gitlab.wire.count("GET", "*/merge_requests/7") == 7).then_some(())
    });
    tokio::select! {
        answer = gitlab.ask("GET", mr).send() => panic!("{answer:?}"),
        () = arrives => {}
    }
    let unanswered = gitlab.wire.calls().iter().filter(|call| call.status.is_none()).count();
    assert_eq!(unanswered, 3);
}

/// A preview that was saved before anything was told of it, and a comment that came meanwhile.
#[test]
fn a_comment_does_not_tell_the_reason_of_what_is_not_told_yet() {
    assert!(!says("Preview: waiting. No pipeline has run", ""));
    assert!(says("Preview: waiting. No pipeline has run", "no pipeline has run"));
}

#[tokio::test]
async fn a_wire_calls_its_hooks_around_the_call() {
    static HEARD: AtomicBool = AtomicBool::new(false);
    let upstream = server(|_| {
        HEARD.store(true, Ordering::SeqCst);
        Response::new(Vec::new())
    });
    let wire = Wire::to(&upstream.await).await;
    let before = Arc::new(AtomicBool::new(true));
    let after = Arc::new(AtomicBool::new(false));
    wire.any().before({
        let before = before.clone();
        move || before.store(HEARD.load(Ordering::SeqCst), Ordering::SeqCst)
    });
    wire.any().nth(2).after({
        let after = after.clone();
        move || after.store(HEARD.swap(false, Ordering::SeqCst), Ordering::SeqCst)
    });
    for _ in 0..2 {
        client().get(wire.url().clone()).send().await.unwrap();
    }
    wire.any().instead(|| HEARD.store(false, Ordering::SeqCst));
    assert!(client().get(wire.url().clone()).send().await.is_err());
    assert!(!HEARD.load(Ordering::SeqCst), "the server heard of the third call");
    assert!(!before.load(Ordering::SeqCst), "the server had heard of the first call before its hook");
    assert!(after.load(Ordering::SeqCst), "the server had not heard of the second call at its hook");
}

#[tokio::test]
async fn a_wire_passes_on_what_gitlab_says_as_it_is() {
    let gitlab = Gitlab::start().await;

    let file =
        "projects/acme%2Fweb/repository/files/ci%2F.greenroom.yml/raw?ref=refs%2Fmerge-requests%2F7%2Fhead";
    let heard = gitlab.ask("GET", file).send().await.unwrap().text().await.unwrap();
    assert_eq!(heard, format!("/api/v4/{file}"));

    let away = gitlab.ask("GET", "projects/42/jobs/9/artifacts").send().await.unwrap();
    assert_eq!(away.status(), 302);
    assert_eq!(away.headers()["location"], "https://storage.example.com/artifacts.zip?signature=1");

    let download = "projects/42/jobs/artifacts/refs%2Fmerge-requests%2F7%2Fhead/download?job=build";
    let bytes = gitlab.ask("GET", download).send().await.unwrap().bytes().await.unwrap();
    assert!(bytes.iter().copied().eq(0..=255), "{bytes:?}");
}

#[tokio::test]
async fn what_the_openapi_document_does_not_allow_fails_the_test() {
    let gitlab = Gitlab::start().await;
    gitlab.status("GET", "metadata?unknown=parameter").await;
    gitlab.status("GET", "projects/13/merge_requests/7").await;
    gitlab.status("GET", "projects/42/merge_requests/7?render_html=maybe").await;
    gitlab.status("GET", "projects/42/dreams").await;
    let form = gitlab.ask("POST", "projects/42/statuses/abc").body("state=dreaming");
    form.header("content-type", "application/x-www-form-urlencoded").send().await.unwrap();
    let Some(violations) = gitlab.wire.violations() else { return };
    insta::assert_snapshot!(violations.join("\n"), @"
    GET /api/v4/projects/13/merge_requests/7 → 200: response.body.iid: Response body property iid must be integer
    GET /api/v4/projects/42/merge_requests/7?render_html=maybe → 200: request.query.render_html: Request query parameter render_html must be boolean
    GET /api/v4/projects/42/dreams → 404: request: Selected route not found
    POST /api/v4/projects/42/statuses/abc → 404: request.body.state: Request body property state must be equal to one of the allowed values: pending, running, success, failed, canceled, skipped
    ");
}

#[tokio::test]
async fn a_browser_opens_a_preview_by_its_own_host_name() {
    let Some(browser) = Browser::find() else { return };
    let page = server(|request| {
        let host = request.headers()["host"].to_str().unwrap();
        let page = format!("<p id=host>{host}</p><script>document.title = 'ran'</script>");
        Response::builder().header("content-type", "text/html").body(page.into_bytes()).unwrap()
    });
    let host = format!("web-42-mr-1.preview.localhost:{}", page.await.port().unwrap());
    let dom = browser.dom(&format!("http://{host}/")).await;
    assert!(dom.contains(&host) && dom.contains("<title>ran</title>"), "{dom}");

    let folder = tempfile::tempdir().unwrap();
    browser.screenshot(&format!("http://{host}/"), &folder.path().join("page.png")).await;
}

#[tokio::test]
#[should_panic(expected = "not within 50ms: the moon is blue; last seen: \"grey\"")]
async fn waiting_in_vain_says_what_was_seen_last() {
    until("the moon is blue", Duration::from_millis(50), || async { Err::<(), _>("grey") }).await;
}
