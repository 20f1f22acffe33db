//! Jobs and bridges (trigger jobs), their environments, retries and what they set off.
//!
//! A retry is a new job; the old one is hidden from lists unless `include_retried`. A job with an
//! environment makes a deployment, or, as an `on_stop` job, decides what becomes of a stop.

mod artifacts;
mod entity;
mod routes;

pub(super) use artifacts::{Artifact, download};
pub(super) use routes::routes;

use super::{
    delivery::Event,
    payloads,
    pipelines::composite::complete,
    refusal::Refusal,
    state::{Noun, State},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What GitLab knows as the status of a job.
const STATUSES: &[&str] = &[
    "created",
    "waiting_for_resource",
    "preparing",
    "waiting_for_callback",
    "pending",
    "running",
    "success",
    "failed",
    "canceling",
    "canceled",
    "skipped",
    "manual",
    "scheduled",
];

/// One job or bridge.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) id: u64,
    pub(super) pipeline: u64,
    pub(super) name: String,
    pub(super) stage: String,
    pub(super) status: String,
    pub(super) allow_failure: bool,
    pub(super) manual: bool,
    pub(super) bridge: bool,
    /// Project and pipeline that a bridge started.
    pub(super) downstream: Option<(u64, u64)>,
    pub(super) environment: Option<JobEnvironment>,
    pub(super) deployment: Option<u64>,
    pub(super) artifact: Option<Artifact>,
    pub(super) trace: String,
    pub(super) failure_reason: Option<String>,
    pub(super) retried: bool,
    pub(super) retries: u32,
    pub(super) user: u64,
    pub(super) created_at: Timestamp,
    pub(super) started_at: Option<Timestamp>,
    pub(super) finished_at: Option<Timestamp>,
}

/// `environment:` of a job.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JobEnvironment {
    pub(super) name: String,
    /// `start`, `prepare`, `verify`, `access` or `stop`.
    #[serde(default = "start")]
    pub(super) action: String,
    #[serde(default)]
    pub(super) url: Option<String>,
    /// The name of the job that stops it.
    #[serde(default)]
    pub(super) on_stop: Option<String>,
}

fn start() -> String {
    "start".to_owned()
}

/// A job as the control interface describes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JobSpec {
    name: String,
    #[serde(default)]
    stage: Option<String>,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    allow_failure: Option<bool>,
    /// `manual`, else it runs by itself.
    #[serde(default)]
    when: Option<String>,
    #[serde(default)]
    bridge: bool,
    #[serde(default)]
    environment: Option<JobEnvironment>,
    #[serde(default)]
    artifact: Option<Artifact>,
    #[serde(default)]
    failure_reason: Option<String>,
}

impl JobSpec {
    /// The same job, not yet run.
    pub(super) fn fresh(&self) -> Self {
        Self { status: None, artifact: None, failure_reason: None, ..self.clone() }
    }
}

impl State {
    pub(super) fn job(&self, project: u64, id: u64) -> Result<&Job, Refusal> {
        self.project(project)?.jobs.get(&id).ok_or_else(|| Refusal::not_found(""))
    }

    pub(super) fn job_mut(&mut self, project: u64, id: u64) -> Result<&mut Job, Refusal> {
        self.project_mut(project)?.jobs.get_mut(&id).ok_or_else(|| Refusal::not_found(""))
    }

    pub(super) fn create_job(
        &mut self,
        project: u64,
        pipeline: u64,
        spec: &JobSpec,
        user: u64,
    ) -> Result<u64, Refusal> {
        let manual = spec.when.as_deref() == Some("manual");
        let job = Job {
            id: self.next_id(Noun::Job),
            pipeline,
            name: spec.name.clone(),
            stage: spec.stage.clone().unwrap_or_else(|| "test".to_owned()),
            status: "created".to_owned(),
            // A manual job may fail unless it says otherwise, so it blocks nothing.
            allow_failure: spec.allow_failure.unwrap_or(manual),
            manual,
            bridge: spec.bridge,
            downstream: None,
            environment: spec.environment.clone(),
            deployment: None,
            artifact: spec.artifact.clone(),
            trace: String::new(),
            failure_reason: None,
            retried: false,
            retries: 0,
            user,
            created_at: self.now(),
            started_at: None,
            finished_at: None,
        };
        let id = job.id;
        self.project_mut(project)?.jobs.insert(id, job);
        self.prepare_environment_of_job(project, id)?;
        self.announce_job(project, id)?;
        let first =
            spec.status.clone().unwrap_or_else(|| if manual { "manual" } else { "pending" }.to_owned());
        self.move_job(project, id, &first, spec.failure_reason.clone())?;
        Ok(id)
    }

    /// Moves a job, computes its pipeline's status, and tells the hooks: job first.
    pub(super) fn set_job_status(
        &mut self,
        project: u64,
        id: u64,
        status: &str,
        failure_reason: Option<String>,
    ) -> Result<(), Refusal> {
        self.move_job(project, id, status, failure_reason)?;
        let pipeline = self.job(project, id)?.pipeline;
        self.refresh_pipeline(project, pipeline)
    }

    fn move_job(
        &mut self,
        project: u64,
        id: u64,
        status: &str,
        reason: Option<String>,
    ) -> Result<(), Refusal> {
        if !STATUSES.contains(&status) {
            return Err(Refusal::invalid("status does not have a valid value"));
        }
        let now = self.now();
        let job = self.job_mut(project, id)?;
        if job.status == status {
            return Ok(());
        }
        status.clone_into(&mut job.status);
        job.failure_reason = match (status, reason) {
            ("failed", None) => Some("script_failure".to_owned()),
            ("failed", reason) => reason,
            _ => None,
        };
        let ran = !["canceled", "skipped"].contains(&status);
        let ends = complete(status);
        if status == "running" || (ends && ran) {
            job.started_at = job.started_at.or(Some(now));
        }
        job.finished_at = ends.then_some(now);
        self.announce_job(project, id)?;
        self.deploy_job(project, id)
    }

    /// Bridges fire no Job Hook.
    fn announce_job(&mut self, project: u64, id: u64) -> Result<(), Refusal> {
        let job = self.job(project, id)?;
        if job.bridge {
            return Ok(());
        }
        let body = payloads::build(self, project, job)?;
        self.fire(project, Event::Job, &body)
    }

    /// A new attempt under a new id.
    pub(super) fn retry_job(&mut self, project: u64, id: u64, user: u64) -> Result<u64, Refusal> {
        let old = self.job(project, id)?.clone();
        if old.retried || !complete(&old.status) {
            return Err(Refusal::forbidden_because("Job is not retryable"));
        }
        let now = self.now();
        let next = Job {
            id: self.next_id(Noun::Job),
            status: "created".to_owned(),
            downstream: None,
            deployment: None,
            artifact: None,
            trace: String::new(),
            failure_reason: None,
            retries: old.retries + 1,
            user,
            created_at: now,
            started_at: None,
            finished_at: None,
            ..old
        };
        let (new, pipeline) = (next.id, next.pipeline);
        self.job_mut(project, id)?.retried = true;
        self.project_mut(project)?.jobs.insert(new, next);
        self.move_job(project, new, "pending", None)?;
        self.refresh_pipeline(project, pipeline)?;
        Ok(new)
    }
}
