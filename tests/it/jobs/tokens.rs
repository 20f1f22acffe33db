//! Whom the server takes for a job, and whom not.

use reqwest::header::AUTHORIZATION;
use serde_json::{Value, json};

use super::Jobs;
use crate::support::{PATIENCE, gitlab::Gitlab, until, world::World};

/// Asks for a deploy with this token; what the server answers.
async fn asks(world: &World, mr: &str, token: &str) -> (u16, String) {
    let request = world.greenroom.post(&format!("/api/v1/jobs/deploy?mr={mr}"));
    let answer = request.header(AUTHORIZATION, format!("Bearer {token}")).send().await.unwrap();
    let status = answer.status().as_u16();
    let body: Value = answer.json().await.unwrap();
    (status, body["detail"].as_str().unwrap_or_default().to_owned())
}

async fn a_job(world: &World) -> Jobs {
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    world.pipeline_with_jobs(mr).await
}

#[tokio::test]
async fn only_a_token_that_gitlab_made_for_this_server_and_this_job_counts() {
    let world = World::start().await;
    let job = a_job(&world).await;
    let long_ago = 1_700_000_000;
    let other = "f".repeat(40);
    for (wishes, status, told) in [
        (json!({ "claims": { "iss": "https://gitlab.evil.example" } }), 401, "was not issued by the GitLab"),
        (json!({ "claims": { "iss": null } }), 401, "was not issued by the GitLab"),
        (json!({ "aud": "https://other.example.com" }), 401, "is not meant for this server"),
        (json!({ "claims": { "aud": null } }), 401, "is not meant for this server"),
        (json!({ "claims": { "exp": long_ago } }), 401, "has expired"),
        (json!({ "claims": { "exp": null } }), 401, "has no `exp`"),
        (json!({ "claims": { "nbf": 4_000_000_000_u64 } }), 401, "is not valid yet"),
        (json!({ "alg": "none" }), 401, "not signed with RS256 or ES256"),
        (json!({ "alg": "HS256" }), 401, "not signed with RS256 or ES256"),
        (json!({ "forged_key": true }), 401, "signature is not GitLab's"),
        (json!({ "claims": { "pipeline_id": null } }), 401, "cannot be used"),
        (json!({ "claims": { "pipeline_id": "1" } }), 403, "pipeline 1 is none of merge request !1"),
        (json!({ "claims": { "project_id": "77", "job_project_id": "77" } }), 403, "pipeline"),
        (json!({ "claims": { "project_id": "77" } }), 403, "is that of a fork"),
        (json!({ "claims": { "sha": other } }), 409, "is not for the head"),
    ] {
        let token = world.id_token(job.deploy, wishes.clone()).await;
        let (got, why) = asks(&world, &job.mr.to_string(), &token).await;
        assert_eq!(got, status, "{wishes}: {why}");
        assert!(why.contains(told), "{wishes}: {why}");
        assert!(!why.contains(&token), "no token is told: {why}");
    }
    for (token, told) in [("", "ID token"), ("nonsense", "cannot be read"), ("a.b.c", "RS256")] {
        let (status, why) = asks(&world, "1", token).await;
        assert_eq!(status, 401, "{token}: {why}");
        assert!(why.contains(told), "{token}: {why}");
    }
    assert!(world.preview(job.mr).await.is_none_or(|preview| preview["serving"].is_null()));
    assert!(!world.greenroom.log().contains("eyJ"), "no token stands in the log");

    let right = world.id_token(job.deploy, json!({})).await;
    assert_eq!(asks(&world, &job.mr.to_string(), &right).await.0, 202);
    // GitLab itself finds the merge request of a branch.
    assert_eq!(asks(&world, "", &right).await.0, 202);
    // What the job says of its environment leads nowhere.
    let elsewhere = json!({ "claims": { "environment": "review/mr-9", "environment_action": "start" } });
    let elsewhere = world.id_token(job.deploy, elsewhere).await;
    assert_eq!(asks(&world, &job.mr.to_string(), &elsewhere).await.0, 202);
    let (status, why) = asks(&world, "9", &elsewhere).await;
    assert_eq!((status, why.contains("is none of merge request !9")), (403, true), "{why}");
}

