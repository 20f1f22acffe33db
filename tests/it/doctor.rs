//! `greenroom doctor` with the settings of a server: everything they lead to is looked at.

use std::fs;

use insta::{assert_snapshot, with_settings};
use serde_json::{Value, json};

use crate::support::{
    free_address,
    registry::Registry,
    tls::{Authority, Proxy, TlsFront},
    world::World,
};

const FILTERS: [(&str, &str); 8] = [
    (r"registry\.127\.0\.0\.1:\d+", "[registry]"),
    (r"\d+ of the last \d+ deliveries", "[n] of the last [m] deliveries"),
    (r"http://127\.0\.0\.1:\d+", "http://[address]"),
    (r"its end on \d{4}-\d\d-\d\d", "its end on [day]"),
    (r"/\S+/data", "[data]"),
    (r"\d+ s apart", "[many] s apart"),
    (r"http://\[address\]/ does not answer: .*", "http://[address]/ does not answer: [why]"),
    (r"since \d{4}-\S+", "since [time]"),
];

async fn doctor(world: &World, args: &[&str], settings: &[(&str, &str)]) -> (i32, String) {
    let server = world.greenroom.url().to_string();
    world.greenroom.ask(&[&["doctor", "--server", &server], args].concat(), settings).await
}

/// A registry with the project's images, which everybody may see.
async fn public_registry(world: &World) -> Registry {
    let registry = Registry::start().await;
    registry.make_public("acme/web");
    world.has_images_at(&registry.host()).await;
    registry
}

fn reads(told: &(i32, String)) -> String {
    format!("exit code {}\n{}", told.0, told.1)
}

#[tokio::test]
async fn where_all_is_well_each_thing_is_said_to_be() {
    let world = World::start_with(&[("GREENROOM_PROJECTS", "acme/web")]).await;
    world.gitlab.promote_bot(40).await;
    // The project was made before greenroom was there to hear of it.
    world.gitlab.forget_deliveries().await;
    world.gitlab.open_mr("feature", "first").await;
    world.rests().await;
    let _registry = public_registry(&world).await;
    let told = doctor(&world, &[], &[]).await;
    with_settings!({ filters => FILTERS }, { assert_snapshot!(reads(&told)) });
    let (code, json) = doctor(&world, &["--output", "json"], &[]).await;
    // What is for people follows, on stderr.
    let json: Value = serde_json::Deserializer::from_str(&json).into_iter().next().unwrap().unwrap();
    assert_eq!((code, &json["status"], &json["warnings"]), (0, &json!("ok"), &json!([])));
    assert_eq!(json["checks"][1]["subject"], "gitlab");
    world.ends_well().await;
}

#[tokio::test]
async fn whatever_is_wrong_is_found_in_one_go_with_a_remedy_each() {
    let world = World::start_with(&[("GREENROOM_PROJECTS", "acme/web")]).await;
    world.gitlab.promote_bot(40).await;
    let mr = world.gitlab.open_mr("feature", "first").await;
    world.rests().await;
    let hook = world.gitlab.hooks().await.remove(0);
    world.gitlab.edit_hook(&hook, json!({ "job_events": false, "note_events": false })).await;
    world.greenroom.kill9();
    for label in ["a", "b", "c", "d"] {
        world.gitlab.edit(mr, json!({ "add_labels": label })).await;
        world.gitlab.drain().await;
    }
    let reader =
        json!({ "username": "rita", "token": "reading", "access_level": 40, "scopes": ["read_api"] });
    world.gitlab.control("users", reader).await;
    world.wire.on("GET", "*/user").answer(200, &[("date", "Sat, 01 Jan 2000 00:00:00 GMT")], "{}");
    let settings = [("GREENROOM_GITLAB_TOKEN", "reading"), ("GREENROOM_PREVIEW_DOMAIN", "preview.invalid")];
    let told = doctor(&world, &[], &settings).await;
    with_settings!({ filters => FILTERS }, { assert_snapshot!(reads(&told)) });
    world.greenroom.restart().await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_registry_that_cannot_be_asked_is_found() {
    let world = World::start_with_file(&[("GREENROOM_PROJECTS", "acme/web")], "").await;
    let doctor = async || doctor(&world, &[], &[]).await.1;
    // GitLab knows nobody here by our token.
    let registry = Registry::start().await;
    world.has_images_at(&registry.host()).await;
    let told = doctor().await;
    assert!(told.contains("images of `acme/web` cannot be looked for: the registry"), "{told}");
    assert!(told.contains("does not let greenroom see it"), "{told}");
    let nobody = free_address().to_string();
    world.has_images_at(&nobody).await;
    let told = doctor().await;
    assert!(told.contains(&format!("the registry {nobody} did not answer")), "{told}");

    // Nobody there may need one.
    world.greenroom.write_settings("[[project]]\nmatch = [\"acme/*\"]\nengines = [\"static\"]\n");
    let (_, told) = world
        .greenroom
        .ask(&["doctor", "--config", "greenroom.toml", "--server", world.greenroom.url().as_str()], &[])
        .await;
    assert!(told.contains("previews of `acme/web` may not be made of images"), "{told}");
}

#[tokio::test]
async fn a_developers_token_is_enough_for_previews_and_a_stranger_is_not() {
    let world = World::start().await;
    let registry = public_registry(&world).await;
    let told = doctor(&world, &["--project", "acme/web"], &[]).await;
    with_settings!({ filters => FILTERS }, { assert_snapshot!(reads(&told)) });
    drop(registry);
    world.wire.heal();
    world.gitlab.promote_bot(0).await;
    let (code, told) = doctor(&world, &["--project", "acme/web"], &[]).await;
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("`acme/web` cannot be looked at: GitLab answered"), "{told}");
    world.gitlab.promote_bot(40).await;
    world.gitlab.delete_hooks().await;
    let (code, told) = doctor(&world, &["--project", "acme/web"], &[]).await;
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("run `greenroom connect acme/web`"), "{told}");
    world.ends_well().await;
}

#[tokio::test]
async fn the_certificate_has_to_be_for_every_name_below_the_previews_domain() {
    let world = World::start().await;
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem").display().to_string();
    fs::write(&ca, authority.pem()).unwrap();
    for (host, found) in [
        ("*.preview.test", "https://*.preview.test is answered"),
        ("greenroom.test", "https://*.preview.test is not what it should be: its certificate is not valid"),
    ] {
        let front = TlsFront::before(&world.greenroom.url(), &authority, host).await;
        let proxy = Proxy::to(front.address).await;
        let settings = [
            ("GREENROOM_PUBLIC_URL", "https://greenroom.test"),
            ("GREENROOM_PREVIEW_DOMAIN", "preview.test"),
            ("GREENROOM_CA_FILE", &ca),
            ("HTTPS_PROXY", &proxy.url),
        ];
        let (_, told) = doctor(&world, &[], &settings).await;
        assert!(told.contains(found), "{told}");
    }
    world.ends_well().await;
}
