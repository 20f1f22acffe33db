//! The oracle: what must be seen, from GitLab's side and from what was built. It knows nothing of how greenroom works.

use std::collections::BTreeSet;

use serde_json::Value;

use super::story::{BROKEN_FILE, Built, ByHand, Known, Story};
use crate::histories::{Shown, comes_to_stay, engine_files, visit};
use crate::support::{
    gitlab::Gitlab,
    world::{World, says},
};

/// What must be seen of a merge request's preview.
#[derive(Debug)]
struct Truth {
    state: &'static str,
    /// How the reason begins.
    reason: String,
    shown: BTreeSet<String>,
    /// Whether it is right that nothing is shown.
    may_be_empty: bool,
}

/// Waits until the world equals the truth and stays so. Then what serves is known for certain.
pub async fn holds(story: &mut Story) -> Result<(), String> {
    nudge(story).await;
    comes_to_stay(&story.world, || equals(story)).await?;
    settle(story).await;
    Ok(())
}

/// A second pipeline of a head that is served changes nothing that the list of merge requests shows; without its webhook it
/// is found within the hour only. An edit is found by the next resync.
async fn nudge(story: &Story) {
    for known in story.known.iter().flatten() {
        let shown = story.world.gitlab.mr(known.iid).await;
        let pipelines = story.world.gitlab.pipelines_of(known.iid).await;
        if pipelines.iter().filter(|pipeline| pipeline["sha"] == shown["sha"]).count() > 1 {
            let label = format!("nudge {}", uuid::Uuid::new_v4());
            story.world.gitlab.edit(known.iid, serde_json::json!({ "labels": label })).await;
        }
    }
}

/// What is certain from here on.
async fn settle(story: &mut Story) {
    let Story { world, known, .. } = story;
    for known in known.iter_mut().flatten() {
        let shown = world.gitlab.mr(known.iid).await;
        let Some(preview) = world.preview(known.iid).await else { continue };
        preview["url"].as_str().unwrap_or_default().clone_into(&mut known.url);
        (known.serves, known.busy) = (false, false);
        if shown["state"] != "opened" {
            known.by_hand = ByHand::No;
        }
        match visit(world, &known.url).await {
            Some(Shown::Text(text)) => {
                known.serves = true;
                known.good = BTreeSet::from([text]);
                known.by_hand = ByHand::No;
            }
            Some(Shown::Gone | Shown::Nothing) => known.good.clear(),
            None => {}
        }
    }
}

/// What certainly serves goes on serving, whatever happens around it.
pub async fn unbroken(story: &Story) -> Result<(), String> {
    for known in story.known.iter().flatten().filter(|known| known.serves) {
        match visit(&story.world, &known.url).await {
            Some(Shown::Text(text)) if known.good.contains(&text) => {}
            // Killed in between.
            None if !story.world.greenroom.is_running() => {}
            seen => return Err(format!("!{} shows {seen:?} instead of one of {:?}", known.iid, known.good)),
        }
    }
    Ok(())
}

/// Whether the world equals the truth; the first difference.
async fn equals(story: &Story) -> Result<(), String> {
    let world = &story.world;
    if !world.greenroom.is_running() {
        world.greenroom.restart().await;
    }
    let environments = world.gitlab.environments().await;
    let deployments = world.gitlab.deployments().await;
    let files = engine_files(world);
    for known in story.known.iter().flatten() {
        let at = |what: String| format!("!{}: {what}", known.iid);
        let facts = Facts::of(world, known, &environments, &deployments, &files).await?;
        one(world, known, &facts).await.map_err(at)?;
    }
    let running: Vec<_> = deployments.iter().filter(|one| one["status"] == "running").collect();
    if !running.is_empty() {
        return Err(format!("left running: {running:#?}"));
    }
    let names = |ends: &str| -> BTreeSet<String> {
        story.known.iter().flatten().map(|known| format!("mr-{}{ends}", known.iid)).collect()
    };
    let (environment_names, file_names) = (names(""), names(".json"));
    let stray = environments
        .iter()
        .filter_map(|one| one["name"].as_str())
        .find(|name| name.strip_prefix("review/").is_none_or(|name| !environment_names.contains(name)));
    if let Some(stray) = stray {
        return Err(format!("an environment of nobody: {stray}"));
    }
    match files.iter().find(|file| !file_names.iter().any(|name| file.ends_with(name))) {
        Some(stray) => Err(format!("a file of nobody: {stray}")),
        None => Ok(()),
    }
}

