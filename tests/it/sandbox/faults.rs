//! Faults of the API, and the journal of calls.

use super::world::World;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test]
async fn a_fault_wears_out_and_hits_only_what_it_names() {
    let world = World::new().await;
    world.open().await;
    let fault = json!({ "method": "POST", "path": "*/notes", "times": 2, "kind": "status", "status": 502, "body": "html" });
    world.faults(json!({ "api": [fault] })).await;
    world.get("merge_requests/1/notes").await.expect(200);
    for status in [502, 502, 201] {
        assert_eq!(world.post("merge_requests/1/notes", json!({ "body": "x" })).await.status, status);
    }
    assert_eq!(world.get("merge_requests/1/notes").await.expect(200).as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_throttle_answers_plain_text_with_headers() {
    let world = World::new().await;
    world.faults(json!({ "api": [{ "kind": "status", "status": 429, "retry_after": 30 }] })).await;
    let answer = world.get("merge_requests").await;
    assert_eq!((answer.status, answer.text.as_str()), (429, "Retry later\n"));
    assert_eq!(answer.header("Retry-After"), "30");
    let reset: i64 = answer.header("RateLimit-Reset").parse().unwrap();
    assert!(reset > 1_700_000_000, "a moment, not seconds to wait");
}

#[tokio::test]
async fn an_application_limit_answers_json_without_headers() {
    let world = World::new().await;
    world.faults(json!({ "api": [{ "kind": "status", "status": 429 }] })).await;
    let answer = world.get("merge_requests").await;
    assert_eq!(answer.header("Retry-After"), "");
    assert!(answer.expect(429)["message"]["error"].is_string());
}

#[tokio::test]
async fn a_web_page_or_an_empty_list_can_come_instead() {
    let world = World::new().await;
    world.open().await;
    world
        .faults(
            json!({ "api": [{ "kind": "html", "times": 1 }, { "kind": "status", "body": "empty_list" }] }),
        )
        .await;
    assert!(world.get("merge_requests").await.text.starts_with("<!DOCTYPE html>"));
    assert_eq!(world.get("merge_requests").await.expect(200), json!([]));
    world.ask("", Method::DELETE, "/sandbox/faults", None).await.expect(204);
    assert_eq!(world.get("merge_requests").await.expect(200).as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_call_can_hang() {
    let world = World::new().await;
    world.faults(json!({ "api": [{ "kind": "hang", "times": 1 }] })).await;
    let hanging = world.get("merge_requests");
    assert!(tokio::time::timeout(Duration::from_millis(100), hanging).await.is_err());
    world.get("merge_requests").await.expect(200);
}

#[tokio::test]
async fn a_call_can_take_effect_while_its_answer_is_lost() {
    let world = World::new().await;
    world.open().await;
    world.faults(json!({ "api": [{ "method": "POST", "kind": "status", "status": 504, "after": true, "times": 1 }] })).await;
    world.post("merge_requests/1/notes", json!({ "body": "once" })).await.expect(504);
    assert_eq!(world.get("merge_requests/1/notes").await.expect(200)[0]["body"], "once");
}

#[tokio::test]
async fn a_fault_that_makes_no_sense_is_refused() {
    let world = World::new().await;
    for faults in [
        json!({ "api": [{ "kind": "odd" }] }),
        json!({ "surprise": 1 }),
        json!({ "api": [{ "kind": "status", "path": "[" }] }),
    ] {
        world.ask("", Method::PUT, "/sandbox/faults", Some(faults)).await.expect(400);
    }
}

#[tokio::test]
async fn the_journal_tells_who_asked_what() {
    let world = World::new().await;
    world.get("merge_requests?state=opened").await.expect(200);
    world.ask("nobody", Method::GET, "/api/v4/user", None).await.expect(401);
    let calls = world.ask("", Method::GET, "/sandbox/calls", None).await.json();
    assert_eq!(calls[0]["path"], "/api/v4/projects/acme%2Fweb/merge_requests?state=opened");
    assert!(calls[0]["user"].as_str().unwrap().starts_with("project_42_bot_"));
    assert_eq!((&calls[1]["status"], &calls[1]["user"]), (&json!(401), &Value::Null));
    let later = world.ask("", Method::GET, "/sandbox/calls?skip=1", None).await.json();
    assert_eq!(later, json!([calls[1]]));
    assert_eq!(world.ask("", Method::GET, "/sandbox/calls?skip=9", None).await.json(), json!([]));
    world.ask("", Method::DELETE, "/sandbox/calls", None).await.expect(204);
    assert_eq!(world.ask("", Method::GET, "/sandbox/calls", None).await.json(), json!([]));
}
