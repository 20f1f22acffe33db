//! The net under the webhooks: at start and every interval, every open merge request of every known project is looked
//! at again, and every preview that is not gone.
//!
//! The list only says whom to look at. What it does not show is looked at too: a look decides, from the merge request's
//! own answer.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::controller::Parts;
use super::look::Error;
use super::sweep;
use crate::preview::{MrKey, ProjectId, WorkKey};
use crate::store::Retention;

/// Asks for a look at every known project, at once and every `interval`, until stopped.
pub(super) async fn run(parts: &Parts, interval: Duration, retention: Retention, stop: &CancellationToken) {
    let mut timer = tokio::time::interval(interval);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = timer.tick() => {}
            () = stop.cancelled() => return,
        }
        if let Err(error) = all(parts).await {
            tracing::warn!(%error, "the resync could not be begun");
        }
        sweep::run(parts).await;
        match parts.store.prune(retention, parts.clock.now()).await {
            Ok(0) => {}
            Ok(rows) => tracing::info!(rows, "pruned"),
            Err(error) => tracing::warn!(%error, "old rows could not be pruned"),
        }
    }
}

async fn all(parts: &Parts) -> Result<(), Error> {
    let mut projects: BTreeSet<ProjectId> = BTreeSet::new();
    for (id, path) in parts.store.projects().await? {
        if (parts.served)(&path) {
            projects.insert(id);
        }
    }
    for preview in parts.store.previews().await? {
        if (parts.served)(&preview.project_path) {
            projects.insert(preview.key.project_id);
        }
    }
    for path in &parts.named_projects {
        match parts.forge.project_id(path).await {
            Ok(id) => drop(projects.insert(id)),
            Err(error) => {
                tracing::warn!(project.path = path, %error, "a project of the settings cannot be read");
            }
        }
    }
    let keys: Vec<_> = projects.into_iter().map(WorkKey::Project).collect();
    parts.store.enqueue(&keys, parts.clock.now()).await?;
    Ok(())
}

/// Asks for a look at each open merge request of a project and at each of its previews that is not gone.
pub(super) async fn project(parts: &Parts, project: ProjectId) -> Result<(), Error> {
    let mut keys: BTreeSet<MrKey> = parts.store.live_previews(project).await?.into_iter().collect();
    let listed = parts.forge.open_merge_requests(project).await;
    if let Ok(open) = &listed {
        keys.extend(open.iter().map(|open| MrKey::new(project, open.iid)));
    }
    let keys: Vec<_> = keys.into_iter().map(WorkKey::MergeRequest).collect();
    parts.store.enqueue(&keys, parts.clock.now()).await?;
    listed.map(drop).map_err(Error::from)
}
