//! What we need to know of a merge request, and the rules that read it: which pipeline counts, where a job is, whether
//! a pipeline has passed.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ids::{PreviewKey, ProjectId};
use super::names::called;

/// A commit id: 40 (SHA-1) or 64 (SHA-256) lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Sha(String);

impl Sha {
    /// A commit id from text; `None` when it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        (hex && matches!(text.len(), 40 | 64)).then(|| Self(text.to_owned()))
    }

    /// All digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first eight digits, as GitLab shortens them.
    pub fn short(&self) -> &str {
        &self.0[..8]
    }
}

impl fmt::Display for Sha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<'de> Deserialize<'de> for Sha {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("`{text}` is not a commit id")))
    }
}

/// A merge request's state in GitLab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MergeRequestState {
    /// Open.
    Opened,
    /// Closed without a merge.
    Closed,
    /// Merged.
    Merged,
    /// Being merged right now; counts as opened, for it may come back.
    Locked,
}

impl MergeRequestState {
    /// Whether the merge request is over.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Closed | Self::Merged)
    }
}

/// A merge request as GitLab shows it now, or [what stands in its place](MergeRequest::of_branch).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergeRequest {
    /// Whose preview it is about.
    pub key: PreviewKey,
    /// Path of the target project, such as `acme/web`.
    pub project_path: String,
    /// Open, closed, merged, locked.
    pub state: MergeRequestState,
    /// The head of the source branch; `None` while the branch has no commit of its own.
    pub sha: Option<Sha>,
    /// Branch the change comes from.
    pub source_branch: String,
    /// Branch the change goes to.
    pub target_branch: String,
    /// When it was opened, Unix milliseconds.
    pub created_at: Option<i64>,
    /// Project of the source branch; `None` when that fork was deleted.
    pub source_project_id: Option<ProjectId>,
    /// Whether it is marked as a draft.
    pub draft: bool,
    /// Its title. Written by a stranger.
    pub title: String,
    /// User name of who opened it.
    pub author: String,
    /// Names of its labels. Case counts.
    pub labels: Vec<String>,
    /// What it changes; `None` until GitLab has computed that.
    pub diff: Option<Diff>,
    /// Whether it stands for a branch that was deleted: GitLab shows the project's default branch, and not this one.
    pub branch_deleted: bool,
}

/// What a merge request changes, as GitLab counts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diff {
    /// The commit that is compared with: where the source branch left the target branch.
    pub base: Sha,
    /// The head that was compared.
    pub head: Sha,
    /// How many files GitLab lists, if it says so.
    pub count: Option<u64>,
    /// Whether there are more of them than GitLab lists.
    pub cut: bool,
}

impl MergeRequest {
    /// What a branch without a merge request is looked at as, `sha` being its head: one that is open for ever, for the end of such
    /// a branch is told by its environment, or by its [deletion](Self::branch_deleted).
    pub fn of_branch(key: PreviewKey, project_path: String, branch: &str, sha: Option<Sha>) -> Self {
        Self {
            key,
            project_path,
            state: MergeRequestState::Opened,
            sha,
            source_branch: branch.to_owned(),
            target_branch: branch.to_owned(),
            created_at: None,
            source_project_id: Some(key.project_id),
            draft: false,
            title: String::new(),
            author: String::new(),
            labels: Vec::new(),
            diff: None,
            branch_deleted: false,
        }
    }

    /// What it is, in words such as `merge request !7`.
    pub fn called(&self) -> String {
        called(self.key.subject, &self.source_branch)
    }

    /// Whether it stands for a branch that GitLab does not show.
    pub const fn is_lost_branch(&self) -> bool {
        self.key.subject.is_branch() && self.sha.is_none()
    }

    /// Whether the change comes from another project. A deleted fork still is one.
    pub fn from_fork(&self) -> bool {
        self.source_project_id != Some(self.key.project_id)
    }
}

