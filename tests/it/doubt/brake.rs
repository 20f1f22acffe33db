//! The brake: many removals at once that may be a mistake wait for an operator.

use insta::assert_snapshot;
use serde_json::Value;

use super::{many_ready, metric, says, warnings, while_away};
use crate::support::{PATIENCE, gitlab::Gitlab, until, world::World};

const FILE: &str = "version: 1\nengine: static\nstatic: {job: build, path: dist}\n";

async fn start() -> World {
    World::start_with(&[("GREENROOM_BRAKE_SETTLE", "1s")]).await
}

/// The project file goes from the branches of these, while nobody looks.
async fn lose_files(world: &World, of: &[u64]) {
    while_away(world, async || {
        for mr in of {
            world.gitlab.remove_file(&format!("feature-{mr}"), ".greenroom.yml").await;
        }
    })
    .await;
    world.greenroom.restart().await;
}

async fn brake(world: &World) -> Value {
    world.greenroom.get("/api/v1/brake").await.json().await.unwrap()
}

/// Waits until as many removals are held, and none of them is on its way.
async fn holds(world: &World, mrs: &[u64]) -> Value {
    for mr in mrs {
        says(world, *mr, &format!("kept: the brake holds {} removals", mrs.len())).await;
    }
    let state = brake(world).await;
    assert_eq!((&state["engaged"], &state["held"]), (&true.into(), &mrs.len().into()), "{state:#}");
    state
}

async fn is_open(world: &World) {
    until("the brake is open and nothing is wanted", PATIENCE, || async {
        let state = brake(world).await;
        let open = state["engaged"] == false && state["removals"] == Value::Array(Vec::new());
        if open && metric(world, "greenroom_brake").await == 0 { Ok(()) } else { Err(state) }
    })
    .await;
}

/// What the verb prints, without times.
fn told(world: &World, args: &[&str]) -> String {
    let (status, text) = world.greenroom.verb(args);
    assert!(status.success(), "{args:?}: {text}");
    let word = |word: &str| if word.ends_with('Z') { "(time)".to_owned() } else { word.to_owned() };
    text.lines().map(|line| line.split(' ').map(word).collect::<Vec<_>>().join(" ") + "\n").collect()
}

