//! Jobs that are not told how their deploy comes out, and what they leave behind all the same.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use quick_junit::{NonSuccessKind, Report, TestCaseStatus};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use url::Url;

use super::{Ended, site};
use crate::support::{PATIENCE, gitlab::Gitlab, until, wire::Wire, world::World};

/// Runs a deploy in a job with these variables on top; how it ended, and the only test case of its report.
async fn deploys(
    world: &World,
    token: &str,
    flags: &[&str],
    variables: &[(&str, &str)],
) -> (Ended, TestCaseStatus) {
    let (folder, home) = (site("in trouble"), tempfile::tempdir().unwrap());
    let (junit, dotenv) = (home.path().join("greenroom.xml"), home.path().join("greenroom.env"));
    let output = world
        .verb_command(&["deploy", folder.path().to_str().unwrap()], 1, token)
        .args(flags)
        .arg("--junit")
        .arg(&junit)
        .arg("--dotenv")
        .arg(&dotenv)
        .envs(variables.iter().copied())
        .output()
        .await
        .unwrap();
    let ended = Ended::of(output, &dotenv);
    let written = fs::read_to_string(&junit).unwrap_or_else(|_| panic!("no report: {}", ended.all()));
    let report = Report::deserialize_from_str(&written).expect("a report");
    let cases: Vec<_> = report.test_suites.into_iter().flat_map(|suite| suite.test_cases).collect();
    let [case] = cases.try_into().expect("one test case");
    assert_eq!(case.name.as_str(), "deploy");
    (ended, case.status)
}

/// Why a test case was no success.
fn told(status: &TestCaseStatus) -> (NonSuccessKind, String) {
    match status {
        TestCaseStatus::NonSuccess { kind, description, .. } => {
            (*kind, description.as_ref().expect("a reason").to_string())
        }
        other => panic!("{other:?}"),
    }
}

async fn a_job(world: &World) -> String {
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let job = world.pipeline_with_jobs(mr).await;
    world.id_token(job.deploy, json!({})).await
}

#[tokio::test]
async fn what_is_not_decided_in_time_or_refused_stands_in_the_report() {
    let world = World::start().await;
    let token = a_job(&world).await;
    // The look cannot come to its end.
    world.wire.on("POST", "*/environments").always().answer(502, &[], "<html>");
    let (ended, status) = deploys(&world, &token, &["--timeout", "1"], &[]).await;
    assert_eq!(ended.code, 3, "{}", ended.all());
    let (kind, why) = told(&status);
    assert_eq!(kind, NonSuccessKind::Error);
    assert!(why.contains("it is not decided after 1 s; the server goes on"), "{why}");
    assert!(ended.stdout.contains("section_end:"), "the section ends: {}", ended.all());
    world.wire.heal();

    let (ended, status) = deploys(&world, "nonsense", &[], &[]).await;
    assert_eq!(ended.code, 1, "{}", ended.all());
    let (kind, why) = told(&status);
    assert_eq!(kind, NonSuccessKind::Failure);
    assert!(why.contains("the ID token cannot be read"), "{why}");

    let (ended, status) = deploys(&world, "", &[], &[]).await;
    assert_eq!(ended.code, 2, "{}", ended.all());
    let (kind, why) = told(&status);
    assert!(kind == NonSuccessKind::Error && why.contains("GREENROOM_ID_TOKEN"), "{why}");
    world.becomes(1, "ready").await;
    world.shows(1, "in trouble").await;
}

#[tokio::test]
async fn a_job_waits_no_longer_for_a_server_that_is_away() {
    let world = World::start().await;
    let token = a_job(&world).await;
    world.greenroom.kill9();
    let (ended, status) = deploys(&world, &token, &["--timeout", "2"], &[]).await;
    assert_eq!(ended.code, 3, "{}", ended.all());
    let (kind, why) = told(&status);
    assert_eq!(kind, NonSuccessKind::Error);
    assert!(why.starts_with("the time of the job is over: http://"), "{why}");
    assert!(why.contains("does not answer"), "{why}");

    // Nor for one that listens and says nothing.
    let wire = Wire::to(&world.greenroom.url()).await;
    wire.any().always().hang();
    let silent = [("GREENROOM_SERVER", wire.url().as_str())];
    let (ended, status) = deploys(&world, &token, &["--timeout", "1"], &silent).await;
    assert_eq!(ended.code, 3, "{}", ended.all());
    assert!(told(&status).1.ends_with(" is silent"), "{:?}", told(&status));
}

