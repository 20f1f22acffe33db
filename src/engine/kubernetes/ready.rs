//! Whether an object is what was asked for: the rules of kstatus, on what the API server says of it.
//!
//! Stricter than kstatus in one point: a Job is ready when it has completed, not when it has begun.

use serde_json::Value;

use super::refusal;
use crate::preview::Quoted;

/// How an object stands. Texts are Markdown-safe and follow the object's name and a colon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Readiness {
    /// It is what was asked for.
    Ready,
    /// It may become so.
    Waiting(String),
    /// It never will without a change.
    Stuck(String),
}

use Readiness::{Ready, Stuck, Waiting};

/// How `object`, of `kind`, stands.
pub(super) fn readiness(kind: &str, object: &Value) -> Readiness {
    if object.pointer("/metadata/deletionTimestamp").is_some() {
        return Waiting("it is being deleted".into());
    }
    let observed = object.pointer("/status/observedGeneration").and_then(Value::as_i64);
    let generation = object.pointer("/metadata/generation").and_then(Value::as_i64);
    let has_controller = matches!(kind, "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet");
    if observed.or(has_controller.then_some(0)).is_some_and(|seen| Some(seen) < generation) {
        return Waiting("the cluster has not looked at it yet".into());
    }
    match kind {
        "Deployment" => deployment(object),
        "StatefulSet" => stateful_set(object),
        "DaemonSet" => daemon_set(object),
        "ReplicaSet" => replicas(count(object, "readyReplicas"), wanted(object), "ready"),
        "Job" => job(object),
        "Pod" => pod(object),
        "PersistentVolumeClaim" => claim(object),
        "HTTPRoute" => route(object),
        _ => general(object),
    }
}

fn deployment(object: &Value) -> Readiness {
    if let Some(message) = condition(object, "ReplicaFailure").filter(|it| it.status == "True") {
        let (hopeless, why) = refusal::explain(message.message);
        return if hopeless { Stuck(why) } else { Waiting(why) };
    }
    let progressing = condition(object, "Progressing");
    if let Some(it) = progressing.filter(|it| it.reason == "ProgressDeadlineExceeded") {
        return Stuck(format!("it made no progress for too long: {}", Quoted::new(it.message)));
    }
    let (wanted, all) = (wanted(object), count(object, "replicas"));
    let updated = count(object, "updatedReplicas");
    if updated < wanted {
        return Waiting(format!("{updated} of {wanted} replicas are of the new revision"));
    }
    if count(object, "availableReplicas") < wanted {
        return replicas(count(object, "availableReplicas"), wanted, "ready");
    }
    if all > updated {
        return Waiting(format!("{} of the old revision are still there", all - updated));
    }
    Ready
}

fn stateful_set(object: &Value) -> Readiness {
    if text(object, "/spec/updateStrategy/type") == "OnDelete" {
        return Ready;
    }
    let wanted = wanted(object);
    let partition =
        object.pointer("/spec/updateStrategy/rollingUpdate/partition").and_then(Value::as_i64).unwrap_or(0);
    if count(object, "readyReplicas") < wanted {
        return replicas(count(object, "readyReplicas"), wanted, "ready");
    }
    let updated = count(object, "updatedReplicas");
    if partition > 0 {
        let due = (wanted - partition).max(0);
        return if updated < due { replicas(updated, due, "of the new revision") } else { Ready };
    }
    let (current, update) = (text(object, "/status/currentRevision"), text(object, "/status/updateRevision"));
    if wanted > 0 && current != update {
        return replicas(updated, wanted, "of the new revision");
    }
    Ready
}

fn daemon_set(object: &Value) -> Readiness {
    let wanted = count(object, "desiredNumberScheduled");
    for (field, what) in [("updatedNumberScheduled", "of the new revision"), ("numberAvailable", "ready")] {
        if count(object, field) < wanted {
            return replicas(count(object, field), wanted, what);
        }
    }
    Ready
}

