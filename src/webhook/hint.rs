//! What a payload asks us to look at. Pure: bytes in, [`Meaning`] out.
//!
//! A hint only names somebody. Nothing that a payload says *about* a merge request is acted upon, because by the time it
//! is read GitLab may know better; whoever looks, asks GitLab. So in doubt the answer is [`Meaning::Look`], except for
//! events that are frequent and cannot matter. A hint that is dropped here costs time, never correctness: the resync
//! finds what no hint told us.

use super::intake::Outcome;
use super::payload::{
    DeploymentHook, JobHook, Kind, MergeRequestHook, NoteHook, Owner, PipelineHook, Place, PushHook,
    Unreadable, fit, parse,
};
use crate::preview::{PreviewKey, ProjectId, WorkKey, merge_request_of_environment};

/// The command that makes a note ours.
const COMMAND: &str = "/greenroom";

/// The longest kind that is repeated in a log, in characters.
const LONGEST_KIND: usize = 64;

/// What a delivery asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// Look at somebody again.
    Look {
        /// At whom.
        key: WorkKey,
        /// The project that is in, with its path.
        project: (ProjectId, String),
        /// Whether this is a merge request that was just reopened.
        reopened: bool,
    },
    /// An event that changes nothing for us; why.
    Irrelevant(&'static str),
    /// Of a project (its path) that the settings do not serve.
    Foreign(String),
    /// A kind of event that GitLab did not document when this was written.
    Unknown(String),
    /// A payload that cannot be used; why, without anything that stood in it.
    Unreadable(String),
}

impl Meaning {
    /// The path of the project that it is of, where it names one.
    pub(super) fn project_path(&self) -> Option<&str> {
        match self {
            Self::Look { project: (_, path), .. } | Self::Foreign(path) => Some(path),
            _ => None,
        }
    }

    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Look { .. } => Outcome::Look,
            Self::Irrelevant(_) => Outcome::Irrelevant,
            Self::Foreign(_) => Outcome::Foreign,
            Self::Unknown(_) => Outcome::Unknown,
            Self::Unreadable(_) => Outcome::Unreadable,
        }
    }
}

/// Reads one delivery. `projects` tells whether the project with this path is served; it spares us work and is no
/// permission, since anybody with the secret may write any path.
pub fn read(event_header: &str, body: &[u8], projects: &dyn Fn(&str) -> bool) -> Meaning {
    match meaning(event_header, body) {
        Ok(Meaning::Look { project: (_, path), .. }) if !projects(&path) => Meaning::Foreign(path),
        Ok(meaning) => meaning,
        Err(Unreadable(why)) => Meaning::Unreadable(why),
    }
}

/// Goes by what the body says of itself: all system hooks come with one and the same header.
fn meaning(event_header: &str, body: &[u8]) -> Result<Meaning, Unreadable> {
    let Kind { object_kind, event_name } = parse(body)?;
    let Some(kind) = object_kind.or(event_name) else { return Ok(unknown(event_header)) };
    match kind.as_str() {
        "merge_request" => merge_request(parse(body)?),
        "pipeline" => pipeline(parse(body)?),
        "build" => job(parse(body)?),
        "push" => push(parse(body)?),
        "note" => note(parse(body)?),
        "deployment" => deployment(parse(body)?),
        other => Ok(uninteresting(other).map_or_else(|| unknown(other), Meaning::Irrelevant)),
    }
}

fn look_at(place: Place, iid: u64, reopened: bool) -> Meaning {
    let key = WorkKey::Preview(PreviewKey::of_mr(place.id, iid));
    Meaning::Look { key, project: (place.id, place.path), reopened }
}

fn look_at_branch(place: Place, branch: String) -> Meaning {
    Meaning::Look { key: WorkKey::Branch(place.id, branch), project: (place.id, place.path), reopened: false }
}

fn look_at_owner(place: Place, owner: Owner) -> Meaning {
    match owner {
        Owner::MergeRequest(iid) => look_at(place, iid, false),
        Owner::Ref { tag: true, .. } => Meaning::Irrelevant("a tag is of no merge request"),
        Owner::Ref { name, .. } => match merge_request_of_ref(&name) {
            Some((iid, "head" | "merge")) => look_at(place, iid, false),
            Some((_, "train")) => Meaning::Irrelevant("a merge train deploys nothing"),
            _ => look_at_branch(place, name),
        },
    }
}

/// The parts of `refs/merge-requests/<iid>/<what>`.
fn merge_request_of_ref(name: &str) -> Option<(u64, &str)> {
    let (iid, what) = name.strip_prefix("refs/merge-requests/")?.split_once('/')?;
    Some((iid.parse().ok().and_then(fit)?, what))
}

/// The merge request of a preview's environment. Whoever writes a job names its environment as they like.
fn merge_request_of(environment: Option<&str>) -> Option<u64> {
    merge_request_of_environment(environment?).and_then(fit)
}

