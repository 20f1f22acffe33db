//! GitLab's side of a merge request, and what people are told there.

use serde_json::Value;

use crate::support::{
    gitlab::Gitlab,
    world::{World, says},
};

/// What GitLab and greenroom's API have of one merge request.
pub struct Side {
    pub open: bool,
    pub shown: Value,
    pub preview: Option<Value>,
    pub comment: Option<String>,
    environment: Option<Value>,
    /// The newest one.
    deployment: Option<Value>,
}

impl Side {
    /// Reads it. `environments` and `deployments` are all of the project's.
    pub async fn of(
        world: &World,
        iid: u64,
        environments: &[Value],
        deployments: &[Value],
    ) -> Result<Self, String> {
        let shown = world.gitlab.mr(iid).await;
        let comments = world.gitlab.bot_notes(iid).await;
        if comments.len() > 1 {
            return Err(format!("!{iid} has {} comments of ours: {comments:#?}", comments.len()));
        }
        let name = format!("review/mr-{iid}");
        let ours = deployments.iter().filter(|one| one["environment"]["name"] == *name);
        Ok(Self {
            open: shown["state"] == "opened",
            preview: world.greenroom.try_preview(Gitlab::PROJECT, iid).await,
            comment: comments.first().and_then(|note| note["body"].as_str()).map(str::to_owned),
            environment: environments.iter().find(|one| one["name"] == *name).cloned(),
            deployment: ours.max_by_key(|one| one["id"].as_u64()).cloned(),
            shown,
        })
    }

    pub fn head(&self) -> &str {
        self.shown["sha"].as_str().unwrap_or_default()
    }

    /// Whether GitLab's page has an environment that is available.
    pub fn is_available(&self) -> bool {
        self.environment.as_ref().is_some_and(|environment| environment["state"] == "available")
    }

    /// Whether API and comment tell of the head that it is in this state, for a reason that begins so.
    pub fn tells(&self, preview: &Value, state: &str, begins: &str) -> Result<(), String> {
        let reason = preview["reason"].as_str().unwrap_or_default();
        if preview["state"] != state || !reason.starts_with(begins) {
            return Err(format!("it is {} because {reason}", preview["state"]));
        }
        if preview["sha"] != self.shown["sha"] {
            return Err(format!("it speaks of commit {} instead of {}", preview["sha"], self.shown["sha"]));
        }
        match &self.comment {
            Some(comment) if !comment.contains(&format!("Preview: {state}")) || !says(comment, reason) => {
                Err(format!("the comment says otherwise: {comment}"))
            }
            None if state != "stopped" => Err("it has no comment".to_owned()),
            _ => Ok(()),
        }
    }

    /// Whether GitLab's page of environments tells the same. `serves` is whether anything is behind the link.
    pub fn environment(&self, state: &str, url: &str, serves: bool) -> Result<(), String> {
        match &self.environment {
            // Made by a job, and never ours.
            Some(environment) if !serves && environment["description"].is_null() => Ok(()),
            Some(environment) if state == "stopped" => Err(format!("there still is {environment:#}")),
            Some(environment)
                if serves && (environment["state"] != "available" || environment["external_url"] != *url) =>
            {
                Err(format!("the environment is {environment:#}"))
            }
            None if serves => Err("it has no environment".to_owned()),
            _ => match &self.deployment {
                Some(deployment) if state == "ready" && deployment["status"] != "success" => {
                    Err(format!("the newest deployment is {deployment:#}"))
                }
                None if state == "ready" => Err("it has no deployment".to_owned()),
                _ => Ok(()),
            },
        }
    }
}

/// No deployment is left running, and no environment is there but of these merge requests.
pub fn nothing_stray(environments: &[Value], deployments: &[Value], iids: &[u64]) -> Result<(), String> {
    let running: Vec<_> = deployments.iter().filter(|one| one["status"] == "running").collect();
    if !running.is_empty() {
        return Err(format!("left running: {running:#?}"));
    }
    let ours: Vec<_> = iids.iter().map(|iid| format!("review/mr-{iid}")).collect();
    let names = environments.iter().filter_map(|one| one["name"].as_str());
    match names.into_iter().find(|name| !ours.iter().any(|ours| ours == name)) {
        Some(stray) => Err(format!("an environment of nobody: {stray}")),
        None => Ok(()),
    }
}

/// A second pipeline of a head that is served changes nothing that the list of merge requests shows; without its webhook it
/// is found within the hour only. An edit is found by the next resync.
pub async fn nudge(world: &World, iid: u64) {
    let shown = world.gitlab.mr(iid).await;
    let pipelines = world.gitlab.pipelines_of(iid).await;
    if pipelines.iter().filter(|pipeline| pipeline["sha"] == shown["sha"]).count() > 1 {
        let label = format!("nudge {}", uuid::Uuid::new_v4());
        world.gitlab.edit(iid, serde_json::json!({ "labels": label })).await;
    }
}