#[tokio::test]
async fn keys_are_followed_when_gitlab_rotates_them_and_withdrawn_ones_do_not_count() {
    let world = World::start().await;
    let job = a_job(&world).await;
    let mr = job.mr.to_string();
    let before = world.id_token(job.deploy, json!({})).await;
    assert_eq!(asks(&world, &mr, &before).await.0, 202);

    world.gitlab.control("id_token_keys/rotate", json!({})).await;
    let after = world.id_token(job.deploy, json!({})).await;
    until("the new key is found", PATIENCE, || async {
        let (status, why) = asks(&world, &mr, &after).await;
        if status == 202 { Ok(()) } else { Err(why) }
    })
    .await;
    let old = world.id_token(job.deploy, json!({ "retired_key": true })).await;
    for withdrawn in [before, old] {
        let (status, why) = asks(&world, &mr, &withdrawn).await;
        assert_eq!((status, why.contains("a key that GitLab does not publish")), (401, true), "{why}");
    }

    let keys = |calls: Vec<crate::support::wire::Call>| {
        calls.iter().filter(|call| call.path.starts_with("/oauth/discovery/keys")).count()
    };
    let asked = keys(world.wire.calls());
    for _ in 0..20 {
        asks(&world, &mr, &world.id_token(job.deploy, json!({ "retired_key": true })).await).await;
    }
    let more = keys(world.wire.calls()) - asked;
    assert!(more < 20, "unknown keys cost GitLab little: {more} times asked for 20 tokens");
}

#[tokio::test]
async fn without_gitlabs_keys_nobody_is_let_in_and_that_is_told() {
    let world = World::start().await;
    let job = a_job(&world).await;
    let token = world.id_token(job.deploy, json!({})).await;
    world.wire.on("GET", "/oauth/discovery/keys").always().answer(200, &[], "<html>Maintenance</html>");
    let (status, why) = asks(&world, &job.mr.to_string(), &token).await;
    assert_eq!(status, 503, "{why}");
    assert!(why.contains("GitLab's keys cannot be had") && why.contains("cannot be read"), "{why}");
    world.wire.heal();
    world.wire.cut();
    let (status, why) = asks(&world, &job.mr.to_string(), &token).await;
    assert_eq!(status, 503, "{why}");
    world.wire.heal();
    until("GitLab is asked again", PATIENCE, || async {
        let (status, why) = asks(&world, &job.mr.to_string(), &token).await;
        if status == 202 { Ok(()) } else { Err(why) }
    })
    .await;
}

#[tokio::test]
async fn the_job_of_a_fork_gets_nothing() {
    let world = World::start().await;
    let mr = world.gitlab.open_mr_from_fork("feature", "From outside").await;
    // A member pressed "run pipeline" in the target project.
    let job = world.pipeline_with_jobs(mr).await;
    let token = world.id_token(job.deploy, json!({})).await;
    let (status, why) = asks(&world, &mr.to_string(), &token).await;
    assert_eq!((status, why.contains("fork")), (403, true), "{why}");
    // An older server does not say which project runs it.
    let older = world.id_token(job.deploy, json!({ "claims": { "job_project_id": null } })).await;
    assert_eq!(asks(&world, &mr.to_string(), &older).await.0, 403);
    let lying = json!({ "claims": { "job_project_id": null, "project_id": Gitlab::PROJECT.to_string() } });
    let lying = world.id_token(job.deploy, lying).await;
    let (status, why) = asks(&world, &mr.to_string(), &lying).await;
    assert_eq!(status, 403, "{why}");
    world.rests().await;
}
