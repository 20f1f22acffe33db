//! The account of `greenroom install`: each right it has is needed, and nothing that is needed is missing.

use std::collections::{BTreeMap, BTreeSet};

use assert_cmd::cargo::cargo_bin_cmd;
use greenroom::engine::{Engine, Progress, kubernetes::Profile};
use serde_json::{Value, json};

use super::{IMAGE, Room, deployment, errand, fresh, ingress, order, pod, presets, profile, service};
use crate::{
    engines::{run, stopped},
    support::{
        PATIENCE,
        cluster::{Cluster, Request, kubelet::Says},
        until,
    },
};

/// The rules of the ClusterRole that is printed.
fn granted() -> Value {
    let printed = cargo_bin_cmd!("greenroom").env_clear().args(["install", "--print"]).output().unwrap();
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&String::from_utf8(printed.stdout).unwrap()).unwrap();
    let role = documents.into_iter().find(|document| document["kind"] == "ClusterRole");
    role.expect("a ClusterRole")["rules"].clone()
}

/// Each right on its own, such as `patch deployments.apps`.
fn each(rules: &Value) -> BTreeSet<String> {
    let texts = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let mut rights = BTreeSet::new();
    for rule in rules.as_array().unwrap() {
        for (group, resource) in texts(&rule["apiGroups"])
            .iter()
            .flat_map(|group| texts(&rule["resources"]).into_iter().map(move |it| (group, it)))
        {
            rights.extend(texts(&rule["verbs"]).iter().map(|verb| right(verb, group, &resource)));
        }
    }
    rights
}

fn right(verb: &str, group: &str, resource: &str) -> String {
    let dot = if group.is_empty() { "" } else { "." };
    format!("{verb} {resource}{dot}{group}")
}

/// What a request took. Who applies what was not there makes it.
fn used(request: &Request) -> Vec<String> {
    let group =
        request.path.strip_prefix("/apis/").and_then(|path| path.split('/').next()).unwrap_or_default();
    let verbs = if request.status == 201 {
        vec![request.verb.as_str(), "create"]
    } else {
        vec![request.verb.as_str()]
    };
    verbs.into_iter().map(|verb| right(verb, group, &request.resource)).collect()
}

