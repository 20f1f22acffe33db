//! Pipelines, jobs, artifacts.

use super::world::{BOT, World};
use reqwest::Method;
use serde_json::{Value, json};

async fn job(world: &World, id: &Value, change: Value) -> Value {
    world.control(&format!("projects/42/jobs/{id}"), change).await
}

async fn status_of(world: &World, pipeline: &Value) -> Value {
    world.get(&format!("pipelines/{}", pipeline["id"])).await.expect(200)["status"].clone()
}

#[tokio::test]
async fn a_push_starts_no_pipeline_by_itself() {
    let world = World::new().await;
    world.open().await;
    assert_eq!(world.get("merge_requests/1/pipelines").await.expect(200), json!([]));
}

#[tokio::test]
async fn a_merge_request_pipeline_has_the_merge_requests_ref_in_rest() {
    let world = World::new().await;
    let head = world.open().await["sha"].clone();
    let detached = world.pipeline("detached", json!([{ "name": "build" }])).await;
    assert_eq!((&detached["ref"], &detached["sha"]), (&json!("refs/merge-requests/1/head"), &head));
    assert_eq!(detached["source"], "merge_request_event");
}

#[tokio::test]
async fn merged_results_and_trains_run_on_a_temporary_merge_commit() {
    let world = World::new().await;
    let head = world.open().await["sha"].clone();
    let main = world.get("repository/branches/main").await.expect(200)["commit"]["id"].clone();
    for (kind, reference) in
        [("merged_result", "refs/merge-requests/1/merge"), ("merge_train", "refs/merge-requests/1/train")]
    {
        let pipeline = world.pipeline(kind, json!([{ "name": "build" }])).await;
        assert_eq!(pipeline["ref"], reference);
        let commit =
            world.get(&format!("repository/commits/{}", pipeline["sha"].as_str().unwrap())).await.expect(200);
        assert_eq!(commit["parent_ids"], json!([main, head]));
    }
}

#[tokio::test]
async fn the_merge_requests_pipelines_come_newest_first_without_children() {
    let world = World::new().await;
    world.open().await;
    let jobs = json!([{ "name": "build" }, { "name": "child", "bridge": true }]);
    let first = world.pipeline("detached", jobs).await;
    let bridge = &first["jobs"][1]["id"];
    let child = json!({ "ref": "feature", "parent": first["id"], "parent_job": bridge, "jobs": [{ "name": "inner" }] });
    let child = world.control("projects/42/pipelines", child).await;
    let branch = world
        .control("projects/42/pipelines", json!({ "ref": "feature", "jobs": [{ "name": "build" }] }))
        .await;
    let listed = world.get("merge_requests/1/pipelines").await.expect(200);
    let ids: Vec<_> = listed.as_array().unwrap().iter().map(|one| one["id"].clone()).collect();
    assert_eq!(ids, [branch["id"].clone(), first["id"].clone()]);
    let bridges = world.get(&format!("pipelines/{}/bridges", first["id"])).await.expect(200);
    assert_eq!(bridges[0]["downstream_pipeline"]["id"], child["id"]);
    let jobs = world.get(&format!("pipelines/{}/jobs", first["id"])).await.expect(200);
    assert_eq!(jobs.as_array().unwrap().len(), 1, "bridges are not among the jobs");
}

#[tokio::test]
async fn the_status_is_computed_from_the_jobs() {
    let world = World::new().await;
    world.open().await;
    let jobs = json!([{ "name": "build" }, { "name": "lint", "allow_failure": true }, { "name": "deploy", "when": "manual" }]);
    let pipeline = world.pipeline("detached", jobs).await;
    assert_eq!(pipeline["status"], "pending");
    job(&world, &pipeline["jobs"][0]["id"], json!({ "status": "running" })).await;
    assert_eq!(status_of(&world, &pipeline).await, "running");
    job(&world, &pipeline["jobs"][0]["id"], json!({ "status": "success" })).await;
    job(&world, &pipeline["jobs"][1]["id"], json!({ "status": "failed" })).await;
    assert_eq!(status_of(&world, &pipeline).await, "success");
}

