//! The engine for clusters on a real control plane. No kubelet runs there: kwok plays them (`support/cluster`).

mod conversations;
mod crashes;
mod diagnosis;
mod guards;
mod presets;
mod revisions;
mod rights;

use std::{
    collections::BTreeMap,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use greenroom::{
    clock::Clock,
    engine::{
        Engine, Errand, Input, Order,
        kubernetes::{Kubernetes, PodSecurity, Profile},
    },
    preview::{PreviewKey, PreviewName},
    render::{Manifest, Source},
};
use kube::Client;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{App, Bench, commit};
use crate::support::cluster::{Cluster, kubelet::Says};

/// An image of a program that works.
pub const IMAGE: &str = "registry.test/acme/web:1";

/// An engine with an instance id of its own: namespaces belong to the whole cluster.
pub struct Room<C = &'static Cluster> {
    pub cluster: C,
    pub kubernetes: Arc<Kubernetes>,
    client: Client,
    instance: String,
}

impl Room {
    /// On the cluster that all tests share.
    pub async fn new(test: &str) -> Option<Self> {
        let cluster = Cluster::start().await?;
        Some(Self::on(cluster, test).await)
    }
}

impl<C: Deref<Target = Cluster> + Send + Sync> Room<C> {
    pub async fn on(cluster: C, test: &str) -> Self {
        let client = cluster.client().await;
        Self::with(cluster, client, test)
    }

    /// As somebody in particular.
    pub fn with(cluster: C, client: Client, test: &str) -> Self {
        let instance = test.replace('_', "-").chars().take(60).collect::<String>();
        let instance = instance.trim_matches('-').to_owned();
        let kubernetes = Kubernetes::connect(client.clone(), "test", &instance, Clock);
        Self { cluster, kubernetes, client, instance }
    }

    /// An object of a preview as the API server has it.
    pub async fn get(&self, kind: &str, name: &PreviewName, object: &str) -> Option<Value> {
        self.cluster.get(kind, name.as_str(), object).await
    }
}

#[async_trait]
impl<C: Deref<Target = Cluster> + Send + Sync> Bench for Room<C> {
    fn engine(&self) -> Arc<dyn Engine> {
        Arc::clone(&self.kubernetes) as Arc<dyn Engine>
    }

    fn order(&self, name: &PreviewName, sha: char, app: App) -> Order {
        let objects = match app {
            App::Works(version) => {
                vec![deployment("web", IMAGE, json!({"VERSION": version.to_string()})), service("web")]
            }
            App::Broken => {
                let mut broken = deployment("web", IMAGE, json!({}));
                broken["spec"]["replicas"] = json!(-1);
                vec![broken]
            }
        };
        order(name, sha, objects, profile())
    }

    fn misdirected(&self, name: &PreviewName) -> Order {
        let archive = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let input = Input::Artifact { archive, root: "".into(), spa: false };
        Order { input, ..self.order(name, 'a', App::Works(1)) }
    }

    async fn reopen(&mut self) {
        self.kubernetes = Kubernetes::connect(self.client.clone(), "test", &self.instance, Clock);
    }
}

/// A preview that no other test has.
pub fn fresh() -> (PreviewName, PreviewKey) {
    static NEXT: AtomicU64 = AtomicU64::new(1000);
    super::preview(NEXT.fetch_add(1, Ordering::Relaxed))
}

/// An order of these objects, its digest of all that is in it.
pub fn order(name: &PreviewName, sha: char, objects: Vec<Value>, profile: Profile) -> Order {
    let digest = hex::encode(Sha256::digest(format!("{objects:?} {:?}", profile.quota)));
    let manifest = |(at, object)| Manifest {
        object,
        source: Source { file: "app.yaml".into(), document: at + 1, line: Some(1) },
    };
    let objects = objects.into_iter().enumerate().map(manifest).collect();
    Order {
        key: name.key().unwrap(),
        name: name.clone(),
        sha: commit(sha),
        digest,
        input: Input::Manifests { objects, profile: Arc::new(profile) },
    }
}

/// A program that runs beside a preview; one that fails ends with exit code 3.
pub fn errand(name: &PreviewName, run: &str, ends_well: bool) -> Errand {
    let image = if ends_well { IMAGE.to_owned() } else { Says::Fails.image("registry.test/acme") };
    let mut template = pod(&image);
    template["spec"]["restartPolicy"] = json!("Never");
    let object = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": format!("check-{run}")},
        "spec": {"backoffLimit": 0, "template": template},
    });
    Errand {
        key: name.key().unwrap(),
        name: name.clone(),
        run: run.to_owned(),
        job: Manifest { object, source: Source { file: "check.yaml".into(), document: 1, line: Some(1) } },
        profile: Arc::new(profile()),
    }
}

/// An order's input without anything in it.
pub fn nothing() -> Input {
    Input::Manifests { objects: Vec::new(), profile: Arc::new(profile()) }
}

/// Guards that let everything in these tests pass.
pub fn profile() -> Profile {
    let amounts = |cpu: &str, memory: &str| {
        BTreeMap::from([("cpu".to_owned(), cpu.to_owned()), ("memory".to_owned(), memory.to_owned())])
    };
    Profile {
        pod_security: PodSecurity::Restricted,
        quota: BTreeMap::from([("pods".to_owned(), "20".to_owned())]),
        default_limits: amounts("100m", "64Mi"),
        default_requests: amounts("10m", "16Mi"),
        ingress_namespace: "ingress-nginx".into(),
        egress: Vec::new(),
        pull_secret: None,
        secrets: BTreeMap::new(),
        annotations: BTreeMap::new(),
        ready_within: Duration::from_mins(10),
    }
}

/// A Deployment of one pod with this environment.
#[expect(clippy::needless_pass_by_value, reason = "reads best where it is called")]
pub fn deployment(name: &str, image: &str, env: Value) -> Value {
    let env: Vec<Value> = env
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    let mut template = pod(image);
    template["spec"]["containers"][0]["env"] = json!(env);
    template["metadata"] = json!({"labels": {"app": name}});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": template},
    })
}

/// A pod template as Pod Security's level `restricted` wants it.
pub fn pod(image: &str) -> Value {
    json!({"spec": {
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{
            "name": "web", "image": image,
            "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}},
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
        }],
    }})
}

pub fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]},
    })
}

pub fn ingress(name: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": name},
        "spec": {"rules": [{"host": format!("{name}.example"), "http": {"paths": [{
            "path": "/", "pathType": "Prefix", "backend": {"service": {"name": name, "port": {"number": 80}}},
        }]}}]},
    })
}
