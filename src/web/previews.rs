//! Previews as JSON.

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};

use super::access::Operator;
use super::{Api, Problem};
use crate::preview::{
    CheckResult, EngineKind, HoldOrigin, Intent, Preview, PreviewKey, ProjectId, State, WorkKey, rfc3339,
};

/// How long a preview stays in the list after it went, milliseconds.
const SHOWN_AFTER_STOP: i64 = 86_400_000;

/// Lines of history in a preview's own answer.
const HISTORY: i64 = 200;

/// Lines of a program's log that one answer has.
const MOST_LINES: usize = 2_000;

#[derive(Serialize)]
struct Listed<'a> {
    project_id: ProjectId,
    project_path: &'a str,
    /// Nothing for a branch without a merge request.
    mr_iid: Option<u64>,
    /// What its address ends in: the number of the merge request, or the branch's id.
    subject: String,
    /// The source branch.
    branch: &'a str,
    name: &'a str,
    state: State,
    reason: &'a str,
    /// What holds beside the reason, if anything.
    notice: Option<&'static str>,
    url: &'a str,
    sha: Option<&'a str>,
    serving: Option<Serving<'a>>,
    engine: &'a str,
    /// Which of the engine's clusters.
    cluster: Option<&'a str>,
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
    /// What the newest order waits for.
    waits_for: &'a [String],
    /// The last lines of the program that the newest order failed for, oldest first.
    log: &'a [String],
    /// How the project's own checks of what serves come out.
    checks: &'a [CheckResult],
    /// Where it ran before, and something may be left.
    leaving: Vec<String>,
    /// The rules that led to the state.
    decision: &'a [String],
    /// Who stopped it at its head.
    hold: Option<Held>,
    /// Since when what served sleeps.
    asleep_since: Option<String>,
    /// What an operator asked for that no look has taken up yet.
    asked: Option<Pending>,
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
struct Held {
    by: HoldOrigin,
    since: String,
}

#[derive(Serialize)]
struct Pending {
    intent: Intent,
    at: String,
}

#[derive(Serialize)]
struct Line {
    id: String,
    at: String,
    state: String,
    text: String,
}

/// What is said of a live preview whose project the settings do not serve.
const UNSERVED: &str = "the settings do not serve this project any more; the preview is left as it is";

fn listed<'a>(api: &Api, preview: &'a Preview) -> Listed<'a> {
    let left = preview.state != State::Stopped && !(api.served)(&preview.project_path);
    Listed {
        project_id: preview.key.project_id,
        project_path: &preview.project_path,
        mr_iid: preview.key.subject.iid(),
        subject: preview.key.subject.to_string(),
        branch: &preview.source_branch,
        name: preview.name.as_str(),
        state: preview.state,
        reason: &preview.reason,
        notice: left.then_some(UNSERVED),
        url: &preview.url,
        sha: preview.sha.as_ref().map(crate::preview::Sha::as_str),
        serving: preview
            .serving
            .as_ref()
            .map(|serving| Serving { sha: serving.sha.as_str(), since: rfc3339(serving.since) }),
        engine: &preview.engine,
        cluster: preview.cluster.as_deref(),
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
    let previews: Vec<_> = all
        .iter()
        .filter(|preview| preview.is_decided())
        .filter(shown)
        .map(|preview| listed(&api, preview))
        .collect();
    Ok(HttpResponse::Ok().json(serde_json::json!({ "previews": previews })))
}

pub(super) async fn one(_: Operator, api: web::Data<Api>, path: Path) -> Result<HttpResponse, Problem> {
    show(&api, key(&path)?).await
}

/// One preview, with all there is to know.
pub(super) async fn show(api: &Api, key: PreviewKey) -> Result<HttpResponse, Problem> {
    let preview = known(api, key).await?;
    Ok(HttpResponse::Ok().json(detail(api, &preview).await?))
}

/// Which lines of a log are wanted.
#[derive(Deserialize)]
pub(super) struct LogQuery {
    #[serde(default = "usual_lines")]
    lines: usize,
}

const fn usual_lines() -> usize {
    100
}

