//! What people do in GitLab, and what they see of a preview on a cluster.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::json;

use super::town::{App, Town};
use crate::support::{
    PATIENCE,
    cluster::{Cluster, LOG_LINES, kubelet::Says},
    until,
};

const IMAGES: &str = "registry.test/acme/web";

#[tokio::test]
async fn from_the_first_deploy_to_the_last_trace() {
    let Some(cluster) = Cluster::start().await else { return };
    let town = Town::start(cluster, "first").await;
    let app = App { config_maps: vec!["texts"], ..App::works(1) };
    let mr = town.open("feature", &app).await;
    town.world.becomes(mr, "waiting").await;
    assert!(
        cluster.get("namespaces", "", &town.namespace(mr)).await.is_none(),
        "before its pipeline has passed"
    );

    town.pass(mr).await;
    town.world.becomes(mr, "ready").await;
    town.serves(mr, &app).await;

    let namespace = cluster.get("namespaces", "", &town.namespace(mr)).await.expect("the namespace");
    let label = |name: &str| namespace["metadata"]["labels"][name].as_str().unwrap_or_default().to_owned();
    assert_eq!(label("app.kubernetes.io/managed-by"), "greenroom");
    assert_eq!(label("greenroom.dev/project-id"), "42");
    assert_eq!(label("greenroom.dev/merge-request"), mr.to_string());
    assert!(!label("greenroom.dev/instance").is_empty());
    assert_eq!(label("pod-security.kubernetes.io/enforce"), "restricted");
    // A stranger's text in a template is a text.
    let texts = town.object(mr, "configmaps", "texts").await.expect("the ConfigMap");
    assert_eq!(texts["data"]["title"], town.namespace(mr));
    // A stranger from the network comes in by the ingress controller alone.
    let policies = cluster.list("networkpolicies.networking.k8s.io", &town.namespace(mr)).await;
    assert!(!policies.is_empty());

    town.world.gitlab.close(mr).await;
    town.world.becomes(mr, "stopped").await;
    town.is_gone(mr).await;
    town.world.ends_well().await;
}

#[tokio::test]
async fn a_first_deploy_asks_the_api_server_for_little() {
    let Some(cluster) = Cluster::start().await else { return };
    let town = Town::start(cluster, "counted").await;
    // The watches are there, and whatever is asked once.
    let first = town.ready("first", &App::works(1)).await;
    town.world.rests().await;
    let before = cluster.requests_of("counted").len();
    let second = town.ready("second", &App::works(1)).await;
    town.world.rests().await;
    let requests = cluster.requests_of("counted").split_off(before);
    let of_second: Vec<_> = requests
        .iter()
        .filter(|request| {
            request.namespace == town.namespace(second) || request.name == town.namespace(second)
        })
        .map(|request| format!("{} {} {}", request.verb, request.resource, request.name))
        .collect();
    assert!(!of_second.is_empty(), "{requests:#?}");
    assert!(of_second.len() <= 10, "{of_second:#?}");
    town.serves(first, &App::works(1)).await;
}

#[tokio::test]
async fn an_update_removes_what_the_new_revision_does_not_have() {
    let Some(cluster) = Cluster::start().await else { return };
    let town = Town::start(cluster, "prune").await;
    let before = App { config_maps: vec!["old", "kept"], ..App::works(1) };
    let mr = town.ready("feature", &before).await;
    let uid = |object: serde_json::Value| object["metadata"]["uid"].as_str().expect("a uid").to_owned();
    let kept = uid(town.object(mr, "configmaps", "kept").await.expect("the ConfigMap"));
    // Somebody else's things in the namespace are not ours to prune.
    let namespace = town.namespace(mr);
    cluster.kubectl(&["create", "configmap", "by-hand", "--namespace", &namespace], "").await;

    let after = App { config_maps: vec!["kept", "new"], ..App::works(2) };
    town.update(mr, "feature", &after).await;
    town.world.becomes(mr, "ready").await;
    town.serves(mr, &after).await;
    assert_eq!(uid(town.object(mr, "configmaps", "kept").await.expect("the ConfigMap")), kept);
    assert!(town.object(mr, "configmaps", "new").await.is_some());
    assert!(town.object(mr, "configmaps", "by-hand").await.is_some());
    until("what is old is gone", PATIENCE, || async {
        town.object(mr, "configmaps", "old").await.map_or(Ok(()), Err)
    })
    .await;
}

