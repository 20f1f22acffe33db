//! The include as teams use it: `tests/sample` in a pipeline that gitlab-ci-local runs, with the real program in its jobs.
//!
//! What gitlab-ci-local lacks is handed over: it knows no `id_tokens`, so the token that the sandbox makes for the job comes as a
//! variable, and so does what makes a pipeline one of a merge request. It starts no stop job by itself either: the test does, as
//! GitLab would.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Jobs, alone::Lone};
use crate::{
    kubernetes::town::App,
    support::{
        gitlab::{BOT, Gitlab},
        parts,
        world::{World, page},
    },
};

/// The sample in a folder of its own, with the include, under version control as gitlab-ci-local wants it.
struct Sample {
    program: std::ffi::OsString,
    folder: TempDir,
}

impl Sample {
    fn new() -> Option<Self> {
        let covers = "the include is not run by gitlab-ci-local";
        let program = parts::part("GREENROOM_TEST_GITLAB_CI_LOCAL", covers)?;
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("ci")).unwrap();
        fs::copy(root.join("tests/sample/.gitlab-ci.yml"), folder.path().join(".gitlab-ci.yml")).unwrap();
        let include = "ci/greenroom.gitlab-ci.yml";
        fs::copy(root.join(include), folder.path().join(include)).unwrap();
        let sample = Self { program, folder };
        sample.git(&["init", "--quiet", "--initial-branch", "feature"]);
        sample.git(&["remote", "add", "origin", "git@gitlab.example.com:acme/web.git"]);
        sample.push("one");
        Some(sample)
    }

    fn git(&self, args: &[&str]) {
        let who = ["-c", "user.name=Dana", "-c", "user.email=dana@example.com"];
        let done = Command::new("git").args(who).args(args).current_dir(self.folder.path()).status();
        assert!(done.unwrap().success(), "git {args:?}");
    }

    /// A commit whose page says `text`.
    fn push(&self, text: &str) {
        fs::write(self.folder.path().join("page.html"), page(text)).unwrap();
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", text]);
    }

    /// Runs the pipeline, or one job of it.
    async fn run(&self, world: &World, mr: u64, job: u64, only: &[&str]) -> (bool, String) {
        let token = world.id_token(job, json!({})).await;
        let server = world.greenroom.url().as_str().trim_end_matches('/').to_owned();
        let variables = [("PREVIEWS", server.as_str()), ("GREENROOM_ID_TOKEN", &token)];
        self.run_with("acme/web", mr, &variables, only).await
    }

    /// The sample with this text in the place of another, as its next commit.
    fn with(&self, text: &str, other: &str) {
        let ci = self.folder.path().join(".gitlab-ci.yml");
        let known = fs::read_to_string(&ci).unwrap();
        assert!(known.contains(text), "the sample is another one by now");
        fs::write(&ci, known.replace(text, other)).unwrap();
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", "Change it"]);
    }

    /// The same with these variables, in the pipeline of a merge request of `project`.
    async fn run_with(
        &self,
        project: &str,
        mr: u64,
        variables: &[(&str, &str)],
        only: &[&str],
    ) -> (bool, String) {
        let mr = mr.to_string();
        let of_mr = [
            ("CI_PIPELINE_SOURCE", "merge_request_event"),
            ("CI_MERGE_REQUEST_IID", mr.as_str()),
            ("CI_MERGE_REQUEST_SOURCE_PROJECT_PATH", project),
            ("CI_MERGE_REQUEST_PROJECT_PATH", project),
        ];
        self.pipeline(&[&of_mr, variables].concat(), only).await
    }

    /// A pipeline with these variables.
    async fn pipeline(&self, variables: &[(&str, &str)], only: &[&str]) -> (bool, String) {
        let mut command = Command::new(&self.program);
        command.args(["--force-shell-executor", "--color=false"]).args(only);
        let id = Gitlab::PROJECT.to_string();
        for (name, value) in [("CI_PROJECT_ID", id.as_str())].iter().chain(variables) {
            command.arg("--variable").arg(format!("{name}={value}"));
        }
        let program = Path::new(env!("CARGO_BIN_EXE_greenroom")).parent().expect("a folder");
        let path = std::env::var("PATH").unwrap();
        command
            .env("PATH", format!("{}:{path}", program.display()))
            .env("HOME", self.folder.path())
            .current_dir(self.folder.path());
        let output: Output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.success(), text)
    }
}

