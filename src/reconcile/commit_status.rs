//! When the commit status says what. It speaks of one deploy, in the pipeline that was deployed from: nothing is said
//! before a deploy begins, so nothing where there is no pipeline.
//!
//! * `info`: one final `success` per pipeline, once the deploy came to its end, good or bad. Another one only when a later
//!   deploy from that pipeline came out differently. A preview that stops is no such news: link and comment tell of it.
//! * Where the project has checks, they belong to the deploy: it has come to its end once they have. One that fails is told
//!   under `info`, and is a failure under `required`.
//! * `required`: `running` while the deploy goes on, then how it came out. A trouble of the engine's own counts as
//!   `failed`, for nobody knows when it ends; its retries are not shown as running.
//! * One that runs is ended at the next look when nobody waits for its deploy any more: as `canceled`, or as `success`
//!   where the settings have stopped to require it.
//!
//! The record has room for one. The one before is ended first; where GitLab forbids even that (403), it is given up.

use super::apply::unless_refused;
use super::controller::Parts;
use super::desired::{Desired, Target};
use super::look::{Error, keep};
use crate::preview::{
    CommitStatus, CommitStatusMode as Mode, CommitStatusState as Is, Preview, Reason, Said, State,
};

/// What is to be said at the end of a look, `target` being what should run; nothing when it was said before.
fn due(mode: Mode, target: Option<&Target>, record: &Preview) -> Option<Said> {
    let status = record.commit_status.as_ref()?;
    let counts =
        mode != Mode::Off && target.is_some_and(|target| target.pipeline_id == Some(status.pipeline_id));
    // What the engine is in trouble with is tried again, and has not come to its end.
    let refused = record.release.as_ref().is_some_and(|release| release.failure.is_some());
    let checks_failed =
        record.check_run.as_ref().is_some_and(|run| !run.is_running() && run.failed().next().is_some());
    let is = match (mode, record.state) {
        (Mode::Required, State::Ready) if counts && checks_failed => Some(Is::Failed),
        (_, State::Ready) if counts && !record.is_being_checked() => Some(Is::Success),
        // Put to sleep before that could be said.
        (_, State::Asleep) if counts && status.open => Some(Is::Success),
        (Mode::Required, State::Failed) if counts => Some(Is::Failed),
        (Mode::Info, State::Failed) if counts && refused => Some(Is::Success),
        (Mode::Required, _) if counts => {
            let running = status.said.as_ref().is_some_and(|said| said.state == Is::Running);
            return if running && !status.answered { status.said.clone() } else { None };
        }
        _ => None,
    };
    let says = match is {
        Some(is) => Said::new(is, &format!("Preview {}: {}{}", record.state, record.reason, checks(record))),
        None if status.open => abandoned(mode, &record.reason),
        None => return None,
    };
    (!status.has_said(&says)).then_some(says)
}

/// How the checks of what serves came out, after the reason: those that failed by name, for there is room for one line.
fn checks(record: &Preview) -> String {
    let Some(run) = record.check_run.as_ref().filter(|_| record.state == State::Ready) else {
        return String::new();
    };
    let failed: Vec<_> = run.failed().map(ToString::to_string).collect();
    match run.summary() {
        None => String::new(),
        Some(summary) if failed.is_empty() => format!("; {summary}"),
        Some(summary) => format!("; {summary}: {}", failed.join("; ")),
    }
}

/// The end of one that nobody waits for any more.
fn abandoned(mode: Mode, why: &str) -> Said {
    let is = if mode == Mode::Required { Is::Canceled } else { Is::Success };
    Said::new(is, &format!("Not waited for any more: {why}"))
}

/// What ends the status before a deploy of `target`, when it is another pipeline's and runs.
fn overtaken(mode: Mode, target: &Target, record: &Preview) -> Option<Said> {
    let status = record.commit_status.as_ref()?;
    let ends = status.open && Some(status.pipeline_id) != target.pipeline_id;
    ends.then(|| abandoned(mode, &Reason::Deploying(target.sha.clone()).to_string()))
}

/// Makes the status that of `target`'s pipeline.
fn turn_to(mode: Mode, target: &Target, record: &mut Preview) {
    record.commit_status =
        record.commit_status.take().filter(|known| Some(known.pipeline_id) == target.pipeline_id);
    if let Some(pipeline) = target.pipeline_id.filter(|_| mode != Mode::Off && record.commit_status.is_none())
    {
        record.commit_status = Some(CommitStatus::new(pipeline, target.pipeline_sha.clone()));
    }
}

/// What is said once `target` is about to be handed to the engine. `retry`: it was before.
fn begun(mode: Mode, target: &Target, record: &Preview, retry: bool) -> Option<Said> {
    let status = record.commit_status.as_ref().filter(|_| mode == Mode::Required)?;
    let shows = match status.said.as_ref().map(|said| said.state) {
        Some(Is::Running) => !status.answered,
        Some(Is::Failed) => !retry,
        _ => true,
    };
    let why = Reason::Deploying(target.sha.clone());
    shows.then(|| Said::new(Is::Running, &format!("Preview {}: {why}", State::Deploying)))
}

/// A deploy of `target` begins: from here on the status is its pipeline's.
pub(super) async fn begin(
    parts: &Parts,
    record: &mut Preview,
    saved: &mut Option<Preview>,
    target: &Target,
) -> Result<(), Error> {
    let mode = mode(parts, record);
    if let Some(says) = overtaken(mode, target, record) {
        say(parts, record, saved, says).await?;
    }
    turn_to(mode, target, record);
    Ok(())
}

/// Shows that `target` is being deployed, where that is required. `retry`: it was handed to the engine before.
pub(super) async fn run(
    parts: &Parts,
    record: &mut Preview,
    saved: &mut Option<Preview>,
    target: &Target,
    retry: bool,
) -> Result<(), Error> {
    match begun(mode(parts, record), target, record, retry) {
        Some(says) => say(parts, record, saved, says).await,
        None => Ok(()),
    }
}

/// Says how it stands at the end of a look.
pub(super) async fn tell(
    parts: &Parts,
    record: &mut Preview,
    saved: &mut Option<Preview>,
    desired: &Desired,
) -> Result<(), Error> {
    let target = if let Desired::Run(target) = desired { Some(&**target) } else { None };
    match due(mode(parts, record), target, record) {
        Some(says) => say(parts, record, saved, says).await,
        None => Ok(()),
    }
}

fn mode(parts: &Parts, record: &Preview) -> Mode {
    // Of a branch without a merge request the job itself is the status.
    if record.key.subject.is_branch() { Mode::Off } else { (parts.commit_status)(&record.project_path) }
}

/// Intent, call, result.
async fn say(
    parts: &Parts,
    record: &mut Preview,
    saved: &mut Option<Preview>,
    says: Said,
) -> Result<(), Error> {
    let Some(status) = record.commit_status.as_mut() else { return Ok(()) };
    tracing::info!(mr.key = %record.key, step = "commit status", state = says.state.as_str(), "step");
    // Whatever was about to be said last: GitLab may have heard this one before.
    let again = !status.answered;
    status.intend(says);
    keep(parts, record, saved).await?;
    unless_refused(parts.reporter.commit_status(record, again).await)?;
    keep(parts, record, saved).await
}

#[cfg(test)]
mod tests;
