//! `greenroom demo` and `greenroom sandbox`: to try it without a GitLab.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use insta::{assert_snapshot, with_settings};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{Shell, child};

#[test]
fn the_demo_tells_its_story_and_ends() {
    let (code, story, stderr) = Shell::new().runs(&["demo", "--once"]);
    assert_eq!((code, &*stderr), (0, ""), "{story}");
    assert!(story.lines().filter(|line| line.starts_with("   GitLab    sends ")).count() > 20, "{story}");
    // Which deliveries GitLab has sent by the time greenroom has decided is up to the moment.
    let story: Vec<_> = story.lines().filter(|line| !line.starts_with("   GitLab    sends ")).collect();
    let filters = [
        (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "[time]"),
        (r"(127\.0\.0\.1|localhost):\d+", "$1:[port]"),
        (r"`[0-9a-f]{8}`", "`[commit]`"),
        (r"Deployed in \| .* \|", "Deployed in | [duration] |"),
        (r"that took \d+ ms", "that took [duration]"),
        // GitLab numbers commit statuses along with jobs, and which of them comes first is up to the moment.
        (r"\(id 540000000\d+\)", "(id [job])"),
        (r"\b5[34]0000000", "[id]"),
    ];
    with_settings!({ filters => filters }, { assert_snapshot!(story.join("\n")) });
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut demo = child(&Shell::new(), &["demo", "--once", "--log", "debug"], Stdio::null(), writer);
    assert!(demo.wait().unwrap().success());
}

#[test]
fn the_sandbox_prints_its_address_and_answers_there() {
    let shell = Shell::new();
    let mut sandbox = child(&shell, &["sandbox", "--token", "t"], Stdio::piped(), Stdio::null());
    let mut url = String::new();
    BufReader::new(sandbox.stdout.as_mut().unwrap()).read_line(&mut url).unwrap();
    let version = get(&format!("{}/api/v4/version", url.trim()), ("PRIVATE-TOKEN", "t"));
    kill_process(Pid::from_child(&sandbox), Signal::INT).unwrap();
    assert!(sandbox.wait().unwrap().success());
    assert!(version["version"].is_string(), "{version}");
}

fn get(url: &str, (name, value): (&'static str, &'static str)) -> Value {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        client.get(url).header(name, value).send().await.unwrap().json().await.unwrap()
    })
}
