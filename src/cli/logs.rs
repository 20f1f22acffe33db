//! `greenroom logs <project>!<iid>`: what happened to a preview, or what its programs write; oldest first.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::Value;

use super::check::Format;
use super::client::{PreviewArgs, elements, text};
use super::{Failure, output};

#[derive(Debug, clap::Args)]
pub(super) struct Flags {
    #[command(flatten)]
    preview: PreviewArgs,
    /// Print the last lines that the preview's own programs wrote, in place of what happened to it.
    #[arg(long, conflicts_with = "follow")]
    app: bool,
    /// How many lines of the programs.
    #[arg(long, value_name = "COUNT", default_value_t = 100, requires = "app")]
    lines: usize,
    /// Go on and print what happens, until interrupted.
    #[arg(long, short)]
    follow: bool,
    /// How the lines are printed; as JSON, one object per line.
    #[arg(long, value_enum, default_value = "text")]
    output: Format,
}

/// How often a server is asked for news.
const FOLLOW: Duration = Duration::from_secs(1);

pub(super) async fn run(flags: Flags) -> Result<(), Failure> {
    let (client, path) = flags.preview.find().await?;
    if flags.app {
        let answer = client.get(&format!("{path}/log?lines={}", flags.lines)).await?;
        match flags.output {
            Format::Json => output::data(&answer.to_string()),
            Format::Text => {
                // They go to a terminal, and anybody may have written them.
                let plain = |line: &Value| text(line).replace(|c: char| c.is_control() && c != '\t', "");
                for line in elements(&answer["lines"]) {
                    output::data(&plain(line));
                }
            }
        }
        return Ok(());
    }
    let mut seen = HashSet::new();
    loop {
        let preview = client.get(&path).await?;
        // By id and not by time: two lines of one moment are two.
        let is_new = |entry: &&Value| seen.insert(text(&entry["id"]).to_owned());
        for entry in elements(&preview["history"]).iter().rev().filter(is_new) {
            match flags.output {
                Format::Json => output::data(&entry.to_string()),
                Format::Text => output::data(&line(entry)),
            }
        }
        if !flags.follow {
            return Ok(());
        }
        tokio::time::sleep(FOLLOW).await;
    }
}

/// One line of history.
pub(super) fn line(entry: &Value) -> String {
    format!("{}  {:<9}  {}", text(&entry["at"]), text(&entry["state"]), text(&entry["text"]))
}
