//! A pipeline in REST answers.

use super::Pipeline;
use crate::sandbox::{json::with, refusal::Refusal, repository::ZERO, state::State, time};
use serde_json::{Value, json};

impl State {
    /// `Ci::PipelineBasic`: what lists hold.
    pub(in crate::sandbox) fn pipeline_basic(
        &self,
        project: u64,
        pipeline: &Pipeline,
    ) -> Result<Value, Refusal> {
        Ok(json!({
            "id": pipeline.id,
            "iid": pipeline.iid,
            "project_id": project,
            "sha": pipeline.sha,
            "ref": pipeline.reference,
            "status": pipeline.status,
            "source": pipeline.source,
            "created_at": time::iso(pipeline.created_at),
            "updated_at": time::iso(pipeline.updated_at),
            "web_url": self.pipeline_url(project, pipeline)?,
        }))
    }

    /// `Ci::Pipeline`.
    pub(in crate::sandbox) fn pipeline_json(
        &self,
        project: u64,
        pipeline: &Pipeline,
    ) -> Result<Value, Refusal> {
        let label = label(&pipeline.status);
        let more = json!({
            "before_sha": ZERO,
            "tag": pipeline.tag,
            "yaml_errors": null,
            "user": self.user_basic(pipeline.user),
            "started_at": pipeline.started_at.map(time::iso),
            "finished_at": pipeline.finished_at.map(time::iso),
            "committed_at": null,
            "duration": pipeline.duration(),
            "queued_duration": pipeline.started_at.map(|_| 1),
            "coverage": null,
            "name": null,
            "detailed_status": {
                "icon": format!("status_{}", pipeline.status),
                "text": label,
                "label": label,
                "group": pipeline.status.replace('_', "-"),
                "tooltip": label,
                "has_details": true,
                "details_path": format!("/{}/-/pipelines/{}", self.project(project)?.path, pipeline.id),
                "illustration": null,
                "favicon": format!("/assets/ci_favicons/favicon_status_{}.png", pipeline.status),
            },
        });
        Ok(with(self.pipeline_basic(project, pipeline)?, more))
    }

    pub(in crate::sandbox) fn pipeline_url(
        &self,
        project: u64,
        pipeline: &Pipeline,
    ) -> Result<String, Refusal> {
        Ok(format!("{}/-/pipelines/{}", self.project_url(self.project(project)?), pipeline.id))
    }
}

impl Pipeline {
    /// Whole seconds of running; null until finished.
    pub(in crate::sandbox) fn duration(&self) -> Option<i64> {
        Some(self.finished_at?.duration_since(self.started_at?).as_secs())
    }
}

/// The human label, on which nobody should switch.
pub(in crate::sandbox) fn label(status: &str) -> &str {
    match status {
        "success" => "passed",
        "manual" => "blocked",
        "waiting_for_resource" => "waiting for resource",
        other => other,
    }
}
