//! Open, push, edit, close, reopen, merge: the rules and what else they set off.

use super::{Check, MergeRequest, Stage, changes};
use crate::sandbox::{
    delivery::Event,
    payloads,
    projects::Label,
    refusal::Refusal,
    state::{Noun, State},
};
use serde_json::json;

/// What somebody asks for when opening a merge request.
#[derive(Debug)]
pub(in crate::sandbox) struct Opening {
    pub(in crate::sandbox) source_project: u64,
    pub(in crate::sandbox) source_branch: String,
    pub(in crate::sandbox) target_branch: String,
    pub(in crate::sandbox) title: String,
    pub(in crate::sandbox) description: Option<String>,
    pub(in crate::sandbox) labels: Vec<String>,
    pub(in crate::sandbox) remove_source_branch: bool,
}

impl State {
    pub(in crate::sandbox) fn merge_request(&self, project: u64, iid: u64) -> Result<&MergeRequest, Refusal> {
        self.project(project)?.merge_requests.get(&iid).ok_or_else(|| Refusal::not_found(""))
    }

    pub(in crate::sandbox) fn merge_request_mut(
        &mut self,
        project: u64,
        iid: u64,
    ) -> Result<&mut MergeRequest, Refusal> {
        self.project_mut(project)?.merge_requests.get_mut(&iid).ok_or_else(|| Refusal::not_found(""))
    }

    /// Opens a merge request into `project`.
    pub(in crate::sandbox) fn open_merge_request(
        &mut self,
        project: u64,
        opening: Opening,
        user: u64,
    ) -> Result<u64, Refusal> {
        let target = self.project(project)?;
        let source = self.project(opening.source_project)?;
        let taken = |other: &&MergeRequest| {
            other.state == Stage::Opened
                && other.source_project == Some(opening.source_project)
                && other.source_branch == opening.source_branch
                && other.target_branch == opening.target_branch
        };
        if let Some(other) = target.merge_requests.values().find(taken) {
            let message =
                format!("Another open merge request already exists for this source branch: !{}", other.iid);
            return Err(Refusal::conflict(json!([message])));
        }
        let base = target.branches.get(&opening.target_branch).cloned();
        let head = source.branches.get(&opening.source_branch).cloned();
        let (Some(base), Some(head)) = (base, head) else {
            let side = if source.branches.contains_key(&opening.source_branch) { "target" } else { "source" };
            return Err(Refusal::bad_request(json!([format!("{side} branch does not exist")])));
        };
        let iid = target.merge_requests.keys().next_back().copied().unwrap_or(0) + 1;
        self.import_commits(project, &head)?;
        let own_commits = !self.commits_between(&base, &head).is_empty();
        let now = self.now();
        let merge_request = MergeRequest {
            id: self.next_id(Noun::MergeRequest),
            iid,
            title: opening.title,
            description: opening.description,
            state: Stage::Opened,
            author: user,
            source_project: Some(opening.source_project),
            source_branch: opening.source_branch,
            target_branch: opening.target_branch,
            labels: opening.labels,
            assignees: vec![user],
            reviewers: Vec::new(),
            sha: own_commits.then_some(head),
            base_sha: Some(base),
            merge_ref: None,
            train_ref: None,
            head_pipeline: None,
            check: Check::Unchecked,
            auto_merge: false,
            squash: false,
            remove_source_branch: opening.remove_source_branch,
            created_at: now,
            updated_at: now,
            merged: None,
            merge_commit: None,
            closed: None,
        };
        self.know_labels(project, &merge_request.labels)?;
        self.project_mut(project)?.merge_requests.insert(iid, merge_request);
        self.compare_again(project, iid)?;
        self.adopt_head_pipeline(project, iid)?;
        self.announce_merge_request(project, iid, None, None, user)?;
        Ok(iid)
    }

    /// Changes a merge request; fires a hook if that made a difference.
    pub(in crate::sandbox) fn change_merge_request(
        &mut self,
        project: u64,
        iid: u64,
        user: u64,
        change: impl FnOnce(&mut MergeRequest),
    ) -> Result<(), Refusal> {
        let before = self.merge_request(project, iid)?.clone();
        change(self.merge_request_mut(project, iid)?);
        let changed = self.merge_request(project, iid)?;
        if changed.sha != before.sha || changed.target_branch != before.target_branch {
            self.compare_again(project, iid)?;
        }
        let after = self.merge_request(project, iid)?.clone();
        self.know_labels(project, &after.labels)?;
        let same = changes::between(Some(&before), &after, |names| json!(names));
        if same.as_object().is_some_and(serde_json::Map::is_empty) && before.sha == after.sha {
            return Ok(());
        }
        let now = self.now();
        self.merge_request_mut(project, iid)?.updated_at = now;
        let oldrev = before.sha.clone().filter(|_| before.sha != after.sha);
        self.announce_merge_request(project, iid, Some(&before), oldrev.as_deref(), user)
    }

