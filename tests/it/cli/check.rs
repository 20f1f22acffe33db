//! `greenroom check`: project files, settings, templates and pipelines.

use std::fs;

use insta::assert_snapshot;

use super::{Shell, shown};

#[test]
fn a_good_file_passes() {
    let shell = Shell::new();
    shell.writes(".greenroom.yml", "version: 1\nengine: static\nstatic: {job: build, path: dist}\n");
    assert_snapshot!(shown(shell.runs(&["check"])));
    assert_snapshot!(shown(shell.runs(&["check", "--output", "json", ".greenroom.yml"])));
}

#[test]
fn a_bad_file_is_told_with_its_place() {
    let shell = Shell::new();
    shell.writes("bad.yml", "version: 1\nengine: static\nstatic: {job: build, paht: dist}\n");
    assert_snapshot!(shown(shell.runs(&["check", "bad.yml"])));
    assert_snapshot!(shown(shell.runs(&["check", "--output", "json", "bad.yml"])));
}

#[test]
fn the_templates_of_a_preview_are_tried_out() {
    let shell = Shell::new();
    fs::create_dir_all(shell.0.path().join(".greenroom/k8s")).unwrap();
    let project = "version: 1\nengine: kubernetes\nkubernetes: {manifests: .greenroom/k8s}\n";
    shell.writes(".greenroom.yml", project);
    let map = |value: &str| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata:\n  b: '{{{{ {value} }}}}'\n")
    };
    shell.writes(".greenroom/k8s/a.yaml", &map("host"));
    assert_eq!(shell.runs(&["check"]).0, 0);
    shell.writes(".greenroom/k8s/a.yaml", &map("hots"));
    assert_snapshot!(shown(shell.runs(&["check"])));
    // What only the operator knows can be given.
    shell.writes(".greenroom/k8s/a.yaml", &map("colour"));
    assert_eq!(shell.runs(&["check"]).0, 2);
    assert_eq!(shell.runs(&["check", "--value", "colour=green"]).0, 0);
    let file =
        shell.writes("greenroom.toml", "[[project]]\nmatch = ['acme/*']\nvalues = {colour = 'green'}\n");
    let given = ["check", "--config", file.to_str().unwrap(), "--project", "acme/web"];
    let (_, told, _) = shell.runs(&given);
    assert!(!told.contains("colour is not"), "{told}");
    shell.writes(".greenroom/k8s/a.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n");
    assert_snapshot!(shown(shell.runs(&["check"])));
}

#[test]
fn what_the_include_is_given_is_checked_beside_the_project_file() {
    let shell = Shell::new();
    shell.writes(".greenroom.yml", "version: 1\nengine: static\nstatic: {job: build, path: dist}\n");
    let pipeline = |inputs: &str| {
        format!(
            "build: {{script: [make]}}\ninclude:\n  - component: $CI_SERVER_FQDN/acme/greenroom/greenroom@0.1.0\n    inputs: {inputs}\n"
        )
    };
    let right =
        "{server: https://greenroom.example.com, image: registry.example.com/greenroom, folder: dist}";
    shell.writes(".gitlab-ci.yml", &pipeline(right));
    assert_snapshot!(shown(shell.runs(&["check"])));
    shell.writes(".gitlab-ci.yml", &pipeline("{server: greenroom, foldr: dist, version: 1}"));
    assert_snapshot!(shown(shell.runs(&["check"])));
    shell.writes(".gitlab-ci.yml", "build: {script: [make]}\n");
    assert!(!shell.runs(&["check"]).2.contains("gitlab-ci"), "there is nothing of ours in it");
}

#[test]
fn a_file_that_is_not_there_is_a_finding() {
    assert_snapshot!(shown(Shell::new().runs(&["check", "elsewhere.yml"])));
}

#[test]
fn with_nothing_to_check_check_says_so() {
    assert_snapshot!(shown(Shell::new().runs(&["check"])));
}

#[test]
fn settings_and_project_file_are_checked_together() {
    let shell = Shell::new();
    shell.writes(".greenroom.yml", "version: 2\n");
    shell.writes(
        "greenroom.toml",
        "gitlab_url = 'gitlab.example.com'\nwebhook_signing_token = ['whsec_short']\n",
    );
    assert_snapshot!(shown(shell.runs(&["check", "--config", "greenroom.toml"])));
}

#[test]
fn what_holds_for_a_project_is_told_with_where_it_was_written() {
    let shell = Shell::new();
    shell.writes("token", "glpat-secret\n");
    shell.writes(
        "greenroom.toml",
        "gitlab_url = 'https://gitlab.example.com'\ngitlab_token = 't'\nwebhook_secret_token = ['s']\n\
         projects = ['team-a/**']\n\n[[project]]\nmatch = ['**']\nmax_lifetime = '14d'\n\n[[project]]\n\
         match = ['team-a/*']\nmax_lifetime = '7d'\nmax_previews = 20\ngitlab_token_file = 'token'\nengines = []\n",
    );
    let check = ["check", "--config", "greenroom.toml", "--project"];
    assert_snapshot!(shown(shell.runs(&[&check[..], &["team-a/web"]].concat())));
    assert_snapshot!(shown(shell.runs(&[&check[..], &["other/web"]].concat())));
    assert_snapshot!(shown(shell.runs(&[&check[..], &["team-a/web", "--output", "json"]].concat())));
    assert_snapshot!(shown(shell.runs(&[&check[..], &["web"]].concat())));
    // Whatever else is wrong, what can be told is.
    shell.writes("greenroom.toml", "[[project]]\nmatch = ['**']\nmax_lifetime = '7d'\nmax_previews = -1\n");
    assert_snapshot!(shown(shell.runs(&[&check[..], &["team-a/web"]].concat())));
}

#[test]
fn the_token_of_jobs_that_work_alone_is_no_setting_of_a_server() {
    let shell = Shell::new();
    shell.writes(".greenroom.yml", "version: 1\nengine: static\nstatic: {job: build, path: dist}\n");
    let checks = |in_job: bool| {
        let mut greenroom = shell.greenroom(&["check"]);
        greenroom.env("GREENROOM_GITLAB_TOKEN", "t").envs(in_job.then_some(("GITLAB_CI", "true")));
        let output = greenroom.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(checks(true), (Some(0), String::new()));
    let (code, told) = checks(false);
    assert!(code == Some(2) && told.contains("GREENROOM_WEBHOOK_SIGNING_TOKEN"), "{told}");
}
