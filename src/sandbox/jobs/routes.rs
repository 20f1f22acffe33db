//! The job endpoints.

use crate::sandbox::{
    pagination::paginate,
    params::Params,
    pipelines::composite::complete,
    refusal::{Answer, Refusal},
    state::{Gitlab, State},
    users::{Caller, DEVELOPER, GUEST},
};
use actix_web::{HttpRequest, HttpResponse, web};

type JobPath = web::Path<(String, u64)>;

pub(in crate::sandbox) fn routes(api: &mut web::ServiceConfig) {
    api.route("/projects/{id}/jobs", web::get().to(list))
        .route("/projects/{id}/jobs/artifacts/{ref}/download", web::get().to(latest_archive))
        .route("/projects/{id}/jobs/artifacts/{ref}/raw/{path:.*}", web::get().to(latest_file))
        .route("/projects/{id}/jobs/{job}", web::get().to(get))
        .route("/projects/{id}/jobs/{job}/trace", web::get().to(trace))
        .route("/projects/{id}/jobs/{job}/artifacts", web::get().to(archive))
        .route("/projects/{id}/jobs/{job}/artifacts/{path:.*}", web::get().to(file))
        .route("/projects/{id}/jobs/{job}/play", web::post().to(play))
        .route("/projects/{id}/jobs/{job}/retry", web::post().to(retry))
        .route("/projects/{id}/jobs/{job}/cancel", web::post().to(cancel));
}

async fn list(
    gitlab: Gitlab,
    caller: Caller,
    request: HttpRequest,
    path: web::Path<String>,
    params: Params,
) -> Answer {
    let state = gitlab.lock();
    let project = state.project(state.enter(&caller, &path, GUEST)?)?;
    let scopes = params.list("scope").unwrap_or_default();
    let jobs = project.jobs.values().rev().filter(|job| !job.bridge && !job.retried);
    let jobs = jobs.filter(|job| scopes.is_empty() || scopes.contains(&job.status));
    let jobs = jobs.map(|job| state.job_json(project.id, job)).collect::<Result<Vec<_>, _>>()?;
    Ok(paginate(&request, &params, &jobs))
}

async fn get(gitlab: Gitlab, caller: Caller, path: JobPath) -> Answer {
    let (project, id) = path.into_inner();
    let state = gitlab.lock();
    let project = state.enter(&caller, &project, GUEST)?;
    let job = state.job(project, id).ok().filter(|job| !job.bridge).ok_or_else(|| Refusal::not_found(""))?;
    Ok(HttpResponse::Ok().json(state.job_json(project, job)?))
}

async fn trace(gitlab: Gitlab, caller: Caller, path: JobPath) -> Answer {
    let (project, id) = path.into_inner();
    let state = gitlab.lock();
    let project = state.enter(&caller, &project, GUEST)?;
    Ok(HttpResponse::Ok().content_type("text/plain").body(state.job(project, id)?.trace.clone()))
}

async fn archive(gitlab: Gitlab, caller: Caller, path: JobPath) -> Answer {
    let (project, id) = path.into_inner();
    let mut state = gitlab.lock();
    let project = state.enter(&caller, &project, GUEST)?;
    state.redirect_to_artifact(project, id)
}

async fn file(gitlab: Gitlab, caller: Caller, path: web::Path<(String, u64, String)>) -> Answer {
    let (project, id, file) = path.into_inner();
    let state = gitlab.lock();
    let project = state.enter(&caller, &project, GUEST)?;
    state.artifact_file(project, id, &file)
}

/// The job of the latest successful pipeline of a ref.
fn latest_job(state: &State, project: u64, reference: &str, params: &Params) -> Result<u64, Refusal> {
    let known = state.project(project)?;
    let name = params.required("job")?;
    let green =
        |one: &&crate::sandbox::pipelines::Pipeline| one.reference == reference && one.status == "success";
    let pipeline = known.pipelines.values().rev().find(green).ok_or_else(|| Refusal::not_found(""))?;
    let job = known.jobs_of(pipeline.id).find(|job| job.name == name);
    job.map(|job| job.id).ok_or_else(|| Refusal::not_found(""))
}

async fn latest_archive(
    gitlab: Gitlab,
    caller: Caller,
    path: web::Path<(String, String)>,
    params: Params,
) -> Answer {
    let (project, reference) = path.into_inner();
    let mut state = gitlab.lock();
    let project = state.enter(&caller, &project, GUEST)?;
    let job = latest_job(&state, project, &reference, &params)?;
    state.redirect_to_artifact(project, job)
}

async fn latest_file(
    gitlab: Gitlab,
    caller: Caller,
    path: web::Path<(String, String, String)>,
    params: Params,
) -> Answer {
    let (project, reference, file) = path.into_inner();
    let state = gitlab.lock();
    let project = state.enter(&caller, &project, GUEST)?;
    let job = latest_job(&state, project, &reference, &params)?;
    state.artifact_file(project, job, &file)
}

async fn play(gitlab: Gitlab, caller: Caller, path: JobPath) -> Answer {
    let (project, id) = path.into_inner();
    let mut state = gitlab.lock();
    let project = state.enter(&caller, &project, DEVELOPER)?;
    if !["manual", "scheduled"].contains(&state.job(project, id)?.status.as_str()) {
        return Err(Refusal::bad_request("400 Bad request - Unplayable Job"));
    }
    state.job_mut(project, id)?.user = caller.user;
    state.set_job_status(project, id, "pending", None)?;
    Ok(HttpResponse::Ok().json(state.job_json(project, state.job(project, id)?)?))
}

async fn retry(gitlab: Gitlab, caller: Caller, path: JobPath) -> Answer {
    let (project, id) = path.into_inner();
    let mut state = gitlab.lock();
    let project = state.enter(&caller, &project, DEVELOPER)?;
    let new = state.retry_job(project, id, caller.user)?;
    Ok(HttpResponse::Created().json(state.job_json(project, state.job(project, new)?)?))
}

async fn cancel(gitlab: Gitlab, caller: Caller, path: JobPath) -> Answer {
    let (project, id) = path.into_inner();
    let mut state = gitlab.lock();
    let project = state.enter(&caller, &project, DEVELOPER)?;
    if !complete(&state.job(project, id)?.status) {
        state.set_job_status(project, id, "canceled", None)?;
    }
    Ok(HttpResponse::Created().json(state.job_json(project, state.job(project, id)?)?))
}
