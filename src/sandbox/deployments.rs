//! Deployments, made by the API or by a job with an environment. The status goes from `created` to
//! `running`, from anywhere to an end it is not yet at, and never back; what a job made, the API may
//! not change (403). A successful one makes its environment available again.

use super::{
    delivery::Event,
    json::with,
    pagination::paginate,
    params::Params,
    payloads,
    refusal::{Answer, Refusal},
    repository::ZERO,
    state::{Gitlab, Noun, State},
    time,
    users::{Caller, DEVELOPER, GUEST},
};
use actix_web::{HttpRequest, HttpResponse, web};
use jiff::Timestamp;
use serde_json::{Value, json};

/// One deployment.
#[derive(Debug, Clone)]
pub(super) struct Deployment {
    pub(super) id: u64,
    iid: u64,
    pub(super) environment: u64,
    pub(super) sha: String,
    pub(super) reference: String,
    pub(super) status: String,
    pub(super) user: u64,
    /// The job that made it; None for the API's.
    pub(super) deployable: Option<u64>,
    created_at: Timestamp,
    pub(super) updated_at: Timestamp,
    finished_at: Option<Timestamp>,
}

impl State {
    fn deployment(&self, project: u64, id: u64) -> Result<&Deployment, Refusal> {
        self.project(project)?.deployments.get(&id).ok_or_else(|| Refusal::not_found("Deployment"))
    }

    fn add_deployment(&mut self, project: u64, new: Deployment) -> Result<u64, Refusal> {
        let id = self.next_id(Noun::Deployment);
        let known = self.project_mut(project)?;
        let iid = known.deployments.values().map(|deployment| deployment.iid).max().unwrap_or(0) + 1;
        known.deployments.insert(id, Deployment { id, iid, ..new });
        Ok(id)
    }

    /// The state machine; fires the Deployment Hook.
    fn set_deployment_status(&mut self, project: u64, id: u64, status: &str) -> Result<(), Refusal> {
        let now = self.now();
        let known = self.project_mut(project)?;
        let deployment = known.deployments.get_mut(&id).ok_or_else(|| Refusal::not_found("Deployment"))?;
        let event = match status {
            "running" => "run",
            "success" => "succeed",
            "failed" => "drop",
            "canceled" => "cancel",
            _ => return Err(Refusal::invalid("status does not have a valid value")),
        };
        if deployment.status == status || (status == "running" && deployment.status != "created") {
            let message = format!("Cannot transition status via :{event} from :{}", deployment.status);
            return Err(Refusal::bad_request(json!({ "status": [message] })));
        }
        status.clone_into(&mut deployment.status);
        deployment.updated_at = now;
        deployment.finished_at = (status != "running").then_some(now);
        let environment = deployment.environment;
        if status == "success" {
            self.set_environment_state(project, environment, "available")?;
        }
        let body = payloads::deployment(self, project, self.deployment(project, id)?)?;
        self.fire(project, Event::Deployment, &body)
    }

    /// A job with an environment moved: its deployment follows, and a stop job decides the stop.
    pub(super) fn deploy_job(&mut self, project: u64, id: u64) -> Result<(), Refusal> {
        let job = self.job(project, id)?.clone();
        let Some(wanted) = &job.environment else { return Ok(()) };
        let known = self.project(project)?;
        let environment = self.environment_named(project, &wanted.name)?;
        match (wanted.action.as_str(), job.status.as_str(), environment) {
            ("start", "running" | "success" | "failed" | "canceled", _) => {
                let deployment = match job.deployment {
                    Some(deployment) if known.deployments.contains_key(&deployment) => deployment,
                    // It went with its environment, and the job goes on without.
                    Some(_) => return Ok(()),
                    None if job.status == "canceled" => return Ok(()),
                    None => {
                        let environment = self.ensure_environment(project, &wanted.name)?;
                        self.deployment_of_job(project, id, environment)?
                    }
                };
                self.set_deployment_status(project, deployment, &job.status)
            }
            ("stop", "success", Some(environment)) => {
                self.set_environment_state(project, environment, "stopped")
            }
            ("stop", "failed" | "canceled", Some(environment))
                if self.environment(project, environment)?.state == "stopping" =>
            {
                self.set_environment_state(project, environment, "available")
            }
            _ => Ok(()),
        }
    }

