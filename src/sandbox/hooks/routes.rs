//! The webhook endpoints: Maintainer only.

use super::events;
use crate::sandbox::{
    pagination::paginate,
    params::Params,
    refusal::{Answer, Refusal},
    state::Gitlab,
    users::{Caller, MAINTAINER},
};
use actix_web::{HttpRequest, HttpResponse, web};

pub(in crate::sandbox) fn routes(api: &mut web::ServiceConfig) {
    api.service(web::resource("/projects/{id}/hooks").get(list).post(create))
        .service(web::resource("/projects/{id}/hooks/{hook}").get(get).put(update).delete(delete))
        .route("/projects/{id}/hooks/{hook}/test/{trigger}", web::post().to(events::test))
        .route("/projects/{id}/hooks/{hook}/events", web::get().to(events::list))
        .route("/projects/{id}/hooks/{hook}/events/{event}/resend", web::post().to(events::resend));
}

async fn list(
    gitlab: Gitlab,
    caller: Caller,
    request: HttpRequest,
    path: web::Path<String>,
    params: Params,
) -> Answer {
    let state = gitlab.lock();
    let project = state.project(state.enter(&caller, &path, MAINTAINER)?)?;
    let hooks: Vec<_> = project.hooks.values().map(|hook| state.hook_json(hook)).collect();
    Ok(paginate(&request, &params, &hooks))
}

async fn get(gitlab: Gitlab, caller: Caller, path: web::Path<(String, u64)>) -> Answer {
    let (project, id) = path.into_inner();
    let state = gitlab.lock();
    let project = state.enter(&caller, &project, MAINTAINER)?;
    Ok(HttpResponse::Ok().json(state.hook_json(state.hook(project, id)?)))
}

async fn create(gitlab: Gitlab, caller: Caller, path: web::Path<String>, params: Params) -> Answer {
    let mut state = gitlab.lock();
    let project = state.enter(&caller, &path, MAINTAINER)?;
    params.required("url")?;
    let id = state.add_hook(project, &params)?;
    Ok(HttpResponse::Created().json(state.hook_json(state.hook(project, id)?)))
}

async fn update(gitlab: Gitlab, caller: Caller, path: web::Path<(String, u64)>, params: Params) -> Answer {
    let (project, id) = path.into_inner();
    let mut state = gitlab.lock();
    let project = state.enter(&caller, &project, MAINTAINER)?;
    params.required("url")?;
    let signs = state.signs();
    state.hook_mut(project, id)?.describe(&params, signs)?;
    Ok(HttpResponse::Ok().json(state.hook_json(state.hook(project, id)?)))
}

async fn delete(gitlab: Gitlab, caller: Caller, path: web::Path<(String, u64)>) -> Answer {
    let (project, id) = path.into_inner();
    let mut state = gitlab.lock();
    let project = state.enter(&caller, &project, MAINTAINER)?;
    let removed = state.project_mut(project)?.hooks.remove(&id);
    removed.map(|_| HttpResponse::NoContent().finish()).ok_or_else(|| Refusal::not_found(""))
}