#[tokio::test]
async fn a_team_includes_it_and_pushes_twice_and_stops() {
    let Some(sample) = Sample::new() else { return };
    let world = World::start().await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let first = world.pipeline_with_jobs(mr).await;
    let (passed, log) = sample.run(&world, mr, first.deploy, &[]).await;
    assert!(passed, "{log}");
    let preview = world.becomes(mr, "ready").await;
    world.shows(mr, "one").await;
    let url = preview["url"].as_str().unwrap();
    assert!(log.contains(&format!("the preview is at {url}")), "the report reaches the next job:\n{log}");
    assert!(!log.contains("greenroom:stop  starting"), "the stop job waits for somebody:\n{log}");
    finish(&world, first).await;

    world.gitlab.push("feature", &[("a", "2")]).await;
    sample.push("two");
    let second = world.pipeline_with_jobs(mr).await;
    let (passed, log) = sample.run(&world, mr, second.deploy, &[]).await;
    assert!(passed, "{log}");
    world.becomes(mr, "ready").await;
    world.shows(mr, "two").await;
    finish(&world, second).await;

    // The branch goes, and then somebody presses stop.
    world.gitlab.delete_branch("feature").await;
    let (passed, log) = sample.run(&world, mr, second.stop, &["greenroom:stop"]).await;
    assert!(passed, "{log}");
    world.is_gone(mr).await;
    world.ends_well().await;
}

#[tokio::test]
async fn what_cannot_be_served_makes_the_pipeline_red() {
    let Some(sample) = Sample::new() else { return };
    let world = World::start().await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let jobs = world.pipeline_with_jobs(mr).await;
    sample.git(&["rm", "--quiet", "page.html"]);
    fs::write(sample.folder.path().join("page.html"), "").unwrap();
    sample.with("dist/index.html", "dist/other.html");
    let (passed, log) = sample.run(&world, mr, jobs.deploy, &[]).await;
    assert!(!passed && log.contains("index.html"), "{log}");
    assert!(!log.contains("the preview is at"), "{log}");
    world.becomes(mr, "failed").await;
}

/// In pipelines of a branch that nobody has opened a merge request for.
#[tokio::test]
async fn a_team_includes_it_in_branch_pipelines() {
    let Some(sample) = Sample::new() else { return };
    let world = World::start().await;
    let inputs = "folder: dist\n      environment: review/$CI_COMMIT_REF_SLUG\n      \
                  if: $CI_COMMIT_BRANCH && $CI_COMMIT_BRANCH != $CI_DEFAULT_BRANCH";
    sample.with("folder: dist", inputs);
    sample.with("- if: $CI_PIPELINE_SOURCE == \"merge_request_event\"", "- if: $CI_COMMIT_BRANCH");
    let jobs = world.branch_pipeline("feature", "1").await;
    let server = world.greenroom.url().as_str().trim_end_matches('/').to_owned();
    let run = async |job: u64, only: &[&str]| {
        let token = world.id_token(job, json!({})).await;
        let variables = [
            ("CI_PIPELINE_SOURCE", "push"),
            ("CI_DEFAULT_BRANCH", "main"),
            ("PREVIEWS", &server),
            ("GREENROOM_ID_TOKEN", &token),
        ];
        sample.pipeline(&variables, only).await
    };
    let (passed, log) = run(jobs.deploy, &[]).await;
    assert!(passed, "{log}");
    let preview = world.branch_becomes("feature", "ready").await;
    assert_eq!(world.branch_shows("feature").await, (200, page("one")));
    let url = preview["url"].as_str().unwrap();
    assert!(log.contains(&format!("the preview is at {url}")), "the report reaches the next job:\n{log}");

    world.gitlab.delete_branch("feature").await;
    let (passed, log) = run(jobs.stop, &["greenroom:stop"]).await;
    assert!(passed, "{log}");
    world.branch_is_gone("feature").await;
}

