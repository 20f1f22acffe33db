//! How two states of an object differ, for people. Pure.

use serde_json::{Map, Value, json};
use similar::TextDiff;

use super::names::DIGEST;
use super::prepare::KEPT_BY_SERVER;

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const CONTEXT: usize = 3;

/// The fields that differ, as a unified diff of YAML; empty when none do.
pub(super) fn diff(before: Option<&Value>, after: Option<&Value>) -> String {
    let (mut before, mut after) = (before.map(plain), after.map(plain));
    hide(before.as_mut(), after.as_mut());
    let (before, after) = (yaml(before.as_ref()), yaml(after.as_ref()));
    TextDiff::from_lines(&before, &after)
        .unified_diff()
        .context_radius(CONTEXT)
        .missing_newline_hint(false)
        .to_string()
}

/// An object as somebody would write it.
fn plain(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
        if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.retain(|name, _| !KEPT_BY_SERVER.contains(&name.as_str()) && name != "namespace");
            if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
                annotations.remove(DIGEST);
                annotations.remove(LAST_APPLIED);
                if annotations.is_empty() {
                    metadata.remove("annotations");
                }
            }
        }
    }
    object
}

/// Puts words in the place of a Secret's values: whether one changes is told, what it is never.
fn hide(mut before: Option<&mut Value>, mut after: Option<&mut Value>) {
    let is_secret =
        |object: &Option<&mut Value>| object.as_ref().is_some_and(|object| object["kind"] == "Secret");
    if !is_secret(&before) && !is_secret(&after) {
        return;
    }
    for field in ["data", "stringData"] {
        let values = |object: &Option<&mut Value>| {
            object.as_ref().and_then(|object| object[field].as_object()).cloned().unwrap_or_default()
        };
        let (old, new) = (values(&before), values(&after));
        if let Some(object) = before.as_deref_mut().and_then(|it| it.get_mut(field)) {
            *object = Value::Object(masked(&old, None));
        }
        if let Some(object) = after.as_deref_mut().and_then(|it| it.get_mut(field)) {
            *object = Value::Object(masked(&new, Some(&old)));
        }
    }
}

fn masked(values: &Map<String, Value>, before: Option<&Map<String, Value>>) -> Map<String, Value> {
    let word = |name: &String, value: &Value| match before.and_then(|before| before.get(name)) {
        Some(old) if old != value => "(not shown, changed)",
        _ => "(not shown)",
    };
    values.iter().map(|(name, value)| (name.clone(), json!(word(name, value)))).collect()
}

fn yaml(object: Option<&Value>) -> String {
    object.and_then(|object| serde_saphyr::to_string(object).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(image: &str, version: &str) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "name": "web", "namespace": "web-42-mr-7", "resourceVersion": version, "uid": "u",
                "managedFields": [{"manager": "greenroom"}],
                "annotations": {"greenroom.dev/digest": version, LAST_APPLIED: "{}"},
            },
            "spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "web", "image": image}]}}},
            "status": {"replicas": version},
        })
    }

    #[test]
    fn what_differs_is_shown_and_what_the_server_keeps_is_not() {
        let (before, after) = (deployment("acme/web:1", "5"), deployment("acme/web:2", "6"));
        assert_eq!(diff(Some(&before), Some(&deployment("acme/web:1", "6"))), "");
        insta::assert_snapshot!(diff(Some(&before), Some(&after)));
    }

    #[test]
    fn a_new_object_is_shown_as_it_was_written() {
        insta::assert_snapshot!(diff(None, Some(&deployment("acme/web:1", "5"))));
    }

    #[test]
    fn a_secret_is_never_shown() {
        let secret = |password: &str| json!({"kind": "Secret", "metadata": {"name": "db"}, "data": {"password": password, "user": "YXBw"}});
        let (old, new) = (secret("aHVzaA=="), secret("cXVpZXQ="));
        let shown =
            [diff(Some(&old), Some(&new)), diff(None, Some(&new)), diff(Some(&old), None)].join("---- \n");
        assert!(
            !shown.contains("aHVzaA") && !shown.contains("cXVpZXQ") && !shown.contains("YXBw"),
            "{shown}"
        );
        insta::assert_snapshot!(shown);
        assert_eq!(diff(Some(&old), Some(&secret("aHVzaA=="))), "");
    }
}
