//! What keeps a preview within its bounds, as the API server has it, and what is never touched.

use greenroom::engine::{
    Engine, Progress,
    kubernetes::{Egress, Profile},
};
use serde_json::{Value, json};

use super::{App, Bench, IMAGE, Room, deployment, fresh, order, profile, service};
use crate::{
    engines::{run, settled, stopped},
    support::{PATIENCE, cluster::Cluster, until},
};

#[tokio::test]
async fn the_guards_are_there_before_the_pods_and_say_what_the_operator_said() {
    let Some(room) = Room::new("guards").await else { return };
    let (web, _) = fresh();
    let guarded = Profile {
        egress: vec![Egress { cidr: "10.1.0.0/16".into(), ports: vec![5432] }],
        pull_secret: Some(r#"{"auths":{}}"#.into()),
        secrets: [("TOKEN".to_owned(), "hush-hush".into())].into(),
        annotations: [("field.cattle.io/projectId".to_owned(), "c-1:p-1".to_owned())].into(),
        ..profile()
    };
    let status =
        run(&*room.kubernetes, order(&web, 'a', vec![deployment("web", IMAGE, json!({}))], guarded)).await;
    assert!(status.serving.is_some(), "{status:#?}");

    let namespace = room.get("namespaces", &web, web.as_str()).await.unwrap();
    let labels = namespace["metadata"]["labels"].as_object().unwrap();
    for (label, value) in [
        ("app.kubernetes.io/managed-by", "greenroom"),
        ("greenroom.dev/instance", "guards"),
        ("greenroom.dev/project-id", "5005"),
        ("pod-security.kubernetes.io/enforce", "restricted"),
    ] {
        assert_eq!(labels[label], value, "{label}");
    }
    assert_eq!(namespace["metadata"]["annotations"]["field.cattle.io/projectId"], "c-1:p-1");

    let of = async |kind: &str, name: &str| room.get(kind, &web, name).await.unwrap();
    let policy = of("networkpolicies", "greenroom").await;
    let quota = of("resourcequotas", "greenroom").await;
    let limits = of("limitranges", "greenroom").await;
    insta::assert_json_snapshot!(json!({
        "policy": policy["spec"], "quota": quota["spec"], "limits": limits["spec"],
    }));
    let secret = of("secrets", "greenroom").await;
    assert_eq!((&secret["data"]["TOKEN"], &secret["type"]), (&json!("aHVzaC1odXNo"), &json!("Opaque")));
    assert_eq!(of("secrets", "greenroom-pull").await["type"], "kubernetes.io/dockerconfigjson");
    let pod = &room.cluster.list("pods", web.as_str()).await[0];
    assert_eq!(pod["spec"]["imagePullSecrets"], json!([{"name": "greenroom-pull"}]));
    assert_eq!(pod["spec"]["automountServiceAccountToken"], false);
    assert_eq!(pod["spec"]["volumes"].as_array().map(Vec::len), None);
}

#[tokio::test]
async fn a_first_deploy_of_seven_objects_takes_ten_requests_at_most() {
    let Some(cluster) = Cluster::start().await else { return };
    let kubeconfig = cluster.administrator("engine-budget").await;
    let room = Room::with(cluster, cluster.client_of(&kubeconfig).await, "budget");
    let (web, _) = fresh();
    let objects = vec![deployment("web", IMAGE, json!({})), service("web"), super::ingress("web")];
    let status = run(&*room.kubernetes, order(&web, 'a', objects, profile())).await;
    assert!(status.serving.is_some(), "{status:#?}");
    let asked: Vec<String> = room
        .cluster
        .requests_of("engine-budget")
        .into_iter()
        .filter(|request| !request.path.contains("labelSelector"))
        .map(|request| format!("{} {} {}", request.verb, request.resource, request.status))
        .collect();
    assert!(asked.len() <= 10, "{asked:#?}");
    let watches =
        room.cluster.requests_of("engine-budget").into_iter().filter(|it| it.verb == "watch").count();
    assert!(watches <= 12, "{watches} watches");
}

#[tokio::test]
async fn a_namespace_that_is_not_ours_is_refused_and_left_alone() {
    let Some(room) = Room::new("mine").await else { return };
    for (labels, seen) in [
        (json!({}), vec![]),
        (
            json!({
                "app.kubernetes.io/managed-by": "greenroom", "greenroom.dev/instance": "somebody",
                "greenroom.dev/project-id": "5005", "greenroom.dev/merge-request": "7",
            }),
            vec!["somebody".to_owned()],
        ),
    ] {
        let (web, _) = fresh();
        let theirs = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": web.as_str(), "labels": labels},
        });
        room.cluster.apply(&theirs.to_string()).await;
        let before =
            room.get("namespaces", &web, web.as_str()).await.unwrap()["metadata"]["resourceVersion"].clone();
        let status = run(&*room.kubernetes, room.order(&web, 'a', App::Works(1))).await;
        let Some((_, _, Progress::Failed(why))) = status.pending else { panic!("{status:#?}") };
        let shown = why.replace(web.as_str(), "NAME");
        assert_eq!(
            shown,
            "the cluster has a namespace `NAME` that this greenroom did not make, and that it does not touch; remove or \
             rename it"
        );
        assert!(room.kubernetes.plan(&room.order(&web, 'a', App::Works(1))).await.is_err());
        assert_eq!(room.kubernetes.stop(&web).await.unwrap(), [""; 0]);
        assert_eq!(room.kubernetes.inventory().await.unwrap(), []);
        let foreign = room.kubernetes.foreign().await.unwrap();
        assert!(seen.iter().all(|id| foreign.contains(id)), "{foreign:?}");
        let after = room.get("namespaces", &web, web.as_str()).await.unwrap();
        assert_eq!(after["metadata"]["resourceVersion"], before);
        assert_eq!(room.cluster.list("deployments.apps", web.as_str()).await, Vec::<Value>::new());
    }
}