#[tokio::test]
async fn a_merge_train_is_skipped_in_every_way_of_telling() {
    let world = World::start().await;
    let variables = [("CI_MERGE_REQUEST_EVENT_TYPE", "merge_train")];
    let (ended, status) = deploys(&world, "x", &["--output", "json"], &variables).await;
    assert_eq!(ended.code, 0, "{}", ended.all());
    assert!(matches!(status, TestCaseStatus::Skipped { .. }), "{status:?}");
    assert_eq!(ended.dotenv, "GREENROOM_STATE=skipped\n");
    let shown: Value = serde_json::from_str(&ended.stdout).expect("JSON alone on stdout");
    assert_eq!((&shown["outcome"], &shown["state"]), (&json!("done"), &json!("skipped")));

    // Whoever reads the outcome from a file has to know that it is not there.
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut verb = world.verb_command(&["deploy", "--output", "json"], 1, "x");
    let output = verb.envs(variables).stdout(full).spawn().unwrap().wait_with_output().await.unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("stdout cannot be written"), "{told}");
}

#[tokio::test]
async fn a_server_that_sends_elsewhere_is_not_followed() {
    let world = World::start().await;
    let token = a_job(&world).await;
    let wire = Wire::to(&world.greenroom.url()).await;
    let elsewhere = [("location", "https://greenroom.example.com/api/v1/jobs/deploy?mr=1")];
    wire.any().always().answer(301, &elsewhere, "");
    let (ended, status) = deploys(&world, &token, &[], &[("GREENROOM_SERVER", wire.url().as_str())]).await;
    assert_eq!(ended.code, 1, "{}", ended.all());
    let (_, why) = told(&status);
    assert!(why.contains("sends elsewhere, to `https://greenroom.example.com/"), "{why}");
    assert_eq!(wire.calls().len(), 1, "once is enough");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_asked_for_again() {
    let world = World::start().await;
    let token = a_job(&world).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let breaks: Url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let server = world.greenroom.url().socket_addrs(|| None).unwrap()[0];
    let between = tokio::spawn(async move {
        let (mut first, _) = listener.accept().await.unwrap();
        let mut all = Vec::new();
        // The archive is small, and its end is that of the list of contents.
        while !all.windows(4).any(|bytes| bytes == b"PK\x05\x06") {
            assert_ne!(first.read_buf(&mut all).await.unwrap(), 0, "the request is whole");
        }
        let half =
            b"HTTP/1.1 202 Accepted\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"proj";
        first.write_all(half).await.unwrap();
        drop(first);
        loop {
            let (mut job, _) = listener.accept().await.unwrap();
            let mut server = TcpStream::connect(server).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut job, &mut server).await });
        }
    });
    let (ended, _) = deploys(&world, &token, &[], &[("GREENROOM_SERVER", breaks.as_str())]).await;
    between.abort();
    assert_eq!(ended.code, 0, "{}", ended.all());
    world.shows(1, "in trouble").await;
}

#[tokio::test]
async fn requests_that_are_not_as_the_routes_take_them_are_refused_in_words() {
    let world = World::start().await;
    let token = a_job(&world).await;
    let bearer = format!("Bearer {token}");
    let asks = async |request: reqwest::RequestBuilder| {
        let answer = request.header("authorization", &bearer).send().await.unwrap();
        let status = answer.status().as_u16();
        let problem: Value = answer.json().await.expect("a problem in JSON");
        (status, problem["detail"].as_str().expect("a reason").to_owned())
    };
    // What is sent is never passed over: the job would deploy something else than it meant to.
    for kind in ["text/html", "application/zip; charset=binary", "application/gzip"] {
        let post = world.greenroom.post("/api/v1/jobs/deploy?mr=1").header("content-type", kind).body("PK");
        let (status, why) = asks(post).await;
        assert_eq!(status, 415, "{kind}: {why}");
        assert!(why.contains("application/zip"), "{why}");
    }
    let (status, why) = asks(world.greenroom.post("/api/v1/jobs/deploy?mr=1&mr=2")).await;
    assert_eq!((status, why.contains("duplicate field")), (400, true), "{why}");
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let events = world.greenroom.url().join("/api/v1/jobs/previews/42/first/events").unwrap();
    let (status, why) = asks(http.get(events)).await;
    assert_eq!((status, why.contains("first")), (400, true), "{why}");
    let known = world.preview(1).await;
    assert!(known.is_none_or(|preview| !preview.to_string().contains("asked for a deploy")));
}

