//! `greenroom connect`: makes or repairs the webhooks of projects, and proves that they lead here.

mod report;

use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use serde_json::json;
use url::Url;

use super::check::Format;
use super::client::{Client, text};
use super::serve::{check_signing_token, forge};
use super::{ConfigFlag, Failure, output};
use crate::gitlab::{Class, Error, Forge, Health, HookDelivery, TestOutcome, signs_deliveries};
use crate::hooks::{Change, Proof, plan};
use crate::preview::{ProjectId, Quoted};
use crate::settings::{Layer, Origin, ProjectFilter, Settings};
use report::Report;

#[derive(Debug, clap::Args)]
pub(super) struct Flags {
    /// Projects: paths such as `acme/web`, or globs such as `acme/*` and `acme/**`.
    #[arg(required = true, value_name = "PROJECT")]
    projects: Vec<String>,
    #[command(flatten)]
    config: ConfigFlag,
    /// Where GitLab is to send webhooks; as GREENROOM_WEBHOOK_URL.
    #[arg(long, value_name = "URL")]
    webhook_url: Option<String>,
    /// The greenroom that is asked whether a test event arrived. Default: GREENROOM_SERVER, else GREENROOM_PUBLIC_URL.
    #[arg(long, value_name = "URL")]
    server: Option<Url>,
    /// Write the tokens of the settings also where the webhook has some already.
    #[arg(long)]
    replace_token: bool,
    /// Change nothing, only say what would be changed. Exit code 2 when something would be.
    #[arg(long)]
    dry_run: bool,
    /// How it is told. As JSON all at the end.
    #[arg(long, value_enum, default_value = "text")]
    output: Format,
}

/// The access level that webhooks need.
pub(super) const MAINTAINER: u64 = 40;

/// How long the server may take to know of an event that GitLab got an answer for.
const ARRIVAL: Duration = Duration::from_secs(20);

/// How often it is asked.
const ASK: Duration = Duration::from_millis(250);

/// One run of the verb.
struct Connect {
    settings: Settings,
    forge: Forge,
    health: Health,
    client: Client,
    flags: Flags,
}

pub(super) async fn run(flags: Flags) -> Result<(), Failure> {
    let mut layer = Layer::default();
    layer.set("webhook_url", flags.webhook_url.clone(), Origin::Flag);
    let settings = Settings::load(flags.config.config.as_deref(), layer, check_signing_token)
        .map_err(|problems| Failure::Findings(problems.to_string()))?;
    let (forge, _) = forge(&settings, Arc::new(|_| Box::pin(std::future::ready(None))))?;
    let health = forge.ask_health().await;
    if let Some(why) = &health.unavailable {
        return Err(Failure::Unavailable(anyhow!(why.clone())));
    }
    let default = settings.public_url.clone();
    let client = Client::new(flags.server.clone(), Some(default), settings.api_token.clone())?;
    let connect = Connect { settings, forge, health, client, flags };
    let projects = connect.projects().await?;
    let (mut failures, mut reports) = (Vec::new(), Vec::new());
    let is_json = connect.flags.output == Format::Json;
    for (id, path) in &projects {
        let mut report = Report::new(path, is_json);
        if let Err(failure) = connect.project(*id, path, &mut report).await {
            if projects.len() > 1 {
                output::prose(&format!("{path}: {}", failure.told()));
            }
            report.failed(failure.told());
            failures.push(failure);
        }
        reports.push(report);
    }
    if is_json {
        output::data(&serde_json::to_string_pretty(&json!({ "projects": reports }))?);
    }
    let failed = failures.len();
    match failures.into_iter().max_by_key(Failure::weight) {
        None => Ok(()),
        Some(failure) if projects.len() == 1 => Err(failure),
        Some(failure) => {
            let sum = format!("{failed} of {} projects are not connected", projects.len());
            Err(match failure {
                Failure::Failed(_) => Failure::Failed(anyhow!(sum)),
                Failure::Findings(_) => Failure::Findings(sum),
                Failure::Unavailable(_) => Failure::Unavailable(anyhow!(sum)),
            })
        }
    }
}