#[tokio::test]
async fn a_stop_names_what_a_finalizer_holds_until_it_lets_go() {
    let Some(room) = Room::new("stuck").await else { return };
    let (web, key) = fresh();
    let mut held = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "held"}});
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    let status = run(&*room.kubernetes, order(&web, 'a', vec![held], profile())).await;
    assert!(status.serving.is_some(), "{status:#?}");
    let left = until("what holds it is named", PATIENCE, || async {
        let left = room.kubernetes.stop(&web).await.unwrap();
        if left.len() >= 4 { Ok(left) } else { Err(left) }
    })
    .await;
    insta::assert_snapshot!(left.join("\n").replace(web.as_str(), "NAME"), @r"
    the namespace `NAME`, which is being deleted
    ConfigMap `held`, held by the finalizer `example.com/hold`
    the cluster says `Some resources are remaining: configmaps. has 1 resource instances`
    the cluster says `Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances`
    ");
    assert!(!room.kubernetes.status(&web).await.unwrap().is_gone());
    assert_eq!(room.kubernetes.inventory().await.unwrap(), std::slice::from_ref(&web));

    // An order in the meantime waits until the namespace is gone.
    let mut events = room.kubernetes.events();
    room.kubernetes.apply(room.order(&web, 'b', App::Works(1))).await.unwrap();
    let waiting = until("it says what it waits for", PATIENCE, || async {
        let status = room.kubernetes.status(&web).await.unwrap();
        if status.waits_for.is_empty() { Err(status) } else { Ok(status) }
    })
    .await;
    assert_eq!(
        waiting.waits_for,
        [format!("The namespace `{web}`, which is being deleted, has to go first")]
    );
    let release = ["patch", "configmap", "held", "--namespace", web.as_str(), "--type=merge"];
    let release = [&release[..], &["--patch={\"metadata\":{\"finalizers\":null}}"]].concat();
    room.cluster.kubectl(&release, "").await;
    let status = settled(&*room.kubernetes, &mut events, &web).await;
    assert_eq!(status.serving.unwrap().sha, crate::engines::commit('b'));
    assert_eq!(web.key(), Some(key));
    stopped(&*room.kubernetes, &web).await;
}

#[tokio::test]
async fn a_volume_that_is_kept_is_named_and_removed_only_if_it_is_ours() {
    let Some(room) = Room::new("volumes").await else { return };
    let (web, _) = fresh();
    let volume = |name: &str, labels: Value| {
        json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name, "labels": labels},
            "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": "/nowhere"},
                "claimRef": {"namespace": web.as_str(), "name": name},
            },
        })
        .to_string()
    };
    room.cluster.apply(&volume("volumes-theirs", json!({}))).await;
    let ours = json!({"app.kubernetes.io/managed-by": "greenroom", "greenroom.dev/instance": "volumes"});
    room.cluster.apply(&volume("volumes-ours", ours)).await;
    let left = until("ours is gone", PATIENCE, || async {
        let left = room.kubernetes.stop(&web).await.unwrap();
        if left.len() == 1 { Ok(left) } else { Err(left) }
    })
    .await;
    assert_eq!(
        left,
        [
            "PersistentVolume `volumes-theirs` of the claim `volumes-theirs`, whose reclaim policy `Retain` keeps it; an \
          operator has to remove it"
        ]
    );
    room.cluster.kubectl(&["delete", "persistentvolume", "volumes-theirs", "--wait=false"], "").await;
    stopped(&*room.kubernetes, &web).await;
}
