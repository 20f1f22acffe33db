//! What GitLab is asked, and how little: a first deploy, a quiet hour, and a world without webhooks.

use serde_json::json;

use crate::support::{PATIENCE, gitlab::Call, until, world::World};

/// The calls of greenroom's own token since the `from`th.
async fn calls(world: &World, from: usize) -> Vec<Call> {
    world.gitlab.calls().await.split_off(from)
}

#[tokio::test]
async fn a_first_deploy_asks_gitlab_no_more_than_it_must() {
    let world = World::start().await;
    world.rests().await;
    let before = world.gitlab.calls().await.len();
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    world.becomes(mr, "waiting").await;
    world.build(mr, "one").await;
    world.becomes(mr, "ready").await;
    world.rests().await;
    let calls: Vec<_> = calls(&world, before).await.into_iter().filter(is_ours).collect();
    let writes = calls.iter().filter(|call| call.method != "GET").count();
    // Once in a store's life it is asked whether another instance was here before.
    let once = calls.iter().filter(|call| call.path.contains("/environments?search=")).count();
    // Where GitLab's news of what greenroom wrote comes late, there is another look, of three calls.
    let looks = calls.iter().filter(|call| call.path.contains("/merge_requests/1?")).count();
    let enough = 16 + once + 3 * looks.saturating_sub(2);
    assert!(calls.len() <= enough && writes <= 6, "{} calls, {writes} writes: {calls:#?}", calls.len());
    assert!(looks <= 5, "{looks} looks: {calls:#?}");
    world.ends_well().await;
}

#[tokio::test]
async fn where_nothing_changes_a_resync_asks_for_lists_only() {
    let world = World::start_with(&[("GREENROOM_RESYNC_INTERVAL", "1s")]).await;
    for branch in ["one", "two", "three"] {
        world.ready_mr(branch, branch).await;
    }
    // The comments touched their merge requests: the next resync looks at each once more.
    let quiet = || async {
        let before = world.gitlab.calls().await.len();
        let lists = until("three resyncs", PATIENCE, || async {
            let calls = calls(&world, before).await;
            let lists = calls.iter().filter(|call| is_list(call)).count();
            (lists >= 3).then_some(calls)
        });
        lists.await.into_iter().filter(|call| is_ours(call) && !is_list(call)).collect::<Vec<_>>()
    };
    let environments = |call: &Call| call.method == "GET" && call.path.contains("/environments?");
    until("nothing but lists is asked for", PATIENCE, || async {
        let others = quiet().await;
        if others.iter().all(environments) { Ok(()) } else { Err(others) }
    })
    .await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_wildcard_finds_projects_that_never_delivered() {
    let settings = [("GREENROOM_RESYNC_INTERVAL", "1s"), ("GREENROOM_PROJECTS", "acme/*")];
    let world = World::start_with(&settings).await;
    world.gitlab.fault(json!({ "deliveries": { "lose": true } })).await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    world.build(mr, "one").await;
    world.becomes(mr, "ready").await;
    world.shows(mr, "one").await;
    world.gitlab.merge(mr).await;
    world.becomes(mr, "stopped").await;
    world.is_gone(mr).await;
    world.ends_well().await;
}

fn is_ours(call: &Call) -> bool {
    call.user.as_deref().is_some_and(|user| user != "dev")
}

fn is_list(call: &Call) -> bool {
    call.path.contains("/merge_requests?") && call.path.contains("state=opened")
}
