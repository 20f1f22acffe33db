//! What people are told: one comment, an environment, a deployment; and what they do to them.

use serde_json::json;

use crate::support::{
    PATIENCE,
    gitlab::Gitlab,
    world::{World, page},
};

/// The hidden line of greenroom's comment on the merge request.
fn marker(comment: &str) -> &str {
    comment.lines().next().expect("a first line")
}

#[tokio::test]
async fn one_comment_says_it_all_and_is_edited_in_place() {
    let world = World::start().await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    world.becomes(mr, "waiting").await;
    let first = world.gitlab.bot_notes(mr).await;
    world.build(mr, "one").await;
    let ready = world.becomes(mr, "ready").await;
    world.rests().await;
    let now = world.gitlab.bot_notes(mr).await;
    assert_eq!(now.len(), 1);
    assert_eq!(now[0]["id"], first[0]["id"], "the same comment");
    let text = now[0]["body"].as_str().unwrap();
    assert!(text.contains(ready["url"].as_str().unwrap()), "{text}");
    assert!(marker(text).starts_with("<!-- greenroom instance="), "{text}");
    world.ends_well().await;
}

#[tokio::test]
async fn an_unchanged_look_writes_nothing() {
    let world = World::start().await;
    let mr = world.ready_mr("feature", "one").await;
    world.rests().await;
    let before = world.gitlab.calls().await;
    // Something irrelevant changes, so that the merge request is looked at again.
    world.gitlab.edit(mr, json!({ "labels": "something" })).await;
    world.rests().await;
    let after = world.gitlab.calls().await;
    let new = &after[before.len()..];
    assert!(!new.is_empty(), "it was looked at");
    assert!(new.iter().all(|call| call.method == "GET"), "{new:#?}");
    world.ends_well().await;
}

#[tokio::test]
async fn a_comment_that_a_person_deleted_is_made_again() {
    let world = World::start().await;
    let mr = world.ready_mr("feature", "one").await;
    world.rests().await;
    let note = world.gitlab.bot_notes(mr).await[0]["id"].as_u64().unwrap();
    world.gitlab.delete_note(mr, note).await;
    // Nobody tells us of it; looks find out, though not those that come right after the comment was written.
    let look = std::sync::atomic::AtomicU32::new(0);
    crate::support::until("the comment is back", PATIENCE, || async {
        let look = look.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        world.gitlab.edit(mr, json!({ "labels": format!("look-{look}") })).await;
        world.rests().await;
        world.gitlab.comment(mr).await.filter(|comment| comment.contains("Preview: ready"))
    })
    .await;
    world.ends_well().await;
}

#[tokio::test]
async fn of_several_comments_of_ours_the_oldest_stays() {
    // The store was lost, and what is in it now is younger than the merge request.
    let world = World::start_with(&[("GREENROOM_INSTANCE", "blue")]).await;
    world.greenroom.kill9();
    world.gitlab.fault(json!({ "deliveries": { "lose": true } })).await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let ours = format!("<!-- greenroom instance=blue project={} mr={mr} -->\nold", Gitlab::PROJECT);
    let oldest = world.gitlab.say_as_bot(mr, &ours).await;
    world.gitlab.say_as_bot(mr, &ours).await;
    // Neither a person's comment with our marker nor one of another instance is ours.
    world.gitlab.say(mr, &ours).await;
    let green = ours.replace("blue", "green");
    let other = world.gitlab.say_as_bot(mr, &green).await;
    world.gitlab.fault(json!({ "deliveries": { "lose": false } })).await;
    std::fs::remove_dir_all(world.greenroom.data()).unwrap();
    world.greenroom.restart().await;
    world.build(mr, "one").await;
    crate::support::until("the oldest of ours says ready", PATIENCE, || async {
        let notes = world.gitlab.bot_notes(mr).await;
        let ids: Vec<_> = notes.iter().map(|note| note["id"].as_u64().unwrap()).collect();
        let ready = notes[0]["body"].as_str().unwrap().contains("Preview: ready");
        if ids == [oldest, other] && ready { Ok(()) } else { Err(notes) }
    })
    .await;
    let people = world.gitlab.notes(mr).await;
    assert!(
        people.iter().any(|note| note["body"] == *ours && note["author"]["username"] == "dev"),
        "{people:#?}"
    );
    world.rests().await;
}

