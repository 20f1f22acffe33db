//! From a merge request before and after to the webhook's `action` and `changes`.

use super::{MergeRequest, Stage};
use crate::sandbox::time;
use serde_json::{Map, Value, json};

/// `open`, `close`, `reopen`, `merge`, else `update`.
pub(super) fn action(before: Option<&MergeRequest>, after: &MergeRequest) -> &'static str {
    match (before.map(|before| before.state), after.state) {
        (None, _) => "open",
        (Some(Stage::Opened | Stage::Locked), Stage::Closed) => "close",
        (Some(Stage::Closed), Stage::Opened) => "reopen",
        (Some(Stage::Opened | Stage::Locked), Stage::Merged) => "merge",
        _ => "update",
    }
}

/// The `changes` object; `labels` gives full label objects for names.
pub(super) fn between(
    before: Option<&MergeRequest>,
    after: &MergeRequest,
    labels: impl Fn(&[String]) -> Value,
) -> Value {
    let mut changes = Map::new();
    let mut note = |name: &str, previous: Value, current: Value, changed: bool| {
        if changed {
            changes.insert(name.to_owned(), json!({ "previous": previous, "current": current }));
        }
    };
    let Some(before) = before else {
        // An `open` hook is sent after preparation and says so.
        note("merge_status", json!("preparing"), json!("checking"), true);
        note("prepared_at", Value::Null, json!(time::utc(after.updated_at)), true);
        note("updated_at", json!(time::utc(after.created_at)), json!(time::utc(after.updated_at)), true);
        return Value::Object(changes);
    };
    // Merging goes through `locked` (4), so that is what the hook calls the state before.
    let locked = before.state != after.state && after.state == Stage::Merged;
    let state_before = if locked { Stage::Locked } else { before.state };
    for (name, previous, current) in [
        ("title", json!(before.title), json!(after.title)),
        ("description", json!(before.description), json!(after.description)),
        ("draft", json!(before.draft()), json!(after.draft())),
        ("target_branch", json!(before.target_branch), json!(after.target_branch)),
        ("labels", labels(&before.labels), labels(&after.labels)),
        ("merge_when_pipeline_succeeds", json!(before.auto_merge), json!(after.auto_merge)),
        ("merge_commit_sha", json!(before.merge_commit), json!(after.merge_commit)),
        ("state_id", json!(state_before.number()), json!(after.state.number())),
    ] {
        let changed = previous != current;
        note(name, previous, current, changed);
    }
    // Two moments within one second differ, though they read the same.
    let (previous, current) = (before.updated_at, after.updated_at);
    note("updated_at", json!(time::utc(previous)), json!(time::utc(current)), previous != current);
    Value::Object(changes)
}
