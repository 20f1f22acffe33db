//! Environments and deployments.

use super::world::World;
use serde_json::{Value, json};

async fn environment(world: &World, name: &str) -> Value {
    let found = world.get(&format!("environments?name={}", name.replace('/', "%2F"))).await.expect(200);
    found[0].clone()
}

/// Makes a deployment of the merge request's head to `review/mr-1`.
async fn deployment(world: &World, status: &str) -> Value {
    let head = world.get("merge_requests").await.expect(200)[0]["sha"].clone();
    let body = json!({ "environment": "review/mr-1", "sha": head, "ref": "feature", "tag": false, "status": status });
    world.post("deployments", body).await.expect(201)
}

#[tokio::test]
async fn an_environment_is_made_once_and_keeps_its_slug() {
    let world = World::new().await;
    let body =
        json!({ "name": "review/mr-1", "external_url": "https://mr-1.example.com", "tier": "development" });
    let made = world.post("environments", body.clone()).await.expect(201);
    assert_eq!((&made["state"], &made["tier"]), (&json!("available"), &json!("development")));
    assert!(made["slug"].as_str().unwrap().starts_with("review-mr-1-"));
    assert_eq!((&made["last_deployment"], &made["auto_stop_at"]), (&Value::Null, &Value::Null));
    let again = world.post("environments", body).await.expect(400);
    assert_eq!(again["message"], json!({ "name": ["has already been taken"] }));
    let path = format!("environments/{}", made["id"]);
    let edited = json!({ "name": "other", "external_url": "https://x.example.com" });
    let edited = world.put(&path, edited).await.expect(200);
    assert_eq!(
        (&edited["name"], &edited["external_url"]),
        (&json!("review/mr-1"), &json!("https://x.example.com"))
    );
}

#[tokio::test]
async fn environments_are_found_by_name_search_and_state() {
    let world = World::new().await;
    for name in ["review/mr-1", "review/mr-12", "production"] {
        world.post("environments", json!({ "name": name })).await.expect(201);
    }
    let count = async |query: &str| {
        world.get(&format!("environments?{query}")).await.expect(200).as_array().unwrap().len()
    };
    assert_eq!(count("name=review%2Fmr-1").await, 1);
    assert_eq!(count("search=review").await, 2);
    assert_eq!(count("states=stopped").await, 0);
    world.get("environments?search=re").await.expect(400);
    assert!(
        environment(&world, "production").await.get("last_deployment").is_none(),
        "only the single one has it"
    );
}

#[tokio::test]
async fn stopping_answers_200_and_deleting_needs_a_stop_first() {
    let world = World::new().await;
    let id = world.post("environments", json!({ "name": "review/mr-1" })).await.expect(201)["id"].clone();
    let path = format!("environments/{id}");
    assert_eq!(world.delete(&path).await.expect(403), json!({ "message": "403 Forbidden" }));
    assert_eq!(world.post(&format!("{path}/stop"), json!({})).await.expect(200)["state"], "stopped");
    world.delete(&path).await.expect(204);
    assert_eq!(world.get(&path).await.expect(404), json!({ "message": "404 Environment Not Found" }));
}

#[tokio::test]
async fn without_a_stop_job_with_action_leaves_the_state_unless_forced() {
    let world = World::new().await;
    let body = json!({ "name": "review/mr-1", "auto_stop_setting": "with_action" });
    let id = world.post("environments", body).await.expect(201)["id"].clone();
    let path = format!("environments/{id}/stop");
    assert_eq!(world.post(&path, json!({})).await.expect(200)["state"], "available");
    assert_eq!(world.post(&path, json!({ "force": true })).await.expect(200)["state"], "stopped");
}

#[tokio::test]
async fn a_stop_job_decides_what_becomes_of_a_stop() {
    let world = World::new().await;
    world.open().await;
    let start = json!({ "name": "review/mr-1", "on_stop": "stop" });
    let stop = json!({ "name": "review/mr-1", "action": "stop" });
    let jobs = json!([
        { "name": "deploy", "status": "success", "environment": start },
        { "name": "stop", "when": "manual", "environment": stop },
    ]);
    let pipeline = world.pipeline("detached", jobs).await;
    let id = environment(&world, "review/mr-1").await["id"].clone();
    let stop_it = format!("environments/{id}/stop");
    assert_eq!(world.post(&stop_it, json!({})).await.expect(200)["state"], "stopping");
    let job = format!("projects/42/jobs/{}", pipeline["jobs"][1]["id"]);
    world.control(&job, json!({ "status": "failed" })).await;
    assert_eq!(environment(&world, "review/mr-1").await["state"], "available");
}