/// What GitLab and the disk have of one merge request.
struct Facts {
    open: bool,
    shown: Value,
    preview: Option<Value>,
    comment: Option<String>,
    environment: Option<Value>,
    /// The newest one.
    deployment: Option<Value>,
    has_file: bool,
}

impl Facts {
    async fn of(
        world: &World,
        known: &Known,
        environments: &[Value],
        deployments: &[Value],
        files: &[String],
    ) -> Result<Self, String> {
        let shown = world.gitlab.mr(known.iid).await;
        let comments = world.gitlab.bot_notes(known.iid).await;
        if comments.len() > 1 {
            return Err(format!("!{} has {} comments of ours: {comments:#?}", known.iid, comments.len()));
        }
        let name = format!("review/mr-{}", known.iid);
        let ends = format!("-mr-{}.json", known.iid);
        let ours = deployments.iter().filter(|one| one["environment"]["name"] == *name);
        Ok(Self {
            open: shown["state"] == "opened",
            preview: world.greenroom.try_preview(Gitlab::PROJECT, known.iid).await,
            comment: comments.first().and_then(|note| note["body"].as_str()).map(str::to_owned),
            environment: environments.iter().find(|one| one["name"] == *name).cloned(),
            deployment: ours.max_by_key(|one| one["id"].as_u64()).cloned(),
            has_file: files.iter().any(|file| file.ends_with(&ends)),
            shown,
        })
    }
}

/// Compares one merge request with the truth.
async fn one(world: &World, known: &Known, facts: &Facts) -> Result<(), String> {
    let Some(preview) = &facts.preview else {
        let over_before_anybody_saw = !facts.open && facts.comment.is_none() && !facts.has_file;
        return if over_before_anybody_saw { Ok(()) } else { Err("no preview is known".to_owned()) };
    };
    let url = preview["url"].as_str().ok_or("no link")?.to_owned();
    let seen = visit(world, &url).await.ok_or("nobody answers at the link")?;
    let truths = truths(world, known, &facts.shown).await;
    let mut differences = Vec::new();
    for truth in &truths {
        match told(truth, facts, preview, &url, &seen) {
            Ok(()) => return Ok(()),
            Err(difference) => differences.push(format!("{difference}\nby {truth:#?}")),
        }
    }
    Err(format!("{}\nit shows {seen:?}, and is {preview:#}", differences.join("\nor ")))
}

/// Whether this is what people are told and shown.
fn told(truth: &Truth, facts: &Facts, preview: &Value, url: &str, seen: &Shown) -> Result<(), String> {
    let reason = preview["reason"].as_str().unwrap_or_default();
    if preview["state"] != truth.state || !reason.starts_with(&truth.reason) {
        return Err(format!("it is {} because {reason}", preview["state"]));
    }
    if preview["sha"] != facts.shown["sha"] {
        return Err(format!("it speaks of commit {} instead of {}", preview["sha"], facts.shown["sha"]));
    }
    match &facts.comment {
        Some(comment)
            if !comment.contains(&format!("Preview: {}", truth.state)) || !says(comment, reason) =>
        {
            return Err(format!("the comment says otherwise: {comment}"));
        }
        None if truth.state != "stopped" => return Err("it has no comment".to_owned()),
        _ => {}
    }
    let right = match seen {
        Shown::Text(text) => truth.shown.contains(text),
        Shown::Nothing => truth.may_be_empty && truth.state != "stopped",
        Shown::Gone => truth.may_be_empty && truth.state == "stopped",
    };
    if !right {
        return Err(format!("the link shows {seen:?}"));
    }
    let serves = matches!(seen, Shown::Text(_));
    if facts.has_file != serves {
        return Err(format!("the engine has a file: {}", facts.has_file));
    }
    environment(truth, facts, url, serves)
}

