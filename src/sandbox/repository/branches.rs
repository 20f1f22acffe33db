//! Branches.

use crate::sandbox::{
    pagination::paginate,
    params::Params,
    refusal::{Answer, Refusal},
    state::{Gitlab, State},
    users::{Caller, DEVELOPER, GUEST},
};
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

impl State {
    fn branch_json(&self, project: u64, name: &str) -> Result<Value, Refusal> {
        let known = self.project(project)?;
        let sha = known.branches.get(name).ok_or_else(|| Refusal::not_found("Branch"))?;
        let default = name == known.default_branch;
        Ok(json!({
            "name": name,
            "commit": self.commit_json(project, self.commit(sha)?)?,
            "merged": false,
            "protected": default,
            "developers_can_push": false,
            "developers_can_merge": false,
            "can_push": true,
            "default": default,
            "web_url": format!("{}/-/tree/{name}", self.project_url(known)),
        }))
    }
}

pub(super) fn routes(api: &mut web::ServiceConfig) {
    api.service(web::resource("/projects/{id}/repository/branches").get(list).post(create))
        .service(web::resource("/projects/{id}/repository/branches/{branch}").get(get).delete(delete));
}

async fn list(
    gitlab: Gitlab,
    caller: Caller,
    request: HttpRequest,
    path: web::Path<String>,
    params: Params,
) -> Answer {
    let state = gitlab.lock();
    let project = state.enter(&caller, &path, GUEST)?;
    let search = params.text("search").unwrap_or_default();
    let names = state.project(project)?.branches.keys().filter(|name| name.contains(&search));
    let branches = names.map(|name| state.branch_json(project, name)).collect::<Result<Vec<_>, _>>()?;
    Ok(paginate(&request, &params, &branches))
}

async fn get(gitlab: Gitlab, caller: Caller, path: web::Path<(String, String)>) -> Answer {
    let (project, branch) = path.into_inner();
    let state = gitlab.lock();
    let project = state.enter(&caller, &project, GUEST)?;
    Ok(HttpResponse::Ok().json(state.branch_json(project, &branch)?))
}

async fn create(gitlab: Gitlab, caller: Caller, path: web::Path<String>, params: Params) -> Answer {
    let mut state = gitlab.lock();
    let project = state.enter(&caller, &path, DEVELOPER)?;
    let (branch, start) = (params.required("branch")?, params.required("ref")?);
    let known = state.project(project)?;
    if known.branches.contains_key(&branch) {
        return Err(Refusal::bad_request("Branch already exists"));
    }
    let sha = known
        .resolve(&start)
        .ok_or_else(|| Refusal::bad_request(format!("Invalid reference name: {start}")))?;
    state.push_branch(project, &branch, &sha, caller.user)?;
    Ok(HttpResponse::Created().json(state.branch_json(project, &branch)?))
}

async fn delete(gitlab: Gitlab, caller: Caller, path: web::Path<(String, String)>) -> Answer {
    let (project, branch) = path.into_inner();
    let mut state = gitlab.lock();
    let project = state.enter(&caller, &project, DEVELOPER)?;
    if branch == state.project(project)?.default_branch {
        return Err(Refusal::forbidden());
    }
    state.branch_json(project, &branch)?;
    state.delete_branch(project, &branch, caller.user)?;
    Ok(HttpResponse::NoContent().finish())
}
