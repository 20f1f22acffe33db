//! `greenroom refresh <project>!<iid>`: look at everything anew.

use super::client::{PreviewArgs, name};
use super::{Failure, output};

#[derive(Debug, clap::Args)]
pub(super) struct Flags {
    #[command(flatten)]
    preview: PreviewArgs,
}

pub(super) async fn run(flags: Flags) -> Result<(), Failure> {
    let (client, path) = flags.preview.find().await?;
    let preview = client.post(&format!("{path}/refresh")).await?;
    let name = name(&preview);
    output::prose(&format!(
        "{name} is being looked at anew; `greenroom why '{name}'` tells how it comes out"
    ));
    Ok(())
}
