//! `greenroom stop <project>!<iid>`: the preview goes, until a new commit, a reopen or a refresh. In a job without a name: the
//! job's own preview goes, and the job waits for it.

use super::client::{PreviewArgs, name};
use super::job::{self, JobFlags};
use super::{Failure, output};

#[derive(Debug, clap::Args)]
pub(super) struct Flags {
    /// The merge request: `acme/web!7`, or with the project's id `42!7`. In a CI job none: it is the job's own.
    name: Option<String>,
    #[command(flatten)]
    job: JobFlags,
}

pub(super) async fn run(flags: Flags) -> Result<(), Failure> {
    let Some(given) = flags.name else { return job::stop(flags.job).await };
    let (client, path) = PreviewArgs::new(given, flags.job.server()).find().await?;
    let preview = client.post(&format!("{path}/stop")).await?;
    let name = name(&preview);
    output::prose(&format!(
        "{name} is being stopped; a new commit, a reopen or `greenroom refresh '{name}'` brings it back"
    ));
    Ok(())
}
