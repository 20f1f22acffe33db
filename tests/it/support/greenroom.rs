//! The real binary as a child process: started, asked over HTTP, killed and started again.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use http::header;
use reqwest::Response;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use url::Url;

use super::{PATIENCE, free_address, until};

/// The settings file, in the folder that it is started in.
const SETTINGS: &str = "greenroom.toml";

/// `greenroom serve` on a free port of its own, with a data folder of its own and nothing of our environment.
pub struct Greenroom {
    address: SocketAddr,
    settings: Vec<(String, String)>,
    home: TempDir,
    child: Arc<Mutex<Option<Child>>>,
    client: reqwest::Client,
}

impl Greenroom {
    /// Starts with these settings and flags (`--log`) over the ones every test needs, and waits until it is alive.
    pub async fn start(settings: &[(&str, &str)]) -> Self {
        let greenroom = Self::prepare(settings);
        greenroom.spawn().await;
        greenroom
    }

    /// The same with this text as its `greenroom.toml`.
    pub async fn start_with_file(settings: &[(&str, &str)], file: &str) -> Self {
        let greenroom = Self::prepare(settings);
        greenroom.write_settings(file);
        greenroom.spawn().await;
        greenroom
    }

    /// Writes its `greenroom.toml`; it counts from the next start.
    pub fn write_settings(&self, file: &str) {
        fs::write(self.home.path().join(SETTINGS), file).unwrap();
    }

    fn prepare(settings: &[(&str, &str)]) -> Self {
        let given =
            |name| settings.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let address = given("GREENROOM_LISTEN").map_or_else(free_address, |listen| listen.parse().unwrap());
        let home = tempfile::tempdir().unwrap();
        let mut all = vec![
            ("GREENROOM_LISTEN".to_owned(), address.to_string()),
            ("GREENROOM_PUBLIC_URL".to_owned(), format!("http://{address}")),
            ("GREENROOM_PREVIEW_DOMAIN".to_owned(), "preview.localhost".to_owned()),
            ("GREENROOM_DATA_DIR".to_owned(), home.path().join("data").display().to_string()),
        ];
        all.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let client = reqwest::Client::builder()
            .no_proxy()
            .pool_max_idle_per_host(0)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        Self { address, settings: all, home, child: Arc::default(), client }
    }

    async fn spawn(&self) {
        let log = File::options().create(true).append(true).open(self.log_file()).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_greenroom"))
            .arg("serve")
            .args(self.settings.iter().filter(|set| is_flag(set)).flat_map(|(name, value)| [name, value]))
            .args(
                self.home
                    .path()
                    .join(SETTINGS)
                    .exists()
                    .then_some(["--config", SETTINGS])
                    .into_iter()
                    .flatten(),
            )
            .env_clear()
            .envs(self.settings.iter().filter(|set| !is_flag(set)).map(|(name, value)| (name, value)))
            .current_dir(self.home.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        *self.child.lock().unwrap() = Some(child);
        until("greenroom is alive", PATIENCE, || async {
            if let Some(status) = self.exited() {
                panic!("greenroom ended at its start, {status}:\n{}", self.log());
            }
            let answer = self.client.get(format!("http://{}/livez", self.address)).send().await;
            answer.and_then(Response::error_for_status)
        })
        .await;
    }

    /// Its own address, as GitLab and operators reach it.
    pub fn url(&self) -> Url {
        format!("http://{}", self.address).parse().unwrap()
    }

    /// `kill -9`: no farewell, nothing written.
    pub fn kill9(&self) {
        kill(&self.child);
    }

    /// `kill -9` for a hook of the wire, which outlives the borrow. One that is started later is not meant.
    pub fn kill_switch(&self) -> impl Fn() + Send + Sync + 'static {
        let child = self.child.clone();
        let meant = child.lock().unwrap().as_ref().map(Child::id);
        move || {
            let runs = child.lock().unwrap().as_ref().map(Child::id);
            if runs == meant {
                kill(&child);
            }
        }
    }

