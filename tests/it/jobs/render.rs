//! `greenroom render` in a job: what GitLab's variables say stands for what nobody gave.

use std::fs;

use assert_cmd::cargo::cargo_bin_cmd;
use serde_json::Value;

use crate::{kubernetes::town::App, support::gitlab::Gitlab};

#[test]
fn a_job_renders_what_its_merge_request_would_run() {
    let checkout = tempfile::tempdir().unwrap();
    for (path, text) in App::works(1).files() {
        let path = checkout.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let rendered = |more: &[&str]| {
        let mut greenroom = cargo_bin_cmd!("greenroom");
        let output = greenroom
            .env_clear()
            .env("CI_PROJECT_ID", Gitlab::PROJECT.to_string())
            .env("CI_PROJECT_PATH", "acme/shop")
            .env("CI_MERGE_REQUEST_IID", "7")
            .env("CI_COMMIT_SHA", "b".repeat(40))
            .arg("render")
            .args(more)
            .current_dir(checkout.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let env = |text: &str, wanted: &str| assert!(text.contains(wanted), "{wanted}:\n{text}");
    env(&rendered(&[]), "https://shop-42-mr-7.preview.example");
    env(&rendered(&["--name", "other"]), "https://other.preview.example");
    let objects = rendered(&[]);
    let kinds =
        objects.split("\n---\n").map(|one| serde_saphyr::from_str::<Value>(one).unwrap()["kind"].clone());
    assert_eq!(kinds.collect::<Vec<_>>(), ["Deployment", "Service"]);
}
