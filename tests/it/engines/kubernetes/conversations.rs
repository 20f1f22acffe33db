//! Updates, sleep, drift, plans: what an operator would see with kubectl.

use greenroom::engine::{Engine, Progress};
use serde_json::{Value, json};

use super::{App, Bench, IMAGE, Room, deployment, fresh, order, pod, profile, service};
use crate::{
    engines::{commit, run, settled},
    support::{PATIENCE, cluster::kubelet::Says, until},
};

fn config_map(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"key": value}})
}

#[tokio::test]
async fn what_an_update_no_longer_has_goes_when_it_is_ready_and_not_before() {
    let Some(room) = Room::new("prune").await else { return };
    let (web, _) = fresh();
    let first = vec![deployment("old", IMAGE, json!({})), service("old"), config_map("kept", "1")];
    run(&*room.kubernetes, order(&web, 'a', first, profile())).await;

    let never = Says::Creating.image("registry.test/acme/web");
    let second = vec![deployment("new", &never, json!({})), config_map("kept", "2")];
    room.kubernetes.apply(order(&web, 'b', second, profile())).await.unwrap();
    let status = until("the new one is waited for", PATIENCE, || async {
        let status = room.kubernetes.status(&web).await.unwrap();
        if status.waits_for == ["Deployment `new`: 0 of 1 replicas are ready"] {
            Ok(status)
        } else {
            Err(status)
        }
    })
    .await;
    assert_eq!(status.serving.unwrap().sha, commit('a'));
    assert!(room.get("deployments.apps", &web, "old").await.is_some());

    let third = vec![deployment("new", IMAGE, json!({})), config_map("kept", "3")];
    let mut events = room.kubernetes.events();
    room.kubernetes.apply(order(&web, 'c', third, profile())).await.unwrap();
    let status = settled(&*room.kubernetes, &mut events, &web).await;
    assert_eq!((status.serving.unwrap().sha, status.waits_for), (commit('c'), vec![]));
    until("what was before is gone", PATIENCE, || async {
        let left = [room.get("deployments.apps", &web, "old").await, room.get("services", &web, "old").await];
        if left == [None, None] { Ok(()) } else { Err(left) }
    })
    .await;
    assert_eq!(room.get("configmaps", &web, "kept").await.unwrap()["data"]["key"], "3");
}

#[tokio::test]
async fn what_cannot_be_changed_in_place_is_made_anew_where_that_is_safe() {
    let Some(room) = Room::new("anew").await else { return };
    let (web, _) = fresh();
    let job = |image: &str| {
        let mut template = pod(image);
        template["spec"]["restartPolicy"] = json!("Never");
        template["spec"]["containers"][0].as_object_mut().unwrap().remove("readinessProbe");
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "seed"}, "spec": {"template": template}})
    };
    let selected = |label: &str| {
        let mut web = deployment("web", IMAGE, json!({}));
        web["spec"]["selector"]["matchLabels"]["tier"] = json!(label);
        web["spec"]["template"]["metadata"]["labels"]["tier"] = json!(label);
        web
    };
    run(&*room.kubernetes, order(&web, 'a', vec![job("registry.test/seed:1"), selected("a")], profile()))
        .await;
    let next = order(&web, 'b', vec![job("registry.test/seed:2"), selected("b")], profile());
    let changes = room.kubernetes.plan(&next).await.unwrap();
    let actions: Vec<String> = changes.iter().map(|it| format!("{} {:?}", it.object, it.action)).collect();
    assert_eq!(actions, ["Job seed Replace", "Deployment web Replace"]);
    let status = run(&*room.kubernetes, next).await;
    assert_eq!(status.serving.map(|it| it.sha), Some(commit('b')), "{:?}", status.pending);
    let seed = room.get("jobs.batch", &web, "seed").await.unwrap();
    assert_eq!(seed["spec"]["template"]["spec"]["containers"][0]["image"], "registry.test/seed:2");
    let labels = &room.get("deployments.apps", &web, "web").await.unwrap()["spec"]["selector"]["matchLabels"];
    assert_eq!(labels["tier"], "b");
}

