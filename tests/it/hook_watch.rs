//! `serve` watches its webhooks: switched off ones are switched on, lost deliveries are sent again, and once.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{PATIENCE, gitlab::SIGNING_TOKEN, until, wire::Wire, world::World};

/// A world with a Maintainer's token, in which nothing failed yet and nobody watches.
async fn maintained(settings: &[(&str, &str)]) -> World {
    let world = World::start_with(settings).await;
    world.gitlab.promote_bot(40).await;
    // The project was made before greenroom was there to hear of it.
    world.gitlab.drain().await;
    world.gitlab.forget_deliveries().await;
    world
}

/// From now on greenroom watches its webhooks all the time.
async fn watches(world: &mut World) {
    world.greenroom.set("GREENROOM_WATCH_WEBHOOKS", "1s");
    world.greenroom.restart().await;
}

/// How often each delivery was answered with 2xx, by its id.
async fn answered(world: &World) -> BTreeMap<String, usize> {
    let mut times = BTreeMap::new();
    for delivery in world.gitlab.deliveries().await {
        let good = delivery["response_code"].as_u64().is_some_and(|code| (200..300).contains(&code));
        *times.entry(delivery["id"].as_str().unwrap().to_owned()).or_default() += usize::from(good);
    }
    times
}

async fn warnings(world: &World) -> Vec<Value> {
    let health: Value = world.greenroom.get("/api/v1/health").await.json().await.unwrap();
    health["warnings"].as_array().unwrap().clone()
}

/// Waits until exactly these warnings stand.
async fn warns_of(world: &World, codes: &[&str]) -> Vec<Value> {
    until(&format!("the warnings are {codes:?}"), PATIENCE, || async {
        let standing = warnings(world).await;
        if standing.iter().map(|warning| &warning["code"]).eq(codes) { Ok(standing) } else { Err(standing) }
    })
    .await
}

