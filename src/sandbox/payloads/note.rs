//! `note` bodies, with the merge request in its reduced form.

use super::merge_request::attributes;
use crate::sandbox::{notes::Note, refusal::Refusal, state::State, time};
use serde_json::{Value, json};

pub(in crate::sandbox) fn note(state: &State, note: &Note, action: &str) -> Result<Value, Refusal> {
    let project = state.project(note.project)?;
    let merge_request = state.merge_request(note.project, note.merge_request)?;
    Ok(json!({
        "object_kind": "note",
        "event_type": if note.internal { "confidential_note" } else { "note" },
        "user": super::user(state, note.author),
        "project_id": project.id,
        "project": super::project(state, project),
        "repository": super::repository(state, project),
        "object_attributes": {
            "id": note.id,
            "note": note.body,
            "description": note.body,
            "noteable_type": "MergeRequest",
            "noteable_id": merge_request.id,
            "author_id": note.author,
            "created_at": time::utc(note.created_at),
            "updated_at": time::utc(note.updated_at),
            "project_id": project.id,
            "attachment": null,
            "line_code": null,
            "commit_id": null,
            "discussion_id": format!("{:040x}", note.id),
            "change_position": null,
            "original_position": null,
            "position": null,
            "resolved_at": null,
            "resolved_by_id": null,
            "resolved_by_push": null,
            "st_diff": null,
            "system": note.system,
            "internal": note.internal,
            "type": null,
            "updated_by_id": null,
            "action": action,
            "url": format!("{}#note_{}", state.merge_request_url(project, merge_request), note.id),
        },
        "merge_request": attributes(state, project, merge_request),
    }))
}