    /// The most memory that it had at any time since its start, bytes; without that of its children.
    pub fn peak_memory(&self) -> u64 {
        let pid = self.child.lock().unwrap().as_ref().map(Child::id).expect("greenroom runs");
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        1024 * peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    }

    /// Whether the setting is given.
    pub fn has(&self, setting: &str) -> bool {
        self.settings.iter().any(|(name, _)| name == setting)
    }

    /// Changes a setting; it counts from the next start.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.retain(|(known, _)| known != name);
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    /// Ends it if it still runs, and starts it again: same settings, same data, same port.
    pub async fn restart(&self) {
        self.kill9();
        self.spawn().await;
    }

    /// Asks it to end (SIGTERM), and tells how it did and how long that took.
    pub async fn terminate(&self) -> (ExitStatus, Duration) {
        let began = Instant::now();
        let pid = self.child.lock().unwrap().as_ref().map(Pid::from_child).expect("greenroom runs");
        kill_process(pid, Signal::TERM).unwrap();
        let status = until("greenroom ends when asked to", PATIENCE, || async { self.exited() }).await;
        self.child.lock().unwrap().take();
        (status, began.elapsed())
    }

    /// Whether it has ended, and how.
    pub fn exited(&self) -> Option<ExitStatus> {
        self.child.lock().unwrap().as_mut().and_then(|child| child.try_wait().unwrap())
    }

    pub async fn get(&self, path: &str) -> Response {
        self.gateway(&self.address.to_string(), path).await
    }

    /// A request that is still to get its body and its headers.
    pub fn post(&self, path: &str) -> reqwest::RequestBuilder {
        self.client.post(format!("http://{}{path}", self.address))
    }

    /// An operator who acts from a hook of the wire, in which nothing can be awaited.
    pub fn operator(&self) -> Operator {
        Operator(self.address)
    }

    /// A visitor's request: the host name as the browser sends it, the connection to loopback.
    pub async fn gateway(&self, host: &str, path: &str) -> Response {
        let request = self.client.get(format!("http://{}{path}", self.address)).header(header::HOST, host);
        request.send().await.unwrap_or_else(|error| panic!("GET {host}{path}: {error}"))
    }

    /// As [`Self::gateway`], but nothing where nobody answers.
    pub async fn try_get(&self, host: &str, path: &str) -> Option<Response> {
        let url = format!("http://{}{path}", self.address);
        self.client.get(url).header(header::HOST, host).send().await.ok()
    }

    /// What the JSON API says of the merge request's preview; nothing where it knows none.
    pub async fn preview(&self, project: u64, iid: u64) -> Option<Value> {
        let answer = self.get(&format!("/api/v1/previews/{project}/{iid}")).await;
        if answer.status() == 404 {
            return None;
        }
        Some(answer.error_for_status().unwrap().json().await.unwrap())
    }

    /// Makes the merge request's preview older, while greenroom does not run.
    pub async fn age(&self, iid: u64, by: Duration) {
        self.age_named(&format!("%-mr-{iid}"), by).await;
    }

    /// The same, of the preview whose name this SQL pattern matches.
    pub async fn age_named(&self, name: &str, by: Duration) {
        let pool = self.store().await;
        let document: String = sqlx::query_scalar("SELECT document FROM previews WHERE name LIKE $1")
            .bind(name)
            .fetch_one(&pool)
            .await
            .unwrap();
        let mut document: Value = serde_json::from_str(&document).unwrap();
        let by = i64::try_from(by.as_millis()).unwrap();
        assert!(document["deployed_at"].is_i64(), "it was deployed: {document}");
        for time in ["deployed_at", "expires_at"] {
            if let Some(at) = document[time].as_i64() {
                document[time] = (at - by).into();
            }
        }
        sqlx::query("UPDATE previews SET document = $1 WHERE name LIKE $2")
            .bind(document.to_string())
            .bind(name)
            .execute(&pool)
            .await
            .unwrap();
        pool.close().await;
    }

