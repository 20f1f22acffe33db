//! What nobody remembers: things of our instance id that the engine or GitLab has and the store has not (it was lost,
//! restored from an old backup, or pruned).
//!
//! Such a thing gets a record again, and a look. Where the merge request is open, the look takes it over as it is: what
//! serves, its environment and its comment stay, and nothing is made twice. Where it is closed or merged, it is an orphan,
//! and goes once two looks, a resync interval apart, were told so by the merge request itself; orphans count for the
//! brake. Where GitLab does not show the merge request, it stays and is reported, as any preview is.
//!
//! The engine is asked after each resync, at no cost to GitLab; a project's environments are listed at most once an hour.
//!
//! Races, and what was decided:
//! * *A look makes the record at the same time*: a record that lives is never written over. At the start the engine is
//!   asked before the first look.
//! * *An environment is removed while the list of all is read*: one that is listed is asked for itself, after the record.
//! * *A preview that is gone comes back at the same time*: its record is replaced only if it has not changed since it was
//!   read.

use super::apply::unless_refused;
use super::controller::Parts;
use super::engines::{place_of, places_of};
use super::foreign;
use super::look::Error;
use crate::engine::Running;
use crate::gitlab::{Environment, EnvironmentState};
use crate::preview::{
    Deployment, Place, Preview, PreviewKey, PreviewName, ProjectId, Reason, Release, Serving, Sleep, State,
    Subject, WorkKey, merge_request_of_environment,
};
use crate::report::instance_of;
use crate::telemetry::Warning;

/// How often a project's environments are listed, milliseconds.
const LISTED_EVERY: i64 = 3_600_000;

/// Asks the engine what it has, and reports what is left alone. A failure is logged: the next resync tries again.
pub(super) async fn run(parts: &Parts) {
    if let Err(error) = all(parts).await {
        tracing::warn!(%error, "what nobody remembers could not be looked for");
    }
}

async fn all(parts: &Parts) -> Result<(), Error> {
    foreign::look_around(parts).await?;
    parts.brake.review(&parts.store, &parts.health, parts.clock.now()).await?;
    let previews = parts.store.previews().await?;
    let unserved = previews
        .iter()
        .filter(|preview| preview.state != State::Stopped && !(parts.served)(&preview.project_path))
        .count();
    let warning = (unserved > 0).then(|| {
        tracing::warn!(previews = unserved, "previews of projects that the settings do not serve are left");
        Warning::new(
            "unserved",
            "there are previews of projects that the settings do not serve any more; they are left as they are",
            "check GREENROOM_PROJECTS, or stop them with `greenroom stop`",
        )
    });
    parts.health.set("unserved", warning.into_iter().collect());
    for (place, engine) in parts.engines.all() {
        match engine.inventory().await {
            Ok(names) => there(parts, &previews, place, names).await?,
            // What is there is unknown, which is not nothing.
            Err(error) => {
                tracing::warn!(%place, %error, "what nobody remembers could not be looked for there");
            }
        }
    }
    Ok(())
}

/// Looks through what a place has of our instance.
async fn there(
    parts: &Parts,
    previews: &[Preview],
    place: &Place,
    names: Vec<PreviewName>,
) -> Result<(), Error> {
    for name in names {
        let known = previews.iter().find(|preview| preview.name == name);
        let Some(key) = known.map(|preview| preview.key).or_else(|| name.key()) else {
            tracing::warn!(preview.name = %name, "the engine has something that belongs to no merge request");
            continue;
        };
        match known {
            Some(preview) if preview.state != State::Stopped => {
                if !places_of(preview).contains(place) {
                    parts.strays.add(preview.key, place.clone());
                    parts.store.enqueue(&[WorkKey::Preview(key)], parts.clock.now()).await?;
                }
            }
            Some(_) => parts.store.enqueue(&[WorkKey::Preview(key)], parts.clock.now()).await?,
            None => {
                let of_project = |preview: &&Preview| preview.key.project_id == key.project_id;
                let path = previews.iter().find(of_project).map(|preview| preview.project_path.clone());
                let gone = previews.iter().find(|preview| preview.key == key);
                found(parts, key, path.unwrap_or_default(), Some(name), (None, place), gone).await?;
            }
        }
    }
    Ok(())
}

