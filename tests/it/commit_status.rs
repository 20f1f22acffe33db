//! The commit status: told once, never in the way, never left running.

use serde_json::{Value, json};

use crate::support::{
    PATIENCE, until,
    world::{World, page},
};

const REQUIRED: [(&str, &str); 1] = [("GREENROOM_COMMIT_STATUS", "required")];
const OFF: [(&str, &str); 1] = [("GREENROOM_COMMIT_STATUS", "off")];

/// State and description of every status of ours, oldest first.
async fn told(world: &World) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let statuses = world.gitlab.commit_statuses().await;
    statuses.iter().map(|status| (text(&status["status"]), text(&status["description"]))).collect()
}

async fn states(world: &World) -> Vec<String> {
    told(world).await.into_iter().map(|(state, _)| state).collect()
}

/// Waits until the statuses of ours are in these states.
async fn come_to(world: &World, expected: &[&str]) {
    until(&format!("the statuses are {expected:?}"), PATIENCE, || async {
        let states = states(world).await;
        if states == expected { Ok(()) } else { Err(states) }
    })
    .await;
}

/// How many calls went to GitLab about statuses.
fn asked(world: &World) -> usize {
    world.wire.calls().iter().filter(|call| call.path.contains("/statuses")).count()
}

async fn pipeline_status(world: &World, id: u64) -> Value {
    let pipelines = world.gitlab.pipelines().await;
    pipelines.into_iter().find(|pipeline| pipeline["id"] == id).expect("the pipeline")["status"].clone()
}

/// A merge request whose deploy is under way and does not get on until the wire is healed; its pipeline.
async fn deploying(world: &World) -> (u64, u64) {
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    world.becomes(mr, "waiting").await;
    world.rests().await;
    world.wire.on("POST", "*/deployments").always().answer(500, &[], "");
    let pipeline = world.build(mr, "one").await;
    come_to(world, &["running"]).await;
    (mr, pipeline.id)
}

/// The merge request is looked at again for nothing that matters.
async fn looked_at_again(world: &World, mr: u64) {
    world.gitlab.edit(mr, json!({ "labels": "a look" })).await;
    world.rests().await;
    world.gitlab.edit(mr, json!({ "labels": "another look" })).await;
    world.rests().await;
}

#[tokio::test]
async fn for_information_one_per_pipeline_tells_how_the_deploy_came_out() {
    let world = World::start().await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    world.becomes(mr, "waiting").await;
    let jobs = json!([{ "name": "lint", "status": "running" }]);
    world.gitlab.act("pipelines", json!({ "mr_iid": mr, "jobs": jobs })).await;
    world.rests().await;
    assert_eq!(told(&world).await, [], "nothing before a deploy begins");

    let pipeline = world.build(mr, "one").await;
    let ready = world.becomes(mr, "ready").await;
    world.rests().await;
    let statuses = world.gitlab.commit_statuses().await;
    assert_eq!(statuses.len(), 1, "{statuses:#?}");
    let short = &ready["sha"].as_str().unwrap()[..8];
    assert_eq!(statuses[0]["name"], format!("greenroom/mr-{mr}"));
    assert_eq!(statuses[0]["status"], "success");
    assert_eq!(statuses[0]["description"], format!("Preview ready: commit `{short}` is being served"));
    assert_eq!(statuses[0]["target_url"], ready["url"]);
    assert_eq!(statuses[0]["pipeline_id"], pipeline.id);
    assert_eq!(statuses[0]["sha"], ready["sha"]);
    assert_eq!(asked(&world), 1, "one call");

    looked_at_again(&world, mr).await;
    world.gitlab.push("feature", &[("a", "2")]).await;
    world.build(mr, "two").await;
    world.becomes(mr, "ready").await;
    world.gitlab.close(mr).await;
    world.becomes(mr, "stopped").await;
    world.rests().await;
    assert_eq!(states(&world).await, ["success", "success"]);
    assert_eq!(world.wire.count("POST", "*/statuses/*"), 2);
    world.ends_well().await;
}

