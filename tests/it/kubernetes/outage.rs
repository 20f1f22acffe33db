//! The cluster fails: greenroom says so, forgets nothing, removes nothing, and goes on where it was.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::json;

use super::town::{App, Town};
use crate::support::{PATIENCE, cluster::Cluster, until};

#[tokio::test]
async fn the_api_server_dies_while_a_preview_is_applied() {
    let Some(cluster) = Cluster::own().await else { return };
    let town = Town::start(&cluster, "applied").await;
    let app = App { config_maps: vec!["texts"], ..App::works(1) };
    for (iid, resource) in (1..).zip(["networkpolicies", "configmaps", "services", "deployments"]) {
        let (kill, dead) = (cluster.kill_switch(), Arc::new(AtomicBool::new(false)));
        let killed = dead.clone();
        let _admission = cluster
            .asks_before_creating(resource, &town.namespace(iid), move |_| {
                if !dead.swap(true, Ordering::Relaxed) {
                    kill();
                }
                Ok(())
            })
            .await;
        let mr = town.open(resource, &app).await;
        assert_eq!(mr, iid);
        town.pass(mr).await;
        until(&format!("it dies when {resource} are made"), PATIENCE, || async {
            killed.load(Ordering::Relaxed).then_some(())
        })
        .await;
        cluster.restart_api().await;
        town.world.becomes(mr, "ready").await;
        town.serves(mr, &app).await;
    }
    town.world.ends_well().await;
}

#[tokio::test]
async fn the_api_server_dies_while_a_preview_is_stopped() {
    let Some(cluster) = Cluster::own().await else { return };
    let town = Town::start(&cluster, "ended").await;
    let mr = town.ready("feature", &App::works(1)).await;
    town.world.rests().await;
    let before = town.cluster.requests_of("ended").len();
    town.world.gitlab.close(mr).await;
    until("greenroom deletes the namespace", PATIENCE, || async {
        let requests = cluster.requests_of("ended").split_off(before);
        requests.iter().any(|request| request.verb == "delete").then_some(()).ok_or(requests)
    })
    .await;
    cluster.kill_api();
    cluster.restart_api().await;
    town.world.becomes(mr, "stopped").await;
    town.is_gone(mr).await;
    town.world.ends_well().await;
}

#[tokio::test]
async fn the_api_server_freezes_while_a_preview_is_applied_and_while_it_is_stopped() {
    let Some(cluster) = Cluster::own().await else { return };
    let town = Town::start(&cluster, "stalled").await;
    let app = App::works(1);
    let (other, goes) = (town.ready("other", &app).await, town.ready("goes", &app).await);
    let (freeze, asked) = (cluster.freeze_switch(), Arc::new(AtomicBool::new(false)));
    let frozen = asked.clone();
    let _admission = cluster
        .asks_before_creating("deployments", &town.namespace(3), move |_| {
            if !asked.swap(true, Ordering::Relaxed) {
                freeze();
            }
            Ok(())
        })
        .await;
    let mr = town.open("feature", &app).await;
    town.pass(mr).await;
    until("it freezes when the Deployment is made", PATIENCE, || async {
        frozen.load(Ordering::Relaxed).then_some(())
    })
    .await;
    town.world.gitlab.close(goes).await;
    for mr in [mr, goes] {
        town.says(mr, &["cluster `default`", "did not answer within"]).await;
    }
    assert_ne!(town.world.preview(goes).await.unwrap()["state"], "stopped");
    // What serves is none the worse for it.
    assert_eq!(town.world.preview(other).await.unwrap()["state"], "ready");
    cluster.thaw_api();
    town.world.becomes(mr, "ready").await;
    town.serves(mr, &app).await;

    cluster.freeze_api();
    town.world.gitlab.close(mr).await;
    until("its removal begins", PATIENCE, || async {
        let preview = town.world.preview(mr).await;
        preview.is_some_and(|preview| preview["state"] == "stopping").then_some(())
    })
    .await;
    town.world.greenroom.restart().await;
    assert_eq!(town.world.preview(mr).await.unwrap()["state"], "stopping");
    cluster.thaw_api();
    for mr in [mr, goes] {
        town.world.becomes(mr, "stopped").await;
        town.is_gone(mr).await;
    }
    town.serves(other, &app).await;
    town.world.becomes(other, "ready").await;
    town.world.ends_well().await;
}

#[tokio::test]
async fn a_cluster_that_is_away_is_told_and_nothing_is_forgotten() {
    let Some(cluster) = Cluster::own().await else { return };
    let town = Town::start(&cluster, "away").await;
    let (stays, goes) = (town.ready("stays", &App::works(1)).await, town.ready("goes", &App::works(1)).await);
    cluster.kill_api();
    town.world.gitlab.close(goes).await;
    town.says(goes, &["cluster `default`", "it cannot be reached"]).await;
    assert_ne!(town.world.preview(goes).await.unwrap()["state"], "stopped");
    // A start while it is away is a start.
    town.world.greenroom.restart().await;
    assert!(town.world.preview(stays).await.is_some());
    warns(&town, "cluster `default`: it cannot be asked").await;
    until("the removal has failed, as if for hours", PATIENCE, || async {
        (town.world.greenroom.postpone(Duration::from_hours(1)).await > 0).then_some(())
    })
    .await;

    cluster.restart_api().await;
    town.world.becomes(goes, "stopped").await;
    town.is_gone(goes).await;
    town.serves(stays, &App::works(1)).await;
    town.world.becomes(stays, "ready").await;
    town.world.ends_well().await;
}

