//! GitLab: the sandbox in this process, and a person with a verb for each thing that happens there.

use std::fmt::Write as _;
use std::net::SocketAddr;

use anyhow::{Context, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use greenroom::sandbox::{self, Sandbox};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::load::SIGNING_TOKEN;

/// The token of greenroom's bot.
pub const BOT: &str = "bot-token";
/// The one project.
pub const PROJECT: u64 = 42;

const PERSON: &str = "dev-token";
/// What a branch holds, beside its README.
#[derive(Clone, Copy)]
pub enum Holds {
    /// Nothing for greenroom.
    Nothing,
    /// A static site, built by the job `build`.
    Site,
    /// Three objects for a cluster.
    Manifests,
}

impl Holds {
    const fn files(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Nothing => &[],
            Self::Site => {
                &[(".greenroom.yml", "version: 1\nengine: static\nstatic:\n  job: build\n  path: dist\n")]
            }
            Self::Manifests => &[
                (
                    ".greenroom.yml",
                    "version: 1\nengine: kubernetes\nkubernetes:\n  manifests: .greenroom/k8s\n",
                ),
                (".greenroom/k8s/app.yaml", include_str!("app.yaml")),
            ],
        }
    }
}

/// How many things people do at the same moment.
const PEOPLE: usize = 8;

/// A GitLab and who acts in it.
pub struct Gitlab {
    sandbox: Sandbox,
    http: reqwest::Client,
}

/// A call to the API, as the journal has it.
#[derive(Debug, Deserialize)]
pub struct Call {
    pub method: String,
    pub path: String,
}

impl Call {
    /// Whether it is one page of the project's list of merge requests.
    pub fn is_list(&self) -> bool {
        self.path.contains("/merge_requests?")
    }

    pub fn is_write(&self) -> bool {
        self.method != "GET"
    }
}

