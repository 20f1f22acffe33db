//! A server and jobs that do the work themselves, under one instance id: they never fight over a merge request.

use serde_json::{Value, json};

use super::{DEPLOY, alone::Job};
use crate::{
    kubernetes::town::{App, Town},
    support::cluster::Cluster,
};

fn job<'a>(town: &'a Town<'_>, name: &str, kubeconfig: std::path::PathBuf) -> Job<'a> {
    Job {
        gitlab: &town.world.gitlab,
        project: format!("acme/{name}"),
        instance: name.to_owned(),
        api: town.world.wire.url().as_str().trim_end_matches('/').to_owned(),
        kubeconfig,
    }
}

/// The deployments that the server made.
async fn of_server(town: &Town<'_>) -> Vec<Value> {
    let all = town.world.gitlab.deployments().await;
    all.into_iter().filter(|one| one["deployable"].is_null()).collect()
}

#[tokio::test]
async fn a_job_alone_deploys_and_the_server_leaves_it_tells_the_same_and_mends_what_is_left() {
    let Some(cluster) = Cluster::start().await else { return };
    let town = Town::start(cluster, "both").await;
    let job = job(&town, "both", cluster.administrator("both-job").await);
    let app = App::works(1);
    let mr = town.open("feature", &app).await;
    let pipeline = job.pipeline(mr).await;
    let ended = job.run(&["deploy"], &pipeline, pipeline.deploy).await;
    assert_eq!(ended.code, 0, "{}", ended.all());
    // The job's pipeline has not passed yet: the server tells what the job did all the same.
    let preview = town.world.becomes(mr, "ready").await;
    assert!(preview["decision"].to_string().contains("without the server"), "{preview:#}");
    town.world.gitlab.act(&format!("jobs/{}", pipeline.deploy), json!({ "status": "success" })).await;
    town.world.gitlab.act(&format!("pipelines/{}/finish", pipeline.id), json!({})).await;
    town.world.rests().await;
    town.world.becomes(mr, "ready").await;
    town.serves(mr, &app).await;
    assert_eq!(town.world.gitlab.bot_notes(mr).await.len(), 1);
    assert_eq!(of_server(&town).await, Vec::<Value>::new());

    // The next push is the job's too: nothing is deployed before, whatever passes.
    let next = App::works(2);
    town.push("feature", &next).await;
    let second = job.pipeline(mr).await;
    town.world.rests().await;
    town.serves(mr, &app).await;
    let ended = job.deploy(&second).await;
    assert_eq!(ended.code, 0, "{}", ended.all());
    town.world.gitlab.act(&format!("pipelines/{}/finish", second.id), json!({})).await;
    town.world.becomes(mr, "ready").await;
    town.serves(mr, &next).await;
    assert_eq!(of_server(&town).await, Vec::<Value>::new());
    assert_eq!(town.world.gitlab.bot_notes(mr).await.len(), 1);

    // Nobody runs the stop job.
    town.world.gitlab.close(mr).await;
    town.world.becomes(mr, "stopped").await;
    town.is_gone(mr).await;
    town.world.ends_well().await;
}

#[tokio::test]
async fn what_a_job_alone_stopped_the_server_does_not_bring_back_and_another_job_does() {
    let Some(cluster) = Cluster::start().await else { return };
    let town = Town::start(cluster, "both-stop").await;
    let job = job(&town, "both-stop", cluster.administrator("both-stop-job").await);
    let app = App::works(1);
    let mr = town.open("feature", &app).await;
    let pipeline = job.pipeline(mr).await;
    assert_eq!(job.deploy(&pipeline).await.code, 0);
    town.world.gitlab.act(&format!("pipelines/{}/finish", pipeline.id), json!({})).await;
    town.world.becomes(mr, "ready").await;

    let ended = job.stop(&pipeline).await;
    assert_eq!(ended.code, 0, "{}", ended.all());
    town.world.becomes(mr, "stopped").await;
    town.is_gone(mr).await;

    let again = town.world.gitlab.retry(pipeline.deploy).await;
    let ended = job.run(&["deploy"], &pipeline, again).await;
    assert_eq!(ended.code, 0, "{}", ended.all());
    town.world.becomes(mr, "ready").await;
    town.serves(mr, &app).await;
    town.world.gitlab.merge(mr).await;
    town.world.becomes(mr, "stopped").await;
    town.is_gone(mr).await;
}

