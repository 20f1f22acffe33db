//! The domain, pure: no I/O, no async, no clock.
//!
//! Needs: nothing of ours. Everything here is plain data and arithmetic on it, so that every rule about
//! previews can be tested without a server.

mod check;
mod commit_status;
mod facts;
mod ids;
mod intent;
mod lifetime;
mod names;
mod next;
mod order;
mod pattern;
mod place;
mod policy;
mod quoted;
mod reason;
mod record;
mod redact;
mod rules;
mod state;

pub use check::{CheckResult, CheckRun, CheckState};
pub use commit_status::{
    CommitStatus, CommitStatusMode, CommitStatusState, ParseCommitStatusModeError, Said,
};
pub use facts::{
    Bridge, Diff, Head, Job, JobStatus, MergeRequest, MergeRequestState, Pipeline, Sha, Verdict,
};
pub use ids::{BranchId, MrKey, ParseKeyError, PreviewKey, ProjectId, Subject, WorkKey};
pub use intent::Intent;
pub use lifetime::{Lifetime, ParseLifetimeError, rfc3339};
pub use names::{
    ENVIRONMENT_PREFIX, MR_ENVIRONMENT_PREFIX, PreviewName, commit_status_name, environment_name,
    environment_slug, merge_request_of_environment, ref_slug, subject_of_environment, valid_dns_label,
};
pub use order::JobOrder;
pub use pattern::{BranchPattern, PathPattern};
pub use place::{DEFAULT_CLUSTER, Place};
pub use policy::{ChangedFile, Changes, Compared, Judgement, LabelName, Labels, When};
pub use quoted::{Quoted, shown_line};
pub use reason::{Cause, Reason};
pub use record::{Deployment, FileAt, Hold, HoldOrigin, Preview, Release, Serving, Sleep};
pub use redact::Redaction;
pub use rules::{EngineKind, Given, ProjectRules};
pub use state::State;
