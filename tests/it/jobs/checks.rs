//! A job ends with the project's own checks of what it deployed.

use std::fs;

use quick_junit::{Report, TestCaseStatus};
use serde_json::{Value, json};

use super::{Ended, site};
use crate::support::world::World;

/// A job deploys a head with these checks; how that ended, and its JUnit report.
async fn deploys(world: &World, checks: &str) -> (u64, Ended, Report) {
    let file = format!("version: 1\nengine: static\nstatic: {{job: build}}\nchecks: [{checks}]\n");
    world.gitlab.push("feature", &[(".greenroom.yml", &file)]).await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let job = world.pipeline_with_jobs(mr).await;
    let (folder, home) = (site("checked"), tempfile::tempdir().unwrap());
    let junit = home.path().join("greenroom.xml");
    let args = ["deploy", "--junit", junit.to_str().unwrap(), folder.path().to_str().unwrap()];
    let ended = world.job_verb(job.deploy, mr, &args).await;
    world.gitlab.act(&format!("jobs/{}", job.deploy), json!({ "status": "success" })).await;
    let report = Report::deserialize_from_str(&fs::read_to_string(junit).unwrap()).expect("a report");
    (mr, ended, report)
}

/// The names of the test cases, and what each failed with.
fn cases(report: &Report) -> Vec<(String, Option<String>)> {
    let cases = report.test_suites.iter().flat_map(|suite| &suite.test_cases);
    let failed = |status: &TestCaseStatus| match status {
        TestCaseStatus::NonSuccess { message, .. } => Some(message.as_ref().expect("a reason").to_string()),
        _ => None,
    };
    cases.map(|case| (case.name.to_string(), failed(&case.status))).collect()
}

#[tokio::test]
async fn a_deploy_whose_checks_pass_is_a_success() {
    let world = World::start().await;
    let (mr, ended, report) = deploys(&world, "{http: /, body: checked}").await;
    assert_eq!(ended.code, 0, "{}", ended.all());
    let told = "GET `/` passed: it answered with 200 OK, and its body matches";
    assert!(ended.stdout.contains(told), "{}", ended.all());
    assert_eq!(cases(&report), [("deploy".to_owned(), None), ("GET `/`".to_owned(), None)]);
    world.becomes(mr, "ready").await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_deploy_whose_check_fails_is_a_failure_and_the_preview_stays() {
    let world = World::start().await;
    let (mr, ended, report) = deploys(&world, "{http: /}, {http: /missing, timeout: 5s}").await;
    assert_eq!(ended.code, 1, "{}", ended.all());
    assert!(ended.stderr.contains("the preview is ready: 1 of 2 checks failed"), "{}", ended.all());
    let why = "it answered with 404 Not Found instead of 200: ";
    assert!(ended.stderr.contains(&format!("GET `/missing` failed: {why}")), "{}", ended.all());
    assert!(ended.dotenv.contains("GREENROOM_STATE=ready\n"), "{}", ended.dotenv);
    let cases = cases(&report);
    assert_eq!(cases[..2], [("deploy".to_owned(), None), ("GET `/`".to_owned(), None)]);
    assert_eq!(cases[2].0, "GET `/missing`");
    assert!(cases[2].1.as_ref().is_some_and(|told| told.contains(why)), "{cases:#?}");
    let preview: Value = world.becomes(mr, "ready").await;
    assert_eq!(preview["checks"][1]["state"], "failed");
    world.shows(mr, "checked").await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_deploy_that_failed_is_the_only_failure_of_its_report() {
    let world = World::start().await;
    let file = "version: 1\nengine: static\nstatic: {job: build}\nchecks: [{http: /}]\n";
    world.gitlab.push("feature", &[(".greenroom.yml", file)]).await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let job = world.pipeline_with_jobs(mr).await;
    let (folder, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(folder.path().join("readme.txt"), "no page").unwrap();
    let junit = home.path().join("greenroom.xml");
    let args = ["deploy", "--junit", junit.to_str().unwrap(), folder.path().to_str().unwrap()];
    let ended = world.job_verb(job.deploy, mr, &args).await;
    assert_eq!(ended.code, 1, "{}", ended.all());
    let report = Report::deserialize_from_str(&fs::read_to_string(junit).unwrap()).expect("a report");
    let cases = cases(&report);
    assert_eq!((cases.len(), cases[0].0.as_str()), (1, "deploy"));
    assert!(cases[0].1.as_ref().is_some_and(|why| why.contains("index.html")), "{cases:#?}");
    world.gitlab.fail_job(job.deploy).await;
}