/// Looks through the environments of a project, when that was not done for an hour.
pub(super) async fn environments(parts: &Parts, project: ProjectId) -> Result<(), Error> {
    let now = parts.clock.now();
    let note = format!("environments:{project}");
    let last: Option<i64> = parts.store.noted(&note).await?.and_then(|at| at.parse().ok());
    if last.is_some_and(|last| now - last < LISTED_EVERY) {
        return Ok(());
    }
    let listed = match parts.forge.review_environments(project).await {
        // Environments are switched off, or not for us.
        Err(error) if error.is_refusal() => Vec::new(),
        listed => listed?,
    };
    for environment in listed {
        // Of a branch without one the engine alone tells: the job makes the environment before there is anything else.
        let Some(iid) = merge_request_of_environment(&environment.name) else { continue };
        if instance_of(&environment) != Some(parts.reporter.instance()) {
            continue;
        }
        let key = PreviewKey::of_mr(project, iid);
        let known = parts.store.preview(key).await?;
        if known.as_ref().is_none_or(|known| known.state == State::Stopped) {
            // The list is older than the record: a removal may have ended in between.
            let Some(environment) = parts.forge.environment(project, environment.id).await? else { continue };
            let path = match &known {
                Some(known) => known.project_path.clone(),
                None => parts.forge.project_path(project).await?,
            };
            let name = known.as_ref().map(|known| known.name.clone());
            let place = known.as_ref().map_or(Place::STATIC, place_of);
            found(parts, key, path, name, (Some(environment), &place), known.as_ref()).await?;
        }
    }
    parts.store.note(&note, &now.to_string()).await?;
    Ok(())
}

/// Makes a record of what was found, and asks for a look at it. `gone` is the record of the preview that was there before.
async fn found(
    parts: &Parts,
    key: PreviewKey,
    project_path: String,
    name: Option<PreviewName>,
    (environment, place): (Option<Environment>, &Place),
    gone: Option<&Preview>,
) -> Result<(), Error> {
    let now = parts.clock.now();
    // Which branch it is of is asked by the look.
    let mut record = Preview::new(key, &project_path, "", |name| parts.links.of(name), now);
    if let Some(name) = name {
        record.url = parts.links.of(&name);
        record.name = name;
    }
    record.move_to(place);
    record.url = parts.link(&record);
    let status = parts.engines.status(place, &record).await?;
    if let Some(running) = status.serving {
        let sha = running.sha.clone();
        take_over_running(&mut record, running);
        record.sleep = status.asleep.then_some(Sleep { sha, since: now, waking: false });
    }
    record.environment_id = environment.map(|environment| environment.id);
    record.found_at = Some(now);
    let sha = record.serving.as_ref().map(|serving| serving.sha.clone());
    record.enter(State::Waiting, &Reason::Found, sha.as_ref());
    if parts.store.save_found(&record, gone.map(|gone| gone.updated_at)).await? {
        tracing::warn!(mr.key = %key, preview.name = %record.name, "found without a record; it is looked at");
        parts.store.enqueue(&[WorkKey::Preview(key)], now).await?;
    }
    Ok(())
}

/// What serves is taken over as it is.
pub(super) fn take_over_running(record: &mut Preview, running: Running) {
    let serving = Serving { sha: running.sha, since: running.since };
    record.release = Some(Release::found(&serving, &running.digest));
    record.served = Some(running.digest);
    record.deployed_at = Some(serving.since);
    // Whether one runs is asked by the look.
    record.deployment =
        Some(Deployment { id: None, sha: serving.sha.clone(), reference: String::new(), finished: false });
    record.serving = Some(serving);
}

/// The merge request of what was found is open: it is a preview like any other from here on.
///
/// Where its environment is stopped, nobody knows any more whether a person did that, or GitLab at an end that was taken back: what
/// serves stays, and GitLab shows it again.
pub(super) async fn take_over(parts: &Parts, record: &mut Preview) -> Result<(), Error> {
    if record.found_at.is_none() {
        return Ok(());
    }
    unless_refused(parts.reporter.find_environment(record).await)?;
    if let (Subject::MergeRequest(iid), Some(deployment)) = (record.key.subject, &mut record.deployment) {
        deployment.reference = format!("refs/merge-requests/{iid}/head");
        let shown = unless_refused(parts.reporter.environment(record).await)?.flatten();
        if shown.is_some_and(|environment| environment.state == EnvironmentState::Stopped) {
            unless_refused(parts.reporter.renew_environment(record).await)?;
        }
    }
    record.found_at = None;
    Ok(())
}
