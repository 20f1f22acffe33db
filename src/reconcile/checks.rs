//! The project's checks of what serves: begun once a revision is ready, asked beside the looks, told by them.
//!
//! Properties:
//! * Asked once for each revision, which is commit and digest, and anew after a refresh. The state stays `ready`, and nothing is
//!   taken away, however they come out.
//! * The record says which run is wanted; what came of it stands in the store until a look takes it up. Nobody waits for a
//!   check but who follows it.
//!
//! Races, and what was decided:
//! * *A crash in the middle*: the lease on the run ends, and what is not known yet is asked again. A Job that was begun is
//!   found by its name.
//! * *A push or a stop in the middle*: the run is forgotten, and whoever asks it lets go.
//! * *Several processes*: the lease says who asks.

use std::pin::pin;
use std::time::Duration;

use futures::{StreamExt, stream};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::controller::Parts;
use super::desired::{Desired, Target};
use super::look::Error;
use super::manifests;
use crate::engine::Ended;
use crate::preview::{CheckResult, CheckRun, CheckState, Preview, Redaction, State};
use crate::render::{Check, JobCheck};
use crate::store::{self, Asking};

/// How long a run is leased.
const LEASE: Duration = Duration::from_secs(30);

/// How soon a run is looked at again when nothing was heard of it, milliseconds: whoever had it may have died.
pub(super) const FALLBACK: i64 = 30_000;

/// How many checks of one preview are asked at once.
const AT_ONCE: usize = 4;

/// How long a look waits for checks that are nearly done, so that people are told once instead of twice.
const MOMENT: Duration = Duration::from_millis(300);

/// How much longer than its own time a Job may take to be seen to have ended.
const GRACE: Duration = Duration::from_mins(1);

/// The pause before what could not be done is tried again.
const PAUSE: Duration = Duration::from_secs(2);

/// Notes what is to be checked, and what is known of it; before the record is saved. Whether all of it has just become known.
pub(super) async fn note(
    parts: &Parts,
    record: &mut Preview,
    desired: &Desired,
    state: State,
) -> Result<bool, Error> {
    if matches!(desired, Desired::Gone(_)) {
        forget(parts, record).await?;
    }
    let wanted = wanted(record, desired, state);
    if let (Some(target), Some(release)) = (wanted, &record.release)
        && !record.check_run.as_ref().is_some_and(|run| run.is_of(release))
    {
        let names = target.file.checks.iter().map(Check::name);
        let id = uuid::Uuid::now_v7().simple().to_string();
        record.check_run = Some(CheckRun::new(id, release, names)).filter(|run| !run.checks.is_empty());
    }
    let asked_for = wanted.is_some();
    let Some(run) = record.check_run.as_mut().filter(|run| run.is_running()) else { return Ok(false) };
    for (check, found) in run.checks.iter_mut().zip(parts.store.check_results(record.key, &run.id).await?) {
        *check = found;
    }
    if !run.is_running() {
        return Ok(true);
    }
    // Of a head that was left behind nobody goes on with what a crash has ended.
    let nobody = Asking { key: record.key, run: run.id.clone(), owner: String::from("nobody") };
    let now = parts.clock.now();
    if !asked_for && parts.store.lease_checks(&nobody, now, now).await?.is_some() {
        forget(parts, record).await?;
    }
    Ok(false)
}

/// Has what is wanted asked, and waits a moment for it; after the record was saved.
pub(super) async fn ask(parts: &Parts, record: &Preview, desired: &Desired, state: State) {
    let run = record.check_run.clone().filter(CheckRun::is_running);
    if let (Some(target), Some(run)) = (wanted(record, desired, state), run) {
        let asking = begin(parts.clone(), record.clone(), target.clone(), run);
        let _ = tokio::time::timeout(MOMENT, asking).await;
    }
}

/// Forgets the checks of what served; whoever asks them lets go.
pub(super) async fn forget(parts: &Parts, record: &mut Preview) -> Result<(), store::Error> {
    match record.check_run.take() {
        Some(_) => parts.store.forget_checks(record.key).await,
        None => Ok(()),
    }
}

/// What is to be checked: the revision that serves, when it is the one that should.
fn wanted<'a>(record: &Preview, desired: &'a Desired, state: State) -> Option<&'a Target> {
    match desired {
        Desired::Run(target) if state == State::Ready && record.release.is_some() => Some(target),
        _ => None,
    }
}

fn begin(parts: Parts, record: Preview, target: Target, run: CheckRun) -> JoinHandle<()> {
    tokio::spawn(async move {
        let owner = uuid::Uuid::new_v4().to_string();
        let asking = Asking { key: record.key, run: run.id.clone(), owner };
        let now = parts.clock.now();
        let known = match parts.store.lease_checks(&asking, now, now + millis(LEASE)).await {
            Ok(Some(known)) => known,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(mr.key = %record.key, %error, "checks are begun later");
                return;
            }
        };
        let results = if known.len() == run.checks.len() { known } else { run.checks };
        let asker = Asker { parts, record, target, asking, results: Mutex::new(results) };
        tokio::select! {
            () = asker.ask_all() => {}
            () = asker.is_lost() => tracing::info!(mr.key = %asker.record.key, "checks are not wanted any more"),
        }
    })
}

