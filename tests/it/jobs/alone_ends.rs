//! How previews end that jobs have made without a server, where nothing but a stop job can end them.

use std::path::Path;

use super::{
    Ended,
    alone::{CiPipeline, Job, Lone},
};
use crate::kubernetes::town::App;

/// A verb in the job of a branch pipeline that GitLab gives this list of open merge requests.
async fn run_with_open(job: &Job<'_>, verb: &str, pipeline: &CiPipeline, id: u64, open: &str) -> Ended {
    let mut command = job.command(&[verb], pipeline, id);
    let output = command.env("CI_OPEN_MERGE_REQUESTS", open).output().await.unwrap();
    Ended::of(output, Path::new(""))
}

#[tokio::test]
async fn with_a_branch_goes_what_its_pipelines_have_made_although_its_merge_request_is_over() {
    let Some(lone) = Lone::start("alone-merged").await else { return };
    let job = lone.job();
    let app = App::works(1);
    lone.push("feature/x", &app).await;
    let alone = job.branch_pipeline("feature/x").await;
    let ended = job.deploy(&alone).await;
    assert_eq!(ended.code, 0, "{}", ended.all());
    let of_branch = ended.dotenv.lines().find_map(|line| line.strip_prefix("GREENROOM_NAME=")).unwrap();

    // It gets a merge request, and the next pipeline of the branch deploys for that. Another one's preview is none of its matter.
    let mr = lone.gitlab.open_mr("feature/x", "A feature").await;
    let other = lone.open("other", &app).await;
    assert_eq!(job.deploy(&job.pipeline(other).await).await.code, 0);
    let open = format!("acme/alone-merged!{mr}");
    let next = App::works(2);
    lone.push("feature/x", &next).await;
    let second = job.branch_pipeline("feature/x").await;
    let ended = run_with_open(&job, "deploy", &second, second.deploy, &open).await;
    assert_eq!(ended.code, 0, "{}", ended.all());
    lone.runs(mr, &next).await;

    // GitLab starts the stop job when the branch is gone; by then no merge request is open.
    lone.gitlab.merge(mr).await;
    lone.gitlab.delete_branch("feature/x").await;
    for _ in 0..2 {
        let ended = run_with_open(&job, "stop", &second, second.stop, "").await;
        assert_eq!(ended.code, 0, "{}", ended.all());
        lone.is_gone(mr).await;
        let left = lone.cluster.get("namespaces", "", of_branch).await;
        assert!(left.is_none(), "the cluster still has {left:#?}");
    }
    lone.runs(other, &app).await;
}

#[tokio::test]
async fn what_gitlab_does_not_show_any_more_is_stopped_alone_all_the_same() {
    let Some(lone) = Lone::start("alone-unseen").await else { return };
    let job = lone.job();
    let mr = lone.open("feature", &App::works(1)).await;
    let pipeline = job.pipeline(mr).await;
    assert_eq!(job.deploy(&pipeline).await.code, 0);
    let gone = r#"{"message":"404 Not found"}"#;
    let json = [("content-type", "application/json")];
    lone.wire.on("GET", &format!("*/merge_requests/{mr}")).always().answer(404, &json, gone);
    lone.wire.on("GET", &format!("*/merge_requests/{mr}/*")).always().answer(404, &json, gone);
    let ended = job.stop(&pipeline).await;
    assert_eq!(ended.code, 0, "{}", ended.all());
    lone.is_gone(mr).await;
}