#[tokio::test]
async fn a_claim_is_never_made_anew() {
    let Some(room) = Room::new("claims").await else { return };
    let (web, _) = fresh();
    let claim = |mode: &str| {
        json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
            "spec": {"accessModes": [mode], "resources": {"requests": {"storage": "1Gi"}}},
        })
    };
    room.kubernetes.apply(order(&web, 'a', vec![claim("ReadWriteOnce")], profile())).await.unwrap();
    let line = "PersistentVolumeClaim `data`: no volume is bound to it; it names no storage class, so the cluster needs a \
                default one";
    until("the claim waits", PATIENCE, || async {
        let status = room.kubernetes.status(&web).await.unwrap();
        if status.waits_for == [line] { Ok(()) } else { Err(status) }
    })
    .await;
    let status = run(&*room.kubernetes, order(&web, 'b', vec![claim("ReadWriteMany")], profile())).await;
    let Some((_, _, Progress::Failed(why))) = status.pending else { panic!("{status:#?}") };
    let told = "PersistentVolumeClaim `data` cannot be changed in place, and making it anew could lose data; give it \
                another name, or stop the preview first";
    assert!(why.starts_with(told), "{why}");
}

#[tokio::test]
async fn a_preview_sleeps_and_wakes_as_it_was() {
    let Some(room) = Room::new("sleep").await else { return };
    let (web, _) = fresh();
    let mut three = deployment("three", IMAGE, json!({}));
    three["spec"]["replicas"] = json!(3);
    let mut scaled = deployment("scaled", IMAGE, json!({}));
    scaled["spec"].as_object_mut().unwrap().remove("replicas");
    let mut template = pod(IMAGE);
    template["spec"]["restartPolicy"] = json!("Never");
    let cron = json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "tidy"},
        "spec": {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": template}}},
    });
    let autoscaler = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "scaled"},
        "spec": {
            "minReplicas": 2, "maxReplicas": 4,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "scaled"},
        },
    });
    let status =
        run(&*room.kubernetes, order(&web, 'a', vec![three, scaled, cron, autoscaler], profile())).await;
    assert!(status.serving.is_some(), "{status:#?}");
    let counts = async || {
        let count = async |kind: &str, name: &str, field: &str| {
            room.get(kind, &web, name).await.unwrap()["spec"][field].clone()
        };
        json!([
            count("deployments.apps", "three", "replicas").await,
            count("deployments.apps", "scaled", "replicas").await,
            count("cronjobs.batch", "tidy", "suspend").await,
        ])
    };
    // The autoscaler brings its Deployment to two.
    until("the autoscaler has scaled", PATIENCE, || async {
        let counts = counts().await;
        if counts == json!([3, 2, false]) { Ok(()) } else { Err(counts) }
    })
    .await;
    for _ in 0..2 {
        room.kubernetes.sleep(&web).await.unwrap();
    }
    assert_eq!(counts().await, json!([0, 0, true]));
    let asleep = room.kubernetes.status(&web).await.unwrap();
    assert!(asleep.asleep && asleep.serving.is_some() && asleep.drifted.is_empty(), "{asleep:#?}");
    until("no pod is left", PATIENCE, || async {
        let pods = room.cluster.list("pods", web.as_str()).await;
        if pods.is_empty() { Ok(()) } else { Err(pods.len()) }
    })
    .await;

    for _ in 0..2 {
        room.kubernetes.wake(&web).await.unwrap();
    }
    assert_eq!(counts().await, json!([3, 2, false]));
    until("it is as it was", PATIENCE, || async {
        let status = room.kubernetes.status(&web).await.unwrap();
        let quiet = status.waits_for.is_empty() && status.drifted.is_empty();
        if quiet && !status.asleep && status.serving == asleep.serving { Ok(()) } else { Err(status) }
    })
    .await;
}

