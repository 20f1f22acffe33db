//! `greenroom deploy [DIR]`: this head's preview, out of a folder or of what the pipeline has made.

use std::path::PathBuf;

use anyhow::anyhow;

use super::{Job, JobFlags, Outcome, archive, junit};
use crate::cli::Failure;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Flags {
    /// Folder to serve, such as `dist`. Without one, what `.greenroom.yml` names is deployed.
    folder: Option<PathBuf>,
    /// Where the deploy and each check of the project are written as test cases, for `artifacts:reports:junit`.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    #[command(flatten)]
    job: JobFlags,
}

pub(in crate::cli) async fn run(flags: Flags) -> Result<(), Failure> {
    let job = Job::new(flags.job)?;
    if job.settings.merge_train {
        job.log.line("this pipeline is that of a merge train: what is about to be merged gets no preview");
        return Ok(());
    }
    let section = job.log.open("greenroom_deploy", "Deploying the preview");
    let archive = match flags.folder {
        Some(folder) => {
            let packed = tokio::task::spawn_blocking(move || archive::pack(&folder)).await??;
            job.log.line(&format!("{} files, {} KiB packed", packed.files, packed.bytes.div_ceil(1024)));
            Some(packed)
        }
        None => None,
    };
    let answer = job.server.ask("api/v1/jobs/deploy", &super::named(&job.settings), archive.as_ref()).await?;
    let order = answer["order"].as_str().unwrap_or_default();
    let (end, shown) = job.follow(&answer, &format!("order={order}")).await?;
    job.log.close(section);
    job.log.outcome(&end, end.url.as_deref().unwrap_or("the preview is ready"));
    job.leave(&end, &shown)?;
    if let Some(path) = &flags.junit {
        junit::write(path, &end)?;
    }
    match end.outcome {
        Outcome::Done => Ok(()),
        Outcome::Failed => {
            let (state, reason, checks) = (&end.state, &end.reason, end.failed_checks());
            Err(Failure::Failed(anyhow!("the preview is {state}: {reason}{checks}")))
        }
    }
}
