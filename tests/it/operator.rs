//! What an operator asks for: stop and refresh, at any moment, whatever GitLab says, also across a crash.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, stream};
use serde_json::{Value, json};

use crate::support::{PATIENCE, gitlab::Gitlab, until, world::World};

/// The operator asks for it; what the API answers.
async fn asks(world: &World, mr: u64, intent: &str) -> Value {
    let path = format!("/api/v1/previews/{}/{mr}/{intent}", Gitlab::PROJECT);
    let answer = world.greenroom.post(&path).send().await.unwrap();
    assert_eq!(answer.status(), 202);
    answer.json().await.unwrap()
}

/// Lines of history, oldest first.
async fn history(world: &World, mr: u64) -> Vec<String> {
    let preview = world.preview(mr).await.unwrap();
    let lines = preview["history"].as_array().unwrap().iter().rev();
    lines.map(|line| line["text"].as_str().unwrap().to_owned()).collect()
}

/// Nothing answers at the link any more.
async fn goes(world: &World, mr: u64) {
    until(&format!("the link of !{mr} is gone"), PATIENCE, || async {
        let (status, body) = world.visit(mr, "/").await;
        if status == 410 { Ok(()) } else { Err((status, body)) }
    })
    .await;
}

#[tokio::test]
async fn what_the_operator_stops_stays_away_until_a_new_head() {
    let world = World::start().await;
    let mr = world.ready_mr("feature", "one").await;
    let asked = asks(&world, mr, "stop").await;
    assert_eq!((&asked["mr_iid"], &asked["name"]), (&json!(mr), &json!("web-42-mr-1")));

    let stopped = world.becomes(mr, "stopped").await;
    assert_eq!(stopped["reason"], "it was stopped by the operator");
    assert_eq!((&stopped["hold"]["by"], &stopped["asked"]), (&json!("operator"), &Value::Null));
    world.is_gone(mr).await;
    let comment = world.gitlab.comment(mr).await.unwrap();
    assert!(comment.contains("It was stopped by the operator."), "{comment}");
    assert!(
        comment.contains("until a new commit, a reopen or `greenroom refresh` brings it back"),
        "{comment}"
    );
    let told = history(&world, mr).await;
    let end = ["the operator asked to stop it", "it was stopped by the operator"];
    assert_eq!(told.iter().filter(|line| end.contains(&line.as_str())).count(), 3, "{told:?}");

    // Whatever happens at this head.
    world.gitlab.edit(mr, json!({ "title": "Another title" })).await;
    world.build(mr, "again").await;
    world.rests().await;
    world.greenroom.restart().await;
    world.rests().await;
    world.becomes(mr, "stopped").await;
    world.is_gone(mr).await;

    world.gitlab.push("feature", &[("a", "2")]).await;
    world.build(mr, "two").await;
    let ready = world.becomes(mr, "ready").await;
    assert_eq!(ready["hold"], Value::Null);
    world.shows(mr, "two").await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_refresh_and_a_reopen_bring_back_what_was_stopped() {
    let world = World::start_with(&[("GREENROOM_RESYNC_INTERVAL", "1s")]).await;
    let mr = world.ready_mr("feature", "one").await;
    asks(&world, mr, "stop").await;
    world.becomes(mr, "stopped").await;
    asks(&world, mr, "refresh").await;
    world.becomes(mr, "ready").await;
    world.shows(mr, "one").await;
    assert!(history(&world, mr).await.contains(&"the operator asked to refresh it".to_owned()));

    asks(&world, mr, "stop").await;
    world.becomes(mr, "stopped").await;
    world.gitlab.close(mr).await;
    world.rests().await;
    world.gitlab.reopen(mr).await;
    world.becomes(mr, "ready").await;

    // Somebody else's stop is lifted too.
    world.rests().await;
    world.gitlab.stop_environment(mr).await;
    world.becomes(mr, "stopped").await;
    asks(&world, mr, "refresh").await;
    world.becomes(mr, "ready").await;
    world.shows(mr, "one").await;
    world.ends_well().await;
}

#[tokio::test]
async fn files_have_nothing_to_gain_from_sleep() {
    let world = World::start().await;
    let mr = world.ready_mr("feature", "one").await;
    let path = format!("/api/v1/previews/{}/{mr}/sleep", Gitlab::PROJECT);
    let answer = world.greenroom.post(&path).send().await.unwrap();
    assert_eq!(answer.status(), 409);
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(
        problem["detail"],
        "a static preview uses nothing while nobody looks at it, so there is nothing to put to sleep"
    );
    // What is awake stays so.
    asks(&world, mr, "wake").await;
    world.rests().await;
    world.becomes(mr, "ready").await;
    world.shows(mr, "one").await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_stop_of_what_is_closed_holds_nothing_back() {
    let world = World::start_with(&[("GREENROOM_RESYNC_INTERVAL", "1s")]).await;
    let mr = world.ready_mr("feature", "one").await;
    world.gitlab.close(mr).await;
    world.becomes(mr, "stopped").await;
    asks(&world, mr, "stop").await;
    until("the stop is taken up", PATIENCE, || async {
        let preview = world.preview(mr).await.unwrap();
        if preview["asked"].is_null() { Ok(()) } else { Err(preview) }
    })
    .await;
    assert_eq!(world.preview(mr).await.unwrap()["hold"], Value::Null);
    world.gitlab.fault(json!({ "deliveries": { "lose": true } })).await;
    world.gitlab.reopen(mr).await;
    world.becomes(mr, "ready").await;
    world.shows(mr, "one").await;
    world.rests().await;
}

#[tokio::test]
async fn the_last_word_counts() {
    let world = World::start().await;
    let mr = world.ready_mr("feature", "one").await;
    world.rests().await;
    for (words, state) in
        [(["stop", "refresh"], "ready"), (["refresh", "stop"], "stopped"), (["stop", "stop"], "stopped")]
    {
        for word in words {
            asks(&world, mr, word).await;
        }
        world.rests().await;
        world.becomes(mr, state).await;
    }
    world.is_gone(mr).await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_refresh_of_what_is_ready_writes_the_comment_and_nothing_else() {
    let world = World::start().await;
    let mr = world.ready_mr("feature", "one").await;
    world.rests().await;
    let before = world.gitlab.calls().await.len();
    asks(&world, mr, "refresh").await;
    until("the refresh is taken up", PATIENCE, || async {
        let preview = world.preview(mr).await.unwrap();
        if preview["asked"].is_null() { Ok(()) } else { Err(preview) }
    })
    .await;
    world.rests().await;
    world.becomes(mr, "ready").await;
    let writes: Vec<_> = world.gitlab.calls().await.split_off(before);
    let writes = writes.into_iter().filter(|call| call.method != "GET");
    let writes: Vec<_> = writes.map(|call| format!("{} {}", call.method, call.path)).collect();
    assert!(
        writes.len() == 1 && writes[0].starts_with("PUT ") && writes[0].contains("/notes/"),
        "{writes:?}"
    );
    world.shows(mr, "one").await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_refresh_tries_again_what_was_refused() {
    let mut world = World::start_with(&[("GREENROOM_ARTIFACT_MAX_MIB", "1")]).await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let pipeline = world.gitlab.start_pipeline(mr).await;
    let noise = std::iter::repeat_with(|| uuid::Uuid::new_v4().simple().to_string());
    let noise: String = noise.take(100_000).collect();
    let page = crate::support::world::page("one");
    world.gitlab.succeed_job(pipeline.job, &[("dist/index.html", &page), ("dist/noise", &noise)]).await;
    let failed = world.becomes(mr, "failed").await;
    assert!(failed["reason"].as_str().unwrap().contains("larger than 1 MiB"), "{failed}");

    world.rests().await;
    world.greenroom.set("GREENROOM_ARTIFACT_MAX_MIB", "100");
    world.greenroom.restart().await;
    world.rests().await;
    world.becomes(mr, "failed").await;
    asks(&world, mr, "refresh").await;
    world.becomes(mr, "ready").await;
    world.shows(mr, "one").await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_refresh_begins_a_life_anew() {
    let world = World::start().await;
    let file = "version: 1\nengine: static\nstatic: {job: build, path: dist}\nexpires_after: 1h\n";
    world.gitlab.push("feature", &[(".greenroom.yml", file)]).await;
    let mr = world.ready_mr("feature", "one").await;
    world.rests().await;
    world.greenroom.terminate().await;
    world.greenroom.age(mr, Duration::from_hours(2)).await;
    world.greenroom.restart().await;
    world.becomes(mr, "stopped").await;

    asks(&world, mr, "refresh").await;
    let ready = world.becomes(mr, "ready").await;
    assert!(ready["expires_at"].is_string(), "{ready}");
    world.shows(mr, "one").await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_stop_needs_nothing_of_the_merge_request() {
    // GitLab does not show it, or is not there at all; the settings do not serve its project.
    let world = World::start().await;
    let hidden = world.ready_mr("hidden", "one").await;
    world.rests().await;
    world.wire.on("GET", "*/merge_requests/1").always().answer(404, &[], r#"{"message":"404 Not found"}"#);
    asks(&world, hidden, "stop").await;
    world.becomes(hidden, "stopped").await;
    world.is_gone(hidden).await;
    world.wire.heal();

    let away = world.ready_mr("away", "two").await;
    world.rests().await;
    world.wire.any().always().cut();
    asks(&world, away, "stop").await;
    goes(&world, away).await;
    world.wire.heal();
    world.becomes(away, "stopped").await;
    world.is_gone(away).await;
    world.becomes(hidden, "stopped").await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_stop_works_where_the_settings_do_not_serve_the_project_any_more() {
    let mut world = World::start().await;
    let mr = world.ready_mr("feature", "one").await;
    world.rests().await;
    world.greenroom.set("GREENROOM_PROJECTS", "acme/other");
    world.greenroom.restart().await;
    world.rests().await;
    world.shows(mr, "one").await;
    asks(&world, mr, "stop").await;
    world.becomes(mr, "stopped").await;
    world.is_gone(mr).await;
    world.ends_well().await;
}

#[tokio::test]
async fn what_was_answered_survives_a_crash() {
    let world = World::start().await;
    let mr = world.ready_mr("feature", "one").await;
    world.rests().await;
    world.wire.any().always().hang();
    asks(&world, mr, "stop").await;
    world.greenroom.kill9();
    world.wire.heal();
    world.greenroom.restart().await;
    world.becomes(mr, "stopped").await;
    world.is_gone(mr).await;
    world.ends_well().await;
}

/// A stop that comes at the `n`-th call of a first deploy, before GitLab hears of it. `false` when it has no such call,
/// or greenroom knew of no preview yet.
async fn stops_at(n: usize) -> bool {
    let world = World::start().await;
    let mr = world.gitlab.open_mr("feature", "one").await;
    world.becomes(mr, "waiting").await;
    world.rests().await;
    let status = Arc::new(AtomicU16::new(0));
    let (seen, operator) = (Arc::clone(&status), world.greenroom.operator());
    world.wire.any().nth(n).before(move || {
        let path = format!("/api/v1/previews/{}/{mr}/stop", Gitlab::PROJECT);
        seen.store(operator.posts_now(&path), Ordering::Relaxed);
    });
    world.build(mr, "one").await;
    until("the deploy comes to its end or is stopped", PATIENCE, || async {
        let preview = world.preview(mr).await.unwrap();
        let asked = status.load(Ordering::Relaxed) != 0;
        if asked || preview["state"] == "ready" { Ok(()) } else { Err(preview) }
    })
    .await;
    world.rests().await;
    match status.load(Ordering::Relaxed) {
        0 => {
            world.becomes(mr, "ready").await;
            world.ends_well().await;
            false
        }
        status => {
            assert_eq!(status, 202, "at call {n}");
            world.becomes(mr, "stopped").await;
            world.is_gone(mr).await;
            world.ends_well().await;
            true
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_under_way_does_not_overwrite_a_stop() {
    let stopped = stream::iter(1..=40)
        .map(stops_at)
        .buffered(4)
        .take_while(|stopped| std::future::ready(*stopped))
        .count()
        .await;
    assert!((5..40).contains(&stopped), "a first deploy makes {stopped} calls");
}
