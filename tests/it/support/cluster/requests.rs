//! Who asked the API server for what, out of its audit log.

use std::{collections::HashSet, fs, path::Path};

use jiff::Timestamp;
use serde_json::{Value, json};

/// The audit log, in the cluster's folder.
pub(super) const LOG: &str = "audit.log";

/// One request as the API server has it.
#[derive(Debug, Clone)]
pub struct Request {
    pub user: String,
    pub agent: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch` (which applying is too), `delete`, `deletecollection`.
    pub verb: String,
    /// Path and query.
    pub path: String,
    /// Plural, with its subresource where there is one, such as `pods/log`; empty for what is no resource.
    pub resource: String,
    pub namespace: String,
    pub name: String,
    pub status: u16,
    /// When the answer was complete; of a watch, when it began.
    pub answered: Timestamp,
}

/// Writes down all but what the control plane does to itself.
pub(super) fn policy(servers: &str) -> String {
    let policy = json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            { "level": "None", "users": [servers, "system:apiserver"] },
            { "level": "None", "userGroups": ["system:serviceaccounts:kube-system"] },
            { "level": "None", "nonResourceURLs": ["/readyz*", "/livez*", "/healthz*"] },
            { "level": "Metadata" },
        ],
    });
    policy.to_string()
}

/// A watch is written down when it begins and again when it ends, and counts once.
pub(super) fn read(folder: &Path) -> Vec<Request> {
    let log = fs::read_to_string(folder.join(LOG)).unwrap_or_default();
    let mut seen = HashSet::new();
    // The last line may be half written.
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events.filter(|event| seen.insert(event["auditID"].to_string())).map(|event| request(&event)).collect()
}

fn request(event: &Value) -> Request {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let object = &event["objectRef"];
    let mut resource = text(&object["resource"]);
    if let Some(subresource) = object["subresource"].as_str() {
        resource = format!("{resource}/{subresource}");
    }
    Request {
        user: text(&event["user"]["username"]),
        agent: text(&event["userAgent"]),
        verb: text(&event["verb"]),
        path: text(&event["requestURI"]),
        resource,
        namespace: text(&object["namespace"]),
        name: text(&object["name"]),
        status: event["responseStatus"]["code"]
            .as_u64()
            .and_then(|code| code.try_into().ok())
            .unwrap_or_default(),
        answered: text(&event["stageTimestamp"]).parse().unwrap_or_default(),
    }
}
