//! The claim loop: who is looked at when, and what happens after a failure.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use futures::FutureExt;
use secrecy::SecretString;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::awaited::Awaited;
use super::brake::Brake;
use super::engines::Engines;
use super::look::{Error, Next, look};
use super::manifests::OnCluster;
use super::moving::Strays;
use super::uploads::Uploads;
use super::{resync, sweep};
use crate::checks::Asker;
use crate::clock::Clock;
use crate::gitlab::{ArtifactLimits, Class, Forge};
use crate::preview::{CommitStatusMode, EngineKind, Preview, PreviewKey, PreviewName, ProjectRules, WorkKey};
use crate::render::kubernetes::Tools;
use crate::report::Reporter;
use crate::store::{Claim, Lane, Retention, Store};
use crate::telemetry::{Deployed, Deploys, Health, Looks};

/// How a preview's link is made: scheme and port of the public URL, the name below the preview domain.
#[derive(Debug, Clone)]
pub struct Links {
    /// `http` or `https`.
    pub scheme: String,
    /// Such as `preview.example.com`.
    pub domain: String,
    /// The port, when it is not the scheme's own.
    pub port: Option<u16>,
}

impl Links {
    /// The link of the preview `name`, without a path.
    pub fn of(&self, name: &PreviewName) -> String {
        let port = self.port.map_or_else(String::new, |port| format!(":{port}"));
        format!("{}://{name}.{}{port}", self.scheme, self.domain)
    }
}

/// Everything a look needs.
#[derive(Clone)]
pub struct Parts {
    /// Deliveries, queue, previews.
    pub store: Store,
    /// GitLab.
    pub forge: Forge,
    /// What runs previews.
    pub engines: Engines,
    /// Tells people.
    pub reporter: Reporter,
    /// What was found where no record knows of it.
    pub strays: Strays,
    /// How links are made.
    pub links: Links,
    /// What the operator says of the previews on a cluster of the project with this path.
    pub on_cluster: Arc<dyn Fn(&str) -> OnCluster + Send + Sync>,
    /// What rendering uses.
    pub tools: Tools,
    /// Asks previews what their projects want to know.
    pub asker: Arc<Asker>,
    /// What the passwords of previews are derived from; without, templates have none.
    pub password_key: Option<SecretString>,
    /// The time.
    pub clock: Clock,
    /// Where artifacts are downloaded to; on the engine's file system.
    pub incoming: PathBuf,
    /// What CI jobs have sent.
    pub uploads: Uploads,
    /// How much of an artifact is fetched.
    pub limits: ArtifactLimits,
    /// Which project paths are served.
    pub served: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    /// What commit statuses are for in the project with this path.
    pub commit_status: Arc<dyn Fn(&str) -> CommitStatusMode + Send + Sync>,
    /// What the operator allows the project with this path.
    pub rules: Arc<dyn Fn(&str) -> ProjectRules + Send + Sync>,
    /// Project paths that the settings name without a wildcard.
    pub named_projects: Vec<String>,
    /// When the store was made, Unix milliseconds: a younger merge request can have no comment of ours that is not in it.
    pub born: i64,
    /// Whether the settings have wildcards that may match more.
    pub has_wildcards: bool,
    /// Where it is told what is not as it should be, such as webhooks that do not come.
    pub health: Health,
    /// Counts looks.
    pub looks: Arc<Looks>,
    /// Counts deploys.
    pub deploys: Arc<Deploys>,
    /// Whose engine events are waited for by a look.
    pub awaited: Awaited,
    /// Holds removals that are many at once.
    pub brake: Brake,
    /// How long GitLab may not show a merge request before that is told, milliseconds.
    pub unseen_after: i64,
    /// Whether the operator chose our instance id, and so knows of other instances.
    pub instance_is_chosen: bool,
}

impl Parts {
    /// The link of a preview, without a path.
    pub(super) fn link(&self, record: &Preview) -> String {
        match record.place().map(|place| place.engine) {
            Some(EngineKind::Kubernetes) => (self.on_cluster)(&record.project_path).links.of(&record.name),
            _ => self.links.of(&record.name),
        }
    }

    /// The newest deploy of a preview came to its end.
    pub(super) fn count_deploy(&self, record: &Preview, outcome: Deployed) {
        let (Some(release), Some(place)) = (&record.release, record.place()) else { return };
        let took = release.settled_at.unwrap_or_else(|| self.clock.now()) - release.submitted_at;
        let took = Duration::from_millis(took.max(0).unsigned_abs());
        self.deploys.record(place.engine.as_str(), outcome, took);
    }
}

