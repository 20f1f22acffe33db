//! The pipeline endpoints.

use super::{Kind, NewPipeline, Pipeline, composite::complete};
use crate::sandbox::{
    pagination::paginate,
    params::Params,
    refusal::{Answer, Refusal},
    state::{Gitlab, State},
    users::{Caller, DEVELOPER, GUEST},
};
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::Value;

pub(in crate::sandbox) fn routes(api: &mut web::ServiceConfig) {
    api.route("/projects/{id}/pipeline", web::post().to(create))
        .route("/projects/{id}/pipelines", web::get().to(list))
        .route("/projects/{id}/pipelines/latest", web::get().to(latest))
        .route("/projects/{id}/pipelines/{pipeline}", web::get().to(get))
        .route("/projects/{id}/pipelines/{pipeline}/jobs", web::get().to(jobs))
        .route("/projects/{id}/pipelines/{pipeline}/bridges", web::get().to(bridges))
        .route("/projects/{id}/pipelines/{pipeline}/cancel", web::post().to(cancel))
        .route("/projects/{id}/pipelines/{pipeline}/retry", web::post().to(retry))
        .service(
            web::resource("/projects/{id}/merge_requests/{iid}/pipelines")
                .get(list_of_merge_request)
                .post(create_for_merge_request),
        );
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
    let text = |name: &str, value: &str| params.text(name).is_none_or(|wanted| wanted == value);
    let wanted = |pipeline: &&Pipeline| {
        text("sha", &pipeline.sha)
            && text("ref", &pipeline.reference)
            && text("status", &pipeline.status)
            && match params.text("source") {
                // Children are left out unless they are asked for.
                None => pipeline.source != "parent_pipeline",
                Some(source) => source == pipeline.source,
            }
            && params.moment("updated_after").is_none_or(|bound| pipeline.updated_at >= bound)
    };
    let mut pipelines: Vec<_> = project.pipelines.values().filter(wanted).collect();
    if params.text("sort").as_deref() != Some("asc") {
        pipelines.reverse();
    }
    let pipelines = pipelines.into_iter().map(|pipeline| state.pipeline_basic(project.id, pipeline));
    Ok(paginate(&request, &params, &pipelines.collect::<Result<Vec<_>, _>>()?))
}

async fn latest(gitlab: Gitlab, caller: Caller, path: web::Path<String>, params: Params) -> Answer {
    let state = gitlab.lock();
    let project = state.project(state.enter(&caller, &path, GUEST)?)?;
    let branch = params.text("ref").unwrap_or_else(|| project.default_branch.clone());
    let head = project.resolve(&branch);
    let newest = project
        .pipelines
        .values()
        .rev()
        .find(|one| one.reference == branch && Some(&one.sha) == head.as_ref());
    let newest = newest.ok_or_else(Refusal::forbidden)?;
    Ok(HttpResponse::Ok().json(state.pipeline_json(project.id, newest)?))
}

async fn get(gitlab: Gitlab, caller: Caller, path: web::Path<(String, u64)>) -> Answer {
    let (project, id) = path.into_inner();
    let state = gitlab.lock();
    let project = state.enter(&caller, &project, GUEST)?;
    Ok(HttpResponse::Ok().json(state.pipeline_json(project, state.pipeline(project, id)?)?))
}

fn parts(
    state: &State,
    caller: &Caller,
    (project, id): (&str, u64),
    params: &Params,
    bridges: bool,
) -> Result<Vec<Value>, Refusal> {
    let project = state.project(state.enter(caller, project, GUEST)?)?;
    state.pipeline(project.id, id)?;
    let retried = params.flag("include_retried").unwrap_or(false);
    let scopes = params.list("scope").unwrap_or_default();
    let jobs = project.jobs.values().rev().filter(|job| job.pipeline == id && job.bridge == bridges);
    jobs.filter(|job| (retried || !job.retried) && (scopes.is_empty() || scopes.contains(&job.status)))
        .map(|job| state.job_json(project.id, job))
        .collect()
}