#[tokio::test]
async fn closing_stops_the_environments_of_merge_request_pipelines_only() {
    let world = World::new().await;
    world.open().await;
    deployment(&world, "success").await;
    world.post("environments", json!({ "name": "production" })).await.expect(201);
    world.dev_put("merge_requests/1", json!({ "state_event": "close" })).await.expect(200);
    assert_eq!(environment(&world, "review/mr-1").await["state"], "available", "no pipeline, no stop");
    world.dev_put("merge_requests/1", json!({ "state_event": "reopen" })).await.expect(200);
    let prepare = json!({ "name": "review/mr-1", "action": "prepare" });
    world.pipeline("detached", json!([{ "name": "preview", "environment": prepare }])).await;
    world.dev_put("merge_requests/1", json!({ "state_event": "close" })).await.expect(200);
    assert_eq!(environment(&world, "review/mr-1").await["state"], "stopped");
    assert_eq!(environment(&world, "production").await["state"], "available");
}

#[tokio::test]
async fn deleting_a_branch_stops_what_was_deployed_from_it() {
    let world = World::new().await;
    world.open().await;
    deployment(&world, "success").await;
    world.delete("repository/branches/feature").await.expect(204);
    assert_eq!(environment(&world, "review/mr-1").await["state"], "stopped");
}

#[tokio::test]
async fn a_deployment_needs_all_five_and_a_sha_and_ref_that_exist() {
    let world = World::new().await;
    let head = world.open().await["sha"].clone();
    let full = json!({ "environment": "review/mr-1", "sha": head, "ref": "feature", "tag": false, "status": "running" });
    for name in ["environment", "sha", "ref", "tag", "status"] {
        let mut body = full.clone();
        body.as_object_mut().unwrap().remove(name);
        assert_eq!(
            world.post("deployments", body).await.expect(400),
            json!({ "error": format!("{name} is missing") })
        );
    }
    for (name, wrong) in
        [("sha", "1234567890123456789012345678901234567890"), ("ref", "nowhere"), ("status", "odd")]
    {
        let mut body = full.clone();
        body[name] = json!(wrong);
        world.post("deployments", body).await.expect(400);
    }
    let made = world.post("deployments", full).await.expect(201);
    assert_eq!((&made["status"], &made["deployable"]), (&json!("running"), &Value::Null));
}

#[tokio::test]
async fn a_deployment_never_goes_back_or_nowhere() {
    let world = World::new().await;
    world.open().await;
    let path = format!("deployments/{}", deployment(&world, "running").await["id"]);
    world.put(&path, json!({ "status": "running" })).await.expect(400);
    assert_eq!(world.put(&path, json!({ "status": "success" })).await.expect(200)["status"], "success");
    world.put(&path, json!({ "status": "success" })).await.expect(400);
    world.put(&path, json!({ "status": "running" })).await.expect(400);
    world.put(&path, json!({ "status": "failed" })).await.expect(200);
}

#[tokio::test]
async fn a_jobs_deployment_is_not_the_apis_to_change() {
    let world = World::new().await;
    world.open().await;
    let start = json!({ "name": "review/ci" });
    world
        .pipeline("detached", json!([{ "name": "deploy", "status": "running", "environment": start }]))
        .await;
    let made = world.get("deployments?environment=review%2Fci").await.expect(200)[0].clone();
    assert_eq!(made["deployable"]["name"], "deploy");
    world.put(&format!("deployments/{}", made["id"]), json!({ "status": "success" })).await.expect(403);
}

#[tokio::test]
async fn a_success_makes_a_stopped_environment_available_again() {
    let world = World::new().await;
    world.open().await;
    deployment(&world, "success").await;
    let id = environment(&world, "review/mr-1").await["id"].clone();
    world.post(&format!("environments/{id}/stop"), json!({})).await.expect(200);
    let second = deployment(&world, "success").await;
    let shown = world.get(&format!("environments/{id}")).await.expect(200);
    assert_eq!((&shown["state"], &shown["last_deployment"]["id"]), (&json!("available"), &second["id"]));
}

#[tokio::test]
async fn the_last_and_a_running_deployment_cannot_be_deleted() {
    let world = World::new().await;
    world.open().await;
    let first = deployment(&world, "success").await;
    let second = deployment(&world, "success").await;
    let running = deployment(&world, "running").await;
    world.delete(&format!("deployments/{}", running["id"])).await.expect(400);
    world.delete(&format!("deployments/{}", second["id"])).await.expect(400);
    world.delete(&format!("deployments/{}", first["id"])).await.expect(204);
    let listed = world.get("deployments").await.expect(200);
    assert_eq!((&listed[0]["id"], &listed[1]["id"]), (&second["id"], &running["id"]), "ascending by id");
    world.get("deployments?updated_after=2020-01-01T00:00:00Z").await.expect(400);
}
