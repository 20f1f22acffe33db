//! What we remember of a preview between two looks: the part that GitLab's merge request cannot tell.

use serde::{Deserialize, Serialize};

use super::check::CheckRun;
use super::commit_status::CommitStatus;
use super::facts::Sha;
use super::ids::PreviewKey;
use super::names::{PreviewName, called, environment_name};
use super::order::JobOrder;
use super::place::Place;
use super::policy::Compared;
use super::reason::Reason;
use super::state::State;

/// What answers at the preview's link right now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serving {
    /// Head commit of the merge request that is served.
    pub sha: Sha,
    /// Since when, Unix milliseconds.
    pub since: i64,
}

/// What was handed to the engine last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Head commit of the merge request.
    pub sha: Sha,
    /// Job that made it: the one whose artifact it is, or the newest one of the pipeline that made an image.
    pub job_id: u64,
    /// SHA-256 of what was deployed, in hexadecimal; tells a real change from a job that merely ran again.
    pub digest: String,
    /// When it was submitted, Unix milliseconds.
    pub submitted_at: i64,
    /// When the engine was seen to serve it or to give up, Unix milliseconds.
    pub settled_at: Option<i64>,
    /// Why it cannot be served, when the engine gave up.
    #[serde(default)]
    pub failure: Option<String>,
    /// SHA-256 of what the operator's settings add to it, in hexadecimal, for an engine that they add to.
    #[serde(default)]
    pub settings: Option<String>,
    /// Whether a CI job deployed it without the server.
    #[serde(default)]
    pub by_job: bool,
}

impl Release {
    /// What stands for the job of a release that was found running without a record of it.
    pub const UNKNOWN_JOB: u64 = 0;

    /// A release that was found running, at `since`, without a record of it.
    pub fn found(serving: &Serving, digest: &str) -> Self {
        Self {
            sha: serving.sha.clone(),
            job_id: Self::UNKNOWN_JOB,
            digest: digest.to_owned(),
            submitted_at: serving.since,
            settled_at: Some(serving.since),
            failure: None,
            settings: None,
            by_job: false,
        }
    }

    /// Whether it is what this job made of this commit. Of a release that was found, the commit has to do.
    pub fn is_of(&self, sha: &Sha, job_id: u64) -> bool {
        self.sha == *sha && matches!(self.job_id, id if id == job_id || id == Self::UNKNOWN_JOB)
    }

    /// How long it took, milliseconds; of one that was found running nobody knows.
    pub fn took(&self) -> Option<i64> {
        Some(self.settled_at? - self.submitted_at).filter(|_| self.job_id != Self::UNKNOWN_JOB)
    }

    /// Whether the engine got it. Where there was no artifact to begin with, it did not.
    pub const fn was_submitted(&self) -> bool {
        !self.digest.is_empty()
    }
}

/// A GitLab deployment that we own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// GitLab's id; `None` between the intent to create it and the answer, so that a crash in between is mended.
    pub id: Option<u64>,
    /// The pipeline's commit.
    pub sha: Sha,
    /// The pipeline's ref.
    pub reference: String,
    /// Whether it was brought to a final status.
    pub finished: bool,
}

/// A decision of a person that outlives a look: stopped by hand until a new head, a reopen or a refresh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The head it was taken at; `None` when there was none.
    pub sha: Option<Sha>,
    /// When, Unix milliseconds.
    pub since: i64,
    /// Who.
    #[serde(default)]
    pub origin: HoldOrigin,
}

/// Who holds a preview back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HoldOrigin {
    /// Somebody who stopped the environment in GitLab. What records meant before they told.
    #[default]
    Gitlab,
    /// The operator, through the API.
    Operator,
    /// A merge request of the branch, whose preview has taken the place of the one that the branch had without it.
    Successor,
}

/// A preview that an operator has put to sleep: until it is woken or refreshed, or another commit is deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sleep {
    /// The commit that served.
    pub sha: Sha,
    /// Since when it sleeps or, while it is woken, since when that goes on; Unix milliseconds.
    pub since: i64,
    /// Whether it is being woken.
    pub waking: bool,
}

/// `.greenroom.yml` as a commit has it, which never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileAt {
    /// The commit.
    pub sha: Sha,
    /// The file's text.
    pub text: String,
}

