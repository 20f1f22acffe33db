//! From one revision to the next, where Kubernetes alone would get stuck or leave something behind.

use greenroom::engine::{Engine, Progress};
use serde_json::{Value, json};

use super::{IMAGE, Room, deployment, fresh, order, pod, profile, service};
use crate::{
    engines::{commit, run},
    support::{PATIENCE, cluster::kubelet::Says, until},
};

/// Its controller waits for a broken pod to become ready before it replaces it, which it never will.
#[tokio::test]
async fn a_stateful_set_that_was_broken_is_mended_by_the_next_revision() {
    let Some(room) = Room::new("mended").await else { return };
    let (web, _) = fresh();
    let database = |image: &str| {
        let mut template = pod(image);
        template["metadata"] = json!({"labels": {"app": "db"}});
        json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"},
            "spec": {"serviceName": "db", "selector": {"matchLabels": {"app": "db"}}, "template": template},
        })
    };
    let broken = database(&Says::CrashLoop.image("registry.test/acme"));
    let status = run(&*room.kubernetes, order(&web, 'a', vec![broken], profile())).await;
    assert!(status.serving.is_none(), "{status:#?}");
    let status = run(&*room.kubernetes, order(&web, 'b', vec![database(IMAGE)], profile())).await;
    assert_eq!(status.serving.map(|it| it.sha), Some(commit('b')), "{:?}", status.pending);
}

#[tokio::test]
async fn a_job_that_would_remove_itself_counts_as_done() {
    let Some(room) = Room::new("ended").await else { return };
    let (web, _) = fresh();
    let mut template = pod("registry.test/seed:1");
    template["spec"]["restartPolicy"] = json!("Never");
    template["spec"]["containers"][0].as_object_mut().unwrap().remove("readinessProbe");
    let seed = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "seed"},
        "spec": {"ttlSecondsAfterFinished": 0, "template": template},
    });
    // Ready long after the Job has ended.
    let slow = deployment("web", &Says::Creating.image("registry.test/acme/web"), json!({}));
    room.kubernetes.apply(order(&web, 'a', vec![seed.clone(), slow], profile())).await.unwrap();
    until("only the Deployment is waited for", PATIENCE, || async {
        let status = room.kubernetes.status(&web).await.unwrap();
        if status.waits_for == ["Deployment `web`: 0 of 1 replicas are ready"] { Ok(()) } else { Err(status) }
    })
    .await;
    let done = room.get("jobs.batch", &web, "seed").await.unwrap()["metadata"]["uid"].clone();
    let status =
        run(&*room.kubernetes, order(&web, 'b', vec![seed, deployment("web", IMAGE, json!({}))], profile()))
            .await;
    assert_eq!(status.serving.map(|it| it.sha), Some(commit('b')), "{:?}", status.pending);
    // And does not run again for what it has done.
    assert_eq!(room.get("jobs.batch", &web, "seed").await.unwrap()["metadata"]["uid"], done);
}

#[tokio::test]
async fn what_a_secret_no_longer_has_goes_and_labels_of_ours_in_selectors_still_select() {
    let Some(room) = Room::new("selects").await else { return };
    let (web, _) = fresh();
    let secret = |texts: Value| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db"}, "stringData": texts});
    // As Kustomize's `commonLabels` write it.
    let labels = json!({"app": "web", "app.kubernetes.io/managed-by": "kustomize"});
    let mut program = deployment("web", IMAGE, json!({}));
    program["spec"]["selector"]["matchLabels"] = labels.clone();
    program["spec"]["template"]["metadata"]["labels"] = labels.clone();
    let mut way = service("web");
    way["spec"]["selector"] = labels;
    let first = vec![program.clone(), way.clone(), secret(json!({"user": "a", "password": "b"}))];
    let status = run(&*room.kubernetes, order(&web, 'a', first, profile())).await;
    assert_eq!(status.serving.map(|it| it.sha), Some(commit('a')), "{:?}", status.pending);
    let second = vec![program, way, secret(json!({"password": "c"}))];
    run(&*room.kubernetes, order(&web, 'b', second, profile())).await;
    assert_eq!(room.get("secrets", &web, "db").await.unwrap()["data"], json!({"password": "Yw=="}));
    let selected = &room.get("services", &web, "web").await.unwrap()["spec"]["selector"];
    let pods = room.cluster.list("pods", web.as_str()).await;
    let made = &pods[0]["metadata"]["labels"];
    assert_eq!(made["app.kubernetes.io/managed-by"], selected["app.kubernetes.io/managed-by"]);
}

