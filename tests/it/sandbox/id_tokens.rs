//! ID tokens of jobs, and GitLab as their issuer.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::world::World;

/// What a token says, unproven.
fn claims(token: &Value) -> Value {
    let part = token["id_token"].as_str().unwrap().split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

async fn token(world: &World, job: &Value, wanted: Value) -> Value {
    world.control(&format!("projects/42/jobs/{job}/id_token"), wanted).await
}

#[tokio::test]
async fn it_says_of_a_job_what_gitlab_says_and_no_merge_request() {
    let world = World::new().await;
    world.open().await;
    let environment = json!({ "name": "review/mr-1" });
    let pipeline =
        world.pipeline("merged_result", json!([{ "name": "deploy", "environment": environment }])).await;
    let job = &pipeline["jobs"][0]["id"];
    let said = claims(&token(&world, job, json!({ "aud": "https://greenroom.example.com" })).await);
    assert_eq!(said["iss"], world.url());
    assert_eq!(said["aud"], "https://greenroom.example.com");
    assert_eq!(said["sub"], "project_path:acme/web:ref_type:branch:ref:feature");
    for (name, value) in [
        ("project_id", json!("42")),
        ("job_project_id", json!("42")),
        ("pipeline_id", json!(pipeline["id"].to_string())),
        ("job_id", json!(job.to_string())),
        ("ref", json!("feature")),
        ("environment", json!("review/mr-1")),
        ("environment_action", json!("start")),
        ("sha", pipeline["sha"].clone()),
    ] {
        assert_eq!(said[name], value, "{name}");
    }
    assert!(said.as_object().unwrap().keys().all(|name| !name.contains("merge_request")));
}

#[tokio::test]
async fn keys_are_published_and_change_with_a_rotation() {
    let world = World::new().await;
    let kid = async || {
        let answer = world.ask("", reqwest::Method::GET, "/oauth/discovery/keys", None).await;
        answer.expect(200)["keys"][0]["kid"].clone()
    };
    let discovery = world.ask("", reqwest::Method::GET, "/.well-known/openid-configuration", None).await;
    assert_eq!(discovery.expect(200)["issuer"], world.url());
    let before = kid().await;
    assert_eq!(kid().await, before);
    world.control("id_token_keys/rotate", json!({})).await;
    assert_ne!(kid().await, before);
}