#[tokio::test]
async fn a_cluster_that_does_not_answer_holds_up_nobody_else() {
    let Some(cluster) = Cluster::own().await else { return };
    let town = Town::start(&cluster, "frozen").await;
    let mr = town.open("feature", &App::works(1)).await;
    cluster.freeze_api();
    town.pass(mr).await;
    // The static engine needs no cluster.
    let other = town.world.ready_mr("static", "static").await;
    town.world.shows(other, "static").await;
    cluster.thaw_api();
    town.world.becomes(mr, "ready").await;
}

#[tokio::test]
async fn a_revoked_token_is_told_and_removes_nothing() {
    let Some(cluster) = Cluster::start().await else { return };
    let kubeconfig = cluster.kubeconfig_with("revoked");
    let town = Town::start_as(cluster, "revoked", &kubeconfig, &[], "").await;
    let mr = town.open("feature", &App::works(1)).await;
    town.pass(mr).await;
    town.says(mr, &["it does not accept greenroom's credentials (401)"]).await;
    warns(&town, "cluster `default`: it does not accept greenroom's credentials (401)").await;
    assert!(cluster.get("namespaces", "", &town.namespace(mr)).await.is_none());
}

#[tokio::test]
async fn an_account_that_may_too_little_is_told_what_it_lacks() {
    let Some(cluster) = Cluster::start().await else { return };
    let rules = json!([{ "apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch"] }]);
    let kubeconfig = cluster.account("reader", &rules).await;
    let town = Town::start_as(cluster, "reader", &kubeconfig, &[], "").await;
    let mr = town.open("feature", &App::works(1)).await;
    town.pass(mr).await;
    town.says(mr, &["greenroom's account lacks a right (403)", "namespaces", "accounts:reader"]).await;
    warns(&town, "cluster `default`: it does not let greenroom create namespaces").await;

    // The doctor asks for itself, with whatever settings it is given.
    let server = town.world.greenroom.url().to_string();
    let doctor = async |kubeconfig: &Path| {
        let settings = [("GREENROOM_KUBECONFIG", kubeconfig.to_str().unwrap())];
        town.world.greenroom.ask(&["doctor", "--server", &server], &settings).await.1
    };
    let told = doctor(&kubeconfig).await;
    let wrong = "wrong  engine    cluster `default`: it does not let greenroom create namespaces\n  hint: see that it runs";
    assert!(told.contains(wrong), "{told}");
    let told = doctor(&cluster.kubeconfig()).await;
    assert!(told.contains("ok     engine    cluster `default` answers"), "{told}");
    let told = doctor(Path::new("/nowhere/kubeconfig")).await;
    assert!(
        told.contains("wrong  engine    cluster `default`: there is no way to it (GREENROOM_KUBECONFIG)"),
        "{told}"
    );
    // By the usual rules there need not be a cluster; a file that says nonsense is a mistake.
    let broken = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(broken.path(), "clusters: [").unwrap();
    let settings = [("GREENROOM_KUBECONFIG", ""), ("KUBECONFIG", broken.path().to_str().unwrap())];
    let told = town.world.greenroom.ask(&["doctor", "--server", &server], &settings).await.1;
    assert!(told.contains("failed to parse kubeconfig YAML"), "{told}");
}

/// Whoever looks for what was changed finds the watches broken, and sees nothing of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_changed_by_hand_while_the_cluster_goes_away_is_repaired_when_it_is_back() {
    let Some(cluster) = Cluster::start().await else { return };
    let (wire, kubeconfig) = cluster.wire().await;
    let town = Town::start_as(cluster, "missed", &kubeconfig, &[], "").await;
    let mr = town.ready("feature", &App::works(1)).await;
    town.world.rests().await;
    let wire = Arc::new(wire);
    let (away, log) = (wire.clone(), town.world.greenroom.log_reader());
    town.world.wire.on("GET", &format!("*/merge_requests/{mr}")).before(move || {
        away.cut();
        away.hang_up();
        let began = Instant::now();
        let broken = "a watch does not get on cluster=default resource=Service ";
        // The wires go on meanwhile.
        tokio::task::block_in_place(|| {
            while !log().contains(broken) && began.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(25));
            }
        });
    });
    cluster.kubectl(&["delete", "service", "web", "--namespace", &town.namespace(mr)], "").await;
    until("somebody looks", PATIENCE, || async {
        let looks = town.world.greenroom.log().matches("merge request !1 is open").count();
        let broken = town.world.greenroom.log().contains("resource=Service ");
        (broken && looks > 0).then_some(())
    })
    .await;
    town.world.rests().await;
    wire.heal();
    until("the Service is back", PATIENCE, || town.object(mr, "services", "web")).await;
    town.world.becomes(mr, "ready").await;
    town.world.ends_well().await;
}

/// Waits until the operator is warned in these words.
async fn warns(town: &Town<'_>, words: &str) {
    until(&format!("the operator is warned: {words}"), PATIENCE, || async {
        let health = town.world.greenroom.get("/api/v1/health").await.text().await.unwrap();
        if health.contains(words) { Ok(()) } else { Err(health) }
    })
    .await;
}
