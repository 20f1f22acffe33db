//! The API server and greenroom itself, killed in the middle.

use greenroom::engine::{Engine, Error, Progress};
use serde_json::json;

use super::{App, Bench, IMAGE, Room, deployment, fresh, order, profile};
use crate::{
    engines::{commit, run, settled, stopped},
    support::{PATIENCE, cluster::Cluster, until},
};

#[tokio::test]
async fn nothing_is_lost_when_the_api_server_is_killed_in_the_middle() {
    let Some(cluster) = Cluster::own().await else { return };
    let mut room = Room::on(Box::new(cluster), "killed").await;
    let (web, _) = fresh();
    let engine = room.engine();
    run(&*engine, room.order(&web, 'a', App::Works(1))).await;

    // In the middle of an order.
    room.cluster.kill_api();
    let mut events = engine.events();
    engine.apply(room.order(&web, 'b', App::Works(2))).await.unwrap();
    let waiting = until("it says that the cluster is away", PATIENCE, || async {
        let status = engine.status(&web).await.unwrap();
        if status.waits_for.is_empty() { Err(status) } else { Ok(status) }
    })
    .await;
    assert!(waiting.waits_for[0].starts_with("The cluster `test`: it cannot be reached: "), "{waiting:#?}");
    assert!(matches!(waiting.pending, Some((_, _, Progress::Working))), "{waiting:#?}");
    assert_eq!(waiting.serving.unwrap().sha, commit('a'));
    let away = engine.inventory().await;
    assert!(matches!(away, Err(Error::Cluster { .. })), "{away:?}");
    let away = engine.stop(&fresh().0).await;
    assert!(matches!(away, Err(Error::Cluster { .. })), "{away:?}");
    room.cluster.restart_api().await;
    assert_eq!(settled(&*engine, &mut events, &web).await.serving.unwrap().sha, commit('b'));

    // A greenroom that starts while the cluster is away knows nothing, and says so.
    room.cluster.kill_api();
    room.reopen().await;
    let blind = room.engine().status(&web).await;
    assert!(matches!(blind, Err(Error::Cluster { .. })), "{blind:?}");
    room.cluster.restart_api().await;
    until("it sees again", PATIENCE, || async {
        let status = room.engine().status(&web).await.map_err(|error| error.to_string())?;
        let sha = status.serving.map(|it| it.sha);
        if sha == Some(commit('b')) { Ok(()) } else { Err(format!("{sha:?}")) }
    })
    .await;

    // In the middle of a stop.
    let engine = room.engine();
    assert!(!engine.stop(&web).await.unwrap().is_empty());
    room.cluster.kill_api();
    let away = engine.stop(&web).await;
    assert!(matches!(away, Err(Error::Cluster { .. })), "{away:?}");
    room.cluster.restart_api().await;
    stopped(&*engine, &web).await;
    assert_eq!(engine.inventory().await.unwrap(), []);
}

#[tokio::test]
async fn an_order_that_was_cut_short_by_a_crash_asks_to_be_given_again() {
    let Some(mut room) = Room::new("cut").await else { return };
    let (web, _) = fresh();
    run(&*room.kubernetes, room.order(&web, 'a', App::Works(1))).await;
    // As a crash leaves it right after the namespace had its note: nothing else of the order was sent.
    let namespace = room.get("namespaces", &web, web.as_str()).await.unwrap();
    let mut noted: serde_json::Value =
        serde_json::from_str(namespace["metadata"]["annotations"]["greenroom.dev/order"].as_str().unwrap())
            .unwrap();
    noted["sha"] = json!("b".repeat(40));
    noted["digest"] = json!("other");
    let annotation = format!("greenroom.dev/order={noted}");
    room.cluster.kubectl(&["annotate", "--overwrite", "namespace", web.as_str(), &annotation], "").await;

    room.reopen().await;
    let status = room.kubernetes.status(&web).await.unwrap();
    assert_eq!(status.serving.unwrap().sha, commit('a'));
    let Some((sha, _, Progress::Trouble(why))) = status.pending else { panic!("{:#?}", status.pending) };
    assert_eq!(sha, commit('b'));
    assert_eq!(why, "only a part of what was ordered has reached the cluster, so it is sent again");
    let status = run(&*room.kubernetes, room.order(&web, 'b', App::Works(2))).await;
    assert_eq!((status.serving.unwrap().sha, status.pending), (commit('b'), None));
}

#[tokio::test]
async fn a_revision_that_was_being_rolled_out_gets_ready_under_the_next_greenroom() {
    let Some(mut room) = Room::new("handed-over").await else { return };
    let (web, _) = fresh();
    room.kubernetes.apply(room.order(&web, 'a', App::Works(1))).await.unwrap();
    until("all was sent", PATIENCE, || async { room.get("services", &web, "web").await }).await;
    room.reopen().await;
    until("it serves", PATIENCE, || async {
        let status = room.kubernetes.status(&web).await.unwrap();
        if status.serving.is_some() && status.pending.is_none() { Ok(()) } else { Err(status) }
    })
    .await;
}

#[tokio::test]
async fn a_cluster_that_does_not_let_us_in_says_so() {
    let Some(cluster) = Cluster::start().await else { return };
    let revoked = cluster.client_of(&cluster.kubeconfig_with("revoked")).await;
    let room = Room::with(cluster, revoked, "revoked");
    let (web, _) = fresh();
    let error = room.kubernetes.status(&web).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the cluster `test` did not show what is there: it does not accept greenroom's credentials (401)"
    );
    let rules = json!([
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get", "list", "watch", "create", "patch", "delete"]},
    ]);
    let kubeconfig = cluster.account("engine-poor", &rules).await;
    let room = Room::with(cluster, cluster.client_of(&kubeconfig).await, "poor");
    let status =
        run(&*room.kubernetes, order(&web, 'a', vec![deployment("web", IMAGE, json!({}))], profile())).await;
    let Some((_, _, Progress::Trouble(why))) = status.pending else { panic!("{status:#?}") };
    assert!(why.contains("greenroom's account lacks a right (403)"), "{why}");
}