impl Connect {
    /// The projects that are meant.
    async fn projects(&self) -> Result<Vec<(ProjectId, String)>, Failure> {
        let meant = &self.flags.projects;
        let filter = ProjectFilter::new(meant)
            .map_err(|problem| Failure::Findings(format!("error: `{}` {problem}", meant.join(" "))))?;
        let mut all = Vec::new();
        for path in filter.named() {
            let id = self.forge.project_id(path).await.map_err(|error| self.explained(path, error))?;
            all.push((id, path.clone()));
        }
        if filter.has_wildcards() {
            let own = self.forge.own_projects().await.map_err(|error| self.explained("", error))?;
            let matching = own.into_iter().filter(|(_, path)| filter.serves(path));
            all.extend(
                matching.filter(|(id, _)| all.iter().all(|(known, _)| known != id)).collect::<Vec<_>>(),
            );
        }
        if all.is_empty() {
            return Err(Failure::Findings(format!(
                "error: no project matches `{}`\nhint: a glob matches projects whose member the token's user is; `*` \
                 stays within one group, `**` crosses groups",
                meant.join(" ")
            )));
        }
        Ok(all)
    }

    async fn project(&self, id: ProjectId, path: &str, report: &mut Report) -> Result<(), Failure> {
        self.token_is_good(path)?;
        if !self.settings.project(path).served.value {
            return Err(Failure::Findings(format!(
                "error: the settings do not serve `{path}`, so whatever its webhook tells would be left alone\nhint: \
                 add it to GREENROOM_PROJECTS"
            )));
        }
        let hooks = match self.forge.hooks(id).await {
            Ok(hooks) => hooks,
            Err(error) if error.status() == Some(403) => {
                return Err(self.role_too_low(id, path, error).await);
            }
            Err(error) => return Err(self.explained(path, error)),
        };
        let proof = Proof {
            signing: self.settings.signing_tokens.first().cloned(),
            secret: self.settings.secret_tokens.first().cloned(),
            gitlab_signs: self.health.version.as_deref().and_then(signs_deliveries),
            replace: self.flags.replace_token,
        };
        let change = plan(&hooks, &self.settings.webhook_url, &proof)
            .map_err(|why| Failure::Findings(format!("error: {why}")))?;
        report.plans(&change.steps, &change.left);
        if self.flags.dry_run {
            return match change.steps.len() {
                0 => Ok(()),
                _ => Err(Failure::Findings(String::from("nothing was changed"))),
            };
        }
        let hook = self.apply(id, path, &change).await?;
        report.done();
        self.prove(id, path, hook, report).await
    }

    fn token_is_good(&self, path: &str) -> Result<(), Failure> {
        let name = self.forge.token_name(path);
        let of_token = self.health.tokens.iter().filter(|token| token.name == name);
        for warning in of_token.flat_map(|token| token.warnings(self.health.checked_on)) {
            let told = format!("{}\nhint: {}", warning.text, warning.remedy);
            if warning.code == "token_expires" {
                output::prose(&format!("warning: {told}"));
            } else {
                return Err(Failure::Failed(anyhow!(told)));
            }
        }
        Ok(())
    }

    async fn role_too_low(&self, id: ProjectId, path: &str, error: Error) -> Failure {
        let role = self.forge.access(id).await.ok().and_then(|access| access.role);
        if role >= Some(MAINTAINER) {
            // It is something else: the project is archived, or a rule of its group.
            return self.explained(path, error);
        }
        Failure::Failed(anyhow!(
            "webhooks need the role Maintainer, and the token of {} is {} in `{path}`\nhint: give this one command a \
             token of a Maintainer; `greenroom serve` makes previews as a Developer, too",
            self.forge.token_name(path),
            role_name(role)
        ))
    }

    /// Does what was planned; the webhook's id.
    async fn apply(&self, id: ProjectId, path: &str, planned: &Change) -> Result<u64, Failure> {
        let change = &planned.change;
        let done = match planned.hook {
            Some(hook) if planned.steps.is_empty() => return Ok(hook),
            Some(hook) => self.forge.update_hook(id, hook, change).await,
            None => self.forge.create_hook(id, change).await,
        };
        let hook = match done {
            Ok(hook) => hook,
            Err(error) if error.status() == Some(422) => {
                let hint = "it refuses private addresses until an administrator allows them: *Admin → Settings → Network → \
                            Outbound requests*";
                let is_of_address = error.message().contains("blocked");
                let hint = if is_of_address { format!("\nhint: {hint}") } else { String::new() };
                let words = error.message();
                return Err(Failure::Failed(anyhow!("GitLab does not take the webhook: {words}{hint}")));
            }
            Err(error) => return Err(self.explained(path, error)),
        };
        let unsigned = change.signing_token.is_some() && hook.signing_token_present != Some(true);
        if unsigned && change.secret_token.is_none() && hook.token_present != Some(true) {
            return Err(Failure::Findings(String::from(
                "error: this GitLab took no signing token, so nothing proves its deliveries\nhint: set \
                 GREENROOM_WEBHOOK_SECRET_TOKEN for `connect` and for `serve`",
            )));
        }
        Ok(hook.id)
    }

