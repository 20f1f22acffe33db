//! Conversations: a pipeline with a deploy job and a stop job, its merge request, and the people around it.

use serde_json::{Value, json};

use super::{DEPLOY, site};
use crate::support::world::World;

#[tokio::test]
async fn a_job_deploys_its_folder_and_ends_with_the_link() {
    let world = World::start().await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let job = world.pipeline_with_jobs(mr).await;
    let folder = site("by a job");
    let ended = world.job_verb(job.deploy, mr, &["deploy", folder.path().to_str().unwrap()]).await;
    assert_eq!(ended.code, 0, "{}", ended.all());
    let preview = world.becomes(mr, "ready").await;
    world.shows(mr, "by a job").await;
    let (url, name) = (preview["url"].as_str().unwrap(), preview["name"].as_str().unwrap());
    let expected = format!("GREENROOM_URL={url}\nGREENROOM_NAME={name}\nGREENROOM_STATE=ready\n");
    assert_eq!(ended.dotenv, expected);
    assert!(
        ended.stdout.contains("section_start:") && ended.stdout.contains("section_end:"),
        "{}",
        ended.all()
    );
    assert!(ended.stdout.contains(url), "{}", ended.all());
    let why: Vec<_> = preview["decision"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(why.iter().any(|rule| rule.contains("asked for a deploy with files of its own")), "{why:?}");

    world.gitlab.act(&format!("jobs/{}", job.deploy), json!({ "status": "success" })).await;
    world.rests().await;
    // GitLab records the deployment of the job; there is no second one.
    let deployments = world.gitlab.deployments().await;
    assert_eq!(deployments.len(), 1, "{deployments:#?}");
    assert_eq!(deployments[0]["deployable"]["name"], DEPLOY);

    // The same job again, after its connection broke: it is the same order.
    let again = world.job_verb(job.deploy, mr, &["deploy", folder.path().to_str().unwrap()]).await;
    assert_eq!(again.code, 0, "{}", again.all());

    world.gitlab.merge(mr).await;
    world.becomes(mr, "stopped").await;
    world.is_gone(mr).await;
    world.ends_well().await;
}

#[tokio::test]
async fn the_next_push_is_deployed_by_its_own_job_and_the_older_one_is_turned_away() {
    let world = World::start().await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let first = world.pipeline_with_jobs(mr).await;
    let (one, two) = (site("one"), site("two"));
    let ended = world.job_verb(first.deploy, mr, &["deploy", one.path().to_str().unwrap()]).await;
    assert_eq!(ended.code, 0, "{}", ended.all());

    world.gitlab.push("feature", &[("a", "2")]).await;
    let second = world.pipeline_with_jobs(mr).await;
    let late = world.job_verb(first.deploy, mr, &["deploy", one.path().to_str().unwrap()]).await;
    assert_eq!(late.code, 1, "{}", late.all());
    assert!(late.stderr.contains("is not for the head of merge request"), "{}", late.all());
    world.shows(mr, "one").await;

    let ended = world.job_verb(second.deploy, mr, &["deploy", two.path().to_str().unwrap()]).await;
    assert_eq!(ended.code, 0, "{}", ended.all());
    world.becomes(mr, "ready").await;
    world.shows(mr, "two").await;
    for job in [first.deploy, second.deploy] {
        world.gitlab.act(&format!("jobs/{job}"), json!({ "status": "success" })).await;
    }
    world.ends_well().await;
}

#[tokio::test]
async fn of_two_pipelines_of_one_head_the_newer_ones_job_deploys() {
    let world = World::start().await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let jobs = json!([{ "name": DEPLOY, "status": "running" }]);
    let of_branch = world.gitlab.act("pipelines", json!({ "ref": "feature", "jobs": jobs })).await;
    let older = of_branch["jobs"][0]["id"].as_u64().unwrap();
    let newer = world.pipeline_with_jobs(mr).await.deploy;
    for (job, text) in [(older, "of the branch"), (newer, "of the merge request")] {
        let ended = world.job_verb(job, mr, &["deploy", site(text).path().to_str().unwrap()]).await;
        assert_eq!(ended.code, 0, "{}", ended.all());
        world.shows(mr, text).await;
    }
    let ended = world.job_verb(older, mr, &["deploy", site("too late").path().to_str().unwrap()]).await;
    assert_eq!(ended.code, 1, "{}", ended.all());
    assert!(ended.stderr.contains("is newer, and deploys merge request !1 already"), "{}", ended.all());
    world.shows(mr, "of the merge request").await;
}

#[tokio::test]
async fn of_what_one_job_sends_the_last_counts() {
    let world = World::start().await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let job = world.pipeline_with_jobs(mr).await;
    for text in ["half of it", "all of it", "half of it"] {
        let ended = world.job_verb(job.deploy, mr, &["deploy", site(text).path().to_str().unwrap()]).await;
        assert_eq!(ended.code, 0, "{}", ended.all());
        // What the job was told is true at once.
        world.shows(mr, text).await;
    }
    world.gitlab.act(&format!("jobs/{}", job.deploy), json!({ "status": "success" })).await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_merged_results_pipeline_deploys_the_head_that_it_merged() {
    let world = World::start().await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let jobs = json!([{ "name": DEPLOY, "status": "running" }]);
    let pipeline = json!({ "mr_iid": mr, "kind": "merged_result", "jobs": jobs });
    let made = world.gitlab.act("pipelines", pipeline).await;
    let job = made["jobs"][0]["id"].as_u64().unwrap();
    let ended = world.job_verb(job, mr, &["deploy", site("merged").path().to_str().unwrap()]).await;
    assert_eq!(ended.code, 0, "{}", ended.all());
    world.becomes(mr, "ready").await;
    world.shows(mr, "merged").await;

    let jobs = json!([{ "name": DEPLOY, "status": "running" }]);
    let made =
        world.gitlab.act("pipelines", json!({ "mr_iid": mr, "kind": "merge_train", "jobs": jobs })).await;
    let job = made["jobs"][0]["id"].as_u64().unwrap();
    let ended = world.job_verb(job, mr, &["deploy", site("train").path().to_str().unwrap()]).await;
    assert_eq!(ended.code, 1, "{}", ended.all());
    assert!(ended.stderr.contains("merge train"), "{}", ended.all());
    world.shows(mr, "merged").await;
    world.ends_well().await;
}

#[tokio::test]
async fn what_cannot_be_served_fails_the_job_with_the_reason_and_the_last_good_one_serves() {
    let world = World::start().await;
    let mr = world.ready_mr("feature", "good").await;
    world.gitlab.push("feature", &[("a", "2")]).await;
    let job = world.pipeline_with_jobs(mr).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("readme.txt"), "no page").unwrap();
    let ended = world
        .job_verb(job.deploy, mr, &["deploy", "--output", "json", folder.path().to_str().unwrap()])
        .await;
    assert_eq!(ended.code, 1, "{}", ended.all());
    assert!(ended.stderr.contains("index.html"), "{}", ended.all());
    let shown: Value = serde_json::from_str(ended.stdout.trim()).expect("JSON alone on stdout");
    assert_eq!((&shown["outcome"], &shown["state"]), (&json!("failed"), &json!("failed")));
    assert!(ended.dotenv.contains("GREENROOM_STATE=failed\n"), "{}", ended.dotenv);
    world.becomes(mr, "failed").await;
    world.shows(mr, "good").await;
    world.gitlab.fail_job(job.deploy).await;
    world.ends_well().await;
}

#[tokio::test]
async fn without_a_folder_the_job_asks_for_what_its_pipeline_has_built_and_waits_for_nothing_else() {
    let world = World::start().await;
    let file = "version: 1\nengine: static\nwait_for: pipeline\nstatic:\n  job: build\n  path: dist\n";
    world.gitlab.push("feature", &[(".greenroom.yml", file)]).await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let page = crate::support::world::page("built");
    let jobs = json!([
        { "name": "build", "status": "success", "artifact": { "files": { "dist/index.html": page } } },
        { "name": DEPLOY, "status": "running" },
        { "name": "e2e", "status": "created" },
    ]);
    let made = world.gitlab.act("pipelines", json!({ "mr_iid": mr, "jobs": jobs })).await;
    world.becomes(mr, "waiting").await;
    let job = made["jobs"][1]["id"].as_u64().unwrap();
    let ended = world.job_verb(job, mr, &["deploy"]).await;
    assert_eq!(ended.code, 0, "{}", ended.all());
    world.becomes(mr, "ready").await;
    world.shows(mr, "built").await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_stop_job_takes_the_preview_away_twice_and_without_its_branch() {
    let world = World::start().await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let job = world.pipeline_with_jobs(mr).await;
    let nothing = world.job_verb(job.stop, mr, &["stop"]).await;
    assert_eq!(nothing.code, 0, "{}", nothing.all());

    let folder = site("one");
    let deploy = ["deploy", folder.path().to_str().unwrap()];
    assert_eq!(world.job_verb(job.deploy, mr, &deploy).await.code, 0);
    world.gitlab.act(&format!("jobs/{}", job.deploy), json!({ "status": "success" })).await;
    world.gitlab.delete_branch("feature").await;
    for _ in 0..2 {
        let ended = world.job_verb(job.stop, mr, &["stop"]).await;
        assert_eq!(ended.code, 0, "{}", ended.all());
        assert!(ended.dotenv.contains("GREENROOM_STATE=stopped"), "{}", ended.dotenv);
        world.is_gone(mr).await;
    }
    world.ends_well().await;
}

#[tokio::test]
async fn a_deploy_job_that_is_run_again_brings_back_what_a_stop_job_took_but_not_what_the_operator_did() {
    let world = World::start().await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let job = world.pipeline_with_jobs(mr).await;
    let folder = site("one");
    let deploy = ["deploy", folder.path().to_str().unwrap()];
    assert_eq!(world.job_verb(job.deploy, mr, &deploy).await.code, 0);
    assert_eq!(world.job_verb(job.stop, mr, &["stop"]).await.code, 0);
    world.gitlab.act(&format!("jobs/{}", job.deploy), json!({ "status": "success" })).await;
    let again = world.gitlab.retry(job.deploy).await;
    let ended = world.job_verb(again, mr, &deploy).await;
    assert_eq!(ended.code, 0, "{}", ended.all());
    world.shows(mr, "one").await;

    let stopped = world.greenroom.verb(&["stop", "acme/web!1"]);
    assert!(stopped.0.success(), "{}", stopped.1);
    world.becomes(mr, "stopped").await;
    world.gitlab.act(&format!("jobs/{again}"), json!({ "status": "success" })).await;
    let third = world.gitlab.retry(again).await;
    let ended = world.job_verb(third, mr, &deploy).await;
    assert_eq!(ended.code, 1, "{}", ended.all());
    assert!(ended.stderr.contains("stopped by the operator"), "{}", ended.all());
    world.is_gone(mr).await;
}

#[tokio::test]
async fn a_dropped_connection_and_a_killed_server_are_waited_out() {
    let world = World::start().await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let job = world.pipeline_with_jobs(mr).await;
    // The look cannot come to its end yet.
    world.wire.on("POST", "*/environments").always().answer(502, &[], "<html>");
    let token = world.id_token(job.deploy, json!({})).await;
    let folder = site("patient");
    let verb = world.verb_command(&["deploy", folder.path().to_str().unwrap()], mr, &token).spawn().unwrap();
    world.greenroom.logs("a job asked for a deploy", 1).await;
    world.greenroom.restart().await;
    world.wire.heal();
    let output = verb.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    world.shows(mr, "patient").await;
}

#[tokio::test]
async fn a_reopened_merge_request_gets_back_what_its_job_has_sent() {
    let world = World::start().await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let job = world.pipeline_with_jobs(mr).await;
    let ended = world.job_verb(job.deploy, mr, &["deploy", site("sent").path().to_str().unwrap()]).await;
    assert_eq!(ended.code, 0, "{}", ended.all());
    world.gitlab.act(&format!("jobs/{}", job.deploy), json!({ "status": "success" })).await;
    world.gitlab.close(mr).await;
    world.becomes(mr, "stopped").await;
    world.gitlab.reopen(mr).await;
    world.becomes(mr, "ready").await;
    world.shows(mr, "sent").await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_cancelled_job_does_not_stop_what_it_asked_for() {
    let world = World::start().await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let job = world.pipeline_with_jobs(mr).await;
    let token = world.id_token(job.deploy, json!({})).await;
    let folder = site("goes on");
    let mut verb =
        world.verb_command(&["deploy", folder.path().to_str().unwrap()], mr, &token).spawn().unwrap();
    world.greenroom.logs("a job asked for a deploy", 1).await;
    verb.kill().await.unwrap();
    world.becomes(mr, "ready").await;
    world.shows(mr, "goes on").await;
}

#[tokio::test]
async fn what_a_job_lacks_is_named_together_and_a_server_that_is_away_is_worth_another_try() {
    let world = World::start().await;
    let folder = site("x");
    let folder = folder.path().to_str().unwrap();
    let mut bare = world.verb_command(&["deploy", folder], 1, "");
    let output = bare.env_remove("GREENROOM_SERVER").output().await.unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("GREENROOM_SERVER") && told.contains("GREENROOM_ID_TOKEN"), "{told}");

    let mut odd = world.verb_command(&["deploy", folder], 1, "x");
    let output = odd.env("CI_MERGE_REQUEST_IID", "seven").output().await.unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("CI_MERGE_REQUEST_IID") && !told.contains("is not set"), "{told}");

    let output = world.verb_command(&["deploy", "nowhere"], 1, "x").output().await.unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[tokio::test]
async fn where_jobs_deploy_webhooks_do_not_and_still_mend_what_jobs_leave() {
    let world = World::start().await;
    let first = world.gitlab.open_mr("first", "First").await;
    let job = world.pipeline_with_jobs(first).await;
    let folder = site("first");
    let deploy = ["deploy", folder.path().to_str().unwrap()];
    assert_eq!(world.job_verb(job.deploy, first, &deploy).await.code, 0);
    world.gitlab.act(&format!("jobs/{}", job.deploy), json!({ "status": "success" })).await;

    // The build has succeeded, which would be enough for a webhook; the deploy job of the same pipeline runs.
    let second = world.gitlab.open_mr("second", "Second").await;
    let environment = format!("review/mr-{second}");
    let files = json!({ "files": { "dist/index.html": crate::support::world::page("built") } });
    let jobs = json!([
        { "name": "build", "status": "success", "artifact": files },
        { "name": DEPLOY, "status": "running", "environment": { "name": environment } },
    ]);
    let made = world.gitlab.act("pipelines", json!({ "mr_iid": second, "jobs": jobs })).await;
    world.rests().await;
    let waiting = world.becomes(second, "waiting").await;
    assert!(waiting["decision"].to_string().contains("jobs deploy this project's previews"), "{waiting}");
    let job = made["jobs"][1]["id"].as_u64().unwrap();
    let folder = site("second");
    let ended = world.job_verb(job, second, &["deploy", folder.path().to_str().unwrap()]).await;
    assert_eq!(ended.code, 0, "{}", ended.all());
    world.shows(second, "second").await;
    world.gitlab.act(&format!("jobs/{job}"), json!({ "status": "success" })).await;
    world.rests().await;
    let ours: Vec<_> =
        world.gitlab.deployments().await.into_iter().filter(|made| made["deployable"].is_null()).collect();
    assert!(ours.is_empty(), "the server made none: {ours:#?}");
    world.shows(second, "second").await;

    // Nobody runs the stop job; a pipeline without a deploy job passes.
    world.gitlab.close(second).await;
    world.becomes(second, "stopped").await;
    world.is_gone(second).await;
    world.gitlab.push("first", &[("a", "2")]).await;
    world.build(first, "by webhook").await;
    world.becomes(first, "ready").await;
    world.shows(first, "by webhook").await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_stop_by_hand_counts_although_no_runner_takes_its_stop_job() {
    let world = World::start_with(&[("GREENROOM_RESYNC_INTERVAL", "1s")]).await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let job = world.pipeline_with_jobs(mr).await;
    let folder = site("stays not");
    let ended = world.job_verb(job.deploy, mr, &["deploy", folder.path().to_str().unwrap()]).await;
    assert_eq!(ended.code, 0, "{}", ended.all());
    world.gitlab.act(&format!("jobs/{}", job.deploy), json!({ "status": "success" })).await;
    world.becomes(mr, "ready").await;
    world.rests().await;
    let stopping = world.gitlab.stop_named(&format!("review/mr-{mr}"), false).await;
    assert_eq!(stopping["state"], "stopping", "{stopping}");
    let preview = world.becomes(mr, "stopped").await;
    assert_eq!(preview["reason"], "somebody stopped the environment in GitLab");
    world.is_gone(mr).await;
    // The job comes after all, and finds nothing to do.
    let ended = world.job_verb(job.stop, mr, &["stop"]).await;
    assert_eq!(ended.code, 0, "{}", ended.all());
    world.ends_well().await;
}
