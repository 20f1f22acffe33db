//! Webhook management.

use super::world::{SIGNING, World};
use serde_json::{Value, json};

#[tokio::test]
async fn tokens_are_never_returned_only_that_they_are_there() {
    let world = World::new().await;
    let body = json!({ "url": "https://example.com/hook", "token": "t", "signing_token": SIGNING, "note_events": true });
    let hook = world.post("hooks", body).await.expect(201);
    assert_eq!((&hook["token_present"], &hook["signing_token_present"]), (&json!(true), &json!(true)));
    assert!(hook.get("token").is_none() && hook.get("signing_token").is_none());
    let flags = ["push_events", "note_events", "merge_requests_events"].map(|flag| hook[flag].clone());
    assert_eq!(flags, [json!(true), json!(true), json!(false)]);
    assert_eq!((&hook["alert_status"], &hook["disabled_until"]), (&json!("executable"), &Value::Null));
}

#[tokio::test]
async fn changing_the_url_clears_the_secret_token_unless_it_is_set_again() {
    let world = World::new().await;
    let id =
        world.post("hooks", json!({ "url": "https://a.example.com", "token": "t" })).await.expect(201)["id"]
            .clone();
    let path = format!("hooks/{id}");
    let present = async |body: Value| world.put(&path, body).await.expect(200)["token_present"].clone();
    assert_eq!(present(json!({ "url": "https://a.example.com" })).await, true);
    assert_eq!(present(json!({ "url": "https://b.example.com", "token": "t" })).await, true);
    assert_eq!(present(json!({ "url": "https://c.example.com" })).await, false);
    world.put(&path, json!({ "note_events": true })).await.expect(400);
    world.delete(&path).await.expect(204);
    world.get(&path).await.expect(404);
}

#[tokio::test]
async fn a_test_needs_real_data_of_its_kind() {
    let world = World::new().await;
    let hook = world.get("hooks").await.expect(200)[0]["id"].clone();
    let test =
        async |trigger: &str| world.post(&format!("hooks/{hook}/test/{trigger}"), json!({})).await.status;
    assert_eq!(test("merge_requests_events").await, 422);
    world.open().await;
    world.hooks().await;
    assert_eq!(test("merge_requests_events").await, 201);
    assert_eq!(world.hooks().await.len(), 1);
    assert_eq!(test("deployment_events").await, 400);
}

#[tokio::test]
async fn a_hook_gets_only_what_it_asked_for() {
    let world = World::new().await;
    let id = world.get("hooks").await.expect(200)[0]["id"].clone();
    let body = json!({ "url": world.received.url, "push_events": false });
    world.put(&format!("hooks/{id}"), body).await.expect(200);
    world.open().await;
    let kinds: Vec<_> = world.hooks().await.iter().map(|hook| hook.body["object_kind"].clone()).collect();
    assert_eq!(kinds, ["merge_request"]);
}

#[tokio::test]
async fn before_19_0_a_signing_token_is_taken_and_ignored() {
    let world = World::new().await;
    world.control("instance", json!({ "version": "18.11.2-ee" })).await;
    let body =
        json!({ "url": world.received.url, "push_events": true, "signing_token": SIGNING, "token": "t" });
    let hook = world.post("hooks", body).await.expect(201);
    assert_eq!((&hook["token_present"], hook.get("signing_token_present")), (&json!(true), None));
    world.commit("feature").await;
    for hook in world.hooks().await {
        assert_eq!([hook.header("webhook-signature"), hook.header("webhook-id")], ["", ""]);
        assert_eq!(hook.header("User-Agent"), "GitLab/18.11.2-ee");
        assert!(!hook.header("Idempotency-Key").is_empty());
    }
}

