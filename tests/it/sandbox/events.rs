//! What webhooks say about what happened.

use super::world::World;
use serde_json::{Value, json};

#[tokio::test]
async fn opening_says_open_after_preparation() {
    let world = World::new().await;
    world.open().await;
    let hooks = world.hooks_of("merge_request").await;
    assert_eq!(hooks.len(), 1);
    let attributes = &hooks[0]["object_attributes"];
    assert_eq!((&attributes["action"], &attributes["state"]), (&json!("open"), &json!("opened")));
    assert_eq!(hooks[0]["changes"]["merge_status"]["previous"], "preparing");
    assert_eq!(
        (&hooks[0]["user"]["username"], &hooks[0]["user"]["email"]),
        (&json!("dev"), &json!("[REDACTED]"))
    );
    assert_eq!(attributes["head_pipeline_id"], Value::Null);
    assert!(attributes["created_at"].as_str().unwrap().ends_with(" UTC"));
}

#[tokio::test]
async fn a_push_is_an_update_with_oldrev() {
    let world = World::new().await;
    let old = world.open().await["sha"].clone();
    world.hooks().await;
    let new = world.commit("feature").await;
    let hooks = world.hooks().await;
    let kinds: Vec<_> = hooks.iter().map(|hook| hook.body["object_kind"].clone()).collect();
    assert_eq!(kinds, ["push", "merge_request"]);
    let attributes = &hooks[1].body["object_attributes"];
    assert_eq!((&attributes["action"], &attributes["oldrev"]), (&json!("update"), &old));
    assert_eq!(attributes["last_commit"]["id"], new);
    let changes: Vec<_> = hooks[1].body["changes"].as_object().unwrap().keys().collect();
    assert_eq!(changes, ["updated_at"]);
}

#[tokio::test]
async fn labels_draft_title_and_target_show_in_changes() {
    let world = World::new().await;
    world.open().await;
    world.post("repository/branches", json!({ "branch": "release", "ref": "main" })).await.expect(201);
    world.hooks().await;
    let changes = async |body: Value| {
        world.dev_put("merge_requests/1", body).await.expect(200);
        let hooks = world.hooks_of("merge_request").await;
        assert_eq!(hooks.len(), 1);
        assert!(hooks[0]["object_attributes"].get("oldrev").is_none());
        hooks[0]["changes"].clone()
    };
    let labels = changes(json!({ "add_labels": "preview" })).await["labels"].clone();
    assert_eq!((&labels["previous"], &labels["current"][0]["title"]), (&json!([]), &json!("preview")));
    let draft = changes(json!({ "title": "Draft: Add a page" })).await;
    assert_eq!(draft["draft"], json!({ "previous": false, "current": true }));
    assert_eq!(draft["title"]["current"], "Draft: Add a page");
    let target = changes(json!({ "target_branch": "release" })).await["target_branch"].clone();
    assert_eq!(target, json!({ "previous": "main", "current": "release" }));
}

#[tokio::test]
async fn close_reopen_merge_and_what_comes_after() {
    let world = World::new().await;
    world.open().await;
    let happen = async |path: &str, body: Value| {
        world.hooks().await;
        world.dev_put(path, body).await.expect(200);
        let hooks = world.hooks_of("merge_request").await;
        let attributes = hooks.last().unwrap()["object_attributes"].clone();
        (attributes["action"].as_str().unwrap().to_owned(), attributes)
    };
    let (action, closed) = happen("merge_requests/1", json!({ "state_event": "close" })).await;
    assert_eq!((action.as_str(), &closed["state_id"]), ("close", &json!(2)));
    assert_eq!(happen("merge_requests/1", json!({ "state_event": "reopen" })).await.0, "reopen");
    let (action, merged) = happen("merge_requests/1/merge", json!({})).await;
    assert_eq!((action.as_str(), &merged["state"]), ("merge", &json!("merged")));
    assert!(merged["merged_at"].is_string() && merged["merge_commit_sha"].is_string());
    let (action, edited) = happen("merge_requests/1", json!({ "add_labels": "late" })).await;
    assert_eq!((action.as_str(), &edited["state"]), ("update", &json!("merged")));
}

#[tokio::test]
async fn a_pipeline_hook_names_the_branch_and_the_merge_request() {
    let world = World::new().await;
    world.open().await;
    world.hooks().await;
    let pipeline = world.pipeline("merged_result", json!([{ "name": "build", "stage": "build" }])).await;
    let hook = world.hooks_of("pipeline").await.pop().unwrap();
    let attributes = &hook["object_attributes"];
    assert_eq!((&attributes["ref"], &attributes["sha"]), (&json!("feature"), &pipeline["sha"]));
    assert_eq!((&hook["merge_request"]["iid"], &attributes["stages"]), (&json!(1), &json!(["build"])));
    assert_eq!(
        (&hook["builds"][0]["name"], &hook["builds"][0]["environment"]),
        (&json!("build"), &Value::Null)
    );
}

#[tokio::test]
async fn a_branch_pipelines_merge_request_is_null() {
    let world = World::new().await;
    world.open().await;
    world.hooks().await;
    world.control("projects/42/pipelines", json!({ "ref": "feature", "jobs": [{ "name": "build" }] })).await;
    assert_eq!(world.hooks_of("pipeline").await[0]["merge_request"], Value::Null);
}

