//! Branches without a merge request: their pipelines' jobs deploy them, and GitLab's environment says when they are over.

use std::time::Duration;

use greenroom::preview::{BranchId, environment_name};
use serde_json::{Value, json};

use super::{DEPLOY, Ended, STOP, site};
use crate::support::{
    PATIENCE,
    gitlab::Gitlab,
    until,
    world::{World, page},
};

/// A pipeline of a branch with the include's two jobs.
pub struct Jobs {
    pub deploy: u64,
    pub stop: u64,
}

/// The environment that the include names for a branch.
pub fn environment(branch: &str) -> String {
    let id = BranchId::of(branch).expect("a branch with a slug");
    environment_name(greenroom::preview::Subject::Branch(id), branch)
}

impl World {
    /// The branch gets a commit, and a pipeline runs for it; nobody opened a merge request.
    pub async fn branch_pipeline(&self, branch: &str, text: &str) -> Jobs {
        self.gitlab.push(branch, &[("a", text)]).await;
        self.pipeline_of(branch, &environment(branch)).await
    }

    async fn pipeline_of(&self, branch: &str, environment: &str) -> Jobs {
        let jobs = json!([
            { "name": DEPLOY, "status": "running", "environment": { "name": environment, "on_stop": STOP } },
            { "name": STOP, "when": "manual", "environment": { "name": environment, "action": "stop" } },
        ]);
        let made = self.gitlab.act("pipelines", json!({ "ref": branch, "jobs": jobs })).await;
        let id = |value: &Value| value["id"].as_u64().expect("an id");
        Jobs { deploy: id(&made["jobs"][0]), stop: id(&made["jobs"][1]) }
    }

    /// A verb in a job of a branch pipeline.
    pub async fn in_branch(&self, job: u64, args: &[&str]) -> Ended {
        let token = self.id_token(job, json!({})).await;
        let home = tempfile::tempdir().unwrap();
        let dotenv = home.path().join("greenroom.env");
        let mut verb = self.verb_command(args, 0, &token);
        verb.env_remove("CI_MERGE_REQUEST_IID").env_remove("CI_MERGE_REQUEST_PROJECT_ID");
        if matches!(args[0], "deploy" | "stop") {
            verb.arg("--dotenv").arg(&dotenv);
        }
        Ended::of(verb.output().await.unwrap(), &dotenv)
    }

    /// The job deploys a page that says `text`, and ends.
    pub async fn deploys(&self, jobs: &Jobs, text: &str) -> Ended {
        let folder = site(text);
        let ended = self.in_branch(jobs.deploy, &["deploy", folder.path().to_str().unwrap()]).await;
        let status = if ended.code == 0 { "success" } else { "failed" };
        self.gitlab.act(&format!("jobs/{}", jobs.deploy), json!({ "status": status })).await;
        ended
    }

    /// A branch whose job has deployed a page that says `text`; it is ready when this returns.
    async fn ready_branch(&self, branch: &str, text: &str) -> Jobs {
        let jobs = self.branch_pipeline(branch, "1").await;
        assert_eq!(self.deploys(&jobs, text).await.code, 0);
        self.branch_becomes(branch, "ready").await;
        jobs
    }

    /// The branch's preview, as the API tells of it.
    pub async fn of_branch(&self, branch: &str) -> Option<Value> {
        let id = BranchId::of(branch).expect("a branch with a slug");
        let answer = self.greenroom.get(&format!("/api/v1/previews/{}/b-{id}", Gitlab::PROJECT)).await;
        if answer.status() == 404 { None } else { Some(answer.json().await.unwrap()) }
    }

    pub async fn branch_becomes(&self, branch: &str, state: &str) -> Value {
        until(&format!("{branch} becomes {state}"), PATIENCE, || async {
            let preview = self.of_branch(branch).await.ok_or(Value::Null)?;
            if preview["state"] == state { Ok(preview) } else { Err(preview) }
        })
        .await
    }

