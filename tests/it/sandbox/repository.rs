//! Files, commits, branches, refs.

use super::world::World;
use base64::Engine as _;
use serde_json::json;

#[tokio::test]
async fn a_file_is_read_with_metadata_and_raw() {
    let world = World::new().await;
    let actions = json!([{ "action": "create", "file_path": "src/app.js", "content": "hi" }]);
    let body = json!({ "branch": "main", "commit_message": "Add app", "actions": actions });
    let commit = world.post("repository/commits", body).await.expect(201);
    let file = world.get("repository/files/src%2Fapp.js?ref=main").await.expect(200);
    let content =
        base64::engine::general_purpose::STANDARD.decode(file["content"].as_str().unwrap()).unwrap();
    assert_eq!((content.as_slice(), &file["commit_id"]), (b"hi".as_slice(), &commit["id"]));
    assert_eq!(world.get("repository/files/src%2Fapp.js/raw?ref=main").await.text, "hi");
}

#[tokio::test]
async fn a_missing_file_and_a_missing_ref_are_different_404s() {
    let world = World::new().await;
    let file = world.get("repository/files/none.yml?ref=main").await.expect(404);
    assert_eq!(file, json!({ "message": "404 File Not Found" }));
    let commit = world.get("repository/files/README.md?ref=nowhere").await.expect(404);
    assert_eq!(commit, json!({ "message": "404 Commit Not Found" }));
}

#[tokio::test]
async fn a_file_is_found_by_branch_sha_and_merge_request_ref() {
    let world = World::new().await;
    let sha = world.open().await["sha"].as_str().unwrap().to_owned();
    for reference in ["feature", &sha, "refs/merge-requests/1/head"] {
        let reference = reference.replace('/', "%2F");
        let raw = world.get(&format!("repository/files/index.html/raw?ref={reference}")).await;
        assert_eq!(raw.text, "<h1>feature</h1>", "{reference}");
    }
}

#[tokio::test]
async fn the_merge_request_ref_outlives_close_and_branch() {
    let world = World::new().await;
    world.open().await;
    world.dev_put("merge_requests/1", json!({ "state_event": "close" })).await.expect(200);
    world.delete("repository/branches/feature").await.expect(204);
    world.get("repository/files/index.html?ref=refs%2Fmerge-requests%2F1%2Fhead").await.expect(200);
}

#[tokio::test]
async fn files_are_created_updated_and_deleted_with_commits() {
    let world = World::new().await;
    let write = |content: &str| json!({ "branch": "main", "content": content, "commit_message": "Write" });
    let created = world.post("repository/files/a%2Fb.txt", write("1")).await.expect(201);
    assert_eq!(created, json!({ "file_path": "a/b.txt", "branch": "main" }));
    world.post("repository/files/a%2Fb.txt", write("1")).await.expect(400);
    world.put("repository/files/a%2Fb.txt", write("2")).await.expect(200);
    assert_eq!(world.get("repository/files/a%2Fb.txt/raw").await.text, "2");
    world.delete("repository/files/a%2Fb.txt?branch=main&commit_message=Away").await.expect(204);
    world.get("repository/files/a%2Fb.txt/raw").await.expect(404);
}

#[tokio::test]
async fn a_commit_tells_its_parents_and_can_start_a_branch() {
    let world = World::new().await;
    let head = world.get("repository/branches/main").await.expect(200)["commit"]["id"].clone();
    let actions = json!([{ "action": "update", "file_path": "README.md", "content": "new" }]);
    let body =
        json!({ "branch": "x/y", "start_branch": "main", "commit_message": "Change", "actions": actions });
    let commit = world.post("repository/commits", body).await.expect(201);
    assert_eq!(commit["parent_ids"], json!([head]));
    let branch = world.get("repository/branches/x%2Fy").await.expect(200);
    assert_eq!(branch["commit"]["id"], commit["id"]);
    let read = world.get(&format!("repository/commits/{}", commit["id"].as_str().unwrap())).await.expect(200);
    assert_eq!(read["id"], commit["id"]);
}

#[tokio::test]
async fn the_tree_lists_folders_and_files() {
    let world = World::new().await;
    let actions = json!([{ "action": "create", "file_path": "k8s/app.yaml", "content": "a: 1" }]);
    let body = json!({ "branch": "main", "commit_message": "Add", "actions": actions });
    world.post("repository/commits", body).await.expect(201);
    let names = |tree: serde_json::Value| {
        tree.as_array().unwrap().iter().map(|one| one["path"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(world.get("repository/tree").await.expect(200)), ["README.md", "k8s"]);
    let all = world.get("repository/tree?recursive=true").await.expect(200);
    assert_eq!(names(all), ["README.md", "k8s", "k8s/app.yaml"]);
    assert_eq!(names(world.get("repository/tree?path=k8s").await.expect(200)), ["k8s/app.yaml"]);
}
