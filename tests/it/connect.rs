//! `greenroom connect`: from a project without a webhook to one that leads here, provably.

use insta::{assert_snapshot, with_settings};
use serde_json::{Value, json};

use crate::support::{
    free_address,
    gitlab::{Gitlab, SIGNING_TOKEN},
    world::World,
};

const FILTERS: [(&str, &str); 2] =
    [(r"http://127\.0\.0\.1:\d+", "http://[address]"), (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "[time]")];

const NEEDED: [&str; 6] = [
    "push_events",
    "merge_requests_events",
    "note_events",
    "pipeline_events",
    "job_events",
    "deployment_events",
];

/// A world whose bot is a Maintainer; its project has the webhook that [`Gitlab::start`] makes.
async fn maintained(settings: &[(&str, &str)]) -> World {
    let world = World::start_with(settings).await;
    world.gitlab.promote_bot(40).await;
    world
}

/// The same without any webhook.
async fn fresh(settings: &[(&str, &str)]) -> World {
    let world = maintained(settings).await;
    world.gitlab.delete_hooks().await;
    world
}

/// Somebody connects the project with the settings of the server.
async fn connect(world: &World, args: &[&str]) -> (i32, String) {
    let (code, text) = world.greenroom.ask(&[&["connect", "acme/web"], args].concat(), &[]).await;
    (code, format!("exit code {code}\n{text}"))
}

macro_rules! says {
    ($told:expr) => {
        with_settings!({ filters => FILTERS }, { assert_snapshot!($told) })
    };
}

/// The one webhook that there is.
async fn hook(world: &World) -> Value {
    let mut hooks = world.gitlab.hooks().await;
    assert_eq!(hooks.len(), 1, "{hooks:#?}");
    hooks.remove(0)
}

/// What was changed in GitLab, if anything.
fn writes(world: &World) -> usize {
    world.wire.count("POST", "*/hooks") + world.wire.count("PUT", "*/hooks/*")
}

#[tokio::test]
async fn a_fresh_project_is_connected_and_its_first_push_is_heard() {
    let world = fresh(&[]).await;
    let (code, told) = connect(&world, &[]).await;
    assert_eq!(code, 0, "{told}");
    says!(told);
    let hook = hook(&world).await;
    assert_eq!(hook["url"], format!("{}webhooks/gitlab", world.greenroom.url()));
    assert!(NEEDED.iter().all(|event| hook[event] == true), "{hook:#}");
    let tokens = [&hook["signing_token_present"], &hook["token_present"], &hook["enable_ssl_verification"]];
    assert_eq!(tokens, [true, false, true]);

    let mr = world.ready_mr("feature", "connected").await;
    world.shows(mr, "connected").await;

    let before = writes(&world);
    let (code, told) = connect(&world, &[]).await;
    assert_eq!((code, writes(&world)), (0, before), "the second time changes nothing");
    says!(told);
    world.ends_well().await;
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let world = fresh(&[]).await;
    let (code, told) = connect(&world, &["--dry-run"]).await;
    assert_eq!(code, 2, "{told}");
    says!(told);
    assert_eq!(world.gitlab.hooks().await, Vec::<Value>::new());
    assert!(connect(&world, &[]).await.0 == 0 && connect(&world, &["--dry-run"]).await.0 == 0);
    assert_eq!(world.wire.count("POST", "*/test/*"), 1, "a dry run sends nothing");
    world.ends_well().await;
}

#[tokio::test]
async fn a_webhook_with_wrong_events_is_repaired_and_others_are_left_alone() {
    let world = maintained(&[]).await;
    let ours = hook(&world).await;
    world
        .gitlab
        .edit_hook(&ours, json!({ "job_events": false, "note_events": false, "issues_events": true }))
        .await;
    world
        .gitlab
        .create_hook(json!({ "url": "https://chat.example.com/webhooks/gitlab", "token": "t" }))
        .await;
    let other = world.gitlab.hooks().await.pop().unwrap();
    let (code, told) = connect(&world, &[]).await;
    assert_eq!(code, 0, "{told}");
    says!(told);
    let hooks = world.gitlab.hooks().await;
    assert_eq!((hooks.len(), &hooks[1]), (2, &other));
    assert!(NEEDED.iter().all(|event| hooks[0][event] == true), "{hooks:#?}");
    assert_eq!(hooks[0]["issues_events"], true, "what is more than we need is not our business");
    assert_eq!(hooks[0]["signing_token_present"], true);
    world.ends_well().await;
}

