//! Merge requests: what happens to them and what GitLab says about it.
//!
//! Every change goes through [`State::change_merge_request`], which compares before and after and
//! fires the hook with the right `action` and `changes`. `head_pipeline` is a stored value that
//! stays the *old* head's pipeline after a push until a new one exists, and setting it does not
//! touch `updated_at`. The mergeability check starts with the first read of the single merge request.

mod changes;
mod diff;
mod entity;
pub(super) mod lifecycle;
mod list;
mod routes;

pub(super) use routes::routes;

use jiff::Timestamp;

/// One merge request; it belongs to its target project.
#[derive(Debug, Clone)]
pub(super) struct MergeRequest {
    pub(super) id: u64,
    pub(super) iid: u64,
    pub(super) title: String,
    pub(super) description: Option<String>,
    pub(super) state: Stage,
    pub(super) author: u64,
    /// None once the fork is deleted.
    pub(super) source_project: Option<u64>,
    pub(super) source_branch: String,
    pub(super) target_branch: String,
    pub(super) labels: Vec<String>,
    pub(super) assignees: Vec<u64>,
    pub(super) reviewers: Vec<u64>,
    /// The head; None for a branch without commits of its own.
    pub(super) sha: Option<String>,
    /// What the head is compared with.
    pub(super) base_sha: Option<String>,
    /// `refs/merge-requests/<iid>/merge`, once a merged results pipeline made it.
    pub(super) merge_ref: Option<String>,
    /// `refs/merge-requests/<iid>/train`.
    pub(super) train_ref: Option<String>,
    pub(super) head_pipeline: Option<u64>,
    pub(super) check: Check,
    pub(super) auto_merge: bool,
    pub(super) squash: bool,
    pub(super) remove_source_branch: bool,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
    pub(super) merged: Option<(u64, Timestamp)>,
    pub(super) merge_commit: Option<String>,
    pub(super) closed: Option<(u64, Timestamp)>,
}

/// `state` of a merge request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Opened,
    Closed,
    Merged,
    Locked,
}

impl Stage {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Closed => "closed",
            Self::Merged => "merged",
            Self::Locked => "locked",
        }
    }

    /// `state_id` of webhooks.
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Opened => 1,
            Self::Closed => 2,
            Self::Merged => 3,
            Self::Locked => 4,
        }
    }
}

/// How far the mergeability check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    Unchecked,
    Checking,
    Checked,
}

impl MergeRequest {
    pub(super) fn draft(&self) -> bool {
        ["Draft:", "[Draft]", "(Draft)"].iter().any(|prefix| self.title.starts_with(prefix))
    }

    /// `detailed_merge_status`.
    pub(super) fn detailed_status(&self) -> &'static str {
        match (self.state, self.check) {
            (Stage::Closed | Stage::Merged, _) => "not_open",
            (_, Check::Unchecked) => "unchecked",
            (_, Check::Checking) => "checking",
            (Stage::Locked, _) => "locked_paths",
            _ if self.sha.is_none() => "commits_status",
            _ if self.draft() => "draft_status",
            _ => "mergeable",
        }
    }

    /// The older `merge_status`.
    pub(super) fn merge_status(&self) -> &'static str {
        match self.check {
            Check::Unchecked => "unchecked",
            Check::Checking => "checking",
            Check::Checked => "can_be_merged",
        }
    }
}
