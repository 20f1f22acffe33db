//! GitLab's environments: whose they are, and when they come and go.

use std::time::Duration;

use serde_json::json;

use crate::support::{
    PATIENCE, until,
    world::{World, page},
};

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

/// Another greenroom's environment is left to it: neither its link is changed, nor is it stopped or deleted.
#[tokio::test]
async fn two_instances_on_one_project_leave_each_other_alone() {
    let world = World::start_with(&[("GREENROOM_INSTANCE", "blue")]).await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    world.becomes(mr, "waiting").await;
    let theirs = json!({
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
