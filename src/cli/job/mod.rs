//! Verbs in a job of GitLab CI: the server does the work, the job shows how it goes and ends as it ends.

mod archive;
mod deploy;
mod dotenv;
mod follow;
mod junit;
mod log;
mod server;

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use url::Url;

pub(super) use deploy::{Flags, run};

use super::check::Format;
use super::client::{PreviewArgs, ServerFlag};
use super::{Failure, output};
use crate::preview::{CheckResult, CheckState};
use crate::settings::{JobSettings, job_settings};
use log::Log;
use server::Server;

/// How a job asks, and what it leaves behind.
#[derive(Debug, clap::Args)]
pub(super) struct JobFlags {
    /// The server. Default: GREENROOM_SERVER.
    #[arg(long, value_name = "URL")]
    server: Option<Url>,
    /// The number of the merge request. Default: that of the pipeline, else those of its branch.
    #[arg(long, value_name = "IID")]
    merge_request: Option<u64>,
    /// Where GREENROOM_URL, GREENROOM_NAME and GREENROOM_STATE are written for `artifacts:reports:dotenv`.
    #[arg(long, value_name = "FILE")]
    dotenv: Option<PathBuf>,
    /// How long the job waits, in seconds. The server goes on without it.
    #[arg(long, value_name = "SECONDS", default_value_t = 3_600)]
    timeout: u64,
    /// How the outcome is printed; as JSON, what happens goes to stderr.
    #[arg(long, value_enum, default_value = "text")]
    output: Format,
}

impl JobFlags {
    /// The server that the flag names.
    pub(super) fn server(&self) -> Option<Url> {
        self.server.clone()
    }
}

/// How something came out, as the server tells it.
#[derive(Debug, Deserialize)]
struct End {
    outcome: Outcome,
    reason: String,
    state: String,
    name: Option<String>,
    url: Option<String>,
    /// How long a deploy took, milliseconds.
    #[serde(default)]
    took_ms: Option<i64>,
    /// How the project's own checks came out.
    #[serde(default)]
    checks: Vec<CheckResult>,
}

impl End {
    /// Whether what was asked for is served, whatever its checks say.
    fn is_deployed(&self) -> bool {
        matches!(self.state.as_str(), "ready" | "asleep")
    }

    /// The checks that failed, in as many lines as it takes.
    fn failed_checks(&self) -> String {
        let failed = self.checks.iter().filter(|check| check.state == CheckState::Failed);
        let lines = failed.flat_map(|check| {
            std::iter::once(format!("\n{check}"))
                .chain(check.lines.iter().map(|line| format!("\n  │ {line}")))
        });
        lines.collect()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Done,
    Failed,
}

/// A job that has what it needs.
struct Job {
    settings: JobSettings,
    server: Server,
    log: Log,
    flags: JobFlags,
}

impl Job {
    fn new(flags: JobFlags) -> Result<Self, Failure> {
        let settings = job_settings(flags.server.clone(), flags.merge_request)
            .map_err(|problems| Failure::Findings(problems.to_string()))?;
        let server = Server::new(&settings)?;
        let log = Log::new(&settings, flags.output);
        Ok(Self { settings, server, log, flags })
    }

    /// Shows how it goes until it is decided; what is asked for is named by `query`.
    async fn follow(&self, answer: &Value, query: &str) -> Result<(End, Value), Failure> {
        let (project, iid) = (&answer["project_id"], &answer["mr_iid"]);
        let path = format!("api/v1/jobs/previews/{project}/{iid}/events?{query}");
        let limit = Duration::from_secs(self.flags.timeout);
        let told = tokio::time::timeout(limit, follow::follow(&self.server, &self.log, &path)).await;
        let end = told.map_err(|_| {
            Failure::Unavailable(anyhow::anyhow!(
                "it is not decided after {} s; the server goes on, and the merge request tells how it ends",
                limit.as_secs()
            ))
        })??;
        let parsed = serde_json::from_value(end.clone())?;
        Ok((parsed, end))
    }

