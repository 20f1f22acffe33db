//! What a push sets off: the Push Hook (or Tag Push Hook) of the project that was pushed to, and an
//! `update` with `oldrev` for each open merge request from that branch, in its target project.

use crate::sandbox::{delivery::Event, payloads, refusal::Refusal, repository::ZERO, state::State};

/// One ref that moved.
#[derive(Debug, Clone)]
pub(in crate::sandbox) struct Push {
    /// Full: `refs/heads/main`.
    pub(in crate::sandbox) reference: String,
    pub(in crate::sandbox) before: String,
    pub(in crate::sandbox) after: String,
}

/// GitLab's `push_event_hooks_limit`: more refs than this in one push fire no push hook at all.
const HOOKS_LIMIT: usize = 3;

impl State {
    /// Moves or creates a branch; the project must have the commit.
    pub(in crate::sandbox) fn push_branch(
        &mut self,
        project: u64,
        branch: &str,
        sha: &str,
        user: u64,
    ) -> Result<(), Refusal> {
        let push = self.move_ref(project, &format!("refs/heads/{branch}"), Some(sha))?;
        self.announce(project, &[push], user)
    }

    /// Deletes a branch: GitLab stops the environments that were deployed from it.
    pub(in crate::sandbox) fn delete_branch(
        &mut self,
        project: u64,
        branch: &str,
        user: u64,
    ) -> Result<(), Refusal> {
        let push = self.move_ref(project, &format!("refs/heads/{branch}"), None)?;
        self.announce(project, &[push], user)?;
        self.stop_environments_of_branch(project, branch, user)
    }

    /// Changes a ref without telling anybody.
    pub(in crate::sandbox) fn move_ref(
        &mut self,
        project: u64,
        reference: &str,
        to: Option<&str>,
    ) -> Result<Push, Refusal> {
        if let Some(sha) = to {
            self.import_commits(project, sha)?;
        }
        let project = self.project_mut(project)?;
        let (refs, name) = match reference.strip_prefix("refs/tags/") {
            Some(tag) => (&mut project.tags, tag),
            None => (&mut project.branches, reference.strip_prefix("refs/heads/").unwrap_or(reference)),
        };
        let before = match to {
            Some(sha) => refs.insert(name.to_owned(), sha.to_owned()),
            None => refs.remove(name),
        };
        Ok(Push {
            reference: reference.to_owned(),
            before: before.unwrap_or_else(|| ZERO.to_owned()),
            after: to.unwrap_or(ZERO).to_owned(),
        })
    }

    /// Fires the hooks of one push of several refs.
    pub(in crate::sandbox) fn announce(
        &mut self,
        project: u64,
        pushes: &[Push],
        user: u64,
    ) -> Result<(), Refusal> {
        for push in pushes {
            if pushes.len() <= HOOKS_LIMIT {
                let event =
                    if push.reference.starts_with("refs/tags/") { Event::TagPush } else { Event::Push };
                let body = payloads::push(self, project, push, user)?;
                self.fire(project, event, &body)?;
            }
            if let Some(branch) = push.reference.strip_prefix("refs/heads/").filter(|_| push.after != ZERO) {
                self.source_branch_moved(project, branch, &push.after, user)?;
            }
        }
        Ok(())
    }
}
