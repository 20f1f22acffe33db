//! Previews whose lifetime ends.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{PATIENCE, until, world::World};

const EXPIRING: &str = "version: 1\nengine: static\nstatic: {job: build, path: dist}\nexpires_after: 1h\n";

#[tokio::test]
async fn a_lifetime_that_ended_under_a_broken_file_ends_the_preview_once() {
    let world = World::start().await;
    world.gitlab.push("feature", &[(".greenroom.yml", EXPIRING)]).await;
    let mr = world.ready_mr("feature", "one").await;
    world.gitlab.push("feature", &[(".greenroom.yml", "version: 3\n")]).await;
    world.becomes(mr, "failed").await;
    world.rests().await;
    world.greenroom.kill9();
    remember(&world, mr, |it| it["expires_at"] = 1_000_000.into()).await;
    world.greenroom.restart().await;
    until("its end is told", PATIENCE, || async {
        let history = world.preview(mr).await.unwrap()["history"].to_string();
        if history.contains("its lifetime ended at 1970-01-01T00:16:40Z") { Ok(()) } else { Err(history) }
    })
    .await;
    assert_ne!(world.visit(mr, "/").await.0, 200);
    calls_little(&world).await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_new_file_without_a_lifetime_lets_the_last_good_one_live() {
    let world = World::start().await;
    world.gitlab.push("feature", &[(".greenroom.yml", EXPIRING)]).await;
    let mr = world.ready_mr("feature", "one").await;
    let file = EXPIRING.replace("expires_after: 1h\n", "");
    world.gitlab.push("feature", &[(".greenroom.yml", &file)]).await;
    world.becomes(mr, "waiting").await;
    world.rests().await;
    world.greenroom.kill9();
    remember(&world, mr, |it| it["expires_at"] = 1_000_000.into()).await;
    world.greenroom.restart().await;
    calls_little(&world).await;
    world.shows(mr, "one").await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_reopen_brings_back_what_had_expired() {
    let world = World::start().await;
    world.gitlab.push("feature", &[(".greenroom.yml", EXPIRING)]).await;
    let mr = world.ready_mr("feature", "one").await;
    world.rests().await;
    world.greenroom.kill9();
    world.greenroom.age(mr, Duration::from_hours(2)).await;
    world.greenroom.restart().await;
    world.becomes(mr, "stopped").await;
    world.rests().await;
    // Of the close nobody hears.
    world.gitlab.fault(json!({ "deliveries": { "lose": 1 } })).await;
    world.gitlab.close(mr).await;
    world.gitlab.reopen(mr).await;
    world.becomes(mr, "ready").await;
    world.shows(mr, "one").await;
    world.ends_well().await;
}

/// Changes what greenroom remembers of the merge request, while it does not run.
async fn remember(world: &World, iid: u64, change: impl FnOnce(&mut Value)) {
    sqlx::any::install_default_drivers();
    let url = format!("sqlite://{}", world.greenroom.data().join("greenroom.db").display());
    let pool = sqlx::AnyPool::connect(&url).await.unwrap();
    let iid = i64::try_from(iid).unwrap();
    let document: String = sqlx::query_scalar("SELECT document FROM previews WHERE mr_iid = $1")
        .bind(iid)
        .fetch_one(&pool)
        .await
        .unwrap();
    let mut document: Value = serde_json::from_str(&document).unwrap();
    change(&mut document);
    sqlx::query("UPDATE previews SET document = $1 WHERE mr_iid = $2")
        .bind(document.to_string())
        .bind(iid)
        .execute(&pool)
        .await
        .unwrap();
    pool.close().await;
}

/// Once it is through with what a start brings, it does not go on asking GitLab.
async fn calls_little(world: &World) {
    tokio::time::sleep(Duration::from_secs(2)).await;
    world.rests().await;
    let before = world.wire.calls().len();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let calls = world.wire.calls().len() - before;
    assert!(calls < 20, "{calls} calls in two seconds");
}
