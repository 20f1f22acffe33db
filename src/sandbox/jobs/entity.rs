//! A job or bridge in REST answers.

use super::Job;
use crate::sandbox::{json::with, refusal::Refusal, state::State, time};
use serde_json::{Value, json};

impl State {
    /// `Ci::Job`, or `Ci::Bridge` for a trigger job.
    pub(in crate::sandbox) fn job_json(&self, project: u64, job: &Job) -> Result<Value, Refusal> {
        let pipeline = self.pipeline(project, job.pipeline)?;
        let common = json!({
            "id": job.id,
            "status": job.status,
            "stage": job.stage,
            "name": job.name,
            "ref": pipeline.reference,
            "tag": pipeline.tag,
            "coverage": null,
            "allow_failure": job.allow_failure,
            "created_at": time::iso(job.created_at),
            "started_at": job.started_at.map(time::iso),
            "finished_at": job.finished_at.map(time::iso),
            "erased_at": null,
            "duration": job.duration(),
            "queued_duration": job.started_at.map(|_| 0.5),
            "user": self.user_public(job.user),
            "commit": self.commit_json(project, self.commit(&pipeline.sha)?)?,
            "pipeline": self.pipeline_basic(project, pipeline)?,
            "web_url": self.job_url(project, job.id)?,
            "project": { "ci_job_token_scope_enabled": false },
        });
        // GitLab leaves out what a job has not.
        let failure = job.failure_reason.as_ref().map(|reason| json!({ "failure_reason": reason }));
        let job_only = if job.bridge { self.bridge_part(job)? } else { archive_part(job) };
        Ok(with(with(common, failure.unwrap_or_default()), job_only))
    }

    fn bridge_part(&self, job: &Job) -> Result<Value, Refusal> {
        let downstream =
            job.downstream.and_then(|(project, id)| Some((project, self.pipeline(project, id).ok()?)));
        let downstream =
            downstream.map(|(project, pipeline)| self.pipeline_basic(project, pipeline)).transpose()?;
        Ok(json!({ "downstream_pipeline": downstream }))
    }

    pub(in crate::sandbox) fn job_url(&self, project: u64, job: u64) -> Result<String, Refusal> {
        Ok(format!("{}/-/jobs/{job}", self.project_url(self.project(project)?)))
    }
}

fn archive_part(job: &Job) -> Value {
    let log =
        json!({ "file_type": "trace", "size": job.trace.len(), "filename": "job.log", "file_format": null });
    let part = json!({
        "artifacts": [log],
        "artifacts_expire_at": null,
        "runner": null,
        "runner_manager": null,
        "archived": false,
        "tag_list": [],
    });
    let Some(archive) = &job.artifact else { return part };
    let (size, filename) = (archive.size(), "artifacts.zip");
    let more = json!({
        "artifacts_file": { "filename": filename, "size": size },
        "artifacts": [{ "file_type": "archive", "size": size, "filename": filename, "file_format": "zip" }, log],
        "artifacts_expire_at": time::iso(archive.expiry(job.created_at)),
    });
    with(part, more)
}

impl Job {
    /// Seconds of running; null until finished.
    pub(in crate::sandbox) fn duration(&self) -> Option<f64> {
        Some(self.finished_at?.duration_since(self.started_at?).as_secs_f64())
    }
}
