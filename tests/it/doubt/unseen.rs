//! Merge requests that GitLab does not show, and projects that the settings do not serve.

use serde_json::json;

use super::{many_ready, metric, says, warnings};
use crate::support::{PATIENCE, until, world::World};

const NOT_FOUND: &str = r#"{"message":"404 Not found"}"#;

#[tokio::test]
async fn what_gitlab_does_not_show_is_told_after_a_while_and_stays() {
    let world = World::start_with(&[("GREENROOM_UNSEEN_AFTER", "1s")]).await;
    let mr = world.ready_mr("feature", "one").await;
    world.rests().await;
    world.wire.on("GET", &format!("*/merge_requests/{mr}")).always().answer(404, &[], NOT_FOUND);
    world.gitlab.close(mr).await;
    let preview = says(&world, mr, "GitLab has not shown this merge request since 20").await;
    assert_eq!(preview["state"], "ready", "{preview:#}");
    assert_eq!(metric(&world, "greenroom_previews_unseen").await, 1);
    let (status, why) = world.greenroom.verb(&["why", &format!("42!{mr}")]);
    assert!(status.success() && why.contains("because GitLab has not shown this"), "{why}");
    world.shows(mr, "one").await;

    world.wire.heal();
    world.gitlab.reopen(mr).await;
    world.becomes(mr, "ready").await;
    until("it is shown again", PATIENCE, || async {
        (metric(&world, "greenroom_previews_unseen").await == 0).then_some(())
    })
    .await;
    world.shows(mr, "one").await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_lifetime_ends_also_where_gitlab_does_not_show_the_merge_request() {
    let world = World::start().await;
    let file = "version: 1\nengine: static\nstatic: {job: build, path: dist}\nexpires_after: 1h\n";
    world.gitlab.push("main", &[(".greenroom.yml", file)]).await;
    let mrs = many_ready(&world, 2).await;
    world.greenroom.terminate().await;
    world.greenroom.age(mrs[0], std::time::Duration::from_hours(2)).await;
    for mr in &mrs {
        world.wire.on("GET", &format!("*/merge_requests/{mr}")).always().answer(404, &[], NOT_FOUND);
    }
    world.greenroom.restart().await;
    says(&world, mrs[0], "its lifetime ended at").await;
    until("it has stopped", PATIENCE, || async {
        let preview = world.preview(mrs[0]).await.unwrap();
        if preview["state"] == "stopped" { Ok(()) } else { Err(preview) }
    })
    .await;
    world.is_gone(mrs[0]).await;
    world.shows(mrs[1], "2").await;
    world.wire.heal();
    world.rests().await;
}

/// A typo in the settings: nothing goes, whatever happens to the merge requests meanwhile.
#[tokio::test]
async fn a_project_that_is_not_served_any_more_is_left_and_reported() {
    let mut world = World::start_with(&[("GREENROOM_PROJECTS", "acme/web")]).await;
    let mrs = many_ready(&world, 5).await;
    let environments = world.gitlab.environments().await;
    world.greenroom.set("GREENROOM_PROJECTS", "acme/wbe,acme/other-*");
    world.greenroom.restart().await;
    world.gitlab.close(mrs[0]).await;
    world.gitlab.edit(mrs[1], json!({ "title": "A new title" })).await;
    until("it is reported", PATIENCE, || async {
        let warned = warnings(&world).await;
        if warned.contains(&"unserved".to_owned()) { Ok(()) } else { Err(warned) }
    })
    .await;
    world.rests().await;
    assert_eq!(metric(&world, "greenroom_previews_unserved").await, 5);
    for mr in &mrs {
        world.shows(*mr, &mr.to_string()).await;
        let preview = world.preview(*mr).await.unwrap();
        assert_eq!(preview["state"], "ready");
        assert_eq!(
            preview["notice"],
            "the settings do not serve this project any more; the preview is left as it is"
        );
    }
    let (_, why) = world.greenroom.verb(&["why", &format!("acme/web!{}", mrs[0])]);
    assert!(why.contains("note: the settings do not serve this project any more"), "{why}");
    world.greenroom.logs("that the settings do not serve are left previews=5", 1).await;
    let ids = |all: &[serde_json::Value]| all.iter().map(|one| one["id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(&world.gitlab.environments().await), ids(&environments));

    // The typo is mended: what was closed meanwhile goes, the rest goes on.
    world.greenroom.set("GREENROOM_PROJECTS", "acme/web");
    world.greenroom.restart().await;
    world.becomes(mrs[0], "stopped").await;
    world.is_gone(mrs[0]).await;
    world.shows(mrs[1], &mrs[1].to_string()).await;
    assert_eq!(metric(&world, "greenroom_previews_unserved").await, 0);
    world.ends_well().await;
}
