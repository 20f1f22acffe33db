//! Verbs in a job of GitLab CI: the server does the work, or the job itself where there is none; the job shows how it goes and
//! ends as it ends.

mod alone;
mod archive;
mod deploy;
mod dotenv;
mod follow;
mod log;
mod server;

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use url::Url;

pub(super) use deploy::{Flags, run};

use super::check::Format;
use super::{Failure, output};
use crate::preview::EngineKind;
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
    /// How long the job waits, in seconds. A server goes on without it.
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
    log: Log,
    flags: JobFlags,
}

/// Who does the work.
enum Desk {
    Server(Server),
    Alone(Box<Alone>),
}

impl Job {
    async fn new(flags: JobFlags) -> Result<Self, Failure> {
        let settings = job_settings(flags.server.clone(), flags.merge_request, flags.config.clone())
            .map_err(|problems| Failure::Findings(problems.to_string()))?;
        let log = Log::new(&settings, flags.output);
        let desk = match settings.way {
            Way::Server(access) => Desk::Server(Server::new(access)?),
            Way::Alone(alone) => Desk::Alone(Box::new(Alone::open(*alone).await?)),
        };
        Ok(Self {
            merge_requests: settings.merge_requests,
            merge_train: settings.merge_train,
            engine: settings.engine,
            desk,
            log,
            flags,
        })
    }

    /// Asks for a deploy; what is known of it.
    async fn deploy(&self, archive: Option<&Packed>) -> Result<Value, Failure> {
        match &self.desk {
            Desk::Server(server) => server.ask("api/v1/jobs/deploy", &self.named(), archive).await,
            Desk::Alone(alone) => alone.deploy(&self.merge_requests).await,
        }
    }

    /// Asks for a stop; what is known of the preview.
    async fn stop(&self) -> Result<Value, Failure> {
        match &self.desk {
            Desk::Server(server) => server.ask("api/v1/jobs/stop", &self.named(), None).await,
            Desk::Alone(alone) => alone.stop(&self.merge_requests).await,
        }
    }

    /// The merge requests as the server takes them.
    fn named(&self) -> String {
        let iids: Vec<_> = self.merge_requests.iter().map(u64::to_string).collect();
        format!("mr={}", iids.join(","))
    }

    /// Shows how it goes until it is decided: how what was answered comes out.
    async fn follow(&self, answer: &Value) -> Result<(End, Value), Failure> {
        let limit = Duration::from_secs(self.flags.timeout);
        let order = answer["order"].as_str();
        let follow = async {
            match &self.desk {
                Desk::Server(server) => {
                    let (project, iid) = (&answer["project_id"], &answer["mr_iid"]);
                    let order = order.map(|order| format!("order={order}")).unwrap_or_default();
                    let path = format!("api/v1/jobs/previews/{project}/{iid}/events?{order}");
                    follow::follow(server, &self.log, &path).await
                }
                Desk::Alone(alone) => alone.follow(&self.log, answer).await,
            }
        };
        let end = tokio::time::timeout(limit, follow).await.map_err(|_| self.late(limit))??;
        let parsed = serde_json::from_value(end.clone())?;
        Ok((parsed, end))
    }

    fn late(&self, limit: Duration) -> Failure {
        let goes_on = match &self.desk {
            Desk::Server(_) => "the server goes on, and the merge request tells how it ends",
            Desk::Alone(_) => "what was begun stays as it is; run the job again to go on",
        };
        Failure::Unavailable(anyhow::anyhow!("it is not decided after {} s; {goes_on}", limit.as_secs()))
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

/// `greenroom stop` in a job.
pub(super) async fn stop(flags: JobFlags) -> Result<(), Failure> {
    let job = Job::new(flags).await?;
    let section = job.log.open("greenroom_stop", "Taking the preview away");
    let answer = job.stop().await?;
    let (end, shown) = if answer["name"].is_null() {
        let reason = String::from("there is no preview to stop");
        let end =
            End { outcome: Outcome::Done, reason, state: String::from("stopped"), name: None, url: None };
        (
            end,
            serde_json::json!({ "outcome": "done", "state": "stopped", "reason": "there is no preview to stop" }),
        )
    } else {
        job.follow(&answer).await?
    };
    job.log.close(section);
    job.log.outcome(&end, "the preview is gone");
    job.leave(&end, &shown)
}
