//! Makes what was rendered ours: labels, the digest, and what every pod template gets.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};

use super::Profile;
use super::names::{DIGEST, GREENROOM, MANAGED_BY, PULL_SECRET};

/// Metadata that the API server keeps and nobody writes.
pub(super) const KEPT_BY_SERVER: [&str; 7] = [
    "managedFields",
    "resourceVersion",
    "uid",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "selfLink",
];

/// Where the kinds of Kubernetes keep their pod template; a Pod is its own.
fn template(kind: &str) -> Option<&'static str> {
    match kind {
        "Pod" => Some(""),
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "ReplicationController" | "Job" => {
            Some("/spec/template")
        }
        "CronJob" => Some("/spec/jobTemplate/spec/template"),
        _ => None,
    }
}

/// `object` as it is sent: in `namespace`, with our labels on it and its pods, and with no token for pods that do not ask for
/// one. The volumes of a StatefulSet get the labels too.
pub(super) fn prepare(
    object: &Value,
    namespace: &str,
    labels: &BTreeMap<String, String>,
    digest: &str,
    profile: &Profile,
) -> Value {
    let mut object = object.clone();
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    label(&mut object, labels);
    select(&mut object, &kind);
    if kind == "Secret" && object["apiVersion"] == "v1" {
        encode(&mut object);
    }
    if let Some(metadata) = map(&mut object, "metadata") {
        // Of an object that was copied out of a cluster.
        metadata.retain(|name, _| !KEPT_BY_SERVER.contains(&name.as_str()));
        metadata.insert("namespace".into(), json!(namespace));
    }
    if let Some(object) = object.as_object_mut() {
        object.remove("status");
    }
    if let Some(annotations) = map(&mut object["metadata"], "annotations") {
        annotations.insert(DIGEST.into(), json!(digest));
    }
    for job in object.pointer_mut("/spec/jobTemplate").into_iter().filter(|_| kind == "CronJob") {
        label(job, labels);
    }
    let claims = object.pointer_mut("/spec/volumeClaimTemplates").and_then(Value::as_array_mut);
    for claim in claims.into_iter().flatten() {
        label(claim, labels);
    }
    if let Some(pod) = template(&kind).and_then(|path| object.pointer_mut(path)) {
        label(pod, labels);
        if let Some(spec) = map(pod, "spec") {
            // One that asks for it was allowed to.
            spec.entry("automountServiceAccountToken").or_insert(json!(false));
            if profile.pull_secret.is_some() {
                pull_with(spec);
            }
        }
    }
    object
}

/// Takes the count out of what an autoscaler of the same order scales: two who set it would fight.
pub(super) fn leave_counts_to_autoscalers(objects: &mut [Value]) {
    let scaled: Vec<(Value, Value)> = objects
        .iter()
        .filter(|object| object["kind"] == "HorizontalPodAutoscaler")
        .map(|object| &object["spec"]["scaleTargetRef"])
        .map(|target| (target["kind"].clone(), target["name"].clone()))
        .collect();
    for object in objects {
        if scaled.contains(&(object["kind"].clone(), object["metadata"]["name"].clone()))
            && let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut)
        {
            spec.remove("replicas");
        }
    }
}

/// Has Jobs stay when they have ended: one that removes itself could not be told from one that never was, and would run again
/// with the next order.
pub(super) fn keep_jobs(objects: &mut [Value]) {
    for job in objects.iter_mut().filter(|object| object["kind"] == "Job") {
        if let Some(spec) = job.get_mut("spec").and_then(Value::as_object_mut) {
            spec.remove("ttlSecondsAfterFinished");
        }
    }
}

fn label(object: &mut Value, labels: &BTreeMap<String, String>) {
    let Some(metadata) = map(object, "metadata") else { return };
    if let Some(Value::Object(present)) = metadata.get_mut("labels") {
        present.extend(labels.iter().map(|(name, value)| (name.clone(), json!(value))));
    } else {
        metadata.insert("labels".into(), json!(labels));
    }
}

/// Keeps selectors right that name a label of ours, as Kustomize's `commonLabels` make them: its value is another now.
fn select(object: &mut Value, kind: &str) {
    let by_labels = if kind == "Service" { object.pointer_mut("/spec/selector") } else { None };
    if let Some(Value::Object(labels)) = by_labels {
        select_ours(labels);
    }
    each_map(object, &mut |map| {
        if let Some(Value::Object(labels)) = map.get_mut("matchLabels") {
            select_ours(labels);
        }
    });
}

fn select_ours(labels: &mut Map<String, Value>) {
    if let Some(value) = labels.get_mut(MANAGED_BY) {
        *value = json!(GREENROOM);
    }
}

fn each_map(value: &mut Value, change: &mut impl FnMut(&mut Map<String, Value>)) {
    match value {
        Value::Object(map) => {
            change(map);
            map.values_mut().for_each(|value| each_map(value, change));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| each_map(value, change)),
        _ => {}
    }
}

