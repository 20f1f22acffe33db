//! Deploys: artifacts that come late or not at all, and pushes meanwhile.

use std::{io::Write, time::Duration};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{
    PATIENCE, until,
    world::{World, page},
};

#[tokio::test]
async fn a_download_may_take_longer_than_a_call() {
    let world = World::start_with(&[("GREENROOM_GITLAB_TIMEOUT", "5s")]).await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let storage = slow_storage(&zip(&page("slow"))).await;
    world.wire.on("GET", "*/artifacts").answer(302, &[("location", &storage)], "");
    world.build(mr, "unused").await;
    world.becomes(mr, "ready").await;
    world.shows(mr, "slow").await;
    assert_eq!(world.wire.count("GET", "*/artifacts"), 1);
    world.ends_well().await;
}

#[tokio::test]
async fn an_artifact_that_greenroom_may_not_fetch_is_told() {
    let world = World::start().await;
    world.wire.on("GET", "*/artifacts").always().answer(403, &[], r#"{"message":"403 Forbidden"}"#);
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let pipeline = world.build(mr, "one").await;
    let failed = world.becomes(mr, "failed").await;
    assert!(failed["reason"].as_str().unwrap().contains("(it answered with 403)"), "{failed}");
    world.wire.heal();
    let again = world.gitlab.retry(pipeline.job).await;
    world.gitlab.succeed_job(again, &[("dist/index.html", &page("two"))]).await;
    world.becomes(mr, "ready").await;
    world.shows(mr, "two").await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_ref_that_gitlab_does_not_know_holds_up_no_deploy() {
    let world = World::start().await;
    world.wire.on("POST", "*/deployments").always().answer(
        400,
        &[],
        r#"{"message":"400 Bad request - The branch or tag does not exist"}"#,
    );
    let mr = world.ready_mr("feature", "one").await;
    world.shows(mr, "one").await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_push_while_the_engine_works_leaves_no_deployment_running() {
    let world = World::start().await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let first = world.gitlab.start_pipeline(mr).await;
    // Enough for the engine to be at it for a while.
    let names: Vec<String> = (0..8_000).map(|n| format!("dist/{n}.html")).collect();
    let index = page("one");
    let many = names.iter().map(|name| (name.as_str(), "x"));
    let files: Vec<_> = many.chain([("dist/index.html", index.as_str())]).collect();
    world.gitlab.succeed_job(first.job, &files).await;
    until("the deployment runs", PATIENCE, || async {
        (world.gitlab.deployments().await.len() == 1).then_some(())
    })
    .await;
    world.gitlab.push("feature", &[("a", "2")]).await;
    world.build(mr, "two").await;
    world.becomes(mr, "ready").await;
    world.shows(mr, "two").await;
    world.ends_well().await;
}

fn zip(index: &str) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("dist/index.html", zip::write::SimpleFileOptions::default()).unwrap();
    zip.write_all(index.as_bytes()).unwrap();
    zip.finish().unwrap().into_inner()
}

/// An object storage that takes two seconds for one small file.
async fn slow_storage(file: &[u8]) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/file.zip", listener.local_addr().unwrap());
    let file = file.to_vec();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", file.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        for part in file.chunks(file.len().div_ceil(4)) {
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            let _ = stream.write_all(part).await;
        }
    });
    url
}
