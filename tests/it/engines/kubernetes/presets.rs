//! Every preset with every option it has, on a real API server, in a namespace with its guards under Pod Security `restricted`:
//! accepted, run, and the same again changes nothing.

use std::path::Path;

use greenroom::{
    engine::Engine as _,
    preview::PreviewName,
    render::{
        ProjectFile, Workload,
        kubernetes::{Exposure, ManifestRules, Tools, Values, presets, render},
    },
};
use secrecy::SecretString;
use serde_json::{Value, json};

use super::{Room, fresh, order, profile};
use crate::{
    engines::{commit, run, stopped},
    support::{PATIENCE, cluster::Cluster, until},
};

/// The least that a cluster with a Gateway has.
const HTTP_ROUTES: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: httproutes.gateway.networking.k8s.io
  annotations: {api-approved.kubernetes.io: 'https://github.com/kubernetes-sigs/gateway-api'}
spec:
  group: gateway.networking.k8s.io
  scope: Namespaced
  names: {kind: HTTPRoute, plural: httproutes, singular: httproute}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
";

/// From now on the cluster knows HTTPRoutes.
pub async fn know_routes(cluster: &Cluster) {
    cluster.apply(HTTP_ROUTES).await;
    until("routes are known", PATIENCE, || async {
        let known = cluster.kubectl(&["api-resources", "--api-group=gateway.networking.k8s.io"], "").await;
        if known.contains("HTTPRoute") { Ok(()) } else { Err(known) }
    })
    .await;
}

/// What a `.greenroom.yml` may say beside preset and image, and which presets it is for.
const OPTIONS: [(&str, &[&str]); 18] = [
    ("", ALL),
    ("env: {LOG_LEVEL: debug, TITLE: '{{ title }}'}", ALL),
    ("secrets: [API_KEY]", ALL),
    ("replicas: 2", ALL),
    ("resources: {requests: {cpu: 20m, memory: 32Mi}, limits: {memory: 128Mi}}", ALL),
    ("command: [/bin/app]", ALL),
    ("args: [--url, '{{ url }}']", ALL),
    ("user: 1000", ALL),
    ("writable_root: true", ALL),
    ("volumes: [{name: cache, path: /cache}]", ALL),
    ("volumes: [{name: files, path: /var/lib/app, size: 1Gi}]", ALL),
    ("metrics: {path: /metrics, port: 9090}", ALL),
    ("autoscale: {min: 1, max: 3, cpu: 70}", ALL),
    ("port: 3000", WEBS),
    ("probe: {http: /healthz, starts_within: 5m}", WEBS),
    ("probe: {tcp: 8081}", WEBS),
    ("probe: {command: [bin/ready]}", WEBS),
    ("seed: {command: [bin/seed]}", &["web-postgres"]),
];
const ALL: &[&str] = &["web", "web-postgres", "worker"];
const WEBS: &[&str] = &["web", "web-postgres"];

/// How an operator lets a preview be reached.
fn exposures() -> [(Exposure, Option<&'static str>); 3] {
    let gateway = Exposure::Gateway {
        name: "public".into(),
        namespace: "gateways".into(),
        section: Some("https".into()),
    };
    [
        (Exposure::Ingress { class: Some("nginx".into()) }, Some("wildcard")),
        (gateway, None),
        (Exposure::Ingress { class: None }, None),
    ]
}

async fn objects(preset: &str, option: &str, name: &PreviewName, rules: &ManifestRules) -> Vec<Value> {
    let option = if option.is_empty() { String::new() } else { format!("  {option}\n") };
    let text = format!(
        "version: 1\nengine: kubernetes\nkubernetes:\n  preset: {preset}\n  image: registry.test/acme/web:1\n{option}"
    );
    let file = ProjectFile::parse(&text).unwrap_or_else(|error| panic!("{error}:\n{text}"));
    let Workload::Kubernetes(settings) = file.workload else { panic!("{text}") };
    let host = format!("{name}.preview.example.com");
    let values = Values {
        sha: commit('a'),
        head_sha: commit('a'),
        name: name.clone(),
        url: format!("https://{host}"),
        host,
        iid: Some(7),
        title: "Add \"search\": {now}\n---\nkind: Secret".into(),
        branch: "feature/search".into(),
        author: "ada".into(),
        registry_image: None,
        image: None,
        configured: [].into(),
        password_key: Some(SecretString::from("a key of the server's own")),
    };
    let rendered = render(&settings, Path::new("/nowhere"), &values, rules, &Tools::default()).await;
    let manifests = rendered.unwrap_or_else(|error| panic!("{error}:\n{text}"));
    manifests.into_iter().map(|manifest| manifest.object).collect()
}

/// Claims that need a volume.
const CLAIMS: [&str; 2] = ["files", "data-postgres-0"];

/// What a provisioner would make for these claims: there is none here.
pub fn volumes(instance: &str, name: &PreviewName) -> String {
    let volume = |claim: &str| {
        json!({
            "apiVersion": "v1", "kind": "PersistentVolume",
            "metadata": {
                "name": format!("{name}-{claim}"),
                "labels": {"app.kubernetes.io/managed-by": "greenroom", "greenroom.dev/instance": instance},
            },
            "spec": {
                "capacity": {"storage": "10Gi"}, "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": "/nowhere"},
                "claimRef": {"namespace": name.as_str(), "name": claim},
            },
        })
        .to_string()
    };
    CLAIMS.map(volume).join("\n---\n")
}

