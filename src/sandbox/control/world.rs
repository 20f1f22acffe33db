//! Users, projects, forks, members and pushes.

use super::actor;
use crate::sandbox::{
    refusal::{Answer, Refusal},
    repository::{Change, Push},
    state::{Gitlab, State},
    users::MAINTAINER,
};
use actix_web::{HttpResponse, web};
use jiff::{SignedDuration, civil::Date};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;

pub(super) fn routes(control: &mut web::ServiceConfig) {
    control
        .route("/users", web::post().to(add_user))
        .route("/tokens/revoke", web::post().to(revoke))
        .route("/tokens/rotate", web::post().to(rotate))
        .route("/instance", web::post().to(set_instance))
        .route("/projects", web::post().to(add_project))
        .route("/forks", web::post().to(add_fork))
        .route("/projects/{id}", web::delete().to(delete_project))
        .route("/projects/{id}/members", web::put().to(set_member))
        .route("/projects/{id}/push", web::post().to(push))
        .route("/clock", web::post().to(advance));
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewUser {
    username: String,
    #[serde(default)]
    name: Option<String>,
    token: String,
    /// In every project there is now, unless `project` says which.
    #[serde(default)]
    access_level: Option<u8>,
    #[serde(default)]
    project: Option<String>,
    #[serde(default)]
    scopes: Option<Vec<String>>,
    #[serde(default)]
    expires_at: Option<Date>,
}

async fn add_user(gitlab: Gitlab, new: web::Json<NewUser>) -> Answer {
    let mut state = gitlab.lock();
    let new = new.into_inner();
    let known = state.find_user(&new.username).ok();
    let id = known.unwrap_or_else(|| {
        state.add_user(&new.username, new.name.as_deref().unwrap_or(&new.username), false)
    });
    let scopes = new.scopes.unwrap_or_else(|| vec!["api".to_owned()]);
    state.add_token(id, &new.token, &scopes, new.expires_at);
    let projects = match &new.project {
        Some(project) => vec![state.find_project(project)?],
        None => state.projects.keys().copied().collect(),
    };
    if let Some(level) = new.access_level {
        for project in projects {
            state.set_role(project, id, level)?;
        }
    }
    Ok(HttpResponse::Created().json(state.user_public(id)))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OneToken {
    token: String,
}

async fn revoke(gitlab: Gitlab, one: web::Json<OneToken>) -> Answer {
    let mut state = gitlab.lock();
    let token = state.tokens.get_mut(&one.token).ok_or_else(|| Refusal::not_found("Token"))?;
    token.revoked = true;
    Ok(HttpResponse::NoContent().finish())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotation {
    token: String,
    new: String,
    #[serde(default)]
    scopes: Option<Vec<String>>,
    #[serde(default)]
    expires_at: Option<Date>,
}

/// The new token acts as the same user; the old one is no good from now on.
async fn rotate(gitlab: Gitlab, rotation: web::Json<Rotation>) -> Answer {
    let mut state = gitlab.lock();
    let old = state.tokens.get_mut(&rotation.token).ok_or_else(|| Refusal::not_found("Token"))?;
    old.revoked = true;
    let (user, scopes) = (old.user, rotation.scopes.clone().unwrap_or_else(|| old.scopes.clone()));
    state.add_token(user, &rotation.new, &scopes, rotation.expires_at);
    Ok(HttpResponse::NoContent().finish())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewInstance {
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    metadata: Option<bool>,
}

async fn set_instance(gitlab: Gitlab, new: web::Json<NewInstance>) -> Answer {
    let mut state = gitlab.lock();
    let new = new.into_inner();
    if let Some(version) = new.version {
        state.version = version;
    }
    state.has_metadata = new.metadata.unwrap_or(state.has_metadata);
    Ok(HttpResponse::NoContent().finish())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewProject {
    path: String,
    #[serde(default)]
    visibility: Option<String>,
    #[serde(default)]
    owner: Option<String>,
    /// The bot's access level there; Maintainer unless told otherwise, 0 for none.
    #[serde(default)]
    bot: Option<u8>,
    #[serde(default)]
    files: BTreeMap<String, String>,
}

async fn add_project(gitlab: Gitlab, new: web::Json<NewProject>) -> Answer {
    let mut state = gitlab.lock();
    let owner = actor(&state, new.owner.as_deref())?;
    let id = state.create_project(&new.path, owner, new.visibility.as_deref().unwrap_or("private"))?;
    state.admit_bot(id, new.bot.unwrap_or(MAINTAINER))?;
    if !new.files.is_empty() {
        let changes: Vec<_> =
            new.files.iter().map(|(path, text)| Change::write(path, text.as_str())).collect();
        state.commit_on_branch(id, "main", None, &changes, "Add files", owner)?;
    }
    Ok(HttpResponse::Created().json(state.project_basic(state.project(id)?)))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewFork {
    /// The project to fork.
    project: String,
    /// Where to: the fork is `<namespace>/<name>`.
    namespace: String,
    #[serde(default)]
    owner: Option<String>,
    /// The bot's access level there; none unless told otherwise.
    #[serde(default)]
    bot: u8,
}

async fn add_fork(gitlab: Gitlab, new: web::Json<NewFork>) -> Answer {
    let mut state = gitlab.lock();
    let owner = actor(&state, new.owner.as_deref())?;
    let parent = state.find_project(&new.project)?;
    let id = state.fork_project(parent, &new.namespace, owner)?;
    state.admit_bot(id, new.bot)?;
    Ok(HttpResponse::Created().json(state.project_basic(state.project(id)?)))
}

/// Deletes a project; merge requests from it stay, with `source` null.
async fn delete_project(gitlab: Gitlab, path: web::Path<String>) -> Answer {
    let mut state = gitlab.lock();
    let id = state.find_project(&path)?;
    state.projects.remove(&id);
    for project in state.projects.values_mut() {
        for merge_request in project.merge_requests.values_mut().filter(|one| one.source_project == Some(id))
        {
            merge_request.source_project = None;
        }
    }
    Ok(HttpResponse::NoContent().finish())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Membership {
    /// A username; `bot` is the product's bot.
    username: String,
    /// 0 removes.
    access_level: u8,
}

async fn set_member(gitlab: Gitlab, path: web::Path<String>, member: web::Json<Membership>) -> Answer {
    let mut state = gitlab.lock();
    let project = state.find_project(&path)?;
    if member.username == "bot" {
        state.admit_bot(project, member.access_level)?;
    } else {
        let user = state.find_user(&member.username)?;
        state.set_role(project, user, member.access_level)?;
    }
    Ok(HttpResponse::NoContent().finish())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewPush {
    #[serde(default)]
    user: Option<String>,
    refs: Vec<NewRef>,
}

/// A ref by name (`feature/x`, `refs/tags/v1`) and what becomes of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewRef {
    #[serde(rename = "ref")]
    name: String,
    /// Files to commit on top; a branch that is new starts at the default branch.
    #[serde(default)]
    files: BTreeMap<String, String>,
    #[serde(default)]
    message: Option<String>,
    /// Points the ref at this commit instead.
    #[serde(default)]
    sha: Option<String>,
    #[serde(default)]
    delete: bool,
}

async fn push(gitlab: Gitlab, path: web::Path<String>, new: web::Json<NewPush>) -> Answer {
    let mut state = gitlab.lock();
    let project = state.find_project(&path)?;
    let user = actor(&state, new.user.as_deref())?;
    let pushes =
        new.refs.iter().map(|one| state.push_one(project, one, user)).collect::<Result<Vec<_>, _>>()?;
    state.announce(project, &pushes, user)?;
    for branch in new
        .refs
        .iter()
        .filter(|one| one.delete)
        .filter_map(|one| full(&one.name).strip_prefix("refs/heads/").map(str::to_owned))
    {
        state.stop_environments_of_branch(project, &branch, user)?;
    }
    let shown = pushes
        .iter()
        .map(|push| json!({ "ref": push.reference, "before": push.before, "after": push.after }));
    Ok(HttpResponse::Created().json(shown.collect::<Vec<_>>()))
}

fn full(name: &str) -> String {
    if name.starts_with("refs/") { name.to_owned() } else { format!("refs/heads/{name}") }
}

impl State {
    fn push_one(&mut self, project: u64, new: &NewRef, user: u64) -> Result<Push, Refusal> {
        let reference = full(&new.name);
        if new.delete {
            return self.move_ref(project, &reference, None);
        }
        let known = self.project(project)?;
        let sha = if let Some(sha) = &new.sha {
            known.commit_of(sha)?
        } else {
            let parent = known.resolve(&reference).or_else(|| known.resolve("HEAD"));
            let changes: Vec<_> =
                new.files.iter().map(|(path, text)| Change::write(path, text.as_str())).collect();
            let message = new.message.as_deref().unwrap_or("Change files");
            self.add_commit(parent.as_slice(), &changes, message, user)?
        };
        self.move_ref(project, &reference, Some(&sha))
    }

    pub(in crate::sandbox) fn set_role(&mut self, project: u64, user: u64, level: u8) -> Result<(), Refusal> {
        let members = &mut self.project_mut(project)?.members;
        match level {
            0 => drop(members.remove(&user)),
            level => drop(members.insert(user, level)),
        }
        Ok(())
    }

    /// Gives the product's bot a role.
    pub(in crate::sandbox) fn admit_bot(&mut self, project: u64, level: u8) -> Result<(), Refusal> {
        let bot = self.users.values().find(|user| user.bot).map(|user| user.id);
        bot.map_or(Ok(()), |bot| self.set_role(project, bot, level))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    advance_seconds: i64,
}

async fn advance(gitlab: Gitlab, advance: web::Json<Advance>) -> Answer {
    let mut state = gitlab.lock();
    state.clock.advance(SignedDuration::from_secs(advance.advance_seconds));
    Ok(HttpResponse::Ok().json(json!({ "now": state.now().to_string() })))
}