/// The last lines that the preview's programs wrote, oldest first.
pub(super) async fn log(
    _: Operator,
    api: web::Data<Api>,
    path: Path,
    query: web::Query<LogQuery>,
) -> Result<HttpResponse, Problem> {
    let preview = find(&api, &path).await?;
    let lines = api.engines.app_log(&preview, query.lines.clamp(1, MOST_LINES)).await;
    let lines = lines.map_err(Problem::unavailable)?;
    Ok(HttpResponse::Ok().json(serde_json::json!({ "lines": lines })))
}

pub(super) async fn stop(_: Operator, api: web::Data<Api>, path: Path) -> Result<HttpResponse, Problem> {
    ask(&api, &path, Intent::Stop).await
}

pub(super) async fn refresh(_: Operator, api: web::Data<Api>, path: Path) -> Result<HttpResponse, Problem> {
    ask(&api, &path, Intent::Refresh).await
}

pub(super) async fn sleep(_: Operator, api: web::Data<Api>, path: Path) -> Result<HttpResponse, Problem> {
    let preview = find(&api, &path).await?;
    if preview.place().is_none_or(|place| place.engine == EngineKind::Static) {
        return Err(Problem::conflict(
            "a static preview uses nothing while nobody looks at it, so there is nothing to put to sleep",
        ));
    }
    let serves = preview.serving.is_some() && !matches!(preview.state, State::Stopping | State::Stopped);
    if !serves || preview.state == State::Deploying {
        return Err(Problem::conflict(format!(
            "only what serves can be put to sleep, and it is {}: {}",
            preview.state, preview.reason
        )));
    }
    ask(&api, &path, Intent::Sleep).await
}

pub(super) async fn wake(_: Operator, api: web::Data<Api>, path: Path) -> Result<HttpResponse, Problem> {
    ask(&api, &path, Intent::Wake).await
}

/// Durable before the answer. To ask again changes nothing: what is asked for is how it should be.
async fn ask(api: &Api, path: &Path, intent: Intent) -> Result<HttpResponse, Problem> {
    let preview = find(api, path).await?;
    api.store.ask(&preview, intent, api.clock.now()).await?;
    tracing::info!(mr.key = %preview.key, intent = intent.as_str(), "asked for");
    Ok(HttpResponse::Accepted().json(detail(api, &preview).await?))
}

type Path = web::Path<(String, String)>;

async fn find(api: &Api, path: &Path) -> Result<Preview, Problem> {
    known(api, key(path)?).await
}

fn key(path: &Path) -> Result<PreviewKey, Problem> {
    let (project, subject) = &**path;
    let key = project.parse().ok().zip(subject.parse().ok());
    key.map(|(project, subject)| PreviewKey::new(project, subject)).ok_or_else(|| {
        Problem::not_found(format!(
            "`{project}/{subject}` names no merge request; use the project's id and the iid, in digits"
        ))
    })
}

async fn known(api: &Api, key: PreviewKey) -> Result<Preview, Problem> {
    api.store.preview(key).await?.filter(Preview::is_decided).ok_or_else(|| {
        Problem::not_found(format!(
            "no preview of {} {key} is known: its head has no `.greenroom.yml`, or nothing was heard of it \
             yet",
            if key.subject.is_branch() { "branch" } else { "merge request" }
        ))
    })
}

async fn detail<'a>(api: &Api, preview: &'a Preview) -> Result<Detail<'a>, Problem> {
    let key = preview.key;
    let history = api.store.history(key, HISTORY).await?;
    let trouble = api.store.trouble(&WorkKey::Preview(key)).await?;
    let asked = api.store.asked(key).await?;
    Ok(Detail {
        listed: listed(api, preview),
        next: &preview.next,
        waits_for: &preview.waits_for,
        log: &preview.log,
        checks: preview.check_run.as_ref().map_or(&[], |run| &run.checks),
        leaving: preview.leaving.iter().map(ToString::to_string).collect(),
        decision: &preview.decision,
        hold: preview.hold.as_ref().map(|hold| Held { by: hold.origin, since: rfc3339(hold.since) }),
        asleep_since: preview.sleeps_since().map(rfc3339),
        asked: asked.map(|asked| Pending { intent: asked.intent, at: rfc3339(asked.at) }),
        trouble: trouble.map(|(error, at)| Trouble { error, next_look_at: rfc3339(at) }),
        history: history
            .into_iter()
            .map(|entry| Line { id: entry.id, at: rfc3339(entry.at), state: entry.state, text: entry.text })
            .collect(),
    })
}