    fn deployment_of_job(&mut self, project: u64, id: u64, environment: u64) -> Result<u64, Refusal> {
        let job = self.job(project, id)?;
        let pipeline = self.pipeline(project, job.pipeline)?;
        let now = self.now();
        let new = Deployment {
            id: 0,
            iid: 0,
            environment,
            sha: pipeline.sha.clone(),
            reference: pipeline.reference.clone(),
            status: "created".to_owned(),
            user: job.user,
            deployable: Some(id),
            created_at: now,
            updated_at: now,
            finished_at: None,
        };
        let deployment = self.add_deployment(project, new)?;
        self.job_mut(project, id)?.deployment = Some(deployment);
        Ok(deployment)
    }

    /// `Deployment`.
    pub(super) fn deployment_json(&self, project: u64, deployment: &Deployment) -> Result<Value, Refusal> {
        let job =
            deployment.deployable.map(|job| self.job_json(project, self.job(project, job)?)).transpose()?;
        let environment = self.environment(project, deployment.environment)?;
        Ok(json!({
            "id": deployment.id,
            "iid": deployment.iid,
            "ref": deployment.reference,
            "sha": deployment.sha,
            "created_at": time::iso(deployment.created_at),
            "updated_at": time::iso(deployment.updated_at),
            "user": self.user_basic(deployment.user),
            "environment": Self::environment_basic(environment),
            "deployable": job,
            "status": deployment.status,
        }))
    }

    /// `DeploymentExtended`: the single one.
    fn deployment_extended(&self, project: u64, id: u64) -> Result<Value, Refusal> {
        let more =
            json!({ "pending_approval_count": 0, "approvals": [], "approval_summary": { "rules": [] } });
        Ok(with(self.deployment_json(project, self.deployment(project, id)?)?, more))
    }
}

pub(super) fn routes(api: &mut web::ServiceConfig) {
    api.service(web::resource("/projects/{id}/deployments").get(list).post(create))
        .service(web::resource("/projects/{id}/deployments/{deployment}").get(get).put(update).delete(delete))
        .route("/projects/{id}/deployments/{deployment}/merge_requests", web::get().to(merge_requests));
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
    let order = params.text("order_by").unwrap_or_else(|| "id".to_owned());
    for (bound, needs) in
        [("updated_after", "updated_at"), ("updated_before", "updated_at"), ("finished_after", "finished_at")]
    {
        if params.has(bound) && order != needs {
            return Err(Refusal::bad_request(format!(
                "400 Bad request - `{bound}` requires `order_by` to be set to `{needs}`"
            )));
        }
    }
    let name = |one: &Deployment| {
        project.environments.get(&one.environment).map(|environment| environment.name.clone())
    };
    let wanted = |one: &&Deployment| {
        params.text("environment").is_none_or(|wanted| name(one).as_ref() == Some(&wanted))
            && params.text("status").is_none_or(|status| status == one.status)
            && params.moment("updated_after").is_none_or(|bound| one.updated_at >= bound)
            && params.moment("updated_before").is_none_or(|bound| one.updated_at <= bound)
            && params
                .moment("finished_after")
                .is_none_or(|bound| one.finished_at.is_some_and(|at| at >= bound))
    };
    let mut found: Vec<_> = project.deployments.values().filter(wanted).collect();
    match order.as_str() {
        "updated_at" => found.sort_by_key(|one| (one.updated_at, one.id)),
        "finished_at" => found.sort_by_key(|one| (one.finished_at, one.id)),
        "created_at" => found.sort_by_key(|one| (one.created_at, one.id)),
        "ref" => found.sort_by_key(|one| (one.reference.clone(), one.id)),
        _ => {}
    }
    if params.text("sort").as_deref() == Some("desc") {
        found.reverse();
    }
    let found =
        found.into_iter().map(|one| state.deployment_json(project.id, one)).collect::<Result<Vec<_>, _>>()?;
    Ok(paginate(&request, &params, &found))
}