/// Whether GitLab's own pages tell the same.
fn environment(truth: &Truth, facts: &Facts, url: &str, serves: bool) -> Result<(), String> {
    match &facts.environment {
        // Made by a job, and never ours.
        Some(environment) if !serves && environment["description"].is_null() => Ok(()),
        Some(environment) if truth.state == "stopped" => Err(format!("there still is {environment:#}")),
        Some(environment)
            if serves && (environment["state"] != "available" || environment["external_url"] != *url) =>
        {
            Err(format!("the environment is {environment:#}"))
        }
        None if serves => Err("it has no environment".to_owned()),
        _ => match &facts.deployment {
            Some(deployment) if truth.state == "ready" && deployment["status"] != "success" => {
                Err(format!("the newest deployment is {deployment:#}"))
            }
            None if truth.state == "ready" => Err("it has no deployment".to_owned()),
            _ => Ok(()),
        },
    }
}

/// What must be seen; more than one where GitLab shows no difference between two stories.
async fn truths(world: &World, known: &Known, shown: &Value) -> Vec<Truth> {
    let gone = |reason: &str| Truth {
        state: "stopped",
        reason: reason.to_owned(),
        shown: BTreeSet::new(),
        may_be_empty: true,
    };
    match shown["state"].as_str() {
        Some("closed") => return vec![gone("the merge request was closed")],
        Some("merged") => return vec![gone("the merge request was merged")],
        _ => {}
    }
    let head = shown["sha"].as_str().unwrap_or_default();
    let by_hand = || gone("somebody stopped the environment in GitLab");
    match &known.by_hand {
        ByHand::At(sha) if sha == head => vec![by_hand()],
        ByHand::Perhaps(sha) if sha == head => vec![by_hand(), of_head(world, known, head).await],
        _ => vec![of_head(world, known, head).await],
    }
}

/// What the head's newest pipeline leads to.
async fn of_head(world: &World, known: &Known, head: &str) -> Truth {
    // A head that cannot be served leaves what serves.
    let keeps = |state, reason: String| Truth {
        state,
        reason,
        shown: known.good.clone(),
        may_be_empty: !known.serves,
    };
    if world.gitlab.file(head, ".greenroom.yml").await == BROKEN_FILE {
        return keeps("failed", "`.greenroom.yml` cannot be used".to_owned());
    }
    let mut pipelines = world.gitlab.pipelines_of(known.iid).await;
    pipelines.retain(|pipeline| pipeline["sha"] == head);
    let Some(pipeline) = pipelines.iter().filter_map(|pipeline| pipeline["id"].as_u64()).max() else {
        return keeps("waiting", format!("no pipeline has finished for commit `{}` yet", &head[..8]));
    };
    let jobs = world.gitlab.jobs(pipeline).await;
    let job = jobs.iter().find(|job| job["name"] == "build").expect("every pipeline has the job");
    let built = job["id"].as_u64().and_then(|id| known.built.get(&id));
    match (job["status"].as_str(), built) {
        (Some("success"), Some(Built::Page(text))) => Truth {
            state: "ready",
            reason: format!("commit `{}` is being served", &head[..8]),
            shown: BTreeSet::from([text.clone()]),
            may_be_empty: false,
        },
        (Some("success"), Some(Built::Refused)) => {
            keeps("failed", "the artifact cannot be served: the archive has no folder".to_owned())
        }
        (Some("success"), _) => {
            keeps("failed", "job `build` succeeded, but GitLab has no artifact of it".to_owned())
        }
        (Some("failed"), _) => keeps("failed", format!("job `build` of pipeline {pipeline} failed")),
        _ => keeps("waiting", format!("job `build` of pipeline {pipeline} has not finished")),
    }
}