fn merge_request(hook: MergeRequestHook) -> Result<Meaning, Unreadable> {
    let (place, iid, action) = hook.read()?;
    Ok(match action.as_deref() {
        Some("approved" | "approval" | "unapproved" | "unapproval") => {
            Meaning::Irrelevant("an approval changes no preview")
        }
        action => look_at(place, iid, action == Some("reopen")),
    })
}

fn pipeline(hook: PipelineHook) -> Result<Meaning, Unreadable> {
    if matches!(
        hook.status(),
        Some("created" | "waiting_for_resource" | "preparing" | "pending" | "running" | "canceling")
    ) {
        return Ok(Meaning::Irrelevant("the pipeline has not finished"));
    }
    let (place, owner) = hook.read()?;
    Ok(look_at_owner(place, owner))
}

fn job(mut hook: JobHook) -> Result<Meaning, Unreadable> {
    if !matches!(hook.build_status.as_deref(), Some("success" | "failed" | "canceled" | "skipped" | "manual"))
    {
        return Ok(Meaning::Irrelevant("the job has not finished"));
    }
    let place = hook.place()?;
    let environment = hook.environment.as_ref();
    let ours = environment
        .filter(|it| matches!(it.action.as_deref(), Some("start" | "stop")))
        .and_then(|it| merge_request_of(it.name.as_deref()));
    Ok(match ours {
        Some(iid) => look_at(place, iid, false),
        None => look_at_owner(place, hook.reference()?),
    })
}

fn push(hook: PushHook) -> Result<Meaning, Unreadable> {
    Ok(match hook.deleted_branch()? {
        Some((place, branch)) => look_at_branch(place, branch),
        None => Meaning::Irrelevant("the merge request's own event tells of a push"),
    })
}

fn note(mut hook: NoteHook) -> Result<Meaning, Unreadable> {
    let note = hook.note()?;
    if note.noteable_type.as_deref() != Some("MergeRequest") {
        return Ok(Meaning::Irrelevant("the comment is on no merge request"));
    }
    if note.system == Some(true) || !has_command(note.note.as_deref().unwrap_or_default()) {
        return Ok(Meaning::Irrelevant("the comment has no command for us"));
    }
    let (place, iid) = hook.read()?;
    Ok(look_at(place, iid, false))
}

/// Whether a line of `markdown` starts with our command, outside of fenced code.
fn has_command(markdown: &str) -> bool {
    let mut fence: Option<(char, usize)> = None;
    for line in markdown.lines().map(str::trim_start) {
        let mark = line.chars().next().filter(|c| matches!(c, '`' | '~'));
        let length = mark.map_or(0, |mark| line.chars().take_while(|c| *c == mark).count());
        match (fence, mark) {
            (None, Some(mark)) if length >= 3 => fence = Some((mark, length)),
            (Some((opened, least)), Some(mark)) if mark == opened && length >= least => fence = None,
            (None, _) if line.split_whitespace().next() == Some(COMMAND) => return true,
            _ => {}
        }
    }
    false
}

fn deployment(hook: DeploymentHook) -> Result<Meaning, Unreadable> {
    let Some(iid) = merge_request_of(hook.environment.as_deref()) else {
        return Ok(Meaning::Irrelevant("the environment is no preview's"));
    };
    if hook.deployable_url.is_none() {
        return Ok(Meaning::Irrelevant("no job made the deployment, so greenroom itself did"));
    }
    Ok(look_at(hook.place()?, iid, false))
}

/// Why a documented kind of event is none of our business; `None` when GitLab documents no such kind.
fn uninteresting(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "tag_push" => "a tag is of no merge request",
        "issue" | "work_item" | "milestone" | "emoji" | "wiki_page" => "planning and talk change no preview",
        "release" | "feature_flag" | "vulnerability" => "it is about the project, not about a merge request",
        "access_token" | "deploy_token" => "it is about a token's end",
        "repository_update" => "the merge request's own event tells of a push",
        "project_create" | "project_destroy" | "project_rename" | "project_transfer" | "project_update" => {
            "previews do not follow what happens to a project"
        }
        "group_create" | "group_destroy" | "group_rename" | "subgroup_create" | "subgroup_destroy" => {
            "it is about a group"
        }
        "key_create" | "key_destroy" => "it is about a user's keys",
        "user_create"
        | "user_destroy"
        | "user_failed_login"
        | "user_rename"
        | "user_add_to_team"
        | "user_remove_from_team"
        | "user_update_for_team"
        | "user_add_to_group"
        | "user_remove_from_group"
        | "user_update_for_group"
        | "user_access_request_to_project"
        | "user_access_request_to_group"
        | "user_access_request_revoked_for_project"
        | "user_access_request_revoked_for_group"
        | "gitlab_subscription_member_approval"
        | "gitlab_subscription_member_approvals" => "it is about a user",
        _ => return None,
    })
}

