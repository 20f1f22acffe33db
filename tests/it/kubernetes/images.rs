//! An image is waited for until its registry has it, and is deployed by what it was then.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::json;
use tempfile::NamedTempFile;

use super::town::Town;
use crate::support::{
    PATIENCE,
    cluster::Cluster,
    registry::{Fault, PASSWORD, Registry, USER, pass},
    until,
};

/// A project whose preview is an image of this registry, which wants credentials.
struct Shop<'a> {
    town: Town<'a>,
    registry: Registry,
    _pull_secret: Option<NamedTempFile>,
}

impl<'a> Shop<'a> {
    async fn open(cluster: &'a Cluster, name: &str) -> Self {
        let registry = Registry::start().await;
        let auth = BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}"));
        let config = json!({ "auths": { registry.host(): { "auth": auth } } });
        let pull_secret = NamedTempFile::new().unwrap();
        std::fs::write(pull_secret.path(), config.to_string()).unwrap();
        let file =
            format!("[[project]]\nmatch = [\"**\"]\npull_secret = \"{}\"\n", pull_secret.path().display());
        Self::open_with(cluster, name, registry, &file, Some(pull_secret)).await
    }

    /// The same where the operator has given no credentials.
    async fn without_credentials(cluster: &'a Cluster, name: &str) -> Self {
        Self::open_with(cluster, name, Registry::start().await, "", None).await
    }

    async fn open_with(
        cluster: &'a Cluster,
        name: &str,
        registry: Registry,
        file: &str,
        pull_secret: Option<NamedTempFile>,
    ) -> Self {
        let project = format!("acme/{name}");
        let settings = [("GREENROOM_RESYNC_INTERVAL", "1s"), ("GREENROOM_PROJECTS", project.as_str())];
        let town = Town::start_with(cluster, name, &settings, file).await;
        Self { town, registry, _pull_secret: pull_secret }
    }

    /// A merge request that waits for the image of its head; its iid and the head.
    async fn order(&self, branch: &str) -> (u64, String) {
        self.order_by(branch, "{{ head_sha }}", "image").await
    }

    /// A merge request that wants the image with this tag once this is there; its iid and the head.
    async fn order_by(&self, branch: &str, tag: &str, wait_for: &str) -> (u64, String) {
        let image = format!("{}/acme/web:{tag}", self.registry.host());
        let file = format!(
            "version: 1\nengine: kubernetes\nkubernetes:\n  preset: web\n  image: '{image}'\nwait_for: {wait_for}\n"
        );
        let sha = self.town.world.gitlab.push(branch, &[(".greenroom.yml", &file)]).await;
        (self.town.world.gitlab.open_mr(branch, branch).await, sha)
    }

    /// Waits until nothing but the image with this digest runs.
    async fn runs(&self, mr: u64, digest: &str) {
        let image = format!("{}/acme/web@{digest}", self.registry.host());
        until(&format!("!{mr} runs {image}"), PATIENCE, || async {
            let images = self.town.runs(mr).await;
            if images == [image.clone()] { Ok(()) } else { Err(images) }
        })
        .await;
    }
}

#[tokio::test]
async fn an_image_is_waited_for_and_deployed_by_digest() {
    let Some(cluster) = Cluster::start().await else { return };
    let shop = Shop::open(cluster, "imaged").await;
    let (mr, sha) = shop.order("feature").await;
    let waiting = shop.town.world.becomes(mr, "waiting").await;
    let reason = waiting["reason"].as_str().unwrap();
    assert!(reason.contains("image") && reason.contains(&sha), "{reason}");

    let digest = shop.registry.push_index("acme/web", &sha);
    shop.town.world.becomes(mr, "ready").await;
    shop.runs(mr, &digest).await;
    // The cluster pulls with the same credentials, as a Secret of the type for that.
    let secrets = cluster.list("secrets", &shop.town.namespace(mr)).await;
    assert!(secrets.iter().any(|secret| secret["type"] == "kubernetes.io/dockerconfigjson"));
    assert!(!shop.town.world.greenroom.log().contains(PASSWORD));
}

#[tokio::test]
async fn an_image_that_is_named_by_its_digest_is_waited_for_too() {
    let Some(cluster) = Cluster::start().await else { return };
    let shop = Shop::open(cluster, "by-digest").await;
    let digest = shop.registry.push("acme/other", "1");
    let (mr, _) = shop.order_by("feature", &format!("1@{digest}"), "image").await;
    shop.town.says(mr, &["is not in the registry yet", &digest]).await;
    assert_eq!(shop.registry.push("acme/web", "1"), digest, "the same text");
    shop.town.world.becomes(mr, "ready").await;
}

