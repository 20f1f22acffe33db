//! Commit statuses.

use super::world::{DEV, World};
use reqwest::Method;
use serde_json::{Value, json};

async fn set(world: &World, sha: &Value, status: Value) -> super::world::Answer {
    world.post(&format!("statuses/{}", sha.as_str().unwrap()), status).await
}

#[tokio::test]
async fn a_status_without_a_pipeline_makes_an_external_one() {
    let world = World::new().await;
    let sha = world.open().await["sha"].clone();
    let status = set(&world, &sha, json!({ "state": "pending", "name": "greenroom" })).await.expect(201);
    let merge_request = world.merge_request().await;
    assert_eq!(merge_request["head_pipeline"]["id"], status["pipeline_id"]);
    assert_eq!(merge_request["head_pipeline"]["source"], "external");
    assert_eq!(merge_request["head_pipeline"]["status"], "pending");
}

#[tokio::test]
async fn a_status_counts_into_its_pipeline() {
    let world = World::new().await;
    let sha = world.open().await["sha"].clone();
    let pipeline = world.pipeline("detached", json!([{ "name": "build", "status": "success" }])).await;
    let own = json!({ "state": "running", "name": "greenroom", "pipeline_id": pipeline["id"] });
    let status = set(&world, &sha, own).await.expect(201);
    assert_eq!(status["pipeline_id"], pipeline["id"]);
    assert_eq!(world.merge_request().await["head_pipeline"]["status"], "running");
    let failed = json!({ "state": "failed", "name": "greenroom", "pipeline_id": pipeline["id"] });
    set(&world, &sha, failed).await.expect(201);
    assert_eq!(world.merge_request().await["head_pipeline"]["status"], "failed");
}

#[tokio::test]
async fn repeating_a_state_is_400_with_the_words_of_the_state_machine() {
    let world = World::new().await;
    let sha = world.open().await["sha"].clone();
    for (state, refused) in [("pending", ":enqueue from :pending"), ("running", ":run from :running")] {
        set(&world, &sha, json!({ "state": state })).await.expect(201);
        let message = set(&world, &sha, json!({ "state": state })).await.expect(400)["message"].clone();
        assert!(
            message.as_str().unwrap().starts_with(&format!("Cannot transition status via {refused}")),
            "{message}"
        );
    }
    let message = set(&world, &sha, json!({ "state": "pending" })).await.expect(400)["message"].clone();
    let expected = "Cannot transition status via :enqueue from :running (Reason(s): Status cannot transition via \"enqueue\")";
    assert_eq!(message, expected);
}

#[tokio::test]
async fn after_an_end_a_post_makes_a_new_status() {
    let world = World::new().await;
    let sha = world.open().await["sha"].clone();
    let first = set(&world, &sha, json!({ "state": "success" })).await.expect(201);
    let second = set(&world, &sha, json!({ "state": "success" })).await.expect(201);
    assert_ne!(first["id"], second["id"]);
    let path = format!("repository/commits/{}/statuses", sha.as_str().unwrap());
    let current = world.get(&path).await.expect(200);
    assert_eq!((current.as_array().unwrap().len(), &current[0]["id"]), (1, &second["id"]));
    assert_eq!(world.get(&format!("{path}?all=true")).await.expect(200).as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn another_users_status_of_that_name_is_not_updated() {
    let world = World::new().await;
    let sha = world.open().await["sha"].clone();
    let bots = set(&world, &sha, json!({ "state": "pending" })).await.expect(201);
    let path = format!("statuses/{}", sha.as_str().unwrap());
    let devs = world.ask(DEV, Method::POST, &path, Some(json!({ "state": "pending" }))).await.expect(201);
    assert_ne!(bots["id"], devs["id"]);
}

#[tokio::test]
async fn pipeline_sha_and_ref_must_belong_together() {
    let world = World::new().await;
    let sha = world.open().await["sha"].clone();
    let merged = world.pipeline("merged_result", json!([{ "name": "build" }])).await;
    let wrong = json!({ "state": "pending", "pipeline_id": merged["id"] });
    set(&world, &sha, wrong.clone()).await.expect(404);
    set(&world, &merged["sha"], wrong).await.expect(201);
    set(&world, &json!("1234567890"), json!({ "state": "pending" })).await.expect(404);
    set(&world, &sha, json!({ "state": "odd" })).await.expect(400);
}
