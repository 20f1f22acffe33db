//! Verbs in a job of GitLab CI: the server does the work, or the job itself where there is none; the job shows how it goes and
//! ends as it ends.

mod alone;
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
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};
use url::Url;

pub(super) use deploy::{Flags, run};

use super::check::Format;
use super::client::{PreviewArgs, ServerFlag};
use super::{Failure, output};
use crate::preview::{CheckResult, CheckState, EngineKind, PreviewKey};
use crate::settings::{Way, job_settings};
use alone::Alone;
use archive::Packed;
use log::Log;
use server::Server;

/// How a job asks, and what it leaves behind.
#[derive(Debug, clap::Args)]
pub(super) struct JobFlags {
    /// The server. Default: GREENROOM_SERVER. Without one, and with GREENROOM_INSTANCE, the job does the work itself.
    #[arg(long, value_name = "URL")]
    server: Option<Url>,
    /// A `greenroom.toml`, for a job that does the work itself. Default: GREENROOM_CONFIG.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The number of the merge request. Default: that of the pipeline, else those of its branch.
    #[arg(long, value_name = "IID")]
    merge_request: Option<u64>,
    /// Where GREENROOM_URL, GREENROOM_NAME and GREENROOM_STATE are written for `artifacts:reports:dotenv`.
    #[arg(long, value_name = "FILE")]
    dotenv: Option<PathBuf>,
    /// How long the job waits, in seconds. A server goes on without it. Default: an hour, and two minutes less than GitLab gives the
    /// job, so that it can still say how far it came.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u32>,
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
    merge_requests: Vec<u64>,
    merge_train: bool,
    engine: Option<EngineKind>,
    desk: Desk,
    /// How long all of it may take, and until when.
    limit: Duration,
    until: Instant,
    log: Log,
    flags: JobFlags,
}

/// Who does the work.
enum Desk {
    Server(Server),
    Alone(Box<Alone>),
}

impl Desk {
    /// A server is asked again until then at the latest.
    async fn open(way: Way, until: Instant) -> Result<Self, Failure> {
        Ok(match way {
            Way::Server(access) => Self::Server(Server::new(access, until)?),
            Way::Alone(alone) => Self::Alone(Box::new(Alone::open(*alone).await?)),
        })
    }
}

impl Job {
    async fn new(flags: JobFlags) -> Result<Self, Failure> {
        let settings = job_settings(flags.server.clone(), flags.merge_request, flags.config.clone())
            .map_err(|problems| Failure::Findings(problems.to_string()))?;
        let log = Log::new(&settings, flags.output);
        let limit = flags.timeout.map_or(settings.patience, |seconds| Duration::from_secs(seconds.into()));
        let until = Instant::now() + limit;
        Ok(Self {
            merge_requests: settings.merge_requests,
            merge_train: settings.merge_train,
            engine: settings.engine,
            desk: Desk::open(settings.way, until).await?,
            limit,
            until,
            log,
            flags,
        })
    }

    /// Asks for a deploy; what is known of it.
    async fn deploy(&self, archive: Option<&Packed>) -> Result<Value, Failure> {
        match &self.desk {
            Desk::Server(server) => server.ask("api/v1/jobs/deploy", &self.named(), archive).await,
            Desk::Alone(alone) => self.in_time(Box::pin(alone.deploy(&self.merge_requests))).await,
        }
    }

    /// Asks for a stop; what is known of each preview that goes.
    async fn stop(&self) -> Result<Vec<Value>, Failure> {
        match &self.desk {
            Desk::Server(server) => Ok(vec![server.ask("api/v1/jobs/stop", &self.named(), None).await?]),
            Desk::Alone(alone) => self.in_time(Box::pin(alone.stop(&self.merge_requests))).await,
        }
    }

    /// The merge requests as the server takes them.
    fn named(&self) -> String {
        named(&self.merge_requests)
    }

    /// Shows how it goes until it is decided: how what was answered comes out.
    async fn follow(&self, answer: &Value) -> Result<(End, Value), Failure> {
        let order = answer["order"].as_str();
        let follow = async {
            match &self.desk {
                Desk::Server(server) => {
                    let key: PreviewKey = answer["key"].as_str().unwrap_or_default().parse()?;
                    let order = order.map(|order| format!("order={order}")).unwrap_or_default();
                    let path =
                        format!("api/v1/jobs/previews/{}/{}/events?{order}", key.project_id, key.subject);
                    follow::follow(server, &self.log, &path).await
                }
                Desk::Alone(alone) => alone.follow(&self.log, answer).await,
            }
        };
        let end = self.in_time(Box::pin(follow)).await?;
        let parsed = serde_json::from_value(end.clone())?;
        Ok((parsed, end))
    }

