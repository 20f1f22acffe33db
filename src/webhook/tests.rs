//! Conversations with the route, over a real store.

use actix_web::body::MessageBody;
use actix_web::dev::{Payload, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CONTENT_LENGTH, RETRY_AFTER};
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use actix_web::{App, FromRequest, ResponseError, web};
use futures::StreamExt;
use secrecy::SecretString;
use tempfile::TempDir;

use super::delivery::LARGEST_BODY;
use super::*;
use crate::clock::Clock;
use crate::store::Store;

const KEY: &str = "whsec_dGVzdHRlc3R0ZXN0dGVzdHRlc3R0ZXN0dGVzdHRlc3Q=";
const TOKEN: &str = "correct horse battery staple";
const MERGE_REQUEST: &str =
    include_str!("../../tests/fixtures/gitlab/webhooks/merge_request_open_v19_2.json");
const REOPENED: &str =
    include_str!("../../tests/fixtures/gitlab/webhooks/merge_request_reopen_v19_2.derived.json");

/// A server with a fresh store that knows [`KEY`] and [`TOKEN`].
struct Server {
    intake: web::Data<Intake>,
    _folder: TempDir,
}

impl Server {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}?mode=rwc", folder.path().join("store.db").display());
        let store = Store::open(&url).await.unwrap();
        let secrets = Secrets::new(vec![KEY.parse().unwrap()], vec![SecretString::from(TOKEN)]);
        Self {
            intake: web::Data::new(Intake::new(secrets, Box::new(|_| true), store, Clock)),
            _folder: folder,
        }
    }

    async fn answer(&self, request: TestRequest) -> ServiceResponse<impl MessageBody + use<>> {
        let app = App::new().app_data(self.intake.clone()).configure(configure);
        call_service(&init_service(app).await, request.to_request()).await
    }

    async fn status(&self, request: TestRequest) -> u16 {
        self.answer(request).await.status().as_u16()
    }

    /// What is in the queue, and how often each was asked for.
    async fn queue(&self) -> Vec<(String, i64)> {
        let mut queue = Vec::new();
        while let Some(claim) = self.intake.store.claim("test", i64::MAX - 1, i64::MAX).await.unwrap() {
            queue.push((claim.key.to_string(), claim.requested));
        }
        queue
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        self.intake.counts().filter(|(_, n)| *n > 0).map(|(outcome, n)| (outcome.as_str(), n)).collect()
    }
}

fn post(body: &str) -> TestRequest {
    TestRequest::post()
        .uri("/webhooks/gitlab")
        .insert_header(("X-Gitlab-Event", "Merge Request Hook"))
        .set_payload(body.to_owned())
}

/// A delivery as GitLab 17.4 to 18 sends it.
fn with_token(id: &str, body: &str) -> TestRequest {
    post(body).insert_header(("X-Gitlab-Token", TOKEN)).insert_header(("Idempotency-Key", id.to_owned()))
}

/// A delivery as GitLab 19 sends it, sent `age` seconds ago.
fn signed(id: &str, age: i64, body: &str) -> TestRequest {
    let timestamp = (Clock.now() / 1000 - age).to_string();
    let signature =
        KEY.parse::<SigningKey>().unwrap().sign(id.as_bytes(), timestamp.as_bytes(), body.as_bytes());
    post(body)
        .insert_header(("webhook-id", id.to_owned()))
        .insert_header(("webhook-timestamp", timestamp))
        .insert_header(("webhook-signature", signature))
}

#[actix_web::test]
async fn what_asks_for_a_look_is_queued_and_answered_with_202() {
    let server = Server::start().await;
    assert_eq!(server.status(signed("a", 0, MERGE_REQUEST)).await, 202);
    assert_eq!(server.status(with_token("b", MERGE_REQUEST)).await, 202);
    assert_eq!(server.queue().await, [("mr:2!16".to_owned(), 2)], "two hints, one piece of work");
    assert_eq!(server.intake.store.projects().await.unwrap(), [(2, "flightjs/flight-management".to_owned())]);
    assert_eq!(server.counts(), [("look", 2)]);
}

#[actix_web::test]
async fn a_repeated_delivery_gets_the_same_answer_and_changes_nothing() {
    let server = Server::start().await;
    assert_eq!(server.status(signed("a", 0, MERGE_REQUEST)).await, 202);
    assert_eq!(server.status(signed("a", 0, MERGE_REQUEST)).await, 202);
    assert_eq!(server.status(with_token("a", MERGE_REQUEST)).await, 202);
    assert_eq!(server.queue().await, [("mr:2!16".to_owned(), 1)]);
    assert_eq!(server.counts(), [("look", 1), ("repeated", 2)]);
}

#[actix_web::test]
async fn deliveries_without_an_id_are_told_apart_by_what_they_say() {
    let server = Server::start().await;
    let plain = |body| post(body).insert_header(("X-Gitlab-Token", TOKEN));
    assert_eq!(server.status(plain(MERGE_REQUEST)).await, 202);
    assert_eq!(server.status(plain(MERGE_REQUEST)).await, 202);
    assert_eq!(server.status(plain(REOPENED)).await, 202);
    assert_eq!(server.counts(), [("look", 2), ("repeated", 1)]);
}