#[tokio::test]
async fn six_of_eight_files_vanish_and_an_operator_lets_them_go() {
    let world = start().await;
    let mrs = many_ready(&world, 8).await;
    lose_files(&world, &mrs[..6]).await;
    let state = holds(&world, &mrs[..6]).await;
    assert_eq!(state["live"], 8, "{state:#}");
    assert!(state["removals"].as_array().unwrap().iter().all(|removal| removal["cause"] == "project_file"));
    for mr in &mrs {
        world.shows(*mr, &mr.to_string()).await;
    }
    assert_eq!(metric(&world, "greenroom_brake").await, 6);
    assert!(warnings(&world).await.contains(&"brake".to_owned()));
    let comment = world.gitlab.comment(1).await.unwrap();
    assert!(comment.contains("Kept: the brake holds 6 removals that were wanted at once"), "{comment}");
    assert_snapshot!(told(&world, &["brake"]), @"
the brake holds 6 removals, for they are many of 8 previews; mend the cause, or let them go on with `greenroom brake --release`
acme/web!1  (time)  the branch has no `.greenroom.yml` any more
acme/web!2  (time)  the branch has no `.greenroom.yml` any more
acme/web!3  (time)  the branch has no `.greenroom.yml` any more
acme/web!4  (time)  the branch has no `.greenroom.yml` any more
acme/web!5  (time)  the branch has no `.greenroom.yml` any more
acme/web!6  (time)  the branch has no `.greenroom.yml` any more
");

    assert_snapshot!(told(&world, &["brake", "--release"]), @"
let go on: 6
acme/web!1  (time)  the branch has no `.greenroom.yml` any more
acme/web!2  (time)  the branch has no `.greenroom.yml` any more
acme/web!3  (time)  the branch has no `.greenroom.yml` any more
acme/web!4  (time)  the branch has no `.greenroom.yml` any more
acme/web!5  (time)  the branch has no `.greenroom.yml` any more
acme/web!6  (time)  the branch has no `.greenroom.yml` any more
");
    for mr in &mrs[..6] {
        world.becomes(*mr, "stopped").await;
        world.is_gone(*mr).await;
    }
    for mr in &mrs[6..] {
        world.shows(*mr, &mr.to_string()).await;
    }
    is_open(&world).await;
    assert!(!warnings(&world).await.contains(&"brake".to_owned()));
    assert_snapshot!(told(&world, &["brake"]), @"the brake is open; no removal is wanted");
    let logged = "the brake holds removals";
    let log = world.greenroom.logs(logged, 1).await;
    assert_eq!(log.matches(logged).count(), 1, "it is logged once");
    world.ends_well().await;
}

#[tokio::test]
async fn six_of_eight_files_vanish_and_come_back() {
    let world = start().await;
    let mrs = many_ready(&world, 8).await;
    lose_files(&world, &mrs[..6]).await;
    holds(&world, &mrs[..6]).await;
    // A close is no doubt; nor is it one of the many.
    world.gitlab.close(mrs[0]).await;
    world.becomes(mrs[0], "stopped").await;
    world.is_gone(mrs[0]).await;
    for mr in &mrs[1..6] {
        world.gitlab.push(&format!("feature-{mr}"), &[(".greenroom.yml", FILE)]).await;
    }
    is_open(&world).await;
    for mr in &mrs[1..6] {
        world.becomes(*mr, "waiting").await;
        world.shows(*mr, &mr.to_string()).await;
        world.build(*mr, "again").await;
        world.becomes(*mr, "ready").await;
    }
    world.ends_well().await;
}

/// Enough come back for the others not to be many any more: these go on by themselves.
#[tokio::test]
async fn the_brake_opens_by_itself_when_few_are_left() {
    let world =
        World::start_with(&[("GREENROOM_RESYNC_INTERVAL", "5s"), ("GREENROOM_BRAKE_SETTLE", "1s")]).await;
    let mrs = many_ready(&world, 5).await;
    lose_files(&world, &mrs[..4]).await;
    holds(&world, &mrs[..4]).await;
    world.gitlab.push(&format!("feature-{}", mrs[0]), &[(".greenroom.yml", FILE)]).await;
    for mr in &mrs[1..4] {
        world.becomes(*mr, "stopped").await;
        world.is_gone(*mr).await;
    }
    world.shows(mrs[0], &mrs[0].to_string()).await;
    is_open(&world).await;
    world.rests().await;
}

#[tokio::test]
async fn a_third_is_not_too_much() {
    let world = start().await;
    let mrs = many_ready(&world, 12).await;
    lose_files(&world, &mrs[..4]).await;
    for mr in &mrs[..4] {
        world.becomes(*mr, "stopped").await;
        world.is_gone(*mr).await;
    }
    is_open(&world).await;
    // One more within the same while is one too many.
    lose_files(&world, &mrs[4..5]).await;
    says(&world, mrs[4], "kept: the brake holds 1 removals").await;
    world.shows(mrs[4], &mrs[4].to_string()).await;
    world.rests().await;
}

#[tokio::test]
async fn a_single_removal_among_several_is_told_before_and_done_soon() {
    let world = start().await;
    let mrs = many_ready(&world, 4).await;
    world.gitlab.remove_file("feature-2", ".greenroom.yml").await;
    let stopped = world.becomes(mrs[1], "stopped").await;
    world.is_gone(mrs[1]).await;
    let told = stopped["history"].to_string();
    assert!(
        told.contains("it is about to be removed: the branch has no `.greenroom.yml` any more"),
        "{told}"
    );
    world.shows(mrs[0], "1").await;
    world.ends_well().await;
}

/// A lifetime that ends while the brake holds the preview ends it: an expiry never counts.
#[tokio::test]
async fn what_is_held_still_expires() {
    let world = start().await;
    let file = format!("{FILE}expires_after: 1h\n");
    world.gitlab.push("main", &[(".greenroom.yml", &file)]).await;
    let mrs = many_ready(&world, 4).await;
    lose_files(&world, &mrs).await;
    holds(&world, &mrs).await;
    world.greenroom.terminate().await;
    world.greenroom.age(mrs[0], std::time::Duration::from_hours(2)).await;
    world.greenroom.restart().await;
    let preview = says(&world, mrs[0], "its lifetime ended at").await;
    assert_eq!(preview["project_id"], Gitlab::PROJECT);
    world.becomes(mrs[0], "stopped").await;
    world.is_gone(mrs[0]).await;
    world.rests().await;
}