/// Asks the checks of one run.
struct Asker {
    parts: Parts,
    record: Preview,
    target: Target,
    asking: Asking,
    results: Mutex<Vec<CheckResult>>,
}

impl Asker {
    async fn ask_all(&self) {
        let secrets = self.secrets();
        let known = self.results.lock().await.clone();
        let open = known.iter().enumerate().filter(|(_, known)| known.state == CheckState::Running);
        let checks = open.filter_map(|(at, _)| Some((at, self.target.file.checks.get(at)?)));
        stream::iter(checks)
            .for_each_concurrent(AT_ONCE, |(at, check)| {
                let secrets = &secrets;
                async move {
                    let began = Instant::now();
                    let found = self.ask(at, check, secrets).await;
                    let took = millis(began.elapsed());
                    tracing::info!(mr.key = %self.record.key, check = check.name(), passed = found.is_ok(), "checked");
                    self.keep(at, result(check, found, took)).await;
                }
            })
            .await;
    }

    /// What came of one check: what was found, or what is wrong and the last lines of the program.
    async fn ask(
        &self,
        at: usize,
        check: &Check,
        secrets: &Redaction,
    ) -> Result<String, (String, Vec<String>)> {
        match check {
            Check::Http(check) => {
                let asked = self.parts.asker.ask(&self.record.url, check, secrets);
                asked.await.map_err(|why| (why, Vec::new()))
            }
            Check::Job(check) => self.run(at + 1, check).await,
        }
    }

    /// Runs the program of a check, for as long as it may take. What the cluster or the registry cannot do now is tried again.
    async fn run(&self, number: usize, check: &JobCheck) -> Result<String, (String, Vec<String>)> {
        let limit = check.timeout.duration() + GRACE;
        let last = Mutex::new(String::from("nothing was heard of it"));
        let tries = async {
            loop {
                match self.try_to_run(number, check).await {
                    Ok(ended) => return ended,
                    Err(Trouble::Stays(why)) => return Ended::Badly { why, lines: Vec::new() },
                    Err(Trouble::Passes(why)) => {
                        tracing::warn!(mr.key = %self.record.key, error = why, "a check is tried again");
                        *last.lock().await = why;
                    }
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        match tokio::time::timeout(limit, tries).await {
            Ok(Ended::Well) => Ok(String::from("it ended with exit code 0")),
            Ok(Ended::Badly { why, lines }) => Err((why, lines)),
            Err(_) => {
                let within = jiff::SignedDuration::try_from(limit).unwrap_or_default();
                Err((format!("it did not end within {within:#}: {}", last.lock().await), Vec::new()))
            }
        }
    }

    async fn try_to_run(&self, number: usize, check: &JobCheck) -> Result<Ended, Trouble> {
        let errand =
            manifests::errand(&self.parts, &self.record, &self.target, check, number, &self.asking.run)
                .await?;
        let engine =
            self.parts.engines.at(&self.target.place).map_err(|error| Trouble::Stays(error.to_string()))?;
        engine.run(&errand).await.map_err(|error| Trouble::Passes(error.to_string()))
    }

    /// Keeps a result with a hint, one after the other: a later one knows the earlier.
    async fn keep(&self, at: usize, result: CheckResult) {
        let mut results = self.results.lock().await;
        if let Some(known) = results.get_mut(at) {
            *known = result;
        }
        loop {
            match self.parts.store.note_checks(&self.asking, &results, self.parts.clock.now()).await {
                Ok(_) | Err(store::Error::Closed) => return,
                Err(error) => tracing::warn!(mr.key = %self.record.key, %error, "a result is kept later"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Renews the lease; returns when the run is somebody else's or nobody's.
    async fn is_lost(&self) {
        let mut beat = pin!(tokio::time::interval(LEASE / 3));
        beat.tick().await;
        loop {
            beat.tick().await;
            let until = self.parts.clock.now() + millis(LEASE);
            match self.parts.store.renew_checks(&self.asking, until).await {
                Ok(true) => {}
                Ok(false) | Err(store::Error::Closed) => return,
                Err(error) => {
                    tracing::warn!(mr.key = %self.record.key, %error, "a lease could not be renewed");
                }
            }
        }
    }

    /// What no excerpt may show.
    fn secrets(&self) -> Redaction {
        if self.target.place.cluster.is_none() {
            return Redaction::default();
        }
        manifests::secrets(&self.parts, &self.record)
    }
}

/// Why a program was not run.
pub(super) enum Trouble {
    /// The same would happen again.
    Stays(String),
    /// It is worth another try.
    Passes(String),
}

fn result(check: &Check, found: Result<String, (String, Vec<String>)>, took_ms: i64) -> CheckResult {
    let (state, reason, lines) = match found {
        Ok(found) => (CheckState::Passed, found, Vec::new()),
        Err((why, lines)) => (CheckState::Failed, why, lines),
    };
    CheckResult { name: check.name(), state, reason, lines, took_ms: Some(took_ms) }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
