//! Makes what was rendered ours: labels, the digest, and what every pod template gets.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Profile;
use super::names::{DIGEST, PULL_SECRET};

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

/// `object` as it is sent: in `namespace`, with our labels on it and its pods, and with no token for the pods. The volumes
/// of a StatefulSet get the labels too.
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
    if let Some(metadata) = map(&mut object, "metadata") {
        metadata.insert("namespace".into(), json!(namespace));
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
            spec.insert("automountServiceAccountToken".into(), json!(false));
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

fn label(object: &mut Value, labels: &BTreeMap<String, String>) {
    let Some(metadata) = map(object, "metadata") else { return };
    if let Some(Value::Object(present)) = metadata.get_mut("labels") {
        present.extend(labels.iter().map(|(name, value)| (name.clone(), json!(value))));
    } else {
        metadata.insert("labels".into(), json!(labels));
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
    fn pods_get_our_labels_and_no_token() {
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"app": "web"}},
            "spec": {"template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"automountServiceAccountToken": true, "containers": []},
            }},
        });
        insta::assert_snapshot!(serde_saphyr::to_string(&prepared(&deployment)).unwrap());
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