impl Gitlab {
    pub async fn start() -> anyhow::Result<Self> {
        let sandbox = sandbox::start(sandbox::Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            token: BOT.to_owned(),
            project: "acme/web".to_owned(),
            webhook: None,
            signing_token: None,
            secret_token: None,
        })
        .await?;
        Ok(Self { sandbox, http: reqwest::Client::builder().no_proxy().build()? })
    }

    pub fn url(&self) -> &str {
        self.sandbox.url()
    }

    /// Adds a signed webhook to greenroom at `address`; its id.
    pub async fn add_hook(&self, address: SocketAddr) -> anyhow::Result<u64> {
        let hook = json!({
            "url": format!("http://{address}/webhooks/gitlab"),
            "signing_token": SIGNING_TOKEN,
            "push_events": true,
            "merge_requests_events": true,
            "pipeline_events": true,
            "job_events": true,
            "note_events": true,
            "deployment_events": true,
        });
        self.api(Method::POST, "hooks", Some(hook)).await?["id"].as_u64().context("no id")
    }

    pub async fn remove_hook(&self, hook: u64) -> anyhow::Result<()> {
        self.api(Method::DELETE, &format!("hooks/{hook}"), None).await.map(drop)
    }

    /// Pushes these branches, each with a commit of its own.
    pub async fn push(&self, branches: &[String], holds: Holds) -> anyhow::Result<()> {
        let file = |branch: &String| {
            let mut files = json!({ "README.md": branch });
            for (path, text) in holds.files() {
                files[*path] = (*text).into();
            }
            json!({ "ref": branch, "files": files })
        };
        let refs: Vec<_> = branches.iter().map(file).collect();
        self.act("push", json!({ "refs": refs })).await.map(drop)
    }

    /// Runs a pipeline for each branch, whose job `build` has made a site.
    pub async fn build(&self, branches: &[String]) -> anyhow::Result<()> {
        let build = |branch: &String| {
            let job = json!({ "name": "build", "status": "success", "artifact": { "files": site(branch) } });
            self.act("pipelines", json!({ "ref": branch, "jobs": [job] }))
        };
        at_once(branches.iter().map(build)).await.map(drop)
    }

    /// Opens a merge request for each branch, several at once; their numbers.
    pub async fn open(&self, branches: &[String]) -> anyhow::Result<Vec<u64>> {
        let open = |branch: &String| {
            let wanted = json!({ "source_branch": branch, "target_branch": "main", "title": branch });
            async {
                self.api(Method::POST, "merge_requests", Some(wanted)).await?["iid"]
                    .as_u64()
                    .context("no iid")
            }
        };
        at_once(branches.iter().map(open)).await
    }

    /// Closes these merge requests, several at once.
    pub async fn close(&self, merge_requests: &[u64]) -> anyhow::Result<()> {
        let close = |iid: &u64| {
            let path = format!("merge_requests/{iid}");
            async move { self.api(Method::PUT, &path, Some(json!({ "state_event": "close" }))).await }
        };
        at_once(merge_requests.iter().map(close)).await.map(drop)
    }

    /// Starts a pipeline for the merge request, with its job `build` running; the job's id.
    pub async fn start_pipeline(&self, iid: u64) -> anyhow::Result<u64> {
        let jobs = json!([{ "name": "build", "status": "running" }]);
        let pipeline = self.act("pipelines", json!({ "mr_iid": iid, "jobs": jobs })).await?;
        pipeline["jobs"][0]["id"].as_u64().context("no job")
    }

    /// The job ends well, and has made a site.
    pub async fn finish_job(&self, job: u64, title: &str) -> anyhow::Result<()> {
        let end = json!({ "status": "success", "artifact": { "files": site(title) } });
        self.act(&format!("jobs/{job}"), end).await.map(drop)
    }

    /// Starts a pipeline for the merge request whose deploy job runs; the job's id.
    pub async fn start_deploy(&self, iid: u64) -> anyhow::Result<u64> {
        let environment = json!({ "name": format!("review/mr-{iid}") });
        let jobs = json!([{ "name": "deploy", "status": "running", "environment": environment }]);
        let pipeline = self.act("pipelines", json!({ "mr_iid": iid, "jobs": jobs })).await?;
        pipeline["jobs"][0]["id"].as_u64().context("no job")
    }

    /// The ID token that GitLab gives the job for this audience.
    pub async fn id_token(&self, job: u64, audience: &str) -> anyhow::Result<String> {
        let made = self.act(&format!("jobs/{job}/id_token"), json!({ "aud": audience })).await?;
        made["id_token"].as_str().map(str::to_owned).context("no token")
    }

    /// All comments on the merge request.
    pub async fn comments(&self, iid: u64) -> anyhow::Result<Vec<String>> {
        let notes = self.api(Method::GET, &format!("merge_requests/{iid}/notes?per_page=100"), None).await?;
        let notes = notes.as_array().context("no list")?;
        Ok(notes.iter().filter_map(|note| note["body"].as_str().map(str::to_owned)).collect())
    }

    /// What greenroom asked of GitLab, but for the first `skipped` calls that anybody made.
    pub async fn calls(&self, skipped: usize) -> anyhow::Result<Vec<Call>> {
        #[derive(Deserialize)]
        struct Entry {
            user: Option<String>,
            #[serde(flatten)]
            call: Call,
        }
        let url = format!("{}/sandbox/calls?skip={skipped}", self.url());
        let calls: Vec<Entry> = self.http.get(url).send().await?.error_for_status()?.json().await?;
        let is_bot = |entry: &Entry| entry.user.as_deref().is_some_and(|user| user.contains("_bot_"));
        Ok(calls.into_iter().filter(is_bot).map(|entry| entry.call).collect())
    }

    /// Forgets all calls so far.
    pub async fn forget_calls(&self) -> anyhow::Result<()> {
        let url = format!("{}/sandbox/calls", self.url());
        self.http.delete(url).send().await?.error_for_status().map(drop).map_err(Into::into)
    }

    async fn act(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        self.ask(Method::POST, &format!("sandbox/projects/{PROJECT}/{path}"), Some(body)).await
    }

    async fn api(&self, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
        self.ask(method, &format!("api/v4/projects/{PROJECT}/{path}"), body).await
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
        let request =
            self.http.request(method, format!("{}/{path}", self.url())).header("PRIVATE-TOKEN", PERSON);
        let answer = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        let answer = answer.send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "{path}: {status} {text}");
        Ok(if text.is_empty() { Value::Null } else { serde_json::from_str(&text)? })
    }
}

async fn at_once<T>(
    all: impl Iterator<Item = impl Future<Output = anyhow::Result<T>>>,
) -> anyhow::Result<Vec<T>> {
    futures::stream::iter(all).buffered(PEOPLE).try_collect().await
}

/// The files of a small site: a page, a style and a script.
fn site(title: &str) -> Value {
    let mut script = String::new();
    for line in 0..400 {
        let _ = writeln!(script, "export const part{line} = () => document.querySelector('#part-{line}');");
    }
    json!({
        "dist/index.html": format!("<!doctype html><title>{title}</title><script src=app.js type=module></script>"),
        "dist/style.css": "main { max-width: 60rem; margin: auto }\n".repeat(100),
        "dist/app.js": script,
    })
}
