//! What a look would do, without doing it: what `greenroom plan` tells.
//!
//! Needs: what a look needs, for reading.
//!
//! Properties:
//! * It reads what a look reads, decides as a look decides, and makes what a deploy would hand over: the artifact, or the
//!   rendered objects with their image's digest. The engine says what that would change.
//! * Nothing is written: not to the store, not to GitLab, not to the engine.
//! * A few at once, each for a limited time; who asks beyond that waits its turn within its own time.
//! * No secret is told: what a Secret holds the engine leaves out, and a password that a template wrote elsewhere is masked.
//!
//! What only a look finds out is not foreseen: that the environment was stopped by hand since the last thorough look, or that
//! the brake holds a removal. Nor is what is asked for or changed between this and the look.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Semaphore;

use super::controller::Parts;
use super::deploy::{self, Made};
use super::desired::{Desired, Target};
use super::engines::place_of;
use super::look::{Decided, Error, decide, note_facts};
use super::plan::{Step, outcome, plan, refused};
use super::{apply, branch, elsewhere, foreign, intent, orders};
use crate::engine::{Change, Status};
use crate::gitlab::DeploymentOutcome;
use crate::preview::{
    EngineKind, JobOrder, MergeRequest, Place, Preview, PreviewKey, PreviewName, ProjectId, Reason, Sha,
    State,
};
use crate::render::kubernetes::password;

/// How many are made at once: each may fetch an artifact and asks the cluster once for every object.
const AT_ONCE: usize = 2;

/// How long one may take, waiting for its turn included. Whoever asks waits a little longer.
const WITHIN: Duration = Duration::from_secs(45);

/// What a look would come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outlook {
    /// Nothing would be done.
    Unchanged,
    /// Something would.
    Changes,
    /// The head cannot be deployed.
    Failed,
}

/// What a look at a merge request would do.
#[derive(Debug, Serialize)]
pub struct Planned {
    project_id: ProjectId,
    project_path: String,
    /// Nothing for a branch without a merge request.
    mr_iid: Option<u64>,
    /// The branch.
    branch: String,
    /// Its head.
    sha: Option<Sha>,
    name: PreviewName,
    /// Where it runs, or would.
    engine: Option<EngineKind>,
    /// Which of the engine's clusters.
    cluster: Option<String>,
    outcome: Outlook,
    /// The state that people would be told.
    state: State,
    /// Why, in one sentence.
    reason: String,
    /// What would be done, in words and in order.
    steps: Vec<String>,
    /// What the engine would change, object by object.
    changes: Vec<Change>,
    /// The rules that counted.
    decision: Vec<String>,
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Nothing is ever done about it; why not.
    #[error("{0}")]
    NotOurs(String),
    /// It cannot be told now; why not. Worth another try.
    #[error("{0}")]
    Unavailable(String),
    /// It was not made in time.
    #[error("it was not made within {} s: GitLab or the cluster is slow, or others are being made; try again", WITHIN.as_secs())]
    TooLong,
    /// The store does not answer.
    #[error(transparent)]
    Store(crate::store::Error),
}

