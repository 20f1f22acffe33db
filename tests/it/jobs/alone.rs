//! Jobs that do the work themselves: a kubeconfig, a token for GitLab, and no server anywhere.

use std::{
    fs,
    path::PathBuf,
    process::{Output, Stdio},
};

use greenroom::preview::ref_slug;
use serde_json::{Value, json};

use super::{DEPLOY, Ended, STOP};
use crate::{
    kubernetes::town::App,
    support::{
        PATIENCE,
        cluster::{Cluster, kubelet::Says},
        gitlab::{BOT, Gitlab},
        until,
        wire::Wire,
    },
};

/// A pipeline with a deploy job and a stop job, as their variables tell of it.
#[derive(Debug, Clone)]
pub struct CiPipeline {
    /// Nothing for that of a branch without a merge request.
    pub mr: Option<u64>,
    pub environment: String,
    pub id: u64,
    pub sha: String,
    pub branch: String,
    pub deploy: u64,
    pub stop: u64,
}

/// What jobs of one project are given.
pub struct Job<'a> {
    pub gitlab: &'a Gitlab,
    pub project: String,
    pub instance: String,
    pub api: String,
    pub kubeconfig: PathBuf,
}

impl Job<'_> {
    /// A pipeline runs for the head; its deploy job runs, its stop job waits for somebody.
    pub async fn pipeline(&self, mr: u64) -> CiPipeline {
        let shown = self.gitlab.mr(mr).await;
        let branch = shown["source_branch"].as_str().unwrap();
        self.made(&json!({ "mr_iid": mr }), branch, &format!("review/mr-{mr}")).await
    }

    /// The same for a branch without a merge request.
    pub async fn branch_pipeline(&self, branch: &str) -> CiPipeline {
        self.made(&json!({ "ref": branch }), branch, &format!("review/{}", ref_slug(branch))).await
    }

    async fn made(&self, of: &Value, branch: &str, environment: &str) -> CiPipeline {
        let jobs = json!([
            { "name": "build", "status": "success" },
            { "name": DEPLOY, "status": "running", "environment": { "name": environment, "on_stop": STOP } },
            { "name": STOP, "when": "manual", "environment": { "name": environment, "action": "stop" } },
        ]);
        let mut wanted = of.clone();
        wanted["jobs"] = jobs;
        let made = self.gitlab.act("pipelines", wanted).await;
        let id = |value: &Value| value["id"].as_u64().expect("an id");
        CiPipeline {
            mr: of["mr_iid"].as_u64(),
            environment: environment.to_owned(),
            id: id(&made),
            sha: made["sha"].as_str().unwrap().to_owned(),
            branch: branch.to_owned(),
            deploy: id(&made["jobs"][1]),
            stop: id(&made["jobs"][2]),
        }
    }

    /// A verb with the variables that GitLab and the project set.
    pub fn command(&self, args: &[&str], pipeline: &CiPipeline, job: u64) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_greenroom"));
        let project = Gitlab::PROJECT.to_string();
        command
            .args(args)
            .env_clear()
            .envs([
                ("GITLAB_CI", "true"),
                ("CI_SERVER_URL", &self.api),
                ("CI_PROJECT_ID", &project),
                ("CI_PROJECT_PATH", &self.project),
                ("CI_PIPELINE_ID", &pipeline.id.to_string()),
                ("CI_JOB_ID", &job.to_string()),
                ("CI_COMMIT_SHA", &pipeline.sha),
                ("CI_COMMIT_REF_NAME", &pipeline.branch),
                ("CI_ENVIRONMENT_NAME", &pipeline.environment),
                ("GREENROOM_SERVER", "none"),
                ("GREENROOM_INSTANCE", &self.instance),
                ("GREENROOM_GITLAB_TOKEN", BOT),
                ("GREENROOM_GITLAB_RATE", "off"),
                ("GREENROOM_PREVIEW_DOMAIN", "preview.localhost"),
            ])
            .envs(pipeline.mr.map(|mr| ("CI_MERGE_REQUEST_IID", mr.to_string())))
            .envs(pipeline.mr.map(|_| ("CI_MERGE_REQUEST_PROJECT_ID", &project)))
            .env("KUBECONFIG", &self.kubeconfig)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs a verb in a job.
    pub async fn run(&self, args: &[&str], pipeline: &CiPipeline, job: u64) -> Ended {
        let home = tempfile::tempdir().unwrap();
        let dotenv = home.path().join("greenroom.env");
        let mut command = self.command(args, pipeline, job);
        command.arg("--dotenv").arg(&dotenv).arg("--timeout").arg(PATIENCE.as_secs().to_string());
        Ended::of(command.output().await.unwrap(), &dotenv)
    }

    /// The deploy job runs to its end, and GitLab sees how it ended.
    pub async fn deploy(&self, pipeline: &CiPipeline) -> Ended {
        let ended = self.run(&["deploy"], pipeline, pipeline.deploy).await;
        let status = if ended.code == 0 { "success" } else { "failed" };
        self.gitlab.act(&format!("jobs/{}", pipeline.deploy), json!({ "status": status })).await;
        ended
    }

    /// What a deploy by the job would do: exit code, and what is printed.
    pub async fn plans(&self, pipeline: &CiPipeline) -> (i32, String) {
        let output = self.command(&["plan"], pipeline, pipeline.deploy).output().await.unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().expect("it ended by itself"), String::from_utf8(text).unwrap())
    }

    /// The stop job.
    pub async fn stop(&self, pipeline: &CiPipeline) -> Ended {
        self.run(&["stop"], pipeline, pipeline.stop).await
    }
}

