//! Why a preview is in its state, in words. The same sentence goes to the comment, the API, the log and the terminal.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::facts::{JobStatus, Sha};
use super::quoted::Quoted;
use super::rules::EngineKind;

/// Why a preview is in its state. `Display` is one sentence without a full stop, safe as Markdown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The merge request has no commit yet.
    NoCommit,
    /// No pipeline ran for the head.
    NoPipeline(Sha),
    /// The pipeline (id) still runs, and the project file waits for all of it.
    PipelineRunning(u64),
    /// The pipeline (id) waits for a person to start a blocking job.
    PipelineBlocked(u64, Quoted),
    /// The pipeline (id) failed because of this job.
    PipelineFailed(u64, Quoted),
    /// The job is not finished.
    JobUnfinished(Quoted, u64),
    /// The job waits for a person.
    JobManual(Quoted, u64),
    /// The job ended without success.
    JobFailed(Quoted, u64, JobStatus),
    /// The job is not there yet, and the pipeline still runs.
    JobNotYet(Quoted, u64),
    /// The pipeline finished without the job.
    JobMissing(Quoted, u64),
    /// The job (of this pipeline) has deployed it without the server, which knows nothing of what that made.
    LeftToJob(Quoted, u64),
    /// The job succeeded but GitLab has no artifact of it: never made, or expired.
    ArtifactGone(Quoted),
    /// The artifact cannot be served; the engine says why.
    ArtifactRefused(String),
    /// It cannot be handed to its engine: what it is made of is not as it must be; where and why.
    Undeployable(String),
    /// The engine could not bring it up; its diagnosis.
    NotReady(String),
    /// The settings have no cluster of this name.
    NoCluster {
        /// The name.
        cluster: String,
        /// Where the operator wrote it, if somewhere.
        origin: Option<String>,
    },
    /// Where it runs cannot be asked; why not. Tried again.
    Unreachable(String),
    /// This image is not in its registry.
    ImageMissing(Quoted),
    /// Whether an image is in its registry cannot be told; why not. Tried again.
    RegistryTrouble(String),
    /// The change comes from a fork.
    Fork,
    /// `.greenroom.yml` cannot be read; where and what was expected.
    FileBroken(String),
    /// The engine brings this commit up.
    Deploying(Sha),
    /// This commit is served.
    Ready(Sha),
    /// This commit would be served, and was put to sleep by the operator.
    Asleep(Sha),
    /// This commit slept, and is being brought back.
    Waking(Sha),
    /// The engine is in trouble of its own; its diagnosis. Tried again.
    EngineFailed(String),
    /// The merge request was closed.
    Closed,
    /// The merge request was merged.
    Merged,
    /// The lifetime ended at this time (RFC 3339).
    Expired(String),
    /// A person stopped the environment in GitLab.
    StoppedInGitlab,
    /// The operator stopped it through the API.
    StoppedByOperator,
    /// A merge request of the branch, which had a preview without one, serves by now.
    Replaced,
    /// The branch has no merge request, and its job has not deployed this commit yet.
    LeftToBranch(Sha),
    /// The branch was deleted, and GitLab has not stopped the environment of it.
    BranchDeleted,
    /// GitLab shows no branches any more, and has not stopped this environment of the branch.
    BranchGone(String),
    /// GitLab shows neither the branch nor an environment of it, and nothing of it ever ran.
    BranchOver,
    /// The project's file was removed from the head.
    FileRemoved,
    /// Something of it is still there.
    Leftover(String),
    /// GitLab does not show the merge request, since this time (RFC 3339).
    Unseen(String),
    /// GitLab does not show what it is to know of the branch, since this time (RFC 3339).
    BranchUnseen(String),
    /// It was found running, or in GitLab, without a record of it.
    Found,
    /// It is to be removed, for this reason, unless it turns out to be one of many.
    RemovalWanted(String),
    /// So many are to be removed at once that none of them is: how many, and the reason for this one.
    RemovalHeld(usize, String),
    /// It is a draft, and the project file wants none.
    Draft,
    /// It has this label, which the project file does not want.
    LabelExcluded(Quoted),
    /// It has none of these labels (quoted), of which the project file wants one.
    LabelMissing(String),
    /// It goes to this branch; the project file wants others (globs, quoted).
    TargetBranch(Quoted, String),
    /// It changes no file that matches these globs (quoted) of the project file.
    PathsUntouched(String),
    /// GitLab has not told yet which files it changes.
    ChangesUnknown,
    /// The operator does not let the project use this engine.
    EngineNotAllowed {
        /// What the project file asks for.
        engine: EngineKind,
        /// What is allowed, quoted; empty for nothing.
        allowed: String,
        /// Where the operator wrote that.
        origin: String,
    },
    /// As many previews of the project run as the operator lets run.
    NoRoom {
        /// How many that is.
        limit: u64,
        /// Where the operator wrote that.
        origin: String,
    },
}

