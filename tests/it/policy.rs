//! Which merge requests get a preview, as conversations: what a project's `when` excludes and lets in again, and the
//! bounds that the operator sets.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{
    PATIENCE,
    gitlab::Gitlab,
    until,
    world::{World, page},
};

/// A world whose projects say this below the usual keys.
async fn world_with(more: &str) -> World {
    world_within("", more).await
}

/// The same, within these bounds.
async fn world_within(bounds: &str, more: &str) -> World {
    let world = World::start_with_file(&[], bounds).await;
    write_file(&world, "main", more).await;
    world
}

async fn write_file(world: &World, branch: &str, more: &str) {
    let file = format!("version: 1\nengine: static\nstatic: {{job: build, path: dist}}\n{more}");
    world.gitlab.push(branch, &[(".greenroom.yml", &file)]).await;
}

/// Waits until the preview went for this reason, and its comment says what to do.
async fn goes(world: &World, mr: u64, reason: &str, next: &str) {
    let stopped = world.becomes(mr, "stopped").await;
    assert_eq!(stopped["reason"], reason);
    world.is_gone(mr).await;
    let comment = world.gitlab.comment(mr).await.expect("a comment");
    assert!(comment.contains(&reason[1..]) && comment.contains(next), "{comment}");
    assert!(stopped["next"].as_str().unwrap().contains(next), "{stopped}");
}

/// Waits until it is skipped for this reason; nobody is told by a comment.
async fn is_skipped(world: &World, mr: u64, reason: &str, next: &str) -> Value {
    let skipped = world.becomes(mr, "skipped").await;
    assert_eq!((&skipped["reason"], &skipped["next"]), (&json!(reason), &json!(next)));
    assert_eq!(world.gitlab.comment(mr).await, None, "skipped makes no comment");
    skipped
}

/// Waits until it is back without a push.
async fn comes_back(world: &World, mr: u64, text: &str) {
    world.becomes(mr, "ready").await;
    world.shows(mr, text).await;
}

#[tokio::test]
async fn a_draft_goes_and_comes_with_its_mark() {
    let world = world_with("when: {drafts: false}\n").await;
    let why = "the merge request is a draft, and `.greenroom.yml` wants none (`when.drafts`)";
    let mr = world.gitlab.open_mr("feature", "Draft: A feature").await;
    world.build(mr, "one").await;
    let skipped = is_skipped(&world, mr, why, "Marking it as ready brings a preview.").await;
    let rules: Vec<_> =
        skipped["decision"].as_array().unwrap().iter().map(|rule| rule.as_str().unwrap()).collect();
    assert_eq!(
        rules,
        [
            "merge request !1 is open",
            "`.greenroom.yml` asks for engine static with job `build`",
            "it is a draft, and `when.drafts` is false"
        ]
    );

    world.gitlab.edit(mr, json!({ "title": "A feature" })).await;
    comes_back(&world, mr, "one").await;
    world.gitlab.edit(mr, json!({ "title": "Draft: A feature" })).await;
    goes(&world, mr, why, "Marking it as ready brings it back.").await;
    // Whatever happens to a draft, it stays one; the comment stays as it is.
    world.gitlab.push("feature", &[("a", "2")]).await;
    world.build(mr, "two").await;
    world.rests().await;
    world.becomes(mr, "stopped").await;
    world.gitlab.edit(mr, json!({ "title": "A feature" })).await;
    comes_back(&world, mr, "two").await;
    world.ends_well().await;
}

#[tokio::test]
async fn labels_are_asked_for_and_ruled_out() {
    let world = world_with("when: {labels: {any: [preview, ui], none: [no-preview]}}\n").await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    world.build(mr, "one").await;
    let missing = "the merge request has none of the labels that `.greenroom.yml` asks for (`when.labels.any`): \
                   `preview`, `ui`";
    is_skipped(&world, mr, missing, "One of these labels brings a preview.").await;
    // Case counts, as in GitLab.
    world.gitlab.edit(mr, json!({ "labels": "UI,Preview" })).await;
    world.rests().await;
    is_skipped(&world, mr, missing, "One of these labels brings a preview.").await;

    world.gitlab.edit(mr, json!({ "add_labels": "ui" })).await;
    comes_back(&world, mr, "one").await;
    world.gitlab.edit(mr, json!({ "add_labels": "no-preview" })).await;
    let excluded =
        "the merge request has the label `no-preview`, which `.greenroom.yml` excludes (`when.labels.none`)";
    goes(&world, mr, excluded, "Taking the label away brings it back.").await;
    world.gitlab.edit(mr, json!({ "remove_labels": "no-preview" })).await;
    comes_back(&world, mr, "one").await;
    world.gitlab.edit(mr, json!({ "labels": "" })).await;
    goes(&world, mr, missing, "One of these labels brings it back.").await;
    world.ends_well().await;
}

