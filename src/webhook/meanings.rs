//! What every payload in `tests/fixtures/gitlab/webhooks` means, and that no change to any of them does harm.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

use super::{Meaning, read};
use crate::preview::WorkKey;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gitlab/webhooks")
}

fn is_payload(file: &str) -> bool {
    Path::new(file).extension().is_some_and(|extension| extension == "json")
}

/// Every payload: file name, the `X-Gitlab-Event` that `SOURCES.md` has for it, body.
fn payloads() -> Vec<(String, String, Vec<u8>)> {
    let sources = std::fs::read_to_string(folder().join("SOURCES.md")).unwrap();
    sources
        .lines()
        .filter_map(|line| {
            let mut cells = line.split('|').map(str::trim).skip(1);
            let file = cells.next().filter(|cell| is_payload(cell))?;
            let body = std::fs::read(folder().join(file)).unwrap();
            Some((file.to_owned(), cells.next()?.to_owned(), body))
        })
        .collect()
}

/// A meaning as the table has it.
fn in_words(meaning: &Meaning) -> String {
    match meaning {
        Meaning::Look { key, project: (_, path), reopened } => {
            format!("{key} of {path}{}", if *reopened { ", reopened" } else { "" })
        }
        Meaning::Irrelevant(why) => format!("irrelevant: {why}"),
        Meaning::Foreign(path) => format!("foreign: {path}"),
        Meaning::Unknown(kind) => format!("unknown: {kind}"),
        Meaning::Unreadable(why) => format!("unreadable: {why}"),
    }
}

fn served(_path: &str) -> bool {
    true
}

#[test]
fn every_payload_means_what_the_table_says() {
    let mut table: BTreeMap<&str, &str> = BTreeMap::new();
    for row in MEANINGS.lines().map(str::trim).filter(|row| !row.is_empty()) {
        let (payload, meaning) = row.split_once(' ').unwrap();
        assert_eq!(table.insert(payload, meaning.trim()), None, "{payload} has two rows");
    }
    let mut files: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|file| is_payload(file))
        .collect();
    for (file, event, body) in payloads() {
        assert!(files.remove(&file), "{file} is in `SOURCES.md` but not in the folder");
        let stem = file.trim_end_matches(".json").trim_end_matches(".derived");
        let expected = table.remove(stem).unwrap_or("nothing: it has no row");
        assert_eq!(in_words(&read(&event, &body, &served)), expected, "{file}");
    }
    assert!(files.is_empty(), "not in `SOURCES.md`: {files:?}");
    assert!(table.is_empty(), "rows without a payload: {table:?}");
}

#[test]
fn the_header_of_a_system_hook_changes_nothing() {
    for (file, event, body) in payloads() {
        assert_eq!(read("System Hook", &body, &served), read(&event, &body, &served), "{file}");
    }
}

/// What must hold whatever a payload says: a key and a project that fit together and that any database can store.
fn can_be_stored(meaning: &Meaning) -> bool {
    let Meaning::Look { key, project: (id, path), .. } = meaning else { return true };
    let (owner, iid) = match key {
        WorkKey::Preview(key) => (key.project_id, key.subject.iid().expect("a merge request")),
        WorkKey::Branch(project, _) | WorkKey::Project(project) => (*project, 0),
    };
    let key = key.to_string();
    owner == *id
        && [owner, iid].into_iter().all(|number| i64::try_from(number).is_ok())
        && key.len() < 2048
        && !(key + path).contains(char::is_control)
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(json!("\0")),
        prop::sample::select(WORDS).prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(prop::sample::select(WORDS), inner, 0..8).prop_map(|fields| fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect()),
        ]
    })
}

/// Names and values that lead somewhere.
#[rustfmt::skip]
const WORDS: &[&str] = &[
    "object_kind", "event_name", "merge_request", "pipeline", "build", "push", "note", "deployment", "project", "id",
    "project_id", "path_with_namespace", "object_attributes", "iid", "target_project_id", "target", "action", "ref",
    "tag", "build_status", "success", "environment", "name", "stop", "review/mr-7", "after", "0000", "noteable_type",
    "MergeRequest", "/greenroom", "deployable_url", "acme/web",
];

