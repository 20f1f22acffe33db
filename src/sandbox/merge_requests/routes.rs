//! The merge request endpoints.

use super::{Check, MergeRequest, diff, lifecycle::Opening, list};
use crate::sandbox::{
    pagination::{paginate, paginate_by},
    params::Params,
    projects::Project,
    refusal::{Answer, Refusal},
    state::{Gitlab, State},
    users::{Caller, DEVELOPER, GUEST},
};
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;

pub(in crate::sandbox) fn routes(api: &mut web::ServiceConfig) {
    api.route("/merge_requests", web::get().to(list_everywhere))
        .service(web::resource("/projects/{id}/merge_requests").get(list_in_project).post(create))
        .service(web::resource("/projects/{id}/merge_requests/{iid}").get(get).put(update))
        .route("/projects/{id}/merge_requests/{iid}/merge", web::put().to(merge))
        .route("/projects/{id}/merge_requests/{iid}/commits", web::get().to(commits))
        .route("/projects/{id}/merge_requests/{iid}/diffs", web::get().to(diff::list));
}

async fn list_everywhere(gitlab: Gitlab, caller: Caller, request: HttpRequest, params: Params) -> Answer {
    let state = gitlab.lock();
    let seen = state
        .projects
        .values()
        .filter(|project| project.role_of(caller.user) > 0 || project.visibility != "private");
    Ok(page(&state, seen, &request, &params))
}

async fn list_in_project(
    gitlab: Gitlab,
    caller: Caller,
    request: HttpRequest,
    path: web::Path<String>,
    params: Params,
) -> Answer {
    let state = gitlab.lock();
    let project = state.project(state.enter(&caller, &path, GUEST)?)?;
    Ok(page(&state, [project].into_iter(), &request, &params))
}

fn page<'state>(
    state: &'state State,
    projects: impl Iterator<Item = &'state Project>,
    request: &HttpRequest,
    params: &Params,
) -> HttpResponse {
    let wanted = list::Wanted::new(params, state);
    let mut found: Vec<(&Project, &MergeRequest)> = projects
        .flat_map(|project| project.merge_requests.values().map(move |one| (project, one)))
        .filter(|(_, one)| wanted.has(one))
        .collect();
    list::sort(params, &mut found);
    paginate_by(request, params, &found, |(project, one)| state.merge_request_basic(project, one))
}

async fn get(gitlab: Gitlab, caller: Caller, path: web::Path<(String, u64)>) -> Answer {
    let (project, iid) = path.into_inner();
    let mut state = gitlab.lock();
    let project = state.enter(&caller, &project, GUEST)?;
    let merge_request = state.merge_request_mut(project, iid)?;
    let shown = MergeRequest {
        check: if merge_request.check == Check::Unchecked { Check::Checking } else { merge_request.check },
        ..merge_request.clone()
    };
    merge_request.check = Check::Checked;
    Ok(HttpResponse::Ok().json(state.merge_request_full(state.project(project)?, &shown)?))
}

async fn create(gitlab: Gitlab, caller: Caller, path: web::Path<String>, params: Params) -> Answer {
    let mut state = gitlab.lock();
    let asked_at = state.enter(&caller, &path, GUEST)?;
    let target = match params.text("target_project_id") {
        Some(target) => state.enter(&caller, &target, GUEST)?,
        None => asked_at,
    };
    if state.project(asked_at)?.role_of(caller.user) < DEVELOPER {
        return Err(Refusal::forbidden());
    }
    let opening = Opening {
        source_project: asked_at,
        source_branch: params.required("source_branch")?,
        target_branch: params.required("target_branch")?,
        title: params.required("title")?,
        description: params.text("description"),
        labels: params.list("labels").unwrap_or_default(),
        remove_source_branch: params.flag("remove_source_branch").unwrap_or(false),
    };
    let iid = state.open_merge_request(target, opening, caller.user)?;
    let known = state.project(target)?;
    Ok(HttpResponse::Created().json(state.merge_request_full(known, state.merge_request(target, iid)?)?))
}

