//! A merge request in REST answers: the list's form and the longer one of the single read.

use super::MergeRequest;
use crate::sandbox::{json::with, projects::Project, refusal::Refusal, state::State, time};
use serde_json::{Value, json};

impl State {
    /// `MergeRequestBasic`: what lists hold. It has no `head_pipeline` and no `diff_refs`.
    pub(in crate::sandbox) fn merge_request_basic(
        &self,
        project: &Project,
        merge_request: &MergeRequest,
    ) -> Value {
        let person = |event: Option<(u64, jiff::Timestamp)>| {
            event.map_or(Value::Null, |(user, _)| self.user_basic(user))
        };
        let moment = |event: Option<(u64, jiff::Timestamp)>| event.map(|(_, at)| time::iso(at));
        let assignees: Vec<_> = merge_request.assignees.iter().map(|user| self.user_basic(*user)).collect();
        let reviewers: Vec<_> = merge_request.reviewers.iter().map(|user| self.user_basic(*user)).collect();
        let notes = self.notes_of(project.id, merge_request.iid).filter(|note| !note.system).count();
        let people = json!({
            "merged_by": person(merge_request.merged),
            "merge_user": person(merge_request.merged),
            "merged_at": moment(merge_request.merged),
            "merge_after": null,
            "closed_by": person(merge_request.closed),
            "closed_at": moment(merge_request.closed),
            "author": self.user_basic(merge_request.author),
            "assignee": assignees.first(),
            "assignees": assignees,
            "reviewers": reviewers,
        });
        let merging = json!({
            "merge_when_pipeline_succeeds": merge_request.auto_merge,
            "merge_status": merge_request.merge_status(),
            "detailed_merge_status": merge_request.detailed_status(),
            "merge_commit_sha": merge_request.merge_commit,
            "squash_commit_sha": null,
            "discussion_locked": null,
            "should_remove_source_branch": null,
            "force_remove_source_branch": merge_request.remove_source_branch,
            "squash": merge_request.squash,
            "squash_on_merge": merge_request.squash,
            "has_conflicts": false,
            "blocking_discussions_resolved": true,
            "approvals_before_merge": null,
        });
        let own = json!({
            "id": merge_request.id,
            "iid": merge_request.iid,
            "project_id": project.id,
            "title": merge_request.title,
            "description": merge_request.description,
            "state": merge_request.state.name(),
            "imported": false,
            "imported_from": "none",
            "created_at": time::iso(merge_request.created_at),
            "updated_at": time::iso(merge_request.updated_at),
            "target_branch": merge_request.target_branch,
            "source_branch": merge_request.source_branch,
            "user_notes_count": notes,
            "upvotes": 0,
            "downvotes": 0,
            "source_project_id": merge_request.source_project,
            "target_project_id": project.id,
            "labels": merge_request.labels,
            "draft": merge_request.draft(),
            "work_in_progress": merge_request.draft(),
            "milestone": null,
            "sha": merge_request.sha,
            "prepared_at": time::iso(merge_request.created_at),
            "reference": format!("!{}", merge_request.iid),
            "references": {
                "short": format!("!{}", merge_request.iid),
                "relative": format!("!{}", merge_request.iid),
                "full": format!("{}!{}", project.path, merge_request.iid),
            },
            "web_url": self.merge_request_url(project, merge_request),
            "time_stats": {
                "time_estimate": 0,
                "total_time_spent": 0,
                "human_time_estimate": null,
                "human_total_time_spent": null,
            },
            "task_completion_status": { "count": 0, "completed_count": 0 },
        });
        with(with(own, people), merging)
    }

    /// `MergeRequest`: the single one.
    pub(super) fn merge_request_full(
        &self,
        project: &Project,
        merge_request: &MergeRequest,
    ) -> Result<Value, Refusal> {
        let pipeline = self.head_pipeline(project, merge_request);
        let (basic, detailed, started, finished) = match pipeline {
            None => (Value::Null, Value::Null, None, None),
            Some((owner, pipeline)) => (
                self.pipeline_basic(owner, pipeline)?,
                self.pipeline_json(owner, pipeline)?,
                pipeline.started_at.map(time::iso),
                pipeline.finished_at.map(time::iso),
            ),
        };
        let diff_refs = merge_request.sha.as_ref().map(|head| {
            json!({ "base_sha": merge_request.base_sha, "head_sha": head, "start_sha": merge_request.base_sha })
        });
        let more = json!({
            "subscribed": true,
            "changes_count": self.changes_count(merge_request),
            "latest_build_started_at": started,
            "latest_build_finished_at": finished,
            "first_deployed_to_production_at": null,
            "pipeline": basic,
            "head_pipeline": detailed,
            "diff_refs": diff_refs,
            "merge_error": null,
            "first_contribution": false,
            "user": { "can_merge": true },
        });
        Ok(with(self.merge_request_basic(project, merge_request), more))
    }

    pub(in crate::sandbox) fn merge_request_url(
        &self,
        project: &Project,
        merge_request: &MergeRequest,
    ) -> String {
        format!("{}/-/merge_requests/{}", self.project_url(project), merge_request.iid)
    }
}
