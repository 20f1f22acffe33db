//! `greenroom deploy [DIR]`: this head's preview, out of a folder or of what the pipeline has made.

use std::path::PathBuf;

use anyhow::anyhow;
use serde_json::{Value, json};

use super::{Desk, End, Job, JobFlags, Outcome, archive, junit};
use crate::cli::{Failure, output};
use crate::preview::EngineKind;

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

pub(in crate::cli) async fn run(Flags { folder, junit, job }: Flags) -> Result<(), Failure> {
    let ended = deploy(folder, job).await;
    if let Some(path) = &junit {
        let report = match &ended {
            Ok(end) => junit::of(end),
            Err(failure) => junit::of_no_end(failure),
        };
        match junit::write(path, &report) {
            // What the deploy failed of is of more weight, and told below.
            Err(failure) if ended.is_err() => output::prose(&format!("error: {}", failure.told())),
            written => written?,
        }
    }
    let end = ended?;
    match end.outcome {
        Outcome::Done => Ok(()),
        Outcome::Failed => {
            let (state, reason, checks) = (&end.state, &end.reason, end.failed_checks());
            Err(Failure::Failed(anyhow!("the preview is {state}: {reason}{checks}")))
        }
    }
}

/// Deploys; how it came out, which is told and left where it is looked for.
async fn deploy(folder: Option<PathBuf>, flags: JobFlags) -> Result<End, Failure> {
    let job = Job::new(flags).await?;
    if job.merge_train {
        return skip(&job);
    }
    if folder.is_some() && matches!(job.desk, Desk::Alone(_)) {
        return Err(Failure::Findings(String::from(
            "error: a folder is served by the gateway of a server, and this job has none to ask\nhint: set GREENROOM_SERVER (the \
             include's input `server`), or use `greenroom deploy` without a folder",
        )));
    }
    if folder.is_some() && job.engine == Some(EngineKind::Kubernetes) {
        return Err(Failure::Findings(String::from(
            "error: the engine `kubernetes` (GREENROOM_ENGINE) takes no folder\nhint: use `greenroom deploy` without one",
        )));
    }
    let section = job.log.open("greenroom_deploy", "Deploying the preview");
    let followed = send_and_follow(&job, folder).await;
    job.log.close(section);
    let (end, shown) = followed?;
    job.log.outcome(&end, end.url.as_deref().unwrap_or("the preview is ready"));
    job.leave(&end, &shown)?;
    Ok(end)
}

async fn send_and_follow(job: &Job, folder: Option<PathBuf>) -> Result<(End, Value), Failure> {
    let archive = match folder {
        Some(folder) => {
            let packed = tokio::task::spawn_blocking(move || archive::pack(&folder)).await??;
            job.log.line(&format!("{} files, {} KiB packed", packed.files, packed.bytes.div_ceil(1024)));
            Some(packed)
        }
        None => None,
    };
    let answer = job.deploy(archive.as_ref()).await?;
    job.follow(&answer).await
}

/// Nothing is deployed for a merge train, and that is no failure.
fn skip(job: &Job) -> Result<End, Failure> {
    let reason = "this pipeline is that of a merge train: what is about to be merged gets no preview";
    job.log.line(reason);
    let shown = json!({ "outcome": "done", "state": "skipped", "reason": reason });
    let end = serde_json::from_value(shown.clone())?;
    job.leave(&end, &shown)?;
    Ok(end)
}