async fn update(gitlab: Gitlab, caller: Caller, path: web::Path<(String, u64)>, params: Params) -> Answer {
    let (project, iid) = path.into_inner();
    let mut state = gitlab.lock();
    let project = state.enter(&caller, &project, GUEST)?;
    let author = state.merge_request(project, iid)?.author == caller.user;
    if !author && state.project(project)?.role_of(caller.user) < DEVELOPER {
        return Err(Refusal::forbidden());
    }
    let target = params.text("target_branch");
    let branches = &state.project(project)?.branches;
    if target.as_ref().is_some_and(|target| !branches.contains_key(target)) {
        return Err(Refusal::bad_request(json!({ "target_branch": ["does not exist"] })));
    }
    state.change_merge_request(project, iid, caller.user, |merge_request| edit(merge_request, &params))?;
    if let Some(event) = params.text("state_event") {
        state.set_merge_request_state(project, iid, &event, caller.user)?;
    }
    let known = state.project(project)?;
    Ok(HttpResponse::Ok().json(state.merge_request_full(known, state.merge_request(project, iid)?)?))
}

fn edit(merge_request: &mut MergeRequest, params: &Params) {
    if let Some(title) = params.text("title") {
        merge_request.title = title;
    }
    if params.has("description") {
        merge_request.description = params.text("description");
    }
    if let Some(target) = params.text("target_branch") {
        merge_request.target_branch = target;
        merge_request.check = Check::Unchecked;
    }
    if let Some(labels) = params.list("labels") {
        merge_request.labels = labels;
    }
    for label in params.list("add_labels").unwrap_or_default() {
        if !merge_request.labels.contains(&label) {
            merge_request.labels.push(label);
        }
    }
    let removed = params.list("remove_labels").unwrap_or_default();
    merge_request.labels.retain(|label| !removed.contains(label));
    if let Some(remove) = params.flag("remove_source_branch") {
        merge_request.remove_source_branch = remove;
    }
    if let Some(squash) = params.flag("squash") {
        merge_request.squash = squash;
    }
}

async fn merge(gitlab: Gitlab, caller: Caller, path: web::Path<(String, u64)>, params: Params) -> Answer {
    let (project, iid) = path.into_inner();
    let mut state = gitlab.lock();
    let project = state.enter(&caller, &project, DEVELOPER)?;
    let merge_request = state.merge_request_mut(project, iid)?;
    if params.text("sha").is_some_and(|sha| merge_request.sha.as_ref() != Some(&sha)) {
        return Err(Refusal::conflict("SHA does not match HEAD of source branch"));
    }
    if let Some(remove) = params.flag("should_remove_source_branch") {
        merge_request.remove_source_branch = remove;
    }
    if params.flag("merge_when_pipeline_succeeds").or_else(|| params.flag("auto_merge")) == Some(true) {
        state.change_merge_request(project, iid, caller.user, |one| one.auto_merge = true)?;
    } else {
        state.merge(project, iid, caller.user)?;
    }
    let known = state.project(project)?;
    Ok(HttpResponse::Ok().json(state.merge_request_full(known, state.merge_request(project, iid)?)?))
}

async fn commits(
    gitlab: Gitlab,
    caller: Caller,
    request: HttpRequest,
    path: web::Path<(String, u64)>,
    params: Params,
) -> Answer {
    let (project, iid) = path.into_inner();
    let state = gitlab.lock();
    let project = state.enter(&caller, &project, GUEST)?;
    let commits = own_commits(&state, state.merge_request(project, iid)?);
    let commits = commits
        .into_iter()
        .map(|commit| state.commit_json(project, commit))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(paginate(&request, &params, &commits))
}

fn own_commits<'state>(
    state: &'state State,
    merge_request: &MergeRequest,
) -> Vec<&'state crate::sandbox::repository::Commit> {
    let base = merge_request.base_sha.as_deref().unwrap_or_default();
    merge_request.sha.as_deref().map(|head| state.commits_between(base, head)).unwrap_or_default()
}
