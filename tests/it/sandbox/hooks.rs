//! Webhook management.

use super::world::World;
use serde_json::{Value, json};

#[tokio::test]
async fn tokens_are_never_returned_only_that_they_are_there() {
    let world = World::new().await;
    let body = json!({ "url": "https://example.com/hook", "token": "t", "signing_token": "whsec_x", "note_events": true });
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
