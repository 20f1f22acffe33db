//! What people see and do in the cluster: the administrator's own hands, past greenroom's wire.

use http::{Method, Request};
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::{OnceCell, RwLock};

use super::step::Hand;
use crate::support::cluster::Cluster;

/// Kinds of objects that a preview may have, and where they are.
pub const KINDS: [(&str, &str); 8] = [
    ("Deployment", "apis/apps/v1"),
    ("Service", "api/v1"),
    ("ConfigMap", "api/v1"),
    ("NetworkPolicy", "apis/networking.k8s.io/v1"),
    ("ResourceQuota", "api/v1"),
    ("LimitRange", "api/v1"),
    ("Job", "apis/batch/v1"),
    ("Secret", "api/v1"),
];

/// The control plane of all histories, whose API server dies at times.
pub struct ControlPlane {
    cluster: Cluster,
    /// Who asks holds this for reading, so that nobody asks while it is dead.
    alive: RwLock<()>,
}

impl ControlPlane {
    /// The one of this test process. Nothing where its parts are not built.
    pub async fn start() -> Option<&'static Self> {
        static ONE: OnceCell<Option<ControlPlane>> = OnceCell::const_new();
        let started = ONE.get_or_init(|| async {
            Some(Self { cluster: Cluster::own().await?, alive: RwLock::default() })
        });
        started.await.as_ref()
    }

    /// Somebody who may do everything.
    pub async fn administrator(&'static self) -> Hands {
        let _alive = self.alive.read().await;
        Hands { plane: self, client: self.cluster.client().await }
    }

    /// See [`Cluster::wire`].
    pub async fn wire(&self) -> (crate::support::wire::Wire, std::path::PathBuf) {
        self.cluster.wire().await
    }

    /// The API server is killed and started again.
    pub async fn dies(&self) {
        let _dead = self.alive.write().await;
        self.cluster.kill_api();
        self.cluster.restart_api().await;
    }
}

/// See [`ControlPlane::administrator`].
pub struct Hands {
    plane: &'static ControlPlane,
    client: Client,
}

impl Hands {
    /// Asks the API server; nothing where there is no such thing, or no more.
    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Option<Value> {
        let _alive = self.plane.alive.read().await;
        let content =
            if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let request = Request::builder().method(&method).uri(path).header("content-type", content);
        let request = request.body(body.map(Value::to_string).unwrap_or_default().into_bytes()).unwrap();
        match self.client.request::<Value>(request).await {
            Ok(found) => Some(found),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => None,
            // What is going away takes nothing new.
            Err(kube::Error::Api(status)) if status.message.contains("being terminated") => None,
            Err(error) => panic!("{method} {path}: {error}"),
        }
    }

    pub async fn namespace(&self, name: &str) -> Option<Value> {
        self.ask(Method::GET, &format!("/api/v1/namespaces/{name}"), None).await
    }

    /// A namespace and what [`Self::create_namespace`] has put there.
    pub async fn whole(&self, name: &str) -> Option<[Value; 2]> {
        let namespace = self.namespace(name).await?;
        let map = self.ask(Method::GET, &place(name, "ConfigMap", "somebodys"), None).await?;
        Some([namespace, map])
    }

    /// Names of the namespaces that say that they are of this instance of greenroom.
    pub async fn namespaces_of(&self, instance: &str) -> Vec<String> {
        let path = format!("/api/v1/namespaces?labelSelector=greenroom.dev%2Finstance%3D{instance}");
        let name = |one: &Value| one["metadata"]["name"].as_str().expect("a name").to_owned();
        items(self.ask(Method::GET, &path, None).await).iter().map(name).collect()
    }

    pub async fn create_namespace(&self, name: &str, labels: &Value) {
        let namespace = json!({ "metadata": { "name": name, "labels": labels } });
        self.ask(Method::POST, "/api/v1/namespaces", Some(&namespace)).await.expect("a new namespace");
        self.create_map(name, "somebodys", "precious").await;
    }

    pub async fn create_map(&self, namespace: &str, name: &str, title: &str) {
        let map = json!({ "metadata": { "name": name }, "data": { "title": title } });
        self.ask(Method::POST, &format!("/api/v1/namespaces/{namespace}/configmaps"), Some(&map)).await;
    }

    pub async fn delete_namespace(&self, name: &str) {
        self.ask(Method::DELETE, &format!("/api/v1/namespaces/{name}"), None).await;
    }