#[actix_web::test]
async fn ids_that_are_no_fit_keys_are_replaced_by_their_digest() {
    let server = Server::start().await;
    let long = |last: &str| "x".repeat(60_000) + last;
    assert_eq!(server.status(with_token(&long("a"), MERGE_REQUEST)).await, 202);
    assert_eq!(server.status(with_token(&long("b"), MERGE_REQUEST)).await, 202);
    assert_eq!(server.status(with_token(&long("a"), MERGE_REQUEST)).await, 202);
    assert_eq!(server.status(with_token("a\tb", MERGE_REQUEST)).await, 202);
    assert_eq!(server.counts(), [("look", 3), ("repeated", 1)]);
}

#[actix_web::test]
async fn what_is_verified_but_of_no_use_is_answered_with_200_and_kept() {
    let server = Server::start().await;
    for (id, body, outcome) in [
        ("a", r#"{"object_kind": "issue"}"#, "irrelevant"),
        ("b", r#"{"object_kind": "moon_landing"}"#, "unknown"),
        ("c", r#"{"object_kind": "merge_request"}"#, "unreadable"),
        ("d", "<html>", "unreadable"),
    ] {
        assert_eq!(server.status(signed(id, 0, body)).await, 200, "{outcome}");
        assert_eq!(server.status(signed(id, 0, body)).await, 200, "{outcome}, again");
    }
    assert_eq!(server.queue().await, []);
    assert_eq!(server.counts(), [("irrelevant", 1), ("unknown", 1), ("unreadable", 2), ("repeated", 4)]);
}

#[actix_web::test]
async fn who_cannot_prove_to_be_gitlab_is_told_what_to_check_but_no_secret() {
    let server = Server::start().await;
    let stolen = with_token("a", MERGE_REQUEST).insert_header(("X-Gitlab-Token", "hunter2"));
    for (request, hint) in [
        (post(MERGE_REQUEST), "set one of the two"),
        (stolen, "compare the hook's secret token"),
        (signed("a", 301, MERGE_REQUEST), "check both clocks"),
        (signed("a", 0, MERGE_REQUEST).set_payload(REOPENED), "compare the hook's signing token"),
        (
            signed("a", 0, MERGE_REQUEST).insert_header(("webhook-id", "b")),
            "compare the hook's signing token",
        ),
    ] {
        let answer = server.answer(request).await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{hint}");
        let text = String::from_utf8(read_body(answer).await.to_vec()).unwrap();
        assert!(text.contains(hint), "{text}");
        assert!(!text.contains("hunter2") && !text.contains(TOKEN) && !text.contains("whsec_"), "{text}");
    }
    assert_eq!(server.queue().await, []);
    assert_eq!(server.counts(), [("refused", 5)]);
}

#[actix_web::test]
async fn a_body_over_the_limit_is_refused_as_soon_as_it_is_announced_or_seen() {
    let server = Server::start().await;
    let announced = with_token("a", "{}").insert_header((CONTENT_LENGTH, (LARGEST_BODY + 1).to_string()));
    assert_eq!(server.status(announced).await, 413);
    let lied_about = with_token("b", &" ".repeat(LARGEST_BODY + 1)).insert_header((CONTENT_LENGTH, "2"));
    assert_eq!(server.status(lied_about).await, 413);
    let stranger = post(&" ".repeat(LARGEST_BODY + 1));
    assert_eq!(server.status(stranger).await, 401, "a stranger's body is not even read");
    let largest = format!("{{{}}}", " ".repeat(LARGEST_BODY - 2));
    assert_eq!(server.status(with_token("c", &largest)).await, 200);
}

#[actix_web::test]
async fn a_store_that_is_down_is_not_hidden_from_gitlab() {
    let server = Server::start().await;
    server.intake.store.close().await;
    let answer = server.answer(signed("a", 0, MERGE_REQUEST)).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers().get(RETRY_AFTER).unwrap(), "5");
    assert_eq!(server.counts(), [("unstored", 1)]);
}

#[actix_web::test]
async fn only_post_is_allowed() {
    let server = Server::start().await;
    for method in [TestRequest::get(), TestRequest::put(), TestRequest::delete()] {
        let answer = server.answer(method.uri("/webhooks/gitlab")).await;
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(answer.headers().get(ALLOW).unwrap(), "POST");
    }
}

#[actix_web::test]
async fn secrets_can_be_changed_while_the_server_runs() {
    let server = Server::start().await;
    server.intake.reload(Secrets::new(vec![], vec![SecretString::from("new")]));
    assert_eq!(server.status(with_token("a", MERGE_REQUEST)).await, 401);
    let changed = with_token("a", MERGE_REQUEST).insert_header(("X-Gitlab-Token", "new"));
    assert_eq!(server.status(changed).await, 202);
}

#[tokio::test]
async fn a_body_that_never_ends_is_given_up() {
    let server = Server::start().await;
    tokio::time::pause();
    let request = TestRequest::default()
        .app_data(server.intake.clone())
        .insert_header(("X-Gitlab-Token", TOKEN))
        .to_http_request();
    let mut payload = Payload::Stream { payload: futures::stream::pending().boxed_local() };
    let rejection = VerifiedDelivery::from_request(&request, &mut payload).await.unwrap_err();
    assert_eq!(rejection.status_code(), StatusCode::REQUEST_TIMEOUT, "{rejection}");
    assert_eq!(server.counts(), [("interrupted", 1)]);
}