async fn get(gitlab: Gitlab, caller: Caller, path: web::Path<(String, u64)>) -> Answer {
    let (project, id) = path.into_inner();
    let state = gitlab.lock();
    let project = state.enter(&caller, &project, GUEST)?;
    Ok(HttpResponse::Ok().json(state.deployment_extended(project, id)?))
}

async fn create(gitlab: Gitlab, caller: Caller, path: web::Path<String>, params: Params) -> Answer {
    let mut state = gitlab.lock();
    let project = state.enter(&caller, &path, DEVELOPER)?;
    let (name, sha) = (params.required("environment")?, params.required("sha")?);
    let reference = params.required("ref")?;
    params.required("tag")?;
    let status = params.required("status")?;
    if !["running", "success", "failed", "canceled"].contains(&status.as_str()) {
        return Err(Refusal::invalid("status does not have a valid value"));
    }
    let known = state.project(project)?;
    if sha == ZERO || !known.objects.contains(&sha) {
        return Err(Refusal::bad_request(json!({ "sha": ["The commit does not exist"] })));
    }
    if known.resolve(&reference).is_none() {
        return Err(Refusal::bad_request(json!({ "ref": ["The branch or tag does not exist"] })));
    }
    let environment = state.ensure_environment(project, &name)?;
    let now = state.now();
    let new = Deployment {
        id: 0,
        iid: 0,
        environment,
        sha,
        reference,
        status: "created".to_owned(),
        user: caller.user,
        deployable: None,
        created_at: now,
        updated_at: now,
        finished_at: None,
    };
    let id = state.add_deployment(project, new)?;
    state.set_deployment_status(project, id, &status)?;
    Ok(HttpResponse::Created().json(state.deployment_extended(project, id)?))
}

async fn update(gitlab: Gitlab, caller: Caller, path: web::Path<(String, u64)>, params: Params) -> Answer {
    let (project, id) = path.into_inner();
    let mut state = gitlab.lock();
    let project = state.enter(&caller, &project, DEVELOPER)?;
    if state.deployment(project, id)?.deployable.is_some() {
        return Err(Refusal::forbidden());
    }
    state.set_deployment_status(project, id, &params.required("status")?)?;
    Ok(HttpResponse::Ok().json(state.deployment_extended(project, id)?))
}

async fn delete(gitlab: Gitlab, caller: Caller, path: web::Path<(String, u64)>) -> Answer {
    let (project, id) = path.into_inner();
    let mut state = gitlab.lock();
    let project = state.enter(&caller, &project, DEVELOPER)?;
    let deployment = state.deployment(project, id)?;
    let others = state.project(project)?.deployments.values();
    let last = others.rev().find(|one| one.environment == deployment.environment && one.status == "success");
    if deployment.status == "running" {
        return Err(Refusal::bad_request("Cannot destroy running deployment"));
    }
    if last.is_some_and(|last| last.id == id) {
        return Err(Refusal::bad_request("Deployment currently deployed to environment"));
    }
    state.project_mut(project)?.deployments.remove(&id);
    Ok(HttpResponse::NoContent().finish())
}

async fn merge_requests(
    gitlab: Gitlab,
    caller: Caller,
    request: HttpRequest,
    path: web::Path<(String, u64)>,
    params: Params,
) -> Answer {
    let (project, id) = path.into_inner();
    let state = gitlab.lock();
    let project = state.enter(&caller, &project, GUEST)?;
    let deployment = state.deployment(project, id)?;
    let known = state.project(project)?;
    let with_it = known.merge_requests.values().filter(|one| one.sha.as_deref() == Some(&deployment.sha));
    let found: Vec<_> = with_it.map(|one| state.merge_request_basic(known, one)).collect();
    Ok(paginate(&request, &params, &found))
}