/// A project on GitLab, a cluster, and nobody between them. Dropped in this order, as a [`World`](crate::support::world::World).
pub struct Lone {
    pub wire: Wire,
    pub gitlab: Gitlab,
    pub cluster: &'static Cluster,
    name: &'static str,
    pub kubeconfig: PathBuf,
}

impl Lone {
    pub async fn start(name: &'static str) -> Option<Self> {
        let cluster = Cluster::start().await?;
        let gitlab = Gitlab::start_with(&format!("acme/{name}"), None).await;
        let wire = Wire::to_gitlab(&gitlab.url()).await;
        let kubeconfig = cluster.administrator(name).await;
        Some(Self { wire, gitlab, cluster, name, kubeconfig })
    }

    pub fn job(&self) -> Job<'_> {
        Job {
            gitlab: &self.gitlab,
            project: format!("acme/{}", self.name),
            instance: self.name.to_owned(),
            api: self.wire.url().as_str().trim_end_matches('/').to_owned(),
            kubeconfig: self.kubeconfig.clone(),
        }
    }

    pub async fn push(&self, branch: &str, app: &App) {
        let files = app.files();
        let files: Vec<_> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
        self.gitlab.push(branch, &files).await;
    }

    pub async fn open(&self, branch: &str, app: &App) -> u64 {
        self.push(branch, app).await;
        self.gitlab.open_mr(branch, branch).await
    }

    pub fn namespace(&self, mr: u64) -> String {
        format!("{}-{}-mr-{mr}", self.name, Gitlab::PROJECT)
    }

    pub async fn runs(&self, mr: u64, app: &App) {
        let deployment = self.cluster.get("deployments", &self.namespace(mr), "web").await;
        let deployment = deployment.expect("the Deployment");
        let image = &deployment["spec"]["template"]["spec"]["containers"][0]["image"];
        assert_eq!(image.as_str(), Some(app.image.as_str()));
        assert_eq!(deployment["status"]["readyReplicas"], 1, "{deployment:#}");
    }

    pub async fn is_gone(&self, mr: u64) {
        let left = self.cluster.get("namespaces", "", &self.namespace(mr)).await;
        assert!(left.is_none(), "the cluster still has {left:#?}");
        let name = format!("review/mr-{mr}");
        let environments = self.gitlab.environments().await;
        assert!(!environments.iter().any(|one| one["name"] == *name), "{environments:#?}");
    }
}

