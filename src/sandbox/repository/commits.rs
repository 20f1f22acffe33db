//! Commits: read one, list, and make one out of several file actions.

use super::{Change, Commit};
use crate::sandbox::{
    json::with,
    pagination::paginate,
    params::Params,
    refusal::{Answer, Refusal},
    state::{Gitlab, State},
    time,
    users::{Caller, DEVELOPER, GUEST},
};
use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine as _;
use serde::Deserialize;
use serde_json::{Value, json};

/// One entry of `actions`.
#[derive(Debug, Deserialize)]
struct Action {
    #[serde(rename = "action")]
    verb: String,
    file_path: String,
    #[serde(default)]
    previous_path: Option<String>,
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    encoding: Option<String>,
}

impl Action {
    fn change(self) -> Result<Option<Change>, Refusal> {
        let content = self.content.map(|text| decode(&text, self.encoding.as_deref())).transpose()?;
        let written = content.clone().unwrap_or_default();
        Ok(Some(match self.verb.as_str() {
            "create" => Change::Create(self.file_path, written),
            "update" => Change::Update(self.file_path, written),
            "delete" => Change::Delete(self.file_path),
            "move" => Change::Move {
                from: self.previous_path.ok_or_else(|| Refusal::missing("actions[0][previous_path]"))?,
                to: self.file_path,
                content,
            },
            "chmod" => return Ok(None),
            _ => return Err(Refusal::invalid("actions[0][action] does not have a valid value")),
        }))
    }
}

/// File content, which is base64 when `encoding` says so.
pub(super) fn decode(content: &str, encoding: Option<&str>) -> Result<Vec<u8>, Refusal> {
    if encoding != Some("base64") {
        return Ok(content.as_bytes().to_vec());
    }
    let stripped: String = content.split_whitespace().collect();
    base64::engine::general_purpose::STANDARD
        .decode(stripped)
        .map_err(|_| Refusal::bad_request("invalid base64"))
}

impl State {
    pub(in crate::sandbox) fn commit_json(&self, project: u64, commit: &Commit) -> Result<Value, Refusal> {
        let url = self.project_url(self.project(project)?);
        Ok(json!({
            "id": commit.sha,
            "short_id": &commit.sha[..8],
            "created_at": time::iso(commit.at),
            "parent_ids": commit.parents,
            "title": commit.title(),
            "message": commit.message,
            "author_name": commit.author_name,
            "author_email": commit.author_email,
            "authored_date": time::iso(commit.at),
            "committer_name": commit.author_name,
            "committer_email": commit.author_email,
            "committed_date": time::iso(commit.at),
            "trailers": {},
            "extended_trailers": {},
            "web_url": format!("{url}/-/commit/{}", commit.sha),
        }))
    }

    fn commit_detail(&self, project: u64, sha: &str) -> Result<Value, Refusal> {
        let commit = self.commit(sha)?;
        let last = self.project(project)?.pipelines.values().rev().find(|pipeline| pipeline.sha == sha);
        let (additions, deletions) = (commit.added.len() + commit.modified.len(), commit.removed.len());
        let more = json!({
            "stats": { "additions": additions, "deletions": deletions, "total": additions + deletions },
            "status": last.map(|pipeline| &pipeline.status),
            "project_id": project,
            "last_pipeline": last.map(|pipeline| self.pipeline_basic(project, pipeline)).transpose()?,
        });
        Ok(with(self.commit_json(project, commit)?, more))
    }

    /// Commits changes on a branch, which `start` may create, and pushes it.
    pub(in crate::sandbox) fn commit_on_branch(
        &mut self,
        project: u64,
        branch: &str,
        start: Option<&str>,
        changes: &[Change],
        message: &str,
        user: u64,
    ) -> Result<String, Refusal> {
        let known = self.project(project)?;
        let parent = match (known.branches.get(branch), start) {
            (Some(_), Some(_)) => {
                return Err(Refusal::bad_request(format!(
                    "A branch called '{branch}' already exists. Switch to that branch in order to make changes"
                )));
            }
            (Some(head), None) => Some(head.clone()),
            (None, Some(start)) => {
                Some(known.resolve(start).ok_or_else(|| Refusal::bad_request("Cannot find start_branch"))?)
            }
            (None, None) if known.branches.is_empty() => None,
            (None, None) => {
                return Err(Refusal::bad_request(
                    "You can only create or edit files when you are on a branch",
                ));
            }
        };
        let sha = self.add_commit(parent.as_slice(), changes, message, user)?;
        self.push_branch(project, branch, &sha, user)?;
        Ok(sha)
    }
}

pub(super) fn routes(api: &mut web::ServiceConfig) {
    api.service(web::resource("/projects/{id}/repository/commits").get(list).post(create))
        .route("/projects/{id}/repository/commits/{sha}", web::get().to(get))
        .route("/projects/{id}/repository/commits/{sha}/merge_requests", web::get().to(merge_requests));
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
    let known = state.project(project)?;
    let head = known.commit_of(&params.text("ref_name").unwrap_or_else(|| known.default_branch.clone()))?;
    let commits = state.ancestry(&head);
    let commits = commits
        .into_iter()
        .map(|commit| state.commit_json(project, commit))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(paginate(&request, &params, &commits))
}

async fn get(gitlab: Gitlab, caller: Caller, path: web::Path<(String, String)>) -> Answer {
    let (project, sha) = path.into_inner();
    let state = gitlab.lock();
    let project = state.enter(&caller, &project, GUEST)?;
    let sha = state.project(project)?.commit_of(&sha)?;
    Ok(HttpResponse::Ok().json(state.commit_detail(project, &sha)?))
}

async fn create(gitlab: Gitlab, caller: Caller, path: web::Path<String>, params: Params) -> Answer {
    let mut state = gitlab.lock();
    let project = state.enter(&caller, &path, DEVELOPER)?;
    let (branch, message) = (params.required("branch")?, params.required("commit_message")?);
    let actions: Vec<Action> = params.structured("actions")?;
    let changes = actions
        .into_iter()
        .filter_map(|action| action.change().transpose())
        .collect::<Result<Vec<_>, _>>()?;
    let start = match (params.text("start_branch"), params.text("start_sha")) {
        (Some(start), _) | (None, Some(start)) => Some(start),
        (None, None) => None,
    };
    let sha = state.commit_on_branch(project, &branch, start.as_deref(), &changes, &message, caller.user)?;
    Ok(HttpResponse::Created().json(state.commit_detail(project, &sha)?))
}

async fn merge_requests(
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
    let with_it =
        known.merge_requests.values().filter(|merge_request| merge_request.sha.as_deref() == Some(&sha));
    let found =
        with_it.map(|merge_request| state.merge_request_basic(known, merge_request)).collect::<Vec<_>>();
    Ok(paginate(&request, &params, &found))
}
