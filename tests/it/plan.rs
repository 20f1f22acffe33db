//! What `greenroom plan` answers where there is nothing to plan, or nobody to ask.

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::world::World;

/// Asks for the plan of what the path names: status, and the answer.
async fn plan(world: &World, of: &str) -> (StatusCode, Value) {
    let answer = world.greenroom.post(&format!("/api/v1/previews/{of}/plan")).send().await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

#[tokio::test]
async fn what_cannot_be_told_is_a_problem() {
    let world = World::start_with(&[("GREENROOM_PROJECTS", "acme/**")]).await;
    for (of, detail) in [
        ("42/99", "GitLab does not show the merge request"),
        ("acme%2Fnowhere/1", "GitLab shows no project `acme/nowhere`"),
        ("other%2Fweb/1", "the settings do not serve the project `other/web`"),
        ("web/1", "names no merge request"),
        ("42/one", "names no merge request"),
    ] {
        let (status, problem) = plan(&world, of).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{of}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{of}: {problem}");
    }
    let answer = world.greenroom.get("/api/v1/previews/42/1/plan").await;
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);

    let mr = world.ready_mr("feature", "one").await;
    world.rests().await;
    world.wire.any().always().answer(503, &[], "down for maintenance");
    let (status, problem) = plan(&world, &format!("42/{mr}")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{problem}");
    let server = world.greenroom.url();
    let (code, told) =
        world.greenroom.ask(&["plan", "acme/web!1"], &[("GREENROOM_SERVER", server.as_str())]).await;
    assert_eq!(code, 3, "{told}");
    world.wire.heal();
}

#[tokio::test]
async fn a_plan_goes_by_what_gitlab_says_now() {
    let world = World::start().await;
    let mr = world.ready_mr("feature", "one").await;
    world.rests().await;
    world.gitlab.fault(json!({ "deliveries": { "lose": true } })).await;
    let outcome = async || {
        let (status, plan) = plan(&world, &format!("acme%2Fweb/{mr}")).await;
        assert_eq!(status, StatusCode::OK, "{plan}");
        [&plan["outcome"], &plan["state"]].map(|text| text.as_str().unwrap().to_owned())
    };
    assert_eq!(outcome().await, ["unchanged", "ready"]);
    world.gitlab.push("feature", &[("a", "2")]).await;
    assert_eq!(outcome().await, ["unchanged", "waiting"]);
    let pipeline = world.gitlab.start_pipeline(mr).await;
    world.gitlab.fail_job(pipeline.job).await;
    assert_eq!(outcome().await, ["failed", "failed"]);
    world.build(mr, "two").await;
    assert_eq!(outcome().await, ["changes", "deploying"]);
    world.gitlab.close(mr).await;
    assert_eq!(outcome().await, ["changes", "stopped"]);
    // All of it was talk.
    world.shows(mr, "one").await;
}
