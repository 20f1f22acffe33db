//! GitLab in bad shape, and webhooks that do not come: nothing is removed, nothing is told twice, all is mended.

use serde_json::json;

use crate::support::{PATIENCE, world::World};

/// Name, status, headers and body of an answer.
type Fault = (&'static str, u16, &'static [(&'static str, &'static str)], &'static str);

/// What GitLab may answer for a while.
const FAULTS: [Fault; 7] = [
    ("500", 500, &[], r#"{"message":"500 Internal Server Error"}"#),
    ("401", 401, &[], r#"{"message":"401 Unauthorized"}"#),
    ("403 as a page", 403, &[("content-type", "text/html")], "<html>blocked</html>"),
    ("404", 404, &[], r#"{"message":"404 Not found"}"#),
    ("429", 429, &[("retry-after", "1")], "Retry later"),
    ("an empty list", 200, &[("content-type", "application/json")], "[]"),
    ("200 with a page", 200, &[("content-type", "text/html")], "<html>maintenance</html>"),
];

#[tokio::test]
async fn whatever_gitlab_answers_in_an_outage_nothing_goes_and_a_close_works_afterwards() {
    let world = World::start_with(&[("GREENROOM_RESYNC_INTERVAL", "1s")]).await;
    let mr = world.ready_mr("feature", "one").await;
    world.rests().await;
    let environments = world.gitlab.environments().await;
    for (name, status, headers, body) in FAULTS {
        world.wire.any().always().answer(status, headers, body);
        let before = world.wire.calls().len();
        world.gitlab.edit(mr, json!({ "labels": name })).await;
        crate::support::until("some calls have failed", PATIENCE, || async {
            (world.wire.calls().len() > before + 3).then_some(())
        })
        .await;
        world.shows(mr, "one").await;
        assert_eq!(world.gitlab.environments().await, environments, "{name}");
        world.wire.heal();
    }
    world.gitlab.close(mr).await;
    world.becomes(mr, "stopped").await;
    world.is_gone(mr).await;
    world.rests().await;
}

/// The same, where only a part of GitLab is in bad shape.
#[tokio::test]
async fn lists_single_answers_and_files_may_fail_apart_and_nothing_goes() {
    let world = World::start_with(&[("GREENROOM_RESYNC_INTERVAL", "1s")]).await;
    let mr = world.ready_mr("feature", "one").await;
    world.rests().await;
    let environments = world.gitlab.environments().await.len();
    let single = format!("*/merge_requests/{mr}");
    for path in ["*/merge_requests", &single, "*/repository/files/*", "*/pipelines*", "*/environments*"] {
        for (name, status, headers, body) in FAULTS {
            let before = world.wire.count("GET", path);
            world.wire.on("GET", path).always().answer(status, headers, body);
            // What a commit's file says is read once, so there is a new commit.
            world.gitlab.push("feature", &[("a", name)]).await;
            crate::support::until(&format!("{path} was answered with {name}"), PATIENCE, || async {
                (world.wire.count("GET", path) > before).then_some(())
            })
            .await;
            world.shows(mr, "one").await;
            assert_eq!(world.gitlab.environments().await.len(), environments, "{path}: {name}");
            world.wire.heal();
            // An environment that was not shown is found again by the next deploy.
            world.build(mr, "one").await;
            world.becomes(mr, "ready").await;
        }
    }
    world.gitlab.close(mr).await;
    world.becomes(mr, "stopped").await;
    world.is_gone(mr).await;
    world.rests().await;
}

#[tokio::test]
async fn a_hanging_gitlab_holds_nothing_up_for_ever() {
    let world =
        World::start_with(&[("GREENROOM_RESYNC_INTERVAL", "1s"), ("GREENROOM_GITLAB_TIMEOUT", "1s")]).await;
    let mr = world.ready_mr("feature", "one").await;
    world.wire.any().always().hang();
    world.gitlab.close(mr).await;
    crate::support::until("the time-out is told", PATIENCE, || async {
        let preview = world.preview(mr).await.unwrap();
        let trouble = preview["trouble"]["error"].as_str().unwrap_or_default().to_owned();
        if trouble.contains("did not answer") { Ok(()) } else { Err(preview) }
    })
    .await;
    world.shows(mr, "one").await;
    world.wire.heal();
    world.becomes(mr, "stopped").await;
    world.is_gone(mr).await;
    world.rests().await;
}

#[tokio::test]
async fn lost_webhooks_are_made_up_for_by_the_resync() {
    let world = World::start_with(&[("GREENROOM_RESYNC_INTERVAL", "1s")]).await;
    // The first delivery tells of the project; all others are lost.
    let first = world.ready_mr("first", "first").await;
    world.gitlab.fault(json!({ "deliveries": { "lose": true } })).await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    world.build(mr, "one").await;
    world.becomes(mr, "ready").await;
    world.gitlab.push("feature", &[("a", "2")]).await;
    world.build(mr, "two").await;
    world.becomes(mr, "ready").await;
    world.shows(mr, "two").await;
    world.gitlab.close(mr).await;
    world.becomes(mr, "stopped").await;
    world.is_gone(mr).await;
    world.shows(first, "first").await;
    world.rests().await;
}

#[tokio::test]
async fn repeated_shuffled_and_late_webhooks_change_nothing() {
    let world = World::start().await;
    world.gitlab.fault(json!({ "deliveries": { "repeat": 2, "shuffle": true, "delay_ms": 20 } })).await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    for text in ["one", "two", "three"] {
        world.gitlab.push("feature", &[("a", text)]).await;
        world.build(mr, text).await;
    }
    world.becomes(mr, "ready").await;
    world.shows(mr, "three").await;
    world.gitlab.close(mr).await;
    world.becomes(mr, "stopped").await;
    world.is_gone(mr).await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_lifetime_ends_and_a_new_head_begins_another() {
    let world = World::start_with(&[("GREENROOM_RESYNC_INTERVAL", "1s")]).await;
    let file = "version: 1\nengine: static\nstatic: {job: build, path: dist}\nexpires_after: 1h\n";
    world.gitlab.push("feature", &[(".greenroom.yml", file)]).await;
    let mr = world.ready_mr("feature", "one").await;
    let preview = world.preview(mr).await.unwrap();
    assert!(preview["expires_at"].is_string(), "{preview}");
    world.rests().await;

    // Two hours go by.
    world.greenroom.terminate().await;
    world.greenroom.age(mr, std::time::Duration::from_hours(2)).await;
    world.greenroom.restart().await;
    let stopped = world.becomes(mr, "stopped").await;
    assert!(stopped["reason"].as_str().unwrap().starts_with("its lifetime ended at "), "{stopped}");
    world.is_gone(mr).await;

    world.gitlab.push("feature", &[("a", "2")]).await;
    world.build(mr, "two").await;
    world.becomes(mr, "ready").await;
    world.shows(mr, "two").await;
    world.rests().await;
}