/// What wants a preview removed, where that may be a mistake that hits many at once. What is not among these (an end of
/// the merge request, of the lifetime, a person's hand) never counts for the brake.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// `.greenroom.yml` is not there any more.
    ProjectFile,
    /// `.greenroom.yml` excludes the merge request.
    Policy,
    /// The operator's settings exclude it.
    Settings,
    /// Nobody remembers it, and its merge request is over.
    Orphan,
    /// Its branch was deleted, and GitLab has not stopped its environment.
    Branch,
}

impl Cause {
    /// The name used in the API and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ProjectFile => "project_file",
            Self::Policy => "policy",
            Self::Settings => "settings",
            Self::Orphan => "orphan",
            Self::Branch => "branch",
        }
    }
}

impl Reason {
    /// Whether nothing can change it but what GitLab's list of merge requests shows, an event of ours, or time.
    pub const fn is_at_rest(&self) -> bool {
        match self {
            Self::NoCommit
            | Self::Fork
            | Self::Ready(_)
            | Self::Asleep(_)
            | Self::Closed
            | Self::Merged
            | Self::Expired(_)
            | Self::StoppedInGitlab
            | Self::StoppedByOperator
            | Self::Replaced
            | Self::LeftToBranch(_)
            | Self::BranchDeleted
            | Self::BranchOver
            | Self::FileRemoved
            | Self::Draft
            | Self::LabelExcluded(_)
            | Self::LabelMissing(_)
            | Self::TargetBranch(..)
            | Self::PathsUntouched(_)
            | Self::EngineNotAllowed { .. } => true,
            Self::FileBroken(_)
            | Self::NoPipeline(_)
            | Self::PipelineRunning(_)
            | Self::PipelineBlocked(..)
            | Self::PipelineFailed(..)
            | Self::JobUnfinished(..)
            | Self::JobManual(..)
            | Self::JobFailed(..)
            | Self::JobNotYet(..)
            | Self::JobMissing(..)
            | Self::LeftToJob(..)
            | Self::ArtifactGone(_)
            | Self::ArtifactRefused(_)
            | Self::Undeployable(_)
            | Self::NotReady(_)
            | Self::NoCluster { .. }
            | Self::Unreachable(_)
            | Self::ImageMissing(_)
            | Self::RegistryTrouble(_)
            | Self::Deploying(_)
            | Self::Waking(_)
            | Self::EngineFailed(_)
            | Self::Unseen(_)
            | Self::BranchUnseen(_)
            | Self::Found
            | Self::RemovalWanted(_)
            | Self::RemovalHeld(..)
            | Self::ChangesUnknown
            | Self::BranchGone(_)
            | Self::NoRoom { .. }
            | Self::Leftover(_) => false,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCommit => f.write_str("the merge request has no commit yet"),
            Self::NoPipeline(sha) => write!(f, "no pipeline has finished for commit `{}` yet", sha.short()),
            Self::PipelineRunning(id) => write!(f, "pipeline {id} has not finished"),
            Self::PipelineBlocked(id, job) => {
                write!(f, "pipeline {id} waits for job {job}, which a person has to start")
            }
            Self::PipelineFailed(id, job) => {
                write!(f, "pipeline {id} did not pass: job {job} did not succeed")
            }
            Self::JobUnfinished(job, pipeline) => {
                write!(f, "job {job} of pipeline {pipeline} has not finished")
            }
            Self::JobManual(job, pipeline) => {
                write!(f, "job {job} of pipeline {pipeline} waits for a person to start it")
            }
            Self::JobFailed(job, pipeline, JobStatus::Canceled) => {
                write!(f, "job {job} of pipeline {pipeline} was cancelled")
            }
            Self::JobFailed(job, pipeline, JobStatus::Skipped) => {
                write!(f, "job {job} of pipeline {pipeline} was skipped")
            }
            Self::JobFailed(job, pipeline, _) => write!(f, "job {job} of pipeline {pipeline} failed"),
            Self::JobNotYet(job, pipeline) => write!(f, "pipeline {pipeline} runs and has no job {job} yet"),
            Self::JobMissing(job, pipeline) => write!(f, "pipeline {pipeline} finished without a job {job}"),
            Self::LeftToJob(job, pipeline) => {
                write!(
                    f,
                    "job {job} of pipeline {pipeline} deploys to its environment, so the server does not"
                )
            }
            Self::ArtifactGone(job) => {
                write!(
                    f,
                    "job {job} succeeded, but GitLab has no artifact of it: it was never made or has expired"
                )
            }
            Self::ArtifactRefused(why) => write!(f, "the artifact cannot be served: {why}"),
            Self::Undeployable(why) => write!(f, "it cannot be deployed: {why}"),
            Self::NotReady(why) => write!(f, "it did not become ready: {why}"),
            Self::NoCluster { cluster, origin: Some(origin) } => {
                write!(
                    f,
                    "the server's settings (`{origin}`) want it on the cluster `{cluster}`, which they do not name"
                )
            }
            Self::NoCluster { cluster, origin: None } => {
                write!(f, "the server's settings name no cluster `{cluster}` for it to run on")
            }
            Self::Unreachable(why) | Self::RegistryTrouble(why) => f.write_str(why),
            Self::ImageMissing(image) => write!(f, "image {image} is not in the registry yet"),
            Self::Fork => f.write_str("the change comes from a fork, and forks get no preview"),
            Self::FileBroken(why) => write!(f, "`.greenroom.yml` cannot be used: {why}"),
            Self::Deploying(sha) => write!(f, "commit `{}` is being deployed", sha.short()),
            Self::Ready(sha) => write!(f, "commit `{}` is being served", sha.short()),
            Self::Asleep(sha) => write!(f, "the operator has put commit `{}` to sleep", sha.short()),
            Self::Waking(sha) => write!(f, "commit `{}` slept, and is being woken", sha.short()),
            Self::EngineFailed(why) => write!(f, "the deploy failed: {why}"),
            Self::Closed => f.write_str("the merge request was closed"),
            Self::Merged => f.write_str("the merge request was merged"),
            Self::Expired(at) => write!(f, "its lifetime ended at {at}"),
            Self::StoppedInGitlab => f.write_str("somebody stopped the environment in GitLab"),
            Self::StoppedByOperator => f.write_str("it was stopped by the operator"),
            Self::Replaced => f.write_str("a merge request of its branch has a preview by now"),
            Self::LeftToBranch(sha) => {
                write!(f, "no job of its branch has deployed commit `{}` yet", sha.short())
            }
            Self::BranchDeleted => f.write_str("its branch was deleted"),
            Self::BranchGone(environment) => write!(
                f,
                "GitLab does not show its branch any more, but has not stopped the environment `{environment}`"
            ),
            Self::BranchOver => f.write_str("neither its branch nor its environment is there any more"),
            Self::FileRemoved => f.write_str("the branch has no `.greenroom.yml` any more"),
            Self::Leftover(what) => write!(f, "not everything is gone yet: {what}"),
            Self::Unseen(since) => write!(f, "GitLab has not shown this merge request since {since}"),
            Self::BranchUnseen(since) => {
                write!(f, "GitLab has not shown the branch's project or environment since {since}")
            }
            Self::Found => f.write_str("greenroom found it without knowing of it, and looks at it"),
            Self::RemovalWanted(why) => write!(f, "it is about to be removed: {why}"),
            Self::RemovalHeld(count, why) => write!(
                f,
                "kept: the brake holds {count} removals that were wanted at once, this one because {why}; `greenroom \
                 brake --release` lets them go on"
            ),
            Self::Draft => {
                f.write_str("the merge request is a draft, and `.greenroom.yml` wants none (`when.drafts`)")
            }
            Self::LabelExcluded(label) => write!(
                f,
                "the merge request has the label {label}, which `.greenroom.yml` excludes (`when.labels.none`)"
            ),
            Self::LabelMissing(wanted) => write!(
                f,
                "the merge request has none of the labels that `.greenroom.yml` asks for (`when.labels.any`): {wanted}"
            ),
            Self::TargetBranch(target, wanted) => write!(
                f,
                "the merge request goes to branch {target}, and `.greenroom.yml` asks for others \
                 (`when.target_branches`): {wanted}"
            ),
            Self::PathsUntouched(globs) => write!(
                f,
                "the merge request changes no file that `.greenroom.yml` asks for (`when.paths`): {globs}"
            ),
            Self::ChangesUnknown => {
                f.write_str("GitLab has not told yet which files the merge request changes")
            }
            Self::EngineNotAllowed { engine, allowed, origin } => {
                let allowed = if allowed.is_empty() { "no engine" } else { allowed };
                write!(
                    f,
                    "the server's settings (`{origin}`) let this project use {allowed}, and `.greenroom.yml` asks for \
                     `{engine}`"
                )
            }
            Self::NoRoom { limit, origin } => write!(
                f,
                "the server's settings (`{origin}`) let this project run {limit} preview{} at once, and all of them run",
                if *limit == 1 { "" } else { "s" }
            ),
        }
    }
}