#[tokio::test]
async fn nothing_a_stranger_wrote_breaks_out_of_the_comment() {
    let world = World::start().await;
    let job = "x`\n/close\n@all <img src=x onerror=alert(1)> | a | b";
    let file = format!("version: 1\nengine: static\nstatic: {}\n", json!({ "job": job, "path": "dist" }));
    world.gitlab.push("feature", &[(".greenroom.yml", &file)]).await;
    let mr = world.gitlab.open_mr("feature", "/close @all `x` <script>").await;
    world.becomes(mr, "waiting").await;
    let jobs = json!([{ "name": job, "status": "failed" }]);
    world.gitlab.act("pipelines", json!({ "mr_iid": mr, "jobs": jobs })).await;
    world.becomes(mr, "failed").await;
    let comment = world.gitlab.comment(mr).await.unwrap();
    assert!(!comment.lines().any(|line| line.trim_start().starts_with('/')), "a quick action: {comment}");
    let outside: String = comment.split('`').step_by(2).collect();
    assert!(!outside.contains("@all") && !outside.contains("<img"), "outside of code: {comment}");
    assert_eq!(world.gitlab.mr(mr).await["state"], "opened");
    world.ends_well().await;
}

#[tokio::test]
async fn the_environment_links_to_the_preview_and_the_deployment_is_ours() {
    let world = World::start().await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let pipeline = world.build(mr, "one").await;
    let ready = world.becomes(mr, "ready").await;
    world.rests().await;
    let environments = world.gitlab.environments().await;
    assert_eq!(environments.len(), 1);
    assert_eq!(environments[0]["name"], format!("review/mr-{mr}"));
    assert_eq!(environments[0]["external_url"], ready["url"]);
    assert_eq!(environments[0]["state"], "available");
    let deployments = world.gitlab.deployments().await;
    assert_eq!(deployments.len(), 1, "{deployments:#?}");
    assert_eq!(deployments[0]["status"], "success");
    assert_eq!(deployments[0]["sha"], ready["sha"]);
    assert_eq!(deployments[0]["ref"], format!("refs/merge-requests/{mr}/head"));
    assert!(pipeline.id > 0);
    world.ends_well().await;
}

#[tokio::test]
async fn stopped_in_gitlabs_page_it_stays_stopped_until_a_new_head() {
    let world = World::start_with(&[("GREENROOM_RESYNC_INTERVAL", "1s")]).await;
    let mr = world.ready_mr("feature", "one").await;
    world.rests().await;
    // There is no event of it.
    world.gitlab.stop_environment(mr).await;
    let stopped = world.becomes(mr, "stopped").await;
    assert_eq!(stopped["reason"], "somebody stopped the environment in GitLab");
    world.is_gone(mr).await;
    // More looks change nothing.
    world.gitlab.edit(mr, json!({ "labels": "another look" })).await;
    world.rests().await;
    world.is_gone(mr).await;

    world.gitlab.push("feature", &[("a", "2")]).await;
    world.build(mr, "two").await;
    world.becomes(mr, "ready").await;
    world.shows(mr, "two").await;
    world.ends_well().await;
}

#[tokio::test]
async fn stopped_in_gitlabs_page_a_reopen_brings_it_back() {
    let world = World::start_with(&[("GREENROOM_RESYNC_INTERVAL", "1s")]).await;
    let mr = world.ready_mr("feature", "one").await;
    world.rests().await;
    world.gitlab.stop_environment(mr).await;
    world.becomes(mr, "stopped").await;
    world.gitlab.close(mr).await;
    world.gitlab.reopen(mr).await;
    world.becomes(mr, "ready").await;
    world.shows(mr, "one").await;
    world.ends_well().await;
}

#[tokio::test]
async fn an_environment_that_a_job_prepared_is_taken_over() {
    let world = World::start().await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let jobs = json!([
        {
            "name": "view", "status": "success",
            "environment": { "name": format!("review/mr-{mr}"), "action": "prepare" },
        },
        { "name": "build", "status": "success", "artifact": { "files": { "dist/index.html": page("one") } } },
    ]);
    world.gitlab.act("pipelines", json!({ "mr_iid": mr, "jobs": jobs })).await;
    let ready = world.becomes(mr, "ready").await;
    world.rests().await;
    let environments = world.gitlab.environments().await;
    assert_eq!(environments.len(), 1, "{environments:#?}");
    assert_eq!(environments[0]["external_url"], ready["url"]);
    world.gitlab.close(mr).await;
    world.becomes(mr, "stopped").await;
    world.is_gone(mr).await;
    world.ends_well().await;
}