    pub async fn list(&self, namespace: &str, kind: &str) -> Vec<Value> {
        items(self.ask(Method::GET, &place(namespace, kind, ""), None).await)
    }

    pub async fn pods(&self, namespace: &str) -> Vec<Value> {
        items(self.ask(Method::GET, &format!("/api/v1/namespaces/{namespace}/pods"), None).await)
    }

    async fn patch(&self, namespace: &str, kind: &str, name: &str, change: Value) -> bool {
        self.ask(Method::PATCH, &place(namespace, kind, name), Some(&change)).await.is_some()
    }

    /// Takes finalizers off the Deployment.
    pub async fn let_go(&self, namespace: &str) {
        self.patch(namespace, "Deployment", "web", json!({ "metadata": { "finalizers": null } })).await;
    }

    /// Does it; what was done, if there was anything to do it to.
    pub async fn do_it(&self, hand: Hand, namespace: &str, count: usize) -> Option<String> {
        let spec = |spec: Value| json!({ "spec": spec });
        let (kind, name, change) = match hand {
            Hand::Delete(place) => {
                let (kind, _) = KINDS[place];
                let names: Vec<_> = self.names(namespace, kind).await;
                for name in &names {
                    self.ask(Method::DELETE, &self::place(namespace, kind, name), None).await;
                }
                return (!names.is_empty()).then(|| format!("somebody deletes every {kind}: {names:?}"));
            }
            Hand::EditMaps => {
                let names = self.names(namespace, "ConfigMap").await;
                for name in &names {
                    let change = json!({ "data": { "title": "edited" } });
                    self.patch(namespace, "ConfigMap", name, change).await;
                }
                return (!names.is_empty()).then(|| format!("somebody edits {names:?}"));
            }
            Hand::DeleteNamespace => {
                self.namespace(namespace).await?;
                self.delete_namespace(namespace).await;
                return Some("somebody deletes the namespace".to_owned());
            }
            Hand::Add => {
                self.namespace(namespace).await?;
                self.create_map(namespace, &format!("added-{count}"), "by hand").await;
                return Some(format!("somebody adds added-{count}"));
            }
            Hand::Privileged => {
                let level = json!({ "pod-security.kubernetes.io/enforce": "privileged" });
                let path = format!("/api/v1/namespaces/{namespace}");
                let change = json!({ "metadata": { "labels": level } });
                self.ask(Method::PATCH, &path, Some(&change)).await?;
                return Some("somebody lets its pods do what they like".to_owned());
            }
            Hand::EditImage => {
                let containers = json!([{ "name": "web", "image": "registry.test/edited:1" }]);
                ("Deployment", "web", spec(json!({ "template": { "spec": { "containers": containers } } })))
            }
            Hand::Scale => ("Deployment", "web", spec(json!({ "replicas": 3 }))),
            Hand::OpenPolicy => ("NetworkPolicy", "greenroom", spec(json!({ "ingress": [{}, {}] }))),
            Hand::RaiseQuota => ("ResourceQuota", "greenroom", spec(json!({ "hard": { "pods": "1000" } }))),
            Hand::Hold => {
                ("Deployment", "web", json!({ "metadata": { "finalizers": ["example.com/hold"] } }))
            }
        };
        self.patch(namespace, kind, name, change).await.then(|| format!("somebody does {hand:?}"))
    }

    /// Names of greenroom's objects of a kind.
    async fn names(&self, namespace: &str, kind: &str) -> Vec<String> {
        let mut found = self.list(namespace, kind).await;
        found.retain(|one| one["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "greenroom");
        found.iter().filter_map(|one| one["metadata"]["name"].as_str()).map(str::to_owned).collect()
    }
}

fn items(list: Option<Value>) -> Vec<Value> {
    list.and_then(|mut list| serde_json::from_value(list["items"].take()).ok()).unwrap_or_default()
}

/// Where an object is, or all of the kind where it has no name.
fn place(namespace: &str, kind: &str, name: &str) -> String {
    let (_, api) = KINDS.iter().find(|(known, _)| *known == kind).expect("a kind");
    let plural = kind.to_lowercase();
    let plural = plural.strip_suffix('y').map_or_else(|| format!("{plural}s"), |stem| format!("{stem}ies"));
    format!("/{api}/namespaces/{namespace}/{plural}/{name}").trim_end_matches('/').to_owned()
}
