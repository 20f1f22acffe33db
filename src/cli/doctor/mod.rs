//! `greenroom doctor`: what is wrong, and what to do about it. A running server tells what it has found; where its settings
//! are given, too, all that they lead to is asked from here: GitLab, webhooks, the domain of the previews, the engine.
//!
//! Whoever adds something that `serve` depends on adds its checks to [`checks`].

mod domain;
mod engine;
mod gitlab;
mod registry;

use anyhow::anyhow;
use serde::Serialize;
use serde_json::{Value, json};

use super::check::Format;
use super::client::{Client, ServerFlag, elements, text};
use super::serve::check_signing_token;
use super::{ConfigFlag, Failure, output};
use crate::settings::{Layer, Settings};

#[derive(Debug, clap::Args)]
pub(super) struct Flags {
    #[command(flatten)]
    server: ServerFlag,
    #[command(flatten)]
    config: ConfigFlag,
    /// A project whose role and webhook is looked at, such as `acme/web`. Default: those that GREENROOM_PROJECTS names.
    #[arg(long = "project", value_name = "PATH")]
    projects: Vec<String>,
    /// How findings are printed.
    #[arg(long, value_enum, default_value = "text")]
    output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    Wrong,
    /// It could not be found out, or is of no matter.
    Skipped,
}

/// What was looked at, and how it is.
#[derive(Debug, Serialize)]
struct Check {
    subject: &'static str,
    status: Status,
    text: String,
    remedy: Option<String>,
}

impl Check {
    fn ok(subject: &'static str, text: impl Into<String>) -> Self {
        Self { subject, status: Status::Ok, text: text.into(), remedy: None }
    }

    fn wrong(subject: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { subject, status: Status::Wrong, text: text.into(), remedy: Some(remedy.into()) }
    }

    fn skipped(subject: &'static str, text: impl Into<String>) -> Self {
        Self { subject, status: Status::Skipped, text: text.into(), remedy: None }
    }

    fn print(&self) {
        let Self { subject, status, text, remedy } = self;
        let status = match status {
            Status::Ok => "ok",
            Status::Wrong => "wrong",
            Status::Skipped => "-",
        };
        output::data(&format!("{status:<7}{subject:<10}{text}"));
        if let Some(remedy) = remedy {
            output::data(&format!("  hint: {remedy}"));
        }
    }
}

pub(super) async fn run(flags: Flags) -> Result<(), Failure> {
    let config = flags.config.config.as_deref();
    let settings = if config.is_some() || Settings::are_given() {
        let settings = Settings::load(config, Layer::default(), check_signing_token)
            .map_err(|problems| Failure::Findings(problems.to_string()))?;
        Some(settings)
    } else {
        None
    };
    let token = settings.as_ref().and_then(|settings| settings.api_token.clone());
    let client = Client::new(flags.server.server, None, token)?;
    let (health, checks) = match settings {
        None => (client.get("api/v1/health").await?, Vec::new()),
        Some(settings) => {
            let (health, server) = match client.get("api/v1/health").await {
                Ok(health) => {
                    (health, Check::ok("server", format!("greenroom answers at {}", client.server())))
                }
                Err(failure) => {
                    let start =
                        "start `greenroom serve`, or name the running one with --server or GREENROOM_SERVER";
                    (Value::Null, Check::wrong("server", failure.told(), start))
                }
            };
            let mut all = vec![server];
            all.extend(checks(&settings, &flags.projects).await);
            (health, all)
        }
    };
    let warnings = elements(&health["warnings"]);
    let wrong = checks.iter().filter(|check| check.status == Status::Wrong).count() + warnings.len();
    if flags.output == Format::Json {
        let status = if wrong == 0 { "ok" } else { "warning" };
        let all = json!({ "status": status, "warnings": warnings, "checks": checks });
        output::data(&serde_json::to_string_pretty(&all)?);
    } else {
        checks.iter().for_each(Check::print);
        for warning in warnings {
            let (code, since) = (text(&warning["code"]), text(&warning["since"]));
            output::data(&format!("{code}: {} (since {since})", text(&warning["text"])));
            output::data(&format!("  hint: {}", text(&warning["remedy"])));
        }
    }
    match wrong {
        0 => {
            output::prose("nothing found");
            Ok(())
        }
        1 => Err(Failure::Failed(anyhow!("1 finding"))),
        count => Err(Failure::Failed(anyhow!("{count} findings"))),
    }
}

/// Everything that the settings lead to.
async fn checks(settings: &Settings, projects: &[String]) -> Vec<Check> {
    let mut all = gitlab::checks(settings, projects).await;
    all.extend(domain::checks(settings).await);
    all.extend(engine::checks(settings).await);
    all
}
