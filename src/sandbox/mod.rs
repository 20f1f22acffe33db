//! A GitLab in memory, for `greenroom demo` and for the tests.
//!
//! It serves the part of GitLab's REST API that a merge request preview needs, sends correctly
//! signed webhooks in the shape of GitLab 19.2, and does badly on demand (`faults`). What people,
//! runners and pushes do is said through `/sandbox/*` (`control`; see `docs/sandbox.md`).
//!
//! It is a state, not a script: every answer is computed from what happened before, with GitLab's
//! own oddities kept (a stale `head_pipeline`, statuses that count into their pipeline, a stop that
//! answers 200 and does nothing). Each file names the behaviour it imitates. Nothing here knows the
//! rest of greenroom.

mod control;
mod delivery;
mod deployments;
mod environments;
mod faults;
mod hooks;
mod id_tokens;
mod instance;
mod jobs;
mod journal;
mod json;
mod merge_requests;
mod notes;
mod pagination;
mod params;
mod payloads;
mod pipelines;
mod projects;
mod refusal;
mod repository;
mod server;
mod signature;
mod state;
mod statuses;
mod time;
mod users;

use std::net::SocketAddr;
use url::Url;

pub use server::{Error, Sandbox};

/// The version it says it is.
const VERSION: &str = "19.2.0-ee";
const REVISION: &str = "5a0d5b1f8e3";

/// What to start with: one project, its bot and, if wanted, its webhook.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The project access token of the product's bot.
    pub token: String,
    /// The project's path, such as `acme/web`.
    pub project: String,
    /// Where the project's webhook goes; none when absent.
    pub webhook: Option<Url>,
    /// The webhook's signing token, `whsec_…`.
    pub signing_token: Option<String>,
    /// The webhook's secret token.
    pub secret_token: Option<String>,
}

/// Binds and serves in the background until [`Sandbox::stop`].
///
/// The person `dev` with the token `dev-token` is there from the start, as Maintainer.
pub async fn start(config: Config) -> Result<Sandbox, Error> {
    server::start(&config).await
}
