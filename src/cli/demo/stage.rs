//! The demo's stage: a GitLab in memory, a greenroom, and a person with an API token between them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minijinja::{Environment, context};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::super::output;
use super::super::serve::{Server, check_signing_token};
use crate::sandbox::{self, Sandbox};
use crate::settings::{Layer, Origin, Settings};

const PROJECT: &str = "acme/web";
const TOKEN: &str = "glpat-demo-bot";

/// How long the demo waits for anything before it gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// The head line of a scene.
pub(super) fn scene(title: &str) {
    output::data(&format!("\n== {title}"));
}

/// A line of the conversation.
pub(super) fn say(text: &str) {
    output::data(&format!("   {text}"));
}

/// What the job builds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Page {
    pub(super) headline: &'static str,
    pub(super) text: &'static str,
}

/// Everything the story needs.
pub(super) struct Stage {
    http: reqwest::Client,
    gitlab: Sandbox,
    greenroom: Server,
    address: SocketAddr,
    project: u64,
    told_deliveries: usize,
    told_comment: String,
    _data: TempDir,
}

impl Stage {
    /// Starts both servers on free loopback ports, with a webhook between them.
    pub(super) async fn set() -> anyhow::Result<Self> {
        let data = tempfile::tempdir()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let signing = format!(
            "whsec_{}",
            STANDARD
                .encode([uuid::Uuid::new_v4(), uuid::Uuid::new_v4()].map(uuid::Uuid::into_bytes).concat())
        );
        let gitlab = sandbox::start(sandbox::Config {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            token: TOKEN.to_owned(),
            project: PROJECT.to_owned(),
            webhook: Some(format!("http://{address}/webhooks/gitlab").parse()?),
            signing_token: Some(signing.clone()),
            secret_token: None,
        })
        .await?;
        let mut layer = Layer::default();
        for (key, value) in [
            ("listen", address.to_string()),
            ("public_url", format!("http://localhost:{}", address.port())),
            ("preview_domain", String::from("preview.localhost")),
            ("gitlab_url", gitlab.url().to_owned()),
            ("gitlab_token", TOKEN.to_owned()),
            ("gitlab_rate", String::from("off")),
            ("ca_file", String::new()),
            ("webhook_signing_token", signing),
            ("webhook_secret_token", String::new()),
            ("data_dir", data.path().display().to_string()),
            ("store_url", String::new()),
            ("projects", String::new()),
            ("api_token", String::new()),
            ("instance", String::from("demo")),
            ("resync_interval", String::from("5m")),
        ] {
            layer.set(key, Some(value), Origin::Flag);
        }
        let settings = Settings::load(None, layer, check_signing_token)?;
        let greenroom = Server::start(settings, listener).await?;
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        let mut stage = Self {
            http,
            gitlab,
            greenroom,
            address,
            project: 0,
            told_deliveries: 0,
            told_comment: String::new(),
            _data: data,
        };
        stage.project = stage
            .as_dev(Method::GET, "projects/acme%2Fweb", None)
            .await?
            .get("id")
            .and_then(Value::as_u64)
            .context("the sandbox has no project")?;
        say(&format!("GitLab (in memory) listens on {}", stage.gitlab.url()));
        say(&format!("greenroom listens on http://{address}, a webhook leads to it"));
        let file = include_str!("../../../templates/demo/greenroom.yml");
        stage.commit("main", "Ask for previews", &[(".greenroom.yml", file)]).await?;
        say("the project acme/web has a `.greenroom.yml`:");
        for line in file.lines() {
            output::data(&format!("      {line}"));
        }
        stage.settle().await?;
        stage.told_deliveries = stage.deliveries().await?.len();
        Ok(stage)
    }

    /// Commits something to a branch, which is made from `main` when it is new.
    pub(super) async fn push(&self, branch: &str, message: &str) -> anyhow::Result<()> {
        self.commit(branch, message, &[("src/header.css", message)]).await?;
        say(&format!("dev       pushes to `{branch}`: {message}"));
        Ok(())
    }

    pub(super) async fn open_merge_request(&self, branch: &str, title: &str) -> anyhow::Result<u64> {
        let body = json!({ "source_branch": branch, "target_branch": "main", "title": title });
        let path = format!("projects/{}/merge_requests", self.project);
        let made = self.as_dev(Method::POST, &path, Some(body)).await?;
        let iid = made["iid"].as_u64().context("GitLab made no merge request")?;
        say(&format!("dev       opens merge request !{iid}: {title}"));
        Ok(iid)
    }

    pub(super) async fn close(&self, iid: u64) -> anyhow::Result<()> {
        let path = format!("projects/{}/merge_requests/{iid}", self.project);
        self.as_dev(Method::PUT, &path, Some(json!({ "state_event": "close" }))).await?;
        say(&format!("dev       closes merge request !{iid}"));
        Ok(())
    }