fn job(object: &Value) -> Readiness {
    if condition(object, "Complete").is_some_and(|it| it.status == "True") {
        return Ready;
    }
    if let Some(it) = condition(object, "Failed").filter(|it| it.status == "True") {
        return Stuck(format!("it failed: {}", Quoted::new(it.message)));
    }
    if object.pointer("/spec/suspend").and_then(Value::as_bool) == Some(true) {
        return Waiting("it is suspended".into());
    }
    match count(object, "failed") {
        0 => Waiting("it has not completed yet".into()),
        1 => Waiting("it has failed once and is tried again".into()),
        times => Waiting(format!("it has failed {times} times and is tried again")),
    }
}

fn pod(object: &Value) -> Readiness {
    let done = text(object, "/status/phase") == "Succeeded";
    if done || condition(object, "Ready").is_some_and(|it| it.status == "True") {
        Ready
    } else {
        Waiting("it is not ready yet".into())
    }
}

fn claim(object: &Value) -> Readiness {
    match text(object, "/status/phase") {
        "Bound" => Ready,
        "Lost" => Stuck("its volume is lost".into()),
        _ => Waiting(match text(object, "/spec/storageClassName") {
            "" => "no volume is bound to it; it names no storage class, so the cluster needs a default one"
                .into(),
            class => format!("no volume of the storage class {} is bound to it yet", Quoted::new(class)),
        }),
    }
}

/// A route is ready when every Gateway that it names has accepted it.
fn route(object: &Value) -> Readiness {
    let list = |pointer| object.pointer(pointer).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let (wanted, answers) = (list("/spec/parentRefs"), list("/status/parents"));
    for condition in answers.iter().filter_map(|parent| parent["conditions"].as_array()).flatten() {
        let kind = condition["type"].as_str();
        if matches!(kind, Some("Accepted" | "ResolvedRefs")) && condition["status"] != "True" {
            let message = condition["message"].as_str().unwrap_or_default();
            return Waiting(format!("the Gateway does not take it: {}", Quoted::new(message)));
        }
    }
    if answers.len() < wanted.len() {
        return Waiting("no Gateway has taken it yet".into());
    }
    Ready
}

/// For whatever else has conditions.
fn general(object: &Value) -> Readiness {
    if let Some(it) = condition(object, "Stalled").filter(|it| it.status == "True") {
        return Stuck(format!("its controller gave up: {}", Quoted::new(it.message)));
    }
    if let Some(it) = condition(object, "Reconciling").filter(|it| it.status == "True") {
        return Waiting(format!("its controller is at work: {}", Quoted::new(it.message)));
    }
    match condition(object, "Ready") {
        Some(it) if it.status != "True" => {
            let why = if it.message.is_empty() { it.reason } else { it.message };
            Waiting(format!("it is not ready: {}", Quoted::new(why)))
        }
        _ => Ready,
    }
}

fn replicas(have: i64, wanted: i64, what: &str) -> Readiness {
    if have >= wanted { Ready } else { Waiting(format!("{have} of {wanted} replicas are {what}")) }
}

/// `spec.replicas`, which is 1 when nobody says otherwise.
fn wanted(object: &Value) -> i64 {
    object.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1)
}

fn count(object: &Value, field: &str) -> i64 {
    object["status"][field].as_i64().unwrap_or(0)
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// One of `status.conditions`.
#[derive(Clone, Copy)]
pub(super) struct Condition<'a> {
    pub status: &'a str,
    pub reason: &'a str,
    pub message: &'a str,
}

