//! `greenroom sleep <project>!<iid>` and `greenroom wake`: a preview on a cluster is scaled to nothing, and back.

use super::client::{PreviewArgs, name};
use super::{Failure, output};

#[derive(Debug, clap::Args)]
pub(super) struct Flags {
    #[command(flatten)]
    preview: PreviewArgs,
}

pub(super) async fn run(flags: Flags) -> Result<(), Failure> {
    let name = ask(flags, "sleep").await?;
    output::prose(&format!(
        "{name} is being put to sleep; `greenroom wake '{name}'`, a refresh or a new commit wakes it"
    ));
    Ok(())
}

pub(super) async fn wake(flags: Flags) -> Result<(), Failure> {
    let name = ask(flags, "wake").await?;
    output::prose(&format!("{name} is being woken; `greenroom why '{name}'` tells when it is back"));
    Ok(())
}

/// Asks for it; the preview's name.
async fn ask(flags: Flags, verb: &str) -> Result<String, Failure> {
    let (client, path) = flags.preview.find().await?;
    Ok(name(&client.post(&format!("{path}/{verb}")).await?))
}
