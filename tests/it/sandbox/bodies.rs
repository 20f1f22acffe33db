//! Webhook bodies have what GitLab's own samples have.

use super::world::World;
use serde_json::{Value, json};

/// What a sample has and a body has not, or has as something else. Lists are judged by their first item; what is null on
/// either side can be anything.
fn lacks(sample: &Value, body: &Value, place: &str) -> Vec<String> {
    match (sample, body) {
        (Value::Null, _) | (_, Value::Null) => Vec::new(),
        (Value::Object(sample), Value::Object(body)) => sample
            .iter()
            .flat_map(|(name, value)| {
                let place = format!("{place}.{name}");
                body.get(name).map_or_else(|| vec![place.clone()], |known| lacks(value, known, &place))
            })
            .collect(),
        (Value::Array(sample), Value::Array(body)) => match (sample.first(), body.first()) {
            (Some(sample), Some(body)) => lacks(sample, body, &format!("{place}[]")),
            _ => Vec::new(),
        },
        _ if std::mem::discriminant(sample) == std::mem::discriminant(body) => Vec::new(),
        _ => vec![format!("{place}: {sample} in the sample, {body} here")],
    }
}

#[track_caller]
fn like(sample: &str, body: &Value, known_gaps: &[&str]) {
    let path = format!("{}/tests/fixtures/gitlab/webhooks/{sample}", env!("CARGO_MANIFEST_DIR"));
    let sample = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let lacking = lacks(&sample, body, "");
    let lacking: Vec<_> =
        lacking.iter().filter(|gap| !known_gaps.iter().any(|known| gap.starts_with(known))).collect();
    assert!(lacking.is_empty(), "{lacking:#?}");
}

#[tokio::test]
async fn a_merge_request_body_is_like_gitlabs() {
    let world = World::new().await;
    world.open().await;
    like("merge_request_open_v19_2.json", &world.hooks_of("merge_request").await[0], &[]);
    world.commit("feature").await;
    like(
        "merge_request_update_oldrev_v19_2.derived.json",
        &world.hooks_of("merge_request").await[0],
        &[".changes"],
    );
    world.dev_put("merge_requests/1", json!({ "add_labels": "preview" })).await.expect(200);
    let labelled = &world.hooks_of("merge_request").await[0];
    like("merge_request_update_label_preview_added_v19_2.derived.json", labelled, &[]);
    world.dev_put("merge_requests/1/merge", json!({})).await.expect(200);
    let merged = &world.hooks_of("merge_request").await[0];
    like("merge_request_merge_v19_2.derived.json", merged, &[]);
}

#[tokio::test]
async fn pipeline_and_job_bodies_are_like_gitlabs() {
    let world = World::new().await;
    world.open().await;
    let environment = json!({ "name": "review/mr-1" });
    world
        .pipeline("detached", json!([{ "name": "build", "status": "success", "environment": environment }]))
        .await;
    let hooks = world.hooks().await;
    let last = |kind: &str| hooks.iter().rfind(|hook| hook.body["object_kind"] == kind).unwrap().body.clone();
    // `jobs` is what the sample's own project added.
    like("pipeline_mr_detached_success.derived.json", &last("pipeline"), &[".jobs"]);
    like("job_success_environment_start.json", &last("build"), &[]);
    like("deployment_success_v19_2.json", &last("deployment"), &[]);
}

#[tokio::test]
async fn note_and_push_bodies_are_like_gitlabs() {
    let world = World::new().await;
    world.open().await;
    world.post("merge_requests/1/notes", json!({ "body": "hi" })).await.expect(201);
    let hooks = world.hooks().await;
    let last = |kind: &str| hooks.iter().rfind(|hook| hook.body["object_kind"] == kind).unwrap().body.clone();
    let old = [".merge_request.assignee", ".merge_request.position", ".merge_request.labels"];
    like("note_merge_request.json", &last("note"), &old);
    like("push.json", &last("push"), &[]);
}