/// Without a server: the kubeconfig is a variable of the type file, and what gitlab-ci-local makes up of the pipeline is said as the
/// sandbox has it.
#[tokio::test]
async fn a_team_without_a_server_includes_it_with_an_instance() {
    let Some(sample) = Sample::new() else { return };
    let Some(lone) = Lone::start("alone-include").await else { return };
    let inputs = "server: $PREVIEWS\n      image: registry.example.com/greenroom-ci\n      folder: dist";
    let alone = "instance: alone-include\n      engine: kubernetes\n      preview_domain: preview.example.com\n      \
                 image: registry.example.com/greenroom-ci";
    let kubeconfig = fs::read_to_string(&lone.kubeconfig).unwrap();
    let variables = json!({ "global": { "KUBECONFIG": { "type": "file", "values": { "*": kubeconfig } } } });
    fs::create_dir_all(sample.folder.path().join(".gitlab-ci-local")).unwrap();
    fs::write(sample.folder.path().join(".gitlab-ci-local/variables.yml"), variables.to_string()).unwrap();
    sample.with(inputs, alone);

    let app = App::works(1);
    let mr = lone.open("feature", &app).await;
    let job = lone.job();
    let pipeline = job.pipeline(mr).await;
    let run = async |job_id: u64, only: &[&str]| {
        let (id, job_id) = (pipeline.id.to_string(), job_id.to_string());
        let environment = format!("review/mr-{mr}");
        let variables = [
            ("CI_PROJECT_PATH", job.project.as_str()),
            ("CI_PIPELINE_ID", &id),
            ("CI_JOB_ID", &job_id),
            ("CI_COMMIT_SHA", &pipeline.sha),
            ("CI_ENVIRONMENT_NAME", &environment),
            ("GREENROOM_GITLAB_URL", &job.api),
            ("GREENROOM_GITLAB_TOKEN", BOT),
        ];
        sample.run_with(&job.project, mr, &variables, only).await
    };
    let (passed, log) = run(pipeline.deploy, &[]).await;
    assert!(passed, "{log}");
    let url = format!("https://{}.preview.example.com", lone.namespace(mr));
    assert!(log.contains(&format!("the preview is at {url}")), "the report reaches the next job:\n{log}");
    assert!(!log.contains(BOT), "the token stands nowhere:\n{log}");
    lone.runs(mr, &app).await;

    let (passed, log) = run(pipeline.stop, &["greenroom:stop"]).await;
    assert!(passed, "{log}");
    lone.is_gone(mr).await;
}

async fn finish(world: &World, jobs: Jobs) {
    world.gitlab.act(&format!("jobs/{}", jobs.deploy), json!({ "status": "success" })).await;
}

/// GitLab starts the stop job where the deploy job ran, and by itself only if it needs nothing that may be gone.
#[test]
fn the_stop_job_is_where_the_deploy_job_is_and_needs_nothing() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let include = fs::read_to_string(root.join("ci/greenroom.gitlab-ci.yml")).unwrap();
    let (header, jobs) = include.split_once("\n---\n").expect("two documents");
    let [header, jobs]: [Value; 2] = [header, jobs].map(|text| serde_saphyr::from_str(text).unwrap());
    let [deploy, stop, prepare] =
        ["deploy", "stop", "prepare"].map(|job| &jobs[format!("$[[ inputs.{job}_job ]]")]);
    let mut manual = deploy["rules"].clone();
    let last = manual.as_array_mut().unwrap().last_mut().unwrap();
    (last["when"], last["allow_failure"]) = (json!("manual"), json!(true));
    assert_eq!(stop["rules"], manual);
    assert_eq!(stop["stage"], deploy["stage"]);
    assert_eq!(stop["environment"]["name"], deploy["environment"]["name"]);
    assert_eq!(stop["environment"]["action"], "stop");
    assert_eq!(stop["variables"]["GIT_STRATEGY"], "none", "the branch may be gone");
    assert_eq!(
        (&stop["dependencies"], &stop["needs"]),
        (&json!([]), &json!([])),
        "artifacts may have expired, and jobs of earlier stages failed, which a deploy job with `needs` does not wait for"
    );
    // What earlier jobs have left on the runner, of other branches even, must not be sent; `none` keeps it.
    assert_eq!(header["spec"]["inputs"]["git_strategy"]["default"], "empty");
    assert_eq!(deploy["variables"]["GIT_STRATEGY"], "$[[ inputs.git_strategy ]]");
    assert_eq!(deploy["interruptible"], false);
    assert_eq!(deploy["resource_group"], deploy["environment"]["name"]);
    // GitLab makes no deployment for this one.
    assert_eq!(prepare["environment"]["action"], "prepare");
}