#[tokio::test]
async fn another_target_branch_takes_it_away_and_brings_it_back() {
    let world = world_with("when: {target_branches: [main, 'release/*']}\n").await;
    for branch in ["dev", "release/1.0/hotfix"] {
        world.gitlab.push(branch, &[("b", "1")]).await;
    }
    let mr = world.ready_mr("feature", "one").await;
    world.gitlab.edit(mr, json!({ "target_branch": "dev" })).await;
    let why = "the merge request goes to branch `dev`, and `.greenroom.yml` asks for others \
               (`when.target_branches`): `main`, `release/*`";
    goes(&world, mr, why, "Another target branch brings it back.").await;
    world.gitlab.edit(mr, json!({ "target_branch": "release/1.0/hotfix" })).await;
    comes_back(&world, mr, "one").await;
    world.ends_well().await;
}

#[tokio::test]
async fn what_changes_none_of_the_paths_gets_nothing_until_it_does() {
    let world = world_with("when: {paths: ['web/**']}\n").await;
    world.gitlab.push("main", &[("web/old.js", "1"), ("api/a", "1")]).await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    world.build(mr, "one").await;
    let why = "the merge request changes no file that `.greenroom.yml` asks for (`when.paths`): `web/**`";
    is_skipped(&world, mr, why, "A push that changes such a file brings a preview.").await;

    world.gitlab.push("feature", &[("web/new.js", "2")]).await;
    world.build(mr, "two").await;
    let ready = world.becomes(mr, "ready").await;
    let rule = json!("it changes `web/new.js`, which `when.paths` asks for");
    assert!(ready["decision"].as_array().unwrap().contains(&rule), "{ready:#}");
    // The old path of a rename counts as well.
    world.gitlab.remove_file("feature", "web/new.js").await;
    let rename = json!({
        "branch": "feature", "commit_message": "Move",
        "actions": [{ "action": "move", "previous_path": "web/old.js", "file_path": "api/old.js" }],
    });
    world.gitlab.commit(rename).await;
    world.build(mr, "three").await;
    comes_back(&world, mr, "three").await;
    // Back to what the target has: nothing of it is left.
    let back = json!({
        "branch": "feature", "commit_message": "Move back",
        "actions": [{ "action": "move", "previous_path": "api/old.js", "file_path": "web/old.js" }],
    });
    world.gitlab.commit(back).await;
    goes(&world, mr, why, "A push that changes such a file brings it back.").await;
    world.ends_well().await;
}

#[tokio::test]
async fn an_unchanged_merge_request_is_not_asked_for_its_files_again() {
    let world = world_with("when: {paths: ['web/**']}\n").await;
    world.gitlab.push("old", &[("b", "1")]).await;
    world.gitlab.push("main", &[("c", "1")]).await;
    world.gitlab.push("feature", &[("web/a", "1")]).await;
    let mr = world.ready_mr("feature", "one").await;
    world.rests().await;
    let asked = world.wire.count("GET", "*/diffs*");
    assert_eq!(asked, 1, "once for the one head");
    for label in ["a", "b"] {
        world.gitlab.edit(mr, json!({ "add_labels": label })).await;
        world.rests().await;
    }
    assert_eq!(world.wire.count("GET", "*/diffs*"), asked);
    // Another target that the branch left earlier is another comparison.
    world.gitlab.edit(mr, json!({ "target_branch": "old" })).await;
    world.rests().await;
    assert_eq!(world.wire.count("GET", "*/diffs*"), asked + 1);
    world.becomes(mr, "ready").await;
    world.ends_well().await;
}

#[tokio::test]
async fn without_paths_nobody_asks_for_files() {
    let world = world_with("when: {drafts: false, labels: {none: [no-preview]}, paths: []}\n").await;
    world.ready_mr("feature", "one").await;
    world.rests().await;
    assert_eq!(world.wire.count("GET", "*/diffs*"), 0);
    world.ends_well().await;
}

#[tokio::test]
async fn more_files_than_gitlab_lists_count_as_a_match() {
    let world = world_with("when: {paths: ['web/**']}\n").await;
    let names: Vec<_> = (0..1001).map(|n| format!("many/{n:04}")).collect();
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), "x")).collect();
    world.gitlab.push("feature", &files).await;
    let mr = world.ready_mr("feature", "many").await;
    let ready = world.becomes(mr, "ready").await;
    let rule = json!("it changes more files than GitLab lists, which counts as a match of `when.paths`");
    assert!(ready["decision"].as_array().unwrap().contains(&rule), "{ready:#}");
    assert_eq!(world.wire.count("GET", "*/diffs*"), 0, "the merge request says so itself");
    world.ends_well().await;
}