/// The third revision wants again what the second one is about to remove.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_newer_revision_wants_again_is_not_removed_for_an_older_one() {
    let Some(cluster) = Cluster::start().await else { return };
    let (wire, kubeconfig) = cluster.wire().await;
    let town = Town::start_as(cluster, "again", &kubeconfig, &[], "").await;
    let with = |version| App { config_maps: vec!["texts"], ..App::works(version) };
    let mr = town.ready("feature", &with(1)).await;
    let (go_on, held) = std::sync::mpsc::channel();
    let held = std::sync::Mutex::new(held);
    wire.on("DELETE", "*/configmaps/texts").before(move || {
        // Until the third revision was sent, or waits for this.
        let held = held.lock().unwrap();
        let _ = tokio::task::block_in_place(|| held.recv_timeout(Duration::from_secs(10)));
    });
    town.update(mr, "feature", &App::works(2)).await;
    until("the second one removes it", PATIENCE, || async {
        (wire.count("DELETE", "*/configmaps/texts") > 0).then_some(())
    })
    .await;
    let sent = wire.count("PATCH", "*/configmaps/texts");
    town.update(mr, "feature", &with(3)).await;
    let began = Instant::now();
    while wire.count("PATCH", "*/configmaps/texts") == sent && began.elapsed() < Duration::from_secs(5) {
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    go_on.send(()).unwrap();
    town.world.becomes(mr, "ready").await;
    town.serves(mr, &with(3)).await;
    assert!(town.object(mr, "configmaps", "texts").await.is_some());
    town.world.ends_well().await;
}

#[tokio::test]
async fn a_broken_image_is_explained_and_the_last_good_revision_serves() {
    let Some(cluster) = Cluster::start().await else { return };
    let town = Town::start(cluster, "broken").await;
    let good = App::works(1);
    let mr = town.ready("feature", &good).await;

    let broken = App::with_image(&Says::ImageMissing.image(IMAGES));
    town.update(mr, "feature", &broken).await;
    let failed = town.world.becomes(mr, "failed").await;
    let reason = failed["reason"].as_str().unwrap();
    assert!(reason.contains(&broken.image) && reason.contains("does not exist"), "{reason}");
    town.serves(mr, &good).await;

    let mended = App::works(2);
    town.update(mr, "feature", &mended).await;
    town.world.becomes(mr, "ready").await;
    town.serves(mr, &mended).await;
    town.world.ends_well().await;
}

#[tokio::test]
async fn what_a_kubelet_says_is_told_in_words() {
    let Some(cluster) = Cluster::start().await else { return };
    // As long as it takes a kubelet to be sure.
    let town =
        Town::start_with(cluster, "told", &[], "[[project]]\nmatch = [\"**\"]\nready_within = \"10s\"\n")
            .await;
    let log = format!("line {LOG_LINES}");
    let told: [(Says, &[&str]); 5] = [
        (Says::NoCredentials, &["pull_secret"]),
        (Says::WrongArchitecture, &["architecture"]),
        (Says::CrashLoop, &["exit code 1", &log]),
        (Says::OomKilled, &["memory", "64Mi"]),
        (Says::ProbeFailing, &["readiness probe", "/healthz", "500"]),
    ];
    let mut previews = BTreeMap::new();
    for (number, (says, words)) in told.into_iter().enumerate() {
        let branch = format!("branch-{number}");
        let mr = town.open(&branch, &App::with_image(&says.image(IMAGES))).await;
        town.pass(mr).await;
        previews.insert(mr, words);
    }
    for (mr, words) in previews {
        town.world.becomes(mr, "failed").await;
        town.says(mr, words).await;
    }
}

#[tokio::test]
async fn what_a_program_wrote_before_it_ended_is_shown_everywhere() {
    let Some(cluster) = Cluster::start().await else { return };
    let town = Town::start(cluster, "spoken").await;
    let mr = town.open("feature", &App::with_image(&Says::CrashLoop.image(IMAGES))).await;
    town.pass(mr).await;
    let failed = town.world.becomes(mr, "failed").await;
    let log: Vec<&str> = failed["log"].as_array().unwrap().iter().filter_map(|line| line.as_str()).collect();
    let written: Vec<String> = (1..=LOG_LINES).map(|n| format!("line {n}")).collect();
    assert_eq!(log, written[LOG_LINES - 30..]);

    let block = format!("```text\n│ {}\n```", log.join("\n│ "));
    until("the comment has the lines", PATIENCE, || async {
        let comment = town.world.gitlab.comment(mr).await.unwrap_or_default();
        if comment.contains(&block) { Ok(()) } else { Err(comment) }
    })
    .await;
    let name = format!("acme/spoken!{mr}");
    let greenroom = &town.world.greenroom;
    let (_, why) = greenroom.verb(&["why", &name]);
    assert!(why.contains(&format!("    │ {}", written[LOG_LINES - 1])), "{why}");
    let (exit, spoken) = greenroom.verb(&["logs", &name, "--app", "--lines", "3"]);
    assert_eq!((exit.code(), spoken.trim_end()), (Some(0), &*written[LOG_LINES - 3..].join("\n")));

    // What comes after it has other lines, or none.
    town.update(mr, "feature", &App::works(1)).await;
    let ready = town.world.becomes(mr, "ready").await;
    assert_eq!(ready["log"], json!([]));
    town.world.ends_well().await;
}

