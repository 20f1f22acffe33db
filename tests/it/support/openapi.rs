//! GitLab's OpenAPI document as the tests hold both sides to it: the fixture with our corrections laid over.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

/// Corrections in the spirit of the OpenAPI Overlay Specification, with a JSON pointer for a target and a reason for each.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Overlay {
    corrections: Vec<Correction>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Correction {
    target: String,
    reason: String,
    /// Merged into the target: objects key by key, anything else replaced.
    update: Option<Value>,
    #[serde(default)]
    remove: bool,
}

/// The corrected document, as JSON.
pub fn document() -> Result<Value> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gitlab");
    let read = |name| fs::read_to_string(fixtures.join(name)).context(name);
    correct(
        yaml(&read("openapi.yaml")?).context("openapi.yaml")?,
        yaml(&read("overlay.yaml")?).context("overlay.yaml")?,
    )
}

/// YAML 1.2 as OpenAPI wants it, where a `no` in a list of values is a word.
fn yaml<T: DeserializeOwned>(text: &str) -> Result<T> {
    Ok(serde_saphyr::from_str_with_options(text, serde_saphyr::options! { strict_booleans: true })?)
}

fn correct(mut document: Value, overlay: Overlay) -> Result<Value> {
    for Correction { target, reason, update, remove } in overlay.corrections {
        ensure!(!reason.trim().is_empty(), "overlay.yaml: {target} is corrected without a reason");
        ensure!(
            update.is_some() != remove,
            "overlay.yaml: {target} wants `update` or `remove: true`, and not both"
        );
        let unknown = || format!("overlay.yaml: {target} is not in the document");
        match update {
            Some(update) => merge(document.pointer_mut(&target).with_context(unknown)?, update),
            None => take(&mut document, &target).with_context(unknown)?,
        }
    }
    Ok(document)
}

fn merge(target: &mut Value, update: Value) {
    match (target, update) {
        (Value::Object(target), Value::Object(update)) => {
            for (key, value) in update {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
        (target, update) => *target = update,
    }
}

fn take(document: &mut Value, target: &str) -> Option<()> {
    let (parent, key) = target.rsplit_once('/')?;
    match document.pointer_mut(parent)? {
        Value::Object(parent) => parent.remove(&key.replace("~1", "/").replace("~0", "~")).map(drop),
        Value::Array(parent) => {
            let index = key.parse().ok().filter(|index| *index < parent.len())?;
            parent.remove(index);
            Some(())
        }
        _ => None,
    }
}

#[test]
fn the_overlay_fits_the_document() {
    document().unwrap();
}

#[test]
fn corrections_update_and_remove_and_know_their_target() {
    let corrected = |overlay: &str| {
        let document = serde_json::json!({"paths": {"/a/b": {"get": {"parameters": [1, 2], "tags": ["x"]}}}});
        correct(document, yaml(overlay).unwrap()).map(|document| document.to_string())
    };
    let overlay = "corrections:
      - {target: /paths/~1a~1b/get, reason: r, update: {tags: [y], deprecated: true}}
      - {target: /paths/~1a~1b/get/parameters/0, reason: r, remove: true}";
    let expected = r#"{"paths":{"/a/b":{"get":{"deprecated":true,"parameters":[2],"tags":["y"]}}}}"#;
    assert_eq!(corrected(overlay).unwrap(), expected);
    for wrong in [
        "target: /nope, reason: r, remove: true",
        "target: /paths, reason: ' ', remove: true",
        "target: /paths, reason: r",
    ] {
        assert!(corrected(&format!("corrections: [{{{wrong}}}]")).is_err(), "{wrong}");
    }
}