#[tokio::test]
async fn a_stateful_set_whose_volumes_would_go_with_it_is_not_made_anew() {
    let Some(room) = Room::new("volumes").await else { return };
    let (web, _) = fresh();
    let database = |service: &str| {
        let mut template = pod(IMAGE);
        template["metadata"] = json!({"labels": {"app": "db"}});
        json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"},
            "spec": {
                "serviceName": service, "selector": {"matchLabels": {"app": "db"}}, "template": template,
                "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Retain"},
            },
        })
    };
    run(&*room.kubernetes, order(&web, 'a', vec![database("one")], profile())).await;
    let next = order(&web, 'b', vec![database("two")], profile());
    let planned = room.kubernetes.plan(&next).await.unwrap();
    let status = run(&*room.kubernetes, next).await;
    let Some((_, _, Progress::Failed(why))) = status.pending else { panic!("{status:#?}") };
    assert!(
        why.starts_with("StatefulSet `db` cannot be changed in place, and making it anew could lose data"),
        "{why}"
    );
    assert!(planned[0].refused.is_some(), "{planned:#?}");
    assert_eq!(status.serving.map(|it| it.sha), Some(commit('a')));
}

#[tokio::test]
async fn a_job_that_has_failed_runs_again_with_the_next_order() {
    let Some(room) = Room::new("again").await else { return };
    let (web, _) = fresh();
    let mut template = pod(&Says::Fails.image("registry.test/acme"));
    template["spec"]["restartPolicy"] = json!("Never");
    let seed = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "seed"},
        "spec": {"backoffLimit": 0, "template": template},
    });
    let mut runs = Vec::new();
    for _ in 0..2 {
        let status = run(&*room.kubernetes, order(&web, 'a', vec![seed.clone()], profile())).await;
        assert!(matches!(status.pending, Some((_, _, Progress::Failed(_)))), "{status:#?}");
        runs.push(room.get("jobs.batch", &web, "seed").await.unwrap()["metadata"]["uid"].clone());
    }
    assert_ne!(runs[0], runs[1]);
}

/// What nobody wrote has been filled in, and what the next revision writes does not go with it.
#[tokio::test]
async fn a_deployment_changes_to_a_strategy_that_bears_no_defaults() {
    let Some(room) = Room::new("strategy").await else { return };
    let (web, _) = fresh();
    let first = deployment("web", IMAGE, json!({}));
    let mut second = deployment("web", IMAGE, json!({"VERSION": "2"}));
    second["spec"]["strategy"] = json!({"type": "Recreate"});
    run(&*room.kubernetes, order(&web, 'a', vec![first], profile())).await;
    let status = run(&*room.kubernetes, order(&web, 'b', vec![second], profile())).await;
    assert_eq!(status.serving.map(|it| it.sha), Some(commit('b')), "{:?}", status.pending);
}

/// As `kubectl get --output yaml` prints it.
#[tokio::test]
async fn an_object_that_was_copied_out_of_a_cluster_is_applied() {
    let Some(room) = Room::new("copied").await else { return };
    let (web, _) = fresh();
    let mut copied = deployment("web", IMAGE, json!({}));
    copied["metadata"] = json!({
        "name": "web", "namespace": "elsewhere", "uid": "5e0b1f3e-0000-4000-8000-000000000000", "resourceVersion": "42",
        "generation": 7, "creationTimestamp": "2026-01-01T00:00:00Z",
        "managedFields": [{"manager": "kubectl", "operation": "Update", "apiVersion": "apps/v1"}],
    });
    copied["status"] = json!({"replicas": 3, "readyReplicas": 3});
    let mut made = service("web");
    made["metadata"]["creationTimestamp"] = Value::Null;
    made["status"] = json!({"loadBalancer": {}});
    for sha in ['a', 'b'] {
        let status =
            run(&*room.kubernetes, order(&web, sha, vec![copied.clone(), made.clone()], profile())).await;
        assert_eq!(status.serving.map(|it| it.sha), Some(commit(sha)), "{:?}", status.pending);
        assert_eq!(
            room.kubernetes
                .plan(&order(&web, sha, vec![copied.clone(), made.clone()], profile()))
                .await
                .unwrap(),
            []
        );
    }
}
