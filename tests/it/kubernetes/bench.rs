//! The cluster that the tests stand on: it comes up, its controllers work, its kubelets say what they are told to say.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, api::PostParams};
use serde_json::{Value, json};

use crate::support::{
    PATIENCE,
    cluster::{Cluster, LOG_LINES, kubelet::Says},
    until,
};

/// A Deployment `web` of one pod with this image, in a namespace of its own.
fn deployment(namespace: &str, image: &str) -> String {
    let labels = json!({ "app": "web" });
    let deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": "web", "namespace": namespace },
        "spec": {
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "containers": [{ "name": "web", "image": image }] },
            },
        },
    });
    format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}}}}}\n---\n{deployment}")
}

async fn becomes_available(cluster: &Cluster, namespace: &str) {
    until("the Deployment is available", PATIENCE, || async {
        let deployment =
            cluster.get("deployments.apps", namespace, "web").await.ok_or_else(Value::default)?;
        if deployment["status"]["availableReplicas"] == 1 { Ok(()) } else { Err(deployment) }
    })
    .await;
}

#[tokio::test]
async fn a_deployment_becomes_available_and_its_namespace_goes_with_everything_in_it() {
    let Some(cluster) = Cluster::start().await else { return };
    cluster.apply(&deployment("bench-comes-and-goes", "registry.test/web:1")).await;
    becomes_available(cluster, "bench-comes-and-goes").await;

    cluster.kubectl(&["delete", "namespace", "bench-comes-and-goes", "--wait=false"], "").await;
    until("the namespace is gone", PATIENCE * 2, || async {
        cluster.get("namespaces", "", "bench-comes-and-goes").await.map_or(Ok(()), Err)
    })
    .await;
    let pods = cluster.list("pods", "bench-comes-and-goes").await;
    assert!(pods.is_empty(), "{pods:#?}");
}

