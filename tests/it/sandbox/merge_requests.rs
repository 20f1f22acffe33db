//! Merge requests over REST.

use super::world::{DEV, World};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn an_open_merge_request_has_null_where_gitlab_sends_null() {
    let world = World::new().await;
    world.open().await;
    let merge_request = world.merge_request().await;
    for name in
        ["merged_at", "merged_by", "closed_at", "closed_by", "milestone", "head_pipeline", "merge_commit_sha"]
    {
        assert_eq!(merge_request.get(name), Some(&Value::Null), "{name}");
    }
    assert_eq!((&merge_request["state"], &merge_request["iid"]), (&json!("opened"), &json!(1)));
    assert!(merge_request["id"].as_u64().unwrap() > u64::from(u32::MAX));
}

#[tokio::test]
async fn reading_the_single_one_starts_the_mergeability_check() {
    let world = World::new().await;
    world.open().await;
    let listed = world.get("merge_requests").await.expect(200);
    assert_eq!(listed[0]["detailed_merge_status"], "unchecked");
    assert_eq!(world.merge_request().await["detailed_merge_status"], "checking");
    assert_eq!(world.merge_request().await["detailed_merge_status"], "mergeable");
}

#[tokio::test]
async fn the_list_has_no_head_pipeline() {
    let world = World::new().await;
    world.open().await;
    world.pipeline("detached", json!([{ "name": "build" }])).await;
    let listed = world.get("merge_requests?state=opened").await.expect(200);
    assert!(listed[0].get("head_pipeline").is_none());
    assert!(world.merge_request().await["head_pipeline"]["id"].is_u64());
}

#[tokio::test]
async fn the_head_pipeline_stays_the_old_heads_after_a_push_until_there_is_a_new_one() {
    let world = World::new().await;
    world.open().await;
    let old = world.pipeline("detached", json!([{ "name": "build" }])).await["id"].clone();
    let head = world.commit("feature").await;
    let pushed = world.merge_request().await;
    assert_eq!((&pushed["sha"], &pushed["head_pipeline"]["id"]), (&json!(head), &old));
    let new = world.pipeline("detached", json!([{ "name": "build" }])).await["id"].clone();
    let now = world.merge_request().await;
    assert_eq!((&now["head_pipeline"]["id"], &now["updated_at"]), (&new, &pushed["updated_at"]));
}

