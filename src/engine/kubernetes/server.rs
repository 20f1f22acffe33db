//! Requests to one cluster's API server, each limited in time and sorted by what its answer means.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams, Preconditions};
use kube::client::Body;
use kube::core::{ApiResource, DynamicObject, ObjectMeta, PartialObjectMeta, Request, Status};
use kube::{Api, Client, discovery};
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;

use super::names::FIELD_MANAGER;
use super::reference::{Kind, Reference};
use super::refusal::{Refusal, classify, refused_pods};

/// How long an answer may take.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

/// How many requests are under way at the same time. Each is a connection of its own (HTTP/1.1), which costs memory here
/// and there.
const AT_ONCE: usize = 32;

/// One cluster's API server.
pub(super) struct Server {
    pub client: Client,
    slots: Semaphore,
    resources: Mutex<HashMap<Kind, ApiResource>>,
}

impl Server {
    pub(super) fn new(client: Client) -> Self {
        Self { client, slots: Semaphore::new(AT_ONCE), resources: Mutex::default() }
    }

    async fn call<T>(&self, request: impl Future<Output = kube::Result<T>>) -> Result<T, Refusal> {
        let _slot = self.slots.acquire().await; // never closed
        match tokio::time::timeout(ANSWERS_WITHIN, request).await {
            Ok(answer) => answer.map_err(|error| classify(&error)),
            Err(_) => {
                Err(Refusal::Unavailable(format!("it did not answer within {} s", ANSWERS_WITHIN.as_secs())))
            }
        }
    }

    /// How the cluster calls objects of `kind`. Asked once where Kubernetes itself does not say.
    pub(super) async fn resource(&self, kind: &Kind) -> Result<ApiResource, Refusal> {
        if let Some(resource) = kind.built_in().or_else(|| self.known(kind)) {
            return Ok(resource);
        }
        let gvk = kind.gvk();
        let found = self.call(discovery::pinned_kind(&self.client, &gvk)).await;
        let (resource, _) = found.map_err(|refusal| match refusal {
            Refusal::NotFound => Refusal::UnknownKind,
            other => other,
        })?;
        self.resources.lock().unwrap_or_else(PoisonError::into_inner).insert(kind.clone(), resource.clone());
        Ok(resource)
    }

    fn known(&self, kind: &Kind) -> Option<ApiResource> {
        self.resources.lock().unwrap_or_else(PoisonError::into_inner).get(kind).cloned()
    }

