//! Webhook bodies in the shape of GitLab 19.2, deprecated doubles included.

mod build;
mod deployment;
mod merge_request;
mod note;
mod pipeline;
mod push;

pub(super) use build::build;
pub(super) use deployment::deployment;
pub(super) use merge_request::{labels, merge_request};
pub(super) use note::note;
pub(super) use pipeline::pipeline;
pub(super) use push::push;

use super::{jobs::Job, projects::Project, repository::Commit, state::State, time};
use serde_json::{Value, json};

/// A user; the address is hidden unless it is public. Null for an account that is gone.
fn user(state: &State, id: u64) -> Value {
    state.users.get(&id).map_or(Value::Null, |user| {
        json!({
            "id": user.id,
            "name": user.name,
            "username": user.username,
            "avatar_url": null,
            "email": "[REDACTED]",
        })
    })
}

const fn visibility_level(visibility: &str) -> u8 {
    match visibility.as_bytes() {
        b"public" => 20,
        b"internal" => 10,
        _ => 0,
    }
}

fn project(state: &State, project: &Project) -> Value {
    let url = state.project_url(project);
    let ssh = format!("{}/{}.git", state.url.replacen("http://", "ssh://git@", 1), project.path);
    json!({
        "id": project.id,
        "name": project.name(),
        "description": null,
        "web_url": url,
        "avatar_url": null,
        "git_ssh_url": ssh,
        "git_http_url": format!("{url}.git"),
        "namespace": project.namespace(),
        "visibility_level": visibility_level(&project.visibility),
        "path_with_namespace": project.path,
        "default_branch": project.default_branch,
        "ci_config_path": null,
        "homepage": url,
        "url": ssh,
        "ssh_url": ssh,
        "http_url": format!("{url}.git"),
    })
}

/// The deprecated short form of a project.
fn repository(state: &State, project: &Project) -> Value {
    let url = state.project_url(project);
    let ssh = format!("{}/{}.git", state.url.replacen("http://", "ssh://git@", 1), project.path);
    json!({
        "name": project.name(),
        "url": ssh,
        "description": null,
        "homepage": url,
        "git_http_url": format!("{url}.git"),
        "git_ssh_url": ssh,
        "visibility_level": visibility_level(&project.visibility),
    })
}

fn commit(state: &State, project: &Project, commit: &Commit) -> Value {
    json!({
        "id": commit.sha,
        "message": commit.message,
        "title": commit.title(),
        "timestamp": time::commit(commit.at),
        "url": format!("{}/-/commit/{}", state.project_url(project), commit.sha),
        "author": { "name": commit.author_name, "email": "[REDACTED]" },
    })
}

/// `{name, action, deployment_tier}` of a job's environment, or null.
fn environment(project: &Project, job: &Job) -> Value {
    job.environment.as_ref().map_or(Value::Null, |wanted| {
        let known = project.environments.values().find(|environment| environment.name == wanted.name);
        json!({ "name": wanted.name, "action": wanted.action, "deployment_tier": known.map(|known| &known.tier) })
    })
}
