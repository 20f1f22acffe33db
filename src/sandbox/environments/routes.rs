//! The environment endpoints.

use super::Environment;
use crate::sandbox::{
    pagination::paginate,
    params::Params,
    refusal::{Answer, Refusal},
    state::{Gitlab, State},
    users::{Caller, DEVELOPER, GUEST},
};
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;

type EnvironmentPath = web::Path<(String, u64)>;

pub(in crate::sandbox) fn routes(api: &mut web::ServiceConfig) {
    api.service(web::resource("/projects/{id}/environments").get(list).post(create))
        .service(
            web::resource("/projects/{id}/environments/{environment}").get(get).put(update).delete(delete),
        )
        .route("/projects/{id}/environments/{environment}/stop", web::post().to(stop));
}

/// Shortest text that `search` takes.
const MIN_SEARCH: usize = 3;

async fn list(
    gitlab: Gitlab,
    caller: Caller,
    request: HttpRequest,
    path: web::Path<String>,
    params: Params,
) -> Answer {
    let state = gitlab.lock();
    let project = state.project(state.enter(&caller, &path, GUEST)?)?;
    let (name, search) = (params.text("name"), params.text("search"));
    if search.as_ref().is_some_and(|search| search.len() < MIN_SEARCH) {
        return Err(Refusal::bad_request("400 Bad request - Search query is less than 3 characters"));
    }
    let states = params.text("states");
    let wanted = |environment: &&Environment| {
        name.as_ref().is_none_or(|name| *name == environment.name)
            && search.as_ref().is_none_or(|search| environment.name.contains(search))
            && states.as_ref().is_none_or(|state| state == environment.state)
    };
    let found = project.environments.values().filter(wanted);
    let found = found.map(|environment| state.environment_json(project.id, environment, false));
    Ok(paginate(&request, &params, &found.collect::<Result<Vec<_>, _>>()?))
}

async fn get(gitlab: Gitlab, caller: Caller, path: EnvironmentPath) -> Answer {
    let (project, id) = path.into_inner();
    let state = gitlab.lock();
    let project = state.enter(&caller, &project, GUEST)?;
    Ok(HttpResponse::Ok().json(state.environment_json(project, state.environment(project, id)?, true)?))
}

fn check_name(name: &str) -> Result<(), Refusal> {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || " -_/.${}".contains(letter);
    if name.is_empty()
        || name.len() > 255
        || !name.chars().all(allowed)
        || name.starts_with('/')
        || name.ends_with('/')
    {
        let message = "can contain only letters, digits, '-', '_', '/', '$', '{', '}', '.', and spaces, but it cannot start or end with '/'";
        return Err(Refusal::bad_request(json!({ "name": [message] })));
    }
    Ok(())
}

fn describe(state: &mut State, project: u64, id: u64, params: &Params) -> Result<(), Refusal> {
    if let Some(url) = params.text("external_url").filter(|url| !url.is_empty()) {
        let valid = url::Url::parse(&url).is_ok_and(|url| ["http", "https"].contains(&url.scheme()));
        if !valid {
            let message = "is blocked: Only allowed schemes are http, https";
            return Err(Refusal::bad_request(json!({ "external_url": [message] })));
        }
    }
    let environment = state.environment_mut(project, id)?;
    if params.has("external_url") {
        environment.external_url = params.text("external_url").filter(|url| !url.is_empty());
    }
    if let Some(tier) = params.text("tier") {
        if !["production", "staging", "testing", "development", "other"].contains(&tier.as_str()) {
            return Err(Refusal::invalid("tier does not have a valid value"));
        }
        environment.tier = tier;
    }
    if params.has("description") {
        environment.description = params.text("description");
    }
    if let Some(setting) = params.text("auto_stop_setting") {
        if !["always", "with_action"].contains(&setting.as_str()) {
            return Err(Refusal::invalid("auto_stop_setting does not have a valid value"));
        }
        environment.auto_stop_setting = setting;
    }
    Ok(())
}

async fn create(gitlab: Gitlab, caller: Caller, path: web::Path<String>, params: Params) -> Answer {
    let mut state = gitlab.lock();
    let project = state.enter(&caller, &path, DEVELOPER)?;
    let name = params.required("name")?;
    check_name(&name)?;
    if state.environment_named(project, &name)?.is_some() {
        return Err(Refusal::bad_request(json!({ "name": ["has already been taken"] })));
    }
    let id = state.ensure_environment(project, &name)?;
    if let Err(refusal) = describe(&mut state, project, id, &params) {
        state.project_mut(project)?.environments.remove(&id);
        return Err(refusal);
    }
    Ok(HttpResponse::Created().json(state.environment_json(
        project,
        state.environment(project, id)?,
        true,
    )?))
}

async fn update(gitlab: Gitlab, caller: Caller, path: EnvironmentPath, params: Params) -> Answer {
    let (project, id) = path.into_inner();
    let mut state = gitlab.lock();
    let project = state.enter(&caller, &project, DEVELOPER)?;
    // A name in the request is ignored: environments cannot be renamed.
    describe(&mut state, project, id, &params)?;
    Ok(HttpResponse::Ok().json(state.environment_json(project, state.environment(project, id)?, true)?))
}

async fn stop(gitlab: Gitlab, caller: Caller, path: EnvironmentPath, params: Params) -> Answer {
    let (project, id) = path.into_inner();
    let mut state = gitlab.lock();
    let project = state.enter(&caller, &project, DEVELOPER)?;
    state.stop_environment(project, id, params.flag("force").unwrap_or(false), caller.user)?;
    Ok(HttpResponse::Ok().json(state.environment_json(project, state.environment(project, id)?, true)?))
}

async fn delete(gitlab: Gitlab, caller: Caller, path: EnvironmentPath) -> Answer {
    let (project, id) = path.into_inner();
    let mut state = gitlab.lock();
    let project = state.enter(&caller, &project, DEVELOPER)?;
    if state.environment(project, id)?.state != "stopped" {
        return Err(Refusal::forbidden());
    }
    let known = state.project_mut(project)?;
    known.environments.remove(&id);
    known.deployments.retain(|_, deployment| deployment.environment != id);
    Ok(HttpResponse::NoContent().finish())
}