    /// Leaves the outcome where GitLab and scripts look for it.
    fn leave(&self, end: &End, shown: &Value) -> Result<(), Failure> {
        if let Some(path) = &self.flags.dotenv {
            dotenv::write(path, end)?;
        }
        if self.flags.output == Format::Json {
            output::data(&shown.to_string());
        }
        Ok(())
    }
}

/// Which merge request a verb is about: the one that is named, in a job else the job's own.
#[derive(Debug, clap::Args)]
pub(super) struct Whose {
    /// The merge request: `acme/web!7`, or with the project's id `42!7`. In a CI job none: it is the job's own.
    name: Option<String>,
    #[command(flatten)]
    server: ServerFlag,
    /// The number of the job's merge request. Default: that of the pipeline, else those of its branch.
    #[arg(long, value_name = "IID", conflicts_with = "name")]
    merge_request: Option<u64>,
}

/// Who asks.
pub(super) enum Asker {
    /// Somebody who names the merge request.
    Person(PreviewArgs),
    /// The job that is for it.
    Job(OwnJob),
}

impl Whose {
    /// Whether a job asks about its own merge request.
    pub(super) const fn is_job(&self) -> bool {
        self.name.is_none()
    }

    /// The preview, as the server tells of it.
    pub(super) async fn preview(self) -> Result<Value, Failure> {
        match self.asker()? {
            Asker::Person(preview) => {
                let (client, path) = preview.find().await?;
                client.get(&path).await
            }
            Asker::Job(job) => job.look().await,
        }
    }

    pub(super) fn asker(self) -> Result<Asker, Failure> {
        match self.name {
            Some(name) => Ok(Asker::Person(PreviewArgs::new(name, self.server.server))),
            None => OwnJob::new(self.server.server, self.merge_request).map(Asker::Job),
        }
    }
}

/// A job that asks about its own merge request, and waits for nothing.
pub(super) struct OwnJob {
    server: Server,
    query: String,
}

impl OwnJob {
    fn new(server: Option<Url>, merge_request: Option<u64>) -> Result<Self, Failure> {
        let settings = job_settings(server, merge_request)
            .map_err(|problems| Failure::Findings(problems.to_string()))?;
        Ok(Self { server: Server::new(&settings)?, query: named(&settings) })
    }

    /// The job's preview.
    async fn look(&self) -> Result<Value, Failure> {
        let answer = self.server.get(&format!("api/v1/jobs/preview?{}", self.query)).await?;
        Ok(answer.json().await?)
    }

    /// Asks for something to be worked out.
    pub(super) async fn ask(&self, path: &str) -> Result<Value, Failure> {
        self.server.ask(path, &self.query, None).await
    }
}

/// The merge requests that a job is for, as the server takes them.
fn named(settings: &JobSettings) -> String {
    let iids: Vec<_> = settings.merge_requests.iter().map(u64::to_string).collect();
    format!("mr={}", iids.join(","))
}

/// `greenroom stop` in a job.
pub(super) async fn stop(flags: JobFlags) -> Result<(), Failure> {
    let job = Job::new(flags)?;
    let section = job.log.open("greenroom_stop", "Taking the preview away");
    let answer = job.server.ask("api/v1/jobs/stop", &named(&job.settings), None).await?;
    let (end, shown) = if answer["name"].is_null() {
        let reason = String::from("there is no preview to stop");
        let end = End {
            outcome: Outcome::Done,
            reason,
            state: String::from("stopped"),
            name: None,
            url: None,
            took_ms: None,
            checks: Vec::new(),
        };
        (
            end,
            serde_json::json!({ "outcome": "done", "state": "stopped", "reason": "there is no preview to stop" }),
        )
    } else {
        job.follow(&answer, "").await?
    };
    job.log.close(section);
    job.log.outcome(&end, "the preview is gone");
    job.leave(&end, &shown)
}