/// Writes `stringData` as `data`, as the API server would: but what is in `data` is ours by name, and goes when it is no longer
/// written.
fn encode(secret: &mut Value) {
    let Some(plain) = secret["stringData"].as_object().cloned() else { return };
    let (texts, others): (Map<_, _>, Map<_, _>) = plain.into_iter().partition(|(_, value)| value.is_string());
    if let Some(data) = map(secret, "data") {
        let texts = texts.iter().filter_map(|(name, value)| Some((name, value.as_str()?)));
        data.extend(texts.map(|(name, text)| (name.clone(), json!(BASE64_STANDARD.encode(text)))));
    }
    if let Some(fields) = secret.as_object_mut() {
        fields.remove("stringData");
        if !others.is_empty() {
            fields.insert("stringData".into(), Value::Object(others));
        }
    }
}

fn pull_with(spec: &mut Map<String, Value>) {
    let ours = json!({"name": PULL_SECRET});
    match spec.get_mut("imagePullSecrets") {
        Some(Value::Array(secrets)) if secrets.contains(&ours) => {}
        Some(Value::Array(secrets)) => secrets.push(ours),
        _ => {
            spec.insert("imagePullSecrets".into(), json!([ours]));
        }
    }
}

/// The map called `name` in an object, made where it is missing.
fn map<'a>(object: &'a mut Value, name: &str) -> Option<&'a mut Map<String, Value>> {
    let entry = object.as_object_mut()?.entry(name).or_insert(Value::Null);
    if entry.is_null() {
        *entry = json!({});
    }
    entry.as_object_mut()
}

#[cfg(test)]
mod tests {
    use super::super::guards::tests::profile;
    use super::*;
    use crate::preview::PreviewKey;

    fn prepared(object: &Value) -> Value {
        let mut profile = profile();
        profile.pull_secret = Some("{}".into());
        let labels = super::super::names::labels("ours", PreviewKey::of_mr(42, 7));
        prepare(object, "web-42-mr-7", &labels, "d1", &profile)
    }

    #[test]
    fn pods_get_our_labels_and_no_token_unless_they_may() {
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"app": "web"}},
            "spec": {"template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": []},
            }},
        });
        insta::assert_snapshot!(serde_saphyr::to_string(&prepared(&deployment)).unwrap());
        let asking = prepared(&json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "job"},
            "spec": {"automountServiceAccountToken": true, "containers": []},
        }));
        assert_eq!(asking["spec"]["automountServiceAccountToken"], true);
    }

    #[test]
    fn the_pods_of_a_cron_job_and_the_volumes_of_a_stateful_set_are_ours_too() {
        let cron = prepared(&json!({
            "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "tidy"},
            "spec": {"jobTemplate": {"spec": {"template": {"spec": {"containers": []}}}}},
        }));
        let job = &cron["spec"]["jobTemplate"];
        assert_eq!(job["metadata"]["labels"]["greenroom.dev/instance"], "ours");
        assert_eq!(job["spec"]["template"]["spec"]["automountServiceAccountToken"], false);
        let set = prepared(&json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"},
            "spec": {"volumeClaimTemplates": [{"metadata": {"name": "data"}}]},
        }));
        let claim = &set["spec"]["volumeClaimTemplates"][0];
        assert_eq!(claim["metadata"]["labels"]["greenroom.dev/merge-request"], "7");
    }

    #[test]
    fn selectors_by_a_label_of_ours_still_select() {
        let labels = json!({"app": "web", "app.kubernetes.io/managed-by": "kustomize"});
        let deployment = prepared(&json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
            "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}}},
        }));
        let made = &deployment["spec"]["template"]["metadata"]["labels"];
        let asked = &deployment["spec"]["selector"]["matchLabels"];
        assert_eq!(asked["app.kubernetes.io/managed-by"], made["app.kubernetes.io/managed-by"]);
        assert_eq!(asked.as_object().unwrap().len(), 2);
        let service = prepared(&json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"selector": labels},
        }));
        assert_eq!(service["spec"]["selector"], *asked);
    }

    #[test]
    fn the_texts_of_a_secret_are_sent_as_its_data() {
        let secret = prepared(&json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db"},
            "data": {"user": "YXBw", "password": "b2xk"}, "stringData": {"password": "new", "port": 5432},
        }));
        assert_eq!(secret["data"], json!({"user": "YXBw", "password": "bmV3"}));
        // The API server says what is wrong with it.
        assert_eq!(secret["stringData"], json!({"port": 5432}));
    }

    #[test]
    fn an_autoscaler_has_no_rival() {
        let deployment =
            |name: &str| json!({"kind": "Deployment", "metadata": {"name": name}, "spec": {"replicas": 2}});
        let target = json!({"scaleTargetRef": {"kind": "Deployment", "name": "web"}});
        let scaler = json!({"kind": "HorizontalPodAutoscaler", "spec": target});
        let mut objects = [deployment("web"), deployment("worker"), scaler];
        leave_counts_to_autoscalers(&mut objects);
        assert_eq!((&objects[0]["spec"], &objects[1]["spec"]), (&json!({}), &json!({"replicas": 2})));
    }

    #[test]
    fn a_kind_that_has_no_pods_gets_labels_only() {
        let map = prepared(&json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "kube-system"},
        }));
        assert_eq!(map["metadata"]["namespace"], "web-42-mr-7");
        assert_eq!(map.get("spec"), None);
    }
}
