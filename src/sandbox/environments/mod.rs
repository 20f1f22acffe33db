//! Environments: their life in the API and who stops them.
//!
//! `stop` answers 200 with whatever state came of it. GitLab itself stops environments when their
//! branch is deleted, and, for those of merge request pipelines, when the merge request is closed or
//! merged; that holds with and without an `on_stop` job. Deleting one that is not stopped is 403.

mod routes;
mod slug;

pub(super) use routes::routes;

use super::{
    deployments::Deployment,
    json::with,
    refusal::Refusal,
    state::{Noun, State},
    time,
};
use jiff::Timestamp;
use serde_json::{Value, json};

/// One environment.
#[derive(Debug, Clone)]
pub(super) struct Environment {
    pub(super) id: u64,
    pub(super) name: String,
    /// Computed once, when the environment is made.
    pub(super) slug: String,
    pub(super) external_url: Option<String>,
    pub(super) tier: String,
    pub(super) state: &'static str,
    pub(super) description: Option<String>,
    pub(super) auto_stop_setting: String,
    /// The merge request whose pipeline made it.
    merge_request: Option<u64>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl State {
    pub(super) fn environment(&self, project: u64, id: u64) -> Result<&Environment, Refusal> {
        self.project(project)?.environments.get(&id).ok_or_else(|| Refusal::not_found("Environment"))
    }

    pub(super) fn environment_mut(&mut self, project: u64, id: u64) -> Result<&mut Environment, Refusal> {
        self.project_mut(project)?.environments.get_mut(&id).ok_or_else(|| Refusal::not_found("Environment"))
    }

    pub(super) fn environment_named(&self, project: u64, name: &str) -> Result<Option<u64>, Refusal> {
        let environments = &self.project(project)?.environments;
        Ok(environments
            .values()
            .find(|environment| environment.name == name)
            .map(|environment| environment.id))
    }

    /// The environment of that name, made if it is missing.
    pub(super) fn ensure_environment(&mut self, project: u64, name: &str) -> Result<u64, Refusal> {
        if let Some(id) = self.environment_named(project, name)? {
            return Ok(id);
        }
        let now = self.now();
        let environment = Environment {
            id: self.next_id(Noun::Environment),
            name: name.to_owned(),
            slug: slug::slug(name),
            external_url: None,
            tier: tier(name).to_owned(),
            state: "available",
            description: None,
            auto_stop_setting: "always".to_owned(),
            merge_request: None,
            created_at: now,
            updated_at: now,
        };
        let id = environment.id;
        self.project_mut(project)?.environments.insert(id, environment);
        Ok(id)
    }

    /// A job with `environment:` makes the environment known when its pipeline is made.
    pub(super) fn prepare_environment_of_job(&mut self, project: u64, job: u64) -> Result<(), Refusal> {
        let job = self.job(project, job)?;
        let Some(wanted) = job.environment.clone() else { return Ok(()) };
        let merge_request = self.pipeline(project, job.pipeline)?.merge_request.map(|(_, iid)| iid);
        let known = self.environment_named(project, &wanted.name)?.is_some();
        let id = self.ensure_environment(project, &wanted.name)?;
        let environment = self.environment_mut(project, id)?;
        if !known {
            environment.merge_request = merge_request;
        }
        if wanted.url.is_some() {
            environment.external_url = wanted.url;
        }
        Ok(())
    }

    pub(super) fn set_environment_state(
        &mut self,
        project: u64,
        id: u64,
        state: &'static str,
    ) -> Result<(), Refusal> {
        let now = self.now();
        let environment = self.environment_mut(project, id)?;
        if environment.state != state {
            environment.state = state;
            environment.updated_at = now;
        }
        Ok(())
    }

    /// Stops, or tries to: `on_stop` jobs first, if the last deployment has one and nobody forces.
    pub(super) fn stop_environment(
        &mut self,
        project: u64,
        id: u64,
        force: bool,
        user: u64,
    ) -> Result<(), Refusal> {
        let environment = self.environment(project, id)?;
        if environment.state == "stopped" {
            return Ok(());
        }
        let with_action = environment.auto_stop_setting == "with_action";
        match self.on_stop_job(project, id)?.filter(|_| !force) {
            Some(job) => {
                self.set_environment_state(project, id, "stopping")?;
                self.job_mut(project, job)?.user = user;
                self.set_job_status(project, job, "pending", None)
            }
            None if with_action && !force => Ok(()),
            None => self.set_environment_state(project, id, "stopped"),
        }
    }

    /// The playable stop job beside the job that deployed last.
    fn on_stop_job(&self, project: u64, environment: u64) -> Result<Option<u64>, Refusal> {
        let known = self.project(project)?;
        let last = known
            .deployments
            .values()
            .rev()
            .find(|one| one.environment == environment && one.status == "success");
        let starter = last.and_then(|deployment| known.jobs.get(&deployment.deployable?));
        let named = starter.and_then(|job| Some((job.pipeline, job.environment.as_ref()?.on_stop.as_ref()?)));
        Ok(named.and_then(|(pipeline, name)| {
            let stop = known.jobs_of(pipeline).find(|job| job.name == *name && job.status == "manual");
            stop.map(|job| job.id)
        }))
    }

    /// At close and merge: what the merge request's pipelines made or name.
    pub(super) fn stop_environments_of_merge_request(
        &mut self,
        project: u64,
        iid: u64,
        user: u64,
    ) -> Result<(), Refusal> {
        let known = self.project(project)?;
        let Some((owner, pipeline)) = self.head_pipeline(known, self.merge_request(project, iid)?) else {
            return Ok(());
        };
        if pipeline.merge_request.is_none() {
            return Ok(());
        }
        let runner = self.project(owner)?;
        let named: Vec<_> =
            runner.jobs_of(pipeline.id).filter_map(|job| Some(&job.environment.as_ref()?.name)).collect();
        let ours = |one: &&Environment| one.merge_request == Some(iid) || named.contains(&&one.name);
        let ids: Vec<_> =
            runner.environments.values().filter(ours).map(|environment| environment.id).collect();
        ids.into_iter().try_for_each(|id| self.stop_environment(owner, id, false, user))
    }

    /// At the deletion of a branch: what was deployed from it.
    pub(super) fn stop_environments_of_branch(
        &mut self,
        project: u64,
        branch: &str,
        user: u64,
    ) -> Result<(), Refusal> {
        let deployments = self.project(project)?.deployments.values();
        let mut ids: Vec<_> =
            deployments.filter(|one| one.reference == branch).map(|one| one.environment).collect();
        ids.dedup();
        ids.into_iter().try_for_each(|id| self.stop_environment(project, id, false, user))
    }

    /// `EnvironmentBasic`, as inside deployments.
    pub(super) fn environment_basic(environment: &Environment) -> Value {
        json!({
            "id": environment.id,
            "name": environment.name,
            "slug": environment.slug,
            "external_url": environment.external_url,
            "created_at": time::iso(environment.created_at),
            "updated_at": time::iso(environment.updated_at),
        })
    }

    /// `Environment`; only the single one tells its last deployment.
    fn environment_json(
        &self,
        project: u64,
        environment: &Environment,
        single: bool,
    ) -> Result<Value, Refusal> {
        let known = self.project(project)?;
        let more = json!({
            "tier": environment.tier,
            "state": environment.state,
            "description": environment.description,
            "auto_stop_at": null,
            "auto_stop_setting": environment.auto_stop_setting,
            "cluster_agent": null,
            "kubernetes_namespace": null,
            "flux_resource_path": null,
            "project": self.project_basic(known),
        });
        let full = with(Self::environment_basic(environment), more);
        if !single {
            return Ok(full);
        }
        let of_it = |one: &&Deployment| one.environment == environment.id && one.status == "success";
        let last = known.deployments.values().rev().find(of_it);
        let last = last.map(|deployment| self.deployment_json(project, deployment)).transpose()?;
        Ok(with(full, json!({ "last_deployment": last })))
    }
}

/// GitLab guesses the tier from the name.
fn tier(name: &str) -> &'static str {
    let name = name.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
    if has(&["dev", "review", "trunk"]) {
        "development"
    } else if has(&["test", "tst", "int", "ac", "qa", "control"]) {
        "testing"
    } else if has(&["stage", "staging", "stg", "mod", "pre", "demo", "non"]) {
        "staging"
    } else if has(&["prod", "live"]) {
        "production"
    } else {
        "other"
    }
}
