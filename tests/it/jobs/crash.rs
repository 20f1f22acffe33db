//! `kill -9` between any two steps of what a branch's job asks for, and of what ends it: as `restart.rs` does for merge requests.

use greenroom::preview::{BranchId, Subject};
use serde_json::json;

use super::{branch::Jobs, site};
use crate::restart::Crash;
use crate::support::{
    PATIENCE,
    gitlab::Gitlab,
    until,
    world::{World, page},
};

#[derive(Debug, Clone, Copy)]
enum Part {
    Deploy,
    Teardown,
}

/// Plays `part` with a crash at its `n`-th call. `false` when it has no such call.
async fn survives(part: Part, crash: Crash, n: usize) -> bool {
    let world = World::start().await;
    let jobs = world.branch_pipeline("feature", "1").await;
    if matches!(part, Part::Teardown) {
        assert_eq!(world.deploys(&jobs, "one").await.code, 0);
    }
    world.rests().await;
    crash.plan(&world, n);
    let crashed = match part {
        Part::Deploy => deploy(&world, &jobs).await,
        Part::Teardown => teardown(&world).await,
    };
    match part {
        Part::Deploy => {
            world.branch_becomes("feature", "ready").await;
            assert_eq!(world.branch_shows("feature").await, (200, page("one")), "{crash:?} at {n}");
            world.gitlab.act(&format!("jobs/{}", jobs.deploy), json!({ "status": "success" })).await;
        }
        Part::Teardown => world.branch_is_gone("feature").await,
    }
    world.ends_well().await;
    crashed
}

/// The job asks, and waits for a server that was killed; whether it was.
async fn deploy(world: &World, jobs: &Jobs) -> bool {
    let folder = site("one");
    let args = ["deploy", folder.path().to_str().unwrap()];
    let (verb, start) = (world.in_branch(jobs.deploy, &args), started_again(world));
    tokio::pin!(verb, start);
    let (ended, crashed) = tokio::select! {
        ended = &mut verb => (ended, false),
        () = &mut start => (verb.await, true),
    };
    assert_eq!(ended.code, 0, "{}", ended.all());
    world.wire.heal();
    crashed
}

/// The branch goes, and nobody runs the stop job.
async fn teardown(world: &World) -> bool {
    world.gitlab.delete_branch("feature").await;
    let subject = Subject::Branch(BranchId::of("feature").expect("an id"));
    until("it comes to its end or to its crash", PATIENCE, || async {
        if !world.greenroom.is_running() {
            return Ok(());
        }
        match world.greenroom.try_preview(Gitlab::PROJECT, subject).await {
            Some(preview) if preview["state"] == "stopped" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let crashed = !world.greenroom.is_running();
    world.wire.heal();
    if crashed {
        world.greenroom.restart().await;
    }
    crashed
}

/// Waits until the server was killed, and starts it again.
async fn started_again(world: &World) {
    until("it is killed, or somebody else is done first", PATIENCE, || async {
        (!world.greenroom.is_running()).then_some(())
    })
    .await;
    world.wire.heal();
    world.greenroom.restart().await;
}

/// Crashes at every call of `part`.
async fn survives_everywhere(part: Part) {
    Crash::everywhere(part, |crash, n| survives(part, crash, n)).await;
}

#[tokio::test]
async fn a_crash_anywhere_in_a_branchs_deploy_changes_nothing() {
    survives_everywhere(Part::Deploy).await;
}

#[tokio::test]
async fn a_crash_anywhere_in_a_branchs_teardown_changes_nothing() {
    survives_everywhere(Part::Teardown).await;
}