#[tokio::test]
async fn for_information_a_failed_deploy_is_told_and_holds_nothing_up() {
    let world = World::start().await;
    let file = "version: 1\nengine: static\nstatic: {job: build, path: \"x`@all 🚀 ünï/close\"}\n";
    world.gitlab.push("feature", &[(".greenroom.yml", file)]).await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let pipeline = world.build(mr, "elsewhere").await;
    world.becomes(mr, "failed").await;
    world.rests().await;
    let first = told(&world).await;
    assert_eq!(first.len(), 1, "{first:?}");
    let (state, description) = &first[0];
    assert_eq!(state, "success");
    assert!(description.starts_with("Preview failed: the artifact cannot be served: "), "{description}");
    assert!(description.len() <= 255 && description.lines().count() == 1, "{description}");
    assert_eq!(pipeline_status(&world, pipeline.id).await, "success");

    // The next attempt of the job makes it true no more.
    let again = world.gitlab.retry(pipeline.job).await;
    world.gitlab.succeed_job(again, &[("x`@all 🚀 ünï/close/index.html", &page("there"))]).await;
    world.becomes(mr, "ready").await;
    world.rests().await;
    let then = told(&world).await;
    assert_eq!(then.len(), 2, "{then:?}");
    assert!(then[1].1.starts_with("Preview ready: "), "{then:?}");
    // One that came out the same is no news.
    let again = world.gitlab.retry(again).await;
    world.gitlab.succeed_job(again, &[("x`@all 🚀 ünï/close/index.html", &page("other"))]).await;
    world.rests().await;
    assert_eq!(told(&world).await, then);
    world.ends_well().await;
}

#[tokio::test]
async fn required_it_runs_with_the_deploy_and_passes_with_it() {
    let world = World::start_with(&REQUIRED).await;
    let (mr, pipeline) = deploying(&world).await;
    assert_eq!(pipeline_status(&world, pipeline).await, "running");
    world.wire.heal();
    world.becomes(mr, "ready").await;
    world.rests().await;
    assert_eq!(states(&world).await, ["success"]);
    assert_eq!(pipeline_status(&world, pipeline).await, "success");
    let writes = world.wire.count("POST", "*/statuses/*");
    looked_at_again(&world, mr).await;
    assert_eq!(world.wire.count("POST", "*/statuses/*"), writes);
    world.ends_well().await;
}

#[tokio::test]
async fn required_it_fails_with_the_deploy_and_another_attempt_mends_it() {
    let world = World::start_with(&REQUIRED).await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let pipeline = world.gitlab.start_pipeline(mr).await;
    world.gitlab.succeed_job(pipeline.job, &[("elsewhere/index.html", "x")]).await;
    world.becomes(mr, "failed").await;
    world.rests().await;
    assert_eq!(states(&world).await, ["failed"]);
    assert_eq!(pipeline_status(&world, pipeline.id).await, "failed");

    let again = world.gitlab.retry(pipeline.job).await;
    world.gitlab.succeed_job(again, &[("dist/index.html", &page("mended"))]).await;
    world.becomes(mr, "ready").await;
    world.rests().await;
    assert_eq!(states(&world).await, ["failed", "success"]);
    assert_eq!(pipeline_status(&world, pipeline.id).await, "success");
    world.ends_well().await;
}

