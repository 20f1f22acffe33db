//! GitLab, our tokens there, and the webhooks of projects.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::connect::{MAINTAINER, role_name};
use super::super::serve::forge;
use super::{Check, registry};
use crate::clock::Clock;
use crate::gitlab::{AlertStatus, Error, Forge, Hook, HookDelivery};
use crate::hooks::{missing_events, ours};
use crate::preview::{ProjectId, Quoted};
use crate::settings::Settings;

/// How far two clocks may be apart, milliseconds. A signature counts for five minutes.
const APART: i64 = 60_000;

const DEVELOPER: u64 = 30;

pub(super) async fn checks(settings: &Settings, projects: &[String]) -> Vec<Check> {
    let forge = match forge(settings, Arc::new(|_| Box::pin(std::future::ready(None)))) {
        Ok((forge, _)) => forge,
        Err(error) => {
            return vec![Check::wrong("gitlab", error.to_string(), "correct the settings of GitLab")];
        }
    };
    let mut all = instance(settings, &forge).await;
    if all.iter().any(|check| check.subject == "gitlab" && check.remedy.is_some()) {
        return all;
    }
    let projects = if projects.is_empty() { settings.projects.named() } else { projects };
    if projects.is_empty() {
        all.push(Check::skipped("webhook", "no project is named; look at one with `--project acme/web`"));
    }
    for path in projects {
        project(settings, &forge, path, &mut all).await;
    }
    all
}

async fn instance(settings: &Settings, forge: &Forge) -> Vec<Check> {
    let health = forge.ask_health().await;
    let wrong = |subject, code: &'static str| {
        let found = health.warnings().into_iter().filter(move |warning| warning.code.starts_with(code));
        found.map(move |warning| Check::wrong(subject, warning.text, warning.remedy))
    };
    let mut all: Vec<_> = wrong("gitlab", "gitlab_").collect();
    if all.is_empty() {
        let version = health.version.as_deref().unwrap_or("of an unknown version");
        all.push(Check::ok("gitlab", format!("GitLab {version} answers at {}", settings.gitlab_url)));
    }
    all.extend(wrong("token", "token_"));
    for token in &health.tokens {
        if token.warnings(health.checked_on).is_empty() {
            let end = token
                .expires_at
                .map_or_else(|| String::from("no end that is known"), |end| format!("its end on {end}"));
            all.push(Check::ok(
                "token",
                format!("the token of {} has the scope `api`, and {end}", token.name),
            ));
        }
    }
    all.push(match forge.date().await {
        Ok(Some(date)) => {
            let apart = (date.as_millisecond() - Clock.now()).abs();
            if apart > APART {
                Check::wrong(
                    "clock",
                    format!("GitLab's clock and the one here are {} s apart", apart / 1000),
                    "set the clocks by NTP; a webhook that seems five minutes old is refused",
                )
            } else {
                Check::ok("clock", "GitLab's clock and the one here agree")
            }
        }
        Ok(None) => Check::skipped("clock", "GitLab's answers have no date"),
        Err(error) => Check::skipped("clock", error.to_string()),
    });
    all
}

async fn project(settings: &Settings, forge: &Forge, path: &str, all: &mut Vec<Check>) {
    if let Err(error) = look_at(settings, forge, path, all).await {
        let hint = "see whether the path is right, and the token's user is a member of the project";
        all.push(Check::wrong("project", format!("`{path}` cannot be looked at: {error}"), hint));
    }
}

async fn look_at(settings: &Settings, forge: &Forge, path: &str, all: &mut Vec<Check>) -> Result<(), Error> {
    let id = forge.project_id(path).await?;
    if !settings.project(path).served.value {
        all.push(Check::wrong(
            "project",
            format!("`{path}` is not served"),
            "add it to GREENROOM_PROJECTS, or take its webhook away",
        ));
    }
    let name = forge.token_name(path);
    let role = forge.access(id).await?.role;
    let has = format!("the token of {name} is {} in `{path}`", role_name(role));
    all.push(match role {
        Some(role) if role < DEVELOPER => {
            Check::wrong("role", has, "give it the role Developer, or Maintainer to have webhooks watched")
        }
        Some(role) if role < MAINTAINER => {
            Check::skipped("role", format!("{has}: enough for previews, but it is shown no webhooks"))
        }
        _ => Check::ok("role", has),
    });
    all.push(registry::check(settings, forge, id, path).await?);
    let hooks = match forge.hooks(id).await {
        Ok(hooks) => hooks,
        Err(error) if error.status() == Some(403) && role < Some(MAINTAINER) => {
            all.push(Check::skipped(
                "webhook",
                format!("GitLab shows the webhooks of `{path}` to Maintainers only"),
            ));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let before = all.len();
    for hook in ours(&hooks, &settings.webhook_url) {
        webhook(forge, id, path, hook, all).await?;
    }
    if all.len() == before {
        all.push(Check::wrong(
            "webhook",
            format!("no webhook of `{path}` leads to {}", settings.webhook_url),
            format!(
                "run `greenroom connect {path}`; a webhook of its group does as well, and is not seen here"
            ),
        ));
    }
    Ok(())
}

async fn webhook(
    forge: &Forge,
    project: ProjectId,
    path: &str,
    hook: &Hook,
    all: &mut Vec<Check>,
) -> Result<(), Error> {
    let mend = format!("run `greenroom connect {path}`");
    let missing = missing_events(hook);
    let state = match hook.alert_status {
        AlertStatus::Executable | AlertStatus::Unknown => None,
        AlertStatus::TemporarilyDisabled => Some("pauses"),
        AlertStatus::Disabled => Some("has switched off"),
    };
    if !missing.is_empty() {
        let text = format!("the webhook of `{path}` does not tell of {}", missing.join(", "));
        all.push(Check::wrong("webhook", text, &mend));
    }
    if let Some(state) = state {
        let text = format!("GitLab {state} the webhook of `{path}`, because its deliveries failed");
        all.push(Check::wrong(
            "webhook",
            text,
            format!("see its *Recent events*, mend the cause, and {mend}"),
        ));
    }
    if missing.is_empty() && state.is_none() {
        all.push(Check::ok("webhook", format!("the webhook of `{path}` tells of all that is needed")));
    }
    let recent = forge.hook_deliveries(project, hook.id).await?;
    let is_good = |delivery: &&HookDelivery| delivery.status.starts_with(['2', '3']);
    // What was sent again and came is not lost.
    let came: BTreeSet<_> =
        recent.iter().filter(is_good).filter_map(|delivery| delivery.id.as_ref()).collect();
    let lost = |delivery: &&HookDelivery| delivery.id.as_ref().is_none_or(|id| !came.contains(id));
    let failed: Vec<_> = recent.iter().filter(|delivery| !is_good(delivery)).filter(lost).collect();
    all.push(match failed.first() {
        None => Check::ok("delivery", format!("of the last deliveries of `{path}` none failed")),
        Some(last) => Check::wrong(
            "delivery",
            format!(
                "{} of the last {} deliveries of `{path}` failed, the newest with: {}",
                failed.len(),
                recent.len(),
                Quoted::new(&last.status)
            ),
            match last.status.as_str() {
                "401" => format!(
                    "the webhook's token is none of the settings: `greenroom connect {path} --replace-token`"
                ),
                _ => format!("see its *Recent events*, mend the cause, and {mend}"),
            },
        ),
    });
    Ok(())
}