    fn announce_merge_request(
        &mut self,
        project: u64,
        iid: u64,
        before: Option<&MergeRequest>,
        oldrev: Option<&str>,
        user: u64,
    ) -> Result<(), Refusal> {
        let known = self.project(project)?;
        let after = self.merge_request(project, iid)?;
        let action = changes::action(before, after);
        let changes = changes::between(before, after, |names| payloads::labels(known, names));
        let body = payloads::merge_request(self, known, after, action, oldrev, &changes, user);
        self.fire(project, Event::MergeRequest, &body)
    }

    /// Labels come into being with their first use.
    fn know_labels(&mut self, project: u64, names: &[String]) -> Result<(), Refusal> {
        for name in names {
            if !self.project(project)?.labels.contains_key(name) {
                let label = Label { id: self.next_id(Noun::Label), created_at: self.now() };
                self.project_mut(project)?.labels.insert(name.clone(), label);
            }
        }
        Ok(())
    }

    /// A branch got a new head: its open merge requests follow, wherever they go.
    pub(in crate::sandbox) fn source_branch_moved(
        &mut self,
        source: u64,
        branch: &str,
        after: &str,
        user: u64,
    ) -> Result<(), Refusal> {
        let follows = |merge_request: &MergeRequest| {
            merge_request.state == Stage::Opened
                && merge_request.source_project == Some(source)
                && merge_request.source_branch == branch
        };
        let open: Vec<(u64, u64)> = self
            .projects
            .values()
            .flat_map(|project| {
                project.merge_requests.values().map(move |merge_request| (project.id, merge_request))
            })
            .filter(|(_, merge_request)| follows(merge_request))
            .map(|(project, merge_request)| (project, merge_request.iid))
            .collect();
        for (target, iid) in open {
            self.import_commits(target, after)?;
            self.change_merge_request(target, iid, user, |merge_request| {
                merge_request.sha = Some(after.to_owned());
                merge_request.check = Check::Unchecked;
            })?;
        }
        Ok(())
    }

    /// `state_event` of an update.
    pub(in crate::sandbox) fn set_merge_request_state(
        &mut self,
        project: u64,
        iid: u64,
        event: &str,
        user: u64,
    ) -> Result<(), Refusal> {
        let now = self.now();
        let state = self.merge_request(project, iid)?.state;
        match (event, state) {
            ("close", Stage::Opened) => {
                self.change_merge_request(project, iid, user, |merge_request| {
                    merge_request.state = Stage::Closed;
                    merge_request.closed = Some((user, now));
                })?;
                self.stop_environments_of_merge_request(project, iid, user)
            }
            ("reopen", Stage::Closed) => {
                // What was pushed meanwhile counts, without an `oldrev`.
                let closed = self.merge_request(project, iid)?;
                let source = closed.source_project.and_then(|source| self.projects.get(&source));
                let head = source.and_then(|source| source.branches.get(&closed.source_branch)).cloned();
                if let Some(head) = head {
                    self.import_commits(project, &head)?;
                    self.merge_request_mut(project, iid)?.sha = Some(head);
                    self.compare_again(project, iid)?;
                }
                self.change_merge_request(project, iid, user, |merge_request| {
                    merge_request.state = Stage::Opened;
                    merge_request.closed = None;
                    merge_request.check = Check::Unchecked;
                })
            }
            ("close" | "reopen", _) => Ok(()),
            _ => Err(Refusal::invalid("state_event does not have a valid value")),
        }
    }

    /// Merges with a merge commit.
    pub(in crate::sandbox) fn merge(&mut self, project: u64, iid: u64, user: u64) -> Result<(), Refusal> {
        let merge_request = self.merge_request(project, iid)?.clone();
        let head = merge_request
            .sha
            .clone()
            .filter(|_| merge_request.state == Stage::Opened && !merge_request.draft());
        let head = head.ok_or_else(Refusal::not_allowed)?;
        let target = &merge_request.target_branch;
        let base = self.project(project)?.branches.get(target).cloned().ok_or_else(Refusal::not_allowed)?;
        let message = format!(
            "Merge branch '{}' into '{target}'\n\n{}",
            merge_request.source_branch, merge_request.title
        );
        let sha = self.merge_commit(&base, &head, &message, user)?;
        let now = self.now();
        self.push_branch(project, target, &sha, user)?;
        self.change_merge_request(project, iid, user, |merge_request| {
            merge_request.state = Stage::Merged;
            merge_request.merged = Some((user, now));
            merge_request.merge_commit = Some(sha);
            merge_request.auto_merge = false;
        })?;
        self.stop_environments_of_merge_request(project, iid, user)?;
        let source = merge_request.source_project.filter(|_| merge_request.remove_source_branch);
        match source {
            Some(source) => self.delete_branch(source, &merge_request.source_branch, user),
            None => Ok(()),
        }
    }

    /// A commit with the parents `[base, head]` and the head's files over the base's; no branch moves.
    pub(in crate::sandbox) fn merge_commit(
        &mut self,
        base: &str,
        head: &str,
        message: &str,
        user: u64,
    ) -> Result<String, Refusal> {
        let files = self.commit(head)?.tree.clone();
        let changes: Vec<_> = files
            .into_iter()
            .map(|(path, content)| crate::sandbox::repository::Change::Write(path, content.to_vec()))
            .collect();
        self.add_commit(&[base.to_owned(), head.to_owned()], &changes, message, user)
    }
}
