//! The oracle: what must be seen, from GitLab's side and from what was built. It knows nothing of how greenroom works.

use std::collections::BTreeSet;

use serde_json::Value;

use super::story::{BROKEN_FILE, Built, ByHand, Known, Story};
use crate::histories::{
    GLANCE, Shown, comes_to_stay, engine_files,
    side::{Side, nothing_stray, nudge},
    visit,
};
use crate::support::world::World;

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
    for known in story.known.iter().flatten() {
        nudge(&story.world, known.iid).await;
    }
    comes_to_stay(&story.world, GLANCE, || equals(story)).await?;
    settle(story).await;
    Ok(())
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
        let ends = format!("-mr-{}.json", known.iid);
        let has_file = files.iter().any(|file| file.ends_with(&ends));
        let side = Side::of(world, known.iid, &environments, &deployments).await?;
        one(world, known, &Facts { side, has_file }).await.map_err(at)?;
    }
    let iids: Vec<_> = story.known.iter().flatten().map(|known| known.iid).collect();
    nothing_stray(&environments, &deployments, &iids)?;
    let ours = |file: &String| iids.iter().any(|iid| file.ends_with(&format!("mr-{iid}.json")));
    match files.iter().find(|file| !ours(file)) {
        Some(stray) => Err(format!("a file of nobody: {stray}")),
        None => Ok(()),
    }
}

/// What GitLab and the disk have of one merge request.
struct Facts {
    side: Side,
    has_file: bool,
}

/// Compares one merge request with the truth.
async fn one(world: &World, known: &Known, facts: &Facts) -> Result<(), String> {
    let Some(preview) = &facts.side.preview else {
        let over_before_anybody_saw = !facts.side.open && facts.side.comment.is_none() && !facts.has_file;
        return if over_before_anybody_saw { Ok(()) } else { Err("no preview is known".to_owned()) };
    };
    let url = preview["url"].as_str().ok_or("no link")?.to_owned();
    let seen = visit(world, &url).await.ok_or("nobody answers at the link")?;
    let truths = truths(world, known, &facts.side.shown).await;
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
    facts.side.tells(preview, truth.state, &truth.reason)?;
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
    facts.side.environment(truth.state, url, serves)
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
