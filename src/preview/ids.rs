//! Who is meant: projects, merge requests, and the keys of the work queue.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// GitLab's numeric project id. On GitLab.com ids exceed 2^31.
pub type ProjectId = u64;

/// One merge request: project id and the project's own number (`iid`) of it, written `42!7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MrKey {
    /// GitLab's numeric id of the (target) project.
    pub project_id: ProjectId,
    /// The number after the `!`, unique within the project.
    pub iid: u64,
}

impl MrKey {
    /// The key of merge request `iid` in project `project_id`.
    pub const fn new(project_id: ProjectId, iid: u64) -> Self {
        Self { project_id, iid }
    }
}

impl fmt::Display for MrKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}!{}", self.project_id, self.iid)
    }
}

/// A text that is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a key; expected `<project id>!<iid>` such as `42!7`")]
pub struct ParseKeyError(String);

impl FromStr for MrKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split_once('!')
            .and_then(|(project, iid)| Some(Self::new(project.parse().ok()?, iid.parse().ok()?)))
            .ok_or_else(|| ParseKeyError(text.to_owned()))
    }
}

/// One piece of work in the queue: what is to be looked at.
///
/// A webhook does not always name a merge request: a branch pipeline names a branch. Whoever claims such a key asks
/// GitLab which merge requests are meant and enqueues those.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WorkKey {
    /// Look at this merge request.
    MergeRequest(MrKey),
    /// Look at the open merge requests of this source branch.
    Branch(ProjectId, String),
    /// List the open merge requests of this project and look at each that needs it.
    Project(ProjectId),
}

impl fmt::Display for WorkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MergeRequest(key) => write!(f, "mr:{key}"),
            Self::Branch(project, branch) => write!(f, "branch:{project}:{branch}"),
            Self::Project(project) => write!(f, "project:{project}"),
        }
    }
}

impl FromStr for WorkKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseKeyError(text.to_owned());
        let (kind, rest) = text.split_once(':').ok_or_else(bad)?;
        match kind {
            "mr" => rest.parse().map(Self::MergeRequest),
            "branch" => {
                let (project, branch) = rest.split_once(':').ok_or_else(bad)?;
                Ok(Self::Branch(project.parse().map_err(|_| bad())?, branch.to_owned()))
            }
            "project" => rest.parse().map(Self::Project).map_err(|_| bad()),
            _ => Err(bad()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_key_survives_being_written_and_read(project in any::<u64>(), iid in any::<u64>(), branch in ".*") {
            for key in [
                WorkKey::MergeRequest(MrKey::new(project, iid)),
                WorkKey::Branch(project, branch),
                WorkKey::Project(project),
            ] {
                prop_assert_eq!(key.to_string().parse::<WorkKey>(), Ok(key));
            }
        }
    }
}
