//! `deployment` bodies. A deployment of the API has no deployable.

use crate::sandbox::{deployments::Deployment, refusal::Refusal, state::State, time};
use serde_json::{Value, json};

pub(in crate::sandbox) fn deployment(
    state: &State,
    project: u64,
    deployment: &Deployment,
) -> Result<Value, Refusal> {
    let known = state.project(project)?;
    let environment = state.environment(project, deployment.environment)?;
    let commit = state.commit(&deployment.sha)?;
    let job = deployment.deployable.map(|job| state.job_url(project, job)).transpose()?;
    let username = state.users.get(&deployment.user).map_or("ghost", |user| &user.username);
    Ok(json!({
        "object_kind": "deployment",
        "status": deployment.status,
        "status_changed_at": time::offset(deployment.updated_at),
        "deployment_id": deployment.id,
        "deployable_id": deployment.deployable,
        "deployable_url": job,
        "environment": environment.name,
        "environment_tier": environment.tier,
        "environment_slug": environment.slug,
        "environment_external_url": environment.external_url,
        "project": super::project(state, known),
        "ref": deployment.reference,
        "short_sha": &deployment.sha[..8],
        "user": super::user(state, deployment.user),
        "user_url": format!("{}/{username}", state.url),
        "commit_url": format!("{}/-/commit/{}", state.project_url(known), deployment.sha),
        "commit_title": commit.title(),
    }))
}