/// One preview, as it is stored.
///
/// All times are Unix milliseconds. `state`, `reason` and `sha` speak of the merge request's head; `serving` of what
/// answers now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preview {
    /// Whose preview it is.
    pub key: PreviewKey,
    /// Fixed at the first look.
    pub name: PreviewName,
    /// Path of the project as last seen.
    pub project_path: String,
    /// Source branch as last seen; finds the merge request when an event names only a branch.
    #[serde(default)]
    pub source_branch: String,
    /// Where the head stands.
    pub state: State,
    /// Why, in one sentence.
    pub reason: String,
    /// What happens next, in a sentence or two.
    #[serde(default)]
    pub next: String,
    /// The stable link.
    pub url: String,
    /// The head as last seen.
    pub sha: Option<Sha>,
    /// Name of the engine, such as `static`.
    pub engine: String,
    /// Name of the cluster that it runs on, for an engine that has clusters.
    #[serde(default)]
    pub cluster: Option<String>,
    /// Where it ran before, until nothing is left there.
    #[serde(default)]
    pub leaving: Vec<Place>,
    /// What the newest order waits for, a line each.
    #[serde(default)]
    pub waits_for: Vec<String>,
    /// The last lines of the program that the newest order failed for, oldest first.
    #[serde(default)]
    pub log: Vec<String>,
    /// How the project's own checks of what serves come out.
    #[serde(default)]
    pub check_run: Option<CheckRun>,
    /// What answers now.
    pub serving: Option<Serving>,
    /// Digest of the newest release of ours that was seen to be served and may be still, in hexadecimal.
    #[serde(default)]
    pub served: Option<String>,
    /// First look.
    pub created_at: i64,
    /// Last change of anything here.
    pub updated_at: i64,
    /// When its lifetime ends.
    pub expires_at: Option<i64>,
    /// When the last deploy of a new head was submitted; the lifetime counts from here.
    #[serde(default)]
    pub deployed_at: Option<i64>,
    /// When it was seen to be gone.
    #[serde(default)]
    pub stopped_at: Option<i64>,
    /// What the engine was given last.
    #[serde(default)]
    pub release: Option<Release>,
    /// The project file of the head, unless it is unusually large.
    #[serde(default)]
    pub file: Option<FileAt>,
    /// Whether a comment was about to be written or was: only then one of ours can be there.
    #[serde(default)]
    pub note_begun: bool,
    /// Our comment.
    #[serde(default)]
    pub note_id: Option<u64>,
    /// SHA-256 of the comment's text as last written, in hexadecimal.
    #[serde(default)]
    pub note_digest: Option<String>,
    /// Our GitLab environment.
    #[serde(default)]
    pub environment_id: Option<u64>,
    /// Whether that environment was seen to be available. Only then somebody can have stopped it by hand: GitLab stops
    /// environments at the end of a merge request too, and so do we.
    #[serde(default)]
    pub environment_seen: bool,
    /// Our newest GitLab deployment.
    #[serde(default)]
    pub deployment: Option<Deployment>,
    /// Whether only what GitLab's list of merge requests shows, or an event, can change what was decided.
    #[serde(default)]
    pub at_rest: bool,
    /// When our comment was last written or seen.
    #[serde(default)]
    pub note_seen_at: i64,
    /// When nothing was left out of a look the last time.
    #[serde(default)]
    pub looked_at: i64,
    /// Our newest commit status.
    #[serde(default)]
    pub commit_status: Option<CommitStatus>,
    /// The rules that led to `state`, in the order they were asked.
    #[serde(default)]
    pub decision: Vec<String>,
    /// Stopped by a person.
    #[serde(default)]
    pub hold: Option<Hold>,
    /// Put to sleep by the operator.
    #[serde(default)]
    pub sleep: Option<Sleep>,
    /// Since when GitLab does not show the merge request, or the branch.
    #[serde(default)]
    pub unseen_since: Option<i64>,
    /// When it was found without a record of it; until its merge request is seen to be open.
    #[serde(default)]
    pub found_at: Option<i64>,
    /// How the changed files compared with the project file's globs.
    #[serde(default)]
    pub compared: Option<Compared>,
    /// Since when it runs, or is about to, and so takes one of the places that the operator gives the project; Unix
    /// milliseconds.
    #[serde(default)]
    pub place_since: Option<i64>,
    /// Since when it waits for such a place, Unix milliseconds.
    #[serde(default)]
    pub waits_for_place_since: Option<i64>,
    /// The deploy that a CI job asked for, while its commit is the head.
    #[serde(default)]
    pub order: Option<JobOrder>,
}

