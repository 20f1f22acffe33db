//! `greenroom plan <project>!<iid>`: what would be done now. In a job without a name: what a deploy by the job would do.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::anyhow;
use serde_json::Value;

use super::check::Format;
use super::client::{elements, name, short, text};
use super::job::{Asker, Whose};
use super::{Failure, output};
use crate::settings::shows_colours;

#[derive(Debug, clap::Args)]
pub(super) struct Flags {
    #[command(flatten)]
    whose: Whose,
    /// How the plan is printed.
    #[arg(long, value_enum, default_value = "text")]
    output: Format,
}

/// A little longer than the server takes at most.
const PATIENCE: Duration = Duration::from_mins(1);

pub(super) async fn run(flags: Flags) -> Result<(), Failure> {
    let plan = match flags.whose.asker()? {
        Asker::Person(preview) => {
            let (client, path) = preview.find_any().await?;
            client.post_within(&format!("{path}/plan"), PATIENCE).await?
        }
        Asker::Job(job) => job.ask("api/v1/jobs/plan").await?,
    };
    match flags.output {
        Format::Json => output::data(&serde_json::to_string_pretty(&plan)?),
        Format::Text => {
            output::data(&told(&plan, Paint(shows_colours(std::io::stdout().is_terminal()))));
        }
    }
    let changes = elements(&plan["changes"]).len();
    match text(&plan["outcome"]) {
        "unchanged" => Ok(()),
        "changes" => Err(Failure::Findings(match changes {
            0 => String::from("something would be done"),
            1 => String::from("1 object would change"),
            more => format!("{more} objects would change"),
        })),
        _ => Err(Failure::Failed(anyhow!("{}", text(&plan["reason"])))),
    }
}

/// Colours, where they are shown.
#[derive(Clone, Copy)]
struct Paint(bool);

impl Paint {
    fn with(self, colour: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn told(plan: &Value, paint: Paint) -> String {
    let mut lines = vec![format!("{} at {}: {}", name(plan), short(&plan["sha"]), text(&plan["state"]))];
    lines.push(format!("  because {}", text(&plan["reason"])));
    let steps = elements(&plan["steps"]);
    if steps.is_empty() {
        lines.push(String::from("nothing would be done"));
    } else {
        lines.push(String::from("would be done:"));
        lines.extend(steps.iter().enumerate().map(|(i, step)| format!("  {}. {}", i + 1, text(step))));
    }
    for change in elements(&plan["changes"]) {
        lines.push(String::new());
        let (sign, colour) = match text(&change["action"]) {
            "create" => ("+", "32"),
            "delete" => ("-", "31"),
            "replace" => ("±", "33"),
            _ => ("~", "33"),
        };
        let (action, object) = (text(&change["action"]), text(&change["object"]));
        lines.push(paint.with(colour, &format!("{sign} {action} {object}")));
        if let Some(why) = change["refused"].as_str() {
            lines.push(paint.with("31", &format!("  refused: {why}")));
        }
        lines.extend(text(&change["diff"]).lines().map(|line| {
            let colour = match line.bytes().next() {
                Some(b'+') => "32",
                Some(b'-') => "31",
                Some(b'@') => "36",
                _ => return format!("  {line}"),
            };
            paint.with(colour, &format!("  {line}"))
        }));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_plan_is_told_object_by_object() {
        let plan = json!({
            "project_path": "acme/web", "mr_iid": 7, "sha": "1a2b3c4d5e6f", "state": "deploying",
            "reason": "commit `1a2b3c4d` is being deployed",
            "steps": ["deploy commit `1a2b3c4d` on cluster `default`"],
            "changes": [
                {"object": "Deployment web", "action": "update", "diff": "@@ -1,2 +1,2 @@\n kind: Deployment\n-image: a\n+image: b\n"},
                {"object": "ConfigMap old", "action": "delete", "diff": ""},
                {"object": "Widget w", "action": "create", "diff": "+kind: Widget\n", "refused": "the cluster does not know this kind"},
            ],
        });
        insta::assert_snapshot!(told(&plan, Paint(false)));
        let painted = told(&plan, Paint(true));
        assert!(painted.contains("\x1b[32m  +image: b\x1b[0m"), "{painted:?}");
        let plain = painted.replace("\x1b[0m", "");
        let plain = ["\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[36m"]
            .iter()
            .fold(plain, |it, code| it.replace(code, ""));
        assert_eq!(plain, told(&plan, Paint(false)), "colours add nothing else");
    }
}