#[tokio::test]
async fn a_registry_that_cannot_be_asked_is_told_and_asked_again() {
    let Some(cluster) = Cluster::start().await else { return };
    let shop = Shop::open(cluster, "outlet").await;
    shop.registry.fails(Fault::Answers(500));
    let (mr, sha) = shop.order("feature").await;
    shop.registry.push("acme/web", &sha);
    for (fault, words) in [
        (Fault::Answers(500), "500"),
        (Fault::Breaks, "did not answer"),
        (Fault::TokensAnswer(403), "403"),
        (Fault::TokensAnswer(401), "401"),
        (Fault::Answers(403), "does not let greenroom see it (it answered with 403)"),
        // Nobody but the registry itself says that an image is not there.
        (Fault::TokensAnswer(404), "404"),
        (Fault::TokensAnswer(502), "502"),
    ] {
        shop.registry.fails(fault);
        shop.town.says(mr, &[words]).await;
        assert!(cluster.get("namespaces", "", &shop.town.namespace(mr)).await.is_none(), "{fault:?}");
    }
    shop.registry.heals();
    shop.town.world.becomes(mr, "ready").await;
}

#[tokio::test]
async fn a_registry_that_tells_no_digest_has_it_counted() {
    let Some(cluster) = Cluster::start().await else { return };
    let shop = Shop::open(cluster, "counting").await;
    shop.registry.fails(Fault::NoDigestHeader);
    let (mr, sha) = shop.order("feature").await;
    let digest = shop.registry.push_index("acme/web", &sha);
    shop.town.world.becomes(mr, "ready").await;
    shop.runs(mr, &digest).await;
}

#[tokio::test]
async fn another_image_under_the_same_tag_is_deployed_once_its_job_has_run() {
    let Some(cluster) = Cluster::start().await else { return };
    let shop = Shop::open(cluster, "moving").await;
    let first = shop.registry.push("acme/web", "feature");
    let (mr, _) = shop.order_by("feature", "{{ ref_slug }}", "pipeline").await;
    shop.town.pass(mr).await;
    shop.town.world.becomes(mr, "ready").await;
    shop.runs(mr, &first).await;

    let second = shop.registry.push("acme/web", "feature");
    shop.town.pass(mr).await;
    shop.runs(mr, &second).await;
    shop.town.world.becomes(mr, "ready").await;

    // The same again is nothing new.
    let namespace = shop.town.namespace(mr);
    let generation = async || {
        let deployment = &cluster.list("deployments.apps", &namespace).await[0];
        deployment["metadata"]["generation"].clone()
    };
    let before = generation().await;
    shop.town.pass(mr).await;
    shop.town.world.rests().await;
    assert_eq!(generation().await, before);

    // A registry that was tidied too early is told of, and what runs goes on.
    shop.registry.remove_tag("acme/web", "feature");
    shop.town.pass(mr).await;
    shop.town.says(mr, &["is not in the registry yet", "web:feature"]).await;
    shop.runs(mr, &second).await;
}

#[tokio::test]
async fn gitlabs_own_registry_is_asked_with_the_token_for_gitlab_and_no_other_is() {
    let Some(cluster) = Cluster::start().await else { return };
    let shop = Shop::without_credentials(cluster, "tokened").await;
    let (mr, sha) = shop.order("feature").await;
    let digest = shop.registry.push("acme/web", &sha);
    // Tokens come from elsewhere than GitLab: what is GitLab's stays unsaid.
    shop.town.says(mr, &["does not let greenroom see it (it answered with 403)", "pull_secret"]).await;
    let asked = shop.registry.asked();
    let mut tokens = asked.iter().filter(|asked| asked.path.starts_with("/jwt/auth")).peekable();
    assert!(tokens.peek().is_some() && tokens.all(|asked| asked.authorization.is_empty()), "{asked:#?}");

    // A stranger's registry names GitLab: it would get what GitLab gives to whom it trusts.
    let (world, wire) = (&shop.town.world, &shop.town.world.wire);
    shop.registry.send_for_tokens_to(&wire.url().join("/jwt/auth").unwrap());
    shop.town
        .says(mr, &["asks for a token of GitLab's, and is not where GitLab keeps the project's images"])
        .await;
    assert_eq!(wire.count("GET", "/jwt/auth*"), 0);

    world.has_images_at(&shop.registry.host()).await;
    let token = json!({ "token": pass("acme/web") }).to_string();
    wire.on("GET", "/jwt/auth").always().answer(200, &[("content-type", "application/json")], &token);
    world.greenroom.restart().await;
    world.becomes(mr, "ready").await;
    shop.runs(mr, &digest).await;
}
