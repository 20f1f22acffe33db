//! `push` and `tag_push` bodies: at most the newest 20 commits, oldest first.

use crate::sandbox::{
    json::with,
    refusal::Refusal,
    repository::{Commit, Push, ZERO},
    state::State,
};
use serde_json::{Value, json};

const MAX_COMMITS: usize = 20;

pub(in crate::sandbox) fn push(
    state: &State,
    project: u64,
    push: &Push,
    user: u64,
) -> Result<Value, Refusal> {
    let known = state.project(project)?;
    let pusher = state.users.get(&user);
    let deleted = push.after == ZERO;
    let tag = push.reference.starts_with("refs/tags/");
    // A new branch has the commits that the default branch has not.
    let default = known.branches.get(&known.default_branch).map_or(ZERO, String::as_str);
    let base = if push.before == ZERO { default } else { &push.before };
    let commits = if deleted { Vec::new() } else { state.commits_between(base, &push.after) };
    let full = |commit: &&Commit| {
        let files = json!({ "added": commit.added, "modified": commit.modified, "removed": commit.removed });
        with(super::commit(state, known, commit), files)
    };
    let mut newest: Vec<_> = commits.iter().take(MAX_COMMITS).map(full).collect();
    newest.reverse();
    let kind = if tag { "tag_push" } else { "push" };
    Ok(json!({
        "object_kind": kind,
        "event_name": kind,
        "before": push.before,
        "after": push.after,
        "ref": push.reference,
        "ref_protected": push.reference.strip_prefix("refs/heads/") == Some(known.default_branch.as_str()),
        "checkout_sha": (!deleted).then_some(&push.after),
        "message": null,
        "user_id": user,
        "user_name": pusher.map(|user| &user.name),
        "user_username": pusher.map(|user| &user.username),
        "user_email": "",
        "user_avatar": null,
        "project_id": project,
        "project": super::project(state, known),
        "commits": newest,
        "total_commits_count": commits.len(),
        "push_options": {},
        "repository": super::repository(state, known),
    }))
}
