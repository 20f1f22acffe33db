//! How webhooks are sent.

use super::world::{SIGNING, World};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::json;

async fn states(world: &World) -> Vec<String> {
    let deliveries = world.ask("", reqwest::Method::GET, "/sandbox/deliveries", None).await.json();
    deliveries.as_array().unwrap().iter().map(|one| one["status"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_delivery_carries_gitlabs_headers() {
    let world = World::new().await;
    world.commit("feature").await;
    let hook = world.hooks().await.pop().unwrap();
    assert_eq!(hook.header("X-Gitlab-Event"), "Push Hook");
    assert_eq!(hook.header("X-Gitlab-Token"), "hush");
    assert_eq!(hook.header("X-Gitlab-Instance"), world.url());
    assert_eq!(hook.header("User-Agent"), "GitLab/19.2.0-ee");
    assert_eq!(hook.header("webhook-id"), hook.header("Idempotency-Key"));
    assert!(!hook.header("webhook-timestamp").is_empty());
}

#[tokio::test]
async fn a_delivery_is_signed_over_id_time_and_body() {
    let world = World::new().await;
    world.commit("feature").await;
    let hook = world.hooks().await.pop().unwrap();
    let key = STANDARD.decode(SIGNING.strip_prefix("whsec_").unwrap()).unwrap();
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&key).unwrap();
    mac.update(
        format!("{}.{}.{}", hook.header("webhook-id"), hook.header("webhook-timestamp"), hook.raw).as_bytes(),
    );
    assert_eq!(
        hook.header("webhook-signature"),
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    );
}

#[tokio::test]
async fn a_failed_delivery_is_not_sent_again() {
    let world = World::new().await;
    world.received.answer([500]);
    world.commit("feature").await;
    assert_eq!(world.hooks().await.len(), 1);
}

#[tokio::test]
async fn the_fourth_failure_in_a_row_pauses_the_hook_and_drops_what_comes() {
    let world = World::new().await;
    world.received.answer([500, 401, 500, 500]);
    for branch in ["a", "b", "c", "d", "e"] {
        world.commit(branch).await;
        world.control("drain", json!({})).await;
    }
    assert_eq!(states(&world).await, ["sent", "sent", "sent", "sent", "dropped"]);
    let hook = world.get("hooks").await.expect(200)[0].clone();
    assert_eq!(hook["alert_status"], "temporarily_disabled");
    assert!(hook["disabled_until"].is_string());
    world.control("clock", json!({ "advance_seconds": 61 })).await;
    world.commit("f").await;
    assert_eq!(world.hooks().await.len(), 5);
    assert_eq!(world.get("hooks").await.expect(200)[0]["alert_status"], "executable");
}

#[tokio::test]
async fn a_good_answer_forgets_the_failures() {
    let world = World::new().await;
    world.received.answer([500, 500, 500, 302, 500]);
    for branch in ["a", "b", "c", "d", "e", "f"] {
        world.commit(branch).await;
        world.control("drain", json!({})).await;
    }
    assert!(states(&world).await.iter().all(|state| state == "sent"));
}

#[tokio::test]
async fn the_fortieth_failure_disables_for_good_until_a_test_succeeds() {
    let world = World::new().await;
    world.received.answer(std::iter::repeat_n(500, 40));
    for number in 0..41 {
        world.commit(&format!("b{number}")).await;
        world.control("drain", json!({})).await;
        world.control("clock", json!({ "advance_seconds": 86_400 })).await;
    }
    let hook = world.get("hooks").await.expect(200)[0].clone();
    assert_eq!(hook["alert_status"], "disabled");
    let test = format!("hooks/{}/test/push_events", hook["id"]);
    world.post(&test, json!({})).await.expect(201);
    assert_eq!(world.get("hooks").await.expect(200)[0]["alert_status"], "executable");
}

#[tokio::test]
async fn lost_deliveries_never_arrive_and_repeated_ones_keep_their_id() {
    let world = World::new().await;
    world.faults(json!({ "deliveries": { "lose": 1 } })).await;
    world.commit("a").await;
    assert!(world.hooks().await.is_empty());
    world.faults(json!({ "deliveries": { "repeat": 1 } })).await;
    world.commit("b").await;
    let hooks = world.hooks().await;
    assert_eq!(hooks.len(), 2);
    assert_eq!(hooks[0].header("webhook-id"), hooks[1].header("webhook-id"));
    assert_eq!(states(&world).await, ["lost", "sent", "sent"]);
}

#[tokio::test]
async fn shuffled_deliveries_all_arrive() {
    let world = World::new().await;
    world.faults(json!({ "deliveries": { "shuffle": true } })).await;
    for number in 0..8 {
        world.commit(&format!("b{number}")).await;
    }
    let mut refs: Vec<_> = world.hooks().await.iter().map(|hook| hook.body["ref"].to_string()).collect();
    refs.sort();
    assert_eq!(refs.len(), 8);
}

#[tokio::test]
async fn without_faults_deliveries_come_in_order() {
    let world = World::new().await;
    for number in 0..8 {
        world.commit(&format!("b{number}")).await;
    }
    let hooks = world.hooks().await;
    let refs: Vec<_> = hooks.iter().map(|hook| hook.body["ref"].as_str().unwrap()).collect();
    let expected: Vec<_> = (0..8).map(|number| format!("refs/heads/b{number}")).collect();
    assert_eq!(refs, expected);
}

#[tokio::test]
async fn an_event_is_resent_with_the_same_id() {
    let world = World::new().await;
    world.commit("feature").await;
    let first = world.hooks().await.pop().unwrap();
    let hook = world.get("hooks").await.expect(200)[0]["id"].clone();
    let events = world.get(&format!("hooks/{hook}/events")).await.expect(200);
    assert_eq!(events[0]["response_status"], "200");
    let path = format!("hooks/{hook}/events/{}/resend", events[0]["id"]);
    assert_eq!(world.post(&path, json!({})).await.expect(201), json!({ "response_status": 200 }));
    let again = world.hooks().await.pop().unwrap();
    assert_eq!((first.header("webhook-id"), &first.body), (again.header("webhook-id"), &again.body));
    world.put(&format!("hooks/{hook}"), json!({ "url": "http://127.0.0.1:9/" })).await.expect(200);
    world.post(&path, json!({})).await.expect(422);
}
