//! The main job, as conversations: what people do in GitLab, and what they see.

use serde_json::json;

use crate::support::{
    PATIENCE, until,
    world::{World, page},
};

#[tokio::test]
async fn open_push_fail_fix_close() {
    let world = World::start().await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let waiting = world.becomes(mr, "waiting").await;
    assert!(
        waiting["reason"].as_str().unwrap().starts_with("no pipeline has finished for commit"),
        "{waiting}"
    );
    assert_eq!(world.visit(mr, "/").await.0, 503, "nothing to serve yet");

    world.build(mr, "one").await;
    let ready = world.becomes(mr, "ready").await;
    world.shows(mr, "one").await;

    world.gitlab.push("feature", &[("a", "2")]).await;
    world.build(mr, "two").await;
    let second = world.becomes(mr, "ready").await;
    assert_eq!(second["url"], ready["url"], "the link is stable");
    world.shows(mr, "two").await;

    world.gitlab.push("feature", &[("a", "3")]).await;
    let broken = world.gitlab.start_pipeline(mr).await;
    world.gitlab.fail_job(broken.job).await;
    let failed = world.becomes(mr, "failed").await;
    assert_eq!(failed["reason"], format!("job `build` of pipeline {} failed", broken.id));
    assert_eq!(failed["serving"]["sha"], second["sha"], "the last good one serves");
    world.shows(mr, "two").await;
    assert!(world.gitlab.comment(mr).await.unwrap().contains("the last good one"));

    world.gitlab.push("feature", &[("a", "4")]).await;
    world.build(mr, "four").await;
    world.becomes(mr, "ready").await;
    world.shows(mr, "four").await;

    world.gitlab.close(mr).await;
    let stopped = world.becomes(mr, "stopped").await;
    assert_eq!(stopped["reason"], "the merge request was closed");
    assert_eq!(stopped["serving"], serde_json::Value::Null);
    world.is_gone(mr).await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_reopened_merge_request_gets_its_preview_back() {
    let world = World::start().await;
    let mr = world.ready_mr("feature", "one").await;
    world.gitlab.close(mr).await;
    world.becomes(mr, "stopped").await;
    world.is_gone(mr).await;
    world.gitlab.reopen(mr).await;
    world.becomes(mr, "ready").await;
    world.shows(mr, "one").await;
    world.ends_well().await;
}

#[tokio::test]
async fn names_may_be_as_long_and_as_odd_as_git_and_gitlab_let_them() {
    let world = World::start().await;
    let long = format!("feature/{}/{}", "x".repeat(230), "y".repeat(61));
    assert_eq!(long.len(), 300);
    let title = format!("\"{}\" 'and' `so`\n/close\n🚀 {{{{ 7 * 7 }}}}", "very ".repeat(40));
    for (branch, title) in [(&*long, &*title), ("ünï/\"quoted\"&co=%2F#1", "<b>|</b>"), ("-dash", "Draft: x")]
    {
        let mr = world.ready_mr(branch, title).await;
        assert_eq!(world.visit(mr, "/").await.0, 200, "{branch}");
        assert_eq!(world.gitlab.mr(mr).await["state"], "opened");
        world.gitlab.close(mr).await;
        world.becomes(mr, "stopped").await;
        world.is_gone(mr).await;
    }
    world.ends_well().await;
}

#[tokio::test]
async fn a_merge_takes_everything_away() {
    let world = World::start().await;
    let mr = world.ready_mr("feature", "one").await;
    world.gitlab.merge(mr).await;
    assert_eq!(world.becomes(mr, "stopped").await["reason"], "the merge request was merged");
    world.is_gone(mr).await;
    // An edit after the end brings nothing back.
    world.gitlab.edit(mr, json!({ "labels": "later" })).await;
    world.rests().await;
    world.is_gone(mr).await;
    world.ends_well().await;
}

#[tokio::test]
async fn of_two_pushes_in_a_burst_the_last_one_counts() {
    let world = World::start().await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    world.gitlab.push("feature", &[("a", "1")]).await;
    let first = world.gitlab.start_pipeline(mr).await;
    world.gitlab.push("feature", &[("a", "2")]).await;
    let second = world.gitlab.start_pipeline(mr).await;
    // The newer one is done first; the older one comes late.
    world.gitlab.succeed_job(second.job, &[("dist/index.html", &page("new"))]).await;
    world.becomes(mr, "ready").await;
    world.gitlab.succeed_job(first.job, &[("dist/index.html", &page("old"))]).await;
    world.rests().await;
    world.becomes(mr, "ready").await;
    world.shows(mr, "new").await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_pipeline_that_was_there_before_the_merge_request_counts() {
    let world = World::start().await;
    let sha = world.gitlab.push("feature", &[("a", "1")]).await;
    let page = page("early");
    let jobs = json!([{
        "name": "build", "status": "success", "artifact": { "files": { "dist/index.html": page } },
    }]);
    world.gitlab.act("pipelines", json!({ "ref": "feature", "jobs": jobs })).await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let ready = world.becomes(mr, "ready").await;
    assert_eq!(ready["sha"], sha);
    world.shows(mr, "early").await;
    world.ends_well().await;
}

#[tokio::test]
async fn with_merged_results_the_deployment_carries_the_pipelines_commit() {
    let world = World::start().await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let page = page("merged result");
    let jobs = json!([{
        "name": "build", "status": "success", "artifact": { "files": { "dist/index.html": page } },
    }]);
    let pipeline = json!({ "mr_iid": mr, "kind": "merged_result", "jobs": jobs });
    let pipeline = world.gitlab.act("pipelines", pipeline).await;
    let ready = world.becomes(mr, "ready").await;
    assert_ne!(ready["sha"], pipeline["sha"], "the head is not the merge commit");
    assert_eq!(ready["serving"]["sha"], ready["sha"]);
    let deployments = world.gitlab.deployments().await;
    assert_eq!(deployments.len(), 1, "{deployments:#?}");
    assert_eq!(deployments[0]["sha"], pipeline["sha"]);
    assert_eq!(deployments[0]["ref"], pipeline["ref"]);
    assert_eq!(deployments[0]["status"], "success");
    world.ends_well().await;
}

#[tokio::test]
async fn a_merge_train_never_deploys() {
    let world = World::start().await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let page = page("train");
    let jobs = json!([{
        "name": "build", "status": "success", "artifact": { "files": { "dist/index.html": page } },
    }]);
    world.gitlab.act("pipelines", json!({ "mr_iid": mr, "kind": "merge_train", "jobs": jobs })).await;
    world.rests().await;
    let waiting = world.becomes(mr, "waiting").await;
    assert!(waiting["reason"].as_str().unwrap().starts_with("no pipeline"), "{waiting}");
    world.ends_well().await;
}

#[tokio::test]
async fn merged_while_it_is_being_deployed_nothing_stays() {
    let world = World::start().await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    world.becomes(mr, "waiting").await;
    // The deployment is announced; before greenroom hears the answer, the merge request is merged.
    let gitlab = world.gitlab.person();
    world.wire.on("POST", "*/deployments").after(move || gitlab.merge_now(mr));
    world.build(mr, "late").await;
    world.becomes(mr, "stopped").await;
    world.rests().await;
    world.is_gone(mr).await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_project_without_a_file_hears_nothing_from_us() {
    let world = World::start().await;
    world.gitlab.remove_file("main", ".greenroom.yml").await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    world.build(mr, "unwanted").await;
    world.rests().await;
    assert!(world.preview(mr).await.is_none());
    assert_eq!(world.gitlab.comment(mr).await, None);
    assert!(world.gitlab.calls().await.iter().all(|call| call.method == "GET"), "only reads");
    world.ends_well().await;
}

#[tokio::test]
async fn a_broken_file_is_told_with_its_place() {
    let world = World::start().await;
    world
        .gitlab
        .push("feature", &[(".greenroom.yml", "version: 1\nengine: static\nstatic: {jobb: build}\n")])
        .await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let failed = world.becomes(mr, "failed").await;
    let reason = failed["reason"].as_str().unwrap();
    assert!(reason.contains("line 3, column ") && reason.contains("unknown field 'jobb'"), "{reason}");
    let comment = world.gitlab.comment(mr).await.unwrap();
    assert!(comment.contains("unknown field 'jobb'"), "{comment}");
    // Mended, it goes on.
    world
        .gitlab
        .push(
            "feature",
            &[(".greenroom.yml", "version: 1\nengine: static\nstatic: {job: build, path: dist}\n")],
        )
        .await;
    world.build(mr, "mended").await;
    world.becomes(mr, "ready").await;
    world.shows(mr, "mended").await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_fork_is_skipped_and_told_nothing() {
    let world = World::start().await;
    let mr = world.gitlab.open_mr_from_fork("patch-1", "From outside").await;
    let skipped = world.becomes(mr, "skipped").await;
    assert!(skipped["reason"].as_str().unwrap().contains("fork"), "{skipped}");
    assert_eq!(world.gitlab.comment(mr).await, None, "skipped makes no comment");
    world.ends_well().await;
}

#[tokio::test]
async fn a_pipeline_that_ends_without_the_job_skips_and_keeps_the_last_good_one() {
    let world = World::start().await;
    let mr = world.ready_mr("feature", "good").await;
    world.gitlab.push("feature", &[("a", "2")]).await;
    let jobs = json!([{ "name": "lint", "status": "success" }]);
    world.gitlab.act("pipelines", json!({ "mr_iid": mr, "jobs": jobs })).await;
    let skipped = world.becomes(mr, "skipped").await;
    assert!(skipped["reason"].as_str().unwrap().contains("finished without a job `build`"), "{skipped}");
    world.shows(mr, "good").await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_job_that_a_person_has_to_start_is_waited_for() {
    let world = World::start().await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let jobs = json!([{ "name": "build", "status": "manual", "when": "manual" }]);
    world.gitlab.act("pipelines", json!({ "mr_iid": mr, "jobs": jobs })).await;
    until("the comment asks for a person", PATIENCE, || async {
        let preview = world.becomes(mr, "waiting").await;
        let reason = preview["reason"].as_str().unwrap().to_owned();
        if reason.contains("waits for a person to start it") { Ok(()) } else { Err(reason) }
    })
    .await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_job_of_a_child_pipeline_is_found() {
    let world = World::start().await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let jobs = json!([{ "name": "child", "bridge": true, "status": "success" }]);
    let parent = world.gitlab.act("pipelines", json!({ "mr_iid": mr, "jobs": jobs })).await;
    let page = page("from a child");
    let jobs = json!([{
        "name": "build", "status": "success", "artifact": { "files": { "dist/index.html": page } },
    }]);
    let child = json!({
        "mr_iid": mr, "parent": parent["id"], "parent_job": parent["jobs"][0]["id"], "jobs": jobs,
    });
    world.gitlab.act("pipelines", child).await;
    world.becomes(mr, "ready").await;
    world.shows(mr, "from a child").await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_job_two_child_pipelines_down_is_found() {
    let world = World::start().await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let bridge = json!([{ "name": "child", "bridge": true, "status": "success" }]);
    let top = world.gitlab.act("pipelines", json!({ "mr_iid": mr, "jobs": bridge })).await;
    let middle =
        json!({ "mr_iid": mr, "parent": top["id"], "parent_job": top["jobs"][0]["id"], "jobs": bridge });
    let middle = world.gitlab.act("pipelines", middle).await;
    let jobs = json!([{
        "name": "build", "status": "success", "artifact": { "files": { "dist/index.html": page("from deep down") } },
    }]);
    let bottom =
        json!({ "mr_iid": mr, "parent": middle["id"], "parent_job": middle["jobs"][0]["id"], "jobs": jobs });
    world.gitlab.act("pipelines", bottom).await;
    world.becomes(mr, "ready").await;
    world.shows(mr, "from deep down").await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_job_that_runs_again_and_makes_the_same_is_not_deployed_again() {
    let world = World::start().await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let first = world.build(mr, "same").await;
    let ready = world.becomes(mr, "ready").await;
    let again = world.gitlab.retry(first.job).await;
    world.gitlab.succeed_job(again, &[("dist/index.html", &page("same"))]).await;
    world.rests().await;
    assert_eq!(world.gitlab.deployments().await.len(), 1);
    let now = world.becomes(mr, "ready").await;
    assert_eq!(now["serving"], ready["serving"]);

    let different = world.gitlab.retry(again).await;
    world.gitlab.succeed_job(different, &[("dist/index.html", &page("different"))]).await;
    world.rests().await;
    world.becomes(mr, "ready").await;
    world.shows(mr, "different").await;
    assert_eq!(world.gitlab.deployments().await.len(), 2);
    world.ends_well().await;
}
