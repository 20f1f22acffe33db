//! The comment on a merge request.
//!
//! All facts that strangers wrote come in as [`Quoted`](crate::preview::Quoted) inside `reason`, and no line of the
//! template begins with what they wrote: nothing can ping, run a quick action or break out. Times are absolute, so that
//! an unchanged look renders the same text and writes nothing.

use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior};
use serde::Serialize;

use crate::preview::{CheckResult, CheckRun, CheckState, MrKey, Preview, Release, State, rfc3339};

const TEMPLATE: &str = include_str!("../../templates/note.md");

/// The hidden line that tells our comment from all others.
pub fn marker(instance: &str, key: MrKey) -> String {
    format!("<!-- greenroom instance={instance} project={} mr={} -->", key.project_id, key.iid)
}

/// Whether a comment's text begins with this marker. Only the beginning counts: a quotation further down is not ours.
pub fn marker_matches(body: &str, instance: &str, key: MrKey) -> bool {
    body.trim_start().starts_with(&marker(instance, key))
}

/// What the comment is made of.
#[derive(Debug, Clone, Copy)]
pub struct NoteFacts<'a> {
    /// The preview as it stands.
    pub preview: &'a Preview,
    /// Our instance id.
    pub instance: &'a str,
}

#[derive(Serialize)]
struct Context {
    marker: String,
    icon: &'static str,
    state: &'static str,
    url: String,
    label: String,
    reason: String,
    commit: Option<String>,
    serving: Option<String>,
    serving_since: Option<String>,
    asleep_since: Option<String>,
    current: bool,
    took: Option<String>,
    expires: Option<String>,
    log: Vec<String>,
    checks: Option<Checks>,
    next: String,
}

/// The project's own checks of what serves.
#[derive(Serialize)]
struct Checks {
    commit: String,
    summary: String,
    each: Vec<Check>,
}

#[derive(Serialize)]
struct Check {
    icon: &'static str,
    text: String,
    lines: Vec<String>,
}

impl Checks {
    fn of(run: &CheckRun) -> Self {
        Self {
            commit: run.sha.short().to_owned(),
            summary: run.summary().unwrap_or_else(|| String::from("being asked")),
            each: run.checks.iter().map(Check::of).collect(),
        }
    }
}

impl Check {
    fn of(result: &CheckResult) -> Self {
        let took = result.took_ms.map_or_else(String::new, |took| format!(" ({})", seconds(took)));
        let icon = match result.state {
            CheckState::Running => "🟡",
            CheckState::Passed => "🟢",
            CheckState::Failed => "🔴",
        };
        Self { icon, text: format!("{result}{took}"), lines: result.lines.clone() }
    }
}

/// The comment's Markdown.
///
/// # Errors
/// Only when the template itself is broken.
pub fn note(facts: NoteFacts<'_>) -> Result<String, minijinja::Error> {
    let preview = facts.preview;
    let serving = preview.serving.as_ref();
    let settled = preview.release.as_ref().filter(|release| preview.sha.as_ref() == Some(&release.sha));
    let took = settled.and_then(Release::took);
    // Those of what serves: another revision's say nothing of it.
    let checked =
        preview.check_run.as_ref().filter(|run| serving.is_some_and(|serving| serving.sha == run.sha));
    let over = matches!(preview.state, State::Stopped | State::Stopping);
    let context = Context {
        marker: preview.key.merge_request().map(|key| marker(facts.instance, key)).unwrap_or_default(),
        icon: icon(preview.state),
        state: preview.state.as_str(),
        url: preview.url.clone(),
        label: preview.url.split_once("://").map_or(&*preview.url, |(_, rest)| rest).to_owned(),
        reason: preview.reason.clone(),
        commit: preview.sha.as_ref().map(|sha| sha.short().to_owned()),
        serving: serving.map(|serving| serving.sha.short().to_owned()),
        serving_since: serving.map(|serving| readable(serving.since)),
        asleep_since: preview.sleeps_since().filter(|_| !over).map(readable),
        current: serving.map(|serving| &serving.sha) == preview.sha.as_ref(),
        took: took.filter(|_| preview.state == State::Ready).map(seconds),
        expires: preview.expires_at.filter(|_| !over).map(readable),
        // While it waits for something else, or is gone, that is over.
        log: if preview.state == State::Failed { preview.log.clone() } else { Vec::new() },
        checks: checked.filter(|_| !over).map(Checks::of),
        next: preview.next.clone(),
    };
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.add_filter("capitalize_first", capitalize_first);
    environment.add_template("note.md", TEMPLATE)?;
    let text = environment.get_template("note.md")?.render(Serde(context))?;
    Ok(text.trim_end().to_owned())
}

const fn icon(state: State) -> &'static str {
    match state {
        State::Ready => "🟢",
        State::Waiting | State::Deploying | State::Stopping => "🟡",
        State::Failed => "🔴",
        State::Asleep | State::Stopped | State::Skipped => "⚪",
    }
}

fn readable(milliseconds: i64) -> String {
    rfc3339(milliseconds).replace('T', " ").replace('Z', " UTC")
}

/// `27 ms`, `4.2 s`, `95 s`.
fn seconds(milliseconds: i64) -> String {
    match milliseconds {
        0..1_000 => format!("{milliseconds} ms"),
        1_000..10_000 => format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100),
        _ => format!("{} s", milliseconds / 1000),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the signature of a minijinja filter")]
fn capitalize_first(text: String) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests;
