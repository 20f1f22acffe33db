//! What GitLab is asked, and how often.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{PATIENCE, until, world::World};

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

/// A branch whose merge request is over is not asked for again and again.
#[tokio::test]
async fn pipelines_on_the_branch_of_a_closed_merge_request_cause_no_look_at_it() {
    let world = World::start().await;
    let mr = world.ready_mr("feature", "one").await;
    world.gitlab.close(mr).await;
    world.becomes(mr, "stopped").await;
    world.rests().await;
    let before = world.wire.count("GET", &format!("*/merge_requests/{mr}"));
    let jobs = json!([{ "name": "build", "status": "success" }]);
    world.gitlab.act("pipelines", json!({ "ref": "feature", "jobs": jobs })).await;
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