/// Where every value inside of `value` is, as JSON pointers.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    let inside: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(name, inner)| (name.clone(), inner)).collect(),
        Value::Array(items) => {
            items.iter().enumerate().map(|(index, inner)| (index.to_string(), inner)).collect()
        }
        _ => return,
    };
    for (name, inner) in inside {
        let place = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
        places(inner, &place, found);
        found.push(place);
    }
}

/// Takes what is at `place` out of its object; items of arrays stay.
fn remove(value: &mut Value, place: &str) {
    let (parent, name) = place.rsplit_once('/').unwrap();
    if let Some(Value::Object(fields)) = value.pointer_mut(parent) {
        fields.remove(&name.replace("~1", "/").replace("~0", "~"));
    }
}

proptest! {
    #[test]
    fn any_json_has_a_meaning_that_can_be_stored(body in any_json()) {
        let meaning = read("Push Hook", body.to_string().as_bytes(), &served);
        prop_assert!(can_be_stored(&meaning), "{meaning:?}");
    }

    #[test]
    fn a_payload_with_a_surprise_in_it_has_a_meaning_that_can_be_stored(
        payload in any::<Index>(), place in any::<Index>(), surprise in prop::option::of(any_json()),
    ) {
        let payloads = payloads();
        let (file, event, body) = payload.get(&payloads);
        let mut body: Value = serde_json::from_slice(body).unwrap();
        let mut found = Vec::new();
        places(&body, "", &mut found);
        let place = place.get(&found);
        match surprise {
            Some(surprise) => *body.pointer_mut(place).unwrap() = surprise,
            None => remove(&mut body, place),
        }
        let meaning = read(event, body.to_string().as_bytes(), &served);
        prop_assert!(can_be_stored(&meaning), "{file} with a surprise at {place}: {meaning:?}");
    }
}