impl From<Error> for PlanError {
    fn from(error: Error) -> Self {
        match error {
            Error::GitLab(error) if error.is_not_found() => {
                Self::NotOurs(format!("GitLab does not show the merge request: {error}"))
            }
            Error::Store(error) => Self::Store(error),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

impl From<crate::store::Error> for PlanError {
    fn from(error: crate::store::Error) -> Self {
        Self::Store(error)
    }
}

/// Says what looks would do. Cheap to clone.
#[derive(Clone)]
pub struct Planner {
    parts: Arc<Parts>,
    turns: Arc<Semaphore>,
}

impl Planner {
    /// One that looks with these.
    pub fn new(parts: Parts) -> Self {
        Self { parts: Arc::new(parts), turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// The id of the project with this path, as GitLab tells it.
    ///
    /// # Errors
    /// When the settings do not serve it, or GitLab does not say.
    pub async fn project_id(&self, path: &str) -> Result<ProjectId, PlanError> {
        if !(self.parts.served)(path) {
            return Err(PlanError::NotOurs(format!("the settings do not serve the project `{path}`")));
        }
        match self.parts.forge.project_id(path).await {
            Err(error) if error.is_not_found() => {
                Err(PlanError::NotOurs(format!("GitLab shows no project `{path}`: {error}")))
            }
            found => found.map_err(|error| PlanError::Unavailable(error.to_string())),
        }
    }

    /// What a look at `key` would do now; with `order`, what it would do if a job asked for that deploy.
    ///
    /// # Errors
    /// When it cannot be told.
    pub async fn plan(&self, key: PreviewKey, order: Option<JobOrder>) -> Result<Planned, PlanError> {
        let made = async {
            let _turn = self.turns.acquire().await; // never closed
            foresee(&self.parts, key, order).await
        };
        tokio::time::timeout(WITHIN, made).await.unwrap_or(Err(PlanError::TooLong))
    }
}

async fn foresee(parts: &Parts, key: PreviewKey, asked_for: Option<JobOrder>) -> Result<Planned, PlanError> {
    let asked = parts.store.asked(key).await?;
    let kept = parts.store.job_order(key).await?;
    let mut record = parts.store.preview(key).await?;
    let known = kept.as_ref().map(|kept| &kept.order);
    let merge_request = branch::read(parts, key, record.as_ref(), asked_for.as_ref().or(known)).await;
    let merge_request = merge_request.map_err(Error::from)?;
    if !(parts.served)(&merge_request.project_path) {
        return Err(PlanError::NotOurs(String::from("the settings do not serve its project")));
    }
    let now = parts.clock.now();
    let known = kept.filter(|kept| kept.refused.is_none()).map(|kept| kept.order);
    let order = asked_for.or(known).filter(|order| merge_request.sha.as_ref() == Some(&order.sha));
    if let Some(record) = &mut record {
        if let Some(asked) = &asked {
            intent::work_in(record, asked, Some(&merge_request), now);
        }
        orders::note(record, order.as_ref());
    }
    let Decided { mut decision, place, .. } =
        decide(parts, &merge_request, record.as_ref(), order.as_ref()).await?;
    if order.is_none() {
        elsewhere::leave(parts, record.as_ref(), &merge_request, &mut decision).await?;
    }
    let stands_back = record.is_none() && !foreign::foreign_instances(&parts.store).await?.is_empty();
    if stands_back && !parts.instance_is_chosen {
        return Err(PlanError::Unavailable(String::from(
            "this server stands back until an operator has said whose previews there are",
        )));
    }
    let is_new = record.is_none();
    let MergeRequest { project_path, source_branch, .. } = &merge_request;
    let mut record = record
        .unwrap_or_else(|| Preview::new(key, project_path, source_branch, |name| parts.links.of(name), now));
    if let Some(place) = place.filter(|_| !record.has_begun()) {
        record.move_to(&place);
    }
    orders::note(&mut record, order.as_ref());
    forget_supposed_deployment(parts, &mut record).await?;
    note_facts(&mut record, &merge_request, &decision, now);

    let mut told = Told::default();
    let mut place = match &decision.desired {
        Desired::Run(target) => Some(target.place.clone()),
        _ => record.place(),
    };
    match &decision.desired {
        Desired::Leave => {
            place = place.filter(|_| !is_new);
            told.state = if is_new { State::Skipped } else { record.state };
            told.reason = decision.rules.last().cloned().unwrap_or_default();
        }
        desired => {
            let at = place.clone().unwrap_or_else(|| place_of(&record));
            let status = parts.engines.status(&at, &record).await?;
            told.act(parts, &mut record, desired, &status).await?;
        }
    }
    Ok(told.planned(record, &merge_request, place, decision.rules))
}

/// A look mends a deployment that may have been made, or was never; to plan, it is enough to know whether there is one.
async fn forget_supposed_deployment(parts: &Parts, record: &mut Preview) -> Result<(), Error> {
    let Some(supposed) = record.deployment.as_ref().filter(|it| it.id.is_none() && !it.finished) else {
        return Ok(());
    };
    let environment = record.environment_name();
    let running = parts.forge.running_deployments(record.key.project_id, &environment).await?;
    if !running.iter().any(|(_, sha)| *sha == supposed.sha) {
        record.deployment = None;
    }
    Ok(())
}

/// What is told, as it comes to light.
struct Told {
    state: State,
    reason: String,
    steps: Vec<String>,
    changes: Vec<Change>,
}

impl Default for Told {
    fn default() -> Self {
        Self { state: State::Waiting, reason: String::new(), steps: Vec::new(), changes: Vec::new() }
    }
}

impl Told {
    /// As `act::act`, with words in the place of deeds.
    async fn act(
        &mut self,
        parts: &Parts,
        record: &mut Preview,
        desired: &Desired,
        status: &Status,
    ) -> Result<(), Error> {
        apply::settle(record, status, parts.clock.now());
        let (state, reason) = outcome(desired, record, status, &[]);
        (self.state, self.reason) = (state, reason.to_string());
        for step in plan(desired, record, status) {
            match &step {
                Step::Deploy(target) => {
                    if !self.deploy(parts, record, target, status).await? {
                        return Ok(());
                    }
                }
                Step::Sleep => self.steps.push(format!("put it to sleep on {}", place_of(record))),
                Step::Wake => self.steps.push(format!("wake it on {}", place_of(record))),
                Step::StopEngine => self.steps.push(format!("remove the preview from {}", place_of(record))),
                Step::RemoveEnvironment => {
                    let name = record.environment_name();
                    self.steps.push(format!("stop and delete the environment `{name}` in GitLab"));
                }
                Step::FinishDeployment(outcome) => {
                    let how = match outcome {
                        DeploymentOutcome::Success => "successful",
                        DeploymentOutcome::Failed => "failed",
                        DeploymentOutcome::Canceled => "cancelled",
                    };
                    self.steps.push(format!("end the running deployment in GitLab as {how}"));
                }
            }
        }
        Ok(())
    }

    /// What a deploy would do. Whether what follows it would be done.
    async fn deploy(
        &mut self,
        parts: &Parts,
        record: &Preview,
        target: &Target,
        status: &Status,
    ) -> Result<bool, Error> {
        let (told_state, told_reason) = (&mut self.state, &mut self.reason);
        let mut enter = |state, reason: &Reason| (*told_state, *told_reason) = (state, reason.to_string());
        let (digest, input) = match deploy::make(parts, record, target).await? {
            Made::Ready(digest, input) => (digest, input),
            Made::Waits(reason) => {
                enter(State::Waiting, &reason);
                return Ok(false);
            }
            Made::Refused(why) => {
                enter(State::Failed, &refused(target, false, why));
                return Ok(false);
            }
        };
        let again = deploy::serves_it(record, status, &target.sha, &digest);
        if again && status.drifted.is_empty() {
            enter(State::Ready, &Reason::Ready(target.sha.clone()));
            return Ok(true);
        }
        let order = deploy::order(record, target, digest, input);
        let planned = parts.engines.at(&target.place)?.plan(&order).await;
        self.changes = planned.map_err(|error| Error::engine(&target.place, error))?;
        if let Some(secret) = parts.password_key.as_ref().map(|key| password(key, &record.name)) {
            for change in &mut self.changes {
                change.diff = change.diff.replace(&secret, "(not shown)");
            }
        }
        let (commit, place) = (target.sha.short(), &target.place);
        self.steps.push(if again {
            format!("put back on {place} what somebody else has changed since commit `{commit}` was deployed")
        } else {
            enter(State::Deploying, &Reason::Deploying(target.sha.clone()));
            format!("deploy commit `{commit}` on {place}")
        });
        if let Some(before) = record.place().filter(|before| record.has_begun() && before != place) {
            self.steps.push(format!("remove it from {before} once it serves there"));
        }
        Ok(true)
    }

    fn planned(
        self,
        record: Preview,
        merge_request: &MergeRequest,
        place: Option<Place>,
        decision: Vec<String>,
    ) -> Planned {
        let Self { state, mut reason, steps, changes } = self;
        let mut state = state;
        let refusals: Vec<_> = changes
            .iter()
            .filter_map(|change| Some(format!("{}: {}", change.object, change.refused.as_ref()?)))
            .collect();
        if !refusals.is_empty() {
            (state, reason) = (State::Failed, Reason::Undeployable(refusals.join("; ")).to_string());
        }
        let outcome = match state {
            State::Failed => Outlook::Failed,
            _ if steps.is_empty() => Outlook::Unchanged,
            _ => Outlook::Changes,
        };
        Planned {
            project_id: record.key.project_id,
            project_path: merge_request.project_path.clone(),
            mr_iid: record.key.subject.iid(),
            branch: merge_request.source_branch.clone(),
            sha: merge_request.sha.clone(),
            name: record.name,
            engine: place.as_ref().map(|place| place.engine),
            cluster: place.and_then(|place| place.cluster),
            outcome,
            state,
            reason,
            steps,
            changes,
            decision,
        }
    }
}
