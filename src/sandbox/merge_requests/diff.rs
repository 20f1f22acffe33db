//! What a merge request changes: two trees compared, from where the source branch left the target branch to the head.
//!
//! GitLab compares when a merge request is opened, pushed to, reopened, or gets another target, and keeps the result. It
//! lists at most [`MOST_FILES`]; with more, `changes_count` ends in `+` and the list is cut.

use super::MergeRequest;
use crate::sandbox::{
    pagination::paginate,
    params::Params,
    refusal::{Answer, Refusal},
    state::{Gitlab, State},
    users::{Caller, GUEST},
};
use actix_web::{HttpRequest, web};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// `diff_max_files` of a fresh instance.
const MOST_FILES: usize = 1000;

static NOTHING: BTreeMap<String, Arc<[u8]>> = BTreeMap::new();

/// One changed file.
#[derive(Debug, PartialEq, Eq)]
struct Change<'state> {
    old_path: &'state str,
    new_path: &'state str,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Added,
    Modified,
    Renamed,
    Deleted,
}

impl Change<'_> {
    fn json(&self) -> Value {
        json!({
            "diff": "",
            "collapsed": false,
            "too_large": false,
            "new_path": self.new_path,
            "old_path": self.old_path,
            "a_mode": if self.kind == Kind::Added { "0" } else { "100644" },
            "b_mode": if self.kind == Kind::Deleted { "0" } else { "100644" },
            "new_file": self.kind == Kind::Added,
            "renamed_file": self.kind == Kind::Renamed,
            "deleted_file": self.kind == Kind::Deleted,
            "generated_file": false,
        })
    }
}

impl State {
    /// Compares anew, as GitLab does after whatever moves one of the two ends.
    pub(super) fn compare_again(&mut self, project: u64, iid: u64) -> Result<(), Refusal> {
        let known = self.project(project)?;
        let merge_request = self.merge_request(project, iid)?;
        let target = known.branches.get(&merge_request.target_branch).cloned();
        let base = target.zip(merge_request.sha.as_deref()).and_then(|(target, head)| {
            let of_target: BTreeSet<_> = self.ancestry(&target).iter().map(|commit| &commit.sha).collect();
            // The newest common commit: ancestries are listed from the head down.
            let shared = self.ancestry(head).into_iter().find(|commit| of_target.contains(&commit.sha));
            shared.map(|commit| commit.sha.clone())
        });
        if base.is_some() {
            self.merge_request_mut(project, iid)?.base_sha = base;
        }
        Ok(())
    }

    /// What the API calls `changes_count`: text, and at most `1000+`.
    pub(super) fn changes_count(&self, merge_request: &MergeRequest) -> Value {
        if merge_request.sha.is_none() {
            return Value::Null;
        }
        let count = self.changes(merge_request).len();
        Value::from(if count > MOST_FILES { format!("{MOST_FILES}+") } else { count.to_string() })
    }

    fn changes(&self, merge_request: &MergeRequest) -> Vec<Change<'_>> {
        let tree = |sha: &Option<String>| {
            sha.as_ref().and_then(|sha| self.commits.get(sha)).map(|commit| &commit.tree)
        };
        let before = tree(&merge_request.base_sha).unwrap_or(&NOTHING);
        let after = tree(&merge_request.sha).unwrap_or(&NOTHING);
        let mut deleted: Vec<_> = before.iter().filter(|(path, _)| !after.contains_key(*path)).collect();
        let mut changes = Vec::new();
        for (path, content) in after {
            let change = match before.get(path) {
                Some(old) if old == content => continue,
                Some(_) => Change { old_path: path, new_path: path, kind: Kind::Modified },
                None => match deleted.iter().position(|(_, old)| *old == content) {
                    Some(at) => {
                        Change { old_path: deleted.remove(at).0, new_path: path, kind: Kind::Renamed }
                    }
                    None => Change { old_path: path, new_path: path, kind: Kind::Added },
                },
            };
            changes.push(change);
        }
        changes.extend(deleted.into_iter().map(|(path, _)| Change {
            old_path: path,
            new_path: path,
            kind: Kind::Deleted,
        }));
        changes.sort_by_key(|change| change.new_path);
        changes
    }
}

pub(super) async fn list(
    gitlab: Gitlab,
    caller: Caller,
    request: HttpRequest,
    path: web::Path<(String, u64)>,
    params: Params,
) -> Answer {
    let (project, iid) = path.into_inner();
    let state = gitlab.lock();
    let project = state.enter(&caller, &project, GUEST)?;
    let changes = state.changes(state.merge_request(project, iid)?);
    let shown: Vec<_> = changes.iter().take(MOST_FILES).map(Change::json).collect();
    Ok(paginate(&request, &params, &shown))
}
