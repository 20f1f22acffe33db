//! A preview moves: to another engine, another cluster, another domain. What serves goes once the new one serves, and
//! nothing is left behind, whoever is away or killed meanwhile.

use std::path::Path;

use serde_json::Value;

use super::town::{App, Town};
use crate::support::{
    PATIENCE,
    cluster::{Cluster, kubelet::Says},
    until,
};

const STATIC: &str = "version: 1\nengine: static\nstatic:\n  job: build\n  path: dist\n";

/// Looked at every second, for nobody in GitLab tells of a change of settings.
fn often(project: &str) -> [(&'static str, &str); 2] {
    [("GREENROOM_RESYNC_INTERVAL", "1s"), ("GREENROOM_PROJECTS", project)]
}

fn cluster_table(name: &str, kubeconfig: &Path) -> String {
    format!("[[cluster]]\nname = \"{name}\"\nkubeconfig = \"{}\"\n", kubeconfig.display())
}

fn project_on(cluster: &str) -> String {
    format!("[[project]]\nmatch = [\"**\"]\ncluster = \"{cluster}\"\n")
}

impl Town<'_> {
    /// What greenroom knows is the case with these settings from now on.
    async fn settle_with(&self, file: &str) {
        self.world.greenroom.write_settings(file);
        self.world.greenroom.restart().await;
    }

    async fn has_no_site(&self, mr: u64) {
        let previews = self.world.greenroom.data().join("static/previews");
        let file = previews.join(format!("{}.json", self.namespace(mr)));
        until(&format!("{} is gone", file.display()), PATIENCE, || async {
            if file.exists() { Err("it is there") } else { Ok(()) }
        })
        .await;
    }
}

/// Waits until a cluster has nothing of a preview.
async fn leaves(cluster: &Cluster, namespace: &str) {
    until(&format!("{namespace} is gone"), PATIENCE * 2, || async {
        cluster.get("namespaces", "", namespace).await.map_or(Ok(()), Err)
    })
    .await;
}

/// Waits until this runs in that cluster.
async fn runs_in(cluster: &Cluster, namespace: &str) {
    until(&format!("{namespace} runs"), PATIENCE, || async {
        let pods = cluster.list("pods", namespace).await;
        let ready = |pod: &Value| {
            let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True")
        };
        if pods.iter().any(ready) { Ok(()) } else { Err(pods) }
    })
    .await;
}

#[tokio::test]
async fn a_site_moves_to_a_cluster_and_back() {
    let Some(cluster) = Cluster::start().await else { return };
    let town = Town::start(cluster, "settler").await;
    let mr = town.world.ready_mr("feature", "static").await;

    // As long as nothing is ready there, the site serves, also after a crash in the middle.
    let slow = App::with_image(&Says::Creating.image("registry.test/acme/web"));
    town.update(mr, "feature", &slow).await;
    until("its pod is being made", PATIENCE, || async {
        let pods = cluster.list("pods", &town.namespace(mr)).await;
        if pods.is_empty() { Err("no pod") } else { Ok(()) }
    })
    .await;
    town.world.shows(mr, "static").await;
    town.world.greenroom.restart().await;
    town.world.shows(mr, "static").await;

    town.update(mr, "feature", &App::works(1)).await;
    town.world.becomes(mr, "ready").await;
    town.serves(mr, &App::works(1)).await;
    town.has_no_site(mr).await;
    // Who comes to greenroom for it is told where it is.
    let (status, page) = town.world.visit(mr, "/").await;
    assert!(status == 503 && page.contains("cluster <code>default</code>"), "{status}: {page}");

    town.world.gitlab.push("feature", &[(".greenroom.yml", STATIC)]).await;
    town.world.rests().await;
    town.serves(mr, &App::works(1)).await;
    town.world.build(mr, "static again").await;
    town.world.becomes(mr, "ready").await;
    town.world.shows(mr, "static again").await;
    leaves(cluster, &town.namespace(mr)).await;

    town.world.gitlab.close(mr).await;
    town.world.becomes(mr, "stopped").await;
    town.world.is_gone(mr).await;
    town.world.ends_well().await;
}

