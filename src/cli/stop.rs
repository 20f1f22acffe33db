//! `greenroom stop <project>!<iid>`: the preview goes, until a new commit, a reopen or a refresh.

use super::client::{PreviewArgs, name};
use super::{Failure, output};

#[derive(Debug, clap::Args)]
pub(super) struct Flags {
    #[command(flatten)]
    preview: PreviewArgs,
}

pub(super) async fn run(flags: Flags) -> Result<(), Failure> {
    let (client, path) = flags.preview.find().await?;
    let preview = client.post(&format!("{path}/stop")).await?;
    let name = name(&preview);
    output::prose(&format!(
        "{name} is being stopped; a new commit, a reopen or `greenroom refresh '{name}'` brings it back"
    ));
    Ok(())
}