#[tokio::test]
async fn a_job_alone_deploys_twice_and_stops_twice_without_its_branch() {
    let Some(lone) = Lone::start("alone").await else { return };
    let job = lone.job();
    let one = App { config_maps: vec!["old"], ..App::works(1) };
    let mr = lone.open("feature", &one).await;
    let first = job.pipeline(mr).await;
    let nothing = job.stop(&first).await;
    assert_eq!(nothing.code, 0, "{}", nothing.all());

    let ended = job.deploy(&first).await;
    assert_eq!(ended.code, 0, "{}", ended.all());
    lone.runs(mr, &one).await;
    let namespace = lone.namespace(mr);
    let url = format!("https://{namespace}.preview.localhost");
    let expected = format!("GREENROOM_URL={url}\nGREENROOM_NAME={namespace}\nGREENROOM_STATE=ready\n");
    assert_eq!(ended.dotenv, expected);
    assert!(ended.stdout.contains("section_start:") && ended.stdout.contains(&url), "{}", ended.all());
    let comment = lone.gitlab.comment(mr).await.expect("the comment");
    assert!(comment.contains("Preview: ready") && comment.contains(&url), "{comment}");
    // GitLab has recorded the deployment of the job; there is no second one.
    let deployments = lone.gitlab.deployments().await;
    assert_eq!(deployments.len(), 1, "{deployments:#?}");
    assert_eq!(deployments[0]["deployable"]["name"], DEPLOY);
    let environments = lone.gitlab.environments().await;
    assert_eq!(environments[0]["external_url"], json!(url), "{environments:#?}");

    let two = App { config_maps: vec!["new"], ..App::works(2) };
    lone.push("feature", &two).await;
    let second = job.pipeline(mr).await;
    let late = job.run(&["deploy"], &first, first.deploy).await;
    assert_eq!(late.code, 1, "{}", late.all());
    assert!(late.stderr.contains("is not for the head of merge request"), "{}", late.all());
    let ended = job.deploy(&second).await;
    assert_eq!(ended.code, 0, "{}", ended.all());
    lone.runs(mr, &two).await;
    until("what the new revision does not have is gone", PATIENCE, || async {
        lone.cluster.get("configmaps", &namespace, "old").await.map_or(Ok(()), Err)
    })
    .await;
    let uid = lone.cluster.get("namespaces", "", &namespace).await.unwrap()["metadata"]["uid"].clone();
    // The same job once more: what serves stays as it is.
    let again = job.deploy(&second).await;
    assert_eq!(again.code, 0, "{}", again.all());
    assert_eq!(lone.cluster.get("namespaces", "", &namespace).await.unwrap()["metadata"]["uid"], uid);
    assert_eq!(lone.gitlab.bot_notes(mr).await.len(), 1);

    lone.gitlab.delete_branch("feature").await;
    for _ in 0..2 {
        let ended = job.stop(&second).await;
        assert_eq!(ended.code, 0, "{}", ended.all());
        assert!(ended.dotenv.contains("GREENROOM_STATE=stopped"), "{}", ended.dotenv);
        lone.is_gone(mr).await;
    }
    let comment = lone.gitlab.comment(mr).await.expect("the comment");
    assert!(comment.contains("Preview: stopped"), "{comment}");
    assert_eq!(lone.gitlab.bot_notes(mr).await.len(), 1);
}

