//! Deploys as jobs of a pipeline ask for them: with the ID token that GitLab gives a job, and nothing else.

mod alone;
mod alone_ends;
mod both;
mod branch;
mod checks;
mod crash;
mod deploy;
mod include;
mod own;
mod plan;
mod render;
mod tokens;
mod trouble;

pub use branch::environment;

use std::{
    fs,
    path::Path,
    process::{Output, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    gitlab::Gitlab,
    world::{World, page},
};

/// The jobs that the include makes, as GitLab has them.
pub const DEPLOY: &str = "greenroom:deploy";
pub const STOP: &str = "greenroom:stop";

/// A pipeline of a merge request with the include's two jobs.
#[derive(Debug, Clone, Copy)]
pub struct Jobs {
    pub mr: u64,
    pub deploy: u64,
    pub stop: u64,
}

/// What a verb printed, and how it ended.
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    pub dotenv: String,
}

impl Ended {
    /// How a verb ended, with what it wrote into the file `dotenv`.
    fn of(output: Output, dotenv: &Path) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self {
            code: output.status.code().expect("it ended by itself"),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
            dotenv: fs::read_to_string(dotenv).unwrap_or_default(),
        }
    }

    pub fn all(&self) -> String {
        format!("exit code {}\n{}\n{}", self.code, self.stdout, self.stderr)
    }
}

impl World {
    /// A pipeline runs for the head, with a deploy job that runs and a stop job that waits.
    pub async fn pipeline_with_jobs(&self, mr: u64) -> Jobs {
        let environment = format!("review/mr-{mr}");
        let jobs = json!([
            { "name": DEPLOY, "status": "running", "environment": { "name": environment, "on_stop": STOP } },
            { "name": STOP, "when": "manual", "environment": { "name": environment, "action": "stop" } },
        ]);
        let made = self.gitlab.act("pipelines", json!({ "mr_iid": mr, "jobs": jobs })).await;
        let id = |value: &Value| value["id"].as_u64().expect("an id");
        Jobs { mr, deploy: id(&made["jobs"][0]), stop: id(&made["jobs"][1]) }
    }

    /// The ID token that GitLab gives a job, made for this server, with these wishes on top.
    pub async fn id_token(&self, job: u64, wishes: Value) -> String {
        let mut wanted = json!({ "aud": self.greenroom.url().as_str().trim_end_matches('/') });
        for (name, value) in wishes.as_object().expect("an object") {
            wanted[name] = value.clone();
        }
        let made = self.gitlab.act(&format!("jobs/{job}/id_token"), wanted).await;
        made["id_token"].as_str().expect("a token").to_owned()
    }

    /// A verb in a job, with the variables that GitLab sets.
    pub async fn job_verb(&self, job: u64, mr: u64, args: &[&str]) -> Ended {
        let token = self.id_token(job, json!({})).await;
        let home = tempfile::tempdir().unwrap();
        let dotenv = home.path().join("greenroom.env");
        let output: Output = self
            .verb_command(args, mr, &token)
            .arg("--dotenv")
            .arg(&dotenv)
            .current_dir(home.path())
            .output()
            .await
            .unwrap();
        Ended::of(output, &dotenv)
    }

    pub fn verb_command(&self, args: &[&str], mr: u64, token: &str) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_greenroom"));
        command
            .args(args)
            .env_clear()
            .env("GITLAB_CI", "true")
            .env("CI_PROJECT_ID", Gitlab::PROJECT.to_string())
            .env("CI_PROJECT_PATH", "acme/web")
            .env("CI_MERGE_REQUEST_IID", mr.to_string())
            .env("CI_MERGE_REQUEST_PROJECT_ID", Gitlab::PROJECT.to_string())
            .env("GREENROOM_SERVER", self.greenroom.url().as_str())
            .env("GREENROOM_ID_TOKEN", token)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }
}

/// A folder with a page that says `text`.
pub fn site(text: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("index.html"), page(text)).unwrap();
    folder
}
