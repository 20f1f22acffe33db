//! GitLab as the people around a merge request use it: the sandbox, with a verb for each thing they do.
//!
//! ```ignore
//! let gitlab = Gitlab::start(Some(&webhook)).await;
//! let mr = gitlab.open_mr("feature/x", "Add x").await;
//! let pipeline = gitlab.start_pipeline(mr).await;
//! gitlab.succeed_job(pipeline.job, &[("dist/index.html", "<h1>x</h1>")]).await;
//! ```

use std::collections::{BTreeMap, BTreeSet};

use greenroom::sandbox::{self, Sandbox};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::{PATIENCE, until};

/// The token of the person who acts here.
pub const PERSON: &str = "dev-token";
/// The token of greenroom's bot.
pub const BOT: &str = "bot-token";
/// What the webhook is signed with.
pub const SIGNING_TOKEN: &str = "whsec_dGVzdHRlc3R0ZXN0dGVzdHRlc3R0ZXN0dGVzdHRlc3Q=";
/// The job whose artifact [`PROJECT_FILE`] serves.
pub const JOB: &str = "build";

const PROJECT_FILE: &str = "version: 1\nengine: static\nstatic:\n  job: build\n  path: dist\n";

/// A GitLab with the project `acme/web`, whose default branch has a `.greenroom.yml`.
pub struct Gitlab {
    sandbox: Sandbox,
    client: reqwest::Client,
}

/// A merge request's pipeline with its one job, [`JOB`].
#[derive(Debug, Clone, Copy)]
pub struct Pipeline {
    pub id: u64,
    pub job: u64,
}

impl Pipeline {
    /// From what the sandbox answers; its first job is [`JOB`].
    pub fn of(made: &Value) -> Self {
        let id = |value: &Value| value["id"].as_u64().expect("an id");
        Self { id: id(made), job: id(&made["jobs"][0]) }
    }
}

/// A call to the API as GitLab's own journal has it.
#[derive(Debug, Clone, Deserialize)]
pub struct Call {
    pub method: String,
    pub path: String,
    pub status: u16,
    pub user: Option<String>,
}

impl Gitlab {
    /// The numeric id of the project.
    pub const PROJECT: u64 = 42;

    /// Starts with a signed webhook to this address.
    pub async fn start(webhook: Option<&Url>) -> Self {
        Self::start_with("acme/web", webhook).await
    }