    /// Has GitLab send a test event, and asks the server for it.
    async fn prove(&self, id: ProjectId, path: &str, hook: u64, report: &mut Report) -> Result<(), Failure> {
        let explained = |error| self.explained(path, error);
        let before = newest(&self.forge.hook_deliveries(id, hook).await.map_err(explained)?);
        let outcome = self.forge.test_hook(id, hook).await.map_err(explained)?;
        let since: Vec<_> = self.forge.hook_deliveries(id, hook).await.map_err(explained)?;
        let since: Vec<_> = since.into_iter().filter(|delivery| delivery.attempt > before).collect();
        match outcome {
            TestOutcome::Answered => {}
            TestOutcome::NothingToTell(words) => {
                report.no_event(Quoted::new(&words).to_string());
                return Ok(());
            }
            TestOutcome::Failed(words) => {
                let refused = since.first().is_some_and(|delivery| delivery.status == "401");
                let url = &self.settings.webhook_url;
                return Err(Failure::Failed(if refused {
                    anyhow!(
                        "{url} refused a test event, for it is not proven by a token of its settings\nhint: `greenroom \
                         connect {path} --replace-token` with the settings that the server has"
                    )
                } else {
                    let why = match (words.as_str(), since.first()) {
                        ("", Some(delivery)) => {
                            format!("it was answered with {}", Quoted::new(&delivery.status))
                        }
                        _ => Quoted::new(&words).to_string(),
                    };
                    anyhow!(
                        "a test event did not arrive at {url}: {why}\nhint: GitLab itself must reach that address \
                         (GREENROOM_WEBHOOK_URL)"
                    )
                }));
            }
        }
        report.arrived(&self.arrived(path, &since).await?);
        Ok(())
    }

    /// Waits until the server knows one of these deliveries; when it came.
    async fn arrived(&self, path: &str, deliveries: &[HookDelivery]) -> Result<String, Failure> {
        let ids: Vec<_> = deliveries.iter().filter_map(|delivery| delivery.id.as_deref()).collect();
        let asked = async {
            loop {
                for id in &ids {
                    if let Some(found) = self.client.find(&format!("api/v1/deliveries/{id}")).await? {
                        return Ok::<_, Failure>(found);
                    }
                }
                tokio::time::sleep(ASK).await;
            }
        };
        let server = self.client.server();
        let found = match tokio::time::timeout(ARRIVAL, asked).await {
            Ok(Ok(found)) => found,
            Ok(Err(failure)) => {
                return Err(Failure::Unavailable(anyhow!(
                    "GitLab got a good answer to a test event, but it is not known from whom: {}\nhint: name the \
                     server's own address with --server, and its GREENROOM_API_TOKEN",
                    failure.told()
                )));
            }
            Err(_) => {
                return Err(Failure::Failed(anyhow!(
                    "GitLab got a good answer to a test event from {}, but {server} knows nothing of it\nhint: the \
                     address leads to somebody else, or --server names another greenroom",
                    self.settings.webhook_url
                )));
            }
        };
        if found["outcome"] == "foreign" {
            return Err(Failure::Findings(format!(
                "error: a test event arrived, but {server} does not serve `{path}`\nhint: add it to GREENROOM_PROJECTS \
                 of the server"
            )));
        }
        Ok(text(&found["received_at"]).to_owned())
    }

    /// What to do about an error of GitLab's.
    fn explained(&self, path: &str, error: Error) -> Failure {
        if error.is_not_found() && !path.is_empty() {
            return Failure::Failed(anyhow!(
                "GitLab does not show `{path}` to the token of {}\nhint: see whether the path is right, and its user \
                 is a member",
                self.forge.token_name(path)
            ));
        }
        match error.class() {
            Class::Retry(_) => Failure::Unavailable(error.into()),
            Class::Operator => Failure::Failed(error.into()),
        }
    }
}

fn newest(deliveries: &[HookDelivery]) -> u64 {
    deliveries.iter().map(|delivery| delivery.attempt).max().unwrap_or_default()
}

/// An access level in words, after "is".
pub(super) fn role_name(level: Option<u64>) -> String {
    let name = match level {
        None => return String::from("no direct member"),
        Some(0..10) => return String::from("no member"),
        Some(10..15) => "Guest",
        Some(15..20) => "Planner",
        Some(20..30) => "Reporter",
        Some(30..40) => "Developer",
        Some(40..50) => "Maintainer",
        Some(50..) => "Owner",
    };
    name.to_owned()
}
