//! `merge_request` bodies. The hook belongs to the target project; `source` is null once a fork is
//! deleted, `last_commit` is null for a branch without commits of its own.

use crate::sandbox::{json::with, merge_requests::MergeRequest, projects::Project, state::State, time};
use serde_json::{Value, json};

/// Full label objects for names.
pub(in crate::sandbox) fn labels(project: &Project, names: &[String]) -> Value {
    let full = |name: &String| {
        let label = project.labels.get(name)?;
        let at = time::utc(label.created_at);
        Some(json!({
            "id": label.id,
            "title": name,
            "color": "#1f75cb",
            "project_id": project.id,
            "created_at": at,
            "updated_at": at,
            "template": false,
            "description": null,
            "type": "ProjectLabel",
            "group_id": null,
        }))
    };
    Value::Array(names.iter().filter_map(full).collect())
}

pub(in crate::sandbox) fn merge_request(
    state: &State,
    project: &Project,
    merge_request: &MergeRequest,
    action: &str,
    oldrev: Option<&str>,
    changes: &Value,
    user: u64,
) -> Value {
    let people = |ids: &[u64]| ids.iter().map(|id| super::user(state, *id)).collect::<Vec<_>>();
    let mut reviewers = people(&merge_request.reviewers);
    for reviewer in reviewers.iter_mut().filter_map(Value::as_object_mut) {
        reviewer.insert("state".to_owned(), json!("unreviewed"));
        reviewer.insert("re_requested".to_owned(), json!(false));
    }
    let oldrev = oldrev.map(|oldrev| json!({ "oldrev": oldrev })).unwrap_or_default();
    let happened = json!({ "action": action, "actioned_at": time::utc(state.now()), "system": false, "approval_rules": [] });
    let attributes = with(with(attributes(state, project, merge_request), happened), oldrev);
    json!({
        "object_kind": "merge_request",
        "event_type": "merge_request",
        "user": super::user(state, user),
        "project": super::project(state, project),
        "repository": super::repository(state, project),
        "object_attributes": attributes,
        "labels": labels(project, &merge_request.labels),
        "changes": changes,
        "assignees": people(&merge_request.assignees),
        "reviewers": reviewers,
    })
}

/// What `note` bodies have of it, too.
pub(super) fn attributes(state: &State, project: &Project, merge_request: &MergeRequest) -> Value {
    let source = merge_request.source_project.and_then(|source| state.projects.get(&source));
    let head = merge_request.sha.as_ref().and_then(|sha| state.commits.get(sha));
    let moment = |event: Option<(u64, jiff::Timestamp)>| event.map(|(_, at)| time::utc(at));
    let constant = json!({
        "last_edited_at": null,
        "last_edited_by_id": null,
        "squash_commit_sha": null,
        "merge_error": null,
        "milestone_id": null,
        "time_estimate": 0,
        "time_change": 0,
        "total_time_spent": 0,
        "human_time_change": null,
        "human_time_estimate": null,
        "human_total_time_spent": null,
        "updated_by_id": null,
        "blocking_discussions_resolved": true,
        "first_contribution": false,
    });
    let own = json!({
        "author_id": merge_request.author,
        "assignee_id": merge_request.assignees.first(),
        "assignee_ids": merge_request.assignees,
        "reviewer_ids": merge_request.reviewers,
        "created_at": time::utc(merge_request.created_at),
        "updated_at": time::utc(merge_request.updated_at),
        "prepared_at": time::utc(merge_request.created_at),
        "description": merge_request.description,
        "draft": merge_request.draft(),
        "work_in_progress": merge_request.draft(),
        "head_pipeline_id": merge_request.head_pipeline,
        "id": merge_request.id,
        "iid": merge_request.iid,
        "merge_commit_sha": merge_request.merge_commit,
        "merged_at": moment(merge_request.merged),
        "merge_params": { "force_remove_source_branch": if merge_request.remove_source_branch { "1" } else { "0" } },
        "merge_status": merge_request.merge_status(),
        "detailed_merge_status": merge_request.detailed_status(),
        "merge_user_id": merge_request.merged.map(|(user, _)| user),
        "merge_when_pipeline_succeeds": merge_request.auto_merge,
        "source_branch": merge_request.source_branch,
        "source_project_id": merge_request.source_project,
        "target_branch": merge_request.target_branch,
        "target_project_id": project.id,
        "state": merge_request.state.name(),
        "state_id": merge_request.state.number(),
        "title": merge_request.title,
        "labels": labels(project, &merge_request.labels),
        "last_commit": head.map(|commit| super::commit(state, project, commit)),
        "source": source.map(|source| super::project(state, source)),
        "target": super::project(state, project),
        "url": state.merge_request_url(project, merge_request),
    });
    with(own, constant)
}