/// The condition of that type.
pub(super) fn condition<'a>(object: &'a Value, kind: &str) -> Option<Condition<'a>> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    let found = conditions.iter().find(|condition| condition["type"] == kind)?;
    let text = |field: &str| found[field].as_str().unwrap_or_default();
    Some(Condition { status: text("status"), reason: text("reason"), message: text("message") })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The readiness of an object of `kind` with this spec and status, at generation 2.
    #[expect(clippy::needless_pass_by_value, reason = "reads best where it is called")]
    fn of(kind: &str, spec: Value, status: Value) -> String {
        let object = json!({"metadata": {"generation": 2}, "spec": spec, "status": status});
        match readiness(kind, &object) {
            Ready => "ready".into(),
            Waiting(why) => why,
            Stuck(why) => format!("stuck: {why}"),
        }
    }

    #[test]
    fn ready_means_ready() {
        let seen = |status: Value| {
            let mut status = status;
            status["observedGeneration"] = json!(2);
            status
        };
        let condition = |kind: &str, status: &str, message: &str| json!({"conditions": [{"type": kind, "status": status, "message": message, "reason": "Because"}]});
        let cases = [
            of("Deployment", json!({}), json!({"observedGeneration": 1, "availableReplicas": 1})),
            of("Deployment", json!({}), json!({})),
            of("Deployment", json!({"replicas": 2}), seen(json!({"replicas": 2, "updatedReplicas": 1}))),
            of(
                "Deployment",
                json!({"replicas": 2}),
                seen(json!({"replicas": 2, "updatedReplicas": 2, "availableReplicas": 1})),
            ),
            of(
                "Deployment",
                json!({}),
                seen(json!({"replicas": 2, "updatedReplicas": 1, "availableReplicas": 2})),
            ),
            of(
                "Deployment",
                json!({}),
                seen(json!({"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1})),
            ),
            of("Deployment", json!({"replicas": 0}), seen(json!({}))),
            of(
                "Deployment",
                json!({}),
                seen(json!({"conditions": [
                    {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"},
                ]})),
            ),
            of(
                "Deployment",
                json!({}),
                seen(condition(
                    "ReplicaFailure",
                    "True",
                    "pods \"web-1\" is forbidden: exceeded quota: greenroom, requested: pods=1, used: pods=1, limited: pods=1",
                )),
            ),
            of("StatefulSet", json!({"replicas": 2}), seen(json!({"readyReplicas": 1}))),
            of(
                "StatefulSet",
                json!({}),
                seen(json!({"readyReplicas": 1, "currentRevision": "a", "updateRevision": "b"})),
            ),
            of(
                "StatefulSet",
                json!({}),
                seen(json!({"readyReplicas": 1, "currentRevision": "b", "updateRevision": "b"})),
            ),
            of(
                "DaemonSet",
                json!({}),
                seen(json!({"desiredNumberScheduled": 2, "updatedNumberScheduled": 1})),
            ),
            of("Job", json!({}), json!({"failed": 2})),
            of("Job", json!({}), condition("Complete", "True", "")),
            of("Job", json!({}), condition("Failed", "True", "Job has reached the specified backoff limit")),
            of("PersistentVolumeClaim", json!({}), json!({"phase": "Pending"})),
            of("PersistentVolumeClaim", json!({"storageClassName": "fast"}), json!({"phase": "Pending"})),
            of("PersistentVolumeClaim", json!({}), json!({"phase": "Bound"})),
            of("Ingress", json!({}), json!({})),
            of("HTTPRoute", json!({"parentRefs": [{}]}), json!({})),
            of(
                "HTTPRoute",
                json!({"parentRefs": [{}]}),
                json!({"parents": [condition("Accepted", "False", "no listener of that host")]}),
            ),
            of(
                "HTTPRoute",
                json!({"parentRefs": [{}]}),
                json!({"parents": [condition("Accepted", "True", "")]}),
            ),
            of("Pod", json!({}), condition("Ready", "False", "")),
            of("Widget", json!({}), condition("Ready", "False", "paint is wet")),
            of("Widget", json!({}), condition("Ready", "True", "")),
            of("Widget", json!({}), condition("Stalled", "True", "no paint")),
            of("Widget", json!({}), json!({"observedGeneration": 1})),
            of("ConfigMap", json!({}), json!({})),
        ];
        insta::assert_snapshot!(cases.join("\n"));
    }
}
