//! Commit statuses. A status belongs to a pipeline; without a matching one GitLab makes a pipeline
//! with source `external`. Only a `pending` or `running` status of the same name, ref and user is
//! updated, otherwise a new one is made, and repeating the state already held is refused.

use super::{
    pagination::paginate,
    params::Params,
    pipelines::{NewPipeline, Pipeline},
    refusal::{Answer, Refusal},
    state::{Gitlab, Noun, State},
    time,
    users::{Caller, DEVELOPER, GUEST},
};
use actix_web::{HttpRequest, HttpResponse, web};
use jiff::Timestamp;
use serde_json::{Value, json};

/// GitLab looks no further back than this many pipelines.
const PIPELINES_LOOKED_AT: usize = 100;
const MAX_CHARS: usize = 255;

/// One commit status.
#[derive(Debug, Clone)]
pub(super) struct CommitStatus {
    id: u64,
    pub(super) pipeline: u64,
    sha: String,
    reference: String,
    name: String,
    pub(super) status: String,
    description: Option<String>,
    target_url: Option<String>,
    coverage: Option<f64>,
    user: u64,
    created_at: Timestamp,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    /// A newer status of this name took its place.
    pub(super) retried: bool,
}

impl State {
    fn commit_status_json(&self, status: &CommitStatus) -> Value {
        json!({
            "id": status.id,
            "sha": status.sha,
            "ref": status.reference,
            "status": status.status,
            "name": status.name,
            "target_url": status.target_url,
            "description": status.description,
            "created_at": time::iso(status.created_at),
            "started_at": status.started_at.map(time::iso),
            "finished_at": status.finished_at.map(time::iso),
            "allow_failure": false,
            "coverage": status.coverage,
            "pipeline_id": status.pipeline,
            "author": self.user_basic(status.user),
        })
    }

    /// The pipeline that a status for this commit belongs to; makes an external one if need be.
    fn pipeline_for_status(
        &mut self,
        project: u64,
        sha: &str,
        params: &Params,
        user: u64,
    ) -> Result<u64, Refusal> {
        let known = self.project(project)?;
        let reference =
            params.text("ref").map(|reference| reference.trim_start_matches("refs/heads/").to_owned());
        let id = params.number("pipeline_id");
        let fits = |pipeline: &&Pipeline| {
            pipeline.sha == sha
                && reference.as_ref().is_none_or(|reference| *reference == pipeline.reference)
                && id.is_none_or(|id| id == pipeline.id)
        };
        let newest =
            known.pipelines.values().rev().filter(|pipeline| pipeline.sha == sha).take(PIPELINES_LOOKED_AT);
        if let Some(pipeline) = newest.into_iter().find(fits) {
            return Ok(pipeline.id);
        }
        if id.is_some() {
            return Err(Refusal::not_found("Pipeline for pipeline_id, sha and ref"));
        }
        let contains = |head: &String| self.ancestry(head).iter().any(|commit| commit.sha == sha);
        let branch = || known.branches.iter().find(|(_, head)| contains(head)).map(|(name, _)| name.clone());
        let reference =
            reference.or_else(branch).ok_or_else(|| Refusal::not_found("References for commit"))?;
        self.create_pipeline(project, NewPipeline::external(sha, &reference), user)
    }

