//! The commit status of a preview: what an operator wants of it, what it may say, what was said last.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::facts::Sha;

/// What commit statuses are for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommitStatusMode {
    /// None is posted.
    Off,
    /// One tells how a deploy came out. It always is a success, so that it never blocks a pipeline or makes it red.
    #[default]
    Info,
    /// It runs while the deploy does, and fails with it.
    Required,
}

/// A word that is no mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is no way to use the commit status")]
pub struct ParseCommitStatusModeError;

impl FromStr for CommitStatusMode {
    type Err = ParseCommitStatusModeError;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "off" => Ok(Self::Off),
            "info" => Ok(Self::Info),
            "required" => Ok(Self::Required),
            _ => Err(ParseCommitStatusModeError),
        }
    }
}

/// The states of GitLab's that we use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommitStatusState {
    /// A deploy goes on.
    Running,
    /// It is served; or this is for information only.
    Success,
    /// It is not served.
    Failed,
    /// Nobody waits for it any more.
    Canceled,
}

impl CommitStatusState {
    /// Every one of them.
    pub const ALL: [Self; 4] = [Self::Running, Self::Success, Self::Failed, Self::Canceled];

    /// GitLab's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }

    /// Whether it ends a status: whatever is posted later makes a new one.
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Running)
    }
}

/// What a commit status says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// Where it stands.
    pub state: CommitStatusState,
    /// One line, at most [`Said::LONGEST`] bytes.
    pub description: String,
}

impl Said {
    /// The longest description in bytes. GitLab takes 255 characters, which never are fewer bytes.
    pub const LONGEST: usize = 255;

    /// Says `text`, cut to fit. Whatever a stranger wrote comes in as [`Quoted`](super::Quoted); GitLab shows the rest as
    /// plain text, so that here only line breaks are left to take out.
    pub fn new(state: CommitStatusState, text: &str) -> Self {
        const CUT: char = '…';
        let mut description = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if description.len() > Self::LONGEST {
            description.truncate(description.floor_char_boundary(Self::LONGEST - CUT.len_utf8()));
            description.push(CUT);
        }
        Self { state, description }
    }
}

/// The commit status of the newest deploy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitStatus {
    /// The pipeline it belongs to. Without one GitLab would make a pipeline for it.
    pub pipeline_id: u64,
    /// That pipeline's commit.
    pub sha: Sha,
    /// What was said last, or is about to be.
    pub said: Option<Said>,
    /// Whether GitLab's answer to it is known; not so between the intent and the answer, so that a crash in between is
    /// mended.
    pub answered: bool,
    /// Whether GitLab may have one of ours that runs.
    pub open: bool,
}

impl CommitStatus {
    /// One of a pipeline that nothing was said to yet.
    pub const fn new(pipeline_id: u64, sha: Sha) -> Self {
        Self { pipeline_id, sha, said: None, answered: true, open: false }
    }

    /// Writes down what is about to be said.
    pub fn intend(&mut self, said: Said) {
        self.open |= !said.state.is_final();
        self.said = Some(said);
        self.answered = false;
    }

    /// Writes down that GitLab took what was said.
    pub fn taken(&mut self) {
        self.answered = true;
        self.open = self.said.as_ref().is_some_and(|said| !said.state.is_final());
    }

    /// Writes down that GitLab did not. `forbidden`: it may be allowed one day, and one that was left running holds its
    /// pipeline up until then, so its end stays owed.
    pub fn refused(&mut self, forbidden: bool) {
        let ends = self.said.as_ref().is_some_and(|said| said.state.is_final());
        if !(forbidden && ends && self.open) {
            self.answered = true;
            self.open = false;
        }
    }

    /// Whether this was said last, and GitLab's answer to it is known.
    pub fn has_said(&self, said: &Said) -> bool {
        self.answered && self.said.as_ref() == Some(said)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_description_is_one_line_that_fits(text in "\\PC{0,400}|[a-zä🚀\n\r\t ]{0,400}") {
            let said = Said::new(CommitStatusState::Success, &text).description;
            prop_assert!(said.len() <= Said::LONGEST && !said.contains(['\n', '\r']), "{said:?}");
            let words: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
            prop_assert!(said == words || words.starts_with(said.trim_end_matches('…')), "{said:?}");
        }
    }

    #[test]
    fn the_end_of_one_that_runs_stays_owed_while_it_is_forbidden() {
        let sha = Sha::parse(&"a".repeat(40)).unwrap();
        let says = |state| Said::new(state, "x");
        let mut status = CommitStatus::new(1, sha);
        status.intend(says(CommitStatusState::Running));
        status.taken();
        assert!(status.open && status.answered);
        status.intend(says(CommitStatusState::Success));
        status.refused(true);
        assert!(status.open && !status.answered);
        status.refused(false);
        assert!(!status.open && status.answered);
        // What was never taken is not owed.
        status.intend(says(CommitStatusState::Failed));
        status.refused(true);
        assert!(!status.open && status.answered);
    }
}
