//! What people are told when a preview does not come up. Kubelets are played by kwok; the words of scheduler, controllers and
//! admission are real.

use std::time::Duration;

use greenroom::engine::{Engine, Progress, Status};
use serde_json::{Value, json};

use super::{IMAGE, Room, deployment, fresh, order, pod, profile, service};
use crate::{
    engines::run,
    support::{PATIENCE, cluster::kubelet::Says, until},
};

/// Text with the random part of pods' names taken out.
fn steady(text: &str) -> String {
    let mut steady = String::new();
    for part in text.split_inclusive('`') {
        let name = part.trim_end_matches('`');
        let pod = ["web-", "seed-"].iter().find(|prefix| name.starts_with(**prefix));
        let made = pod.filter(|_| name.len() < 24 && !name.contains([' ', '/', '.']));
        match made {
            Some(prefix) => steady.extend([prefix, "…`"]),
            None => steady.push_str(part),
        }
    }
    steady
}

fn why(status: &Status) -> String {
    match &status.pending {
        Some((_, _, Progress::Failed(why))) => steady(why),
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn each_way_to_fail_has_its_words() {
    let Some(room) = Room::new("words").await else { return };
    let mut told = Vec::new();
    for says in
        [Says::ImageMissing, Says::NoCredentials, Says::WrongArchitecture, Says::CrashLoop, Says::OomKilled]
    {
        let (web, _) = fresh();
        let objects = vec![deployment("web", &says.image("registry.test/acme"), json!({}))];
        let status = run(&*room.kubernetes, order(&web, 'a', objects, profile())).await;
        told.push(format!("{says:?}: {}", why(&status)));
    }
    insta::assert_snapshot!(told.join("\n"));
}

/// A pod template that Pod Security's level `restricted` does not let in.
fn as_root() -> Value {
    let mut template = pod(IMAGE);
    template["spec"]["containers"][0]["securityContext"] = json!({"runAsUser": 0});
    template
}

fn database(mut template: Value) -> Value {
    template["metadata"] = json!({"labels": {"app": "db"}});
    json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"},
        "spec": {"serviceName": "db", "selector": {"matchLabels": {"app": "db"}}, "template": template},
    })
}

fn seed(mut template: Value) -> Value {
    template["spec"]["restartPolicy"] = json!("Never");
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "seed"}, "spec": {"template": template}})
}

fn nightly(template: Value) -> Value {
    let job = json!({"spec": seed(template)["spec"]});
    json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "nightly"},
        "spec": {"schedule": "0 3 * * *", "jobTemplate": job},
    })
}

#[tokio::test]
async fn what_never_gets_ready_is_given_up_in_time_and_says_what_it_waited_for() {
    let Some(room) = Room::new("late").await else { return };
    let mut hurried = profile();
    // Long enough for a busy machine to get to what it never gets past.
    hurried.ready_within = Duration::from_secs(20);
    let mut greedy = deployment("web", IMAGE, json!({}));
    greedy["spec"]["template"]["spec"]["containers"][0]["resources"] =
        json!({"requests": {"cpu": "1000"}, "limits": {"cpu": "1000"}});
    let probing = deployment("web", &Says::ProbeFailing.image("registry.test/acme"), json!({}));
    let unbound = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "fast", "resources": {"requests": {"storage": "1Gi"}}},
    });
    let mut crowded = hurried.clone();
    crowded.quota = [("pods".to_owned(), "0".to_owned())].into();
    let orders = [
        (vec![greedy], hurried.clone()),
        (vec![probing], hurried.clone()),
        (vec![unbound], hurried.clone()),
        (vec![deployment("web", IMAGE, json!({}))], crowded.clone()),
        // Their controllers say it in events alone.
        (vec![database(pod(IMAGE))], crowded.clone()),
        (vec![seed(pod(IMAGE))], crowded),
    ];
    let told = orders.map(async |(objects, profile)| {
        let status = run(&*room.kubernetes, order(&fresh().0, 'a', objects, profile)).await;
        why(&status)
    });
    let told = futures::future::join_all(told).await;
    insta::assert_snapshot!(told.join("\n"));
}

