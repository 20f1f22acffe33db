//! What the watches have seen, reduced to what is needed: a preview takes some kilobytes, not its objects.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kube::core::ObjectMeta;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::diagnose::{self, Finding};
use super::names::{self, DIGEST, ERRAND, FIELD_MANAGER};
use super::ready::{Readiness, readiness};
use super::record::Record;
use super::reference::{Kind, Reference};
use crate::preview::PreviewKey;

/// What was seen of a namespace of ours.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub uid: String,
    /// Digest of the order that it was last applied for.
    pub digest: Option<String>,
    /// Sums up which fields are ours; `0` where none are.
    pub fields: u32,
    pub deleting: bool,
    /// Whether its controller has looked at its newest generation.
    pub observed: bool,
    pub finalizers: Vec<String>,
    pub replicas: Option<i64>,
    pub suspended: bool,
    /// Which revision of its owner's template it is, or of its own template is the newest.
    pub revision: Option<String>,
    pub owner: Option<Owner>,
    /// What it belongs to when it runs beside the preview and is no part of it.
    pub errand: Option<String>,
    pub readiness: Readiness,
    pub finding: Option<Finding>,
    pub containers: Vec<String>,
}

/// The controller of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pub kind: String,
    pub name: String,
    pub uid: String,
}

/// A namespace of ours.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub uid: String,
    pub key: PreviewKey,
    pub deleting: bool,
    /// Its labels of Pod Security.
    pub pod_security: BTreeMap<String, String>,
    pub record: Record,
}

/// [`Kind::id`] and name of an object.
pub(super) type Id = (String, String);

/// How the watch of a kind stands.
#[derive(Debug, Clone, Default)]
pub(super) struct Watched {
    /// Whether all there is was read.
    pub synced: bool,
    /// Why it does not get on, if it does not.
    pub trouble: Option<String>,
}

/// All of it, for one cluster.
#[derive(Debug, Default)]
pub(super) struct Cache {
    pub places: HashMap<String, Place>,
    pub objects: HashMap<String, BTreeMap<Id, Seen>>,
    pub watches: HashMap<Kind, Watched>,
    /// How often a watch got on again after a trouble.
    pub recoveries: u64,
}

impl Cache {
    /// What was seen of `object` in `namespace`.
    pub(super) fn get(&self, namespace: &str, object: &Reference) -> Option<&Seen> {
        self.objects.get(namespace)?.get(&(object.kind.id(), object.name.clone()))
    }

    /// The objects of one kind in `namespace`, by name.
    pub(super) fn all<'a>(
        &'a self,
        namespace: &str,
        kind: &'a str,
    ) -> impl Iterator<Item = (&'a String, &'a Seen)> {
        let objects = self.objects.get(namespace).into_iter().flatten();
        objects.filter(move |((of, _), _)| of == kind).map(|((_, name), seen)| (name, seen))
    }

    pub(super) fn insert(&mut self, namespace: &str, kind: &str, name: &str, seen: Seen) {
        self.objects
            .entry(namespace.to_owned())
            .or_default()
            .insert((kind.to_owned(), name.to_owned()), seen);
    }

    pub(super) fn remove(&mut self, namespace: &str, kind: &str, name: &str) {
        let Some(objects) = self.objects.get_mut(namespace) else { return };
        objects.remove(&(kind.to_owned(), name.to_owned()));
        if objects.is_empty() {
            self.objects.remove(namespace);
        }
    }

    /// Forgets the objects of `kind` that are not among `found` (namespace and name); where those were.
    pub(super) fn retain(&mut self, kind: &str, found: &BTreeSet<(String, String)>) -> Vec<String> {
        let gone: Vec<(String, String)> = self
            .objects
            .iter()
            .flat_map(|(namespace, objects)| objects.keys().map(move |(of, name)| (namespace, of, name)))
            .filter(|(_, of, _)| *of == kind)
            .map(|(namespace, _, name)| (namespace.clone(), name.clone()))
            .filter(|at| !found.contains(at))
            .collect();
        for (namespace, name) in &gone {
            self.remove(namespace, kind, name);
        }
        gone.into_iter().map(|(namespace, _)| namespace).collect()
    }

    /// Why the namespaces were never read, if that is so.
    pub(super) fn trouble(&self) -> Option<String> {
        let namespaces = self.watches.get(&Kind::new("v1", "Namespace"))?;
        if namespaces.synced { None } else { namespaces.trouble.clone() }
    }

    /// Whether all that is watched was read at least once, or cannot be.
    pub(super) fn synced(&self) -> bool {
        !self.watches.is_empty()
            && self.watches.values().all(|watched| watched.synced || watched.trouble.is_some())
    }
}

impl Place {
    /// From a namespace's metadata; `None` when it does not name its merge request.
    pub(super) fn of(metadata: &ObjectMeta) -> Option<Self> {
        let (empty, labels) = (BTreeMap::new(), metadata.labels.as_ref()?);
        let pod_security = labels.iter().filter(|(name, _)| name.starts_with(names::POD_SECURITY));
        Some(Self {
            uid: metadata.uid.clone()?,
            key: names::key(labels)?,
            pod_security: pod_security.map(|(name, level)| (name.clone(), level.clone())).collect(),
            deleting: metadata.deletion_timestamp.is_some(),
            record: Record::read(metadata.annotations.as_ref().unwrap_or(&empty)),
        })
    }
}