    /// What a reviewer sees who follows the link.
    pub async fn branch_shows(&self, branch: &str) -> (u16, String) {
        let preview = self.of_branch(branch).await.expect("a preview");
        let host = preview["url"].as_str().unwrap().split_once("://").unwrap().1.to_owned();
        let answer = self.greenroom.gateway(&host, "/").await;
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// GitLab's environment of the branch.
    async fn environment_of(&self, branch: &str) -> Option<Value> {
        let name = environment(branch);
        self.gitlab.environments().await.into_iter().find(|one| one["name"] == *name)
    }

    /// Somebody stops the branch's environment in GitLab's own page, and GitLab runs no job for it.
    async fn stop_by_hand(&self, branch: &str) {
        let stopped = self.gitlab.stop_named(&environment(branch), true).await;
        assert_eq!(stopped["state"], "stopped", "{stopped}");
    }

    /// Nothing is left of it: neither at the link nor in GitLab.
    pub async fn branch_is_gone(&self, branch: &str) {
        self.branch_becomes(branch, "stopped").await;
        assert_eq!(self.branch_shows(branch).await.0, 410);
        let left = self.environment_of(branch).await;
        assert!(left.is_none(), "GitLab still has {left:#?}");
    }
}

#[tokio::test]
async fn a_branch_without_a_merge_request_is_deployed_by_its_job_and_goes_with_the_branch() {
    let world = World::start().await;
    let first = world.branch_pipeline("feature/Login", "1").await;
    let ended = world.deploys(&first, "one").await;
    assert_eq!(ended.code, 0, "{}", ended.all());
    let preview = world.branch_becomes("feature/Login", "ready").await;
    let (url, name) = (preview["url"].as_str().unwrap(), preview["name"].as_str().unwrap());
    assert!(name.starts_with("web-feature-login-42-b-"), "{name}");
    let expected = format!("GREENROOM_URL={url}\nGREENROOM_NAME={name}\nGREENROOM_STATE=ready\n");
    assert_eq!(ended.dotenv, expected);
    assert_eq!(world.branch_shows("feature/Login").await, (200, page("one")));
    // GitLab records the deployment of the job; there is no second one.
    world.rests().await;
    let deployments = world.gitlab.deployments().await;
    assert_eq!(deployments.len(), 1, "{deployments:#?}");
    assert_eq!(deployments[0]["deployable"]["name"], DEPLOY);

    // The operator calls it by its branch.
    let (_, list) = world.greenroom.verb(&["list"]);
    assert!(list.contains("acme/web@feature/Login") && list.contains(url), "{list}");
    let (code, why) = world.greenroom.verb(&["why", "acme/web@feature/Login"]);
    assert!(code.success(), "{why}");
    assert!(why.contains("branch `feature/Login` has no merge request"), "{why}");

    // A push changes nothing until its own job asks, and the older job is turned away.
    let second = world.branch_pipeline("feature/Login", "2").await;
    let late = world.deploys(&first, "late").await;
    assert_eq!(late.code, 1, "{}", late.all());
    assert!(late.stderr.contains("is not for the head of branch `feature/Login`"), "{}", late.all());
    assert_eq!(world.branch_shows("feature/Login").await, (200, page("one")));
    let ended = world.deploys(&second, "two").await;
    assert_eq!(ended.code, 0, "{}", ended.all());
    assert_eq!(world.branch_shows("feature/Login").await, (200, page("two")));

    // Nobody runs the stop job.
    world.rests().await;
    world.gitlab.delete_branch("feature/Login").await;
    world.branch_is_gone("feature/Login").await;
    let over = world.of_branch("feature/Login").await.unwrap();
    assert_eq!(over["reason"], "somebody stopped the environment in GitLab");
    let notes = world.wire.calls().into_iter().filter(|call| call.path.contains("/notes")).count();
    assert_eq!(notes, 0, "there is nowhere to comment");
    world.ends_well().await;
}

#[tokio::test]
async fn a_stop_job_takes_a_branchs_preview_away_twice_and_another_deploy_job_brings_it_back() {
    let world = World::start().await;
    let jobs = world.branch_pipeline("feature", "1").await;
    let nothing = world.in_branch(jobs.stop, &["stop"]).await;
    assert_eq!(nothing.code, 0, "{}", nothing.all());
    assert_eq!(world.deploys(&jobs, "one").await.code, 0);
    for _ in 0..2 {
        let ended = world.in_branch(jobs.stop, &["stop"]).await;
        assert_eq!(ended.code, 0, "{}", ended.all());
        assert!(ended.dotenv.contains("GREENROOM_STATE=stopped"), "{}", ended.dotenv);
        world.branch_is_gone("feature").await;
    }

    // A push alone does not bring it back.
    let second = world.branch_pipeline("feature", "2").await;
    world.rests().await;
    assert_eq!(world.of_branch("feature").await.unwrap()["state"], "stopped");
    assert_eq!(world.deploys(&second, "two").await.code, 0);
    assert_eq!(world.branch_shows("feature").await, (200, page("two")));

    // The operator's word holds against jobs of the same commit.
    let (code, told) = world.greenroom.verb(&["stop", "acme/web@feature"]);
    assert!(code.success(), "{told}");
    world.branch_is_gone("feature").await;
    let again = Jobs { deploy: world.gitlab.retry(second.deploy).await, ..second };
    let refused = world.deploys(&again, "two").await;
    assert_eq!(refused.code, 1, "{}", refused.all());
    assert!(refused.stderr.contains("stopped by the operator"), "{}", refused.all());
    world.ends_well().await;
}

#[tokio::test]
async fn what_a_branchs_job_may_not_is_refused_in_words() {
    let world = World::start().await;
    let folder = site("x");
    let deploy = ["deploy", folder.path().to_str().unwrap()];
    world.gitlab.push("feature", &[("a", "1")]).await;
    for (branch, environment, words) in [
        ("feature", "review/mr-1", "its preview belongs to the environment `review/feature`"),
        ("feature", "production", "set the include's input `environment` to `review/$CI_COMMIT_REF_SLUG`"),
        ("🚀", "review/rocket", "its name makes no environment of its own"),
        ("mr-7", "review/mr-7", "its name makes no environment of its own"),
    ] {
        if branch != "feature" {
            world.gitlab.push(branch, &[("a", "1")]).await;
        }
        let jobs = world.pipeline_of(branch, environment).await;
        let ended = world.in_branch(jobs.deploy, &deploy).await;
        assert_eq!(ended.code, 1, "{}", ended.all());
        assert!(ended.stderr.contains(words), "{branch}: {}", ended.all());
    }
    // What the token says is held against what GitLab says of the pipeline.
    let jobs = world.pipeline_of("feature", "review/feature").await;
    for (wishes, words) in [
        (json!({ "ref_type": "tag" }), "tags have none"),
        (json!({ "ref": "main", "environment": "review/main" }), "is none of branch `main` itself"),
    ] {
        let token = world.id_token(jobs.deploy, json!({ "claims": wishes })).await;
        let mut verb = world.verb_command(&deploy, 0, &token);
        verb.env_remove("CI_MERGE_REQUEST_IID").env_remove("CI_MERGE_REQUEST_PROJECT_ID");
        let ended = Ended::of(verb.output().await.unwrap(), folder.path());
        assert_eq!(ended.code, 1, "{}", ended.all());
        assert!(ended.stderr.contains(words), "{}", ended.all());
    }
    assert!(world.of_branch("feature").await.is_none());
}

#[tokio::test]
async fn a_branch_that_gitlab_does_not_show_ends_nothing() {
    let world = World::start().await;
    world.ready_branch("feature", "one").await;
    world.rests().await;
    // It is gone for whoever asks for it, and its environment is not stopped.
    world.wire.on("GET", "*/repository/branches/*").always().answer(
        404,
        &[("content-type", "application/json")],
        r#"{"message":"404 Branch Not Found"}"#,
    );
    world.greenroom.restart().await;
    let preview = until("it is told", PATIENCE, || async {
        let preview = world.of_branch("feature").await.ok_or(Value::Null)?;
        let told =
            preview["reason"].as_str().is_some_and(|reason| reason.contains("does not show its branch"));
        if told { Ok(preview) } else { Err(preview) }
    })
    .await;
    assert_eq!(preview["state"], "ready");
    assert_eq!(world.branch_shows("feature").await, (200, page("one")));
    // Nor do errors of all kinds.
    for status in [401, 403, 404, 500] {
        world.wire.heal();
        world.wire.on("GET", "*/repository/branches/*").always().answer(status, &[], "<html>");
        world.wire.on("GET", "*/environments*").always().answer(status, &[], "<html>");
        world.greenroom.restart().await;
        world.rests().await;
        assert_eq!(world.branch_shows("feature").await, (200, page("one")), "after {status}");
    }
    world.wire.heal();
    world.stop_by_hand("feature").await;
    world.greenroom.restart().await;
    world.branch_is_gone("feature").await;
}

#[tokio::test]
async fn a_branch_that_is_deleted_under_its_job_is_over_whatever_gitlab_says_of_its_environment() {
    let world = World::start_with(&[("GREENROOM_RESYNC_INTERVAL", "1s")]).await;
    world.ready_branch("other", "stays").await;
    let jobs = world.branch_pipeline("feature", "1").await;
    let folder = site("one");
    let ended = world.in_branch(jobs.deploy, &["deploy", folder.path().to_str().unwrap()]).await;
    assert_eq!(ended.code, 0, "{}", ended.all());
    world.greenroom.terminate().await;
    world.gitlab.delete_branch("feature").await;
    // The job's deployment makes the environment available again.
    world.gitlab.act(&format!("jobs/{}", jobs.deploy), json!({ "status": "success" })).await;
    assert_eq!(world.environment_of("feature").await.expect("the environment")["state"], "available");
    world.greenroom.restart().await;
    world.branch_is_gone("feature").await;
    let over = world.of_branch("feature").await.unwrap();
    assert_eq!(over["reason"], "its branch was deleted");
    let wanted = over["history"].to_string().contains("it is about to be removed: its branch was deleted");
    assert!(wanted, "two looks: {over:#}");
    assert_eq!(world.branch_shows("other").await, (200, page("stays")));
    world.ends_well().await;
}

#[tokio::test]
async fn a_stop_that_nobody_told_of_is_noticed_by_the_resync() {
    let world = World::start_with(&[("GREENROOM_RESYNC_INTERVAL", "1s")]).await;
    world.ready_branch("feature", "one").await;
    world.stop_by_hand("feature").await;
    world.branch_is_gone("feature").await;

    // A stop job that no runner takes holds nothing up.
    world.ready_branch("other", "other").await;
    let stopping = world.gitlab.stop_named(&environment("other"), false).await;
    assert_eq!(stopping["state"], "stopping", "{stopping}");
    world.branch_is_gone("other").await;
}

#[tokio::test]
async fn what_is_stopped_while_its_job_deploys_it_again_still_goes_with_the_branch() {
    let world = World::start_with(&[("GREENROOM_RESYNC_INTERVAL", "1s")]).await;
    world.ready_branch("feature", "one").await;
    let next = world.branch_pipeline("feature", "2").await;
    // With its environment GitLab forgets the deployment of the job that runs.
    world.stop_by_hand("feature").await;
    world.branch_is_gone("feature").await;
    assert_eq!(world.deploys(&next, "two").await.code, 0);
    world.branch_becomes("feature", "ready").await;
    assert_eq!(world.branch_shows("feature").await, (200, page("two")));
    world.rests().await;
    let deployments = world.gitlab.deployments().await;
    let told: Vec<_> = deployments.iter().map(|one| (&one["ref"], &one["status"])).collect();
    assert_eq!(told, [(&json!("feature"), &json!("success"))], "{deployments:#?}");

    world.gitlab.delete_branch("feature").await;
    world.branch_is_gone("feature").await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_merge_request_that_comes_later_takes_the_branchs_place() {
    let world = World::start().await;
    world.ready_branch("feature", "without").await;

    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let of_mr = world.pipeline_with_jobs(mr).await;
    world.rests().await;
    assert_eq!(world.branch_shows("feature").await, (200, page("without")), "until the other one serves");
    let folder = site("with");
    let ended = world.job_verb(of_mr.deploy, mr, &["deploy", folder.path().to_str().unwrap()]).await;
    assert_eq!(ended.code, 0, "{}", ended.all());
    world.gitlab.act(&format!("jobs/{}", of_mr.deploy), json!({ "status": "success" })).await;
    world.branch_is_gone("feature").await;
    let over = world.of_branch("feature").await.unwrap();
    assert_eq!(over["reason"], "a merge request of its branch has a preview by now");
    world.shows(mr, "with").await;

    world.gitlab.close(mr).await;
    world.becomes(mr, "stopped").await;
    world.is_gone(mr).await;
    world.ends_well().await;
}

#[tokio::test]
async fn where_branch_pipelines_go_on_for_a_merge_request_they_keep_their_environment() {
    let world = World::start().await;
    world.ready_branch("feature", "without").await;

    // The next push is deployed by the same job, for the merge request that is open by now.
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let next = world.branch_pipeline("feature", "2").await;
    let ended = world.deploys(&next, "with").await;
    assert_eq!(ended.code, 0, "{}", ended.all());
    world.becomes(mr, "ready").await;
    world.shows(mr, "with").await;
    world.branch_becomes("feature", "stopped").await;
    assert_eq!(world.branch_shows("feature").await.0, 410);
    let environment = world.environment_of("feature").await.expect("the environment");
    assert_eq!(environment["state"], "available");

    // An older stop job speaks for what it deployed, which is gone.
    let ended = world.in_branch(next.stop, &["stop"]).await;
    assert_eq!(ended.code, 0, "{}", ended.all());
    world.becomes(mr, "stopped").await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_stop_job_speaks_for_what_its_own_pipeline_deployed_while_the_other_is_not_gone_yet() {
    let world = World::start().await;
    let jobs = world.ready_branch("feature", "without").await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let next = world.branch_pipeline("feature", "2").await;
    // Nobody can look at the branch.
    world.wire.on("GET", "*/repository/branches/*").always().answer(500, &[], "<html>");
    assert_eq!(world.deploys(&next, "with").await.code, 0);
    world.becomes(mr, "ready").await;

    let ended = world.in_branch(next.stop, &["stop"]).await;
    assert_eq!(ended.code, 0, "{}", ended.all());
    world.becomes(mr, "stopped").await;
    assert_eq!(world.branch_shows("feature").await, (200, page("without")));
    world.wire.heal();
    let ended = world.in_branch(jobs.stop, &["stop"]).await;
    assert_eq!(ended.code, 0, "{}", ended.all());
    world.branch_becomes("feature", "stopped").await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_branchs_preview_survives_the_loss_of_the_store_and_is_not_forgotten() {
    let world = World::start_with(&[("GREENROOM_INSTANCE", "house")]).await;
    let jobs = world.branch_pipeline("feature/x", "1").await;
    assert_eq!(world.deploys(&jobs, "one").await.code, 0);
    let before = world.branch_becomes("feature/x", "ready").await;
    world.rests().await;
    world.greenroom.kill9();
    world.greenroom.lose_store();
    world.greenroom.restart().await;
    let found = world.branch_becomes("feature/x", "ready").await;
    assert_eq!((&found["url"], &found["branch"]), (&before["url"], &before["branch"]));
    assert_eq!(world.branch_shows("feature/x").await, (200, page("one")));
    world.gitlab.delete_branch("feature/x").await;
    world.branch_is_gone("feature/x").await;
}

#[tokio::test]
async fn a_branchs_lifetime_ends() {
    let world = World::start().await;
    // As long as GitLab lets one be, and odd.
    let branch = format!("Feature/\"ü{}\"", "x'$".repeat(80));
    let file = "version: 1\nengine: static\nexpires_after: 1h\nstatic:\n  job: build\n  path: dist\n";
    world.gitlab.push(&branch, &[(".greenroom.yml", file)]).await;
    let jobs = world.branch_pipeline(&branch, "1").await;
    assert_eq!(world.deploys(&jobs, "one").await.code, 0);
    let preview = world.branch_becomes(&branch, "ready").await;
    assert!(preview["expires_at"].is_string(), "{preview:#}");
    world.greenroom.terminate().await;
    world.greenroom.age_named(preview["name"].as_str().unwrap(), Duration::from_hours(2)).await;
    world.greenroom.restart().await;
    world.branch_is_gone(&branch).await;
}

#[tokio::test]
async fn a_branchs_job_asks_what_would_be_done_why_and_where() {
    let world = World::start().await;
    let file = "version: 1\nengine: static\nstatic:\n  job: build\n  path: dist\n";
    world.gitlab.push("feature", &[(".greenroom.yml", file)]).await;
    let jobs = json!([
        { "name": "build", "status": "success", "artifact": { "files": { "dist/index.html": page("built") } } },
        { "name": DEPLOY, "status": "running", "environment": { "name": "review/feature" } },
        { "name": "later", "status": "created" },
    ]);
    let made = world.gitlab.act("pipelines", json!({ "ref": "feature", "jobs": jobs })).await;
    let job = made["jobs"][1]["id"].as_u64().unwrap();
    let plan = world.in_branch(job, &["plan"]).await;
    assert_eq!(plan.code, 2, "{}", plan.all());
    assert!(plan.stdout.contains("acme/web@feature"), "{}", plan.all());
    assert!(world.of_branch("feature").await.is_none(), "nothing was done");

    // What the pipeline has built is deployed; the rest of it is not waited for.
    let ended = world.in_branch(job, &["deploy"]).await;
    assert_eq!(ended.code, 0, "{}", ended.all());
    assert_eq!(world.branch_shows("feature").await, (200, page("built")));
    let plan = world.in_branch(job, &["plan"]).await;
    assert_eq!(plan.code, 0, "{}", plan.all());
    let why = world.in_branch(job, &["why"]).await;
    assert!(why.code == 0 && why.stdout.starts_with("acme/web@feature: ready"), "{}", why.all());
    let open = world.in_branch(job, &["open"]).await;
    assert!(open.code == 0 && open.stdout.contains("web-feature-42-b-"), "{}", open.all());
}