/// One row per payload: its file without `.json` and `.derived.json`, then who is looked at, or why nobody is.
const MEANINGS: &str = "
    access_token_expiring_project                      irrelevant: it is about a token's end
    deployment_canceled_v19_2                          irrelevant: the environment is no preview's
    deployment_failed_v19_2                            irrelevant: the environment is no preview's
    deployment_running_v19_2                           irrelevant: the environment is no preview's
    deployment_success                                 irrelevant: the environment is no preview's
    deployment_success_by_api_v19_2                    irrelevant: the environment is no preview's
    deployment_success_v19_2                           irrelevant: the environment is no preview's
    emoji_award_merge_request                          irrelevant: planning and talk change no preview
    emoji_award_note                                   irrelevant: planning and talk change no preview
    emoji_revoke_note                                  irrelevant: planning and talk change no preview
    feature_flag                                       irrelevant: it is about the project, not about a merge request
    issue_open                                         irrelevant: planning and talk change no preview
    job_created                                        irrelevant: the job has not finished
    job_failed                                         branch:380:gitlab-script-trigger of gitlab-org/gitlab-test
    job_failed_environment_stop                        branch:31537070:feature/booking-validation of jsmithy2/release-tools-fake
    job_manual_environment_start                       branch:31537070:feature/booking-validation of jsmithy2/release-tools-fake
    job_pending                                        irrelevant: the job has not finished
    job_running                                        irrelevant: the job has not finished
    job_running_environment_start                      irrelevant: the job has not finished
    job_success                                        branch:380:gitlab-script-trigger of gitlab-org/gitlab-test
    job_success_environment_start                      branch:31537070:main of jsmithy2/release-tools-fake
    job_success_environment_stop                       branch:31537070:feature/booking-validation of jsmithy2/release-tools-fake
    member_add                                         irrelevant: it is about a user
    merge_request_approval_v19_2                       irrelevant: an approval changes no preview
    merge_request_approved                             irrelevant: an approval changes no preview
    merge_request_approved_v19_2                       irrelevant: an approval changes no preview
    merge_request_close                                mr:32059612!4 of anbraten/woodpecker-test
    merge_request_close_fork_deleted_v19_2             mr:2!16 of flightjs/flight-management
    merge_request_close_v19_2                          mr:2!16 of flightjs/flight-management
    merge_request_group_hook_merge                     unreadable: `object_attributes.iid` is missing
    merge_request_merge                                mr:32059612!4 of anbraten/woodpecker-test
    merge_request_merge_v19_2                          mr:2!16 of flightjs/flight-management
    merge_request_open                                 mr:72081820!3 of demoaccount2-commits-group/test_ci_tmp
    merge_request_open_fork                            mr:29286785!2 of chmouel/pac-test
    merge_request_open_fork_v19_2                      mr:2!16 of flightjs/flight-management
    merge_request_open_labels                          mr:14!1 of awesome_space/awesome_project
    merge_request_open_no_commits_v19_2                mr:2!16 of flightjs/flight-management
    merge_request_open_v19_2                           mr:2!16 of flightjs/flight-management
    merge_request_reopen                               mr:72081820!1 of demoaccount2-commits-group/test_ci_tmp, reopened
    merge_request_reopen_v19_2                         mr:2!16 of flightjs/flight-management, reopened
    merge_request_unapproval_v19_2                     irrelevant: an approval changes no preview
    merge_request_unapproved                           irrelevant: an approval changes no preview
    merge_request_unapproved_v19_2                     irrelevant: an approval changes no preview
    merge_request_update_after_merge_v19_2             mr:2!16 of flightjs/flight-management
    merge_request_update_assignee                      mr:72081820!3 of demoaccount2-commits-group/test_ci_tmp
    merge_request_update_auto_merge_set_v19_2          mr:2!16 of flightjs/flight-management
    merge_request_update_draft_to_ready                mr:2!3 of sheather/test
    merge_request_update_label_added                   mr:72081820!3 of demoaccount2-commits-group/test_ci_tmp
    merge_request_update_label_preview_added_v19_2     mr:2!16 of flightjs/flight-management
    merge_request_update_label_preview_removed_v19_2   mr:2!16 of flightjs/flight-management
    merge_request_update_labels_changed                mr:72081820!3 of demoaccount2-commits-group/test_ci_tmp
    merge_request_update_labels_cleared                mr:72081820!3 of demoaccount2-commits-group/test_ci_tmp
    merge_request_update_no_oldrev                     mr:32059612!3 of anbraten/woodpecker
    merge_request_update_oldrev                        mr:32059612!3 of anbraten/woodpecker
    merge_request_update_oldrev_v19_2                  mr:2!16 of flightjs/flight-management
    merge_request_update_ready_to_draft                mr:44067058!3 of rathod.meetsatish/meet
    merge_request_update_reviewer                      mr:72081820!3 of demoaccount2-commits-group/test_ci_tmp
    merge_request_update_system_approvals_reset_v19_2  mr:2!16 of flightjs/flight-management
    merge_request_update_target_branch                 mr:910!3 of quan.hoang/atlantis-example
    merge_request_update_target_branch_v19_2           mr:2!16 of flightjs/flight-management
    merge_request_update_title_description             mr:72081820!3 of demoaccount2-commits-group/test_ci_tmp
    merge_request_update_to_draft_v19_2                mr:2!16 of flightjs/flight-management
    merge_request_update_to_ready_v19_2                mr:2!16 of flightjs/flight-management
    note_commit                                        irrelevant: the comment is on no merge request
    note_issue                                         irrelevant: the comment is on no merge request
    note_merge_request                                 irrelevant: the comment has no command for us
    note_merge_request_by_bot                          irrelevant: the comment has no command for us
    note_merge_request_command_text                    irrelevant: the comment has no command for us
    note_merge_request_diff_note                       irrelevant: the comment has no command for us
    note_merge_request_edited                          irrelevant: the comment has no command for us
    note_merge_request_internal                        irrelevant: the comment has no command for us
    note_merge_request_slash_in_code_block             irrelevant: the comment has no command for us
    note_merge_request_slash_multiline                 irrelevant: the comment has no command for us
    note_merge_request_slash_preview                   irrelevant: the comment has no command for us
    note_merge_request_system                          irrelevant: the comment has no command for us
    note_snippet                                       irrelevant: the comment is on no merge request
    pipeline_branch_canceled                           branch:1:feature/booking-validation of gitlab-org/gitlab-test
    pipeline_branch_created                            irrelevant: the pipeline has not finished
    pipeline_branch_failed                             branch:1:feature/booking-validation of gitlab-org/gitlab-test
    pipeline_branch_manual                             branch:1:feature/booking-validation of gitlab-org/gitlab-test
    pipeline_branch_pending                            irrelevant: the pipeline has not finished
    pipeline_branch_running                            irrelevant: the pipeline has not finished
    pipeline_branch_skipped                            branch:1:feature/booking-validation of gitlab-org/gitlab-test
    pipeline_branch_success                            branch:1:feature/booking-validation of gitlab-org/gitlab-test
    pipeline_branch_waiting_for_resource               irrelevant: the pipeline has not finished
    pipeline_failed_no_merge_request                   branch:24:master of manland/webhook
    pipeline_mr_detached_failed                        mr:1!1 of gitlab-org/gitlab-test
    pipeline_mr_detached_running                       irrelevant: the pipeline has not finished
    pipeline_mr_detached_success                       mr:1!1 of gitlab-org/gitlab-test
    pipeline_mr_fork_success                           mr:1!1 of gitlab-org/gitlab-test
    pipeline_pending_no_merge_request                 irrelevant: the pipeline has not finished
    pipeline_running_no_merge_request                 irrelevant: the pipeline has not finished
    pipeline_source_api_success                        branch:1:main of gitlab-org/gitlab-test
    pipeline_source_parent_pipeline_success            branch:1:main of gitlab-org/gitlab-test
    pipeline_source_schedule_success                   branch:1:main of gitlab-org/gitlab-test
    pipeline_source_trigger_success                    branch:1:main of gitlab-org/gitlab-test
    pipeline_source_web_success                        branch:1:main of gitlab-org/gitlab-test
    pipeline_success_merge_request_event               mr:1!1 of gitlab-org/gitlab-test
    pipeline_success_merge_request_single_job          mr:27743392!15 of shivamnegi94/test
    pipeline_success_no_merge_request                  branch:24:master of manland/webhook
    pipeline_success_source_pipeline                   mr:1!1 of gitlab-org/gitlab-test
    pipeline_tag_success                               irrelevant: a tag is of no merge request
    push                                               irrelevant: the merge request's own event tells of a push
    push_branch_delete                                 branch:4861503:feature of gitlab-org/hello-world
    push_merge_commit                                  irrelevant: the merge request's own event tells of a push
    push_new_branch                                    irrelevant: the merge request's own event tells of a push
    push_no_commits                                    irrelevant: the merge request's own event tells of a push
    release_create                                     irrelevant: it is about the project, not about a merge request
    release_delete                                     irrelevant: it is about the project, not about a merge request
    release_update                                     irrelevant: it is about the project, not about a merge request
    subgroup_create                                    irrelevant: it is about a group
    system_hook_merge_request                          mr:14!1 of awesome_space/awesome_project
    system_hook_merge_request_update_oldrev            mr:2!16 of flightjs/flight-management
    system_hook_project_create                         irrelevant: previews do not follow what happens to a project
    system_hook_project_destroy                        irrelevant: previews do not follow what happens to a project
    system_hook_project_rename                         irrelevant: previews do not follow what happens to a project
    system_hook_push                                   irrelevant: the merge request's own event tells of a push
    system_hook_repository_update                      irrelevant: the merge request's own event tells of a push
    system_hook_tag_push                               irrelevant: a tag is of no merge request
    tag_push                                           irrelevant: a tag is of no merge request
    tag_push_delete                                    irrelevant: a tag is of no merge request
    wiki_page                                          irrelevant: planning and talk change no preview
";