    fn set_commit_status(
        &mut self,
        project: u64,
        sha: &str,
        params: &Params,
        user: u64,
    ) -> Result<u64, Refusal> {
        let state = params.required("state")?;
        if !["pending", "running", "success", "failed", "canceled", "skipped"].contains(&state.as_str()) {
            return Err(Refusal::invalid("state does not have a valid value"));
        }
        for name in ["description", "target_url"] {
            if params.text(name).is_some_and(|text| text.chars().count() > MAX_CHARS) {
                return Err(Refusal::bad_request(
                    json!({ name: ["is too long (maximum is 255 characters)"] }),
                ));
            }
        }
        let pipeline = self.pipeline_for_status(project, sha, params, user)?;
        let reference = self.pipeline(project, pipeline)?.reference.clone();
        let name =
            params.text("name").or_else(|| params.text("context")).unwrap_or_else(|| "default".to_owned());
        let now = self.now();
        let id = self.next_id(Noun::Job);
        let statuses = &mut self.project_mut(project)?.statuses;
        let current = |status: &&mut CommitStatus| {
            status.pipeline == pipeline
                && status.name == name
                && status.reference == reference
                && !status.retried
        };
        let newest = statuses.values_mut().rev().find(current);
        let live = |status: &CommitStatus| {
            status.user == user && ["pending", "running"].contains(&status.status.as_str())
        };
        let id = match newest {
            Some(status) if live(status) => {
                status.go_to(&state)?;
                status.id
            }
            older => {
                if let Some(older) = older {
                    older.retried = true;
                }
                let status = CommitStatus {
                    id,
                    pipeline,
                    sha: sha.to_owned(),
                    reference,
                    name,
                    status: state.clone(),
                    description: None,
                    target_url: None,
                    coverage: None,
                    user,
                    created_at: now,
                    started_at: None,
                    finished_at: None,
                    retried: false,
                };
                statuses.insert(id, status);
                id
            }
        };
        if let Some(status) = statuses.get_mut(&id) {
            status.describe(params, now);
        }
        self.refresh_pipeline(project, pipeline)?;
        Ok(id)
    }
}

impl CommitStatus {
    /// A state machine refuses what it does not know, such as going nowhere.
    fn go_to(&mut self, state: &str) -> Result<(), Refusal> {
        let event = match (self.status.as_str(), state) {
            (_, "pending") => Some("enqueue"),
            ("running", "running") => Some("run"),
            _ => None,
        };
        if let Some(event) = event {
            let (from, reason) = (&self.status, format!("Status cannot transition via \"{event}\""));
            let message = format!("Cannot transition status via :{event} from :{from} (Reason(s): {reason})");
            return Err(Refusal::bad_request(message));
        }
        state.clone_into(&mut self.status);
        Ok(())
    }

    fn describe(&mut self, params: &Params, now: Timestamp) {
        self.description = params.text("description").or_else(|| self.description.take());
        self.target_url = params.text("target_url").or_else(|| self.target_url.take());
        self.coverage = params.text("coverage").and_then(|text| text.parse().ok()).or(self.coverage);
        match self.status.as_str() {
            "pending" => {}
            "running" => self.started_at = Some(now),
            _ => self.finished_at = Some(now),
        }
    }
}

pub(super) fn routes(api: &mut web::ServiceConfig) {
    api.route("/projects/{id}/statuses/{sha}", web::post().to(create))
        .route("/projects/{id}/repository/commits/{sha}/statuses", web::get().to(list));
}

async fn create(gitlab: Gitlab, caller: Caller, path: web::Path<(String, String)>, params: Params) -> Answer {
    let (project, sha) = path.into_inner();
    let mut state = gitlab.lock();
    let project = state.enter(&caller, &project, DEVELOPER)?;
    let sha = state.project(project)?.commit_of(&sha)?;
    let id = state.set_commit_status(project, &sha, &params, caller.user)?;
    let status = state.project(project)?.statuses.get(&id).ok_or_else(|| Refusal::not_found("Status"))?;
    Ok(HttpResponse::Created().json(state.commit_status_json(status)))
}

async fn list(
    gitlab: Gitlab,
    caller: Caller,
    request: HttpRequest,
    path: web::Path<(String, String)>,
    params: Params,
) -> Answer {
    let (project, sha) = path.into_inner();
    let state = gitlab.lock();
    let known = state.project(state.enter(&caller, &project, GUEST)?)?;
    let sha = known.commit_of(&sha)?;
    let all = params.flag("all").unwrap_or(false);
    let text = |name: &str, value: &str| params.text(name).is_none_or(|wanted| wanted == value);
    let shown = |status: &&CommitStatus| {
        status.sha == sha
            && (all || !status.retried)
            && text("name", &status.name)
            && text("ref", &status.reference)
    };
    let statuses: Vec<_> =
        known.statuses.values().filter(shown).map(|status| state.commit_status_json(status)).collect();
    Ok(paginate(&request, &params, &statuses))
}