/// A pipeline as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pipeline {
    /// Unique per GitLab instance.
    pub id: u64,
    /// Project that runs it.
    pub project_id: ProjectId,
    /// Commit it runs on; a temporary merge commit with merged results.
    pub sha: Sha,
    /// The API's ref: a branch, or `refs/merge-requests/<iid>/head|merge|train`.
    pub reference: String,
    /// What started it, such as `push` or `merge_request_event`.
    pub source: String,
}

impl Pipeline {
    /// Whether it could count for a merge request's head at all.
    ///
    /// Merge trains never deploy. `external` pipelines are made by commit statuses and have no jobs; children are looked
    /// at through their parent's bridges.
    pub fn may_count(&self) -> bool {
        !self.reference.ends_with("/train") && !matches!(self.source.as_str(), "external" | "parent_pipeline")
    }

    /// Whether it runs on a temporary merge commit, so that only the commit's parents tell which head it is for.
    pub fn is_merged_result(&self) -> bool {
        self.reference.starts_with("refs/merge-requests/") && self.reference.ends_with("/merge")
    }
}

/// A job's status, sorted by what it means for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobStatus {
    /// Not finished: created, waiting, pending, preparing, running, canceling, scheduled, or a status we do not know.
    Unfinished,
    /// Waits for a person to start it.
    Manual,
    /// Done.
    Success,
    /// Ended badly.
    Failed,
    /// Cancelled by a person or by GitLab.
    Canceled,
    /// Will not run in this pipeline.
    Skipped,
}

impl JobStatus {
    /// From GitLab's word. An unknown word counts as unfinished: waiting for a later look is never wrong.
    pub fn from_gitlab(word: &str) -> Self {
        match word {
            "manual" => Self::Manual,
            "success" => Self::Success,
            "failed" => Self::Failed,
            "canceled" => Self::Canceled,
            "skipped" => Self::Skipped,
            _ => Self::Unfinished,
        }
    }
}

/// The newest attempt of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Unique per GitLab instance; a retry has a new one.
    pub id: u64,
    /// Name in the pipeline. Written by a stranger.
    pub name: String,
    /// Where it stands.
    pub status: JobStatus,
    /// Whether the pipeline passes without it.
    pub allow_failure: bool,
    /// Whether GitLab still has its artifact archive.
    pub has_artifact: bool,
}

/// A trigger job and the pipeline it started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// The job's own side.
    pub job: Job,
    /// The downstream pipeline, once there is one: project and pipeline id.
    pub downstream: Option<(ProjectId, u64)>,
}

/// The pipeline that counts for a head, with its jobs and those of its child pipelines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The pipeline itself.
    pub pipeline: Pipeline,
    /// Newest attempt of each job.
    pub jobs: Vec<Job>,
    /// Trigger jobs, where they matter for the decision.
    pub bridges: Vec<Bridge>,
    /// Jobs of child pipelines of the same project, nearest first.
    pub child_jobs: Vec<Job>,
}

/// Whether a pipeline has passed, computed from its jobs: its own status also counts our commit statuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Everything that must succeed has.
    Passed,
    /// Something still runs, or there is no job yet.
    Running,
    /// A blocking manual job (its name) waits for a person.
    Blocked(String),
    /// A job (its name) that must succeed has not.
    Failed(String),
}

impl Head {
    /// What stands for the job where none made anything.
    pub const NO_JOB: u64 = u64::MAX;