#[tokio::test]
async fn an_empty_list_of_files_takes_nothing_away() {
    let world = world_with("when: {paths: ['web/**']}\n").await;
    world.gitlab.push("feature", &[("web/a", "1")]).await;
    let mr = world.ready_mr("feature", "one").await;
    world.wire.on("GET", "*/diffs*").always().answer(200, &[("content-type", "application/json")], "[]");
    world.gitlab.push("feature", &[("web/b", "2")]).await;
    world.build(mr, "two").await;
    world.becomes(mr, "ready").await;
    world.shows(mr, "two").await;
    world.wire.heal();
    world.ends_well().await;
}

#[tokio::test]
async fn files_that_gitlab_has_not_compared_yet_are_waited_for() {
    let world = world_with("when: {paths: ['web/**']}\n").await;
    world.gitlab.push("feature", &[("web/a", "1")]).await;
    let mr = world.ready_mr("feature", "one").await;
    world.rests().await;
    let mut unprepared = world.gitlab.mr(mr).await;
    world.gitlab.fault(json!({ "deliveries": { "lose": true } })).await;
    let sha = world.gitlab.push("feature", &[("web/b", "2")]).await;
    world.gitlab.drain().await;
    world.gitlab.fault(json!({ "deliveries": { "lose": false } })).await;
    // GitLab shows the new head beside the old comparison.
    unprepared["sha"] = json!(sha);
    world.wire.on("GET", &format!("*/merge_requests/{mr}")).always().answer(
        200,
        &[("content-type", "application/json")],
        &unprepared.to_string(),
    );
    world.gitlab.edit(mr, json!({ "add_labels": "x" })).await;
    let waiting = world.becomes(mr, "waiting").await;
    assert_eq!(waiting["reason"], "GitLab has not told yet which files the merge request changes");
    world.shows(mr, "one").await;
    world.wire.heal();
    world.build(mr, "two").await;
    comes_back(&world, mr, "two").await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_typo_in_a_label_takes_away_only_what_it_excludes() {
    let world = world_with("when: {labels: {any: [preview]}}\n").await;
    let mut ready = Vec::new();
    for branch in ["first", "second"] {
        let mr = world.gitlab.open_mr(branch, branch).await;
        world.gitlab.edit(mr, json!({ "labels": "preview" })).await;
        world.build(mr, branch).await;
        world.becomes(mr, "ready").await;
        ready.push(mr);
    }
    let without = world.gitlab.open_mr("third", "third").await;
    world.build(without, "third").await;
    world.becomes(without, "skipped").await;

    write_file(&world, "first", "when: {labels: {any: [previw]}}\n").await;
    let why = "the merge request has none of the labels that `.greenroom.yml` asks for (`when.labels.any`): `previw`";
    goes(&world, ready[0], why, "One of these labels brings it back.").await;
    world.rests().await;
    world.shows(ready[1], "second").await;
    world.becomes(without, "skipped").await;

    write_file(&world, "first", "when: {labels: {any: [preview]}}\n").await;
    world.build(ready[0], "mended").await;
    comes_back(&world, ready[0], "mended").await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_glob_that_is_none_is_told_with_its_place_and_what_serves_stays() {
    let world = world_with("").await;
    let mr = world.ready_mr("feature", "one").await;
    write_file(&world, "feature", "when: {paths: ['web/[']}\n").await;
    let failed = world.becomes(mr, "failed").await;
    let reason = failed["reason"].as_str().unwrap();
    assert!(reason.contains("line 4, column 16: `'web/[' is no glob"), "{reason}");
    world.shows(mr, "one").await;
    world.ends_well().await;
}

#[tokio::test]
async fn an_excluded_life_goes_on_counting() {
    let world = world_with("expires_after: 7d\nwhen: {labels: {none: [no-preview]}}\n").await;
    let mr = world.ready_mr("feature", "one").await;
    let expires = world.becomes(mr, "ready").await["expires_at"].clone();
    world.gitlab.edit(mr, json!({ "labels": "no-preview" })).await;
    assert_eq!(world.becomes(mr, "stopped").await["expires_at"], Value::Null);
    world.gitlab.edit(mr, json!({ "labels": "" })).await;
    assert_eq!(world.becomes(mr, "ready").await["expires_at"], expires, "a label buys no time");
    world.ends_well().await;
}

#[tokio::test]
async fn a_lifetime_is_cut_to_what_the_operator_allows() {
    let bounds = "[[project]]\nmatch = ['acme/*']\nmax_lifetime = '2h'\n";
    let world = world_within(bounds, "expires_after: 7d\n").await;
    let mr = world.ready_mr("feature", "one").await;
    let ready = world.becomes(mr, "ready").await;
    let time = |name: &str| ready[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let lives = time("expires_at").duration_since(time("created_at"));
    assert!(lives.as_hours() < 3, "{ready:#}");
    let rule = json!("`expires_after: 7d` is cut to 2h, as the server's settings say (greenroom.toml:3)");
    assert!(ready["decision"].as_array().unwrap().contains(&rule), "{ready:#}");
    world.ends_well().await;
}

#[tokio::test]
async fn an_engine_that_is_not_allowed_deploys_nothing_and_says_who_decides() {
    let world = world_within("[[project]]\nmatch = ['acme/web']\nengines = []\n", "").await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    world.build(mr, "one").await;
    let failed = world.becomes(mr, "failed").await;
    assert_eq!(
        failed["reason"],
        "the server's settings (`greenroom.toml:3`) let this project use no engine, and `.greenroom.yml` asks for `static`"
    );
    let comment = world.gitlab.comment(mr).await.unwrap();
    assert!(
        comment.contains("The operator of greenroom decides which engines a project may use."),
        "{comment}"
    );
    assert_eq!(world.gitlab.environments().await, Vec::<Value>::new());
    world.ends_well().await;
}

#[tokio::test]
async fn who_comes_when_all_places_are_taken_waits_for_one() {
    let world = world_within("[[project]]\nmatch = ['**']\nmax_previews = 1\n", "").await;
    let first = world.ready_mr("first", "first").await;
    let second = world.gitlab.open_mr("second", "second").await;
    world.build(second, "second").await;
    let full = "the server's settings (`greenroom.toml:3`) let this project run 1 preview at once, and all of them run";
    waits(&world, second, full).await;
    let comment = world.gitlab.comment(second).await.unwrap();
    assert!(comment.contains("It begins by itself when another one goes"), "{comment}");
    // Who has a place keeps it.
    world.gitlab.push("first", &[("a", "2")]).await;
    world.build(first, "first again").await;
    comes_back(&world, first, "first again").await;
    waits(&world, second, full).await;

    world.gitlab.close(first).await;
    world.becomes(first, "stopped").await;
    comes_back(&world, second, "second").await;
    world.ends_well().await;
}

async fn waits(world: &World, mr: u64, reason: &str) {
    until("it waits for a place", PATIENCE, || async {
        let preview = world.becomes(mr, "waiting").await;
        if preview["reason"] == reason { Ok(()) } else { Err(preview) }
    })
    .await;
}

#[tokio::test]
async fn of_many_that_come_at_once_as_many_run_as_there_is_room_for() {
    const ROOM: usize = 2;
    let world = world_within("[[project]]\nmatch = ['**']\nmax_previews = 2\n", "").await;
    let mut open = Vec::new();
    for n in 0..6 {
        open.push(world.gitlab.open_mr(&format!("feature-{n}"), "A feature").await);
    }
    for mr in &open {
        world.build(*mr, &format!("number {mr}")).await;
    }
    while !open.is_empty() {
        let running = ROOM.min(open.len());
        let states = until("all places are taken, and the rest waits", PATIENCE, || async {
            let mut states = BTreeMap::new();
            for mr in &open {
                let preview = world.greenroom.preview(Gitlab::PROJECT, *mr).await.ok_or("not known yet")?;
                let state = preview["state"].as_str().unwrap().to_owned();
                states.entry(state).or_insert_with(Vec::new).push(*mr);
            }
            let count = |state: &str| states.get(state).map_or(0, Vec::len);
            assert!(
                count("ready") + count("deploying") <= ROOM,
                "more run than there is room for: {states:?}"
            );
            let settled = count("ready") == running && count("waiting") == open.len() - running;
            if settled { Ok(states) } else { Err(format!("{states:?}")) }
        })
        .await;
        let goes = states["ready"][0];
        let (status, body) = world.visit(goes, "/").await;
        assert_eq!((status, body), (200, page(&format!("number {goes}"))));
        world.gitlab.close(goes).await;
        open.retain(|mr| *mr != goes);
    }
    world.ends_well().await;
}

#[tokio::test]
async fn a_place_that_nobody_needs_any_more_is_passed_on() {
    let world = world_within("[[project]]\nmatch = ['**']\nmax_previews = 1\n", "").await;
    let first = world.ready_mr("first", "first").await;
    let mut waiting = Vec::new();
    for branch in ["second", "third"] {
        let mr = world.gitlab.open_mr(branch, branch).await;
        world.build(mr, branch).await;
        until("it waits for a place", PATIENCE, || async {
            let reason = world.becomes(mr, "waiting").await["reason"].clone();
            if reason.as_str().unwrap().contains("at once") { Ok(()) } else { Err(reason) }
        })
        .await;
        waiting.push(mr);
    }
    // The one that has waited longest gives up before there is room, the other one is next.
    world.gitlab.close(waiting[0]).await;
    world.becomes(waiting[0], "stopped").await;
    world.gitlab.close(first).await;
    comes_back(&world, waiting[1], "third").await;
    world.ends_well().await;
}
