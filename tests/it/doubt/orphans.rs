//! What nobody remembers, and what another instance made.

use serde_json::{Value, json};

use super::{many_ready, metric, says, warnings, while_away};
use crate::support::{PATIENCE, until, world::World};

async fn start() -> World {
    World::start_with(&[("GREENROOM_RESYNC_INTERVAL", "3s"), ("GREENROOM_BRAKE_SETTLE", "1s")]).await
}

/// The id of the instance, as a comment of its names it.
async fn instance(world: &World, mr: u64) -> String {
    let comment = world.gitlab.comment(mr).await.unwrap();
    let (_, rest) = comment.split_once("instance=").unwrap();
    rest.split(' ').next().unwrap().to_owned()
}

fn ids(all: &[Value]) -> Vec<u64> {
    let mut ids: Vec<_> = all.iter().map(|one| one["id"].as_u64().unwrap()).collect();
    ids.sort_unstable();
    ids
}

/// Waits until greenroom says that it stands back.
async fn stands_back(world: &World) {
    until("another instance's things are told of", PATIENCE, || async {
        let warned = warnings(world).await;
        if warned.contains(&"foreign_instance".to_owned()) { Ok(()) } else { Err(warned) }
    })
    .await;
    assert_eq!(metric(world, "greenroom_foreign_instances").await, 1);
}

#[tokio::test]
async fn a_lost_store_touches_nothing_until_its_instance_is_adopted() {
    let world = start().await;
    let mrs = many_ready(&world, 3).await;
    let old = instance(&world, mrs[0]).await;
    let (environments, deployments) =
        (ids(&world.gitlab.environments().await), ids(&world.gitlab.deployments().await));
    let comment = world.gitlab.bot_notes(mrs[0]).await[0]["id"].clone();
    while_away(&world, async || {
        world.greenroom.lose_store();
        world.gitlab.close(mrs[2]).await;
    })
    .await;

    let before = world.wire.calls().len();
    world.greenroom.restart().await;
    stands_back(&world).await;
    world.gitlab.push("feature-1", &[("a", "2")]).await;
    world.gitlab.push("feature-1", &[("a", "3")]).await;
    world.rests().await;
    let writes: Vec<_> =
        world.wire.calls().split_off(before).into_iter().filter(|call| call.method != "GET").collect();
    assert!(writes.is_empty(), "{writes:#?}");
    assert_eq!(world.preview(mrs[0]).await, None);
    world.greenroom.logs(&old, 1).await;

    let adopt = ["adopt", "--instance", &old];
    let (status, text) = world.greenroom.verb(&adopt);
    assert!(!status.success() && text.contains("another greenroom uses the data folder"), "{text}");
    world.greenroom.terminate().await;
    let (status, text) = world.greenroom.verb(&adopt);
    assert!(status.success(), "{text}");
    world.greenroom.restart().await;

    // The second is as it was, though nothing was said of it: same comment, environment and deployment.
    let ready = world.becomes(mrs[1], "ready").await;
    assert_eq!(ready["project_path"], "acme/web");
    world.shows(mrs[1], "2").await;
    // The closed one goes, though nobody remembered it.
    world.becomes(mrs[2], "stopped").await;
    world.is_gone(mrs[2]).await;
    // The first has a new head.
    world.becomes(mrs[0], "waiting").await;
    world.shows(mrs[0], "1").await;
    world.rests().await;
    assert_eq!(ids(&world.gitlab.environments().await), environments[..2]);
    let left = ids(&world.gitlab.deployments().await);
    assert!(
        left.iter().all(|id| deployments.contains(id)),
        "none is made twice: {left:?} of {deployments:?}"
    );
    assert_eq!(world.gitlab.bot_notes(mrs[0]).await[0]["id"], comment);
    assert_eq!(metric(&world, "greenroom_foreign_instances").await, 0);

    world.build(mrs[0], "new").await;
    world.becomes(mrs[0], "ready").await;
    world.shows(mrs[0], "new").await;
    for mr in &mrs[..2] {
        world.gitlab.close(*mr).await;
        world.becomes(*mr, "stopped").await;
        world.is_gone(*mr).await;
    }
    world.greenroom.terminate().await;
    let (status, text) = world.greenroom.verb(&["adopt", "--instance", "another"]);
    assert!(!status.success() && text.contains("this store has previews of its own"), "{text}");
}

