//! GitLab in doubt: whatever it answers for a minute, nothing of an open merge request is removed or stopped. And without
//! any webhook the world is right after a resync.

use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::{Value, json};

use crate::support::{
    PATIENCE, until,
    world::{World, page},
};

const MINUTE: Duration = Duration::from_mins(1);

/// At least so many calls are answered badly in that minute; on an idle machine it is hundreds.
const MANY: usize = 20;

/// What GitLab does.
#[derive(Debug, Clone, Copy)]
enum Doubt {
    /// Answers with this status, content type and body.
    Answers(u16, &'static str, &'static str),
    Hangs,
}

use Doubt::{Answers, Hangs};

const DOUBTS: [Doubt; 7] = [
    Answers(500, "application/json", r#"{"message":"500 Internal Server Error"}"#),
    Answers(401, "application/json", r#"{"message":"401 Unauthorized"}"#),
    Answers(403, "text/html", "<html>blocked</html>"),
    Answers(404, "application/json", r#"{"message":"404 Not found"}"#),
    Answers(200, "application/json", "[]"),
    Answers(200, "text/html", "<html>maintenance</html>"),
    Hangs,
];

/// Where it does so, as method and path.
const PLACES: [(&str, &str); 3] = [
    // The list of merge requests alone: each of them is shown when asked for.
    ("GET", "*/merge_requests"),
    // Each merge request alone: the list shows it.
    ("GET", "*/merge_requests/[0-9]"),
    ("*", "*"),
];

/// The environments, where a stop by hand is read.
const ENVIRONMENTS: (&str, &str) = ("GET", "*/environments*");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minute_of_doubt_removes_nothing_and_a_close_works_afterwards() {
    let worlds = PLACES.iter().flat_map(|place| DOUBTS.map(|doubt| (*place, doubt)));
    let worlds = worlds.chain([(ENVIRONMENTS, DOUBTS[3]), (ENVIRONMENTS, DOUBTS[4])]);
    let worlds = worlds.map(|(place, doubt)| tokio::spawn(async move { bears(place, doubt).await }));
    for ended in join_all(worlds).await {
        ended.unwrap();
    }
}

/// What must not change.
async fn what_is_there(world: &World) -> (Vec<Value>, Vec<String>, Vec<Option<String>>) {
    let files = std::fs::read_dir(world.greenroom.data().join("static/previews")).unwrap();
    let mut files: Vec<_> =
        files.map(|file| file.unwrap().file_name().to_string_lossy().into_owned()).collect();
    files.sort();
    let comments = vec![world.gitlab.comment(1).await, world.gitlab.comment(2).await];
    (world.gitlab.environments().await, files, comments)
}

async fn bears((method, path): (&'static str, &str), doubt: Doubt) {
    let settings = [
        ("GREENROOM_PROJECTS", "acme/web"),
        ("GREENROOM_RESYNC_INTERVAL", "1s"),
        // Short only where it is waited for: a slow machine answers late, and after such a minute the next try is far off.
        ("GREENROOM_GITLAB_TIMEOUT", if matches!(doubt, Hangs) { "2s" } else { "30s" }),
    ];
    let world = World::unjudged("acme/web", &settings).await;
    let (one, two) = (world.ready_mr("one", "one").await, world.ready_mr("two", "two").await);
    a_resync_passes(&world).await;
    let before = what_is_there(&world).await;

    let on = world.wire.on(method, path).always();
    match doubt {
        Answers(status, kind, body) => on.answer(status, &[("content-type", kind)], body),
        Hangs => on.hang(),
    }
    let calls = world.wire.calls().len();
    let seen =
        || if method == "*" { world.wire.calls().len() - calls } else { world.wire.count(method, path) };
    let (already, began) = (seen(), Instant::now());
    for n in 0.. {
        // Somebody edits them all the time, so that webhook and list give a reason to look.
        world.gitlab.edit(one, json!({ "labels": n.to_string() })).await;
        world.gitlab.edit(two, json!({ "labels": n.to_string() })).await;
        let minute = began.elapsed() >= MINUTE;
        for _ in 0..4 {
            world.shows(one, "one").await;
            world.shows(two, "two").await;
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        assert_eq!(what_is_there(&world).await, before, "{method} {path}, {doubt:?}");
        if minute && seen() >= already + MANY {
            break;
        }
        assert!(began.elapsed() < 5 * MINUTE, "{method} {path}, {doubt:?}: only {} calls", seen() - already);
    }
    let meant = |call: &crate::support::wire::Call| call.method == "DELETE" || call.path.contains("/stop");
    let removing: Vec<_> = world.wire.calls().split_off(calls).into_iter().filter(meant).collect();
    assert!(removing.is_empty(), "{method} {path}, {doubt:?}: {removing:#?}");
    world.wire.heal();

    // PATIENCE is well below the five minutes between two tries at what failed for so long: it is the webhook, and the
    // resync, that find the end.
    world.gitlab.close(one).await;
    world.gitlab.drain().await;
    world.gitlab.fault(json!({ "deliveries": { "lose": true } })).await;
    world.gitlab.close(two).await;
    for mr in [one, two] {
        world.becomes(mr, "stopped").await;
        world.is_gone(mr).await;
    }
    world.ends_well().await;
}

/// The net alone, and fast.
async fn deaf_world() -> World {
    let world =
        World::start_with(&[("GREENROOM_PROJECTS", "acme/web"), ("GREENROOM_RESYNC_INTERVAL", "1s")]).await;
    world.gitlab.fault(json!({ "deliveries": { "lose": true } })).await;
    world
}

/// Waits until the list of open merge requests has been read twice more, and all that came of it is done.
async fn a_resync_passes(world: &World) {
    let lists = || world.wire.count("GET", "*/merge_requests");
    let before = lists();
    until("two resyncs", PATIENCE, || async { (lists() >= before + 2).then_some(()) }).await;
    world.rests().await;
}

#[tokio::test]
async fn without_any_webhook_the_resync_sees_it_all() {
    let world = deaf_world().await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    world.becomes(mr, "waiting").await;

    let pipeline = world.gitlab.start_pipeline(mr).await;
    until("the job is waited for", PATIENCE, || async {
        let preview = world.preview(mr).await.unwrap();
        let reason = preview["reason"].as_str().unwrap_or_default();
        (reason == format!("job `build` of pipeline {} has not finished", pipeline.id)).then_some(())
    })
    .await;
    world.gitlab.fail_job(pipeline.job).await;
    world.becomes(mr, "failed").await;
    let again = world.gitlab.retry(pipeline.job).await;
    world.gitlab.succeed_job(again, &[("dist/index.html", &page("one"))]).await;
    world.becomes(mr, "ready").await;
    world.shows(mr, "one").await;

    world.gitlab.edit(mr, json!({ "labels": "some" })).await;
    world.gitlab.edit(mr, json!({ "title": "Draft: a feature" })).await;
    a_resync_passes(&world).await;
    world.shows(mr, "one").await;

    world.gitlab.push("feature", &[("a", "2")]).await;
    world.becomes(mr, "waiting").await;
    world.build(mr, "two").await;
    world.becomes(mr, "ready").await;
    world.shows(mr, "two").await;

    world.gitlab.close(mr).await;
    world.becomes(mr, "stopped").await;
    world.is_gone(mr).await;
    world.gitlab.reopen(mr).await;
    world.becomes(mr, "ready").await;
    world.shows(mr, "two").await;

    world.gitlab.edit(mr, json!({ "title": "A feature" })).await;
    world.gitlab.merge(mr).await;
    world.becomes(mr, "stopped").await;
    world.is_gone(mr).await;
    let deliveries = world.gitlab.deliveries().await;
    let heard =
        deliveries.iter().filter(|one| one["status"] == "sent" && one["object_kind"] != "push").count();
    assert_eq!(heard, 0, "{deliveries:#?}");
    world.ends_well().await;
}

#[tokio::test]
async fn a_stop_by_hand_is_noticed_without_a_webhook_stays_and_ends_with_a_new_head() {
    let world = deaf_world().await;
    let mr = world.ready_mr("feature", "one").await;
    let other = world.ready_mr("other", "other").await;
    a_resync_passes(&world).await;
    world.gitlab.stop_environment(mr).await;
    let stopped = world.becomes(mr, "stopped").await;
    assert_eq!(stopped["reason"], "somebody stopped the environment in GitLab");
    world.is_gone(mr).await;

    // Nothing but a new head brings it back: no resync, no edit, no start, no other pipeline.
    world.gitlab.edit(mr, json!({ "labels": "some" })).await;
    world.build(mr, "again").await;
    a_resync_passes(&world).await;
    world.greenroom.restart().await;
    a_resync_passes(&world).await;
    assert_eq!(world.becomes(mr, "stopped").await["reason"], stopped["reason"]);
    world.is_gone(mr).await;
    world.shows(other, "other").await;

    world.gitlab.push("feature", &[("a", "2")]).await;
    world.becomes(mr, "waiting").await;
    world.build(mr, "two").await;
    world.becomes(mr, "ready").await;
    world.shows(mr, "two").await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_deleted_branch_of_an_open_merge_request_changes_nothing() {
    let world = deaf_world().await;
    // Of a merge request's pipeline, and of a branch's: GitLab stops what was deployed from a branch that is deleted.
    let one = world.ready_mr("one", "one").await;
    let two = world.gitlab.open_mr("two", "two").await;
    let jobs = json!([{ "name": "build", "status": "success", "artifact": { "files": { "dist/index.html": page("two") } } }]);
    world.gitlab.act("pipelines", json!({ "ref": "two", "jobs": jobs })).await;
    world.becomes(two, "ready").await;
    a_resync_passes(&world).await;
    let before = world.gitlab.environments().await;
    for (mr, branch) in [(one, "one"), (two, "two")] {
        world.gitlab.delete_branch(branch).await;
        assert_eq!(world.gitlab.mr(mr).await["state"], "opened");
    }
    a_resync_passes(&world).await;
    for (mr, text) in [(one, "one"), (two, "two")] {
        world.becomes(mr, "ready").await;
        world.shows(mr, text).await;
    }
    assert_eq!(world.gitlab.environments().await, before);
    world.ends_well().await;
}

#[tokio::test]
async fn a_locked_merge_request_counts_as_open() {
    let world = World::start_with(&[("GREENROOM_RESYNC_INTERVAL", "1s")]).await;
    let mr = world.ready_mr("feature", "one").await;
    world.rests().await;
    // As GitLab does while it merges; the list of open ones does not have it then.
    let mut shown = world.gitlab.mr(mr).await;
    shown["state"] = "locked".into();
    world.wire.on("GET", "*/merge_requests").always().answer(
        200,
        &[("content-type", "application/json")],
        "[]",
    );
    let json = [("content-type", "application/json")];
    world.wire.on("GET", &format!("*/merge_requests/{mr}")).always().answer(200, &json, &shown.to_string());
    world.gitlab.edit(mr, json!({ "labels": "some" })).await;
    until("it is seen to be locked", PATIENCE, || async {
        let preview = world.preview(mr).await.unwrap();
        if preview["decision"][0] == "merge request !1 is locked, which counts as open" {
            Ok(())
        } else {
            Err(preview)
        }
    })
    .await;
    a_resync_passes(&world).await;
    world.shows(mr, "one").await;
    assert_eq!(world.gitlab.environments().await[0]["state"], "available");
    world.wire.heal();
    world.gitlab.merge(mr).await;
    world.becomes(mr, "stopped").await;
    world.is_gone(mr).await;
    world.ends_well().await;
}
