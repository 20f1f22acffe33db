//! `greenroom why <project>!<iid>`: the decision, with every rule that counted. In a job without a name: of the job's own preview.

use serde_json::Value;

use super::check::Format;
use super::client::{elements, name, short, text};
use super::job::Whose;
use super::logs;
use super::{Failure, output};

#[derive(Debug, clap::Args)]
pub(super) struct Flags {
    #[command(flatten)]
    whose: Whose,
    /// How the answer is printed.
    #[arg(long, value_enum, default_value = "text")]
    output: Format,
}

pub(super) async fn run(flags: Flags) -> Result<(), Failure> {
    let preview = flags.whose.preview().await?;
    match flags.output {
        Format::Json => output::data(&serde_json::to_string_pretty(&preview)?),
        Format::Text => output::data(&told(&preview)),
    }
    Ok(())
}

fn told(preview: &Value) -> String {
    let mut lines = vec![
        format!("{}: {}", name(preview), text(&preview["state"])),
        format!("  because {}", text(&preview["reason"])),
    ];
    if let Some(notice) = preview["notice"].as_str() {
        lines.push(format!("  note: {notice}"));
    }
    let serving = &preview["serving"];
    if serving.is_object() && preview["asleep_since"].is_null() {
        let (url, since) = (text(&preview["url"]), text(&serving["since"]));
        lines.push(format!("  {url} serves {} since {since}", short(&serving["sha"])));
    }
    if let Some(by) = preview["hold"]["by"].as_str() {
        let by = if by == "operator" { "the operator" } else { "somebody in GitLab" };
        let since = text(&preview["hold"]["since"]);
        lines.push(format!(
            "  stopped by {by} at {since}; a new commit, a reopen or `greenroom refresh` brings it back"
        ));
    }
    if let Some(since) = preview["asleep_since"].as_str() {
        lines.push(format!("  what served sleeps since {since}; `greenroom wake` wakes it"));
    }
    if let Some(intent) = preview["asked"]["intent"].as_str() {
        let at = text(&preview["asked"]["at"]);
        lines.push(format!("  the operator asked for a {intent} at {at}, which the next look takes up"));
    }
    for awaited in elements(&preview["waits_for"]) {
        lines.push(format!("  waits for {}", text(awaited)));
    }
    for check in elements(&preview["checks"]) {
        lines.push(format!("  check {}", checked(check)));
        lines.extend(elements(&check["lines"]).iter().map(|line| format!("    │ {}", text(line))));
    }
    let log = elements(&preview["log"]);
    if !log.is_empty() {
        lines.push(String::from("  the last lines of the program that ended:"));
        lines.extend(log.iter().map(|line| format!("    │ {}", text(line))));
    }
    for place in elements(&preview["leaving"]) {
        lines.push(format!("  something may be left on {}, where it ran before", text(place)));
    }
    if let Some(next) = preview["next"].as_str().filter(|next| !next.is_empty()) {
        lines.push(format!("  {next}"));
    }
    if let Some(error) = preview["trouble"]["error"].as_str() {
        lines.push(format!("  the last look failed: {error}"));
        lines.push(format!("  the next one is at {}", text(&preview["trouble"]["next_look_at"])));
    }
    lines.push(String::from("rules that counted:"));
    let rules = elements(&preview["decision"]).iter().enumerate();
    lines.extend(rules.map(|(i, rule)| format!("  {}. {}", i + 1, text(rule))));
    lines.push(String::from("history:"));
    lines.extend(elements(&preview["history"]).iter().map(|line| format!("  {}", logs::line(line))));
    lines.join("\n")
}

/// One check, such as ``GET `/healthz` failed: it answered with 500 instead of 200``.
pub(super) fn checked(check: &Value) -> String {
    let (name, state) = (text(&check["name"]), text(&check["state"]));
    match check["reason"].as_str().filter(|reason| !reason.is_empty()) {
        Some(reason) => format!("{name} {state}: {reason}"),
        None => format!("{name} is being asked"),
    }
}