#[tokio::test]
async fn a_job_alone_is_told_what_its_deploy_would_do() {
    let Some(lone) = Lone::start("alone-plans").await else { return };
    let job = lone.job();
    let mr = lone.open("feature", &App::works(1)).await;
    let first = job.pipeline(mr).await;
    let (code, told) = job.plans(&first).await;
    assert!(code == 2 && told.contains("create Deployment web"), "{code}: {told}");
    assert!(lone.cluster.get("namespaces", "", &lone.namespace(mr)).await.is_none(), "nothing is done");
    assert!(lone.gitlab.bot_notes(mr).await.is_empty());

    let ended = job.deploy(&first).await;
    assert_eq!(ended.code, 0, "{}", ended.all());
    let (code, told) = job.plans(&first).await;
    assert!(code == 0 && told.contains("nothing would be done"), "{code}: {told}");

    let next = App::works(2);
    lone.push("feature", &next).await;
    let second = job.pipeline(mr).await;
    let (code, told) = job.plans(&second).await;
    assert!(
        code == 2 && told.contains("update Deployment web") && told.contains(&next.image),
        "{code}: {told}"
    );
    lone.runs(mr, &App::works(1)).await;
    // What a server would remember nobody can tell.
    let output = job.command(&["why"], &second, second.deploy).output().await.unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[tokio::test]
async fn a_job_alone_says_why_a_deploy_failed_and_the_last_good_one_serves() {
    let Some(lone) = Lone::start("alone-broken").await else { return };
    let job = lone.job();
    let good = App::works(1);
    let mr = lone.open("feature", &good).await;
    let first = job.pipeline(mr).await;
    assert_eq!(job.deploy(&first).await.code, 0);

    let broken = App::with_image(&Says::ImageMissing.image("registry.test/acme/web"));
    lone.push("feature", &broken).await;
    let second = job.pipeline(mr).await;
    let ended = job.run(&["deploy", "--output", "json"], &second, second.deploy).await;
    assert_eq!(ended.code, 1, "{}", ended.all());
    assert!(ended.stderr.contains("does not exist"), "{}", ended.all());
    let shown: Value = serde_json::from_str(ended.stdout.trim()).expect("JSON alone on stdout");
    assert_eq!((&shown["outcome"], &shown["state"]), (&json!("failed"), &json!("failed")));
    assert!(ended.dotenv.contains("GREENROOM_STATE=failed\n"), "{}", ended.dotenv);
    let comment = lone.gitlab.comment(mr).await.expect("the comment");
    assert!(comment.contains("Preview: failed") && comment.contains("does not exist"), "{comment}");

    // A draft where the project wants none, a static site, a merged merge request: nothing is begun.
    lone.gitlab
        .push("site", &[(".greenroom.yml", "version: 1\nengine: static\nstatic: {job: build}\n")])
        .await;
    let site = lone.gitlab.open_mr("site", "A site").await;
    let pipeline = job.pipeline(site).await;
    let ended = job.run(&["deploy"], &pipeline, pipeline.deploy).await;
    assert_eq!(ended.code, 1, "{}", ended.all());
    assert!(ended.stderr.contains("GREENROOM_SERVER"), "{}", ended.all());
    let ended = job.run(&["deploy", "."], &pipeline, pipeline.deploy).await;
    assert_eq!(ended.code, 2, "{}", ended.all());
    assert!(lone.gitlab.comment(site).await.is_none());

    lone.gitlab.merge(mr).await;
    let ended = job.run(&["deploy"], &second, second.deploy).await;
    assert_eq!(ended.code, 1, "{}", ended.all());
    assert!(ended.stderr.contains("closed or merged"), "{}", ended.all());
    let ended = job.stop(&second).await;
    assert_eq!(ended.code, 0, "{}", ended.all());
    lone.is_gone(mr).await;
}

#[tokio::test]
async fn what_a_job_alone_lacks_is_named_together_and_what_is_away_is_worth_another_try() {
    let gitlab = Gitlab::start_with("acme/alone-bare", None).await;
    let job = Job {
        gitlab: &gitlab,
        project: String::from("acme/alone-bare"),
        instance: String::from("alone-bare"),
        api: gitlab.url().as_str().trim_end_matches('/').to_owned(),
        kubeconfig: PathBuf::from("/nowhere/kubeconfig"),
    };
    let mr = gitlab.open_mr("feature", "A feature").await;
    let pipeline = job.pipeline(mr).await;
    let told = |output: Output| (output.status.code(), String::from_utf8(output.stderr).unwrap());
    for verb in ["deploy", "stop"] {
        let mut bare = job.command(&[verb], &pipeline, pipeline.deploy);
        for name in ["GREENROOM_GITLAB_TOKEN", "KUBECONFIG", "GREENROOM_PREVIEW_DOMAIN", "CI_PIPELINE_ID"] {
            bare.env_remove(name);
        }
        let (code, text) = told(bare.output().await.unwrap());
        assert_eq!(code, Some(2), "{text}");
        insta::allow_duplicates! {
            insta::assert_snapshot!(text.trim(), @r"
            the settings have 4 problems
              GREENROOM_GITLAB_TOKEN: is not set
                hint: create an access token with scope `api` and role Developer
              CI_PIPELINE_ID: is not set
                hint: run it in a job of GitLab CI, which sets it
              GREENROOM_PREVIEW_DOMAIN: is not set
                hint: set it to the domain that has a wildcard record, such as `preview.example.com`
              KUBECONFIG: is not set
                hint: give the job a kubeconfig as a CI/CD variable of the type file
            ");
        }
        let (code, text) = told(job.command(&[verb], &pipeline, pipeline.deploy).output().await.unwrap());
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("/nowhere/kubeconfig"), "{text}");
    }
    // A cluster that is away, and a GitLab that is; a token that GitLab does not know is no matter of time.
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    let nobody = "http://127.0.0.1:1";
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "away",
        "clusters": [{ "name": "away", "cluster": { "server": nobody } }],
        "users": [{ "name": "away", "user": {} }],
        "contexts": [{ "name": "away", "context": { "cluster": "away", "user": "away" } }],
    });
    fs::write(&kubeconfig, text.to_string()).unwrap();
    for (verb, name, value, code) in [
        ("stop", "KUBE_CONTEXT", "away", 3),
        ("stop", "KUBE_CONTEXT", "nowhere", 1),
        ("deploy", "CI_SERVER_URL", nobody, 3),
        ("deploy", "GREENROOM_GITLAB_TOKEN", "wrong", 1),
    ] {
        let mut command = job.command(&[verb], &pipeline, pipeline.deploy);
        command.env("KUBECONFIG", &kubeconfig).env(name, value);
        let (got, text) = told(command.output().await.unwrap());
        assert_eq!(got, Some(code), "{name}={value}: {text}");
    }
    let mut of_server = job.command(&["deploy"], &pipeline, pipeline.deploy);
    let (code, text) = told(of_server.env("GREENROOM_ENGINE", "static").output().await.unwrap());
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("GREENROOM_ENGINE") && text.contains("GREENROOM_SERVER"), "{text}");
    let mut of_fork = job.command(&["deploy"], &pipeline, pipeline.deploy);
    let (code, text) = told(of_fork.env("CI_MERGE_REQUEST_PROJECT_ID", "77").output().await.unwrap());
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("a fork's pipeline deploys nothing"), "{text}");
    let mut nobody = job.command(&["deploy"], &pipeline, pipeline.deploy);
    let (code, text) = told(nobody.env_remove("GREENROOM_INSTANCE").output().await.unwrap());
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("GREENROOM_SERVER") && text.contains("GREENROOM_INSTANCE"), "{text}");
}