#[tokio::test]
async fn kubelets_say_of_a_pod_what_its_image_asks_for() {
    let Some(cluster) = Cluster::start().await else { return };
    let mut seen = Vec::new();
    for (number, says) in Says::ALL.into_iter().enumerate() {
        let namespace = format!("bench-kubelet-{number}");
        // As greenroom writes them: by digest.
        let image = format!("{}@sha256:{:064}", says.image("registry.test/acme/web"), 0);
        cluster.apply(&deployment(&namespace, &image)).await;
        let said = says_of_the_pod(cluster, says, &namespace).await;
        seen.push(said.replace(&image, "IMAGE"));
    }
    insta::assert_snapshot!(seen.join("\n"), @r#"
    ImageMissing: "Pending" | waiting "ImagePullBackOff" "Back-off pulling image \"IMAGE\": ErrImagePull: failed to pull and unpack image \"IMAGE\": failed to resolve reference \"IMAGE\": IMAGE: not found" | restarts 0
    NoCredentials: "Pending" | waiting "ImagePullBackOff" "Back-off pulling image \"IMAGE\": ErrImagePull: failed to pull and unpack image \"IMAGE\": failed to resolve reference \"IMAGE\": pull access denied, repository does not exist or may require authorization: authorization failed: no basic auth credentials" | restarts 0
    WrongArchitecture: "Pending" | waiting "ImagePullBackOff" "Back-off pulling image \"IMAGE\": ErrImagePull: failed to pull and unpack image \"IMAGE\": no match for platform in manifest: not found" | restarts 0
    CrashLoop: "Running" | waiting "CrashLoopBackOff" "back-off 40s restarting failed container" | before: terminated "Error" 1 | restarts 3
    OomKilled: "Running" | waiting "CrashLoopBackOff" "back-off 40s restarting failed container" | before: terminated "OOMKilled" 137 | restarts 3
    ProbeFailing: "Running" | running | restarts 0
    Creating: "Pending" | waiting "ContainerCreating" | restarts 0
    Fails: "Failed" | terminated "Error" 3 | restarts 0
    "#);
}

/// One line with all that a diagnosis would read.
async fn says_of_the_pod(cluster: &Cluster, says: Says, namespace: &str) -> String {
    let (pod, container) = until(&format!("a kubelet says {says:?}"), PATIENCE, || async {
        let pods = cluster.list("pods", namespace).await;
        let said = pods
            .iter()
            .find_map(|pod| Some((pod.clone(), pod["status"]["containerStatuses"].get(0)?.clone())));
        said.ok_or(pods)
    })
    .await;
    assert_eq!(container["ready"], false, "{container:#}");
    let words = |state: &Value| {
        let (kind, state) = state.as_object().and_then(|state| state.iter().next()).expect("one state");
        let part = |name: &str| state.get(name).map(|value| format!(" {value}")).unwrap_or_default();
        format!("{kind}{}{}{}", part("reason"), part("exitCode"), part("message"))
    };
    let before = container["lastState"].as_object().is_some_and(|state| !state.is_empty());
    format!(
        "{says:?}: {} | {}{} | restarts {}",
        pod["status"]["phase"],
        words(&container["state"]),
        if before { format!(" | before: {}", words(&container["lastState"])) } else { String::new() },
        container["restartCount"],
    )
}

#[tokio::test]
async fn a_failing_probe_is_an_event_of_the_pod() {
    let Some(cluster) = Cluster::start().await else { return };
    let image = format!("{}:1", Says::ProbeFailing.image("registry.test/web"));
    cluster.apply(&deployment("bench-events", &image)).await;
    until("a kubelet tells of the probe", PATIENCE, || async {
        let events = cluster.list("events", "bench-events").await;
        let told = events.iter().any(|event| {
            event["reason"] == "Unhealthy"
                && event["type"] == "Warning"
                && event["involvedObject"]["kind"] == "Pod"
                && event["message"] == "Readiness probe failed: HTTP probe failed with statuscode: 500"
        });
        told.then_some(()).ok_or(events)
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_asks_for_more_than_a_node_has_is_not_scheduled() {
    let Some(cluster) = Cluster::start().await else { return };
    let huge = deployment("bench-huge", "registry.test/web:1")
        .replace(r#""name":"web"}]"#, r#""name":"web","resources":{"requests":{"cpu":"1000"}}}]"#);
    assert!(huge.contains("1000"), "{huge}");
    cluster.apply(&huge).await;
    until("the scheduler says why", PATIENCE, || async {
        let pods = cluster.list("pods", "bench-huge").await;
        let told = pods.iter().any(|pod| {
            let condition = &pod["status"]["conditions"][0];
            condition["reason"] == "Unschedulable"
                && condition["message"].as_str().unwrap_or_default().contains("Insufficient cpu")
        });
        told.then_some(()).ok_or(pods)
    })
    .await;
}

#[tokio::test]
async fn a_job_ends_well_or_badly() {
    let Some(cluster) = Cluster::start().await else { return };
    cluster.kubectl(&["create", "namespace", "bench-jobs"], "").await;
    for (name, image, ends) in [
        ("good", "registry.test/web:1".to_owned(), "Complete"),
        ("bad", format!("{}:1", Says::Fails.image("registry.test/web")), "Failed"),
    ] {
        let job = json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": { "name": name, "namespace": "bench-jobs" },
            "spec": { "backoffLimit": 0, "template": { "spec": {
                "restartPolicy": "Never", "containers": [{ "name": "job", "image": image }],
            } } },
        });
        cluster.apply(&job.to_string()).await;
        until(&format!("the job ends: {ends}"), PATIENCE, || async {
            let job = cluster.get("jobs.batch", "bench-jobs", name).await.expect("the job");
            let conditions = job["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions
                .iter()
                .any(|one| one["type"] == ends && one["status"] == "True")
                .then_some(())
                .ok_or(job)
        })
        .await;
    }
}

#[tokio::test]
async fn containers_have_written_something() {
    let Some(cluster) = Cluster::start().await else { return };
    cluster
        .apply(&deployment("bench-logs", &format!("{}:1", Says::CrashLoop.image("registry.test/web"))))
        .await;
    says_of_the_pod(cluster, Says::CrashLoop, "bench-logs").await;
    let args = ["logs", "deployment/web", "--namespace", "bench-logs", "--tail=2"];
    let log = cluster.kubectl(&[&args[..], &["--previous"]].concat(), "").await;
    assert_eq!(log, format!("line {}\nline {LOG_LINES}\n", LOG_LINES - 1));
    assert_eq!(cluster.kubectl(&args, "").await, log);
}

#[tokio::test]
async fn an_account_may_do_what_its_rules_say_and_its_requests_are_counted() {
    let Some(cluster) = Cluster::start().await else { return };
    let rules = json!([{ "apiGroups": [""], "resources": ["namespaces"], "verbs": ["list"] }]);
    let kubeconfig = cluster.account("bench-reader", &rules).await;
    let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
    cluster.kubectl(&[&kubeconfig, "get", "namespaces"], "").await;
    let may = cluster.kubectl(&[&kubeconfig, "auth", "can-i", "--list"], "").await;
    assert!(may.contains("namespaces") && !may.contains("secrets"), "{may}");

    let requests = cluster.requests_of("bench-reader");
    let lists: Vec<_> = requests.iter().filter(|request| request.resource == "namespaces").collect();
    assert_eq!(lists.len(), 1, "{requests:#?}");
    assert_eq!((lists[0].verb.as_str(), lists[0].status), ("list", 200));
    assert!(lists[0].agent.starts_with("kubectl/"), "{lists:?}");
}

#[tokio::test]
async fn a_killed_api_server_comes_back_with_everything_it_had() {
    let Some(cluster) = Cluster::own().await else { return };
    cluster.apply(&deployment("bench-restart", "registry.test/web:1")).await;
    becomes_available(&cluster, "bench-restart").await;

    cluster.kill_api();
    assert!(cluster.client().await.apiserver_version().await.is_err());
    cluster.restart_api().await;
    becomes_available(&cluster, "bench-restart").await;

    // Controllers, scheduler and nodes are back at work too.
    cluster.apply(&deployment("bench-after", "registry.test/web:1")).await;
    becomes_available(&cluster, "bench-after").await;
}

#[tokio::test]
async fn a_frozen_api_server_answers_late() {
    let Some(cluster) = Cluster::own().await else { return };
    cluster.freeze_api();
    let client = cluster.client().await;
    let asked = tokio::spawn(async move { client.apiserver_version().await });
    // It has the connection, and says nothing: there is nothing to wait for but time.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(!asked.is_finished());
    cluster.thaw_api();
    let version = asked.await.unwrap().unwrap();
    assert!(version.git_version.starts_with("v1."), "{version:?}");
}

#[tokio::test]
async fn an_admission_webhook_is_asked_about_its_namespace_alone() {
    let Some(cluster) = Cluster::start().await else { return };
    // One that was there before, and answers no more, stands in nobody's way.
    drop(cluster.asks_before_creating("deployments", "bench-asked-before", |_| Ok(())).await);
    let _admission = cluster
        .asks_before_creating("deployments", "bench-asked", |object| {
            Err(format!("no {}, by order of the mayor", object["metadata"]["name"]))
        })
        .await;
    cluster.apply(&deployment("bench-unasked", "registry.test/web:1")).await;
    becomes_available(cluster, "bench-unasked").await;
    cluster.kubectl(&["create", "namespace", "bench-asked"], "").await;
    let asked = deployment("bench-asked", "registry.test/web:1");
    let asked = asked.split_once("---\n").unwrap().1;
    let client = cluster.client().await;
    let deployments = Api::<Deployment>::namespaced(client, "bench-asked");
    let refused = deployments.create(&PostParams::default(), &serde_json::from_str(asked).unwrap()).await;
    let words = refused.unwrap_err().to_string();
    assert!(words.contains("no \"web\", by order of the mayor"), "{words}");
}

#[tokio::test]
async fn the_api_server_dies_at_the_moment_that_a_test_wants() {
    let Some(cluster) = Cluster::own().await else { return };
    let (kill, dead) = (cluster.kill_switch(), Arc::new(AtomicBool::new(false)));
    let _admission = cluster
        .asks_before_creating("deployments", "bench-dies", move |_| {
            if !dead.swap(true, Ordering::Relaxed) {
                kill();
            }
            Ok(())
        })
        .await;
    cluster.kubectl(&["create", "namespace", "bench-dies"], "").await;
    let deployment = deployment("bench-dies", "registry.test/web:1");
    let client = cluster.client().await;
    let deployments = Api::<Deployment>::namespaced(client, "bench-dies");
    let object = serde_json::from_str(deployment.split_once("---\n").unwrap().1).unwrap();
    assert!(deployments.create(&PostParams::default(), &object).await.is_err());
    cluster.restart_api().await;
    assert!(cluster.get("deployments.apps", "bench-dies", "web").await.is_none(), "it was too early");
    cluster.apply(&deployment).await;
    becomes_available(&cluster, "bench-dies").await;
}
