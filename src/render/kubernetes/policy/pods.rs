//! What a pod may be, wherever its template stands.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Checked, Exception, PULL_SECRET, fault, not_allowed};

/// Where the specification of a pod stands in an object, of whatever kind.
const PLACES: [&str; 4] =
    ["spec", "spec.template.spec", "spec.jobTemplate.spec.template.spec", "template.spec"];

/// Kinds of volumes that stay in the preview.
const VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

fn pointer(place: &str) -> String {
    format!("/{}", place.replace('.', "/"))
}

/// Whether an object is the specification of a pod: all have containers.
fn is_pod(spec: &Value) -> bool {
    spec["containers"].is_array()
}

/// Pods without a word about it would get a token for the API server.
pub(super) fn take_token(object: &mut Value) {
    for place in PLACES {
        if let Some(spec) = object.pointer_mut(&pointer(place)).filter(|spec| is_pod(spec)) {
            spec["automountServiceAccountToken"] = json!(false);
        }
    }
}

/// Checks every pod template of an object, and its claims.
pub(super) fn check(object: &Value, allow: &BTreeSet<Exception>) -> Checked {
    for place in PLACES {
        if let Some(spec) = object.pointer(&pointer(place)).filter(|spec| is_pod(spec)) {
            Pod { place, spec, allow }.check()?;
        }
    }
    for (at, claim) in list(&object["spec"]["volumeClaimTemplates"]) {
        check_claim(&claim["spec"], &format!("spec.volumeClaimTemplates[{at}].spec"))?;
    }
    Ok(())
}

/// A claim takes a volume that is made for it, not one that lies about.
pub(super) fn check_claim(spec: &Value, place: &str) -> Checked {
    for field in ["volumeName", "selector"] {
        if !spec[field].is_null() {
            return Err(fault(format!("{place}.{field}"), "asks for a volume that may be another's"));
        }
    }
    if !spec["dataSourceRef"]["namespace"].is_null() {
        return Err(fault(format!("{place}.dataSourceRef.namespace"), "reaches into another namespace"));
    }
    Ok(())
}

fn list(value: &Value) -> impl Iterator<Item = (usize, &Value)> {
    value.as_array().into_iter().flatten().enumerate()
}

/// Where a pod would read the Secret that images are pulled with, if it would: in its environment or in a volume.
fn reads_login(value: &Value, path: &str) -> Option<String> {
    match value {
        Value::Object(map) => map.iter().find_map(|(key, value)| {
            let field = if path.is_empty() { key.clone() } else { super::join(path, key) };
            let named = match key.as_str() {
                "secret" => {
                    [&value["secretName"], &value["name"]].into_iter().any(|name| name == PULL_SECRET)
                }
                "secretKeyRef" | "secretRef" | "nodePublishSecretRef" => value["name"] == PULL_SECRET,
                _ => false,
            };
            if named { Some(field) } else { reads_login(value, &field) }
        }),
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(at, item)| reads_login(item, &format!("{path}[{at}]")))
        }
        _ => None,
    }
}

struct Pod<'a> {
    place: &'a str,
    spec: &'a Value,
    allow: &'a BTreeSet<Exception>,
}

impl Pod<'_> {
    fn check(&self) -> Checked {
        let node = "takes part in the node's own";
        for (field, exception) in [
            ("hostNetwork", Exception::HostNetwork),
            ("hostPID", Exception::HostProcesses),
            ("hostIPC", Exception::HostProcesses),
        ] {
            if self.spec[field] == true {
                self.unless(exception, field, node)?;
            }
        }
        if self.spec["automountServiceAccountToken"] == true {
            let what = "asks for a token for the API server";
            self.unless(Exception::ServiceAccountToken, "automountServiceAccountToken", what)?;
        }
        if !self.spec["nodeName"].is_null() {
            return Err(self.fault("nodeName", "goes past the scheduler"));
        }
        if self.spec["priorityClassName"].as_str().is_some_and(|class| class.starts_with("system-")) {
            return Err(self.fault("priorityClassName", "is for the cluster's own pods"));
        }
        if let Some(field) = reads_login(self.spec, "") {
            return Err(self.fault(&field, "is what images are pulled with, and nothing else"));
        }
        for (at, volume) in list(&self.spec["volumes"]) {
            self.check_volume(volume, &format!("volumes[{at}]"))?;
        }
        for containers in ["containers", "initContainers", "ephemeralContainers"] {
            for (at, container) in list(&self.spec[containers]) {
                self.check_container(container, &format!("{containers}[{at}]"))?;
            }
        }
        Ok(())
    }

    fn check_volume(&self, volume: &Value, place: &str) -> Checked {
        let kinds = volume
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(key, value)| *key != "name" && !value.is_null());
        for (kind, value) in kinds {
            let field = format!("{place}.{kind}");
            if kind == "hostPath" {
                self.unless(Exception::HostPath, &field, "is a folder of the node")?;
            } else if !VOLUMES.contains(&kind.as_str()) {
                return Err(self.fault(&field, "reaches out of the preview"));
            }
            for (at, source) in list(&value["sources"]) {
                if !source["serviceAccountToken"].is_null() {
                    let field = format!("{field}.sources[{at}].serviceAccountToken");
                    self.unless(
                        Exception::ServiceAccountToken,
                        &field,
                        "asks for a token for the API server",
                    )?;
                }
            }
            let claim = &value["volumeClaimTemplate"]["spec"];
            if kind == "ephemeral" {
                check_claim(claim, &format!("{}.{field}.volumeClaimTemplate.spec", self.place))?;
            }
        }
        Ok(())
    }

    fn check_container(&self, container: &Value, place: &str) -> Checked {
        if container["securityContext"]["privileged"] == true {
            let field = format!("{place}.securityContext.privileged");
            self.unless(Exception::Privileged, &field, "has all rights on the node")?;
        }
        for (at, port) in list(&container["ports"]) {
            // Zero is what API servers write for none.
            if port["hostPort"].as_u64().is_some_and(|port| port != 0) {
                let field = format!("{place}.ports[{at}].hostPort");
                self.unless(Exception::HostPort, &field, "takes a port of the node")?;
            }
        }
        Ok(())
    }

    fn unless(&self, exception: Exception, field: &str, what: &str) -> Checked {
        if self.allow.contains(&exception) {
            return Ok(());
        }
        Err(self.fault(field, &not_allowed(what, exception)))
    }

    fn fault(&self, field: &str, why: &str) -> super::Fault {
        fault(format!("{}.{field}", self.place), why)
    }
}
