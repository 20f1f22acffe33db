//! The net under the webhooks: at start and every interval, the list of open merge requests of every known project is
//! compared with the last one. At the start every preview that is not gone is looked at besides.
//!
//! Known are the projects that ever delivered, those the settings name, and, where the settings have wildcards, those of
//! the token's own projects that match.
//!
//! Looked at again is
//! * whatever changed in the list, is new in it, or has vanished from it;
//! * every preview that may change without the list showing it (a finished pipeline does not touch its merge request);
//! * a preview whose environment was stopped in GitLab's own page, which one list per project tells.
//!
//! What is ready is looked at in full once an hour, from the queue itself (`look.rs`). The list only says whom to look
//! at: a look decides, from the merge request's own answer. A list that cannot be had says nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::controller::Parts;
use super::look::Error;
use super::{orders, sweep};
use crate::gitlab::{EnvironmentState, OpenMergeRequest};
use crate::preview::{ENVIRONMENT_PREFIX, MR_ENVIRONMENT_PREFIX, ProjectId, WorkKey};
use crate::store::{Lane, LivePreview, Relisted, Retention};

/// Asks for a look at every known project, at once and every `interval`, until stopped.
pub(super) async fn run(parts: &Parts, interval: Duration, retention: Retention, stop: &CancellationToken) {
    let mut timer = tokio::time::interval(interval);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    if let Err(error) = every_preview(parts).await {
        tracing::warn!(%error, "the previews could not be queued at the start");
    }
    loop {
        tokio::select! {
            _ = timer.tick() => {}
            () = stop.cancelled() => return,
        }
        if let Err(error) = all(parts).await {
            tracing::warn!(%error, "the resync could not be begun");
        }
        sweep::run(parts).await;
        parts.uploads.tidy(&parts.store, parts.clock.now()).await;
        match parts.store.prune(retention, parts.clock.now()).await {
            Ok(0) => {}
            Ok(rows) => tracing::info!(rows, "pruned"),
            Err(error) => tracing::warn!(%error, "old rows could not be pruned"),
        }
    }
}

/// Asks for a look at every preview that is not gone: the settings may have changed, and what they take away must be seen
/// together, or the brake would not notice that it is much.
async fn every_preview(parts: &Parts) -> Result<(), Error> {
    let keys: Vec<_> = parts.store.live_keys().await?.into_iter().map(WorkKey::Preview).collect();
    Ok(parts.store.enqueue_in(Lane::Background, &keys, parts.clock.now()).await?)
}

async fn all(parts: &Parts) -> Result<(), Error> {
    let mut projects: BTreeSet<ProjectId> = BTreeSet::new();
    let delivered = parts.store.projects().await?;
    for (id, path) in delivered.into_iter().chain(parts.store.preview_projects().await?) {
        if (parts.served)(&path) {
            projects.insert(id);
        }
    }
    let keys = |projects: &BTreeSet<ProjectId>| -> Vec<_> {
        projects.iter().copied().map(WorkKey::Project).collect()
    };
    // Before GitLab is asked for more: what is known already must not wait for that.
    parts.store.enqueue_in(Lane::Background, &keys(&projects), parts.clock.now()).await?;

    let forge = parts.forge.in_background();
    let mut more: BTreeSet<ProjectId> = BTreeSet::new();
    for path in &parts.named_projects {
        match forge.project_id(path).await {
            Ok(id) => drop(more.insert(id)),
            Err(error) => {
                tracing::warn!(project.path = path, %error, "a project of the settings cannot be read");
            }
        }
    }
    if parts.has_wildcards {
        match forge.own_projects().await {
            Ok(own) => {
                more.extend(own.into_iter().filter(|(_, path)| (parts.served)(path)).map(|(id, _)| id));
            }
            Err(error) => tracing::warn!(%error, "the token's own projects cannot be listed"),
        }
    }
    let more: BTreeSet<_> = more.difference(&projects).copied().collect();
    parts.store.enqueue_in(Lane::Background, &keys(&more), parts.clock.now()).await?;
    Ok(())
}

/// Asks for a look at each merge request of a project that needs one.
pub(super) async fn project(parts: &Parts, project: ProjectId) -> Result<(), Error> {
    let previews = parts.store.live_previews(project).await?;
    let open = match parts.forge.open_merge_requests(project).await {
        Ok(open) => open,
        Err(error) => {
            if error.is_refusal() || error.is_not_found() {
                // It may be the list alone that we are not shown.
                let others = previews.iter().map(|preview| (preview.key, false)).collect();
                let news = Relisted { others, ..Relisted::default() };
                parts.store.relist(project, &news, parts.clock.now()).await?;
            }
            return Err(error.into());
        }
    };
    let known = parts.store.listed(project).await?;
    let mut news = compare(&open, &known, &previews);
    if previews.iter().any(|preview| preview.environment.is_some()) {
        let by_jobs = orders::are_usual(parts, project).await?;
        match stopped_environments(parts, project, &previews, by_jobs).await {
            Ok(stopped) => {
                let by_hand = previews
                    .iter()
                    .filter(|preview| preview.environment.is_some_and(|id| stopped.contains(&id)));
                news.others.extend(by_hand.map(|preview| (preview.key, true)));
            }
            Err(error) if error.is_refusal() => {}
            Err(error) => {
                tracing::warn!(project.id = project, %error, "the stopped environments cannot be listed");
            }
        }
    }
    if !news.changed.is_empty() || !news.vanished.is_empty() {
        let (changed, vanished) = (news.changed.len(), news.vanished.len());
        tracing::info!(project.id = project, changed, vanished, "the resync found changes");
        if !known.is_empty() {
            let path = parts.store.project_path(project).await?.unwrap_or_else(|| project.to_string());
            parts.health.webhooks.resync_found_changes(project, &path, parts.clock.now());
        }
    }
    parts.store.relist(project, &news, parts.clock.now()).await?;
    Ok(())
}

/// The environments that are stopped; where jobs deploy, those that are being stopped too: that a stop job cannot run must hold
/// nothing up.
async fn stopped_environments(
    parts: &Parts,
    project: ProjectId,
    previews: &[LivePreview],
    by_jobs: bool,
) -> Result<BTreeSet<u64>, crate::gitlab::Error> {
    let of_branches = previews.iter().any(|preview| preview.key.subject.is_branch());
    let search = if of_branches { ENVIRONMENT_PREFIX } else { MR_ENVIRONMENT_PREFIX };
    let list = |state| parts.forge.environments_in(project, state, search);
    let mut stopped = list(EnvironmentState::Stopped).await?;
    if by_jobs || of_branches {
        stopped.append(&mut list(EnvironmentState::Stopping).await?);
    }
    Ok(stopped)
}

/// Whom to look at, from what the list says now, what it said last, and the previews that are not gone.
fn compare(open: &[OpenMergeRequest], known: &BTreeMap<u64, String>, previews: &[LivePreview]) -> Relisted {
    let listed: BTreeSet<u64> = open.iter().map(|open| open.iid).collect();
    let changed = open.iter().filter(|open| known.get(&open.iid) != Some(&open.fingerprint));
    let is_listed = |preview: &LivePreview| preview.key.subject.iid().is_none_or(|iid| listed.contains(&iid));
    let restless = previews.iter().filter(|preview| !preview.at_rest || !is_listed(preview));
    Relisted {
        changed: changed.map(|open| (open.iid, open.fingerprint.clone())).collect(),
        vanished: known.keys().filter(|iid| !listed.contains(iid)).copied().collect(),
        others: restless.map(|preview| (preview.key, false)).collect(),
    }
}
