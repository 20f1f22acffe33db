//! The commit status of a preview: what an operator wants of it.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

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