#[tokio::test]
async fn a_retry_is_a_new_job_and_hides_the_old_one() {
    let world = World::new().await;
    world.open().await;
    let pipeline = world.pipeline("detached", json!([{ "name": "build", "status": "failed" }])).await;
    let old = &pipeline["jobs"][0]["id"];
    assert_eq!(pipeline["status"], "failed");
    let new = world.post(&format!("jobs/{old}/retry"), json!({})).await.expect(201)["id"].clone();
    assert_ne!(*old, new);
    let ids = async |query: &str| {
        let jobs = world.get(&format!("pipelines/{}/jobs{query}", pipeline["id"])).await.expect(200);
        jobs.as_array().unwrap().iter().map(|job| job["id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids("").await, std::slice::from_ref(&new));
    assert_eq!(ids("?include_retried=true").await, [new, old.clone()]);
    world.post(&format!("jobs/{old}/retry"), json!({})).await.expect(403);
}

#[tokio::test]
async fn a_manual_job_waits_until_it_is_played() {
    let world = World::new().await;
    world.open().await;
    let pipeline = world
        .pipeline("detached", json!([{ "name": "deploy", "when": "manual" }, { "name": "build" }]))
        .await;
    let path = format!("jobs/{}/play", pipeline["jobs"][0]["id"]);
    assert_eq!(pipeline["jobs"][0]["status"], "manual");
    assert_eq!(world.post(&path, json!({})).await.expect(200)["status"], "pending");
    world.post(&path, json!({})).await.expect(400);
}

#[tokio::test]
async fn cancelling_a_pipeline_cancels_its_live_jobs() {
    let world = World::new().await;
    world.open().await;
    let pipeline =
        world.pipeline("detached", json!([{ "name": "a", "status": "success" }, { "name": "b" }])).await;
    let cancelled = world.post(&format!("pipelines/{}/cancel", pipeline["id"]), json!({})).await.expect(201);
    assert_eq!(cancelled["status"], "canceled");
    let retried = world.post(&format!("pipelines/{}/retry", pipeline["id"]), json!({})).await.expect(201);
    assert_eq!(retried["status"], "running");
}

#[tokio::test]
async fn artifacts_are_behind_a_redirect_to_another_origin_that_refuses_tokens() {
    let world = World::new().await;
    world.open().await;
    let pipeline = world.pipeline("detached", json!([{ "name": "build" }])).await;
    let finished =
        json!({ "status": "success", "job": "build", "files": { "dist/index.html": "<h1>hi</h1>" } });
    world.control(&format!("projects/42/pipelines/{}/finish", pipeline["id"]), finished).await;
    let path = format!("jobs/{}/artifacts", pipeline["jobs"][0]["id"]);
    let redirect = world.get(&path).await;
    assert_eq!(redirect.status, 302);
    let location = redirect.header("Location");
    assert!(!location.starts_with(world.url()));
    world.ask(BOT, Method::GET, location, None).await.expect(400);
    let zip = reqwest::get(location).await.unwrap().bytes().await.unwrap();
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(zip)).unwrap();
    let text = std::io::read_to_string(zip.by_name("dist/index.html").unwrap()).unwrap();
    assert_eq!(text, "<h1>hi</h1>");
    assert_eq!(world.get(&format!("{path}/dist/index.html")).await.text, "<h1>hi</h1>");
    let latest = "jobs/artifacts/refs%2Fmerge-requests%2F1%2Fhead/raw/dist/index.html?job=build";
    assert_eq!(world.get(latest).await.text, "<h1>hi</h1>");
}

#[tokio::test]
async fn expired_and_absent_artifacts_are_404() {
    let world = World::new().await;
    world.open().await;
    let artifact = json!({ "files": { "a": "b" } });
    let pipeline = world
        .pipeline("detached", json!([{ "name": "build" }, { "name": "old", "artifact": artifact }]))
        .await;
    let path = |job: usize| format!("jobs/{}/artifacts", pipeline["jobs"][job]["id"]);
    assert_eq!(world.get(&path(0)).await.expect(404), json!({ "message": "404 Not found" }));
    assert_eq!(world.get(&path(1)).await.status, 302);
    let shown = job(&world, &pipeline["jobs"][1]["id"], json!({ "expire_artifact": true })).await;
    assert_eq!(shown["artifacts_file"]["filename"], "artifacts.zip");
    assert_eq!(world.get(&path(1)).await.expect(404), json!({ "message": "404 Not found" }));
}

#[tokio::test]
async fn the_log_of_a_job_can_be_read() {
    let world = World::new().await;
    world.open().await;
    let pipeline = world.pipeline("detached", json!([{ "name": "build" }])).await;
    let id = &pipeline["jobs"][0]["id"];
    job(&world, id, json!({ "trace": "npm ERR!", "status": "failed", "failure_reason": "script_failure" }))
        .await;
    assert_eq!(world.get(&format!("jobs/{id}/trace")).await.text, "npm ERR!");
    assert_eq!(world.get(&format!("jobs/{id}")).await.expect(200)["failure_reason"], "script_failure");
}