#[tokio::test]
async fn our_own_status_fires_the_pipeline_hook() {
    let world = World::new().await;
    let sha = world.open().await["sha"].clone();
    world.hooks().await;
    let path = format!("statuses/{}", sha.as_str().unwrap());
    world.post(&path, json!({ "state": "running", "name": "greenroom" })).await.expect(201);
    let hook = world.hooks_of("pipeline").await.pop().unwrap();
    assert_eq!(
        (&hook["object_attributes"]["source"], &hook["object_attributes"]["status"]),
        (&json!("external"), &json!("running"))
    );
}

#[tokio::test]
async fn a_job_hook_calls_the_pipelines_id_its_commits() {
    let world = World::new().await;
    world.open().await;
    world.hooks().await;
    let environment = json!({ "name": "review/mr-1", "action": "prepare" });
    let jobs = json!([{ "name": "build", "environment": environment }, { "name": "child", "bridge": true }]);
    let pipeline = world.pipeline("detached", jobs).await;
    let hooks = world.hooks_of("build").await;
    assert!(hooks.iter().all(|hook| hook["build_name"] == "build"), "bridges fire none");
    let hook = hooks.last().unwrap();
    assert_eq!((&hook["commit"]["id"], &hook["sha"]), (&pipeline["id"], &pipeline["sha"]));
    assert_eq!((&hook["build_status"], &hook["ref"]), (&json!("pending"), &json!("feature")));
    assert_eq!(hook["environment"]["action"], "prepare");
}

#[tokio::test]
async fn our_own_deployment_comes_back_without_a_deployable() {
    let world = World::new().await;
    let sha = world.open().await["sha"].clone();
    world.hooks().await;
    let body = json!({ "environment": "review/mr-1", "sha": sha, "ref": "feature", "tag": false, "status": "running" });
    let made = world.post("deployments", body).await.expect(201);
    let hook = world.hooks_of("deployment").await.pop().unwrap();
    assert_eq!((&hook["deployment_id"], &hook["deployable_url"]), (&made["id"], &Value::Null));
    assert_eq!((&hook["status"], &hook["environment"]), (&json!("running"), &json!("review/mr-1")));
    assert_eq!(hook["short_sha"].as_str().unwrap().len(), 8);
}

#[tokio::test]
async fn stopping_an_environment_fires_nothing() {
    let world = World::new().await;
    let id = world.post("environments", json!({ "name": "review/mr-1" })).await.expect(201)["id"].clone();
    world.post(&format!("environments/{id}/stop"), json!({})).await.expect(200);
    assert!(world.hooks().await.is_empty());
}

#[tokio::test]
async fn notes_fire_with_create_and_update() {
    let world = World::new().await;
    world.open().await;
    world.hooks().await;
    let note = world.post("merge_requests/1/notes", json!({ "body": "hello" })).await.expect(201);
    world.put(&format!("merge_requests/1/notes/{}", note["id"]), json!({ "body": "bye" })).await.expect(200);
    let hooks = world.hooks_of("note").await;
    let actions: Vec<_> = hooks.iter().map(|hook| hook["object_attributes"]["action"].clone()).collect();
    assert_eq!(actions, ["create", "update"]);
    assert_eq!(
        (&hooks[0]["merge_request"]["iid"], &hooks[0]["object_attributes"]["note"]),
        (&json!(1), &json!("hello"))
    );
    assert!(hooks[0]["user"]["username"].as_str().unwrap().starts_with("project_42_bot_"));
}

#[tokio::test]
async fn a_new_and_a_deleted_branch_have_zeros() {
    let world = World::new().await;
    world.commit("feature").await;
    world.delete("repository/branches/feature").await.expect(204);
    let hooks = world.hooks_of("push").await;
    let zeros = "0".repeat(40);
    assert_eq!((&hooks[0]["before"], &hooks[0]["total_commits_count"]), (&json!(zeros), &json!(1)));
    assert_eq!((&hooks[1]["after"], &hooks[1]["checkout_sha"]), (&json!(zeros), &Value::Null));
    assert_eq!(hooks[1]["commits"], json!([]));
}

#[tokio::test]
async fn a_push_of_more_than_three_refs_fires_no_push_hook() {
    let world = World::new().await;
    let refs = |names: &[&str]| json!({ "refs": names.iter().map(|name| json!({ "ref": name })).collect::<Vec<_>>() });
    world.control("projects/42/push", refs(&["a", "b", "c"])).await;
    assert_eq!(world.hooks_of("push").await.len(), 3);
    world.control("projects/42/push", refs(&["d", "e", "f", "g"])).await;
    assert!(world.hooks_of("push").await.is_empty());
}

#[tokio::test]
async fn a_tag_is_a_tag_push() {
    let world = World::new().await;
    world.control("projects/42/push", json!({ "refs": [{ "ref": "refs/tags/v1" }] })).await;
    assert_eq!(world.hooks_of("tag_push").await[0]["ref"], "refs/tags/v1");
}