async fn jobs(
    gitlab: Gitlab,
    caller: Caller,
    request: HttpRequest,
    path: web::Path<(String, u64)>,
    params: Params,
) -> Answer {
    let jobs = parts(&gitlab.lock(), &caller, (&path.0, path.1), &params, false)?;
    Ok(paginate(&request, &params, &jobs))
}

async fn bridges(
    gitlab: Gitlab,
    caller: Caller,
    request: HttpRequest,
    path: web::Path<(String, u64)>,
    params: Params,
) -> Answer {
    let bridges = parts(&gitlab.lock(), &caller, (&path.0, path.1), &params, true)?;
    Ok(paginate(&request, &params, &bridges))
}

async fn create(gitlab: Gitlab, caller: Caller, path: web::Path<String>, params: Params) -> Answer {
    let mut state = gitlab.lock();
    let project = state.enter(&caller, &path, DEVELOPER)?;
    let reference = params.required("ref")?;
    let known = state.project(project)?;
    let missing = || Refusal::bad_request(serde_json::json!({ "base": ["Reference not found"] }));
    let sha = known.resolve(&reference).ok_or_else(missing)?;
    let tag = known.tags.contains_key(&reference);
    let jobs = known.ci_jobs.clone();
    let new = NewPipeline { source: "api", tag, jobs, ..NewPipeline::external(&sha, &reference) };
    let id = state.create_pipeline(project, new, caller.user)?;
    Ok(HttpResponse::Created().json(state.pipeline_json(project, state.pipeline(project, id)?)?))
}

async fn cancel(gitlab: Gitlab, caller: Caller, path: web::Path<(String, u64)>) -> Answer {
    let (project, id) = path.into_inner();
    let mut state = gitlab.lock();
    let project = state.enter(&caller, &project, DEVELOPER)?;
    state.pipeline(project, id)?;
    let live = |status: &str| !complete(status) && status != "manual";
    let jobs: Vec<_> =
        state.project(project)?.jobs_of(id).filter(|job| live(&job.status)).map(|job| job.id).collect();
    for job in jobs {
        state.set_job_status(project, job, "canceled", None)?;
    }
    Ok(HttpResponse::Created().json(state.pipeline_json(project, state.pipeline(project, id)?)?))
}

async fn retry(gitlab: Gitlab, caller: Caller, path: web::Path<(String, u64)>) -> Answer {
    let (project, id) = path.into_inner();
    let mut state = gitlab.lock();
    let project = state.enter(&caller, &project, DEVELOPER)?;
    state.pipeline(project, id)?;
    let failed = |status: &str| ["failed", "canceled"].contains(&status);
    let jobs: Vec<_> =
        state.project(project)?.jobs_of(id).filter(|job| failed(&job.status)).map(|job| job.id).collect();
    for job in jobs {
        state.retry_job(project, job, caller.user)?;
    }
    Ok(HttpResponse::Created().json(state.pipeline_json(project, state.pipeline(project, id)?)?))
}

async fn list_of_merge_request(
    gitlab: Gitlab,
    caller: Caller,
    request: HttpRequest,
    path: web::Path<(String, u64)>,
    params: Params,
) -> Answer {
    let (project, iid) = path.into_inner();
    let state = gitlab.lock();
    let project = state.project(state.enter(&caller, &project, GUEST)?)?;
    let pipelines = state.pipelines_of(project, state.merge_request(project.id, iid)?);
    let pipelines = pipelines.into_iter().map(|(owner, pipeline)| state.pipeline_basic(owner.id, pipeline));
    Ok(paginate(&request, &params, &pipelines.collect::<Result<Vec<_>, _>>()?))
}

async fn create_for_merge_request(gitlab: Gitlab, caller: Caller, path: web::Path<(String, u64)>) -> Answer {
    let (project, iid) = path.into_inner();
    let mut state = gitlab.lock();
    let project = state.enter(&caller, &project, DEVELOPER)?;
    let jobs = state.project(project)?.ci_jobs.clone();
    let new = state.merge_request_pipeline(project, iid, Kind::Detached, caller.user)?;
    let new = NewPipeline { jobs, ..new };
    let id = state.create_pipeline(project, new, caller.user)?;
    Ok(HttpResponse::Created().json(state.pipeline_json(project, state.pipeline(project, id)?)?))
}