impl Preview {
    /// A preview at its first look, before anything was decided.
    pub fn new(
        key: PreviewKey,
        project_path: &str,
        source_branch: &str,
        domain_url: impl FnOnce(&PreviewName) -> String,
        now: i64,
    ) -> Self {
        let name = PreviewName::new(project_path, key, source_branch);
        Self {
            key,
            url: domain_url(&name),
            name,
            project_path: project_path.to_owned(),
            source_branch: source_branch.to_owned(),
            state: State::Waiting,
            reason: String::new(),
            next: String::new(),
            sha: None,
            engine: String::new(),
            cluster: None,
            leaving: Vec::new(),
            waits_for: Vec::new(),
            log: Vec::new(),
            check_run: None,
            serving: None,
            served: None,
            created_at: now,
            updated_at: now,
            expires_at: None,
            deployed_at: None,
            stopped_at: None,
            release: None,
            file: None,
            note_begun: false,
            note_id: None,
            note_digest: None,
            environment_id: None,
            environment_seen: false,
            deployment: None,
            at_rest: false,
            note_seen_at: 0,
            looked_at: 0,
            commit_status: None,
            decision: Vec::new(),
            hold: None,
            sleep: None,
            unseen_since: None,
            found_at: None,
            compared: None,
            place_since: None,
            waits_for_place_since: None,
            order: None,
        }
    }

    /// Whose it is, in words such as `merge request !7`.
    pub fn called(&self) -> String {
        called(self.key.subject, &self.source_branch)
    }

    /// The name of its GitLab environment.
    pub fn environment_name(&self) -> String {
        environment_name(self.key.subject, &self.source_branch)
    }

    /// Whether state and reason are the answer to this order of a CI job.
    pub fn has_answered(&self, order: &str) -> bool {
        self.order.as_ref().is_some_and(|known| known.id == order && known.answered)
    }

    /// Whether the project's checks of what serves are being asked.
    pub fn is_being_checked(&self) -> bool {
        self.check_run.as_ref().is_some_and(CheckRun::is_running)
    }

    /// Whether anything was decided about it yet.
    pub const fn is_decided(&self) -> bool {
        !self.reason.is_empty()
    }

    /// Where it runs, or would; `None` before anything was decided.
    pub fn place(&self) -> Option<Place> {
        let engine = self.engine.parse().ok()?;
        Some(Place { engine, cluster: self.cluster.clone() })
    }

    /// Says where it runs from here on. Where something of it may be is remembered until it is seen to be gone.
    pub fn move_to(&mut self, place: &Place) {
        if let Some(before) = self.place().filter(|before| before != place && self.has_begun())
            && !self.leaving.contains(&before)
        {
            self.leaving.push(before);
        }
        self.leaving.retain(|left| left != place);
        place.engine.as_str().clone_into(&mut self.engine);
        self.cluster.clone_from(&place.cluster);
    }

    /// The operator's hold, if there is one.
    pub fn held_by_operator(&self) -> Option<&Hold> {
        self.hold.as_ref().filter(|hold| hold.origin == HoldOrigin::Operator)
    }

    /// Since when what serves is to sleep, if it is.
    pub fn sleeps_since(&self) -> Option<i64> {
        self.sleep.as_ref().filter(|sleep| !sleep.waking).map(|sleep| sleep.since)
    }

    /// Whether it takes one of the places that a project has.
    pub const fn takes_place(&self) -> bool {
        self.place_since.is_some() || self.serving.is_some()
    }

    /// Whether something may be there that a removal has to take away, or was taken away by the last one.
    pub fn has_begun(&self) -> bool {
        matches!(self.state, State::Stopping | State::Stopped)
            || self.serving.is_some()
            || self.environment_id.is_some()
            || self.release.as_ref().is_some_and(Release::was_submitted)
    }

    /// Enters a state. State, reason and head change together, so that nobody is told a mixture of old and new.
    pub fn enter(&mut self, state: State, reason: &Reason, head: Option<&Sha>) {
        self.state = state;
        self.reason = reason.to_string();
        let next =
            if self.key.subject.is_branch() { reason.next_of_branch(state) } else { reason.next(state) };
        next.clone_into(&mut self.next);
        self.sha = head.cloned();
    }
}
