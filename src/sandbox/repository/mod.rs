//! The repository without git: commits hold their whole tree. A ref is a branch, a tag, a SHA (or
//! its beginning), `HEAD`, or `refs/merge-requests/<iid>/{head,merge,train}`, which stays after the
//! merge request is closed.

mod archive;
mod branches;
mod commits;
mod files;
mod push;

pub(super) use push::Push;

use super::{projects::Project, refusal::Refusal, state::State};
use actix_web::web;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, sync::Arc};

/// "No commit": what a push has before a branch is new and after it is deleted.
pub(super) const ZERO: &str = "0000000000000000000000000000000000000000";

/// One commit.
#[derive(Debug, Clone)]
pub(super) struct Commit {
    pub(super) sha: String,
    pub(super) parents: Vec<String>,
    pub(super) message: String,
    pub(super) author_name: String,
    pub(super) author_email: String,
    pub(super) at: Timestamp,
    pub(super) tree: BTreeMap<String, Arc<[u8]>>,
    pub(super) added: Vec<String>,
    pub(super) modified: Vec<String>,
    pub(super) removed: Vec<String>,
}

impl Commit {
    pub(super) fn title(&self) -> &str {
        self.message.lines().next().unwrap_or_default()
    }
}

/// One file's change in a commit.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// Fails if the file exists.
    Create(String, Vec<u8>),
    /// Fails if the file does not exist.
    Update(String, Vec<u8>),
    /// Whether it exists or not.
    Write(String, Vec<u8>),
    /// Fails if the file does not exist.
    Delete(String),
    /// Fails if the old path does not exist; without content it is kept.
    Move { from: String, to: String, content: Option<Vec<u8>> },
}

impl Change {
    pub(super) fn write(path: &str, content: impl Into<Vec<u8>>) -> Self {
        Self::Write(path.to_owned(), content.into())
    }
}

impl Project {
    /// The SHA a ref stands for.
    pub(super) fn resolve(&self, name: &str) -> Option<String> {
        let special = || {
            let (iid, which) = name.strip_prefix("refs/merge-requests/")?.split_once('/')?;
            let merge_request = self.merge_requests.get(&iid.parse().ok()?)?;
            match which {
                "head" => merge_request.sha.clone(),
                "merge" => merge_request.merge_ref.clone(),
                "train" => merge_request.train_ref.clone(),
                _ => None,
            }
        };
        let branch = name.strip_prefix("refs/heads/").unwrap_or(name);
        let tag = name.strip_prefix("refs/tags/").unwrap_or(name);
        let by_sha = || {
            let abbreviated = name.len() >= 7 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
            let beginning = || self.objects.iter().find(|sha| abbreviated && sha.starts_with(name));
            self.objects.get(name).or_else(beginning).cloned()
        };
        self.branches
            .get(branch)
            .or_else(|| self.tags.get(tag))
            .or_else(|| self.branches.get(&self.default_branch).filter(|_| name == "HEAD"))
            .cloned()
            .or_else(special)
            .or_else(by_sha)
    }

    /// Like [`Project::resolve`]; GitLab's own refusal when nothing is there.
    pub(super) fn commit_of(&self, name: &str) -> Result<String, Refusal> {
        self.resolve(name).ok_or_else(|| Refusal::not_found("Commit"))
    }
}

impl State {
    /// Makes a commit on top of `parents` (the first one gives the tree); no branch moves.
    pub(super) fn add_commit(
        &mut self,
        parents: &[String],
        changes: &[Change],
        message: &str,
        author: u64,
    ) -> Result<String, Refusal> {
        let base = parents.first().and_then(|parent| self.commits.get(parent));
        let mut tree = base.map(|commit| commit.tree.clone()).unwrap_or_default();
        let (mut added, mut modified, mut removed) = (Vec::new(), Vec::new(), Vec::new());
        for change in changes {
            match change {
                Change::Create(path, _) if tree.contains_key(path) => {
                    return Err(Refusal::bad_request("A file with this name already exists"));
                }
                Change::Update(path, _) | Change::Delete(path) | Change::Move { from: path, .. }
                    if !tree.contains_key(path) =>
                {
                    return Err(Refusal::bad_request("A file with this name doesn't exist"));
                }
                Change::Create(path, content)
                | Change::Update(path, content)
                | Change::Write(path, content) => {
                    let before = tree.insert(path.clone(), content.as_slice().into());
                    if before.is_some() { &mut modified } else { &mut added }.push(path.clone());
                }
                Change::Delete(path) => {
                    tree.remove(path);
                    removed.push(path.clone());
                }
                Change::Move { from, to, content } => {
                    let kept = tree.remove(from);
                    let content = content.as_deref().map(Into::into).or(kept).unwrap_or_default();
                    tree.insert(to.clone(), content);
                    removed.push(from.clone());
                    added.push(to.clone());
                }
            }
        }
        let at = self.now();
        let (author_name, author_email) = self.users.get(&author).map_or_else(
            || ("Nobody".to_owned(), "nobody@example.com".to_owned()),
            |user| (user.name.clone(), format!("{}@example.com", user.username)),
        );
        let seed = format!("{parents:?} {message} {at} {}", self.commits.len());
        let sha = hex::encode(Sha256::digest(seed))[..40].to_owned();
        let (parents, message) = (parents.to_vec(), message.to_owned());
        let commit =
            Commit { sha, parents, message, author_name, author_email, at, tree, added, modified, removed };
        let sha = commit.sha.clone();
        self.commits.insert(sha.clone(), commit);
        Ok(sha)
    }

    pub(super) fn commit(&self, sha: &str) -> Result<&Commit, Refusal> {
        self.commits.get(sha).ok_or_else(|| Refusal::not_found("Commit"))
    }

    /// The commit and all it descends from, newest first.
    pub(super) fn ancestry(&self, sha: &str) -> Vec<&Commit> {
        let mut seen = std::collections::HashSet::new();
        let mut waiting = vec![sha];
        let mut commits = Vec::new();
        while let Some(sha) = waiting.pop() {
            if let Some(commit) = self.commits.get(sha).filter(|_| seen.insert(sha)) {
                waiting.extend(commit.parents.iter().rev().map(String::as_str));
                commits.push(commit);
            }
        }
        commits
    }

    /// What `head` has and `base` has not, newest first.
    pub(super) fn commits_between(&self, base: &str, head: &str) -> Vec<&Commit> {
        let known: std::collections::HashSet<_> =
            self.ancestry(base).iter().map(|commit| &commit.sha).collect();
        self.ancestry(head).into_iter().filter(|commit| !known.contains(&commit.sha)).collect()
    }

    /// Gives the project a commit that came by a merge request's refs or a push.
    pub(super) fn import_commits(&mut self, project: u64, sha: &str) -> Result<(), Refusal> {
        let shas: Vec<_> = self.ancestry(sha).iter().map(|commit| commit.sha.clone()).collect();
        self.project_mut(project)?.objects.extend(shas);
        Ok(())
    }
}

pub(super) fn routes(api: &mut web::ServiceConfig) {
    archive::routes(api);
    branches::routes(api);
    commits::routes(api);
    files::routes(api);
}