    /// Has the next try of whatever has failed wait for longer, as after many failures; of how much that is.
    pub async fn postpone(&self, by: Duration) -> u64 {
        let pool = self.store().await;
        let postponed = sqlx::query(
            "UPDATE work SET run_at = run_at + $1, attempts = attempts + 20 WHERE attempts > 0 AND lease_until = 0",
        )
        .bind(i64::try_from(by.as_millis()).unwrap())
        .execute(&pool)
        .await
        .unwrap();
        pool.close().await;
        postponed.rows_affected()
    }

    async fn store(&self) -> sqlx::AnyPool {
        sqlx::any::install_default_drivers();
        let url = format!("sqlite://{}", self.data().join("greenroom.db").display());
        sqlx::AnyPool::connect(&url).await.unwrap()
    }

    /// The store is lost; what the engine has is not.
    pub fn lose_store(&self) {
        for file in fs::read_dir(self.data()).unwrap().map(|file| file.unwrap().path()) {
            if file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("greenroom.db")) {
                fs::remove_file(file).unwrap();
            }
        }
    }

    /// Runs a verb with the settings of this server, and tells how it ended and what it printed.
    pub fn verb(&self, args: &[&str]) -> (ExitStatus, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_greenroom"))
            .args(args)
            .env_clear()
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .env("GREENROOM_SERVER", self.url().as_str())
            .current_dir(self.home.path())
            .output()
            .unwrap();
        let text = [output.stderr, output.stdout].concat();
        (output.status, String::from_utf8(text).unwrap())
    }

    /// As [`Self::verb`], while the world goes on, with these settings over those of the server. `--server` is for it to
    /// find out.
    pub async fn ask(&self, args: &[&str], settings: &[(&str, &str)]) -> (i32, String) {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_greenroom"));
        command.args(args).env_clear().current_dir(self.home.path());
        command.envs(self.settings.iter().filter(|set| !is_flag(set)).map(|(name, value)| (name, value)));
        let output = command.envs(settings.iter().copied()).output().await.unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().expect("it ended by itself"), String::from_utf8(text).unwrap())
    }

    /// Whether it was not killed yet.
    pub fn is_running(&self) -> bool {
        self.child.lock().unwrap().is_some()
    }

    /// As [`Self::preview`], but nothing where nobody answers.
    pub async fn try_preview(&self, project: u64, subject: impl std::fmt::Display) -> Option<Value> {
        let url = format!("http://{}/api/v1/previews/{project}/{subject}", self.address);
        let answer = self.client.get(url).send().await.ok()?;
        answer.error_for_status().ok()?.json().await.ok()
    }

    /// The folder with everything it keeps.
    pub fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// Waits until it has logged `text` so many times, and returns the log. What it has done may come late there.
    pub async fn logs(&self, text: &str, times: usize) -> String {
        until(&format!("the log says `{text}` {times} times"), PATIENCE, || async {
            let log = self.log();
            if log.matches(text).count() >= times { Ok(log) } else { Err(log) }
        })
        .await
    }

    /// Everything it logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// The same for a hook, which outlives the borrow.
    pub fn log_reader(&self) -> impl Fn() -> String + Send + Sync + 'static {
        let file = self.log_file();
        move || fs::read_to_string(&file).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.home.path().join("greenroom.log")
    }
}

impl Drop for Greenroom {
    fn drop(&mut self) {
        self.kill9();
        if thread::panicking() {
            eprintln!("greenroom's log:\n{}", self.log());
        }
    }
}

/// Whether a setting is a flag, such as `--log`.
fn is_flag((name, _): &(String, String)) -> bool {
    name.starts_with("--")
}

/// See [`Greenroom::operator`].
#[derive(Debug, Clone, Copy)]
pub struct Operator(SocketAddr);

impl Operator {
    /// Posts nothing to this path; the status of the answer.
    pub fn posts_now(self, path: &str) -> u16 {
        let url = format!("http://{}{path}", self.0);
        let asked = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let client = reqwest::Client::builder().no_proxy().build().unwrap();
                client.post(url).send().await.expect("greenroom answers").status().as_u16()
            })
        });
        asked.join().unwrap()
    }
}

fn kill(child: &Mutex<Option<Child>>) {
    if let Some(mut child) = child.lock().unwrap().take() {
        let _ended_already = child.kill();
        child.wait().unwrap();
    }
}
