//! Pipelines and jobs by hand: what `.gitlab-ci.yml` and the runners would do.

use super::actor;
use crate::sandbox::{
    id_tokens,
    jobs::{Artifact, JobSpec},
    json::with,
    pipelines::{Kind, NewPipeline, composite::complete},
    refusal::{Answer, Refusal},
    state::{Gitlab, State},
};
use actix_web::{HttpResponse, web};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;

pub(super) fn routes(control: &mut web::ServiceConfig) {
    control
        .route("/projects/{id}/pipelines", web::post().to(create))
        .route("/projects/{id}/pipelines/{pipeline}/finish", web::post().to(finish))
        .route("/projects/{id}/jobs/{job}", web::post().to(change_job))
        .route("/projects/{id}/jobs/{job}/id_token", web::post().to(id_tokens::mint))
        .route("/id_token_keys/rotate", web::post().to(id_tokens::rotate));
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// A branch or tag; or
    #[serde(default, rename = "ref")]
    reference: Option<String>,
    /// a merge request of this project, or of `mr_project`.
    #[serde(default)]
    mr_iid: Option<u64>,
    /// The target project, when a fork's own pipeline is made.
    #[serde(default)]
    mr_project: Option<String>,
    #[serde(default)]
    kind: Option<Kind>,
    #[serde(default)]
    source: Option<Source>,
    /// A pipeline of this project: the new one is its child.
    #[serde(default)]
    parent: Option<u64>,
    /// The bridge job of the parent that starts it.
    #[serde(default)]
    parent_job: Option<u64>,
    #[serde(default)]
    jobs: Vec<JobSpec>,
    #[serde(default)]
    user: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Source {
    Push,
    Web,
    Api,
    Trigger,
    Schedule,
}

impl Source {
    const fn name(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Web => "web",
            Self::Api => "api",
            Self::Trigger => "trigger",
            Self::Schedule => "schedule",
        }
    }
}

async fn create(gitlab: Gitlab, path: web::Path<String>, wanted: web::Json<Wanted>) -> Answer {
    let mut state = gitlab.lock();
    let project = state.find_project(&path)?;
    let wanted = wanted.into_inner();
    let user = actor(&state, wanted.user.as_deref())?;
    let new = match (wanted.mr_iid, &wanted.reference) {
        (Some(iid), _) => {
            let target =
                wanted.mr_project.as_deref().map_or(Ok(project), |target| state.find_project(target))?;
            state.merge_request_pipeline(target, iid, wanted.kind.unwrap_or(Kind::Detached), user)?
        }
        (None, Some(reference)) => {
            let known = state.project(project)?;
            let sha = known.commit_of(reference)?;
            let tag = known.tags.contains_key(reference);
            let source = wanted.source.unwrap_or(Source::Push).name();
            NewPipeline { tag, source, ..NewPipeline::external(&sha, reference) }
        }
        (None, None) => return Err(Refusal::missing("ref or mr_iid")),
    };
    let parent = wanted.parent.map(|parent| (project, parent, wanted.parent_job));
    let source = if parent.is_some() { "parent_pipeline" } else { new.source };
    if parent.is_none() {
        state.project_mut(project)?.ci_jobs = wanted.jobs.iter().map(JobSpec::fresh).collect();
    }
    let id =
        state.create_pipeline(project, NewPipeline { source, parent, jobs: wanted.jobs, ..new }, user)?;
    if let Some((_, _, Some(bridge))) = parent {
        state.job_mut(project, bridge)?.downstream = Some((project, id));
    }
    state.shown(project, id)
}

impl State {
    /// The pipeline with its jobs, ids and all.
    fn shown(&self, project: u64, id: u64) -> Answer {
        let pipeline = self.pipeline_json(project, self.pipeline(project, id)?)?;
        let jobs = self.project(project)?.jobs_of(id).map(|job| self.job_json(project, job));
        let jobs = jobs.collect::<Result<Vec<_>, _>>()?;
        Ok(HttpResponse::Created().json(with(pipeline, json!({ "jobs": jobs }))))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Finish {
    status: Option<String>,
    /// The job that gets the files; the first one when absent.
    job: Option<String>,
    files: Option<BTreeMap<String, String>>,
}

/// All jobs that still run end: the named one as told, the others with success, manual ones stay.
async fn finish(gitlab: Gitlab, path: web::Path<(String, u64)>, finish: Option<web::Json<Finish>>) -> Answer {
    let (project, id) = path.into_inner();
    let mut state = gitlab.lock();
    let project = state.find_project(&project)?;
    state.pipeline(project, id)?;
    let finish = finish.map(web::Json::into_inner).unwrap_or_default();
    let status = finish.status.unwrap_or_else(|| "success".to_owned());
    let known = state.project(project)?;
    let jobs: Vec<_> = known.jobs_of(id).map(|job| (job.id, job.name.clone(), job.status.clone())).collect();
    let named = match &finish.job {
        Some(name) => jobs.iter().find(|(_, job, _)| job == name).map(|(id, ..)| *id),
        None => jobs.first().map(|(id, ..)| *id),
    };
    let named = named.ok_or_else(|| Refusal::not_found("Job"))?;
    if let Some(files) = finish.files {
        state.store_artifact(project, named, Artifact::of_files(files)?)?;
    }
    for (job, _, was) in jobs.into_iter().filter(|(_, _, was)| !complete(was) && was != "manual") {
        if was != "running" {
            state.set_job_status(project, job, "running", None)?;
        }
        let end = if job == named || status == "canceled" { status.as_str() } else { "success" };
        state.set_job_status(project, job, end, None)?;
    }
    state.shown(project, id)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct JobChange {
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    failure_reason: Option<String>,
    #[serde(default)]
    artifact: Option<Artifact>,
    #[serde(default)]
    expire_artifact: bool,
    /// The job's log.
    #[serde(default)]
    trace: Option<String>,
}

async fn change_job(gitlab: Gitlab, path: web::Path<(String, u64)>, change: web::Json<JobChange>) -> Answer {
    let (project, id) = path.into_inner();
    let mut state = gitlab.lock();
    let project = state.find_project(&project)?;
    let change = change.into_inner();
    if let Some(trace) = change.trace {
        state.job_mut(project, id)?.trace = trace;
    }
    if let Some(artifact) = change.artifact {
        state.store_artifact(project, id, artifact)?;
    }
    if change.expire_artifact {
        state.expire_artifact(project, id)?;
    }
    if let Some(status) = change.status {
        state.set_job_status(project, id, &status, change.failure_reason)?;
    }
    Ok(HttpResponse::Ok().json(state.job_json(project, state.job(project, id)?)?))
}