#[tokio::test]
async fn what_the_cluster_refuses_is_named_with_its_reason() {
    let Some(room) = Room::new("refused").await else { return };
    let mut told = Vec::new();
    let mut root = deployment("web", IMAGE, json!({}));
    root["spec"]["template"]["spec"]["containers"][0]["securityContext"] = json!({});
    let mut invalid = service("web");
    invalid["spec"]["ports"][0]["port"] = json!(70_000);
    let unknown = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}});
    let typo = json!({"apiVersion": "apps/v1", "kind": "Deploiment", "metadata": {"name": "w"}});
    let mut template = pod(&Says::Fails.image("registry.test/acme"));
    template["spec"]["restartPolicy"] = json!("Never");
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "seed"},
        "spec": {"backoffLimit": 0, "template": template},
    });
    let mut misspelt = deployment("web", IMAGE, json!({}));
    misspelt["spec"]["template"]["spec"]["containers"][0]["imagePullPolice"] = json!("Always");
    let untyped = deployment("web", IMAGE, json!({"PORT": 8080}));
    let twice = json!([{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]);
    let mut repeated = deployment("web", IMAGE, json!({}));
    repeated["spec"]["template"]["spec"]["containers"][0]["env"] = twice;
    let answer =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "map"}, "data": {"on": true}});
    let other = [database(as_root()), seed(as_root()), nightly(as_root())];
    for object in
        other.into_iter().chain([root, invalid, unknown, typo, job, misspelt, untyped, repeated, answer])
    {
        let (web, _) = fresh();
        let status = run(&*room.kubernetes, order(&web, 'a', vec![object], profile())).await;
        told.push(why(&status));
    }
    let mut none = profile();
    none.quota.insert("services".into(), "0".into());
    let (web, _) = fresh();
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "map"}});
    run(&*room.kubernetes, order(&web, 'a', vec![map], none.clone())).await;
    // A quota holds once the cluster has counted.
    until("the quota is counted", PATIENCE, || async {
        let quota = room.get("resourcequotas", &web, "greenroom").await.expect("the quota");
        if quota["status"]["hard"]["services"] == "0" { Ok(()) } else { Err(quota) }
    })
    .await;
    let status = run(&*room.kubernetes, order(&web, 'b', vec![service("web")], none)).await;
    told.push(why(&status));
    insta::assert_snapshot!(told.join("\n"));
}

#[tokio::test]
async fn pods_that_would_be_refused_take_the_place_of_none() {
    let Some(room) = Room::new("refused-next").await else { return };
    let (web, _) = fresh();
    run(&*room.kubernetes, order(&web, 'a', vec![database(pod(IMAGE))], profile())).await;
    let before = room.get("pods", &web, "db-0").await.expect("a pod");
    let status = run(&*room.kubernetes, order(&web, 'b', vec![database(as_root())], profile())).await;
    assert!(why(&status).starts_with("StatefulSet `db`: Pod Security level `restricted` refuses its pods"));
    assert_eq!(status.serving.map(|it| it.sha), Some(crate::engines::commit('a')));
    let now = room.get("pods", &web, "db-0").await.expect("the pod");
    assert_eq!(now["metadata"]["uid"], before["metadata"]["uid"]);
    let image = room.get("statefulsets", &web, "db").await.expect("the set")["spec"]["template"].to_string();
    assert!(!image.contains("runAsUser\":0"), "{image}");
}

#[tokio::test]
async fn a_broken_revision_is_not_held_against_the_next() {
    let Some(room) = Room::new("next").await else { return };
    let (web, _) = fresh();
    let broken = vec![deployment("web", &Says::CrashLoop.image("registry.test/acme"), json!({}))];
    let status = run(&*room.kubernetes, order(&web, 'a', broken, profile())).await;
    assert!(matches!(status.pending, Some((_, _, Progress::Failed(_)))), "{status:#?}");
    let status =
        run(&*room.kubernetes, order(&web, 'b', vec![deployment("web", IMAGE, json!({}))], profile())).await;
    assert_eq!((status.serving.map(|it| it.sha), status.pending), (Some(crate::engines::commit('b')), None));
}