    /// The newest attempt of the job called `name`: in the pipeline itself, else in its children.
    pub fn job(&self, name: &str) -> Option<&Job> {
        let newest = |jobs: &'_ [Job]| -> Option<usize> {
            (0..jobs.len()).filter(|i| jobs[*i].name == name).max_by_key(|i| jobs[*i].id)
        };
        newest(&self.jobs)
            .map(|i| &self.jobs[i])
            .or_else(|| newest(&self.child_jobs).map(|i| &self.child_jobs[i]))
    }

    /// Whether the pipeline has passed. A bridge counts like a job: its status follows its child when it depends on it.
    pub fn verdict(&self) -> Verdict {
        let all = || self.jobs.iter().chain(self.bridges.iter().map(|bridge| &bridge.job));
        let must = |job: &&Job| !job.allow_failure;
        let named = |status: &[JobStatus]| {
            all().filter(must).find(|job| status.contains(&job.status)).map(|job| job.name.clone())
        };
        if let Some(name) = named(&[JobStatus::Failed, JobStatus::Canceled]) {
            return Verdict::Failed(name);
        }
        if all().next().is_none() || all().any(|job| job.status == JobStatus::Unfinished) {
            return Verdict::Running;
        }
        match named(&[JobStatus::Manual]) {
            Some(name) => Verdict::Blocked(name),
            None => Verdict::Passed,
        }
    }

    /// Whether nothing of it, children included, can still bring a job that is not there yet.
    pub fn is_finished(&self) -> bool {
        let bridges = || self.bridges.iter().map(|bridge| &bridge.job);
        let mut all = self.jobs.iter().chain(bridges()).chain(&self.child_jobs).peekable();
        all.peek().is_some() && all.all(|job| job.status != JobStatus::Unfinished)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(id: u64, name: &str, status: JobStatus, allow_failure: bool) -> Job {
        Job { id, name: name.into(), status, allow_failure, has_artifact: false }
    }

    fn head(jobs: Vec<Job>) -> Head {
        let pipeline = Pipeline {
            id: 1,
            project_id: 42,
            sha: Sha::parse(&"a".repeat(40)).unwrap(),
            reference: "refs/merge-requests/7/head".into(),
            source: "merge_request_event".into(),
        };
        Head { pipeline, jobs, bridges: Vec::new(), child_jobs: Vec::new() }
    }

    #[test]
    fn a_pipeline_has_passed_when_all_that_must_succeed_has() {
        use JobStatus::{Canceled, Failed, Manual, Skipped, Success, Unfinished};
        for (jobs, verdict) in [
            (vec![], Verdict::Running),
            (vec![(Success, false)], Verdict::Passed),
            (vec![(Success, false), (Failed, true)], Verdict::Passed),
            (vec![(Success, false), (Manual, true)], Verdict::Passed),
            (vec![(Success, false), (Skipped, false)], Verdict::Passed),
            (vec![(Success, false), (Manual, false)], Verdict::Blocked("1".into())),
            (vec![(Success, false), (Unfinished, true)], Verdict::Running),
            (vec![(Failed, false), (Unfinished, false)], Verdict::Failed("0".into())),
            (vec![(Canceled, false)], Verdict::Failed("0".into())),
        ] {
            let jobs: Vec<Job> =
                jobs.into_iter().enumerate().map(|(i, (s, a))| job(i as u64, &i.to_string(), s, a)).collect();
            assert_eq!(head(jobs.clone()).verdict(), verdict, "{jobs:?}");
        }
    }

    #[test]
    fn the_newest_attempt_of_a_job_counts_and_the_pipeline_comes_before_its_children() {
        use JobStatus::{Failed, Success};
        let mut head = head(vec![job(3, "build", Failed, false), job(9, "build", Success, false)]);
        head.child_jobs = vec![job(20, "build", Failed, false), job(11, "pages", Success, false)];
        assert_eq!(head.job("build").map(|j| j.id), Some(9));
        assert_eq!(head.job("pages").map(|j| j.id), Some(11));
        assert_eq!(head.job("deploy"), None);
    }

    #[test]
    fn an_unknown_status_counts_as_unfinished() {
        assert_eq!(JobStatus::from_gitlab("waiting_for_callback"), JobStatus::Unfinished);
        assert_eq!(JobStatus::from_gitlab("something_new"), JobStatus::Unfinished);
    }
}
