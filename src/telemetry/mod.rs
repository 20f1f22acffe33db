//! Logs, metrics and warnings.

mod deploys;
mod health;
mod metrics;
mod webhooks;

use tracing_subscriber::{EnvFilter, fmt, prelude::*};

pub use deploys::{Deployed, Deploys};
pub use health::{Health, Standing, Warning};
pub use metrics::{GitLabUse, Looks, Metrics, Sample};
pub use webhooks::Webhooks;

/// Starts logging to stderr. `filter` is in `tracing`'s words, such as `info` or `greenroom=debug`.
pub fn start(json: bool, filter: &str) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let registry = tracing_subscriber::registry().with(filter);
    // A second start (the demo runs several parts in one process) keeps the first.
    let _ = if json {
        registry.with(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr)).try_init()
    } else {
        registry.with(fmt::layer().with_writer(std::io::stderr).with_ansi(false)).try_init()
    };
}