#[tokio::test]
async fn an_order_wakes_what_sleeps() {
    let Some(room) = Room::new("order-wakes").await else { return };
    let (web, _) = fresh();
    let silent = |version: &str| {
        let mut web = deployment("web", IMAGE, json!({"VERSION": version}));
        web["spec"].as_object_mut().unwrap().remove("replicas");
        web
    };
    run(&*room.kubernetes, order(&web, 'a', vec![silent("1")], profile())).await;
    room.kubernetes.sleep(&web).await.unwrap();
    let status = run(&*room.kubernetes, order(&web, 'b', vec![silent("2")], profile())).await;
    assert_eq!((status.serving.unwrap().sha, status.asleep), (commit('b'), false));
    let web = room.get("deployments.apps", &web, "web").await.unwrap();
    assert_eq!(web["spec"]["replicas"], 1);
}

#[tokio::test]
async fn what_others_change_shows_and_the_same_order_repairs_it() {
    let Some(room) = Room::new("drift").await else { return };
    let (web, _) = fresh();
    let before = run(&*room.kubernetes, room.order(&web, 'a', App::Works(1))).await;
    let namespace = ["--namespace", web.as_str()];
    let kubectl = async |args: &[&str]| room.cluster.kubectl(&[args, &namespace].concat(), "").await;
    kubectl(&["delete", "service", "web"]).await;
    kubectl(&["set", "env", "deployment/web", "VERSION=hacked"]).await;
    kubectl(&["delete", "networkpolicy", "greenroom"]).await;
    let seen = until("three things differ", PATIENCE, || async {
        let status = room.kubernetes.status(&web).await.unwrap();
        if status.drifted.len() == 3 { Ok(status.drifted) } else { Err(status) }
    })
    .await;
    insta::assert_snapshot!(seen.join("\n"), @r"
    NetworkPolicy `greenroom` is missing
    Deployment `web` was changed by somebody else
    Service `web` is missing
    ");
    let changes = room.kubernetes.plan(&room.order(&web, 'a', App::Works(1))).await.unwrap();
    assert_eq!(changes.len(), 3, "{changes:#?}");
    run(&*room.kubernetes, room.order(&web, 'a', App::Works(1))).await;
    until("all is as it was", PATIENCE, || async {
        let status = room.kubernetes.status(&web).await.unwrap();
        if status == before { Ok(()) } else { Err(status) }
    })
    .await;
    assert_eq!(room.kubernetes.plan(&room.order(&web, 'a', App::Works(1))).await.unwrap(), []);

    kubectl(&["scale", "deployment/web", "--replicas=2"]).await;
    until("the scaling shows", PATIENCE, || async {
        let drifted = room.kubernetes.status(&web).await.unwrap().drifted;
        if drifted == ["Deployment `web` was scaled from 1 to 2 by somebody else"] {
            Ok(())
        } else {
            Err(drifted)
        }
    })
    .await;
}

#[tokio::test]
async fn a_plan_shows_what_changes_and_no_secret() {
    let Some(room) = Room::new("plan").await else { return };
    let (web, key) = fresh();
    let secret = |value: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db"}, "stringData": {"password": value}});
    let first = vec![
        deployment("web", IMAGE, json!({"LOG": "info"})),
        service("web"),
        secret("hush-hush"),
        config_map("old", "1"),
    ];
    run(&*room.kubernetes, order(&web, 'a', first, profile())).await;
    let second = vec![
        deployment("web", IMAGE, json!({"LOG": "debug"})),
        service("web"),
        secret("quiet-quiet"),
        config_map("new", "1"),
    ];
    let mut stricter = profile();
    stricter.quota.insert("pods".into(), "5".into());
    let changes = room.kubernetes.plan(&order(&web, 'b', second, stricter)).await.unwrap();
    let shown: Vec<String> =
        changes.iter().map(|it| format!("{:?} {}\n{}", it.action, it.object, it.diff)).collect();
    let shown = shown.join("\n");
    assert!(!shown.contains("hush-hush") && !shown.contains("quiet-quiet"));
    let shown = shown.replace(web.as_str(), "NAME").replace(&format!("\"{}\"", key.subject), "IID");
    insta::assert_snapshot!(shown);
    assert_eq!(room.get("configmaps", &web, "new").await, None, "a plan touches nothing");
}