#[tokio::test]
async fn a_preview_has_its_bounds_without_a_word_from_the_operator_and_none_where_they_are_given_up() {
    let Some(cluster) = Cluster::start().await else { return };
    let usual = Town::start(cluster, "bounded").await;
    let mr = usual.ready("feature", &App::works(1)).await;
    let quota = usual.object(mr, "resourcequotas", "greenroom").await.expect("the ResourceQuota");
    assert_eq!(quota["spec"]["hard"]["pods"], "30");
    assert_eq!(quota["spec"]["hard"]["limits.memory"], "8Gi");
    let limits = usual.object(mr, "limitranges", "greenroom").await.expect("the LimitRange");
    assert_eq!(limits["spec"]["limits"][0]["default"], json!({ "memory": "512Mi" }));

    let file = "[[project]]\nmatch = [\"**\"]\nquota = {}\nlimits = {}\n";
    let free = Town::start_with(cluster, "unbounded", &[], file).await;
    let mr = free.ready("feature", &App::works(1)).await;
    for kind in ["resourcequotas", "limitranges"] {
        assert!(free.object(mr, kind, "greenroom").await.is_none(), "{kind}");
    }
}

#[tokio::test]
async fn a_pod_that_no_node_can_take_is_told_with_what_is_short() {
    let Some(cluster) = Cluster::start().await else { return };
    let file = "[[project]]\nmatch = [\"**\"]\nready_within = \"5s\"\nquota = {pods = 20}\n";
    let town = Town::start_with(cluster, "huge", &[], file).await;
    let mr = town.open("feature", &App { cpu: "1000", ..App::works(1) }).await;
    town.pass(mr).await;
    town.says(mr, &["no node has enough", "cpu"]).await;
    town.world.becomes(mr, "failed").await;
}

#[tokio::test]
async fn a_stuck_finalizer_is_named_until_it_goes() {
    let Some(cluster) = Cluster::start().await else { return };
    let town = Town::start_with(
        cluster,
        "stuck",
        &[("GREENROOM_RESYNC_INTERVAL", "1s"), ("GREENROOM_PROJECTS", "acme/stuck")],
        "",
    )
    .await;
    let mr = town.ready("feature", &App { config_maps: vec!["held"], ..App::works(1) }).await;
    let finalizers = |list: serde_json::Value| json!({ "metadata": { "finalizers": list } }).to_string();
    let namespace = town.namespace(mr);
    let patch = ["patch", "configmap", "held", "--namespace", &namespace, "--type=merge", "--patch"];
    cluster.kubectl(&[&patch[..], &[&finalizers(json!(["example.com/hold"]))]].concat(), "").await;

    town.world.gitlab.close(mr).await;
    town.says(mr, &["held", "example.com/hold"]).await;
    assert!(cluster.get("namespaces", "", &namespace).await.is_some());
    assert_ne!(town.world.preview(mr).await.unwrap()["state"], "stopped");

    cluster.kubectl(&[&patch[..], &[&finalizers(json!(null))]].concat(), "").await;
    town.world.becomes(mr, "stopped").await;
    town.is_gone(mr).await;
    town.world.ends_well().await;
}