#[tokio::test]
async fn a_job_with_another_instance_id_leaves_the_others_namespaces_alone() {
    let Some(lone) = Lone::start("alone-other").await else { return };
    let job = lone.job();
    let mr = lone.open("feature", &App::works(1)).await;
    let pipeline = job.pipeline(mr).await;
    assert_eq!(job.deploy(&pipeline).await.code, 0);

    let other = Job { instance: String::from("somebody-else"), ..lone.job() };
    let ended = other.run(&["deploy"], &pipeline, pipeline.deploy).await;
    assert_eq!(ended.code, 1, "{}", ended.all());
    assert!(ended.stderr.contains("did not make"), "{}", ended.all());
    let ended = other.stop(&pipeline).await;
    assert_eq!(ended.code, 0, "{}", ended.all());
    lone.runs(mr, &App::works(1)).await;
}

#[tokio::test]
async fn a_job_that_was_killed_leaves_what_the_next_one_goes_on_with() {
    let Some(lone) = Lone::start("alone-killed").await else { return };
    let job = lone.job();
    let mr = lone.open("feature", &App::works(1)).await;
    let pipeline = job.pipeline(mr).await;
    let mut verb = job.command(&["deploy"], &pipeline, pipeline.deploy).spawn().unwrap();
    until("something is there", PATIENCE, || async {
        lone.cluster.get("namespaces", "", &lone.namespace(mr)).await
    })
    .await;
    verb.kill().await.unwrap();
    let ended = job.deploy(&pipeline).await;
    assert_eq!(ended.code, 0, "{}", ended.all());
    lone.runs(mr, &App::works(1)).await;
    assert_eq!(lone.gitlab.bot_notes(mr).await.len(), 1);
    assert_eq!(job.stop(&pipeline).await.code, 0);
    lone.is_gone(mr).await;
}