/// One object of every kind that is allowed unless the operator says otherwise, in this version.
fn every_kind(version: &str) -> Vec<Value> {
    let with = |api: &str, kind: &str, name: &str, fields: Value| {
        let mut object = json!({"apiVersion": api, "kind": kind, "metadata": {"name": name, "annotations": {"version": version}}});
        object.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        object
    };
    let template = |name: &str| {
        let mut template = pod(IMAGE);
        template["metadata"] = json!({"labels": {"app": name}});
        template
    };
    let workload = |name: &str| json!({"spec": {"selector": {"matchLabels": {"app": name}}, "template": template(name)}});
    let mut job = template("job");
    job["spec"]["restartPolicy"] = json!("Never");
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "scaled"});
    let mut scaled = deployment("scaled", IMAGE, json!({"VERSION": version}));
    scaled["metadata"]["annotations"] = json!({"version": version});
    let mut objects = vec![
        deployment("web", IMAGE, json!({"VERSION": version})),
        scaled,
        service("web"),
        ingress("web"),
        with("v1", "ConfigMap", "map", json!({"data": {"version": version}})),
        with("v1", "Secret", "secret", json!({"stringData": {"version": version}})),
        with("v1", "ServiceAccount", "account", json!({})),
        with("v1", "Pod", "pod", json!({"spec": pod(IMAGE)["spec"]})),
        with(
            "v1",
            "PersistentVolumeClaim",
            "files",
            json!({"spec": {
                "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
            }}),
        ),
        with("apps/v1", "DaemonSet", "daemon", workload("daemon")),
        with("apps/v1", "StatefulSet", "stateful", workload("stateful")),
        with(
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            "scaled",
            json!({"spec": {
                "scaleTargetRef": target, "maxReplicas": 2,
                "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}],
            }}),
        ),
        with(
            "batch/v1",
            "CronJob",
            "cron",
            json!({"spec": {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": job}}}}),
        ),
        with("batch/v1", "Job", "job", json!({"spec": {"template": job}})),
        with(
            "policy/v1",
            "PodDisruptionBudget",
            "budget",
            json!({"spec": {
                "minAvailable": 0, "selector": {"matchLabels": {"app": "web"}},
            }}),
        ),
        with(
            "gateway.networking.k8s.io/v1",
            "HTTPRoute",
            "route",
            json!({"spec": {
                "parentRefs": [{"name": "public", "namespace": "gateways", "sectionName": "https"}],
                "rules": [{"backendRefs": [{"name": "web", "port": 80}]}],
            }}),
        ),
    ];
    objects[6]["automountServiceAccountToken"] = json!(false);
    objects
}

#[tokio::test]
async fn the_installed_account_has_the_rights_it_needs_and_no_other() {
    let Some(cluster) = Cluster::start().await else { return };
    presets::know_routes(cluster).await;
    let rules = granted();
    let kubeconfig = cluster.account("engine-installed", &rules).await;
    let room = Room::with(cluster, cluster.client_of(&kubeconfig).await, "installed");
    let (web, _) = fresh();
    room.cluster.apply(&presets::volumes("installed", &web)).await;
    let mut given = profile();
    given.secrets = [("TOKEN".to_owned(), "hush-hush".into())].into();
    given.pull_secret = Some(r#"{"auths": {}}"#.into());

    let life = async {
        for version in ["1", "2"] {
            let next = order(&web, 'a', every_kind(version), given.clone());
            room.kubernetes.plan(&next).await.unwrap();
            let status = run(&*room.kubernetes, next).await;
            assert!(status.serving.is_some() && status.pending.is_none(), "{status:#?}");
        }
        // The same again is nothing, though Secrets cannot be read.
        let same = order(&web, 'a', every_kind("2"), given.clone());
        assert_eq!(room.kubernetes.plan(&same).await.unwrap(), []);
        room.kubernetes.sleep(&web).await.unwrap();
        until("it sleeps", PATIENCE, || async {
            let status = room.kubernetes.status(&web).await.unwrap();
            if status.asleep { Ok(()) } else { Err(status) }
        })
        .await;
        room.kubernetes.wake(&web).await.unwrap();
        // Why something is not ready, with its log; and all that is not wanted any more goes.
        let broken =
            deployment("web", &format!("{}:1", Says::CrashLoop.image("registry.test/acme")), json!({}));
        let status = run(&*room.kubernetes, order(&web, 'b', vec![broken], given.clone())).await;
        let Some((_, _, Progress::Failed(why))) = &status.pending else { panic!("{status:#?}") };
        assert!(why.contains("exit code 1"), "{why}");
        room.kubernetes.logs(&web, 30).await.unwrap();
        let mended = vec![deployment("web", IMAGE, json!({}))];
        let unguarded = Profile {
            quota: BTreeMap::new(),
            default_limits: BTreeMap::new(),
            default_requests: BTreeMap::new(),
            ..profile()
        };
        let mended = order(&web, 'c', mended, unguarded);
        let changes = room.kubernetes.plan(&mended).await.unwrap();
        insta::assert_debug_snapshot!(
            changes.iter().map(|it| (it.object.as_str(), it.action)).collect::<Vec<_>>()
        );
        let status = run(&*room.kubernetes, mended).await;
        assert!(status.serving.is_some(), "{status:#?}");
        // What a project wants to know of it.
        for (check, ends_well) in [("first", true), ("second", false)] {
            room.kubernetes.run(&errand(&web, check, ends_well)).await.unwrap();
        }
        room.kubernetes.inventory().await.unwrap();
        room.kubernetes.foreign().await.unwrap();
    };
    tokio::select! {
        () = presets::accepts_routes(cluster, &web) => unreachable!("it has no end"),
        () = life => {}
    }
    // Volumes are the cluster's: it tells of them.
    let left = until("all but volumes is gone", PATIENCE * 2, || async {
        let left = room.kubernetes.stop(&web).await.unwrap();
        if left.iter().all(|it| it.starts_with("PersistentVolume")) { Ok(left) } else { Err(left) }
    })
    .await;
    assert!(
        !left.is_empty() && left.iter().all(|it| it.contains("an operator has to remove it")),
        "{left:#?}"
    );
    presets::remove_volumes(cluster, &web).await;
    stopped(&*room.kubernetes, &web).await;

    let requests = cluster.requests_of("engine-installed");
    let refused: BTreeSet<String> =
        requests.iter().filter(|it| matches!(it.status, 401 | 403)).flat_map(used).collect();
    // What is asked for in vain on purpose.
    let expected = ["delete persistentvolumes"].map(str::to_owned);
    assert_eq!(refused, expected.into());
    let granted = each(&rules);
    let used: BTreeSet<String> = requests
        .iter()
        .filter(|it| it.status < 300)
        .flat_map(used)
        .filter(|it| granted.contains(it))
        .collect();
    let needless: Vec<&String> = granted.difference(&used).collect();
    assert!(needless.is_empty(), "granted and never used: {needless:#?}");
}
