//! Tokens, roles, visibility, pagination.

use super::world::{BOT, World};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn no_token_and_an_unknown_one_are_401() {
    let world = World::new().await;
    for token in ["", "unknown"] {
        let answer = world.ask(token, Method::GET, "/api/v4/user", None).await;
        assert_eq!(answer.expect(401), json!({ "message": "401 Unauthorized" }));
    }
}

#[tokio::test]
async fn a_bearer_token_is_as_good_as_a_private_one() {
    let world = World::new().await;
    let request = reqwest::Client::new().get(format!("{}/api/v4/user", world.url())).bearer_auth(BOT);
    let user: Value = request.send().await.unwrap().json().await.unwrap();
    let username = user["username"].as_str().unwrap();
    assert!(username.starts_with("project_42_bot_"), "{username}");
}

#[tokio::test]
async fn a_revoked_and_an_expired_token_are_401() {
    let world = World::new().await;
    world.control("users", json!({ "username": "eve", "token": "old", "expires_at": "2020-01-01" })).await;
    world.ask("old", Method::GET, "/api/v4/user", None).await.expect(401);
    world.control("tokens/revoke", json!({ "token": BOT })).await;
    world.get("/api/v4/user").await.expect(401);
}

#[tokio::test]
async fn a_scope_that_cannot_write_is_403_with_error_instead_of_message() {
    let world = World::new().await;
    let reader =
        json!({ "username": "rita", "token": "reading", "access_level": 40, "scopes": ["read_api"] });
    world.control("users", reader).await;
    world.open().await;
    world.ask("reading", Method::GET, "merge_requests/1", None).await.expect(200);
    let refused = world
        .ask("reading", Method::PUT, "merge_requests/1", Some(json!({ "title": "x" })))
        .await
        .expect(403);
    assert_eq!(refused["error"], "insufficient_scope");
}

#[tokio::test]
async fn a_project_one_may_not_see_is_404_and_a_role_too_low_403() {
    let world = World::new().await;
    world.control("users", json!({ "username": "stranger", "token": "stranger" })).await;
    let hidden = world.ask("stranger", Method::GET, "/api/v4/projects/42", None).await.expect(404);
    assert_eq!(hidden, json!({ "message": "404 Project Not Found" }));
    world.control("users", json!({ "username": "guest", "token": "guest", "access_level": 10 })).await;
    let environment = json!({ "name": "review/1" });
    world.ask("guest", Method::POST, "environments", Some(environment)).await.expect(403);
    world.control("users", json!({ "username": "devi", "token": "devi", "access_level": 30 })).await;
    let hooks = world.ask("devi", Method::GET, "hooks", None).await.expect(403);
    assert_eq!(hooks, json!({ "message": "403 Forbidden" }));
}

#[tokio::test]
async fn a_project_is_found_by_id_and_by_encoded_path() {
    let world = World::new().await;
    let by_id = world.get("/api/v4/projects/42").await.expect(200);
    let by_path = world.get("/api/v4/projects/acme%2Fweb").await.expect(200);
    assert_eq!(by_id, by_path);
    assert_eq!(by_id["path_with_namespace"], "acme/web");
    assert_eq!(by_id["permissions"]["project_access"]["access_level"], 40);
}

#[tokio::test]
async fn a_token_tells_its_scopes_and_the_date_it_expires() {
    let world = World::new().await;
    let token = world.get("/api/v4/personal_access_tokens/self").await.expect(200);
    assert_eq!(token["scopes"], json!(["api"]));
    assert_eq!(token["expires_at"].as_str().unwrap().len(), "2027-01-31".len());
    assert_eq!(world.get("/api/v4/metadata").await.expect(200)["version"], "19.2.0-ee");
}

#[tokio::test]
async fn a_rotated_token_is_refused_and_the_new_one_is_the_same_bot() {
    let world = World::new().await;
    let bot = world.get("/api/v4/user").await.expect(200);
    let rotation = json!({ "token": BOT, "new": "next", "expires_at": "2100-01-31", "scopes": ["read_api"] });
    world.control("tokens/rotate", rotation).await;
    world.get("/api/v4/user").await.expect(401);
    assert_eq!(world.ask("next", Method::GET, "/api/v4/user", None).await.expect(200), bot);
    let token = world.ask("next", Method::GET, "/api/v4/personal_access_tokens/self", None).await.expect(200);
    assert_eq!((&token["expires_at"], &token["scopes"]), (&json!("2100-01-31"), &json!(["read_api"])));
}

#[tokio::test]
async fn an_old_server_tells_its_version_at_another_address() {
    let world = World::new().await;
    world.control("instance", json!({ "version": "14.10.5", "metadata": false })).await;
    world.get("/api/v4/metadata").await.expect(404);
    assert_eq!(world.get("/api/v4/version").await.expect(200)["version"], "14.10.5");
}

#[tokio::test]
async fn the_access_level_of_a_commenter_can_be_asked() {
    let world = World::new().await;
    let devi =
        world.control("users", json!({ "username": "devi", "token": "devi", "access_level": 30 })).await;
    let path = format!("members/all/{}", devi["id"]);
    assert_eq!(world.get(&path).await.expect(200)["access_level"], 30);
    assert_eq!(world.get("members/all/4711").await.expect(404), json!({ "message": "404 Not found" }));
}

#[tokio::test]
async fn lists_come_in_pages_with_gitlabs_headers() {
    let world = World::new().await;
    for number in 1..=5 {
        world.post("environments", json!({ "name": format!("review/{number}") })).await.expect(201);
    }
    let first = world.get("environments?per_page=2").await;
    assert_eq!(first.json().as_array().unwrap().len(), 2);
    let headers = ["X-Page", "X-Per-Page", "X-Next-Page", "X-Prev-Page", "X-Total", "X-Total-Pages"];
    assert_eq!(headers.map(|name| first.header(name)), ["1", "2", "2", "", "5", "3"]);
    let next = first.header("Link").split(", ").find(|link| link.ends_with("rel=\"next\"")).unwrap();
    let next = next.trim_start_matches('<').split('>').next().unwrap();
    let second = world.get(next).await;
    assert_eq!(second.header("X-Page"), "2");
    let last = world.get("environments?per_page=2&page=3").await;
    assert!(!last.header("Link").contains("rel=\"next\""));
    assert_eq!(last.json().as_array().unwrap().len(), 1);
    assert_eq!(world.get("environments?per_page=500").await.header("X-Per-Page"), "100");
}

#[tokio::test]
async fn parameters_may_come_as_a_form() {
    let world = World::new().await;
    world.open().await;
    let request = reqwest::Client::new()
        .put(format!("{}/api/v4/projects/42/merge_requests/1", world.url()))
        .header("PRIVATE-TOKEN", BOT)
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body("title=Form+title&labels%5B%5D=a&labels%5B%5D=b");
    let edited: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!((&edited["title"], &edited["labels"]), (&json!("Form title"), &json!(["a", "b"])));
}