/// Texts by strangers as one list in a sentence, cut after a few.
pub(super) fn list<'a>(texts: impl ExactSizeIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 5;
    let more = texts.len().saturating_sub(SHOWN);
    let shown: Vec<_> = texts.take(SHOWN).map(|text| Quoted::new(text).to_string()).collect();
    let shown = shown.join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

impl Reason {
    /// What the removal for this reason counts as for the brake; `None` when it never counts.
    pub const fn cause(&self) -> Option<Cause> {
        match self {
            Self::FileRemoved => Some(Cause::ProjectFile),
            Self::BranchDeleted => Some(Cause::Branch),
            Self::Draft
            | Self::LabelExcluded(_)
            | Self::LabelMissing(_)
            | Self::TargetBranch(..)
            | Self::PathsUntouched(_) => Some(Cause::Policy),
            // An end of its own, a hand, or no reason to remove anything.
            Self::Closed
            | Self::Merged
            | Self::Expired(_)
            | Self::StoppedInGitlab
            | Self::StoppedByOperator
            | Self::Replaced
            | Self::LeftToBranch(_)
            | Self::BranchGone(_)
            | Self::BranchOver
            | Self::NoCommit
            | Self::NoPipeline(_)
            | Self::PipelineRunning(_)
            | Self::PipelineBlocked(..)
            | Self::PipelineFailed(..)
            | Self::JobUnfinished(..)
            | Self::JobManual(..)
            | Self::JobFailed(..)
            | Self::JobNotYet(..)
            | Self::JobMissing(..)
            | Self::LeftToJob(..)
            | Self::ArtifactGone(_)
            | Self::ArtifactRefused(_)
            | Self::Undeployable(_)
            | Self::NotReady(_)
            | Self::NoCluster { .. }
            | Self::Unreachable(_)
            | Self::ImageMissing(_)
            | Self::RegistryTrouble(_)
            | Self::Fork
            | Self::FileBroken(_)
            | Self::Deploying(_)
            | Self::Ready(_)
            | Self::Asleep(_)
            | Self::Waking(_)
            | Self::EngineFailed(_)
            | Self::Leftover(_)
            | Self::Unseen(_)
            | Self::BranchUnseen(_)
            | Self::Found
            | Self::RemovalWanted(_)
            | Self::RemovalHeld(..)
            | Self::ChangesUnknown
            | Self::EngineNotAllowed { .. }
            | Self::NoRoom { .. } => None,
        }
    }

    /// Whether the project file's `when` excludes the merge request for it.
    pub const fn is_exclusion(&self) -> bool {
        matches!(
            self,
            Self::Draft
                | Self::LabelExcluded(_)
                | Self::LabelMissing(_)
                | Self::TargetBranch(..)
                | Self::PathsUntouched(_)
        )
    }
}
