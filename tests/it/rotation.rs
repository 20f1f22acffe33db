//! Secrets that are replaced in their files while greenroom runs.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use serde_json::json;
use tempfile::TempDir;

use crate::support::{
    courier::Delivery,
    gitlab::{BOT, SIGNING_TOKEN},
    world::World,
};

const OTHER_SIGNING_TOKEN: &str = "whsec_b3RoZXJvdGhlcm90aGVyb3RoZXJvdGhlcm90aGVyISE=";

/// Secrets as Kubernetes mounts them: links into a folder that is swapped as a whole.
struct Mount(TempDir);

impl Mount {
    fn of(secrets: &[(&str, &str)]) -> Self {
        let mount = Self(tempfile::tempdir().unwrap());
        mount.swap(secrets);
        for (name, _) in secrets {
            symlink(Path::new("..data").join(name), mount.0.path().join(name)).unwrap();
        }
        mount
    }

    /// All secrets at once become these.
    fn swap(&self, secrets: &[(&str, &str)]) {
        let version = self.0.path().join(uuid::Uuid::new_v4().to_string());
        fs::create_dir(&version).unwrap();
        for (name, text) in secrets {
            fs::write(version.join(name), text).unwrap();
        }
        let link = self.0.path().join("..data_tmp");
        symlink(&version, &link).unwrap();
        fs::rename(link, self.0.path().join("..data")).unwrap();
    }

    fn path(&self, name: &str) -> String {
        let path: PathBuf = self.0.path().join(name);
        path.display().to_string()
    }
}

#[tokio::test]
async fn a_rotated_gitlab_token_is_taken_while_running() {
    let mount = Mount::of(&[("token", BOT)]);
    let world = World::start_with(&[
        ("GREENROOM_GITLAB_TOKEN", ""),
        ("GREENROOM_GITLAB_TOKEN_FILE", &mount.path("token")),
    ])
    .await;
    let mr = world.ready_mr("feature", "one").await;

    world.gitlab.control("tokens/rotate", json!({ "token": BOT, "new": "next-token" })).await;
    mount.swap(&[("token", "next-token\n")]);
    world.greenroom.logs("a secret was replaced", 1).await;
    world.gitlab.push("feature", &[("a", "2")]).await;
    world.build(mr, "two").await;
    world.becomes(mr, "ready").await;
    world.shows(mr, "two").await;

    // Somebody empties it by mistake: the one that works stays.
    mount.swap(&[("token", "\n")]);
    world.greenroom.logs("is empty; the secret stays as it was", 1).await;
    world.gitlab.close(mr).await;
    world.becomes(mr, "stopped").await;
    let log = world.greenroom.log();
    assert!(log.contains("GREENROOM_GITLAB_TOKEN_FILE") && !log.contains("next-token"), "{log}");
    world.ends_well().await;
}

#[tokio::test]
async fn rotated_webhook_secrets_both_count_in_between() {
    let mount = Mount::of(&[("secret", "old"), ("signing", SIGNING_TOKEN)]);
    let world = World::start_with(&[
        ("GREENROOM_WEBHOOK_SIGNING_TOKEN", ""),
        ("GREENROOM_WEBHOOK_SIGNING_TOKEN_FILE", &mount.path("signing")),
        ("GREENROOM_WEBHOOK_SECRET_TOKEN_FILE", &mount.path("secret")),
    ])
    .await;
    let greenroom = &world.greenroom;
    let by_token = async |token: &str| Delivery::about(1).with_token(token).deliver(greenroom).await;
    let signed = async |token: &str| Delivery::about(1).signed_with(token).deliver(greenroom).await;
    assert_eq!((by_token("old").await, by_token("new").await), (202, 401));
    assert_eq!((signed(SIGNING_TOKEN).await, signed(OTHER_SIGNING_TOKEN).await), (202, 401));

    mount.swap(&[("secret", "old\nnew"), ("signing", &format!("{SIGNING_TOKEN}\n{OTHER_SIGNING_TOKEN}"))]);
    greenroom.logs("a secret was replaced", 2).await;
    assert_eq!((by_token("old").await, by_token("new").await), (202, 202));
    assert_eq!((signed(SIGNING_TOKEN).await, signed(OTHER_SIGNING_TOKEN).await), (202, 202));

    mount.swap(&[("secret", "new"), ("signing", OTHER_SIGNING_TOKEN)]);
    greenroom.logs("a secret was replaced", 4).await;
    assert_eq!((by_token("old").await, by_token("new").await), (401, 202));
    assert_eq!((signed(SIGNING_TOKEN).await, signed(OTHER_SIGNING_TOKEN).await), (401, 202));

    // One that is no signing token is not taken, and its text is not told.
    mount.swap(&[("secret", "new"), ("signing", "whsec_mistyped")]);
    greenroom.logs("the secret stays as it was", 1).await;
    assert_eq!(signed(OTHER_SIGNING_TOKEN).await, 202);
    assert!(!greenroom.log().contains("whsec_"), "{}", greenroom.log());
}

#[tokio::test]
async fn a_rotated_api_token_is_taken_while_running() {
    let mount = Mount::of(&[("api", "old")]);
    let world = World::start_with(&[("GREENROOM_API_TOKEN_FILE", &mount.path("api"))]).await;
    let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap();
    let url = world.greenroom.url().join("api/v1/previews").unwrap();
    let ask =
        async |token: &str| http.get(url.clone()).bearer_auth(token).send().await.unwrap().status().as_u16();
    assert_eq!((ask("old").await, ask("new").await), (200, 401));
    fs::remove_file(mount.path("api")).unwrap();
    world.greenroom.logs("cannot be read", 1).await;
    assert_eq!(ask("old").await, 200);
    fs::write(mount.path("api"), "new\n").unwrap();
    world.greenroom.logs("a secret was replaced", 1).await;
    assert_eq!((ask("old").await, ask("new").await), (401, 200));
}