/// Whether a person did, or GitLab at a close that was taken back, nobody knows any more.
#[tokio::test]
async fn what_was_stopped_in_gitlab_before_the_store_was_lost_stays_and_is_shown_again() {
    let world = start().await;
    let mr = many_ready(&world, 1).await[0];
    let old = instance(&world, mr).await;
    let environment = format!("review/mr-{mr}");
    while_away(&world, async || {
        world.gitlab.stop_named(&environment, true).await;
        world.greenroom.lose_store();
        let (status, text) = world.greenroom.verb(&["adopt", "--instance", &old]);
        assert!(status.success(), "{text}");
    })
    .await;
    world.greenroom.restart().await;
    world.becomes(mr, "ready").await;
    world.rests().await;
    world.shows(mr, "1").await;
    assert_eq!(world.gitlab.environments().await[0]["state"], "available");
    let deployments = world.gitlab.deployments().await;
    assert_eq!((deployments.len(), &deployments[0]["status"]), (1, &json!("success")), "{deployments:#?}");

    // Now it is known who does it.
    world.gitlab.stop_named(&environment, true).await;
    world.gitlab.edit(mr, json!({ "labels": "a look" })).await;
    world.becomes(mr, "stopped").await;
    world.is_gone(mr).await;
    world.ends_well().await;
}

/// The data folder is lost with everything in it: only GitLab has something left.
#[tokio::test]
async fn environments_of_another_instance_are_seen_where_nothing_else_is_left() {
    let world = World::start().await;
    let theirs = json!({
        "name": "review/mr-77",
        "external_url": "https://green.example.com",
        "description": "Made by greenroom, instance green. It is removed when the merge request ends.",
    });
    world.gitlab.create_environment(theirs).await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    stands_back(&world).await;
    world.rests().await;
    assert_eq!(world.preview(mr).await, None);
    assert_eq!(world.gitlab.comment(mr).await, None);
    // The operator says that there are two.
    world.greenroom.terminate().await;
    let mut world = world;
    world.greenroom.set("GREENROOM_INSTANCE", "blue");
    world.greenroom.lose_store();
    world.greenroom.restart().await;
    world.build(mr, "one").await;
    world.becomes(mr, "ready").await;
    assert_eq!(metric(&world, "greenroom_foreign_instances").await, 0);
    assert_eq!(world.gitlab.environments().await.len(), 2);
    world.ends_well().await;
}

#[tokio::test]
async fn an_environment_of_ours_without_an_open_merge_request_goes_after_two_looks() {
    let mut world = start().await;
    world.greenroom.terminate().await;
    world.greenroom.set("GREENROOM_INSTANCE", "blue");
    world.greenroom.lose_store();
    world.greenroom.restart().await;
    world.gitlab.fault(json!({ "deliveries": { "lose": true } })).await;
    let environment = async |mr: u64, instance: &str| {
        let description =
            format!("Made by greenroom, instance {instance}. It is removed when the merge request ends.");
        let environment = json!({ "name": format!("review/mr-{mr}"), "description": description });
        world.gitlab.create_environment(environment).await;
    };
    let ours = world.gitlab.open_mr("ours", "Ours").await;
    let theirs = world.gitlab.open_mr("theirs", "Theirs").await;
    environment(ours, "blue").await;
    environment(theirs, "green").await;
    environment(999, "blue").await;
    world.gitlab.close(ours).await;
    world.gitlab.close(theirs).await;
    world.gitlab.fault(json!({})).await;
    let mr = world.ready_mr("feature", "one").await;

    world.becomes(ours, "stopped").await;
    let history = world.preview(ours).await.unwrap()["history"].to_string();
    let looked = history.find("it is about to be removed: the merge request was closed");
    assert!(looked.is_some(), "two looks: {history}");
    until("the environment is gone", PATIENCE, || async {
        let names: Vec<_> = world.gitlab.environments().await.iter().map(|e| e["name"].clone()).collect();
        if names.contains(&json!(format!("review/mr-{ours}"))) { Err(names) } else { Ok(()) }
    })
    .await;
    let names: Vec<_> = world.gitlab.environments().await.iter().map(|e| e["name"].clone()).collect();
    for left in [theirs, mr, 999] {
        assert!(names.contains(&json!(format!("review/mr-{left}"))), "{left} stays: {names:?}");
    }
    world.shows(mr, "one").await;
}

#[tokio::test]
async fn many_orphans_at_once_wait_for_an_operator() {
    let world = start().await;
    let mrs = many_ready(&world, 6).await;
    let old = instance(&world, mrs[0]).await;
    while_away(&world, async || {
        world.greenroom.lose_store();
        let (status, text) = world.greenroom.verb(&["adopt", "--instance", &old]);
        assert!(status.success(), "{text}");
        for mr in &mrs[..5] {
            world.gitlab.close(*mr).await;
        }
    })
    .await;
    world.greenroom.restart().await;
    for mr in &mrs[..5] {
        says(&world, *mr, "kept: the brake holds 5 removals").await;
        world.shows(*mr, &mr.to_string()).await;
    }
    let (status, text) = world.greenroom.verb(&["brake", "--release"]);
    assert!(status.success() && text.contains("let go on: 5"), "{text}");
    for mr in &mrs[..5] {
        world.becomes(*mr, "stopped").await;
        world.is_gone(*mr).await;
    }
    world.shows(mrs[5], "6").await;
    world.rests().await;
}
