//! What once went wrong, each as a conversation.

use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{
    until,
    world::{World, page},
};

const PATIENCE: Duration = Duration::from_secs(20);
const EXPIRING: &str = "version: 1\nengine: static\nstatic: {job: build, path: dist}\nexpires_after: 1h\n";

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

/// The pipeline as the CI include makes it: a job names the environment, so GitLab stops it when the merge request ends.
async fn build_with_environment(world: &World, mr: u64, text: &str) {
    let jobs = json!([
        {
            "name": "view", "status": "success",
            "environment": { "name": format!("review/mr-{mr}"), "action": "prepare" },
        },
        { "name": "build", "status": "success", "artifact": { "files": { "dist/index.html": page(text) } } },
    ]);
    world.gitlab.act("pipelines", json!({ "mr_iid": mr, "jobs": jobs })).await;
}

#[tokio::test]
async fn closed_and_reopened_at_once_it_stays() {
    let world = World::start_with(&[("GREENROOM_RESYNC_INTERVAL", "1s")]).await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    build_with_environment(&world, mr, "one").await;
    world.becomes(mr, "ready").await;
    world.rests().await;
    // GitLab is not reached in between; it stops the environment at the close itself.
    world.gitlab.fault(json!({ "deliveries": { "lose": 1 } })).await;
    world.wire.cut();
    world.gitlab.close(mr).await;
    world.gitlab.reopen(mr).await;
    world.gitlab.drain().await;
    world.wire.heal();
    world.rests().await;
    for _ in 0..3 {
        world.becomes(mr, "ready").await;
        world.shows(mr, "one").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let environments = world.gitlab.environments().await;
    assert_eq!(environments[0]["state"], "available", "{environments:#?}");
    world.ends_well().await;
}

#[tokio::test]
async fn reopened_before_its_environment_was_deleted_it_comes_back() {
    let world = World::start_with(&[("GREENROOM_RESYNC_INTERVAL", "1s")]).await;
    let mr = world.ready_mr("feature", "one").await;
    world.rests().await;
    world.wire.on("DELETE", "*/environments/*").always().answer(500, &[], "");
    world.gitlab.close(mr).await;
    until("the environment is stopped", PATIENCE, || async {
        (world.wire.count("DELETE", "*/environments/*") > 0).then_some(())
    })
    .await;
    world.gitlab.reopen(mr).await;
    world.wire.heal();
    world.becomes(mr, "ready").await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    world.becomes(mr, "ready").await;
    world.shows(mr, "one").await;
    let environments = world.gitlab.environments().await;
    assert_eq!(environments[0]["state"], "available", "{environments:#?}");
    world.ends_well().await;
}

#[tokio::test]
async fn without_the_right_to_environments_it_is_served_and_taken_away_all_the_same() {
    let world = World::start().await;
    world.wire.on("*", "*/environments*").always().answer(403, &[], r#"{"message":"403 Forbidden"}"#);
    world.wire.on("*", "*/deployments*").always().answer(403, &[], r#"{"message":"403 Forbidden"}"#);
    let mr = world.ready_mr("feature", "one").await;
    world.shows(mr, "one").await;
    world.gitlab.push("feature", &[("a", "2")]).await;
    world.build(mr, "two").await;
    world.becomes(mr, "ready").await;
    world.shows(mr, "two").await;
    world.gitlab.close(mr).await;
    world.becomes(mr, "stopped").await;
    world.is_gone(mr).await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_right_to_environments_that_is_lost_holds_up_neither_a_push_nor_the_end() {
    let world = World::start().await;
    let mr = world.ready_mr("feature", "one").await;
    world.rests().await;
    world.wire.on("*", "*/environments*").always().answer(403, &[], r#"{"message":"403 Forbidden"}"#);
    world.wire.on("*", "*/deployments*").always().answer(403, &[], r#"{"message":"403 Forbidden"}"#);
    world.gitlab.push("feature", &[("a", "2")]).await;
    world.build(mr, "two").await;
    world.becomes(mr, "ready").await;
    world.shows(mr, "two").await;
    world.gitlab.close(mr).await;
    let stopping = world.becomes(mr, "stopping").await;
    assert!(stopping["reason"].as_str().unwrap().contains("environment"), "{stopping}");
    assert_eq!(world.visit(mr, "/").await.0, 410);
    // Given back, the rest goes too.
    world.wire.heal();
    world.gitlab.edit(mr, json!({ "labels": "a look" })).await;
    world.becomes(mr, "stopped").await;
    world.is_gone(mr).await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_ref_that_gitlab_does_not_know_holds_up_no_deploy() {
    let world = World::start().await;
    world.wire.on("POST", "*/deployments").always().answer(
        400,
        &[],
        r#"{"message":"400 Bad request - The branch or tag does not exist"}"#,
    );
    let mr = world.ready_mr("feature", "one").await;
    world.shows(mr, "one").await;
    world.ends_well().await;
}

#[tokio::test]
async fn what_cannot_be_removed_is_told_once() {
    let world = World::start_with(&[("GREENROOM_RESYNC_INTERVAL", "1s")]).await;
    let mr = world.ready_mr("feature", "one").await;
    world.rests().await;
    let environment = world.gitlab.environments().await.remove(0);
    let body = environment.to_string();
    world.wire.on("POST", "*/environments/*/stop").always().answer(
        200,
        &[("content-type", "application/json")],
        &body,
    );
    world.gitlab.close(mr).await;
    world.becomes(mr, "stopping").await;
    let looks = world.wire.count("POST", "*/environments/*/stop");
    until("it is tried again and again", PATIENCE, || async {
        (world.wire.count("POST", "*/environments/*/stop") > looks + 4).then_some(())
    })
    .await;
    let history = world.preview(mr).await.unwrap()["history"].as_array().unwrap().clone();
    let stopping = history.iter().filter(|line| line["state"] == "stopping").count();
    assert!(stopping <= 2, "{history:#?}");
    world.wire.heal();
    world.becomes(mr, "stopped").await;
    world.ends_well().await;
}

#[tokio::test]
async fn stopped_by_hand_it_stops_although_the_file_is_broken() {
    let world = World::start().await;
    let mr = world.ready_mr("feature", "one").await;
    world.gitlab.push("feature", &[(".greenroom.yml", "version: 3\n")]).await;
    world.becomes(mr, "failed").await;
    world.shows(mr, "one").await;
    world.rests().await;
    world.gitlab.stop_environment(mr).await;
    world.gitlab.edit(mr, json!({ "labels": "a look" })).await;
    world.becomes(mr, "stopped").await;
    world.is_gone(mr).await;
    world.ends_well().await;
}

#[tokio::test]
async fn with_the_token_of_another_bot_there_is_a_new_comment() {
    let world = World::start().await;
    let mr = world.ready_mr("feature", "one").await;
    world.rests().await;
    let old = world.gitlab.bot_notes(mr).await[0]["id"].as_u64().unwrap();
    // The old bot's comment may be read, but not edited.
    let theirs = format!("*/notes/{old}");
    world.wire.on("PUT", &theirs).always().answer(403, &[], r#"{"message":"403 Forbidden"}"#);
    world.wire.on("GET", "*/notes").always().answer(200, &[("content-type", "application/json")], "[]");
    world.gitlab.close(mr).await;
    world.gitlab.reopen(mr).await;
    world.gitlab.push("feature", &[("a", "2")]).await;
    world.build(mr, "two").await;
    until("a comment of the new bot says ready", PATIENCE, || async {
        let notes = world.gitlab.bot_notes(mr).await;
        let last = notes.last().unwrap();
        if notes.len() == 2 && last["body"].as_str().unwrap().contains("Preview: ready") {
            Ok(())
        } else {
            Err(notes)
        }
    })
    .await;
    world.wire.heal();
}

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
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = world.wire.calls().len();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let calls = world.wire.calls().len() - before;
    assert!(calls < 20, "{calls} calls in two seconds");
    assert_ne!(world.visit(mr, "/").await.0, 200);
    let history = world.preview(mr).await.unwrap()["history"].to_string();
    assert!(history.contains("its lifetime ended at 1970-01-01T00:16:40Z"), "{history}");
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
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = world.wire.calls().len();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let calls = world.wire.calls().len() - before;
    assert!(calls < 20, "{calls} calls in two seconds");
    world.shows(mr, "one").await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_pause_that_gitlab_asks_for_holds_for_all_calls() {
    let world = World::start().await;
    let mr = world.ready_mr("feature", "one").await;
    let other = world.ready_mr("other", "other").await;
    world.rests().await;
    world.wire.any().always().answer(429, &[("retry-after", "3")], "Retry later\n");
    world.gitlab.edit(mr, json!({ "labels": "first" })).await;
    let before = world.wire.calls().len();
    until("GitLab asks for a pause", PATIENCE, || async {
        (world.wire.calls().len() > before).then_some(())
    })
    .await;
    for n in 0..5 {
        world.gitlab.edit(mr, json!({ "labels": format!("more {n}") })).await;
        world.gitlab.edit(other, json!({ "labels": format!("more {n}") })).await;
        world.gitlab.drain().await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let calls = world.wire.calls().len() - before;
    assert!(calls <= 2, "{calls} calls within the pause");
    world.wire.heal();
    world.gitlab.push("feature", &[("a", "2")]).await;
    world.build(mr, "two").await;
    world.becomes(mr, "ready").await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_merge_request_that_nobody_can_see_is_not_asked_for_again() {
    let world = World::start().await;
    world.wire.on("GET", "*/merge_requests/1").always().answer(404, &[], r#"{"message":"404 Not found"}"#);
    world.gitlab.open_mr("feature", "A feature").await;
    world.rests().await;
    let before = world.wire.calls().len();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(world.wire.calls().len(), before);
}

#[tokio::test]
async fn a_download_may_take_longer_than_a_call() {
    let world = World::start_with(&[("GREENROOM_GITLAB_TIMEOUT", "1s")]).await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let storage = slow_storage(&zip(&page("slow"))).await;
    world.wire.on("GET", "*/artifacts").answer(302, &[("location", &storage)], "");
    world.build(mr, "unused").await;
    world.becomes(mr, "ready").await;
    world.shows(mr, "slow").await;
    assert_eq!(world.wire.count("GET", "*/artifacts"), 1);
    world.ends_well().await;
}

fn zip(index: &str) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("dist/index.html", zip::write::SimpleFileOptions::default()).unwrap();
    zip.write_all(index.as_bytes()).unwrap();
    zip.finish().unwrap().into_inner()
}

/// An object storage that takes two seconds for one small file.
async fn slow_storage(file: &[u8]) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/file.zip", listener.local_addr().unwrap());
    let file = file.to_vec();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", file.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        for part in file.chunks(file.len().div_ceil(4)) {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let _ = stream.write_all(part).await;
        }
    });
    url
}