#[test]
fn the_page_tells_all_inputs_and_forty_failures_each_with_a_test_there_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let include = fs::read_to_string(root.join("ci/greenroom.gitlab-ci.yml")).unwrap();
    let component = fs::read_to_string(root.join("templates/greenroom.yml")).unwrap();
    assert_eq!(component, include, "what the CI/CD Catalog reads is a copy of `ci/greenroom.gitlab-ci.yml`");
    let header = include.split("\n---\n").next().expect("a header");
    let inputs: std::collections::BTreeSet<_> = header
        .lines()
        .filter_map(|line| line.strip_prefix("    ")?.strip_suffix(':'))
        .filter(|name| !name.starts_with(' '))
        .map(str::to_owned)
        .collect();
    assert_eq!(inputs, crate::support::documented("docs/gitlab-ci.md", "Inputs"));
    let version = format!("default: \"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(header.contains(&version), "the include's version is this one");

    let page = fs::read_to_string(root.join("docs/gitlab-ci.md")).unwrap();
    let sources = [root.join("tests"), root.join("src")].map(|folder| all_of(&folder)).concat();
    let (_, forty) = page.split_once("## Forty ways").expect("the section");
    let (first, _) = forty.split_once("\n### ").expect("the second table");
    let rows = first.lines().filter_map(|line| {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let number = cells.first()?.parse::<usize>().ok()?;
        Some((number, (*cells.last()?).to_owned()))
    });
    let rows: Vec<_> = rows.collect();
    assert_eq!(rows.iter().map(|(number, _)| *number).collect::<Vec<_>>(), (1..=40).collect::<Vec<_>>());
    // The second table has a dash, or a test, in the same place.
    let (_, second) = forty.split_once("### Where a job that works alone differs").expect("the second table");
    let alone = second.lines().filter_map(|line| {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let number = cells.first()?.split(',').next()?.parse::<usize>().ok()?;
        Some((number, (*cells.last()?).to_owned()))
    });
    let alone: Vec<_> = alone.collect();
    assert!(alone.len() > 5, "{alone:?}");
    for (number, shown) in rows.into_iter().chain(alone) {
        for test in shown.trim_matches(|c| c == '|' || c == ' ').split(", ") {
            let test = test.trim_matches('`');
            assert!(
                test == "–" || sources.contains(&format!("fn {test}(")),
                "{number}: there is no test `{test}`"
            );
        }
    }
}

/// The text of all Rust files below a folder.
fn all_of(folder: &Path) -> String {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let text = |path: std::path::PathBuf| match path.extension() {
        _ if path.is_dir() => all_of(&path),
        Some(extension) if extension == "rs" => fs::read_to_string(&path).unwrap(),
        _ => String::new(),
    };
    entries.map(text).collect()
}

/// A mirror's own pipeline makes the image that the recipes name.
#[test]
fn the_image_of_the_recipes_is_the_one_that_our_pipeline_publishes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/gitlab-ci.md")).unwrap();
    let image = "registry.example.com/acme/greenroom/ci";
    let named = page.matches("image: ").count();
    assert_eq!(page.matches(&format!("image: {image}")).count(), named, "all recipes name {image}");

    let pipeline = fs::read_to_string(root.join(".gitlab-ci.yml")).unwrap();
    let pipeline: Value = serde_saphyr::from_str(&pipeline).unwrap();
    let script = pipeline["images"]["script"][0].as_str().expect("a script");
    let folder = tempfile::tempdir().unwrap();
    let stand_in = format!("buildah() {{ [ \"$1\" != push ] || echo \"$2\"; }}\n{script}");
    let output = Command::new("sh")
        .args(["-euc", &stand_in])
        .current_dir(folder.path())
        .env("CI_REGISTRY_IMAGE", "registry.example.com/acme/greenroom")
        .env("CI_COMMIT_TAG", env!("CARGO_PKG_VERSION"))
        .env("CI_COMMIT_TIMESTAMP", "2026-11-22T00:00:00Z")
        .env("CI_COMMIT_SHA", "c0ffee")
        .env("CI_PROJECT_URL", "https://gitlab.example.com/acme/greenroom")
        .output()
        .unwrap();
    let pushed = String::from_utf8(output.stdout).unwrap();
    // The tag is what the input `version` is by default.
    assert_eq!(pushed.lines().last(), Some(&*format!("{image}:{}", env!("CARGO_PKG_VERSION"))), "{pushed}");
}