#[tokio::test]
async fn a_webhook_with_a_secret_token_only_gets_a_signing_token_where_gitlab_can_sign() {
    let world = fresh(&[("GREENROOM_WEBHOOK_SECRET_TOKEN", "hush")]).await;
    let url = format!("{}webhooks/gitlab", world.greenroom.url());
    world.gitlab.create_hook(json!({ "url": url, "token": "hush", "enable_ssl_verification": false })).await;
    let (code, told) = connect(&world, &[]).await;
    assert_eq!(code, 0, "{told}");
    says!(told);
    let hook = hook(&world).await;
    assert_eq!(
        [&hook["signing_token_present"], &hook["token_present"]],
        [true, true],
        "no token is taken away"
    );
    world.ends_well().await;
}

#[tokio::test]
async fn an_older_gitlab_needs_a_secret_token() {
    let world = fresh(&[]).await;
    world.gitlab.control("instance", json!({ "version": "18.11.0-ee" })).await;
    let (code, told) = connect(&world, &[]).await;
    assert_eq!(code, 2, "{told}");
    says!(told);
    assert_eq!(writes(&world), 0, "a webhook that proves nothing is not made");

    let mut world = world;
    world.greenroom.set("GREENROOM_WEBHOOK_SECRET_TOKEN", "hush");
    world.greenroom.restart().await;
    let (code, told) = connect(&world, &[]).await;
    assert_eq!(code, 0, "{told}");
    says!(told);
    assert_eq!(hook(&world).await["token_present"], true);
    world.ends_well().await;
}

#[tokio::test]
async fn a_token_that_is_not_the_servers_is_found_by_the_test_event_and_replaced_when_asked() {
    let world = maintained(&[]).await;
    let nobodys = "whsec_bm9ib2R5bm9ib2R5bm9ib2R5bm9ib2R5bm9ib2R5ISE=";
    world.gitlab.edit_hook(&hook(&world).await, json!({ "signing_token": nobodys })).await;
    let (code, told) = connect(&world, &[]).await;
    assert_eq!(code, 1, "{told}");
    says!(told);
    let (code, told) = connect(&world, &["--replace-token"]).await;
    assert_eq!(code, 0, "{told}");
    assert!(!told.contains(SIGNING_TOKEN), "{told}");
    world.ends_well().await;
}

#[tokio::test]
async fn a_developer_is_told_what_is_missing() {
    let world = World::start().await;
    let (code, told) = connect(&world, &[]).await;
    assert_eq!(code, 1, "{told}");
    says!(told);
    world.gitlab.promote_bot(0).await;
    let (code, told) = connect(&world, &[]).await;
    assert_eq!(code, 1, "{told}");
    says!(told);
    world.gitlab.promote_bot(40).await;
    let reader =
        json!({ "username": "rita", "token": "reading", "access_level": 40, "scopes": ["read_api"] });
    world.gitlab.control("users", reader).await;
    let reader = [("GREENROOM_GITLAB_TOKEN", "reading")];
    let (code, told) = world.greenroom.ask(&["connect", "acme/web"], &reader).await;
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("lacks the scope `api` (it has read_api)"), "{told}");
    assert_eq!(writes(&world), 0);
    world.ends_well().await;
}

#[tokio::test]
async fn an_address_that_gitlab_does_not_reach_is_told_with_gitlabs_words() {
    let world = fresh(&[]).await;
    let nobody = format!("http://{}/webhooks/gitlab", free_address());
    let (code, told) = connect(&world, &["--webhook-url", &nobody]).await;
    assert_eq!(code, 1, "{told}");
    assert!(told.contains(&format!("a test event did not arrive at {nobody}: ")), "{told}");
    assert!(told.contains("GREENROOM_WEBHOOK_URL"), "{told}");
    world.ends_well().await;
}

#[tokio::test]
async fn a_good_answer_of_somebody_else_is_no_proof() {
    let world = fresh(&[]).await;
    let other = World::start_with(&[]).await;
    // It knows the same token, and it is not the one that is asked.
    let elsewhere = format!("{}webhooks/gitlab", other.greenroom.url());
    let (code, told) = connect(&world, &["--webhook-url", &elsewhere]).await;
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("knows nothing of it"), "{told}");
    let nobody = format!("http://{}", free_address());
    let (code, told) = connect(&world, &["--server", &nobody]).await;
    assert_eq!(code, 3, "{told}");
    assert!(told.contains("it is not known from whom"), "{told}");
    other.ends_well().await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_glob_connects_every_project_that_matches() {
    let world = fresh(&[]).await;
    let empty = json!({ "path": "acme/api", "bot": 40 });
    world.gitlab.control("projects", empty).await;
    world.gitlab.control("projects", json!({ "path": "other/app", "bot": 40 })).await;
    world.gitlab.control("projects", json!({ "path": "acme/shy", "bot": 30 })).await;
    let (code, told) = world.greenroom.ask(&["connect", "acme/*"], &[]).await;
    assert_eq!(code, 1, "{told}");
    says!(told);
    let (code, told) = world.greenroom.ask(&["connect", "nobody/*"], &[]).await;
    assert_eq!(code, 2, "{told}");
    assert!(told.contains("no project matches `nobody/*`"), "{told}");
    assert_eq!(hook(&world).await["project_id"], Gitlab::PROJECT);
    world.ends_well().await;
}

