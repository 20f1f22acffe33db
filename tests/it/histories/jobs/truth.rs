//! The oracle: what must be seen, from what people and jobs did. It knows nothing of how greenroom works.

use std::collections::BTreeSet;

use greenroom::preview::BranchId;
use serde_json::Value;

use super::story::{Fate, Known, Place, Story};
use crate::histories::{GLANCE, Shown, comes_to_stay, engine_files, visit};
use crate::jobs::environment;
use crate::support::{gitlab::Gitlab, world::World};

/// Waits until the world equals the truth and stays so. Then what serves is known for certain.
pub async fn holds(story: &mut Story) -> Result<(), String> {
    comes_to_stay(&story.world, GLANCE, || equals(story)).await?;
    let Story { world, known, .. } = story;
    for known in known {
        let (branch, mr) = (of_branch(world, known).await, of_mr(world, known).await);
        for (place, preview) in [(&mut known.of_branch, branch), (&mut known.of_mr, mr)] {
            match shown(world, preview.as_ref()).await {
                Some(Shown::Text(text)) => {
                    *place = Place::showing(Fate::Serves, &text, place.current);
                }
                _ if place.fate == Fate::Ended => {}
                _ => *place = Place::default(),
            }
        }
    }
    Ok(())
}

/// What certainly serves goes on serving, whatever happens around it.
pub async fn unbroken(story: &Story) -> Result<(), String> {
    let world = &story.world;
    for known in &story.known {
        let (branch, mr) = (of_branch(world, known).await, of_mr(world, known).await);
        for (place, preview) in [(&known.of_branch, branch), (&known.of_mr, mr)] {
            if place.fate != Fate::Serves || !world.greenroom.is_running() {
                continue;
            }
            match shown(world, preview.as_ref()).await {
                Some(Shown::Text(text)) if place.good.contains(&text) => {}
                // Killed in between.
                None if !world.greenroom.is_running() => {}
                seen => {
                    return Err(format!("{} shows {seen:?} instead of one of {:?}", known.name, place.good));
                }
            }
        }
    }
    Ok(())
}

async fn of_branch(world: &World, known: &Known) -> Option<Value> {
    let id = BranchId::of(known.name).expect("a branch with a slug");
    world.greenroom.try_preview(Gitlab::PROJECT, format!("b-{id}")).await
}

async fn of_mr(world: &World, known: &Known) -> Option<Value> {
    world.greenroom.try_preview(Gitlab::PROJECT, known.mr?).await
}

async fn shown(world: &World, preview: Option<&Value>) -> Option<Shown> {
    visit(world, preview?["url"].as_str()?).await
}

/// Whether the world equals the truth; the first difference.
async fn equals(story: &Story) -> Result<(), String> {
    let world = &story.world;
    if !world.greenroom.is_running() {
        world.greenroom.restart().await;
    }
    let all = world.gitlab.environments().await;
    let mut files: BTreeSet<String> = engine_files(world).into_iter().collect();
    for known in &story.known {
        let (branch, mr) = (of_branch(world, known).await, of_mr(world, known).await);
        // With its branch a preview goes, whatever else happened.
        let exists = world.gitlab.has_branch(known.name).await;
        let of_branch = if exists { &known.of_branch } else { &Place::default() };
        one(world, of_branch, branch.as_ref(), &mut files)
            .await
            .map_err(|what| format!("{} without merge request: {what}", known.name))?;
        one(world, &known.of_mr, mr.as_ref(), &mut files)
            .await
            .map_err(|what| format!("{} with merge request: {what}", known.name))?;
        if let Some(iid) = known.mr {
            comment(world, iid, mr.as_ref()).await?;
        }
        environments(known, &all)?;
    }
    if let Some(stray) = files.first() {
        return Err(format!("a file of nobody: {stray}"));
    }
    let mut deployments = world.gitlab.deployments().await;
    deployments.retain(|one| one["status"] == "running");
    if deployments.is_empty() { Ok(()) } else { Err(format!("left running: {deployments:#?}")) }
}

/// Compares one preview with the truth, and strikes its file off the list.
async fn one(
    world: &World,
    place: &Place,
    preview: Option<&Value>,
    files: &mut BTreeSet<String>,
) -> Result<(), String> {
    let Some(preview) = preview else {
        return match place.fate {
            Fate::Gone | Fate::Ended | Fate::Perhaps => Ok(()),
            Fate::Serves | Fate::Deployed => Err(format!("no preview is known, and it is {place:?}")),
        };
    };
    let seen = shown(world, Some(preview)).await.ok_or("nobody answers at the link")?;
    let has_file = files.remove(&format!("{}.json", preview["name"].as_str().unwrap_or_default()));
    let told =
        || format!("it shows {seen:?}, its file is there: {has_file}, and it is {preview:#}\nby {place:?}");
    let serves = match &seen {
        Shown::Text(text) if place.good.contains(text) => true,
        Shown::Text(_) => return Err(told()),
        Shown::Gone | Shown::Nothing => false,
    };
    let is_ready = preview["state"] == "ready";
    let state_says = if place.current { is_ready == serves } else { serves || !is_ready };
    let right = match place.fate {
        Fate::Gone | Fate::Ended => !serves,
        Fate::Serves | Fate::Deployed => serves,
        Fate::Perhaps => true,
    };
    if right && state_says && has_file == serves { Ok(()) } else { Err(told()) }
}

/// There is one comment at most, and it tells what the API tells.
async fn comment(world: &World, iid: u64, preview: Option<&Value>) -> Result<(), String> {
    let comments = world.gitlab.bot_notes(iid).await;
    if comments.len() > 1 {
        return Err(format!("!{iid} has {} comments of ours: {comments:#?}", comments.len()));
    }
    let (Some(comment), Some(preview)) = (comments.first(), preview) else { return Ok(()) };
    let state = preview["state"].as_str().unwrap_or_default();
    let body = comment["body"].as_str().unwrap_or_default();
    if body.contains(&format!("Preview: {state}")) {
        Ok(())
    } else {
        Err(format!("!{iid} is {state}, and its comment says otherwise: {body}"))
    }
}

/// GitLab's environment of what has certainly ended does not say that something is there.
fn environments(known: &Known, environments: &[Value]) -> Result<(), String> {
    let of_branch = (&known.of_branch, Some(environment(known.name)).filter(|_| known.is_alone()));
    let of_mr =
        (&known.of_mr, known.mr.filter(|_| known.in_mr_pipelines).map(|iid| format!("review/mr-{iid}")));
    for (place, name) in [of_branch, of_mr] {
        let left = environments.iter().find(|one| {
            place.fate == Fate::Ended && one["name"].as_str() == name.as_deref() && one["state"] != "stopped"
        });
        if let Some(left) = left {
            return Err(format!("{} has ended, and there still is {left:#}", known.name));
        }
    }
    Ok(())
}
