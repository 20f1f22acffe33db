//! What `greenroom install` prints: a cluster takes it and runs it, and the account in it is enough for a whole life.

use serde_json::json;

use super::town::{App, Town};
use crate::support::{
    PATIENCE,
    cluster::{Cluster, LOG_LINES, kubelet::Says},
    until,
};

/// What a provisioner would make for these claims.
fn volumes(claims: &[&str]) -> String {
    let volume = |claim: &&str| {
        json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": format!("installed-{claim}")},
            "spec": {
                "capacity": {"storage": "10Gi"}, "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": "/nowhere"},
                "claimRef": {"namespace": "greenroom", "name": claim},
            },
        })
        .to_string()
    };
    claims.iter().map(volume).collect::<Vec<_>>().join("\n---\n")
}

#[tokio::test]
async fn what_is_printed_runs_and_its_account_may_all_that_is_needed() {
    let Some(cluster) = Cluster::own().await else { return };
    // Printing needs no cluster, and a greenroom knows where its program is.
    let town = Town::start(&cluster, "printer").await;
    let printed = |flags: &[&str]| {
        let (status, printed) = town.world.greenroom.verb(&[&["install", "--print"], flags].concat());
        assert!(status.success(), "{printed}");
        printed
    };
    let (plain, with_postgres) = (printed(&[]), printed(&["--postgres"]));
    drop(town);
    // The namespace is the first: kubectl applies in order.
    cluster.apply(&with_postgres).await;
    cluster.apply(&volumes(&["greenroom", "data-greenroom-postgres-0"])).await;
    for (kind, name) in [("deployments.apps", "greenroom"), ("statefulsets.apps", "greenroom-postgres")] {
        until(&format!("{name} runs"), PATIENCE, || async {
            let workload = cluster.get(kind, "greenroom", name).await.expect("it is there");
            if workload["status"]["readyReplicas"] == 1 { Ok(()) } else { Err(workload["status"].clone()) }
        })
        .await;
    }
    cluster
        .kubectl(
            &["apply", "--server-side", "--dry-run=server", "--force-conflicts", "--filename", "-"],
            &plain,
        )
        .await;

    let kubeconfig = cluster.kubeconfig_of("greenroom", "greenroom").await;
    let settings = [("GREENROOM_RESYNC_INTERVAL", "1s"), ("GREENROOM_PROJECTS", "acme/least")];
    let town = Town::start_as(&cluster, "least", &kubeconfig, &settings, "").await;
    let app = App { config_maps: vec!["texts", "held"], ..App::works(1) };
    let mr = town.ready("feature", &app).await;
    // Why something fails, with its log.
    let broken = App {
        config_maps: vec!["held"],
        ..App::with_image(&Says::CrashLoop.image("registry.test/acme/web"))
    };
    town.update(mr, "feature", &broken).await;
    town.says(mr, &["exit code 1", &format!("line {LOG_LINES}")]).await;
    // An update, with something less.
    let mended = App { config_maps: vec!["held"], ..App::works(2) };
    town.update(mr, "feature", &mended).await;
    town.world.becomes(mr, "ready").await;
    town.serves(mr, &mended).await;
    until("what is old is gone", PATIENCE, || async {
        town.object(mr, "configmaps", "texts").await.map_or(Ok(()), Err)
    })
    .await;
    // A stop that somebody holds up.
    let finalizers = |list: serde_json::Value| json!({ "metadata": { "finalizers": list } }).to_string();
    let namespace = town.namespace(mr);
    let patch = ["patch", "configmap", "held", "--namespace", &namespace, "--type=merge", "--patch"];
    cluster.kubectl(&[&patch[..], &[&finalizers(json!(["example.com/hold"]))]].concat(), "").await;
    town.world.gitlab.close(mr).await;
    town.says(mr, &["held", "example.com/hold"]).await;
    cluster.kubectl(&[&patch[..], &[&finalizers(json!(null))]].concat(), "").await;
    town.world.becomes(mr, "stopped").await;
    town.is_gone(mr).await;
    // A sweep of what the store has forgotten.
    let left = town.ready("left", &App::works(1)).await;
    town.world.greenroom.kill9();
    town.world.greenroom.lose_store();
    town.world.gitlab.close(left).await;
    town.world.greenroom.restart().await;
    until("what nobody remembers is gone", PATIENCE * 2, || async {
        cluster.get("namespaces", "", &town.namespace(left)).await.map_or(Ok(()), Err)
    })
    .await;

    let user = "system:serviceaccount:greenroom:greenroom";
    let refused: Vec<_> = cluster
        .requests()
        .into_iter()
        .filter(|request| request.user == user && matches!(request.status, 401 | 403))
        .collect();
    assert!(refused.is_empty(), "{refused:#?}");
    // It may not look around: everybody's secrets are none of its business.
    let as_it = format!("--kubeconfig={}", kubeconfig.display());
    let may = cluster.kubectl(&[&as_it, "auth", "can-i", "--list", "--namespace=kube-system"], "").await;
    assert!(!may.contains("*.*"), "{may}");
}