#[tokio::test]
async fn a_job_alone_deploys_a_branch_without_a_merge_request_and_stops_it() {
    let Some(lone) = Lone::start("alone-branch").await else { return };
    let job = lone.job();
    let app = App::works(1);
    lone.push("feature/x", &app).await;
    let pipeline = job.branch_pipeline("feature/x").await;
    let (code, told) = job.plans(&pipeline).await;
    assert!(code == 2 && told.contains("create Deployment web"), "{code}: {told}");
    let ended = job.deploy(&pipeline).await;
    assert_eq!(ended.code, 0, "{}", ended.all());
    let name = ended.dotenv.lines().find_map(|line| line.strip_prefix("GREENROOM_NAME=")).unwrap();
    assert!(name.starts_with("alone-branch-feature-x-42-b-"), "{name}");
    let deployment = lone.cluster.get("deployments", name, "web").await.expect("the Deployment");
    assert_eq!(deployment["spec"]["template"]["spec"]["containers"][0]["image"], json!(app.image));
    let (code, told) = job.plans(&pipeline).await;
    assert!(code == 0 && told.contains("nothing would be done"), "{code}: {told}");

    // An older pipeline's job is turned away, and a newer one updates it.
    let next = App::works(2);
    lone.push("feature/x", &next).await;
    let late = job.run(&["deploy"], &pipeline, pipeline.deploy).await;
    assert_eq!(late.code, 1, "{}", late.all());
    let second = job.branch_pipeline("feature/x").await;
    let ended = job.deploy(&second).await;
    assert_eq!(ended.code, 0, "{}", ended.all());
    let deployment = lone.cluster.get("deployments", name, "web").await.expect("the Deployment");
    assert_eq!(deployment["spec"]["template"]["spec"]["containers"][0]["image"], json!(next.image));

    lone.gitlab.delete_branch("feature/x").await;
    for _ in 0..2 {
        let ended = job.stop(&second).await;
        assert_eq!(ended.code, 0, "{}", ended.all());
        assert!(lone.cluster.get("namespaces", "", name).await.is_none(), "the cluster still has {name}");
        let environments = lone.gitlab.environments().await;
        assert!(!environments.iter().any(|one| one["name"] == "review/feature-x"), "{environments:#?}");
    }
}
