//! Whose preview it is, and what is in the queue.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::names::{base36_tail, ref_slug};

/// GitLab's numeric project id. On GitLab.com ids exceed 2^31.
pub type ProjectId = u64;

/// One merge request: project id and the project's own number (`iid`) of it, written `42!7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
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

/// How many digits a [`BranchId`] has.
const DIGITS: usize = 8;

/// A branch that has a preview without a merge request: eight digits in base 36, of the SHA-256 of the branch's slug.
///
/// Of the slug and not of the branch's name, for that is what GitLab calls the environment after: two branches with one slug
/// have one environment, and so one preview.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BranchId([u8; DIGITS]);

impl BranchId {
    /// The id of the branch called `branch`; `None` where GitLab can make no slug of the name.
    pub fn of(branch: &str) -> Option<Self> {
        let slug = ref_slug(branch);
        (!slug.is_empty()).then(|| Self(base36_tail(&Sha256::digest(slug.as_bytes()))))
    }

    /// As a number below 36^8.
    pub fn number(self) -> u64 {
        self.0.iter().fold(0, |number, digit| {
            let digit = char::from(*digit).to_digit(36).unwrap_or_default();
            number * 36 + u64::from(digit)
        })
    }

    /// From [`BranchId::number`].
    pub fn from_number(number: u64) -> Self {
        Self(base36_tail(&number.to_be_bytes()))
    }
}

impl fmt::Display for BranchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|digit| write!(f, "{}", char::from(*digit)))
    }
}

impl FromStr for BranchId {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits: [u8; DIGITS] = text.as_bytes().try_into().map_err(|_| ParseKeyError(text.to_owned()))?;
        let is_digit = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        if digits.iter().all(is_digit) { Ok(Self(digits)) } else { Err(ParseKeyError(text.to_owned())) }
    }
}

impl Serialize for BranchId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BranchId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What a preview is of, within its project. Written `7` or `b-3k9d2m1q`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Subject {
    /// The merge request with this number (`iid`).
    #[serde(rename = "iid")]
    MergeRequest(u64),
    /// A branch without a merge request.
    #[serde(rename = "branch")]
    Branch(BranchId),
}

impl Subject {
    /// The number of the merge request, if it is one.
    pub const fn iid(self) -> Option<u64> {
        match self {
            Self::MergeRequest(iid) => Some(iid),
            Self::Branch(_) => None,
        }
    }

    /// Whether it is a branch.
    pub const fn is_branch(self) -> bool {
        matches!(self, Self::Branch(_))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MergeRequest(iid) => write!(f, "{iid}"),
            Self::Branch(id) => write!(f, "b-{id}"),
        }
    }
}

impl FromStr for Subject {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("b-") {
            Some(id) => id.parse().map(Self::Branch),
            None => text.parse().map(Self::MergeRequest).map_err(|_| ParseKeyError(text.to_owned())),
        }
    }
}

/// Whose preview it is: of a merge request, written `42!7`, or of a branch that has none, written `42@3k9d2m1q`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PreviewKey {
    /// GitLab's numeric id of the (target) project.
    pub project_id: ProjectId,
    /// What of the project.
    #[serde(flatten)]
    pub subject: Subject,
}

impl PreviewKey {
    /// The key of the preview of `subject` in project `project_id`.
    pub const fn new(project_id: ProjectId, subject: Subject) -> Self {
        Self { project_id, subject }
    }

    /// That of merge request `iid` in project `project_id`.
    pub const fn of_mr(project_id: ProjectId, iid: u64) -> Self {
        Self::new(project_id, Subject::MergeRequest(iid))
    }

    /// The merge request, if it is one's.
    pub fn merge_request(self) -> Option<MrKey> {
        self.subject.iid().map(|iid| MrKey::new(self.project_id, iid))
    }
}

impl From<MrKey> for PreviewKey {
    fn from(key: MrKey) -> Self {
        Self::of_mr(key.project_id, key.iid)
    }
}

impl fmt::Display for PreviewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.subject {
            Subject::MergeRequest(iid) => MrKey::new(self.project_id, iid).fmt(f),
            Subject::Branch(id) => write!(f, "{}@{id}", self.project_id),
        }
    }
}

/// A text that is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a key; expected `<project id>!<iid>` such as `42!7`")]
pub struct ParseKeyError(String);

impl FromStr for PreviewKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || ParseKeyError(text.to_owned());
        let at = text.find(['!', '@']).ok_or_else(bad)?;
        let (project, subject) = (text[..at].parse().map_err(|_| bad())?, &text[at + 1..]);
        let subject = if text[at..].starts_with('!') {
            Subject::MergeRequest(subject.parse().map_err(|_| bad())?)
        } else {
            Subject::Branch(subject.parse().map_err(|_| bad())?)
        };
        Ok(Self::new(project, subject))
    }
}

/// One piece of work in the queue: what is to be looked at.
///
/// A webhook does not always name a merge request: a branch pipeline names a branch. Whoever claims such a key asks
/// which previews are meant and enqueues those.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WorkKey {
    /// Look at this preview.
    Preview(PreviewKey),
    /// Look at the previews of this branch: that of its own, and those of its open merge requests.
    Branch(ProjectId, String),
    /// List the open merge requests of this project and look at each that needs it.
    Project(ProjectId),
}

impl fmt::Display for WorkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Preview(key) if key.subject.is_branch() => write!(f, "env:{key}"),
            Self::Preview(key) => write!(f, "mr:{key}"),
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
            "mr" | "env" => rest.parse().map(Self::Preview),
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

    #[test]
    fn branches_with_one_slug_have_one_preview() {
        assert_eq!(BranchId::of("feature/Login"), BranchId::of("feature-login"));
        assert_ne!(BranchId::of("feature/login"), BranchId::of("feature/logout"));
        assert_eq!(BranchId::of("日本"), None);
    }

    #[test]
    fn keys_are_stored_as_they_always_were() {
        let key = PreviewKey::of_mr(42, 7);
        assert_eq!(serde_json::to_string(&key).unwrap(), r#"{"project_id":42,"iid":7}"#);
        assert_eq!(WorkKey::Preview(key).to_string(), "mr:42!7");
    }

    proptest! {
        #[test]
        fn every_key_survives_being_written_and_read(project: u64, iid: u64, branch in ".*", id in 0..36_u64.pow(8)) {
            let of_branch = PreviewKey::new(project, Subject::Branch(BranchId::from_number(id)));
            for key in [
                WorkKey::Preview(PreviewKey::of_mr(project, iid)),
                WorkKey::Preview(of_branch),
                WorkKey::Branch(project, branch),
                WorkKey::Project(project),
            ] {
                prop_assert_eq!(key.to_string().parse::<WorkKey>(), Ok(key));
            }
            for key in [PreviewKey::of_mr(project, iid), of_branch] {
                prop_assert_eq!(key.subject.to_string().parse(), Ok(key.subject));
                let json = serde_json::to_string(&key).unwrap();
                prop_assert_eq!(serde_json::from_str::<PreviewKey>(&json).unwrap(), key);
            }
            prop_assert_eq!(BranchId::from_number(id).number(), id);
        }
    }
}