#[tokio::test]
async fn the_last_lines_are_shown_without_the_secrets() {
    // The containers' log is the whole cluster's.
    let Some(cluster) = crate::support::cluster::Cluster::own().await else { return };
    let room = Room::on(Box::new(cluster), "logs").await;
    let (web, _) = fresh();
    let mut lines: Vec<String> = (1..40).map(|line| format!("line {line}")).collect();
    lines.push("cannot log in with hush-hush `@all".into());
    room.cluster.container_writes(&lines);
    let mut secretive = profile();
    secretive.secrets = [("TOKEN".to_owned(), "hush-hush".into())].into();
    let objects = vec![deployment("web", &Says::CrashLoop.image("registry.test/acme"), json!({}))];
    let status = run(&*room.kubernetes, order(&web, 'a', objects, secretive)).await;
    assert!(
        why(&status).ends_with("; its last line is `cannot log in with [redacted] '@all`"),
        "{status:#?}"
    );
    let shown = room.kubernetes.logs(&web, 30).await.unwrap();
    assert_eq!((shown.len(), shown[0].as_str()), (30, "line 11"));
    assert_eq!(shown[29], "cannot log in with [redacted] `@all");

    // What runs well is not known by what it wrote before it was started again, long ago.
    room.cluster.container_wrote_before(&["cannot reach the database"]);
    run(&*room.kubernetes, order(&web, 'b', vec![deployment("web", IMAGE, json!({}))], profile())).await;
    assert_eq!(room.kubernetes.logs(&web, 1).await.unwrap(), ["cannot log in with hush-hush `@all"]);
}

#[tokio::test]
async fn a_kind_of_somebody_elses_is_watched_until_it_is_ready() {
    let Some(room) = Room::new("widgets").await else { return };
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "gizmoz.engine.example.com"},
        "spec": {
            "group": "engine.example.com", "scope": "Namespaced",
            "names": {"plural": "gizmoz", "singular": "gizmo", "kind": "Gizmo"},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            }],
        },
    });
    room.cluster.apply(&definition.to_string()).await;
    room.cluster
        .kubectl(
            &["wait", "--for=condition=Established", "crd/gizmoz.engine.example.com", "--timeout=60s"],
            "",
        )
        .await;
    let (web, _) = fresh();
    let gizmo = json!({
        "apiVersion": "engine.example.com/v1", "kind": "Gizmo", "metadata": {"name": "g"}, "spec": {"size": 1},
        "status": {},
    });
    room.kubernetes.apply(order(&web, 'a', vec![gizmo], profile())).await.unwrap();
    let says = async |status: &str| {
        let patch = json!({"status": {"conditions": [
            {"type": "Ready", "status": status, "reason": "Paint", "message": "paint is wet"},
        ]}});
        let patch = format!("--patch={patch}");
        let args = [
            "patch",
            "gizmoz",
            "g",
            "--subresource=status",
            "--type=merge",
            &patch,
            "--namespace",
            web.as_str(),
        ];
        room.cluster.kubectl(&args, "").await;
    };
    until("it is there", PATIENCE, || async { room.get("gizmoz", &web, "g").await }).await;
    says("False").await;
    // Without a condition it counted as ready, and may have been taken for it before.
    until("it waits or was ready", PATIENCE, || async {
        let status = room.kubernetes.status(&web).await.unwrap();
        if status.waits_for == ["Gizmo `g`: it is not ready: `paint is wet`"] { Ok(()) } else { Err(status) }
    })
    .await;
    says("True").await;
    until("it serves", PATIENCE, || async {
        let status = room.kubernetes.status(&web).await.unwrap();
        let value: Option<Value> = status.serving.as_ref().map(|_| Value::Null);
        if value.is_some() && status.waits_for.is_empty() { Ok(()) } else { Err(status) }
    })
    .await;
}
