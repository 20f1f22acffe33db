//! Where CI jobs ask a server for deploys: who they are, what they may, and where their files go.

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::oidc::Verifier;
use crate::reconcile::{Jobs, Planner, Uploads};
use crate::settings::Settings;
use crate::web::JobDesk;

/// The folder for what jobs send.
pub(super) fn uploads(settings: &Settings) -> anyhow::Result<Uploads> {
    let folder = settings.data_dir.join("uploads");
    Uploads::open(folder.clone(), settings.artifact_max_bytes)
        .with_context(|| format!("cannot create {} (GREENROOM_DATA_DIR)", folder.display()))
}

/// The desk of a running server.
pub(super) fn desk(
    settings: &Settings,
    jobs: Jobs,
    planner: Planner,
    uploads: Uploads,
    stop: CancellationToken,
) -> anyhow::Result<JobDesk> {
    let (url, timeout) = (&settings.gitlab_url, settings.gitlab_timeout);
    Ok(JobDesk {
        verifier: Verifier::new(url, settings.job_audience.clone(), timeout, &settings.roots, Clock)?,
        jobs,
        planner,
        uploads,
        clock: Clock,
        stop,
    })
}