/// How long a worker has a key before it must say that it still works.
const LEASE: Duration = Duration::from_secs(30);

/// Keys that are worked on at once.
const WORKERS: usize = 8;

/// How long workers sleep when nothing is due and nobody wakes them.
const IDLE: i64 = 5_000;

/// The loop over the queue.
#[derive(Clone)]
pub struct Controller {
    parts: Arc<Parts>,
    /// The same for work that nobody waits for.
    background: Arc<Parts>,
    owner: String,
}

impl Controller {
    /// A controller that leases keys under a fresh name.
    pub fn new(parts: Parts) -> Self {
        let background = Parts {
            forge: parts.forge.in_background(),
            reporter: parts.reporter.in_background(),
            ..parts.clone()
        };
        Self {
            parts: Arc::new(parts),
            background: Arc::new(background),
            owner: uuid::Uuid::new_v4().to_string(),
        }
    }

    /// Works until `stop` is cancelled; returns when every look that was begun has ended.
    pub async fn run(self, resync_every: Duration, retention: Retention, stop: CancellationToken) {
        // Before any look: what is found without a record must not be taken for something new.
        sweep::run(&self.parts).await;
        let mut tasks = JoinSet::new();
        for worker in 0..WORKERS {
            // A worker whose lease ran out must not pass for the one that has the key now.
            let this = Self { owner: format!("{}/{worker}", self.owner), ..self.clone() };
            let stop = stop.clone();
            tasks.spawn(async move { this.work(&stop).await });
        }
        for (_, engine) in self.parts.engines.all() {
            let (this, events, stop) = (self.clone(), engine.events(), stop.clone());
            tasks.spawn(async move { this.follow_engine(events, None, &stop).await });
        }
        let (this, resync_stop) = (self.clone(), stop.clone());
        tasks.spawn(async move { resync::run(&this.parts, resync_every, retention, &resync_stop).await });
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                // Half of a controller looks alive and is not. Without it the process ends, and is started anew.
                tracing::error!(%error, "a part of the controller ended early");
                stop.cancel();
            }
        }
    }

    /// Works on one merge request alone, and on nothing else of the instance, until `stop` is cancelled.
    pub(super) async fn run_one(self, key: PreviewKey, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        for (_, engine) in self.parts.engines.all() {
            let (this, events, stop) = (self.clone(), engine.events(), stop.clone());
            tasks.spawn(async move { this.follow_engine(events, Some(key), &stop).await });
        }
        self.work(&stop).await;
        while tasks.join_next().await.is_some() {}
    }

    async fn work(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            // Registered before the look into the queue: a hint that comes in between is not missed.
            let woken = self.parts.store.woken();
            tokio::pin!(woken);
            woken.as_mut().enable();
            let now = self.parts.clock.now();
            match self.parts.store.claim(&self.owner, now, now + millis(LEASE)).await {
                Ok(Some(claim)) => self.work_on(claim).await,
                Ok(None) => {
                    let due = self.parts.store.next_due().await.ok().flatten().unwrap_or(i64::MAX);
                    let pause = due.saturating_sub(now).clamp(10, IDLE).unsigned_abs();
                    tokio::select! {
                        () = &mut woken => {}
                        () = tokio::time::sleep(Duration::from_millis(pause)) => {}
                        () = stop.cancelled() => {}
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "the queue cannot be read");
                    tokio::select! {
                        () = tokio::time::sleep(Duration::from_secs(1)) => {}
                        () = stop.cancelled() => {}
                    }
                }
            }
        }
    }

    async fn work_on(&self, claim: Claim) {
        let started = std::time::Instant::now();
        let mut beat = tokio::time::interval(LEASE / 3);
        beat.tick().await;
        let result = {
            // One merge request that a mistake of ours chokes on must not take the others along.
            let span = tracing::info_span!("look", work.key = %claim.key);
            let run = AssertUnwindSafe(self.run_claim(&claim).instrument(span)).catch_unwind();
            tokio::pin!(run);
            loop {
                tokio::select! {
                    result = &mut run => break result.unwrap_or(Err(Error::Panicked)),
                    _ = beat.tick() => {
                        let until = self.parts.clock.now() + millis(LEASE);
                        match self.parts.store.renew(&claim, &self.owner, until).await {
                            Ok(true) => {}
                            // Somebody else has it now: dropping the look here is as good as a crash, and as safe.
                            Ok(false) => return,
                            Err(error) => tracing::warn!(work.key = %claim.key, %error, "a lease could not be renewed"),
                        }
                    }
                }
            }
        };
        self.parts.looks.record(started.elapsed(), result.is_ok());
        let given_back = match result {
            Ok(Next::Rest) => self.parts.store.finish(&claim, &self.owner, None).await,
            Ok(Next::At(at)) => {
                self.parts.store.finish(&claim, &self.owner, Some((at, Lane::Interactive))).await
            }
            Ok(Next::InBackground(at)) => {
                self.parts.store.finish(&claim, &self.owner, Some((at, Lane::Background))).await
            }
            Err(error) => {
                let pause = pause(&error, claim.attempts);
                tracing::warn!(work.key = %claim.key, %error, attempt = claim.attempts + 1, retry_in_ms = pause, "a look failed");
                let at = self.parts.clock.now() + pause;
                self.parts.store.retry(&claim, &self.owner, at, &error.to_string()).await
            }
        };
        if let Err(error) = given_back {
            // The lease runs out by itself, and the key is looked at again.
            tracing::error!(work.key = %claim.key, %error, "a key could not be given back");
        }
    }

    async fn run_claim(&self, claim: &Claim) -> Result<Next, Error> {
        let parts = match claim.lane {
            Lane::Interactive => &self.parts,
            Lane::Background => &self.background,
        };
        match &claim.key {
            WorkKey::Preview(key) => Box::pin(look(parts, *key, claim.lift, claim.thorough)).await,
            WorkKey::Branch(project, branch) => {
                let mut open = parts.store.previews_of_branch(*project, branch).await?;
                if open.iter().all(|key| key.subject.is_branch()) {
                    // Each merge request tells of itself when it is opened; one whose event was lost is found here too.
                    let found = parts.forge.merge_requests_of_branch(*project, branch).await?;
                    open.extend(found.into_iter().map(PreviewKey::from));
                }
                let keys: Vec<_> = open.into_iter().map(WorkKey::Preview).collect();
                parts.store.enqueue_in(claim.lane, &keys, parts.clock.now()).await?;
                Ok(Next::Rest)
            }
            WorkKey::Project(project) => {
                resync::project(parts, *project).await?;
                sweep::environments(parts, *project).await?;
                Ok(Next::Rest)
            }
        }
    }

    /// Turns an engine's events into hints; with `only`, those of one merge request.
    async fn follow_engine(
        &self,
        mut events: Receiver<PreviewKey>,
        only: Option<PreviewKey>,
        stop: &CancellationToken,
    ) {
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                () = stop.cancelled() => return,
            };
            match event {
                Ok(key) if only.is_some_and(|only| only != key) => {}
                // A look that is under way waits for it.
                Ok(key) if self.parts.awaited.has(key) => {}
                Ok(key) => {
                    let key = [WorkKey::Preview(key)];
                    if let Err(error) = self.parts.store.enqueue(&key, self.parts.clock.now()).await {
                        tracing::error!(%error, "an engine's event could not be queued; a timer looks again");
                    }
                }
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "engine events were missed; a timer looks again");
                }
                Err(RecvError::Closed) => return,
            }
        }
    }
}