    /// The same with the project at another path, for tests that share what previews are named in.
    pub async fn start_with(project: &str, webhook: Option<&Url>) -> Self {
        let config = sandbox::Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            token: BOT.to_owned(),
            project: project.to_owned(),
            webhook: webhook.cloned(),
            signing_token: Some(SIGNING_TOKEN.to_owned()),
            secret_token: None,
        };
        let sandbox = sandbox::start(config).await.expect("the sandbox starts");
        let gitlab = Self { sandbox, client: client() };
        gitlab.push("main", &[(".greenroom.yml", PROJECT_FILE)]).await;
        // What the README asks for, and not more.
        gitlab.promote_bot(30).await;
        gitlab
    }

    /// greenroom's bot has this access level from now on.
    pub async fn promote_bot(&self, access_level: u8) {
        let member = json!({ "username": "bot", "access_level": access_level });
        let path = format!("sandbox/projects/{}/members", Self::PROJECT);
        self.ask(Method::PUT, &path, Some(member)).await;
    }

    /// The project's webhooks.
    pub async fn hooks(&self) -> Vec<Value> {
        self.list("hooks?per_page=100").await
    }

    /// Somebody makes a webhook on its page.
    pub async fn create_hook(&self, hook: Value) {
        self.ask(Method::POST, &api("hooks"), Some(hook)).await;
    }

    /// Somebody changes something on a webhook's page.
    pub async fn edit_hook(&self, hook: &Value, mut change: Value) {
        change["url"] = if change["url"].is_null() { hook["url"].clone() } else { change["url"].take() };
        self.ask(Method::PUT, &api(&format!("hooks/{}", hook["id"])), Some(change)).await;
    }

    /// Somebody removes all webhooks.
    pub async fn delete_hooks(&self) {
        for hook in self.hooks().await {
            self.call(Method::DELETE, &api(&format!("hooks/{}", hook["id"])), None).await;
        }
    }

    /// Ends it now; else it ends with the test.
    pub async fn stop(self) {
        self.sandbox.stop().await;
    }

    pub fn url(&self) -> Url {
        self.sandbox.url().parse().unwrap()
    }

    /// Opens a merge request to `main` and tells its iid. A branch that is not there yet is pushed first.
    pub async fn open_mr(&self, branch: &str, title: &str) -> u64 {
        if !self.has_branch(branch).await {
            self.push(branch, &[("README.md", title)]).await;
        }
        self.create_mr(json!({ "source_branch": branch, "target_branch": "main", "title": title })).await
    }

    /// Opens any other merge request and tells its iid.
    pub async fn create_mr(&self, mr: Value) -> u64 {
        let opened = self.ask(Method::POST, &api("merge_requests"), Some(mr)).await;
        opened["iid"].as_u64().expect("an iid")
    }

    /// Pushes one commit with these files and tells its SHA.
    pub async fn push(&self, branch: &str, files: &[(&str, &str)]) -> String {
        let files: BTreeMap<_, _> = files.iter().copied().collect();
        let pushed = self.act("push", json!({ "refs": [{ "ref": branch, "files": files }] })).await;
        pushed[0]["after"].as_str().expect("a SHA").to_owned()
    }

    /// Pushes one commit that removes a file.
    pub async fn remove_file(&self, branch: &str, path: &str) {
        let actions = json!([{ "action": "delete", "file_path": path }]);
        self.commit(json!({ "branch": branch, "commit_message": "Remove a file", "actions": actions })).await;
    }

    /// Makes and pushes one commit out of file actions, as the API takes it.
    pub async fn commit(&self, commit: Value) {
        self.ask(Method::POST, &api("repository/commits"), Some(commit)).await;
    }

    pub async fn has_branch(&self, branch: &str) -> bool {
        let path = format!("repository/branches/{}", encoded(branch));
        self.call(Method::GET, &api(&path), None).await.status() != 404
    }

    /// The text of a file at a commit.
    pub async fn file(&self, sha: &str, path: &str) -> String {
        let path = format!("repository/files/{}/raw?ref={sha}", encoded(path));
        let answer = self.call(Method::GET, &api(&path), None).await;
        answer.error_for_status().expect("the file").text().await.unwrap()
    }

    /// The merge request's pipelines.
    pub async fn pipelines_of(&self, mr: u64) -> Vec<Value> {
        self.list(&format!("merge_requests/{mr}/pipelines?per_page=100")).await
    }

    /// The newest attempt of each job of a pipeline.
    pub async fn jobs(&self, pipeline: u64) -> Vec<Value> {
        self.list(&format!("pipelines/{pipeline}/jobs?per_page=100")).await
    }

    /// Deletes the branch.
    pub async fn delete_branch(&self, branch: &str) {
        self.act("push", json!({ "refs": [{ "ref": branch, "delete": true }] })).await;
    }

    /// Starts a pipeline for the merge request's head, with [`JOB`] running in it.
    pub async fn start_pipeline(&self, mr: u64) -> Pipeline {
        let jobs = json!([{ "name": JOB, "stage": "build", "status": "running" }]);
        Pipeline::of(&self.act("pipelines", json!({ "mr_iid": mr, "jobs": jobs })).await)
    }

    /// The job ends well and leaves these files as its artifact.
    pub async fn succeed_job(&self, job: u64, files: &[(&str, &str)]) {
        let files: BTreeMap<_, _> = files.iter().copied().collect();
        let change = json!({ "status": "success", "artifact": { "files": files } });
        self.act(&format!("jobs/{job}"), change).await;
    }

    /// The job's script ends badly.
    pub async fn fail_job(&self, job: u64) {
        let change = json!({ "status": "failed", "failure_reason": "script_failure" });
        self.act(&format!("jobs/{job}"), change).await;
    }

    /// Somebody presses "retry" on a finished job; the id of the new attempt, which runs.
    pub async fn retry(&self, job: u64) -> u64 {
        let again = self.ask(Method::POST, &api(&format!("jobs/{job}/retry")), None).await;
        let id = again["id"].as_u64().expect("an id");
        self.act(&format!("jobs/{id}"), json!({ "status": "running" })).await;
        id
    }

    /// A stranger forks the project and opens a merge request from there.
    pub async fn open_mr_from_fork(&self, branch: &str, title: &str) -> u64 {
        let fork = json!({ "project": Self::PROJECT.to_string(), "namespace": "stranger" });
        let fork = self.ask(Method::POST, "sandbox/forks", Some(fork)).await;
        let id = fork["id"].as_u64().expect("an id");
        let push = json!({ "refs": [{ "ref": branch, "files": { "README.md": title } }] });
        self.ask(Method::POST, &format!("sandbox/projects/{id}/push"), Some(push)).await;
        let mr = json!({
            "source_branch": branch, "target_branch": "main", "title": title, "target_project_id": Self::PROJECT,
        });
        let opened = self.ask(Method::POST, &format!("api/v4/projects/{id}/merge_requests"), Some(mr)).await;
        opened["iid"].as_u64().expect("an iid")
    }

    /// Somebody who acts from a hook of the wire, in which nothing can be awaited.
    pub fn person(&self) -> Person {
        Person { api: format!("{}/{}", self.sandbox.url(), api("")) }
    }

    pub async fn close(&self, mr: u64) {
        self.edit(mr, json!({ "state_event": "close" })).await;
    }

    pub async fn reopen(&self, mr: u64) {
        self.edit(mr, json!({ "state_event": "reopen" })).await;
    }

    pub async fn merge(&self, mr: u64) {
        self.ask(Method::PUT, &api(&format!("merge_requests/{mr}/merge")), None).await;
    }

    /// Changes the merge request as its page does: `title`, `labels`, `target_branch` and so on.
    pub async fn edit(&self, mr: u64, change: Value) {
        self.ask(Method::PUT, &api(&format!("merge_requests/{mr}")), Some(change)).await;
    }

    /// Writes a comment on the merge request.
    pub async fn say(&self, mr: u64, text: &str) {
        let note = json!({ "body": text });
        self.ask(Method::POST, &api(&format!("merge_requests/{mr}/notes")), Some(note)).await;
    }

    /// The bot writes a comment; its id.
    pub async fn say_as_bot(&self, mr: u64, text: &str) -> u64 {
        let url = format!("{}/{}", self.sandbox.url(), api(&format!("merge_requests/{mr}/notes")));
        let request = self.client.post(url).header("PRIVATE-TOKEN", BOT).json(&json!({ "body": text }));
        let note: Value = request.send().await.unwrap().error_for_status().unwrap().json().await.unwrap();
        note["id"].as_u64().expect("an id")
    }

    /// Somebody deletes a comment.
    pub async fn delete_note(&self, mr: u64, note: u64) {
        self.ask(Method::DELETE, &api(&format!("merge_requests/{mr}/notes/{note}")), None).await;
    }

    /// Somebody makes an environment by hand.
    pub async fn create_environment(&self, environment: Value) {
        self.ask(Method::POST, &api("environments"), Some(environment)).await;
    }

    /// Somebody presses "stop" on the page of the merge request's environment.
    pub async fn stop_environment(&self, mr: u64) {
        let stopped = self.stop_named(&format!("review/mr-{mr}"), false).await;
        assert_eq!(stopped["state"], "stopped", "{stopped}");
    }

    /// The same of any environment; with `force` no job is started for it.
    pub async fn stop_named(&self, name: &str, force: bool) -> Value {
        let environments = self.environments().await;
        let found =
            environments.iter().find(|environment| environment["name"] == *name).expect("an environment");
        let path = format!("environments/{}/stop", found["id"]);
        self.ask(Method::POST, &api(&path), Some(json!({ "force": force }))).await
    }

    /// The merge request as GitLab shows it.
    pub async fn mr(&self, mr: u64) -> Value {
        self.ask(Method::GET, &api(&format!("merge_requests/{mr}")), None).await
    }

    /// All notes of the merge request, oldest first.
    pub async fn notes(&self, mr: u64) -> Vec<Value> {
        self.list(&format!("merge_requests/{mr}/notes?sort=asc&per_page=100")).await
    }

    /// The comments of the bot, oldest first.
    pub async fn bot_notes(&self, mr: u64) -> Vec<Value> {
        let mut notes = self.notes(mr).await;
        notes.retain(|note| {
            note["author"]["username"].as_str().is_some_and(is_bot) && note["system"] == false
        });
        notes
    }

    /// The text of greenroom's comment. There is never more than one.
    pub async fn comment(&self, mr: u64) -> Option<String> {
        let comments = self.bot_notes(mr).await;
        assert!(comments.len() <= 1, "greenroom keeps one comment: {comments:#?}");
        comments.first().map(|note| note["body"].as_str().expect("a body").to_owned())
    }

    pub async fn environments(&self) -> Vec<Value> {
        self.list("environments?per_page=100").await
    }

    pub async fn deployments(&self) -> Vec<Value> {
        self.list("deployments?per_page=100").await
    }

    pub async fn pipelines(&self) -> Vec<Value> {
        self.list("pipelines?per_page=100").await
    }

    /// The bot's commit statuses on the commits of all pipelines, oldest first, those included that a newer one replaced.
    pub async fn commit_statuses(&self) -> Vec<Value> {
        let pipelines = self.pipelines().await;
        let commits: BTreeSet<_> = pipelines.iter().filter_map(|pipeline| pipeline["sha"].as_str()).collect();
        let mut statuses = Vec::new();
        for commit in commits {
            let path = format!("repository/commits/{commit}/statuses?all=true&per_page=100");
            statuses.extend(self.list(&path).await);
        }
        statuses.retain(|status| status["author"]["username"].as_str().is_some_and(is_bot));
        statuses.sort_by_key(|status| status["id"].as_u64());
        statuses
    }

    /// What greenroom's bot asked of the API, in order.
    pub async fn calls(&self) -> Vec<Call> {
        let calls = self.ask(Method::GET, "sandbox/calls", None).await;
        let calls: Vec<Call> = serde_json::from_value(calls).unwrap();
        calls.into_iter().filter(|call| call.user.as_deref().is_some_and(is_bot)).collect()
    }

    /// Waits until every webhook so far is delivered or given up.
    pub async fn drain(&self) {
        // GitLab's own patience ends with 504 after ten seconds.
        until("all webhooks are through", PATIENCE, || async {
            self.call(Method::POST, "sandbox/drain", None).await.error_for_status()
        })
        .await;
    }

    /// Every webhook delivery so far, its body included.
    pub async fn deliveries(&self) -> Vec<Value> {
        let deliveries = self.ask(Method::GET, "sandbox/deliveries", None).await;
        serde_json::from_value(deliveries).unwrap()
    }

    /// The history of webhooks is forgotten, also that of each hook's page.
    pub async fn forget_deliveries(&self) {
        self.call(Method::DELETE, "sandbox/deliveries", None).await.error_for_status().expect("forgotten");
    }

    /// What happens to webhooks and API calls from now on; `docs/sandbox.md` has the words.
    pub async fn fault(&self, faults: Value) {
        self.ask(Method::PUT, "sandbox/faults", Some(faults)).await;
    }

    /// Anything else of `/sandbox/projects/42/`.
    pub async fn act(&self, path: &str, body: Value) -> Value {
        self.ask(Method::POST, &format!("sandbox/projects/{}/{path}", Self::PROJECT), Some(body)).await
    }

    /// Anything else of `/sandbox/`.
    pub async fn control(&self, path: &str, body: Value) -> Value {
        self.ask(Method::POST, &format!("sandbox/{path}"), Some(body)).await
    }

    async fn list(&self, path: &str) -> Vec<Value> {
        let list = self.ask(Method::GET, &api(path), None).await;
        serde_json::from_value(list).unwrap()
    }

    /// Asks as the person, and takes nothing but success.
    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let answer = self.call(method.clone(), path, body).await;
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{method} {path}: {status} {text}");
        if text.is_empty() { Value::Null } else { serde_json::from_str(&text).expect("JSON") }
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> reqwest::Response {
        let request = self.client.request(method, format!("{}/{path}", self.sandbox.url()));
        let request = request.header("PRIVATE-TOKEN", PERSON);
        let request = if let Some(body) = &body { request.json(body) } else { request };
        request.send().await.expect("the sandbox answers")
    }
}