    fn api(&self, namespace: &str, resource: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, resource)
    }

    /// The API for an object. What it is called becomes part of an address, which must not lead out of the namespace.
    async fn api_of(&self, namespace: &str, object: &Reference) -> Result<Api<DynamicObject>, Refusal> {
        if !object.is_plain() {
            return Err(unnamed());
        }
        let resource = self.resource(&object.kind).await?;
        Ok(self.api(namespace, &resource))
    }

    /// Server-side apply; what comes back is not needed. One whose pods would be refused is there all the same.
    pub(super) async fn apply(&self, namespace: &str, object: &Value) -> Result<(), Refusal> {
        let params = PatchParams::apply(FIELD_MANAGER).force();
        self.send_applied(namespace, object, |api, name| {
            api.patch_metadata(name, &params, &Patch::Apply(object))
        })
        .await
        .map(drop)
    }

    /// What server-side apply would make of an object.
    pub(super) async fn dry_run(&self, namespace: &str, object: &Value) -> Result<Value, Refusal> {
        let params = PatchParams::apply(FIELD_MANAGER).force().dry_run();
        let found = self
            .send_applied(namespace, object, |api, name| api.patch(name, &params, &Patch::Apply(object)))
            .await?;
        serde_json::from_slice(&found).map_err(|error| classify(&kube::Error::SerdeError(error)))
    }

    /// Sends an object, and reads what Pod Security warns of beside the answer: whoever makes the pods is refused only later, and
    /// controllers but that of Deployments tell it nowhere but in events.
    async fn send_applied(
        &self,
        namespace: &str,
        object: &Value,
        request: impl FnOnce(&Request, &str) -> Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<Bytes, Refusal> {
        let Some(reference) = Reference::of(object) else { return Err(unnamed()) };
        let api = self.api_of(namespace, &reference).await?;
        let request = request(&Request::new(api.resource_url()), &reference.name);
        let sent = async {
            let request = request.map_err(kube::Error::BuildRequest)?.map(Body::from);
            let (head, body) = self.client.send(request).await?.into_parts();
            let body = body.collect_bytes().await?;
            if head.status.is_success() {
                return Ok((head.headers, body));
            }
            let status = serde_json::from_slice::<Status>(&body).unwrap_or_else(|_| {
                Status::failure(&String::from_utf8_lossy(&body), "").with_code(head.status.as_u16())
            });
            Err(kube::Error::Api(status.boxed()))
        };
        let (headers, body) = self.call(sent).await?;
        refused_pods(&headers).map_or(Ok(body), Err)
    }

    /// Changes some fields of an object that exists.
    pub(super) async fn patch(
        &self,
        namespace: &str,
        object: &Reference,
        manager: &str,
        change: &Value,
    ) -> Result<(), Refusal> {
        let api = self.api_of(namespace, object).await?;
        let params = PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() };
        self.call(api.patch_metadata(&object.name, &params, &Patch::Merge(change))).await.map(drop)
    }

    /// An object, if it is there. Our account may not read Secrets; what would become of one if nothing changed is told to
    /// whoever may change it.
    pub(super) async fn get(&self, namespace: &str, object: &Reference) -> Result<Option<Value>, Refusal> {
        let api = self.api_of(namespace, object).await?;
        if object.kind.is_secret() {
            let params = PatchParams { dry_run: true, ..PatchParams::default() };
            return match self.call(api.patch(&object.name, &params, &Patch::Merge(json!({})))).await {
                Ok(found) => value(&found).map(Some),
                Err(Refusal::NotFound) => Ok(None),
                Err(refusal) => Err(refusal),
            };
        }
        self.call(api.get_opt(&object.name)).await?.as_ref().map(value).transpose()
    }

    /// Deletes an object with what belongs to it. `Ok(true)` says that nothing of that name is left.
    pub(super) async fn delete(&self, namespace: &str, object: &Reference) -> Result<bool, Refusal> {
        let api = self.api_of(namespace, object).await?;
        match self.call(api.delete(&object.name, &DeleteParams::background())).await {
            // The object comes back when something holds it, a status when it is gone.
            Ok(answer) => Ok(answer.is_right()),
            Err(Refusal::NotFound) => Ok(true),
            Err(refusal) => Err(refusal),
        }
    }

    /// Deletes the pod with that uid.
    pub(super) async fn delete_pod(&self, namespace: &str, name: &str, uid: &str) -> Result<(), Refusal> {
        let only = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        let params = DeleteParams::default().preconditions(only);
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        self.call(api.delete(name, &params)).await.map(drop)
    }

    /// Objects of `kind`: of one namespace, or of the cluster.
    pub(super) async fn list(
        &self,
        namespace: Option<&str>,
        kind: &Kind,
        limit: u32,
    ) -> Result<Vec<Value>, Refusal> {
        let resource = self.resource(kind).await?;
        let api = match namespace {
            Some(namespace) => self.api(namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        let list = self.call(api.list(&ListParams::default().limit(limit))).await?;
        list.items.iter().map(value).collect()
    }

    /// The last lines of a container.
    pub(super) async fn log(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        previous: bool,
        lines: usize,
    ) -> Result<String, Refusal> {
        let params = LogParams {
            container: Some(container.to_owned()),
            tail_lines: Some(i64::try_from(lines).unwrap_or(i64::MAX)),
            // A single line may be of any length.
            limit_bytes: Some(256 << 10),
            previous,
            ..LogParams::default()
        };
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        self.call(api.logs(pod, &params)).await
    }

    fn namespaces(&self) -> Api<Namespace> {
        Api::all(self.client.clone())
    }

    /// The namespace of that name with its status, if it is there.
    pub(super) async fn namespace(&self, name: &str) -> Result<Option<Namespace>, Refusal> {
        self.call(self.namespaces().get_opt(name)).await
    }

    /// Makes a namespace; a [`Refusal::Conflict`] when there is one.
    pub(super) async fn create_namespace(&self, namespace: &Namespace) -> Result<(), Refusal> {
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), dry_run: false };
        self.call(self.namespaces().create(&params, namespace)).await.map(drop)
    }

    /// Changes labels and annotations of the namespace with that uid. Never makes one.
    pub(super) async fn note(
        &self,
        name: &str,
        uid: &str,
        labels: &Map<String, Value>,
        annotations: &Map<String, Value>,
    ) -> Result<(), Refusal> {
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let mut change = json!({"metadata": {"uid": uid, "annotations": annotations}});
        if !labels.is_empty() {
            change["metadata"]["labels"] = json!(labels);
        }
        self.call(self.namespaces().patch_metadata(name, &params, &Patch::Merge(&change))).await.map(drop)
    }

    /// Begins to delete the namespace with that uid, contents first.
    pub(super) async fn delete_namespace(&self, name: &str, uid: &str) -> Result<(), Refusal> {
        let only = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        let params = DeleteParams::foreground().preconditions(only);
        self.call(self.namespaces().delete(name, &params)).await.map(drop)
    }

    /// Metadata of all namespaces that `selector` picks.
    pub(super) async fn select_namespaces(
        &self,
        selector: &str,
    ) -> Result<Vec<PartialObjectMeta<Namespace>>, Refusal> {
        let params = ListParams::default().labels(selector);
        Ok(self.call(self.namespaces().list_metadata(&params)).await?.items)
    }

    /// Deletes the object of the cluster with that uid.
    pub(super) async fn delete_volume(&self, metadata: &ObjectMeta) -> Result<(), Refusal> {
        use k8s_openapi::api::core::v1::PersistentVolume;
        let api: Api<PersistentVolume> = Api::all(self.client.clone());
        let only = Preconditions { uid: metadata.uid.clone(), resource_version: None };
        let params = DeleteParams::background().preconditions(only);
        self.call(api.delete(metadata.name.as_deref().unwrap_or_default(), &params)).await.map(drop)
    }
}

fn value(object: &DynamicObject) -> Result<Value, Refusal> {
    serde_json::to_value(object)
        .map_err(|error| Refusal::Unavailable(format!("it answers what cannot be read: {error}")))
}

fn unnamed() -> Refusal {
    Refusal::Object("its `apiVersion`, `kind` or `metadata.name` is none".into())
}
