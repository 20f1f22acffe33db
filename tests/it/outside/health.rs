//! What an operator is warned of, and when that ends.

use std::time::Duration;

use actix_web::web::Data;
use greenroom::{
    clock::Clock,
    preview::{PreviewKey, WorkKey},
    store,
    telemetry::Health,
    webhook::{Intake, Secrets, watch},
};
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{alone, metric};
use crate::support::{
    PATIENCE, courier::Delivery, database::Database, greenroom::Greenroom, until, world::World,
};

async fn health(greenroom: &Greenroom) -> Value {
    let answer = greenroom.get("/api/v1/health").await;
    assert_eq!(answer.headers()[CONTENT_TYPE], "application/json");
    answer.json().await.unwrap()
}

/// What there is to warn of, besides a GitLab that is not there in these tests.
fn warnings(health: &Value) -> Vec<&Value> {
    let all = health["warnings"].as_array().unwrap().iter();
    all.filter(|warning| warning["code"] != "gitlab_unavailable").collect()
}

/// Waits until the warnings that stand are these.
async fn warns_of(greenroom: &Greenroom, codes: &[&str]) -> Value {
    until(&format!("the warnings are {codes:?}"), PATIENCE, || async {
        let health = health(greenroom).await;
        let standing: Vec<_> =
            warnings(&health).into_iter().map(|warning| warning["code"].as_str().unwrap()).collect();
        if standing == codes { Ok(health.clone()) } else { Err(health.clone()) }
    })
    .await
}

#[tokio::test]
async fn without_anything_wrong_all_is_well() {
    let world = World::start().await;
    until("the first answer of GitLab has come in", PATIENCE, || async {
        let health = health(&world.greenroom).await;
        if health == json!({ "status": "ok", "warnings": [] }) { Ok(()) } else { Err(health) }
    })
    .await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_gitlab_that_is_not_there_is_a_warning() {
    let greenroom = alone(&[]).await;
    until("it is told", PATIENCE, || async {
        let health = health(&greenroom).await;
        if health["warnings"][0]["code"] == "gitlab_unavailable" { Ok(()) } else { Err(health) }
    })
    .await;
}

#[tokio::test]
async fn an_odd_setting_is_a_warning() {
    let greenroom =
        alone(&[("GREENROOM_COLOUR", "green"), ("GREENROOM_PUBLIC_URL", "http://greenroom.example")]).await;
    let health = warns_of(&greenroom, &["settings"]).await;
    let warning = warnings(&health)[0];
    assert_eq!(health["status"], "warning");
    assert!(warning["text"].as_str().unwrap().contains("GREENROOM_COLOUR"), "{health}");
    assert!(warning["since"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{health}");
    assert!(!warning["remedy"].as_str().unwrap().is_empty(), "{health}");
    assert_eq!(metric(&greenroom, "greenroom_warnings{code=\"settings\"}").await, 1);
    let told = "GREENROOM_COLOUR is no setting";
    let log = greenroom.logs(told, 1).await;
    assert_eq!(log.matches(told).count(), 1, "{log}");
}

#[tokio::test]
async fn hooks_that_do_what_they_should_not_are_warnings() {
    let greenroom = alone(&[
        ("GREENROOM_RESYNC_INTERVAL", "1s"),
        ("GREENROOM_PROJECTS", "acme/other"),
        ("GREENROOM_PUBLIC_URL", "http://greenroom.example"),
    ])
    .await;
    assert_eq!(Delivery::about(1).deliver(&greenroom).await, 200);
    let health = warns_of(&greenroom, &["deliveries_foreign"]).await;
    assert!(warnings(&health)[0]["text"].as_str().unwrap().contains("`acme/web`"), "{health}");

    assert_eq!(Delivery::saying("no JSON").deliver(&greenroom).await, 200);
    warns_of(&greenroom, &["deliveries_foreign", "deliveries_unreadable"]).await;

    assert_eq!(Delivery::about(1).with_token("guessed").deliver(&greenroom).await, 401);
    warns_of(&greenroom, &["deliveries_foreign", "deliveries_refused", "deliveries_unreadable"]).await;
    let told = "webhooks came of projects that are not served";
    assert_eq!(greenroom.logs(told, 1).await.matches(told).count(), 1);
}

#[tokio::test]
async fn who_knocks_without_being_gitlab_is_no_warning() {
    let greenroom =
        alone(&[("GREENROOM_RESYNC_INTERVAL", "1s"), ("GREENROOM_PUBLIC_URL", "http://greenroom.example")])
            .await;
    let knock = greenroom.post("/webhooks/gitlab").body("hello").send().await.unwrap();
    assert_eq!(knock.status(), 401);
    // Judged in order: once the later one is told, the earlier one would be.
    assert_eq!(Delivery::saying("no JSON").deliver(&greenroom).await, 200);
    warns_of(&greenroom, &["deliveries_unreadable"]).await;
}

#[tokio::test]
async fn a_hook_that_fell_silent_is_a_warning_until_it_speaks() {
    Database::sqlite(async |database: &Database| {
        let store = database.open().await;
        let health = Health::new(|| Clock.now());
        let secrets = Secrets::new(Vec::new(), Vec::new());
        let intake = Data::new(Intake::new(secrets, Box::new(|_| true), store.clone(), Clock));
        let stop = CancellationToken::new();
        let (every, grace) = (Duration::from_millis(10), Duration::ZERO);
        let watched = tokio::spawn(watch(intake, health.clone(), every, grace, stop.clone()));
        let warnings =
            || health.standing().into_iter().map(|standing| standing.warning.code).collect::<Vec<_>>();

        health.webhooks.resync_found_changes(42, "acme/web", Clock.now() - 1);
        until("the silence is told", PATIENCE, || async {
            let warnings = warnings();
            if warnings == ["webhook_silent"] { Ok(()) } else { Err(warnings) }
        })
        .await;
        let delivery = store::Delivery {
            id: "1".to_owned(),
            event: "Push Hook".to_owned(),
            outcome: "look",
            project: Some((42, "acme/web".to_owned())),
            work: Some(WorkKey::Preview(PreviewKey::of_mr(42, 7))),
            reopened: false,
            at: Clock.now(),
        };
        store.accept(delivery).await.unwrap();
        until("the silence is over", PATIENCE, || async {
            let warnings = warnings();
            if warnings.is_empty() { Ok(()) } else { Err(warnings) }
        })
        .await;
        stop.cancel();
        watched.await.unwrap();
    })
    .await;
}