/// Somebody removes what [`volumes`] made.
pub async fn remove_volumes(cluster: &Cluster, name: &PreviewName) {
    let names = CLAIMS.map(|claim| format!("{name}-{claim}"));
    let args = [
        "delete",
        "persistentvolume",
        names[0].as_str(),
        names[1].as_str(),
        "--wait=false",
        "--ignore-not-found",
    ];
    cluster.kubectl(&args, "").await;
}

/// What a Gateway's controller says of a route.
pub async fn accepts_routes(cluster: &Cluster, name: &PreviewName) {
    let parent = json!({"name": "public", "namespace": "gateways", "sectionName": "https"});
    let condition = |kind: &str, generation: &Value| {
        json!({
            "type": kind, "status": "True", "reason": kind, "message": "", "observedGeneration": generation,
            "lastTransitionTime": "2026-11-21T00:00:00Z",
        })
    };
    loop {
        for route in cluster.list("httproutes.gateway.networking.k8s.io", name.as_str()).await {
            let generation = &route["metadata"]["generation"];
            let conditions = [condition("Accepted", generation), condition("ResolvedRefs", generation)];
            let parents =
                [json!({"parentRef": parent, "controllerName": "test.example/x", "conditions": conditions})];
            if route["status"]["parents"] != json!(parents) {
                let patch = json!({"status": {"parents": parents}}).to_string();
                let route = route["metadata"]["name"].as_str().unwrap();
                let args =
                    ["patch", "httproute", route, "--namespace", name.as_str(), "--subresource=status"];
                cluster.kubectl(&[&args[..], &["--type=merge", "--patch", &patch]].concat(), "").await;
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

async fn holds(room: &Room, preset: &str) {
    let (name, _) = fresh();
    room.cluster.apply(&volumes(&room.instance, &name)).await;
    let gateway = accepts_routes(room.cluster, &name);
    let previews = async {
        let options: Vec<&str> =
            OPTIONS.iter().filter(|(_, of)| of.contains(&preset)).map(|(option, _)| *option).collect();
        let odd = ["probe: {tcp", "probe: {command", "volumes: [{name: cache"];
        let agree = |option: &&&str| !odd.iter().any(|odd| option.starts_with(odd));
        let together = options.iter().filter(agree).copied().collect::<Vec<_>>().join("\n  ");
        // A claim that goes leaves its volume to nobody else: those that have one come last.
        let (last, first): (Vec<&str>, Vec<&str>) =
            options.iter().partition(|option| option.contains("size:"));
        let options: Vec<&str> = first.into_iter().chain(last).chain([together.as_str()]).collect();
        let shapes = options.iter().zip(exposures().into_iter().cycle());
        for (option, (exposure, tls_secret)) in shapes {
            let rules = ManifestRules {
                exposure,
                tls_secret: tls_secret.map(str::to_owned),
                secrets: ["API_KEY".to_owned()].into(),
                ..ManifestRules::default()
            };
            let mut given = profile();
            given.secrets = [("API_KEY".to_owned(), "hush-hush".into())].into();
            given.pull_secret = Some(r#"{"auths": {"registry.test": {"auth": "YTpi"}}}"#.into());
            let next =
                || async { order(&name, 'a', objects(preset, option, &name, &rules).await, given.clone()) };
            let told = format!("{preset} with `{option}` by {:?}", rules.exposure);
            let status = run(&*room.kubernetes, next().await).await;
            assert!(status.serving.is_some() && status.pending.is_none(), "{told}: {status:#?}");
            let changes = room.kubernetes.plan(&next().await).await.unwrap();
            assert_eq!(changes, [], "{told}: the same again changes something");
        }
    };
    tokio::select! {
        () = gateway => unreachable!("it has no end"),
        () = previews => {}
    }
    stopped(&*room.kubernetes, &name).await;
}

#[tokio::test]
async fn every_preset_runs_with_every_option_it_has() {
    let Some(cluster) = Cluster::start().await else { return };
    know_routes(cluster).await;
    let room = Room::on(cluster, "presets").await;
    let names: Vec<&str> = presets().map(|(name, _)| name).collect();
    assert_eq!(names, ALL);
    tokio::join!(holds(&room, "web"), holds(&room, "web-postgres"), holds(&room, "worker"));
}