/// A kind, fit to be logged.
fn unknown(kind: &str) -> Meaning {
    Meaning::Unknown(kind.chars().filter(|c| !c.is_control()).take(LONGEST_KIND).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn meaning_of(body: &Value) -> Meaning {
        read("Test Hook", body.to_string().as_bytes(), &|path| path == "acme/web")
    }

    fn project() -> Value {
        json!({"id": 42, "path_with_namespace": "acme/web", "web_url": "https://gitlab.example/acme/web"})
    }

    fn look(key: &str) -> Meaning {
        Meaning::Look { key: key.parse().unwrap(), project: (42, "acme/web".into()), reopened: false }
    }

    #[test]
    fn a_job_tells_of_the_merge_request_of_its_ref_or_environment() {
        let job = |reference: &str, tag: bool, environment: Value| {
            meaning_of(&json!({
                "object_kind": "build", "build_status": "success", "ref": reference, "tag": tag,
                "environment": environment, "project_id": 42, "project": project(),
            }))
        };
        let environment = |action| json!({"name": "review/mr-7", "action": action, "deployment_tier": 1});
        assert_eq!(job("feature/a", false, Value::Null), look("branch:42:feature/a"));
        assert_eq!(job("refs/merge-requests/7/head", false, Value::Null), look("mr:42!7"));
        assert_eq!(job("refs/merge-requests/7/merge", false, Value::Null), look("mr:42!7"));
        assert_eq!(
            job("refs/merge-requests/7/train", false, Value::Null),
            Meaning::Irrelevant("a merge train deploys nothing")
        );
        assert_eq!(job("v1", true, Value::Null), Meaning::Irrelevant("a tag is of no merge request"));
        assert_eq!(job("main", false, environment("stop")), look("mr:42!7"));
        assert_eq!(job("main", false, environment("start")), look("mr:42!7"));
        assert_eq!(job("main", false, environment("prepare")), look("branch:42:main"));
        assert_eq!(job("main", false, json!({"name": "staging", "action": "stop"})), look("branch:42:main"));
    }

    #[test]
    fn a_deployment_tells_of_its_preview_unless_we_made_it() {
        let deployment = |environment: &str, url: Value| {
            meaning_of(&json!({
                "object_kind": "deployment", "environment": environment, "deployable_url": url, "project": project(),
            }))
        };
        let job = json!("https://gitlab.example/acme/web/-/jobs/1");
        assert_eq!(deployment("review/mr-7", job.clone()), look("mr:42!7"));
        assert!(matches!(deployment("review/mr-7", Value::Null), Meaning::Irrelevant(_)));
        assert!(matches!(deployment("production", job.clone()), Meaning::Irrelevant(_)));
        assert!(matches!(deployment(&format!("review/mr-{}", u64::MAX), job), Meaning::Irrelevant(_)));
    }

    #[test]
    fn a_comment_counts_when_a_line_of_it_is_a_command() {
        for (note, ours) in [
            ("/greenroom stop", true),
            ("Thanks!\r\n\r\n  /greenroom refresh\r\n", true),
            ("/greenroom", true),
            ("/greenrooms", false),
            ("please /greenroom stop", false),
            ("> /greenroom stop", false),
            ("`/greenroom stop`", false),
            ("```\n/greenroom stop\n```", false),
            ("~~~ sh\n```\n/greenroom stop\n~~~", false),
            ("````\n```\n/greenroom stop\n````\n/greenroom stop", true),
            ("", false),
        ] {
            let body = json!({
                "object_kind": "note", "project_id": 42, "project": project(), "merge_request": {"iid": 7},
                "object_attributes": {"noteable_type": "MergeRequest", "note": note, "system": false},
            });
            assert_eq!(meaning_of(&body) == look("mr:42!7"), ours, "{note:?}");
        }
    }

    #[test]
    fn unknown_actions_are_looked_at_and_unknown_kinds_are_named() {
        let body = json!({
            "object_kind": "merge_request", "labels": 7, "changes": "none", "user": null,
            "object_attributes": {
                "iid": 7, "target_project_id": 42, "action": "teleport", "last_commit": [],
                "target": {"path_with_namespace": "acme/web"},
            },
        });
        assert_eq!(meaning_of(&body), look("mr:42!7"));
        let long = "x\n".repeat(100);
        assert_eq!(meaning_of(&json!({"object_kind": long})), Meaning::Unknown("x".repeat(64)));
        assert_eq!(meaning_of(&json!({})), Meaning::Unknown("Test Hook".into()));
    }

    #[test]
    fn what_happens_in_a_project_that_is_not_served_is_foreign() {
        let body = json!({
            "object_kind": "pipeline", "object_attributes": {"ref": "main"},
            "project": {"id": 1, "path_with_namespace": "acme/secret"},
        });
        assert_eq!(meaning_of(&body), Meaning::Foreign("acme/secret".into()));
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_meaning(body in any::<Vec<u8>>()) {
            let looks = matches!(read("Push Hook", &body, &|_| true), Meaning::Look { .. });
            prop_assert!(!looks);
        }
    }
}
