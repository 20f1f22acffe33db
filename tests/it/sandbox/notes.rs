//! Notes over REST.

use super::world::{BOT, DEV, World};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn a_note_is_written_read_edited_and_deleted() {
    let world = World::new().await;
    world.open().await;
    let note = world.post("merge_requests/1/notes", json!({ "body": "Preview: waiting" })).await.expect(201);
    let path = format!("merge_requests/1/notes/{}", note["id"]);
    let edited = world.put(&path, json!({ "body": "Preview: ready" })).await.expect(200);
    assert_eq!(edited["body"], "Preview: ready");
    assert_eq!(world.get(&path).await.expect(200)["body"], "Preview: ready");
    world.delete(&path).await.expect(204);
    assert_eq!(
        world.put(&path, json!({ "body": "x" })).await.expect(404),
        json!({ "message": "404 Note Not Found" })
    );
}

#[tokio::test]
async fn the_newest_note_comes_first_unless_told_otherwise() {
    let world = World::new().await;
    world.open().await;
    for body in ["one", "two", "three"] {
        world.post("merge_requests/1/notes", json!({ "body": body })).await.expect(201);
    }
    let bodies =
        |notes: Value| notes.as_array().unwrap().iter().map(|note| note["body"].clone()).collect::<Vec<_>>();
    assert_eq!(bodies(world.get("merge_requests/1/notes").await.expect(200)), ["three", "two", "one"]);
    assert_eq!(
        bodies(world.get("merge_requests/1/notes?sort=asc&per_page=2").await.expect(200)),
        ["one", "two"]
    );
}

#[tokio::test]
async fn a_note_of_quick_actions_only_is_202_and_not_stored() {
    let world = World::new().await;
    world.open().await;
    world.hooks().await;
    let answer = world.dev_post("merge_requests/1/notes", json!({ "body": "/close" })).await.expect(202);
    assert_eq!(answer["commands_changes"], json!({ "state_event": "close" }));
    assert_eq!(world.get("merge_requests/1/notes").await.expect(200), json!([]));
    assert_eq!(world.merge_request().await["state"], "closed");
    assert!(world.hooks_of("note").await.is_empty());
}

#[tokio::test]
async fn known_quick_actions_are_removed_and_unknown_ones_stay() {
    let world = World::new().await;
    world.open().await;
    let body = "Please look\n/label ~preview\n/greenroom redeploy\n```\n/close\n```";
    let note = world.dev_post("merge_requests/1/notes", json!({ "body": body })).await.expect(201);
    assert_eq!(note["body"], "Please look\n/greenroom redeploy\n```\n/close\n```");
    let merge_request = world.merge_request().await;
    assert_eq!((&merge_request["labels"], &merge_request["state"]), (&json!(["preview"]), &json!("opened")));
}

#[tokio::test]
async fn a_note_of_more_than_a_million_characters_is_400() {
    let world = World::new().await;
    world.open().await;
    let long = "ä".repeat(1_000_001);
    world.post("merge_requests/1/notes", json!({ "body": long })).await.expect(400);
    world.post("merge_requests/1/notes", json!({ "body": "" })).await.expect(400);
    assert_eq!(
        world.post("merge_requests/1/notes", json!({})).await.expect(400),
        json!({ "error": "body is missing" })
    );
}

#[tokio::test]
async fn only_a_maintainer_edits_somebody_elses_note() {
    let world = World::new().await;
    world.open().await;
    let by_dev = world.dev_post("merge_requests/1/notes", json!({ "body": "mine" })).await.expect(201);
    let path = format!("merge_requests/1/notes/{}", by_dev["id"]);
    world.control("users", json!({ "username": "devi", "token": "devi", "access_level": 30 })).await;
    let edit = Some(json!({ "body": "yours" }));
    world.ask("devi", Method::PUT, &path, edit.clone()).await.expect(403);
    world.ask(BOT, Method::PUT, &path, edit).await.expect(200);
}

#[tokio::test]
async fn an_internal_note_is_hidden_from_guests() {
    let world = World::new().await;
    world.open().await;
    world.control("users", json!({ "username": "guest", "token": "guest", "access_level": 10 })).await;
    world.post("merge_requests/1/notes", json!({ "body": "secret", "internal": true })).await.expect(201);
    assert_eq!(world.ask("guest", Method::GET, "merge_requests/1/notes", None).await.expect(200), json!([]));
    assert_eq!(
        world.ask(DEV, Method::GET, "merge_requests/1/notes", None).await.expect(200)[0]["internal"],
        true
    );
}
