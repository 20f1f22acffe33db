//! Previews as JSON.

use actix_web::{HttpResponse, web};
use serde::Serialize;

use super::access::Operator;
use super::{Api, Problem};
use crate::preview::{MrKey, Preview, ProjectId, State, WorkKey, rfc3339};

/// How long a preview stays in the list after it went, milliseconds.
const SHOWN_AFTER_STOP: i64 = 86_400_000;

/// Lines of history in a preview's own answer.
const HISTORY: i64 = 200;

#[derive(Serialize)]
struct Listed<'a> {
    project_id: ProjectId,
    project_path: &'a str,
    mr_iid: u64,
    name: &'a str,
    state: State,
    reason: &'a str,
    url: &'a str,
    sha: Option<&'a str>,
    serving: Option<Serving<'a>>,
    engine: &'a str,
    created_at: String,
    updated_at: String,
    expires_at: Option<String>,
}

#[derive(Serialize)]
struct Serving<'a> {
    sha: &'a str,
    since: String,
}

#[derive(Serialize)]
struct Detail<'a> {
    #[serde(flatten)]
    listed: Listed<'a>,
    /// What happens next, and what somebody can do.
    next: &'a str,
    /// The rules that led to the state.
    decision: &'a [String],
    /// Why the last look failed, and when the next one is.
    trouble: Option<Trouble>,
    /// Newest first.
    history: Vec<Line>,
}

#[derive(Serialize)]
struct Trouble {
    error: String,
    next_look_at: String,
}

#[derive(Serialize)]
struct Line {
    at: String,
    state: String,
    text: String,
}

fn listed(preview: &Preview) -> Listed<'_> {
    Listed {
        project_id: preview.key.project_id,
        project_path: &preview.project_path,
        mr_iid: preview.key.iid,
        name: preview.name.as_str(),
        state: preview.state,
        reason: &preview.reason,
        url: &preview.url,
        sha: preview.sha.as_ref().map(crate::preview::Sha::as_str),
        serving: preview
            .serving
            .as_ref()
            .map(|serving| Serving { sha: serving.sha.as_str(), since: rfc3339(serving.since) }),
        engine: &preview.engine,
        created_at: rfc3339(preview.created_at),
        updated_at: rfc3339(preview.updated_at),
        expires_at: preview.expires_at.map(rfc3339),
    }
}

pub(super) async fn list(_: Operator, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let now = api.clock.now();
    let all = api.store.previews().await?;
    let shown = |preview: &&Preview| {
        preview.state != State::Stopped || preview.stopped_at.is_some_and(|at| now - at < SHOWN_AFTER_STOP)
    };
    let previews: Vec<_> = all.iter().filter(shown).map(listed).collect();
    Ok(HttpResponse::Ok().json(serde_json::json!({ "previews": previews })))
}

pub(super) async fn one(
    _: Operator,
    api: web::Data<Api>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    let (project, iid) = path.into_inner();
    let key = project.parse().ok().zip(iid.parse().ok()).map(|(project, iid)| MrKey::new(project, iid));
    let unknown = || {
        Problem::not_found(format!(
            "no preview of merge request {project}!{iid} is known: its head has no `.greenroom.yml`, or nothing was \
             heard of it yet"
        ))
    };
    let key = key.ok_or_else(|| {
        Problem::not_found(format!(
            "`{project}/{iid}` names no merge request; use the project's id and the iid, in digits"
        ))
    })?;
    let preview = api.store.preview(key).await?.ok_or_else(unknown)?;
    let history = api.store.history(key, HISTORY).await?;
    let trouble = api.store.trouble(&WorkKey::MergeRequest(key)).await?;
    Ok(HttpResponse::Ok().json(Detail {
        listed: listed(&preview),
        next: &preview.next,
        decision: &preview.decision,
        trouble: trouble.map(|(error, at)| Trouble { error, next_look_at: rfc3339(at) }),
        history: history
            .into_iter()
            .map(|entry| Line { at: rfc3339(entry.at), state: entry.state, text: entry.text })
            .collect(),
    }))
}