#[tokio::test]
async fn before_17_11_the_fourth_4xx_disables_for_good() {
    let world = World::new().await;
    world.control("instance", json!({ "version": "17.10.0-ee" })).await;
    world.received.answer([401, 401, 500, 401]);
    for branch in ["a", "b", "c", "d"] {
        world.commit(branch).await;
        world.hooks().await;
    }
    let hook = world.get("hooks").await.expect(200)[0].clone();
    assert_eq!(hook["alert_status"], "disabled");
    world.control("clock", json!({ "advance_seconds": 90_000 })).await;
    world.commit("e").await;
    assert!(world.hooks().await.is_empty(), "time does not mend it");
    world.post(&format!("hooks/{}/test/push_events", hook["id"]), json!({})).await.expect(201);
    assert_eq!(world.get("hooks").await.expect(200)[0]["alert_status"], "executable");
}

#[tokio::test]
async fn a_test_that_is_not_answered_with_2xx_is_422_with_the_answers_own_words() {
    let world = World::new().await;
    let hook = world.get("hooks").await.expect(200)[0].clone();
    let test = format!("hooks/{}/test/push_events", hook["id"]);
    for status in [302, 401, 500] {
        world.received.answer([status]);
        assert_eq!(world.post(&test, json!({})).await.expect(422), json!({ "message": "" }), "{status}");
    }
    world.put(&format!("hooks/{}", hook["id"]), json!({ "url": "http://127.0.0.1:9/" })).await.expect(200);
    let refused = world.post(&test, json!({})).await.expect(422);
    assert!(!refused["message"].as_str().unwrap().is_empty(), "{refused}");
}

#[tokio::test]
async fn a_sixth_test_or_resend_within_a_minute_is_429_without_headers() {
    let world = World::new().await;
    world.commit("feature").await;
    world.hooks().await;
    let hook = world.get("hooks").await.expect(200)[0]["id"].clone();
    let event = world.get(&format!("hooks/{hook}/events")).await.expect(200)[0]["id"].clone();
    for path in [format!("hooks/{hook}/test/push_events"), format!("hooks/{hook}/events/{event}/resend")] {
        // A minute may end in between, once.
        let statuses = async || {
            let mut statuses = Vec::new();
            for _ in 0..11 {
                statuses.push(world.post(&path, json!({})).await.status);
            }
            statuses
        };
        assert!(statuses().await.contains(&429), "{path}");
        let refused = world.post(&path, json!({})).await;
        if refused.status == 429 {
            assert_eq!(refused.header("Retry-After"), "");
        }
        world.control("clock", json!({ "advance_seconds": 60 })).await;
        assert_eq!(world.post(&path, json!({})).await.status, 201);
    }
}

#[tokio::test]
async fn events_are_listed_by_twenty_and_by_how_they_went() {
    let world = World::new().await;
    world.received.answer([200, 302, 404, 503]);
    for branch in ["a", "b", "c", "d"] {
        world.commit(branch).await;
        world.hooks().await;
    }
    let hook = world.get("hooks").await.expect(200)[0].clone();
    world.put(&format!("hooks/{}", hook["id"]), json!({ "url": "http://127.0.0.1:9/" })).await.expect(200);
    world.commit("e").await;
    world.hooks().await;
    let events = format!("hooks/{}/events", hook["id"]);
    let statuses = async |query: &str| {
        let list = world.get(&format!("{events}{query}")).await.expect(200);
        let status = |event: &Value| event["response_status"].as_str().unwrap().to_owned();
        list.as_array().unwrap().iter().map(status).collect::<Vec<_>>()
    };
    assert_eq!(statuses("").await, ["internal error", "503", "404", "302", "200"]);
    assert_eq!(statuses("?status=successful").await, ["200"]);
    assert_eq!(statuses("?status=client_failure,server_failure").await, ["internal error", "503", "404"]);
    assert_eq!(statuses("?status=404").await, ["404"]);
    world.get(&format!("{events}?per_page=21")).await.expect(400);
    let headers = &world.get(&events).await.expect(200)[4]["request_headers"];
    assert_eq!(headers["X-Gitlab-Token"], "[REDACTED]");
    assert!(headers["Idempotency-Key"].is_string());
}