/// How long to wait before the next try, milliseconds: what GitLab asks for, else doubling with jitter.
fn pause(error: &Error, attempts: i64) -> i64 {
    let class = match error {
        Error::GitLab(error) => error.class(),
        Error::Left(_) | Error::Trouble(_) | Error::Panicked => Class::Operator,
        _ => Class::Retry(None),
    };
    let (first, longest) = match class {
        Class::Retry(Some(after)) => return millis(after),
        Class::Retry(None) => (Duration::from_millis(500), Duration::from_mins(2)),
        Class::Operator => (Duration::from_secs(5), Duration::from_mins(5)),
    };
    let attempts = usize::try_from(attempts).unwrap_or(0).min(32);
    let backoff = ExponentialBuilder::new()
        .with_min_delay(first)
        // The jitter at most doubles it.
        .with_max_delay(longest / 2)
        .with_jitter()
        .without_max_times();
    millis(backoff.build().nth(attempts).unwrap_or(longest))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_as_long_as_the_docs_say_and_no_longer() {
        let trouble = Error::Trouble(String::new());
        for attempts in 0..40 {
            let grown = 5_000_i64.saturating_mul(1 << attempts.min(30)).min(150_000);
            let pause = pause(&trouble, attempts);
            assert!((grown..=300_000.min(2 * grown)).contains(&pause), "{pause} ms after {attempts} tries");
        }
    }
}
