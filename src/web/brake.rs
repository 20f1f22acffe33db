//! The brake as JSON: what it holds and why, and the operator's leave.

use std::collections::HashMap;

use actix_web::{HttpResponse, web};
use serde::Serialize;

use super::access::Operator;
use super::{Api, Problem};
use crate::preview::{Cause, Preview, PreviewKey, ProjectId, rfc3339};
use crate::store::Removal;

#[derive(Serialize)]
struct Answer<'a> {
    /// Whether it holds anything.
    engaged: bool,
    /// How many removals it holds.
    held: i64,
    /// Previews that live, or went just now.
    live: i64,
    /// What is wanted.
    removals: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct Line<'a> {
    project_id: ProjectId,
    project_path: &'a str,
    mr_iid: Option<u64>,
    subject: String,
    branch: &'a str,
    cause: Cause,
    reason: &'a str,
    since: String,
    released: bool,
}

pub(super) async fn show(_: Operator, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let wanted = api.store.wanted_removals().await?;
    answer(&api, &wanted).await
}

/// Lets go on what is wanted now, and tells what that is. A removal that is wanted later is held again.
pub(super) async fn release(_: Operator, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let released = api.brake.release(&api.store, &api.health, api.clock.now()).await?;
    answer(&api, &released).await
}

async fn answer(api: &Api, removals: &[Removal]) -> Result<HttpResponse, Problem> {
    let state = api.brake.state(&api.store, api.clock.now()).await?;
    let previews = if removals.is_empty() { Vec::new() } else { api.store.previews().await? };
    let previews: HashMap<PreviewKey, &Preview> =
        previews.iter().map(|preview| (preview.key, preview)).collect();
    let mut lines = Vec::with_capacity(removals.len());
    for removal in removals {
        lines.push(Line {
            project_id: removal.key.project_id,
            project_path: previews.get(&removal.key).map_or("", |preview| &preview.project_path),
            mr_iid: removal.key.subject.iid(),
            subject: removal.key.subject.to_string(),
            branch: previews.get(&removal.key).map_or("", |preview| &preview.source_branch),
            cause: removal.cause,
            reason: &removal.reason,
            since: rfc3339(removal.since),
            released: removal.released,
        });
    }
    let (held, live) = (state.held, state.live);
    Ok(HttpResponse::Ok().json(Answer { engaged: held > 0, held, live, removals: lines }))
}