#[tokio::test]
async fn without_gitlab_it_says_so() {
    let world = World::start().await;
    world.wire.cut();
    let (code, told) = connect(&world, &[]).await;
    assert_eq!(code, 3, "{told}");
    world.wire.heal();
    world.ends_well().await;
}

#[tokio::test]
async fn what_was_done_is_told_to_scripts_too() {
    let world = fresh(&[]).await;
    let ask = async |args: &[&str]| {
        let args = [&["connect", "acme/web", "--output", "json"], args].concat();
        let (code, text) = world.greenroom.ask(&args, &[]).await;
        let json = serde_json::Deserializer::from_str(&text).into_iter::<Value>().next();
        (code, json.unwrap_or_else(|| panic!("{text}")).unwrap())
    };
    let (code, planned) = ask(&["--dry-run"]).await;
    let project = &planned["projects"][0];
    assert_eq!(
        (code, &project["path"], &project["changed"]),
        (2, &json!("acme/web"), &json!(false)),
        "{planned}"
    );
    assert_eq!(project["error"], "nothing was changed");
    let (code, done) = ask(&[]).await;
    let project = &done["projects"][0];
    assert_eq!((code, &project["changed"], &project["error"]), (0, &json!(true), &Value::Null), "{done}");
    assert!(project["changes"].as_array().is_some_and(|steps| !steps.is_empty()), "{done}");
    let (code, again) = ask(&[]).await;
    assert_eq!((code, &again["projects"][0]["changed"]), (0, &json!(false)), "{again}");
    assert_eq!(again["projects"][0]["changes"], json!([]));
}

#[tokio::test]
async fn whatever_else_gitlab_refuses_is_told_in_its_own_words() {
    let world = fresh(&[]).await;
    let refused = r#"{"message":"403 Forbidden - the project is archived"}"#;
    world.wire.on("GET", "*/hooks").always().answer(403, &[("content-type", "application/json")], refused);
    let (code, told) = connect(&world, &[]).await;
    assert!(code == 1 && told.contains("is archived") && !told.contains("need the role"), "{told}");
    let (_, told) = world.greenroom.ask(&["doctor", "--project", "acme/web"], &[]).await;
    assert!(told.contains("is archived") && !told.contains("to Maintainers only"), "{told}");
    world.wire.heal();
    let full = r#"{"error":"Maximum number of project hooks (100) exceeded"}"#;
    world.wire.on("POST", "*/hooks").always().answer(422, &[("content-type", "application/json")], full);
    let (code, told) = connect(&world, &[]).await;
    assert!(code == 1 && told.contains("(100) exceeded") && !told.contains("private addresses"), "{told}");
    world.wire.heal();
    // A redirect is not followed, for the token would go along.
    let to = "https://gitlab.example.com/api/v4/metadata";
    world.wire.any().always().answer(301, &[("location", to)], "<html>");
    let (code, told) = connect(&world, &[]).await;
    assert!(code == 3 && told.contains(&format!("with 301 and another address, `{to}`")), "{told}");
    world.wire.heal();
    assert_eq!(world.gitlab.hooks().await, Vec::<Value>::new());
    world.ends_well().await;
}

#[tokio::test]
async fn the_webhook_lies_below_the_public_address() {
    let world = fresh(&[]).await;
    for address in ["https://example.com/greenroom", "https://example.com/greenroom/"] {
        let settings = [("GREENROOM_PUBLIC_URL", address)];
        let (code, told) = world.greenroom.ask(&["connect", "acme/web", "--dry-run"], &settings).await;
        assert_eq!(code, 2, "{told}");
        assert!(
            told.contains("make a webhook to https://example.com/greenroom/webhooks/gitlab for"),
            "{told}"
        );
    }
    world.ends_well().await;
}
