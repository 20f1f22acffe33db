//! A sandbox to talk to, a receiver for its webhooks, and short words for both.

use crate::support::prism::{Docket, Exchange};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use greenroom::sandbox::{Config, Sandbox, start};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

pub const BOT: &str = "bot-token";
pub const DEV: &str = "dev-token";
pub const SIGNING: &str = "whsec_dGVzdHRlc3R0ZXN0dGVzdHRlc3R0ZXN0dGVzdHRlc3Q=";

/// One answer.
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    /// The body, if the status is this one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        if self.text.is_empty() { Value::Null } else { self.json() }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A running sandbox with the project `acme/web`.
pub struct World {
    sandbox: Sandbox,
    client: reqwest::Client,
    pub received: Received,
    /// Holds the answers to GitLab's OpenAPI document, where Prism is at hand; not those that faults give.
    docket: Option<Docket>,
    faulty: AtomicBool,
}

impl Drop for World {
    /// Requests may be wrong on purpose; answers may not.
    fn drop(&mut self) {
        let violations = self.docket.as_ref().map(Docket::take).unwrap_or_default();
        let of_answers: Vec<_> =
            violations.iter().filter(|violation| !violation.contains(": request")).collect();
        assert!(of_answers.is_empty() || std::thread::panicking(), "{of_answers:#?}");
    }
}

