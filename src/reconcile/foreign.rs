//! Another instance's things, seen by a store that knows of no preview yet: most likely our own, and the store was lost.
//!
//! Then nothing is done at all, not even beside them, until somebody says what is meant: `greenroom adopt` gives the store
//! that instance's id, so that they are ours again; an id that the operator chose (`GREENROOM_INSTANCE`) says that there
//! are two. What comes in meanwhile is looked at and left alone, and found again by the first resync afterwards.
//!
//! The engine's things are seen at the start. Environments are seen in each project by the first look that would make
//! a preview there.

use std::collections::BTreeSet;

use super::controller::Parts;
use super::look::Error;
use crate::preview::ProjectId;
use crate::report::instance_of;
use crate::store::Store;
use crate::telemetry::Warning;

/// Where the store remembers whom it saw.
const NOTE: &str = "foreign";

/// The ids of the instances before whose things we stand back.
pub async fn foreign_instances(store: &Store) -> Result<Vec<String>, crate::store::Error> {
    let noted = store.noted(NOTE).await?.unwrap_or_default();
    Ok(noted.split(' ').filter(|id| !id.is_empty()).map(str::to_owned).collect())
}

/// At a start: who is there is seen anew.
pub async fn forget_foreign_instances(store: &Store) -> Result<(), crate::store::Error> {
    store.forget(NOTE).await.map(drop)
}

/// Notes what the engine has of others, while it matters, and says so each time.
pub(super) async fn look_around(parts: &Parts) -> Result<(), Error> {
    if parts.instance_is_chosen || !parts.store.is_fresh().await? {
        parts.store.forget(NOTE).await?;
        parts.health.set("foreign", Vec::new());
        return Ok(());
    }
    let mut ids: BTreeSet<String> = foreign_instances(&parts.store).await?.into_iter().collect();
    for (place, engine) in parts.engines.all() {
        match engine.foreign().await {
            Ok(others) => ids.extend(others),
            // What is there is unknown. Nothing is made there either: an engine touches only what is ours.
            Err(error) => tracing::warn!(%place, %error, "other instances' things could not be looked for"),
        }
    }
    say(parts, &ids).await
}

/// Whether to keep our hands off: another look at `project` would make the first preview ever, beside another's things.
pub(super) async fn stands_back(parts: &Parts, project: ProjectId) -> Result<bool, Error> {
    if parts.instance_is_chosen || !parts.store.is_fresh().await? {
        return Ok(false);
    }
    let mut ids: BTreeSet<String> = foreign_instances(&parts.store).await?.into_iter().collect();
    if ids.is_empty() {
        let environments = match parts.forge.review_environments(project).await {
            Err(error) if error.is_refusal() => Vec::new(),
            listed => listed?,
        };
        let ours = parts.reporter.instance();
        ids.extend(environments.iter().filter_map(instance_of).filter(|id| *id != ours).map(str::to_owned));
        say(parts, &ids).await?;
    }
    Ok(!ids.is_empty())
}

async fn say(parts: &Parts, ids: &BTreeSet<String>) -> Result<(), Error> {
    if ids.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    parts.store.note(NOTE, &ids.join(" ")).await?;
    let text = format!(
        "this store knows of no preview, but there are things of other greenroom instances ({}), so nothing is touched",
        ids.join(", ")
    );
    let remedy = "if the store was lost, stop and run `greenroom adopt --instance ID`; if another greenroom is at work, \
                  set GREENROOM_INSTANCE to an id of your own";
    parts.health.set("foreign", vec![Warning::new("foreign_instance", text, remedy)]);
    Ok(())
}
