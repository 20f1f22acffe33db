//! `pipeline` bodies. `ref` is the source branch even for a merge request pipeline, and nothing says
//! whether that is a detached, merged results or merge train one.

use crate::sandbox::{
    jobs::Job,
    json::with,
    pipelines::{Pipeline, entity::label},
    projects::Project,
    refusal::Refusal,
    repository::ZERO,
    state::State,
    time,
};
use serde_json::{Value, json};

pub(in crate::sandbox) fn pipeline(
    state: &State,
    project: u64,
    pipeline: &Pipeline,
) -> Result<Value, Refusal> {
    let known = state.project(project)?;
    let mut stages: Vec<&str> = Vec::new();
    for job in known.jobs_of(pipeline.id) {
        if !stages.contains(&job.stage.as_str()) {
            stages.push(&job.stage);
        }
    }
    let builds: Vec<_> = known.jobs_of(pipeline.id).map(|job| build(state, known, job)).collect();
    let body = json!({
        "object_kind": "pipeline",
        "object_attributes": {
            "id": pipeline.id,
            "iid": pipeline.iid,
            "name": null,
            "ref": state.branch_of(pipeline),
            "tag": pipeline.tag,
            "sha": pipeline.sha,
            "before_sha": ZERO,
            "source": pipeline.source,
            "status": pipeline.status,
            "detailed_status": label(&pipeline.status),
            "stages": stages,
            "created_at": time::utc(pipeline.created_at),
            "finished_at": pipeline.finished_at.map(time::utc),
            "duration": pipeline.duration(),
            "queued_duration": pipeline.started_at.map(|_| 1),
            "protected_ref": false,
            "variables": [],
            "url": state.pipeline_url(project, pipeline)?,
        },
        "merge_request": merge_request(state, pipeline),
        "user": super::user(state, pipeline.user),
        "project": super::project(state, known),
        "commit": state.commits.get(&pipeline.sha).map(|commit| super::commit(state, known, commit)),
        "builds": builds,
    });
    let parent = source_pipeline(state, pipeline).map(|parent| json!({ "source_pipeline": parent }));
    Ok(with(body, parent.unwrap_or_default()))
}

fn merge_request(state: &State, pipeline: &Pipeline) -> Value {
    let found = pipeline.merge_request.and_then(|(project, iid)| {
        Some((state.project(project).ok()?, state.merge_request(project, iid).ok()?))
    });
    found.map_or(Value::Null, |(target, merge_request)| {
        json!({
            "id": merge_request.id,
            "iid": merge_request.iid,
            "title": merge_request.title,
            "source_branch": merge_request.source_branch,
            "source_project_id": merge_request.source_project,
            "target_branch": merge_request.target_branch,
            "target_project_id": target.id,
            "state": merge_request.state.name(),
            "merge_status": merge_request.merge_status(),
            "detailed_merge_status": merge_request.detailed_status(),
            "url": state.merge_request_url(target, merge_request),
        })
    })
}

fn source_pipeline(state: &State, pipeline: &Pipeline) -> Option<Value> {
    let (project, id, job) = pipeline.parent?;
    let parent = state.project(project).ok()?;
    Some(json!({
        "project": {
            "id": project,
            "web_url": state.project_url(parent),
            "path_with_namespace": parent.path,
        },
        "pipeline_id": id,
        "job_id": job,
    }))
}

fn build(state: &State, project: &Project, job: &Job) -> Value {
    let archive = job.artifact.as_ref().map(|_| "artifacts.zip");
    json!({
        "id": job.id,
        "stage": job.stage,
        "name": job.name,
        "status": job.status,
        "created_at": time::utc(job.created_at),
        "started_at": job.started_at.map(time::utc),
        "finished_at": job.finished_at.map(time::utc),
        "duration": job.duration(),
        "queued_duration": job.started_at.map(|_| 0.5),
        "failure_reason": job.failure_reason,
        "when": if job.manual { "manual" } else { "on_success" },
        "manual": job.manual,
        "allow_failure": job.allow_failure,
        "user": super::user(state, job.user),
        "runner": null,
        "artifacts_file": { "filename": archive, "size": null },
        "environment": super::environment(project, job),
    })
}

impl State {
    /// The branch or tag that hooks name for a pipeline.
    pub(super) fn branch_of(&self, pipeline: &Pipeline) -> String {
        let merge_request =
            pipeline.merge_request.and_then(|(project, iid)| self.merge_request(project, iid).ok());
        merge_request
            .map_or_else(|| pipeline.reference.clone(), |merge_request| merge_request.source_branch.clone())
    }
}