/// Waits for so many more rounds of the watch.
async fn rounds(world: &World, more: usize) {
    let wanted = world.wire.count("GET", "*/hooks") + more;
    until("it has looked again", PATIENCE, || async {
        (world.wire.count("GET", "*/hooks") >= wanted).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_was_lost_while_greenroom_was_down_comes_once() {
    let mut world = maintained(&[]).await;
    let mr = world.gitlab.open_mr("feature", "first").await;
    world.rests().await;
    assert!(answered(&world).await.values().all(|times| *times == 1));

    world.greenroom.kill9();
    // Three failures: the fourth would pause the webhook, and what comes then GitLab does not keep.
    for label in ["a", "b", "c"] {
        world.gitlab.edit(mr, json!({ "add_labels": label })).await;
        world.gitlab.drain().await;
    }
    let lost: Vec<_> = answered(&world).await.into_iter().filter(|(_, good)| *good == 0).collect();
    assert_eq!(lost.len(), 3, "{lost:?}");

    watches(&mut world).await;
    until("all of them have come", PATIENCE, || async {
        let answered = answered(&world).await;
        if answered.values().all(|times| *times > 0) { Ok(()) } else { Err(answered) }
    })
    .await;
    rounds(&world, 3).await;
    world.rests().await;
    let answered = answered(&world).await;
    assert!(answered.values().all(|times| *times == 1), "each once: {answered:?}");
    assert_eq!(world.wire.count("POST", "*/resend"), 3);
    let sent = "a lost delivery was sent again";
    assert_eq!(world.greenroom.logs(sent, 3).await.matches(sent).count(), 3);
    world.ends_well().await;
}

#[tokio::test]
async fn what_came_though_gitlab_saw_no_answer_is_not_sent_again() {
    let mut world = maintained(&[]).await;
    let to_us = Wire::to(&world.greenroom.url()).await;
    let url = format!("{}webhooks/gitlab", to_us.url());
    let hook = world.gitlab.hooks().await.remove(0);
    world.gitlab.edit_hook(&hook, json!({ "url": url, "signing_token": SIGNING_TOKEN })).await;
    world.greenroom.set("GREENROOM_WEBHOOK_URL", &url);
    watches(&mut world).await;
    to_us.on("POST", "*/webhooks/gitlab").lose();
    world.gitlab.open_mr("feature", "first").await;
    world.rests().await;
    let failed = |delivery: &Value| delivery["status"] == "failed";
    assert_eq!(world.gitlab.deliveries().await.iter().filter(|delivery| failed(delivery)).count(), 1);
    rounds(&world, 3).await;
    let asked = world.wire.count("GET", "*/events");
    assert!(asked >= 2, "it looked at the history {asked} times");
    assert_eq!(world.wire.count("POST", "*/resend"), 0);
    world.ends_well().await;
}

#[tokio::test]
async fn a_delivery_that_fails_again_and_again_is_given_up() {
    let mut world = maintained(&[]).await;
    let mr = world.gitlab.open_mr("feature", "first").await;
    world.rests().await;
    let hook = world.gitlab.hooks().await.remove(0);
    let nobodys = "whsec_bm9ib2R5bm9ib2R5bm9ib2R5bm9ib2R5bm9ib2R5ISE=";
    world.gitlab.edit_hook(&hook, json!({ "signing_token": nobodys })).await;
    world.gitlab.edit(mr, json!({ "add_labels": "a" })).await;
    world.gitlab.drain().await;
    watches(&mut world).await;
    until("it was tried twice more", PATIENCE, || async {
        let tries = world.wire.count("POST", "*/resend");
        if tries >= 2 { Ok(()) } else { Err(tries) }
    })
    .await;
    rounds(&world, 3).await;
    assert_eq!(world.wire.count("POST", "*/resend"), 2);
    world.ends_well().await;
}

#[tokio::test]
async fn a_webhook_that_was_switched_off_after_4xx_is_brought_back() {
    let settings = [("GREENROOM_WEBHOOK_SECRET_TOKEN", "another"), ("GREENROOM_PROJECTS", "acme/web")];
    let mut world = maintained(&settings).await;
    // Before 17.11 four of them were enough for ever; such a GitLab does not sign.
    world.gitlab.control("instance", json!({ "version": "17.10.0-ee" })).await;
    let hook = world.gitlab.hooks().await.remove(0);
    world.gitlab.edit_hook(&hook, json!({ "token": "hush" })).await;
    let mr = world.gitlab.open_mr("feature", "unheard").await;
    for label in ["a", "b", "c"] {
        world.gitlab.edit(mr, json!({ "add_labels": label })).await;
        world.gitlab.drain().await;
    }
    assert_eq!(world.gitlab.hooks().await[0]["alert_status"], "disabled");
    assert!(world.preview(mr).await.is_none());

    // Still with the wrong token, but watching.
    watches(&mut world).await;
    let text = until("it warns", PATIENCE, || async {
        let standing = warnings(&world).await;
        standing.into_iter().find(|warning| warning["code"] == "webhook_disabled")
    })
    .await["text"]
        .to_string();
    assert!(text.contains("GitLab has switched off the webhook of `acme/web`"), "{text}");
    assert!(text.contains("a test event says: `the token is not known here"), "{text}");

    // GitLab allows five tests a minute.
    world.gitlab.control("clock", json!({ "advance_seconds": 60 })).await;
    world.greenroom.set("GREENROOM_WEBHOOK_SECRET_TOKEN", "hush");
    world.greenroom.restart().await;
    until("the webhook works again", PATIENCE, || async {
        let hook = world.gitlab.hooks().await.remove(0);
        if hook["alert_status"] == "executable" { Ok(()) } else { Err(hook) }
    })
    .await;
    warns_of(&world, &[]).await;
    world.gitlab.push("feature", &[("README.md", "heard")]).await;
    world.build(mr, "heard").await;
    world.becomes(mr, "ready").await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_developer_is_warned_once_and_nothing_else_is_tried() {
    let mut world = World::start().await;
    watches(&mut world).await;
    world.gitlab.control("projects", json!({ "path": "acme/api", "bot": 30 })).await;
    world.ready_mr("feature", "as before").await;
    let standing = warns_of(&world, &["webhooks_hidden"]).await;
    assert!(standing[0]["text"].as_str().unwrap().contains("`acme/web`"), "{standing:#?}");
    rounds(&world, 3).await;
    let told = "webhooks cannot be watched";
    assert_eq!(world.greenroom.logs(told, 1).await.matches(told).count(), 1);
    assert_eq!(world.wire.count("POST", "*/hooks/*"), 0);

    world.gitlab.promote_bot(40).await;
    warns_of(&world, &[]).await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_webhook_that_tells_too_little_is_warned_of() {
    let mut world = maintained(&[]).await;
    watches(&mut world).await;
    world.gitlab.open_mr("feature", "first").await;
    let hook = world.gitlab.hooks().await.remove(0);
    world.gitlab.edit_hook(&hook, json!({ "job_events": false })).await;
    world.gitlab.create_hook(json!({ "url": "https://chat.example.com/hook" })).await;
    let standing = warns_of(&world, &["webhook_events"]).await;
    assert_eq!(standing[0]["text"], "the webhook of `acme/web` does not tell of job_events");
    assert_eq!(standing[0]["remedy"], "run `greenroom connect acme/web`, or tick them on the webhook's page");
    let (code, told) = world.greenroom.ask(&["connect", "acme/web"], &[]).await;
    assert_eq!(code, 0, "{told}");
    warns_of(&world, &[]).await;
    world.ends_well().await;
}