fn api(path: &str) -> String {
    format!("api/v4/projects/{}/{path}", Gitlab::PROJECT)
}

/// Each request on a connection of its own: a test that computes for seconds would find a kept one closed.
fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap()
}

fn is_bot(username: &str) -> bool {
    username.starts_with("project_") && username.contains("_bot_")
}

fn encoded(path_part: &str) -> String {
    url::form_urlencoded::byte_serialize(path_part.as_bytes()).collect()
}

/// See [`Gitlab::person`].
#[derive(Debug, Clone)]
pub struct Person {
    api: String,
}

impl Person {
    /// Merges, and returns when it is done.
    pub fn merge_now(&self, mr: u64) {
        self.put_now(&format!("merge_requests/{mr}/merge"), None);
    }

    /// Closes, and returns when it is done.
    pub fn close_now(&self, mr: u64) {
        self.put_now(&format!("merge_requests/{mr}"), Some(json!({ "state_event": "close" })));
    }

    fn put_now(&self, path: &str, body: Option<Value>) {
        let url = format!("{}{path}", self.api);
        let asked = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let request = reqwest::Client::new().put(url).header("PRIVATE-TOKEN", PERSON);
                let request = if let Some(body) = &body { request.json(body) } else { request };
                request.send().await.and_then(reqwest::Response::error_for_status).expect("GitLab does it");
            });
        });
        asked.join().unwrap();
    }
}
