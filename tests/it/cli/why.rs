//! `greenroom why`: what led to a preview.

use insta::{assert_snapshot, with_settings};
use serde_json::Value;

use super::{Shell, ask, shown};
use crate::support::{free_address, world::World};

#[tokio::test]
async fn tells_what_led_to_a_preview() {
    let world = World::start().await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    world.becomes(mr, "waiting").await;
    world.build(mr, "one").await;
    world.becomes(mr, "ready").await;
    world.rests().await;

    let server = world.greenroom.url().to_string();
    let told = ask(&["why", "acme/web!1", "--server", &server]).await;
    let filters = [
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "[time]"),
        (r"\b[0-9a-f]{8}\b", "[commit]"),
        (r"localhost:\d+", "localhost:[port]"),
        (r"\b5[34]0000000", "[id]"),
    ];
    with_settings!({ filters => filters }, { assert_snapshot!(shown(told.clone())) });
    assert_eq!(ask(&["why", "42!1", "--server", &server]).await, told, "by its number");
    assert_eq!(ask(&["why", "ACME/Web!1", "--server", &server]).await, told, "GitLab's paths know no case");

    let (code, json, _) = ask(&["why", "42!1", "--output", "json", "--server", &server]).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, json), (0, world.preview(mr).await.unwrap()));
    world.ends_well().await;
}

#[tokio::test]
async fn says_what_it_does_not_know() {
    let world = World::start().await;
    world.ready_mr("feature", "one").await;
    let server = world.greenroom.url().to_string();
    for (question, answer) in [
        ("acme/web!2", "no preview of merge request 42!2 is known"),
        ("acme/app!1", "no preview of a project `acme/app` is known"),
    ] {
        let (code, stdout, stderr) = ask(&["why", question, "--server", &server]).await;
        assert_eq!((code, &*stdout), (1, ""), "{question}");
        assert!(stderr.contains(answer), "{stderr}");
    }
    world.ends_well().await;
}

#[tokio::test]
async fn needs_the_token_where_the_server_has_one() {
    let world = World::start_with(&[("GREENROOM_API_TOKEN", "hush")]).await;
    let server = world.greenroom.url().to_string();
    let refused = ask(&["why", "42!1", "--server", &server]).await;
    assert_eq!(refused.0, 1);
    assert_snapshot!(refused.2.replace(&server, "[server]"), @"error: [server] answered 401 Unauthorized: send the API token as `Authorization: Bearer …`");
    let shell = Shell::new();
    let token = shell.writes("token", "hush\n");
    let mut why = shell.greenroom(&["why", "42!1"]);
    why.env("GREENROOM_API_TOKEN_FILE", token).env("GREENROOM_SERVER", &server);
    let output = tokio::task::spawn_blocking(move || why.output().unwrap()).await.unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("no preview of merge request 42!1 is known"), "{stderr}");
}

#[test]
fn says_when_nobody_listens() {
    let server = format!("http://{}", free_address());
    let (code, stdout, stderr) = Shell::new().runs(&["why", "acme/web!1", "--server", &server]);
    assert_eq!((code, &*stdout), (3, ""));
    assert!(stderr.starts_with(&format!("error: {server}/ does not answer")), "{stderr}");
}

#[test]
fn says_how_to_name_a_merge_request() {
    for nonsense in
        ["nonsense", "acme/web", "acme/web!", "!1", "acme/web!one", "acme/web!-1", "acme/web@", "@x"]
    {
        let (code, stdout, stderr) = Shell::new().runs(&["why", nonsense]);
        assert_eq!((code, &*stdout), (2, ""), "{nonsense}");
        assert_eq!(
            stderr,
            format!(
                "error: `{nonsense}` names no merge request\nhint: write it as `acme/web!7`, or a branch without one as \
                 `acme/web@feature`\n"
            )
        );
    }
}
