//! `greenroom brake`: what a running server holds back, and leave to go on.

use serde_json::Value;

use super::check::Format;
use super::client::{Client, ServerFlag, elements, name, text};
use super::{Failure, output};

#[derive(Debug, clap::Args)]
pub(super) struct Flags {
    /// Let the removals that are wanted now go on. One that is wanted later is held again.
    #[arg(long)]
    release: bool,
    #[command(flatten)]
    server: ServerFlag,
    /// How the answer is printed.
    #[arg(long, value_enum, default_value = "text")]
    output: Format,
}

pub(super) async fn run(flags: Flags) -> Result<(), Failure> {
    let client = Client::of(flags.server)?;
    let path = "api/v1/brake";
    let brake = if flags.release { client.post(path).await? } else { client.get(path).await? };
    if flags.output == Format::Json {
        output::data(&serde_json::to_string_pretty(&brake)?);
        return Ok(());
    }
    let removals = elements(&brake["removals"]);
    let count = removals.len();
    output::prose(&match (flags.release, brake["engaged"] == true) {
        (true, _) if count == 0 => String::from("there is nothing to let go on"),
        (true, _) => format!("let go on: {count}"),
        (false, true) => format!(
            "the brake holds {} removals, for they are many of {} previews; mend the cause, or let them go on with \
             `greenroom brake --release`",
            brake["held"], brake["live"]
        ),
        (false, false) if count == 0 => String::from("the brake is open; no removal is wanted"),
        (false, false) => String::from("the brake is open; what is wanted goes in a moment"),
    });
    for removal in removals {
        output::data(&told(removal));
    }
    Ok(())
}

fn told(removal: &Value) -> String {
    format!("{}  {}  {}", name(removal), text(&removal["since"]), text(&removal["reason"]))
}