    /// Runs a pipeline for the head, in which `build` makes a page or fails.
    pub(super) async fn run_pipeline(&self, iid: u64, built: Option<Page>) -> anyhow::Result<()> {
        let path = format!("projects/{}/pipelines", self.project);
        let jobs = json!([{ "name": "build", "stage": "build", "status": "running" }]);
        let pipeline = self.control(&path, json!({ "mr_iid": iid, "jobs": jobs })).await?;
        let id = pipeline["id"].as_u64().context("no pipeline was made")?;
        let finish = match built {
            Some(page) => json!({ "status": "success", "job": "build", "files": files(page, iid)? }),
            None => json!({ "status": "failed", "job": "build" }),
        };
        self.control(&format!("{path}/{id}/finish"), finish).await?;
        let how = if built.is_some() { "passes" } else { "fails" };
        say(&format!("CI        pipeline {id} runs, job `build` {how}"));
        Ok(())
    }

    /// Waits until greenroom says that the merge request's head is in this state, and tells how it came to that.
    pub(super) async fn expect(&mut self, iid: u64, state: &str) -> anyhow::Result<()> {
        let began = Instant::now();
        let head = self.merge_request(iid).await?["sha"].clone();
        let preview = loop {
            let preview = self.preview(iid).await?;
            if preview["state"] == state && preview["sha"] == head && self.comment_says(iid, &preview).await?
            {
                break preview;
            }
            if began.elapsed() > PATIENCE {
                bail!("!{iid} should have become {state}, but is: {preview:#}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let took = began.elapsed();
        self.settle().await?;
        self.tell_deliveries().await?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        for rule in preview["decision"].as_array().into_iter().flatten() {
            say(&format!("greenroom finds: {}", text(rule)));
        }
        say(&format!("greenroom decides: {}, because {}", text(&preview["state"]), text(&preview["reason"])));
        say(&format!("          that took {} ms, the comment included", took.as_millis()));
        self.tell_comment(iid).await
    }

    /// Visits the preview, as the browser would, and expects to see `headline`.
    pub(super) async fn visit(&self, iid: u64, status: u16, headline: &str) -> anyhow::Result<()> {
        let url = self.url(iid).await?;
        let host = url.split_once("://").map_or(&*url, |(_, host)| host).to_owned();
        let answer = self.http.get(format!("http://{}/", self.address)).header("Host", host).send().await?;
        let got = answer.status().as_u16();
        let body = answer.text().await?;
        if got != status || !body.contains(headline) {
            bail!("{url} answered {got} instead of {status} with {headline:?}:\n{body}");
        }
        let title = body
            .split_once("<title>")
            .and_then(|(_, rest)| rest.split_once("</title>"))
            .map_or("", |(t, _)| t);
        say(&format!("reviewer  opens {url}: {got}, {title:?}"));
        Ok(())
    }

    /// Asks GitLab whether anything is left.
    pub(super) async fn prove_gone(&self, iid: u64) -> anyhow::Result<()> {
        let path = format!("projects/{}/environments?name=review/mr-{iid}", self.project);
        let left = self.as_dev(Method::GET, &path, None).await?;
        if left != json!([]) {
            bail!("GitLab still has an environment: {left:#}");
        }
        say(&format!(
            "proof     GitLab has no environment review/mr-{iid} any more, and the link answers 410"
        ));
        Ok(())
    }

    pub(super) async fn url(&self, iid: u64) -> anyhow::Result<String> {
        Ok(self.preview(iid).await?["url"].as_str().context("the preview has no link")?.to_owned())
    }

    /// Ends both servers.
    pub(super) async fn strike(self) {
        self.greenroom.stop().await;
        self.gitlab.stop().await;
    }

    async fn commit(&self, branch: &str, message: &str, files: &[(&str, &str)]) -> anyhow::Result<()> {
        let encoded = branch.replace('/', "%2F");
        let branches = format!("projects/{}/repository/branches", self.project);
        if self.as_dev(Method::GET, &format!("{branches}/{encoded}"), None).await.is_err() {
            self.as_dev(Method::POST, &branches, Some(json!({ "branch": branch, "ref": "main" }))).await?;
        }
        let mut actions = Vec::new();
        for (path, content) in files {
            let at = format!(
                "projects/{}/repository/files/{}?ref={encoded}",
                self.project,
                path.replace('/', "%2F")
            );
            let known = self.as_dev(Method::GET, &at, None).await.is_ok();
            let action = if known { "update" } else { "create" };
            actions.push(json!({ "action": action, "file_path": path, "content": content }));
        }
        let path = format!("projects/{}/repository/commits", self.project);
        let body = json!({ "branch": branch, "commit_message": message, "actions": actions });
        self.as_dev(Method::POST, &path, Some(body)).await?;
        Ok(())
    }

    async fn merge_request(&self, iid: u64) -> anyhow::Result<Value> {
        self.as_dev(Method::GET, &format!("projects/{}/merge_requests/{iid}", self.project), None).await
    }

    async fn preview(&self, iid: u64) -> anyhow::Result<Value> {
        let url = format!("http://{}/api/v1/previews/{}/{iid}", self.address, self.project);
        Ok(self.http.get(url).send().await?.json().await?)
    }

    /// The text of greenroom's comment; empty while there is none.
    async fn comment(&self, iid: u64) -> anyhow::Result<String> {
        let path = format!("projects/{}/merge_requests/{iid}/notes?sort=asc&per_page=100", self.project);
        let notes = self.as_dev(Method::GET, &path, None).await?;
        let bodies = notes.as_array().into_iter().flatten().filter_map(|note| note["body"].as_str());
        let ours: Vec<&str> = bodies.filter(|body| body.starts_with("<!-- greenroom")).collect();
        match ours[..] {
            [] => Ok(String::new()),
            [one] => Ok(one.to_owned()),
            _ => bail!("there should be one comment, but there are {}", ours.len()),
        }
    }

    async fn comment_says(&self, iid: u64, preview: &Value) -> anyhow::Result<bool> {
        let state = preview["state"].as_str().unwrap_or_default();
        let commit = preview["sha"].as_str().unwrap_or_default();
        let comment = self.comment(iid).await?;
        Ok(comment.contains(&format!("Preview: {state}")) && comment.contains(&commit[..commit.len().min(8)]))
    }

    async fn tell_comment(&mut self, iid: u64) -> anyhow::Result<()> {
        let comment = self.comment(iid).await?;
        if comment != self.told_comment {
            say(&format!("comment   on !{iid} now reads:"));
            for line in comment.lines().filter(|line| !line.starts_with("<!--")) {
                output::data(format!("      | {line}").trim_end());
            }
            self.told_comment = comment;
        }
        Ok(())
    }

    async fn deliveries(&self) -> anyhow::Result<Vec<Value>> {
        let url = format!("{}/sandbox/deliveries", self.gitlab.url());
        let all: Value = self.http.get(url).send().await?.json().await?;
        Ok(all.as_array().cloned().unwrap_or_default())
    }

    async fn tell_deliveries(&mut self) -> anyhow::Result<()> {
        let all = self.deliveries().await?;
        for delivery in all.iter().skip(self.told_deliveries) {
            let body = &delivery["body"];
            let about = &body["object_attributes"];
            let what = match delivery["object_kind"].as_str().unwrap_or_default() {
                "merge_request" => format!("merge request !{} {}", about["iid"], shown(&about["action"])),
                "pipeline" => format!("pipeline {} is {}", about["id"], shown(&about["status"])),
                "build" => {
                    format!("job `{}` is {}", shown(&body["build_name"]), shown(&body["build_status"]))
                }
                "push" => format!("push to {}", shown(&body["ref"])),
                "note" => format!("comment on !{}", body["merge_request"]["iid"]),
                "deployment" => {
                    format!("deployment to {} is {}", shown(&body["environment"]), shown(&body["status"]))
                }
                other => other.to_owned(),
            };
            let code = &delivery["response_code"];
            say(&format!("GitLab    sends {what}; the answer is {code}"));
        }
        self.told_deliveries = all.len();
        Ok(())
    }

    /// Waits until GitLab has no delivery in flight.
    async fn settle(&self) -> anyhow::Result<()> {
        let url = format!("{}/sandbox/drain", self.gitlab.url());
        self.http.post(url).send().await?.error_for_status().context("deliveries did not end")?;
        Ok(())
    }

    async fn control(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        let url = format!("{}/sandbox/{path}", self.gitlab.url());
        read(self.http.post(&url).json(&body).send().await?, &url).await
    }

    async fn as_dev(&self, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
        let url = format!("{}/api/v4/{path}", self.gitlab.url());
        let mut request = self.http.request(method, &url).header("PRIVATE-TOKEN", "dev-token");
        if let Some(body) = body {
            request = request.json(&body);
        }
        read(request.send().await?, &url).await
    }
}

async fn read(answer: reqwest::Response, url: &str) -> anyhow::Result<Value> {
    let status = answer.status();
    let text = answer.text().await?;
    if !status.is_success() {
        bail!("{url} answered {status}: {text}");
    }
    Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A small but real web page, as the job's artifact holds it.
fn files(page: Page, iid: u64) -> anyhow::Result<BTreeMap<&'static str, String>> {
    let mut environment = Environment::new();
    environment.add_template("index.html", include_str!("../../../templates/demo/index.html"))?;
    let index = environment
        .get_template("index.html")?
        .render(context! { headline => page.headline, text => page.text, iid => iid })?;
    Ok(BTreeMap::from([
        ("dist/index.html", index),
        ("dist/style.css", include_str!("../../../templates/demo/style.css").to_owned()),
        ("dist/app.js", include_str!("../../../templates/demo/app.js").to_owned()),
    ]))
}