impl World {
    /// With a webhook receiver that answers 200.
    pub async fn new() -> Self {
        let received = Received::start().await;
        let config = Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            token: BOT.to_owned(),
            project: "acme/web".to_owned(),
            webhook: Some(received.url.parse().unwrap()),
            signing_token: Some(SIGNING.to_owned()),
            secret_token: Some("hush".to_owned()),
        };
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .pool_max_idle_per_host(0)
            .build()
            .unwrap();
        Self {
            sandbox: start(config).await.unwrap(),
            client,
            received,
            docket: Docket::open(),
            faulty: AtomicBool::new(false),
        }
    }

    pub fn url(&self) -> &str {
        self.sandbox.url()
    }

    /// A request with a token; a path that starts with `/` is absolute, others are in the project.
    pub async fn ask(&self, token: &str, method: Method, path: &str, body: Option<Value>) -> Answer {
        let url = match path {
            _ if path.starts_with("http") => path.to_owned(),
            _ if path.starts_with('/') => format!("{}{path}", self.url()),
            _ => format!("{}/api/v4/projects/acme%2Fweb/{path}", self.url()),
        };
        let mut request = self.client.request(method, &url);
        if !token.is_empty() {
            request = request.header("PRIVATE-TOKEN", token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let request = request.build().unwrap();
        let asked = request.try_clone().unwrap();
        let answer = self.client.execute(request).await.unwrap();
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = answer.bytes().await.unwrap();
        if let Some(docket) = self.docket.as_ref().filter(|_| self.judges(&url)) {
            docket.add(exchange(&asked, status, &headers, &body));
        }
        Answer { status: status.as_u16(), headers, text: String::from_utf8_lossy(&body).into_owned() }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask(BOT, Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask(BOT, Method::POST, path, Some(body)).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.ask(BOT, Method::PUT, path, Some(body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.ask(BOT, Method::DELETE, path, None).await
    }

    /// The same by the person `dev`.
    pub async fn dev_post(&self, path: &str, body: Value) -> Answer {
        self.ask(DEV, Method::POST, path, Some(body)).await
    }

    pub async fn dev_put(&self, path: &str, body: Value) -> Answer {
        self.ask(DEV, Method::PUT, path, Some(body)).await
    }

    /// `POST /sandbox/…`, which must work.
    pub async fn control(&self, path: &str, body: Value) -> Value {
        let answer = self.ask("", Method::POST, &format!("/sandbox/{path}"), Some(body)).await;
        assert!((200..300).contains(&answer.status), "{path}: {} {}", answer.status, answer.text);
        if answer.text.is_empty() { Value::Null } else { answer.json() }
    }

    fn judges(&self, url: &str) -> bool {
        url.contains("/api/v4/") && !self.faulty.load(Ordering::Relaxed)
    }

    pub async fn faults(&self, faults: Value) {
        self.faulty.store(true, Ordering::Relaxed);
        self.ask("", Method::PUT, "/sandbox/faults", Some(faults)).await.expect(200);
    }

    /// A commit on a new or old branch; gives its SHA.
    pub async fn commit(&self, branch: &str) -> String {
        let files = json!({ "index.html": format!("<h1>{branch}</h1>") });
        let pushed = self
            .control("projects/acme%2Fweb/push", json!({ "refs": [{ "ref": branch, "files": files }] }))
            .await;
        pushed[0]["after"].as_str().unwrap().to_owned()
    }

    /// An open merge request from `feature` with one commit; gives its JSON.
    pub async fn open(&self) -> Value {
        self.commit("feature").await;
        let body = json!({ "source_branch": "feature", "target_branch": "main", "title": "Add a page" });
        self.dev_post("merge_requests", body).await.expect(201)
    }

    pub async fn merge_request(&self) -> Value {
        self.get("merge_requests/1").await.expect(200)
    }

    /// A pipeline for merge request 1 with these jobs.
    pub async fn pipeline(&self, kind: &str, jobs: Value) -> Value {
        let body = json!({ "mr_iid": 1, "kind": kind, "jobs": jobs });
        self.control("projects/acme%2Fweb/pipelines", body).await
    }

    /// Waits until all deliveries are through and gives those that arrived since the last time.
    pub async fn hooks(&self) -> Vec<Hook> {
        self.control("drain", json!({})).await;
        self.received.take()
    }

    /// Like [`World::hooks`], only one kind.
    pub async fn hooks_of(&self, kind: &str) -> Vec<Value> {
        let hooks = self.hooks().await.into_iter().map(|hook| hook.body);
        hooks.filter(|body| body["object_kind"] == kind).collect()
    }
}

fn exchange(
    asked: &reqwest::Request,
    status: StatusCode,
    headers: &reqwest::header::HeaderMap,
    body: &bytes::Bytes,
) -> Exchange {
    let sent =
        asked.body().and_then(reqwest::Body::as_bytes).map(bytes::Bytes::copy_from_slice).unwrap_or_default();
    let mut request =
        http::Request::builder().method(asked.method()).uri(asked.url().as_str()).body(sent).unwrap();
    request.headers_mut().extend(asked.headers().clone());
    let mut answer = http::Response::builder().status(status).body(body.clone()).unwrap();
    answer.headers_mut().extend(headers.clone());
    Exchange { request, answer }
}

/// One webhook as it arrived.
#[derive(Debug, Clone)]
pub struct Hook {
    pub headers: Vec<(String, String)>,
    pub raw: String,
    pub body: Value,
}

impl Hook {
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }
}

/// A server that keeps what it receives and answers as it is told.
#[derive(Clone)]
pub struct Received {
    pub url: String,
    hooks: Arc<Mutex<Vec<Hook>>>,
    answers: Arc<Mutex<VecDeque<u16>>>,
}

impl Received {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().into_std().unwrap();
        let url = format!("http://{}/webhook", listener.local_addr().unwrap());
        let received = Self { url, hooks: Arc::default(), answers: Arc::default() };
        let data = web::Data::new(received.clone());
        let app = move || {
            App::new()
                .app_data(data.clone())
                .app_data(web::PayloadConfig::new(64 << 20))
                .default_service(web::to(receive))
        };
        tokio::spawn(HttpServer::new(app).workers(1).disable_signals().listen(listener).unwrap().run());
        received
    }

    pub fn take(&self) -> Vec<Hook> {
        std::mem::take(&mut self.hooks.lock().unwrap())
    }

    /// The next answers; 200 afterwards.
    pub fn answer(&self, statuses: impl IntoIterator<Item = u16>) {
        self.answers.lock().unwrap().extend(statuses);
    }
}

async fn receive(received: web::Data<Received>, request: HttpRequest, body: String) -> HttpResponse {
    let headers =
        request.headers().iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    let hook = Hook { headers: headers.collect(), body: serde_json::from_str(&body).unwrap(), raw: body };
    received.hooks.lock().unwrap().push(hook);
    let status = received.answers.lock().unwrap().pop_front().unwrap_or(200);
    HttpResponse::build(actix_web::http::StatusCode::from_u16(status).unwrap()).finish()
}
