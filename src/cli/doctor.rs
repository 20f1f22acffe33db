//! `greenroom doctor`: what is wrong with a running server, and what to do about it.

use anyhow::anyhow;

use super::check::Format;
use super::client::{Client, ServerFlag, elements, text};
use super::{Failure, output};

#[derive(Debug, clap::Args)]
pub(super) struct Flags {
    #[command(flatten)]
    server: ServerFlag,
    /// How findings are printed.
    #[arg(long, value_enum, default_value = "text")]
    output: Format,
}

pub(super) async fn run(flags: Flags) -> Result<(), Failure> {
    let health = Client::new(flags.server)?.get("api/v1/health").await?;
    let warnings = elements(&health["warnings"]);
    if flags.output == Format::Json {
        output::data(&serde_json::to_string_pretty(&health)?);
    } else {
        for warning in warnings {
            let (code, since) = (text(&warning["code"]), text(&warning["since"]));
            output::data(&format!("{code}: {} (since {since})", text(&warning["text"])));
            output::data(&format!("  hint: {}", text(&warning["remedy"])));
        }
    }
    match warnings.len() {
        0 => {
            output::prose("nothing found");
            Ok(())
        }
        1 => Err(Failure::Failed(anyhow!("1 finding"))),
        count => Err(Failure::Failed(anyhow!("{count} findings"))),
    }
}