#[tokio::test]
async fn a_sweep_takes_what_is_ours_and_nothing_else() {
    let Some(cluster) = Cluster::start().await else { return };
    let settings = [
        ("GREENROOM_INSTANCE", "sweeping"),
        ("GREENROOM_PROJECTS", "acme/sweep"),
        ("GREENROOM_RESYNC_INTERVAL", "1s"),
    ];
    let town = Town::start_with(cluster, "sweep", &settings, "").await;
    let (left, open) = (town.ready("left", &App::works(1)).await, town.ready("open", &App::works(1)).await);
    // Those of another greenroom, of nobody, and one that only looks like ours.
    let foreign = |name: &str, labels: serde_json::Value| {
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": labels } })
            .to_string()
    };
    let ours = |instance: &str| {
        json!({
            "app.kubernetes.io/managed-by": "greenroom", "greenroom.dev/instance": instance,
            "greenroom.dev/project-id": "42", "greenroom.dev/merge-request": left.to_string(),
        })
    };
    let bystanders = [
        foreign("sweep-of-another", ours("another")),
        foreign("sweep-of-nobody", json!({})),
        foreign("sweep-unmanaged", json!({ "greenroom.dev/instance": "sweeping" })),
    ];
    cluster.apply(&bystanders.join("\n---\n")).await;

    town.world.greenroom.kill9();
    town.world.greenroom.lose_store();
    town.world.gitlab.close(left).await;
    town.world.greenroom.restart().await;
    until("what is left of !1 is gone", PATIENCE * 2, || async {
        cluster.get("namespaces", "", &town.namespace(left)).await.map_or(Ok(()), Err)
    })
    .await;
    town.world.becomes(open, "ready").await;
    town.serves(open, &App::works(1)).await;
    for bystander in ["sweep-of-another", "sweep-of-nobody", "sweep-unmanaged"] {
        let there = cluster.get("namespaces", "", bystander).await.expect("not touched");
        assert!(there["metadata"]["deletionTimestamp"].is_null(), "{bystander}");
    }
}

#[tokio::test]
async fn drift_is_repaired() {
    let Some(cluster) = Cluster::start().await else { return };
    let town = Town::start_with(
        cluster,
        "drift",
        &[("GREENROOM_RESYNC_INTERVAL", "1s"), ("GREENROOM_PROJECTS", "acme/drift")],
        "",
    )
    .await;
    let mr = town.ready("feature", &App::works(1)).await;
    cluster.kubectl(&["delete", "service", "web", "--namespace", &town.namespace(mr)], "").await;
    until("the Service is back", PATIENCE, || async { town.object(mr, "services", "web").await }).await;
    town.world.becomes(mr, "ready").await;
}

#[tokio::test]
async fn pod_security_that_somebody_weakens_is_put_back() {
    let Some(cluster) = Cluster::start().await else { return };
    let town = Town::start(cluster, "weakened").await;
    let mr = town.ready("feature", &App::works(1)).await;
    town.world.rests().await;
    let (namespace, label) = (town.namespace(mr), "pod-security.kubernetes.io/enforce");
    let privileged = format!("{label}=privileged");
    cluster.kubectl(&["label", "--overwrite", "namespace", &namespace, &privileged], "").await;
    until("its pods are held to what they were held to", PATIENCE, || async {
        let found = cluster.get("namespaces", "", &namespace).await.expect("the namespace");
        let level = found["metadata"]["labels"][label].clone();
        if level == "restricted" { Ok(()) } else { Err(level) }
    })
    .await;
    town.world.becomes(mr, "ready").await;
    town.serves(mr, &App::works(1)).await;
    town.world.ends_well().await;
}

#[tokio::test]
async fn what_an_admission_webhook_refuses_is_told_in_its_words() {
    let Some(cluster) = Cluster::start().await else { return };
    let town = Town::start(cluster, "mayor").await;
    let mr = town.open("feature", &App::works(1)).await;
    let refuse = |_: &serde_json::Value| Err("no more shops, by order of the mayor".to_owned());
    let _admission = cluster.asks_before_creating("deployments", &town.namespace(mr), refuse).await;
    town.pass(mr).await;
    town.world.becomes(mr, "failed").await;
    let words = [
        "Deployment `web`: the admission webhook `admission.test.example.com` refuses it",
        "no more shops, by order of the mayor",
    ];
    town.says(mr, &words).await;
}

#[tokio::test]
async fn a_template_that_doubles_a_text_is_refused_and_takes_none_of_the_servers_memory() {
    let Some(cluster) = Cluster::start().await else { return };
    let town = Town::start(cluster, "doubled").await;
    let mr = town.open("feature", &App::works(1)).await;
    let bomb = format!("{{% set x = title %}}\n{}kind: {{{{ x }}}}\n", "{% set x = x ~ x %}\n".repeat(40));
    town.world.gitlab.push("feature", &[(".greenroom/k8s/bomb.yaml", &bomb)]).await;
    town.pass(mr).await;
    town.world.becomes(mr, "failed").await;
    town.says(mr, &[".greenroom/k8s/bomb.yaml:", "it takes more than 128 MiB of memory"]).await;
    let peak = town.world.greenroom.peak_memory();
    assert!(peak < 256 << 20, "the server took {} MiB", peak >> 20);
    // It goes on as ever.
    town.update(mr, "feature", &App::works(2)).await;
    town.world.gitlab.push("feature", &[(".greenroom/k8s/bomb.yaml", "# nothing\n")]).await;
    town.pass(mr).await;
    town.world.becomes(mr, "ready").await;
    town.serves(mr, &App::works(2)).await;
}