#[tokio::test]
async fn a_preview_moves_from_cluster_to_cluster_once_the_other_one_has_it() {
    let Some(cluster) = Cluster::start().await else { return };
    let Some(other) = Cluster::own().await else { return };
    let town = Town::start_with(cluster, "nomad", &often("acme/nomad"), "").await;
    let mr = town.ready("feature", &App::works(1)).await;
    let namespace = town.namespace(mr);

    other.freeze_api();
    let tables = cluster_table("other", &other.kubeconfig());
    let settings = tables.clone() + &project_on("other");
    town.settle_with(&settings).await;
    town.says(mr, &["cluster `other`", "does not answer in time"]).await;
    town.serves(mr, &App::works(1)).await;
    // A crash in the middle of it changes nothing.
    town.world.greenroom.restart().await;
    town.says(mr, &["cluster `other`", "does not answer in time"]).await;
    town.serves(mr, &App::works(1)).await;
    other.thaw_api();
    runs_in(&other, &namespace).await;
    leaves(cluster, &namespace).await;
    town.world.becomes(mr, "ready").await;

    // The settings forget the cluster: greenroom does not.
    town.settle_with("").await;
    town.world.gitlab.close(mr).await;
    town.says(mr, &["cluster `other`", "settings"]).await;
    assert_ne!(town.world.preview(mr).await.unwrap()["state"], "stopped");
    assert!(other.get("namespaces", "", &namespace).await.is_some());
    town.settle_with(&tables).await;
    town.world.becomes(mr, "stopped").await;
    leaves(&other, &namespace).await;
    leaves(cluster, &namespace).await;
}

#[tokio::test]
async fn a_cluster_by_another_name_is_the_same_cluster() {
    let Some(cluster) = Cluster::start().await else { return };
    let town = Town::start_with(cluster, "renamed", &often("acme/renamed"), "").await;
    let mr = town.ready("feature", &App::works(1)).await;
    let uid = async || {
        let namespace = cluster.get("namespaces", "", &town.namespace(mr)).await;
        namespace.expect("the namespace")["metadata"]["uid"].clone()
    };
    let before = uid().await;
    let twin = cluster_table("twin", &cluster.administrator("renamed").await) + &project_on("twin");
    town.settle_with(&twin).await;
    until("it is known by that name", PATIENCE, || async {
        let preview = town.world.preview(mr).await.expect("the preview");
        if preview["cluster"] == "twin" { Ok(()) } else { Err(preview) }
    })
    .await;
    town.world.rests().await;
    assert_eq!(uid().await, before);
    town.serves(mr, &App::works(1)).await;
    town.world.gitlab.close(mr).await;
    town.world.becomes(mr, "stopped").await;
    town.is_gone(mr).await;
}

#[tokio::test]
async fn a_preview_moves_to_another_domain() {
    let Some(cluster) = Cluster::start().await else { return };
    let town = Town::start_with(cluster, "addressed", &often("acme/addressed"), "").await;
    let mr = town.ready("feature", &App::works(1)).await;
    town.settle_with(
        "[[project]]\nmatch = [\"**\"]\nbase_domain = \"apps.example.com\"\ntls_secret = \"wildcard\"\n",
    )
    .await;
    let link = format!("https://{}.apps.example.com", town.namespace(mr));
    until("the program knows its new address", PATIENCE, || async {
        let deployment = town.object(mr, "deployments.apps", "web").await.ok_or("no Deployment")?;
        let env = deployment["spec"]["template"]["spec"]["containers"][0]["env"].to_string();
        if env.contains(&link) { Ok(()) } else { Err("the old one") }
    })
    .await;
    town.world.becomes(mr, "ready").await;
    assert!(town.world.gitlab.comment(mr).await.unwrap().contains(&link));
    let environments = town.world.gitlab.environments().await;
    let name = format!("review/mr-{mr}");
    let environment = environments.iter().find(|one| one["name"] == *name).expect("the environment");
    assert_eq!(environment["external_url"], *link);
    // The old host leads nowhere any more.
    let old = format!("{}.preview.localhost", town.namespace(mr));
    let answer = town.world.greenroom.gateway(&old, "/").await;
    assert_ne!(answer.status(), 200);
}