#[tokio::test]
async fn a_job_that_failed_alone_is_told_by_the_server_and_not_deployed_by_it() {
    let Some(cluster) = Cluster::start().await else { return };
    let town = Town::start(cluster, "both-red").await;
    let mr = town.open("feature", &App::works(1)).await;
    // It may fail, and the pipeline passes all the same.
    let environment = json!({ "name": format!("review/mr-{mr}") });
    let jobs = json!([
        { "name": "build", "status": "success" },
        { "name": DEPLOY, "status": "running", "allow_failure": true, "environment": environment },
    ]);
    let made = town.world.gitlab.act("pipelines", json!({ "mr_iid": mr, "jobs": jobs })).await;
    let deploy = &made["jobs"][1]["id"];
    town.world.gitlab.act(&format!("jobs/{deploy}"), json!({ "status": "failed" })).await;
    let preview = town.world.becomes(mr, "failed").await;
    assert!(preview["reason"].as_str().unwrap().contains(DEPLOY), "{preview:#}");
    assert!(cluster.get("namespaces", "", &town.namespace(mr)).await.is_none());
    assert_eq!(of_server(&town).await, Vec::<Value>::new());
    town.world.ends_well().await;
}

#[tokio::test]
async fn a_job_deploys_to_a_cluster_through_the_server() {
    let Some(cluster) = Cluster::start().await else { return };
    let town = Town::start(cluster, "by-server").await;
    let app = App::works(1);
    let mr = town.open("feature", &app).await;
    let jobs = town.world.pipeline_with_jobs(mr).await;
    let ended = town.world.job_verb(jobs.deploy, mr, &["deploy"]).await;
    assert_eq!(ended.code, 0, "{}", ended.all());
    assert!(ended.dotenv.contains("GREENROOM_STATE=ready\n"), "{}", ended.dotenv);
    town.serves(mr, &app).await;
    town.world.becomes(mr, "ready").await;
    assert_eq!(of_server(&town).await, Vec::<Value>::new());
    town.world.gitlab.act(&format!("jobs/{}", jobs.deploy), json!({ "status": "success" })).await;

    // A folder is nothing for a cluster, and what serves goes on.
    let folder = super::site("x");
    let again = town.world.gitlab.retry(jobs.deploy).await;
    let refused = town.world.job_verb(again, mr, &["deploy", folder.path().to_str().unwrap()]).await;
    assert_eq!(refused.code, 1, "{}", refused.all());
    assert!(refused.stderr.contains("takes no folder"), "{}", refused.all());
    town.serves(mr, &app).await;

    let ended = town.world.job_verb(jobs.stop, mr, &["stop"]).await;
    assert_eq!(ended.code, 0, "{}", ended.all());
    town.is_gone(mr).await;
}

#[tokio::test]
async fn a_branch_that_a_job_alone_deployed_is_found_by_the_server_and_goes_with_it() {
    let Some(cluster) = Cluster::start().await else { return };
    let settings = [("GREENROOM_RESYNC_INTERVAL", "1s")];
    let town = Town::start_with(cluster, "both-branch", &settings, "").await;
    let job = job(&town, "both-branch", cluster.administrator("both-branch-job").await);
    let app = App::works(1);
    town.push("feature/x", &app).await;
    let pipeline = job.branch_pipeline("feature/x").await;
    let ended = job.deploy(&pipeline).await;
    assert_eq!(ended.code, 0, "{}", ended.all());
    let preview = town.world.branch_becomes("feature/x", "ready").await;
    assert_eq!(preview["branch"], "feature/x");
    let name = preview["name"].as_str().unwrap();

    // The stop job has no runner.
    town.world.gitlab.delete_branch("feature/x").await;
    town.world.branch_becomes("feature/x", "stopped").await;
    assert!(cluster.get("namespaces", "", name).await.is_none(), "the cluster still has {name}");
    let environments = town.world.gitlab.environments().await;
    assert!(!environments.iter().any(|one| one["name"] == "review/feature-x"), "{environments:#?}");
    assert_eq!(of_server(&town).await, Vec::<Value>::new());
}

#[tokio::test]
async fn an_environment_that_a_job_alone_has_made_ready_is_no_preview_yet() {
    let Some(cluster) = Cluster::start().await else { return };
    let settings = [("GREENROOM_RESYNC_INTERVAL", "1s")];
    let town = Town::start_with(cluster, "both-early", &settings, "").await;
    let job = job(&town, "both-early", cluster.administrator("both-early-job").await);
    town.push("feature/x", &App::works(1)).await;
    let description = "Made by greenroom, instance both-early. It is removed when it is stopped.";
    let made = json!({ "name": "review/feature-x", "description": description });
    town.world.gitlab.create_environment(made).await;
    town.world.greenroom.kill9();
    town.world.greenroom.lose_store();
    town.world.greenroom.restart().await;
    town.world.rests().await;
    assert!(town.world.of_branch("feature/x").await.is_none());

    let pipeline = job.branch_pipeline("feature/x").await;
    let ended = job.deploy(&pipeline).await;
    assert_eq!(ended.code, 0, "{}", ended.all());
    let preview = town.world.branch_becomes("feature/x", "ready").await;
    let name = preview["name"].as_str().unwrap();
    assert!(name.starts_with("both-early-feature-x-42-b-"), "{name}");
    assert_eq!(preview["engine"], "kubernetes");
}