#[tokio::test]
async fn the_list_filters_and_sorts() {
    let world = World::new().await;
    for (branch, title, labels) in
        [("a", "One", "preview"), ("b", "Draft: Two", ""), ("c", "Three", "preview,x")]
    {
        world.commit(branch).await;
        let body =
            json!({ "source_branch": branch, "target_branch": "main", "title": title, "labels": labels });
        world.dev_post("merge_requests", body).await.expect(201);
    }
    world.dev_put("merge_requests/1", json!({ "state_event": "close" })).await.expect(200);
    let iids = async |query: &str| {
        let found = world.get(&format!("merge_requests?{query}")).await.expect(200);
        found.as_array().unwrap().iter().map(|one| one["iid"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(iids("").await, [3, 2, 1]);
    assert_eq!(iids("state=opened&sort=asc").await, [2, 3]);
    assert_eq!(iids("labels=preview").await, [3, 1]);
    assert_eq!(iids("wip=yes").await, [2]);
    assert_eq!(iids("wip=no&state=opened").await, [3]);
    assert_eq!(iids("source_branch=b").await, [2]);
    assert_eq!(iids("author_username=dev").await.len(), 3);
    assert_eq!(iids("author_username=somebody").await, [0_u64; 0]);
    assert_eq!(iids("order_by=updated_at").await[0], 1);
    assert_eq!(iids("per_page=1&page=2").await, [2]);
    let updated = world.get("merge_requests/1").await.expect(200)["updated_at"].as_str().unwrap().to_owned();
    assert_eq!(iids(&format!("updated_after={updated}")).await, [1]);
}

#[tokio::test]
async fn labels_are_set_added_and_removed() {
    let world = World::new().await;
    world.open().await;
    let labels =
        async |body: Value| world.dev_put("merge_requests/1", body).await.expect(200)["labels"].clone();
    assert_eq!(labels(json!({ "labels": "a,b" })).await, json!(["a", "b"]));
    assert_eq!(labels(json!({ "add_labels": "c" })).await, json!(["a", "b", "c"]));
    assert_eq!(labels(json!({ "remove_labels": "a,b" })).await, json!(["c"]));
}

#[tokio::test]
async fn a_second_merge_request_for_the_same_branches_is_409() {
    let world = World::new().await;
    world.open().await;
    let again = json!({ "source_branch": "feature", "target_branch": "main", "title": "Again" });
    let refused = world.dev_post("merge_requests", again).await.expect(409);
    assert_eq!(
        refused["message"],
        json!(["Another open merge request already exists for this source branch: !1"])
    );
}

#[tokio::test]
async fn a_branch_without_commits_of_its_own_has_no_head() {
    let world = World::new().await;
    world.post("repository/branches", json!({ "branch": "empty", "ref": "main" })).await.expect(201);
    let body = json!({ "source_branch": "empty", "target_branch": "main", "title": "Nothing yet" });
    assert_eq!(world.dev_post("merge_requests", body).await.expect(201)["sha"], Value::Null);
}

#[tokio::test]
async fn merging_needs_an_open_one_that_is_no_draft() {
    let world = World::new().await;
    world.open().await;
    world.dev_put("merge_requests/1", json!({ "title": "Draft: Add a page" })).await.expect(200);
    world.dev_put("merge_requests/1/merge", json!({})).await.expect(405);
    world.dev_put("merge_requests/1", json!({ "title": "Add a page" })).await.expect(200);
    world.dev_put("merge_requests/1/merge", json!({ "sha": "0000" })).await.expect(409);
    let merged = world.dev_put("merge_requests/1/merge", json!({})).await.expect(200);
    assert_eq!(merged["state"], "merged");
    let main = world.get("repository/branches/main").await.expect(200);
    assert_eq!(main["commit"]["id"], merged["merge_commit_sha"]);
}

#[tokio::test]
async fn a_forks_merge_request_lives_in_the_target_project() {
    let world = World::new().await;
    world.control("users", json!({ "username": "eve", "token": "eve", "access_level": 10 })).await;
    let fork = json!({ "project": "acme/web", "namespace": "eve", "owner": "eve" });
    let fork = world.control("forks", fork).await;
    let push = json!({ "user": "eve", "refs": [{ "ref": "patch", "files": { "a": "b" } }] });
    let pushed = world.control("projects/eve%2Fweb/push", push).await;
    let body =
        json!({ "source_branch": "patch", "target_branch": "main", "title": "Hi", "target_project_id": 42 });
    let opened = world
        .ask("eve", Method::POST, "/api/v4/projects/eve%2Fweb/merge_requests", Some(body))
        .await
        .expect(201);
    assert_eq!((&opened["project_id"], &opened["source_project_id"]), (&json!(42), &fork["id"]));
    // The fork's commit is reachable in the target project, its branch is not.
    world.get(&format!("repository/commits/{}", pushed[0]["after"].as_str().unwrap())).await.expect(200);
    world.get("repository/branches/patch").await.expect(404);
    // The bot does not see the fork.
    world.get("/api/v4/projects/eve%2Fweb").await.expect(404);
    world.ask("", Method::DELETE, "/sandbox/projects/eve%2Fweb", None).await.expect(204);
    assert_eq!(world.merge_request().await["source_project_id"], Value::Null);
}

#[tokio::test]
async fn changed_files_are_listed() {
    let world = World::new().await;
    world.open().await;
    let diffs = world.ask(DEV, Method::GET, "merge_requests/1/diffs", None).await.expect(200);
    assert_eq!((&diffs[0]["new_path"], &diffs[0]["new_file"]), (&json!("index.html"), &json!(true)));
    assert_eq!(world.merge_request().await["changes_count"], "1");
}

#[tokio::test]
async fn what_is_compared_is_the_head_with_where_it_left_its_target() {
    let world = World::new().await;
    world
        .control("projects/42/push", json!({ "refs": [{ "ref": "main", "files": { "a": "1", "b": "2" } }] }))
        .await;
    world.control("projects/42/push", json!({ "refs": [{ "ref": "next", "files": { "c": "3" } }] })).await;
    let actions = json!([
        { "action": "move", "previous_path": "a", "file_path": "web/a" },
        { "action": "delete", "file_path": "b" },
        { "action": "create", "file_path": "web/d", "content": "4" },
    ]);
    let commit =
        json!({ "branch": "moved", "start_branch": "next", "commit_message": "Move", "actions": actions });
    world.ask(DEV, Method::POST, "repository/commits", Some(commit)).await.expect(201);
    let opening = json!({ "source_branch": "moved", "target_branch": "next", "title": "Move" });
    world.ask(DEV, Method::POST, "merge_requests", Some(opening)).await.expect(201);
    // The target goes on; what it gets does not count.
    world.control("projects/42/push", json!({ "refs": [{ "ref": "next", "files": { "e": "5" } }] })).await;
    let changed = async || {
        let diffs = world.get("merge_requests/1/diffs").await.expect(200);
        let diffs = diffs.as_array().unwrap().clone();
        let kind = |diff: &Value| {
            ["new_file", "renamed_file", "deleted_file"].into_iter().find(|kind| diff[kind] == true)
        };
        let shown = diffs.iter().map(|diff| {
            format!("{} {} {}", diff["old_path"], diff["new_path"], kind(diff).unwrap_or("modified"))
        });
        (world.merge_request().await["changes_count"].clone(), shown.collect::<Vec<_>>())
    };
    let moved = [
        r#""b" "b" deleted_file"#.to_owned(),
        r#""a" "web/a" renamed_file"#.to_owned(),
        r#""web/d" "web/d" new_file"#.to_owned(),
    ];
    assert_eq!(changed().await, (json!("3"), moved.to_vec()));
    // Another target is another comparison: `next` had added a file of its own.
    let base = world.merge_request().await["diff_refs"]["base_sha"].clone();
    world.dev_put("merge_requests/1", json!({ "target_branch": "main" })).await.expect(200);
    let (count, files) = changed().await;
    assert_eq!((count, files.len()), (json!("4"), 4), "{files:?}");
    assert_ne!(world.merge_request().await["diff_refs"]["base_sha"], base);
}

#[tokio::test]
async fn more_files_than_gitlab_lists_are_counted_with_a_plus() {
    let world = World::new().await;
    let files: std::collections::BTreeMap<_, _> = (0..1001).map(|n| (format!("many/{n:04}"), "x")).collect();
    world.control("projects/42/push", json!({ "refs": [{ "ref": "many", "files": files }] })).await;
    let opening = json!({ "source_branch": "many", "target_branch": "main", "title": "Many" });
    world.ask(DEV, Method::POST, "merge_requests", Some(opening)).await.expect(201);
    assert_eq!(world.merge_request().await["changes_count"], "1000+");
    let last = world.get("merge_requests/1/diffs?per_page=100&page=10").await.expect(200);
    assert_eq!(last.as_array().unwrap().len(), 100);
    let none = world.get("merge_requests/1/diffs?per_page=100&page=11").await.expect(200);
    assert_eq!(none, json!([]));
}
