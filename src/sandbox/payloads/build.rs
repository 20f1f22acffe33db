//! `build` bodies (Job Hook). Beware: `commit.id` is the *pipeline's* id; the commit is `sha`.

use crate::sandbox::{jobs::Job, refusal::Refusal, repository::ZERO, state::State, time};
use serde_json::{Value, json};

pub(in crate::sandbox) fn build(state: &State, project: u64, job: &Job) -> Result<Value, Refusal> {
    let known = state.project(project)?;
    let pipeline = state.pipeline(project, job.pipeline)?;
    let commit = state.commit(&pipeline.sha)?;
    Ok(json!({
        "object_kind": "build",
        "ref": state.branch_of(pipeline),
        "tag": pipeline.tag,
        "before_sha": ZERO,
        "sha": pipeline.sha,
        "build_id": job.id,
        "build_name": job.name,
        "build_stage": job.stage,
        "build_status": job.status,
        "build_created_at": time::utc(job.created_at),
        "build_started_at": job.started_at.map(time::utc),
        "build_finished_at": job.finished_at.map(time::utc),
        "build_duration": job.duration(),
        "build_queued_duration": job.started_at.map(|_| 0.5),
        "build_allow_failure": job.allow_failure,
        "build_failure_reason": job.failure_reason.as_deref().unwrap_or("unknown_failure"),
        "retries_count": job.retries,
        "pipeline_id": job.pipeline,
        "project_id": project,
        "project_name": known.path.replace('/', " / "),
        "runner": null,
        "user": super::user(state, job.user),
        "commit": {
            "id": job.pipeline,
            "name": null,
            "sha": pipeline.sha,
            "message": commit.message,
            "author_name": commit.author_name,
            "author_email": "[REDACTED]",
            "author_url": state.url,
            "status": pipeline.status,
            "duration": pipeline.duration(),
            "started_at": pipeline.started_at.map(time::utc),
            "finished_at": pipeline.finished_at.map(time::utc),
        },
        "repository": super::repository(state, known),
        "project": super::project(state, known),
        "environment": super::environment(known, job),
    }))
}
