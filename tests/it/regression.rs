//! What once went wrong, each as a conversation.

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{
    PATIENCE, until,
    world::{World, page},
};

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
    let world = World::start_with(&[("GREENROOM_RESYNC_INTERVAL", "1s")]).await;
    let mr = world.ready_mr("feature", "one").await;
    world.gitlab.push("feature", &[(".greenroom.yml", "version: 3\n")]).await;
    world.becomes(mr, "failed").await;
    world.shows(mr, "one").await;
    world.rests().await;
    world.gitlab.stop_environment(mr).await;
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
    let (before, began) = (world.wire.calls().len(), Instant::now());
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
    // Both keys may try once at the end of each pause.
    let pauses = 1 + usize::try_from(began.elapsed().as_secs() / 3).unwrap();
    assert!(calls <= 2 * pauses, "{calls} calls within {pauses} pauses");
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

#[tokio::test]
async fn an_artifact_that_greenroom_may_not_fetch_is_told() {
    let world = World::start().await;
    world.wire.on("GET", "*/artifacts").always().answer(403, &[], r#"{"message":"403 Forbidden"}"#);
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let pipeline = world.build(mr, "one").await;
    let failed = world.becomes(mr, "failed").await;
    assert!(failed["reason"].as_str().unwrap().contains("(it answered with 403)"), "{failed}");
    world.wire.heal();
    let again = world.gitlab.retry(pipeline.job).await;
    world.gitlab.succeed_job(again, &[("dist/index.html", &page("two"))]).await;
    world.becomes(mr, "ready").await;
    world.shows(mr, "two").await;
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

#[tokio::test]
async fn a_push_while_the_engine_works_leaves_no_deployment_running() {
    let world = World::start().await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let first = world.gitlab.start_pipeline(mr).await;
    // Enough for the engine to be at it for a while.
    let names: Vec<String> = (0..8_000).map(|n| format!("dist/{n}.html")).collect();
    let index = page("one");
    let many = names.iter().map(|name| (name.as_str(), "x"));
    let files: Vec<_> = many.chain([("dist/index.html", index.as_str())]).collect();
    world.gitlab.succeed_job(first.job, &files).await;
    until("the deployment runs", PATIENCE, || async {
        (world.gitlab.deployments().await.len() == 1).then_some(())
    })
    .await;
    world.gitlab.push("feature", &[("a", "2")]).await;
    world.build(mr, "two").await;
    world.becomes(mr, "ready").await;
    world.shows(mr, "two").await;
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

/// Another greenroom's environment is left to it: neither its link is changed, nor is it stopped or deleted.
#[tokio::test]
async fn two_instances_on_one_project_leave_each_other_alone() {
    let world = World::start_with(&[("GREENROOM_INSTANCE", "blue")]).await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    world.becomes(mr, "waiting").await;
    let theirs = serde_json::json!({
        "name": format!("review/mr-{mr}"),
        "external_url": "https://green.example.com",
        "description": "Made by greenroom, instance green. It is removed when the merge request ends.",
    });
    world.gitlab.create_environment(theirs).await;
    let before = world.gitlab.environments().await;
    world.build(mr, "one").await;
    world.becomes(mr, "ready").await;
    world.shows(mr, "one").await;
    world.gitlab.close(mr).await;
    world.becomes(mr, "stopped").await;
    world.rests().await;
    let after = world.gitlab.environments().await;
    assert_eq!(after.len(), 1);
    for fact in ["id", "external_url", "description", "state"] {
        assert_eq!(after[0][fact], before[0][fact], "{fact}");
    }
}

/// The operator moves the previews to another domain: link, comment and environment follow.
#[tokio::test]
async fn a_new_preview_domain_reaches_link_comment_and_environment() {
    let mut world = World::start().await;
    let mr = world.ready_mr("feature", "one").await;
    world.rests().await;
    world.greenroom.set("GREENROOM_PREVIEW_DOMAIN", "elsewhere.localhost");
    world.greenroom.restart().await;
    let url = until("the link has moved", PATIENCE, || async {
        let preview = world.preview(mr).await.unwrap();
        let url = preview["url"].as_str().unwrap().to_owned();
        let told = world.gitlab.comment(mr).await.unwrap().contains(&url);
        if url.contains(".elsewhere.localhost") && told { Ok(url) } else { Err(preview) }
    })
    .await;
    world.shows(mr, "one").await;
    assert_eq!(world.gitlab.environments().await[0]["external_url"], url);
    world.ends_well().await;
}

/// A branch whose merge request is over is not asked for again and again.
#[tokio::test]
async fn pipelines_on_the_branch_of_a_closed_merge_request_cause_no_look_at_it() {
    let world = World::start().await;
    let mr = world.ready_mr("feature", "one").await;
    world.gitlab.close(mr).await;
    world.becomes(mr, "stopped").await;
    world.rests().await;
    let before = world.wire.count("GET", &format!("*/merge_requests/{mr}"));
    let jobs = serde_json::json!([{ "name": "build", "status": "success" }]);
    world.gitlab.act("pipelines", serde_json::json!({ "ref": "feature", "jobs": jobs })).await;
    world.rests().await;
    assert_eq!(world.wire.count("GET", &format!("*/merge_requests/{mr}")), before);
    world.ends_well().await;
}

/// One deploy tells people once: waiting, then ready, with few calls.
#[tokio::test]
async fn a_deploy_is_done_in_one_look() {
    let world = World::start().await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    world.becomes(mr, "waiting").await;
    world.rests().await;
    let before = world.wire.calls().len();
    world.build(mr, "one").await;
    world.becomes(mr, "ready").await;
    world.rests().await;
    let calls = world.wire.calls().split_off(before);
    let edits = calls.iter().filter(|call| call.method == "PUT" && call.path.contains("/notes/")).count();
    assert_eq!(edits, 1, "{calls:#?}");
    let writes = calls.iter().filter(|call| call.method != "GET").count();
    assert!(writes <= 5, "{writes} writes: {calls:#?}");
    world.ends_well().await;
}

/// GitLab made the environment, greenroom never heard of it, and then there was nothing to deploy any more.
#[tokio::test]
async fn an_environment_whose_creation_was_not_heard_of_is_removed_at_the_end() {
    let world = World::start().await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    world.becomes(mr, "waiting").await;
    world.wire.on("POST", "*/environments").always().lose();
    world.build(mr, "one").await;
    until("GitLab has made the environment", PATIENCE, || async {
        (!world.gitlab.environments().await.is_empty()).then_some(())
    })
    .await;
    world.gitlab.push("feature", &[("a", "2")]).await;
    world.becomes(mr, "waiting").await;
    world.wire.heal();
    world.gitlab.close(mr).await;
    world.becomes(mr, "stopped").await;
    world.is_gone(mr).await;
    world.ends_well().await;
}

/// A reopen makes a new environment; greenroom never heard of that one either, and knew the old one still.
#[tokio::test]
async fn an_environment_that_took_the_place_of_another_unheard_is_removed_at_the_end() {
    let world = World::start().await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    build_with_environment(&world, mr, "one").await;
    world.becomes(mr, "ready").await;
    world.rests().await;
    let before = world.gitlab.environments().await[0]["id"].clone();
    world.wire.on("POST", "*/environments").always().lose();
    world.gitlab.fault(json!({ "deliveries": { "lose": 1 } })).await;
    world.gitlab.close(mr).await;
    world.gitlab.reopen(mr).await;
    until("GitLab has made another environment", PATIENCE, || async {
        world.gitlab.environments().await.into_iter().find(|environment| environment["id"] != before)
    })
    .await;
    world.gitlab.close(mr).await;
    world.becomes(mr, "stopped").await;
    world.is_gone(mr).await;
    world.ends_well().await;
}
