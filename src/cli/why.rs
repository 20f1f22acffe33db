//! `greenroom why <project>!<iid>`: the decision, with every rule that counted.

use std::time::Duration;

use anyhow::{Context, anyhow};
use serde_json::Value;
use url::Url;

use super::check::Format;
use super::{Failure, output};
use crate::settings::client_settings;

#[derive(Debug, clap::Args)]
pub(super) struct Flags {
    /// The merge request: `acme/web!7`, or with the project's id `42!7`.
    merge_request: String,
    /// A running greenroom. Default: GREENROOM_SERVER, else `http://localhost:8080`.
    #[arg(long, value_name = "URL")]
    server: Option<Url>,
    /// How the answer is printed.
    #[arg(long, value_enum, default_value = "text")]
    output: Format,
}

pub(super) async fn run(flags: Flags) -> Result<(), Failure> {
    let (project, iid) = flags
        .merge_request
        .rsplit_once('!')
        .and_then(|(project, iid)| Some((project, iid.parse::<u64>().ok()?)))
        .filter(|(project, _)| !project.is_empty())
        .ok_or_else(|| {
            let given = &flags.merge_request;
            Failure::Findings(format!(
                "error: `{given}` names no merge request\nhint: write it as `acme/web!7`"
            ))
        })?;
    let (server, token) =
        client_settings(flags.server).map_err(|problem| Failure::Findings(problem.to_string()))?;
    let client = reqwest::Client::builder().timeout(Duration::from_secs(20)).build()?;
    let get = async |path: &str| -> Result<Value, Failure> {
        let url = server.join(path)?;
        let mut request = client.get(url.clone());
        if let Some(token) = &token {
            request = request.bearer_auth(secrecy::ExposeSecret::expose_secret(token));
        }
        let answer = request.send().await.map_err(|error| {
            Failure::Unavailable(anyhow!(error.without_url()).context(format!("{server} does not answer")))
        })?;
        let status = answer.status();
        let body: Value =
            answer.json().await.with_context(|| format!("{url} answered {status} and no JSON"))?;
        if status.is_success() {
            return Ok(body);
        }
        let detail = body["detail"].as_str().unwrap_or("no reason was given").to_owned();
        Err(Failure::Failed(anyhow!(detail).context(format!("{server} answered {status}"))))
    };
    let id = match project.parse::<u64>() {
        Ok(id) => id,
        Err(_) => id_of(project, &get("api/v1/previews").await?).ok_or_else(|| {
            anyhow!("no preview of a project `{project}` is known; try the project's numeric id")
        })?,
    };
    let preview = get(&format!("api/v1/previews/{id}/{iid}")).await?;
    if flags.output == Format::Json {
        output::data(&serde_json::to_string_pretty(&preview)?);
    } else {
        output::data(&told(&preview));
    }
    Ok(())
}

fn id_of(path: &str, list: &Value) -> Option<u64> {
    let previews = list["previews"].as_array()?;
    let of_project = |preview: &&Value| {
        preview["project_path"].as_str().is_some_and(|found| found.eq_ignore_ascii_case(path))
    };
    previews.iter().find(of_project)?["project_id"].as_u64()
}

fn told(preview: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let mut lines = vec![
        format!("{}!{}: {}", text(&preview["project_path"]), preview["mr_iid"], text(&preview["state"])),
        format!("  because {}", text(&preview["reason"])),
    ];
    if let Some(next) = preview["next"].as_str().filter(|next| !next.is_empty()) {
        lines.push(format!("  {next}"));
    }
    if let Some(serving) = preview["serving"].as_object() {
        let since = serving.get("since").map(text).unwrap_or_default();
        let sha = serving.get("sha").map(text).unwrap_or_default();
        lines.push(format!("  {} serves {} since {since}", text(&preview["url"]), &sha[..sha.len().min(8)]));
    }
    if let Some(error) = preview["trouble"]["error"].as_str() {
        lines.push(format!("  the last look failed: {error}"));
        lines.push(format!("  the next one is at {}", text(&preview["trouble"]["next_look_at"])));
    }
    lines.push(String::from("rules that counted:"));
    let rules = preview["decision"].as_array();
    lines.extend(
        rules.into_iter().flatten().enumerate().map(|(i, rule)| format!("  {}. {}", i + 1, text(rule))),
    );
    lines.push(String::from("history:"));
    let history = preview["history"].as_array();
    lines.extend(history.into_iter().flatten().map(|line| {
        format!("  {}  {:<9}  {}", text(&line["at"]), text(&line["state"]), text(&line["text"]))
    }));
    lines.join("\n")
}