#[tokio::test]
async fn a_stop_whose_end_was_not_heard_is_over_although_the_preview_is_back() {
    let world = World::start().await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let job = world.pipeline_with_jobs(mr).await;
    let folder = site("one");
    let deploy = ["deploy", folder.path().to_str().unwrap()];
    assert_eq!(world.job_verb(job.deploy, mr, &deploy).await.code, 0);
    world.gitlab.act(&format!("jobs/{}", job.deploy), json!({ "status": "success" })).await;
    let ready = world.becomes(mr, "ready").await;
    let heard = ready["history"][0]["id"].as_str().unwrap();
    assert_eq!(world.job_verb(job.stop, mr, &["stop"]).await.code, 0);
    let again = world.gitlab.retry(job.deploy).await;
    assert_eq!(world.job_verb(again, mr, &deploy).await.code, 0);

    // The stop job's connection broke right after it had asked; it comes back with the last line that it knows.
    let token = world.id_token(job.stop, json!({})).await;
    let events = format!("/api/v1/jobs/previews/{}/{mr}/events?after={heard}", Gitlab::PROJECT);
    let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
    let events = http.get(world.greenroom.url().join(&events).unwrap()).bearer_auth(token);
    let told = events.send().await.unwrap().text().await.expect("an end");
    assert!(told.contains("\"state\":\"stopped\""), "{told}");
    let end: Value = serde_json::from_str(told.trim_end().lines().last().unwrap()).unwrap();
    assert_eq!((&end["end"]["outcome"], &end["end"]["state"]), (&json!("done"), &json!("ready")), "{told}");
}

#[tokio::test]
async fn a_folder_that_is_larger_than_an_artifact_may_be_is_refused() {
    let world = World::start_with(&[("GREENROOM_ARTIFACT_MAX_MIB", "1")]).await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let job = world.pipeline_with_jobs(mr).await;
    let folder = site("too large");
    let noise: Vec<u8> = (0..100_000).flat_map(|_| uuid::Uuid::new_v4().into_bytes()).collect();
    fs::write(folder.path().join("noise"), noise.repeat(8)).unwrap();
    let ended = world.job_verb(job.deploy, mr, &["deploy", folder.path().to_str().unwrap()]).await;
    assert_eq!(ended.code, 1, "{}", ended.all());
    assert!(ended.stderr.contains("the archive is larger than 1 MiB"), "{}", ended.all());
    assert_eq!(
        fs::read_dir(world.greenroom.data().join("uploads")).unwrap().count(),
        0,
        "nothing stays of it"
    );
}

#[tokio::test]
async fn the_section_of_a_stop_ends_however_it_comes_out() {
    let world = World::start().await;
    a_job(&world).await;
    let output = world.verb_command(&["stop"], 1, "nonsense").output().await.unwrap();
    let ended = Ended::of(output, "nothing".as_ref());
    assert_eq!(ended.code, 1, "{}", ended.all());
    assert!(
        ended.stdout.contains("section_end:") && ended.stdout.contains("greenroom_stop"),
        "{}",
        ended.all()
    );
}

#[tokio::test]
async fn an_archive_that_no_order_names_goes_though_no_other_comes() {
    let world = World::start_with(&[("GREENROOM_RESYNC_INTERVAL", "1s")]).await;
    let uploads = world.greenroom.data().join("uploads");
    let [old, young] = ["0", "1"].map(|digit| uploads.join(format!("{}.zip", digit.repeat(64))));
    fs::write(&young, "PK").unwrap();
    let left = fs::File::create(&old).unwrap();
    left.set_modified(SystemTime::now() - Duration::from_hours(2)).unwrap();
    until("it is gone", PATIENCE, || async { (!old.exists()).then_some(()) }).await;
    assert!(young.exists(), "its job may be about to ask");
}

#[tokio::test]
async fn sections_are_gitlabs_and_colours_are_where_they_are_shown() {
    let world = World::start().await;
    let folder = site("x");
    let prints = async |with: &[(&str, &str)]| {
        let mut verb = world.verb_command(&["deploy", folder.path().to_str().unwrap()], 1, "nonsense");
        let output = verb.env_remove("GITLAB_CI").envs(with.iter().copied()).output().await.unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let plain = prints(&[]).await;
    assert!(plain.starts_with("Deploying the preview\n1 files, "), "{plain:?}");
    assert!(!plain.contains('\x1b'), "{plain:?}");
    let gitlab = prints(&[("GITLAB_CI", "true")]).await;
    assert!(
        gitlab.contains("section_start:") && gitlab.contains("\x1b[1mDeploying the preview\x1b[0m"),
        "{gitlab:?}"
    );
    let grey = prints(&[("GITLAB_CI", "true"), ("NO_COLOR", "1")]).await;
    assert!(grey.contains("section_start:") && !grey.contains("\x1b[1m"), "{grey:?}");
}
