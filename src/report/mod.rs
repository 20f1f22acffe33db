//! What people are told: the comment, the GitLab environment, the deployment in it, the commit status.
//!
//! Needs: [`Forge`] and the preview's record, which it completes with the ids it learns. Decides nothing.
//!
//! Properties:
//! * Each is written only when it changes: the comment's text is compared by digest, times in it are absolute.
//! * The comment is found by its stored id, else through all pages by the hidden marker *and* our own user id. Of several
//!   the oldest stays. One that a person deleted is made again.
//! * An environment that another greenroom instance made is left to it.
//! * `skipped` never makes a comment, only edits one; neither does an end make one.

mod commit_status;
mod environment;
mod note;

pub use environment::instance_of;

use crate::gitlab::Forge;

pub use note::{NoteCheck, note_is_due};

/// Tells people.
#[derive(Debug, Clone)]
pub struct Reporter {
    forge: Forge,
    instance: String,
}

impl Reporter {
    /// A reporter that signs as this instance.
    pub const fn new(forge: Forge, instance: String) -> Self {
        Self { forge, instance }
    }

    /// The same for work that nobody waits for.
    #[must_use]
    pub fn in_background(&self) -> Self {
        Self { forge: self.forge.in_background(), instance: self.instance.clone() }
    }
}

/// Why people could not be told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// GitLab did not take it.
    #[error(transparent)]
    GitLab(#[from] crate::gitlab::Error),
    /// Another greenroom has the environment of this name.
    #[error("the environment `{name}` belongs to another greenroom instance")]
    Taken {
        /// Such as `review/mr-7`.
        name: String,
    },
    /// The comment's template is broken.
    #[error("the comment's template cannot be rendered: {0}")]
    Template(#[from] minijinja::Error),
}