#[tokio::test]
async fn an_artifact_that_is_not_there_is_told_at_once() {
    let world = World::start_with(&REQUIRED).await;
    world.wire.on("GET", "*/artifacts").always().answer(404, &[], r#"{"message":"404 Not found"}"#);
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    world.build(mr, "gone").await;
    world.becomes(mr, "failed").await;
    world.rests().await;
    assert_eq!(states(&world).await, ["failed"]);
    assert_eq!(world.wire.count("POST", "*/statuses/*"), 1, "it never ran");
    world.ends_well().await;
}

#[tokio::test]
async fn required_a_push_while_it_runs_ends_it() {
    let world = World::start_with(&REQUIRED).await;
    let (mr, _) = deploying(&world).await;
    world.gitlab.push("feature", &[("a", "2")]).await;
    come_to(&world, &["canceled"]).await;
    world.wire.heal();
    world.build(mr, "two").await;
    world.becomes(mr, "ready").await;
    world.rests().await;
    assert_eq!(states(&world).await, ["canceled", "success"]);
    world.ends_well().await;
}

#[tokio::test]
async fn required_a_deploy_that_takes_over_ends_it_first() {
    let world = World::start_with(&REQUIRED).await;
    let (mr, _) = deploying(&world).await;
    // Down while the next commit is pushed and built: it never sees the first one waiting.
    world.greenroom.kill9();
    world.wire.heal();
    world.gitlab.push("feature", &[("a", "2")]).await;
    world.build(mr, "two").await;
    world.greenroom.restart().await;
    world.becomes(mr, "ready").await;
    world.rests().await;
    assert_eq!(states(&world).await, ["canceled", "success"]);
    world.ends_well().await;
}

#[tokio::test]
async fn required_a_close_while_it_runs_ends_it() {
    let world = World::start_with(&REQUIRED).await;
    let (mr, _) = deploying(&world).await;
    world.gitlab.close(mr).await;
    world.becomes(mr, "stopped").await;
    come_to(&world, &["canceled"]).await;
    assert_eq!(told(&world).await[0].1, "Not waited for any more: the merge request was closed");
    world.wire.heal();
    world.gitlab.reopen(mr).await;
    world.becomes(mr, "ready").await;
    world.rests().await;
    assert_eq!(states(&world).await, ["canceled", "success"]);
    world.ends_well().await;
}

#[tokio::test]
async fn not_required_any_more_it_lets_go_of_the_pipeline() {
    for (mode, says) in [("info", "Preview ready: "), ("off", "Not waited for any more: ")] {
        let mut world = World::start_with(&REQUIRED).await;
        let (mr, pipeline) = deploying(&world).await;
        world.greenroom.set("GREENROOM_COMMIT_STATUS", mode);
        world.wire.heal();
        world.greenroom.restart().await;
        world.becomes(mr, "ready").await;
        world.rests().await;
        let told = told(&world).await;
        assert!(told.len() == 1 && told[0].0 == "success" && told[0].1.starts_with(says), "{mode}: {told:?}");
        assert_eq!(pipeline_status(&world, pipeline).await, "success");
        world.ends_well().await;
    }
}

#[tokio::test]
async fn switched_off_nothing_is_posted() {
    let world = World::start_with(&OFF).await;
    let mr = world.ready_mr("feature", "one").await;
    world.gitlab.close(mr).await;
    world.becomes(mr, "stopped").await;
    world.rests().await;
    assert_eq!(asked(&world), 0);
    // Switched on, it speaks of deploys to come, not of those that were.
    let mut world = World::start_with(&OFF).await;
    let mr = world.ready_mr("feature", "one").await;
    world.greenroom.set("GREENROOM_COMMIT_STATUS", "info");
    world.greenroom.restart().await;
    looked_at_again(&world, mr).await;
    assert_eq!(told(&world).await, []);
    world.ends_well().await;
}

#[tokio::test]
async fn with_merged_results_it_belongs_to_the_merge_commit() {
    let world = World::start_with(&REQUIRED).await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let jobs = json!([{
        "name": "build", "status": "success", "artifact": { "files": { "dist/index.html": page("merged") } },
    }]);
    let pipeline = json!({ "mr_iid": mr, "kind": "merged_result", "jobs": jobs });
    let pipeline = world.gitlab.act("pipelines", pipeline).await;
    let ready = world.becomes(mr, "ready").await;
    world.rests().await;
    let statuses = world.gitlab.commit_statuses().await;
    assert_eq!(statuses.len(), 1, "{statuses:#?}");
    assert_ne!(ready["sha"], pipeline["sha"], "the head is not the merge commit");
    for (fact, expected) in
        [("sha", &pipeline["sha"]), ("pipeline_id", &pipeline["id"]), ("status", &json!("success"))]
    {
        assert_eq!(statuses[0][fact], *expected, "{fact}");
    }
    world.ends_well().await;
}

#[tokio::test]
async fn two_merge_requests_of_one_branch_do_not_take_each_others_status() {
    let world = World::start_with(&REQUIRED).await;
    world.gitlab.push("release", &[("README.md", "a release")]).await;
    let sha = world.gitlab.push("feature", &[("a", "1")]).await;
    let first = world.gitlab.open_mr("feature", "A feature").await;
    let second = json!({ "source_branch": "feature", "target_branch": "release", "title": "The same" });
    let second = world.gitlab.create_mr(second).await;
    let jobs = json!([{
        "name": "build", "status": "success", "artifact": { "files": { "dist/index.html": page("both") } },
    }]);
    let pipeline = world.gitlab.act("pipelines", json!({ "ref": "feature", "jobs": jobs })).await;
    for mr in [first, second] {
        assert_eq!(world.becomes(mr, "ready").await["sha"], sha);
    }
    world.rests().await;
    let statuses = world.gitlab.commit_statuses().await;
    let mut names: Vec<_> = statuses.iter().map(|status| status["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, [format!("greenroom/mr-{first}"), format!("greenroom/mr-{second}")]);
    assert!(statuses.iter().all(|status| status["pipeline_id"] == pipeline["id"]), "{statuses:#?}");
    world.ends_well().await;
}

#[tokio::test]
async fn its_own_status_is_not_waited_for_and_wakes_nobody_for_ever() {
    let world = World::start_with(&REQUIRED).await;
    let file = "version: 1\nengine: static\nstatic: {job: build, path: dist}\nwait_for: pipeline\n";
    world.gitlab.push("feature", &[(".greenroom.yml", file)]).await;
    let (mr, pipeline) = deploying(&world).await;
    // GitLab tells that the pipeline runs, by nothing but our status.
    assert_eq!(pipeline_status(&world, pipeline).await, "running");
    world.rests().await;
    assert_eq!(states(&world).await, ["running"], "a look does not take it for somebody else's");
    world.wire.heal();
    world.becomes(mr, "ready").await;
    world.rests().await;
    let calls = world.wire.calls().len();
    world.rests().await;
    assert_eq!(world.wire.calls().len(), calls);
    world.ends_well().await;
}

#[tokio::test]
async fn without_a_pipeline_nothing_is_posted() {
    let world = World::start_with(&REQUIRED).await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    world.becomes(mr, "waiting").await;
    let fork = world.gitlab.open_mr_from_fork("patch-1", "From outside").await;
    world.becomes(fork, "skipped").await;
    world.gitlab.close(mr).await;
    world.becomes(mr, "stopped").await;
    world.rests().await;
    assert_eq!(asked(&world), 0);
    world.ends_well().await;
}

#[tokio::test]
async fn whatever_is_refused_holds_no_preview_up_and_is_not_tried_again() {
    let repeated = r#"{"message":"Cannot transition status via :run from :running (Reason(s): …)"}"#;
    let forbidden = r#"{"message":"403 Forbidden"}"#;
    for (mode, posts, status, body) in [
        ("info", 1, 400, r#"{"message":{"target_url":["is blocked"]}}"#),
        ("info", 1, 403, forbidden),
        ("info", 1, 404, r#"{"message":"404 Pipeline for pipeline_id, sha and ref Not Found"}"#),
        ("info", 1, 422, r#"{"message":"The number of jobs has exceeded the limit"}"#),
        ("required", 2, 400, repeated),
        ("required", 2, 403, forbidden),
    ] {
        let world = World::start_with(&[("GREENROOM_COMMIT_STATUS", mode)]).await;
        world.wire.on("POST", "*/statuses/*").always().answer(status, &[], body);
        let mr = world.ready_mr("feature", "one").await;
        world.shows(mr, "one").await;
        world.rests().await;
        assert_eq!(asked(&world), posts, "{mode}, {status}");
        looked_at_again(&world, mr).await;
        assert_eq!(asked(&world), posts, "{mode}, {status}");
        world.gitlab.close(mr).await;
        world.becomes(mr, "stopped").await;
        world.is_gone(mr).await;
        world.ends_well().await;
    }
}

#[tokio::test]
async fn one_that_runs_is_ended_when_the_right_to_do_so_comes_back() {
    let world = World::start_with(&REQUIRED).await;
    let (mr, _) = deploying(&world).await;
    world.wire.heal();
    world.wire.on("POST", "*/statuses/*").always().answer(403, &[], r#"{"message":"403 Forbidden"}"#);
    world.becomes(mr, "ready").await;
    world.rests().await;
    assert_eq!(states(&world).await, ["running"]);
    world.wire.heal();
    looked_at_again(&world, mr).await;
    assert_eq!(states(&world).await, ["success"]);
    world.ends_well().await;
}

#[tokio::test]
async fn a_conflict_is_tried_again() {
    for mode in ["info", "required"] {
        let world = World::start_with(&[("GREENROOM_COMMIT_STATUS", mode)]).await;
        let conflict = r#"{"message":"Another update is in progress"}"#;
        world.wire.on("POST", "*/statuses/*").answer(409, &[], conflict);
        let mr = world.ready_mr("feature", "one").await;
        world.rests().await;
        come_to(&world, &["success"]).await;
        world.shows(mr, "one").await;
        world.ends_well().await;
    }
}

#[tokio::test]
async fn an_answer_that_is_lost_makes_no_second_status() {
    for mode in ["info", "required"] {
        let world = World::start_with(&[("GREENROOM_COMMIT_STATUS", mode)]).await;
        // The one that ends it.
        let end = if mode == "info" { 1 } else { 2 };
        world.wire.on("POST", "*/statuses/*").nth(end).lose();
        let mr = world.ready_mr("feature", "one").await;
        until("it is asked whether it was heard", PATIENCE, || async {
            (world.wire.count("GET", "*/statuses") > 0).then_some(())
        })
        .await;
        world.becomes(mr, "ready").await;
        world.rests().await;
        assert_eq!(states(&world).await, ["success"], "{mode}");
        looked_at_again(&world, mr).await;
        assert_eq!(world.wire.count("POST", "*/statuses/*"), end, "{mode}");
        world.ends_well().await;
    }
}