impl Seen {
    /// From an object as the API server shows it; for an inert kind, its metadata is enough.
    pub(super) fn of(kind: &str, metadata: &ObjectMeta, object: &Value) -> Self {
        let annotation = |name: &str| metadata.annotations.as_ref()?.get(name).cloned();
        let label = |name: &str| metadata.labels.as_ref()?.get(name).cloned();
        let owner = metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
        let number = |pointer| object.pointer(pointer).and_then(Value::as_i64);
        let containers = object.pointer("/spec/containers").and_then(Value::as_array);
        Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            digest: annotation(DIGEST),
            fields: fields(metadata),
            deleting: metadata.deletion_timestamp.is_some(),
            observed: number("/status/observedGeneration") >= metadata.generation,
            finalizers: metadata.finalizers.clone().unwrap_or_default(),
            replicas: number("/spec/replicas"),
            suspended: object.pointer("/spec/suspend").and_then(Value::as_bool) == Some(true),
            revision: match kind {
                "StatefulSet" => {
                    object.pointer("/status/updateRevision").and_then(Value::as_str).map(str::to_owned)
                }
                "Pod" => label("controller-revision-hash"),
                _ => annotation("deployment.kubernetes.io/revision"),
            },
            owner: owner.map(|owner| Owner {
                kind: owner.kind.clone(),
                name: owner.name.clone(),
                uid: owner.uid.clone(),
            }),
            errand: label(ERRAND),
            readiness: readiness(kind, object),
            finding: (kind == "Pod").then(|| diagnose::pod(object)).flatten(),
            containers: containers
                .into_iter()
                .flatten()
                .filter_map(|container| Some(container["name"].as_str()?.to_owned()))
                .collect(),
        }
    }
}

/// Sums up which fields of an object our server-side apply owns: when somebody else changes one, it is ours no longer.
/// Counts that sleeping, waking and autoscalers change are left out.
fn fields(metadata: &ObjectMeta) -> u32 {
    let ours = metadata.managed_fields.iter().flatten().find(|entry| {
        entry.manager.as_deref() == Some(FIELD_MANAGER)
            && entry.operation.as_deref() == Some("Apply")
            && entry.subresource.as_deref().unwrap_or_default().is_empty()
    });
    let Some(fields) = ours.and_then(|entry| entry.fields_v1.as_ref()) else { return 0 };
    let mut fields = fields.0.clone();
    if let Some(spec) = fields.get_mut("f:spec").and_then(Value::as_object_mut) {
        spec.remove("f:replicas");
        spec.remove("f:suspend");
    }
    // Which digest we wrote says nothing about others; that it is ours does.
    let sum = Sha256::digest(fields.to_string());
    u32::from_be_bytes([sum[0], sum[1], sum[2], sum[3]])
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// What the watch of `object`'s kind would see.
    pub(in crate::engine::kubernetes) fn seen(object: &Value) -> Seen {
        let metadata: ObjectMeta = serde_json::from_value(object["metadata"].clone()).unwrap();
        Seen::of(object["kind"].as_str().unwrap(), &metadata, object)
    }

    fn managed(fields: &Value) -> u32 {
        seen(&json!({"kind": "Deployment", "metadata": {"managedFields": [
            {"manager": "greenroom-sleep", "operation": "Update", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
            {"manager": "greenroom", "operation": "Apply", "fieldsV1": fields},
        ]}}))
        .fields
    }

    #[test]
    fn a_field_that_somebody_takes_shows_and_a_count_does_not() {
        let before = managed(&json!({"f:spec": {"f:replicas": {}, "f:template": {}}}));
        assert_eq!(before, managed(&json!({"f:spec": {"f:template": {}}})));
        assert_ne!(before, managed(&json!({"f:spec": {"f:replicas": {}}})));
        assert_eq!(seen(&json!({"kind": "Service", "metadata": {}})).fields, 0);
    }

    #[test]
    fn what_a_list_does_not_show_is_gone() {
        let mut cache = Cache::default();
        for (namespace, kind, name) in
            [("a", "Pod", "1"), ("a", "Pod", "2"), ("a", "Job", "2"), ("b", "Pod", "1")]
        {
            cache.insert(namespace, kind, name, seen(&json!({"kind": kind, "metadata": {}})));
        }
        let found = [("a".to_owned(), "1".to_owned())].into();
        let mut gone = cache.retain("Pod", &found);
        gone.sort();
        assert_eq!(gone, ["a", "b"]);
        let left: Vec<&Id> = cache.objects["a"].keys().collect();
        assert_eq!(left, [&("Job".to_owned(), "2".to_owned()), &("Pod".to_owned(), "1".to_owned())]);
        assert!(!cache.objects.contains_key("b"));
    }
}