    async fn in_time<T>(&self, done: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        timeout_at(self.until, done).await.unwrap_or_else(|_| Err(self.late()))
    }

    fn late(&self) -> Failure {
        let goes_on = match &self.desk {
            Desk::Server(_) => {
                "the server goes on, and tells how it ends: in the merge request, and by `greenroom why`"
            }
            Desk::Alone(_) => "what was begun stays as it is; run the job again to go on",
        };
        Failure::Unavailable(anyhow::anyhow!("it is not decided after {} s; {goes_on}", self.limit.as_secs()))
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
    /// The merge request: `acme/web!7`, or with the project's id `42!7`; a branch that has none: `acme/web@feature`. In a CI job
    /// none: it is the job's own.
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
        match self.asker().await? {
            Asker::Person(preview) => {
                let (client, path) = preview.find().await?;
                client.get(&path).await
            }
            Asker::Job(job) => job.look().await,
        }
    }

    pub(super) async fn asker(self) -> Result<Asker, Failure> {
        match self.name {
            Some(name) => Ok(Asker::Person(PreviewArgs::new(name, self.server.server))),
            None => OwnJob::new(self.server.server, self.merge_request).await.map(Asker::Job),
        }
    }
}

/// A job that asks about its own merge request, and waits for nothing.
pub(super) struct OwnJob {
    desk: Desk,
    merge_requests: Vec<u64>,
}

impl OwnJob {
    async fn new(server: Option<Url>, merge_request: Option<u64>) -> Result<Self, Failure> {
        let settings = job_settings(server, merge_request, None)
            .map_err(|problems| Failure::Findings(problems.to_string()))?;
        let until = Instant::now() + settings.patience;
        Ok(Self { desk: Desk::open(settings.way, until).await?, merge_requests: settings.merge_requests })
    }

    /// The job's preview.
    async fn look(&self) -> Result<Value, Failure> {
        match &self.desk {
            Desk::Server(server) => {
                let path = format!("api/v1/jobs/preview?{}", named(&self.merge_requests));
                Ok(server.get(&path).await?.json().await?)
            }
            Desk::Alone(_) => Err(Failure::Findings(String::from(
                "error: a server remembers that, and this job does the work itself\n\
                 hint: set GREENROOM_SERVER, or see what `greenroom deploy` printed",
            ))),
        }
    }

    /// What a deploy by the job would do.
    pub(super) async fn plan(&self) -> Result<Value, Failure> {
        match &self.desk {
            Desk::Server(server) => server.ask("api/v1/jobs/plan", &named(&self.merge_requests), None).await,
            Desk::Alone(alone) => alone.plan(&self.merge_requests).await,
        }
    }
}

/// The merge requests that a job is for, as the server takes them.
fn named(merge_requests: &[u64]) -> String {
    let iids: Vec<_> = merge_requests.iter().map(u64::to_string).collect();
    format!("mr={}", iids.join(","))
}

/// `greenroom stop` in a job.
pub(super) async fn stop(flags: JobFlags) -> Result<(), Failure> {
    let job = Job::new(flags).await?;
    let section = job.log.open("greenroom_stop", "Taking the preview away");
    let stopped = ask_and_follow(&job).await;
    job.log.close(section);
    let (end, shown) = stopped?;
    let is_gone = matches!(end.state.as_str(), "stopped" | "skipped");
    job.log.outcome(
        &end,
        if is_gone { "the preview is gone" } else { "the preview was gone, and has been asked for since" },
    );
    job.leave(&end, &shown)
}

async fn ask_and_follow(job: &Job) -> Result<(End, Value), Failure> {
    let mut gone = None;
    for answer in job.stop().await?.iter().filter(|answer| !answer["name"].is_null()) {
        gone = Some(job.follow(answer).await?);
    }
    if let Some(gone) = gone {
        return Ok(gone);
    }
    let shown = json!({ "outcome": "done", "state": "stopped", "reason": "there is no preview to stop" });
    Ok((serde_json::from_value(shown.clone())?, shown))
}
