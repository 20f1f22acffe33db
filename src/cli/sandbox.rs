//! `greenroom sandbox`: a GitLab in memory.

use std::net::SocketAddr;

use url::Url;

use super::serve::asked_to_end;
use super::{Failure, output};
use crate::sandbox::{self, Config};

#[derive(Debug, clap::Args)]
pub(super) struct Flags {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// API token of the bot user that greenroom acts as.
    #[arg(long)]
    token: String,
    /// Path of the project that it begins with.
    #[arg(long, value_name = "PATH", default_value = "acme/web")]
    project: String,
    /// Where to send webhooks, such as `http://127.0.0.1:8080/webhooks/gitlab`.
    #[arg(long, value_name = "URL")]
    webhook: Option<Url>,
    /// Signing token of the webhook, `whsec_…`.
    #[arg(long, value_name = "TOKEN")]
    signing_token: Option<String>,
    /// Secret token of the webhook.
    #[arg(long, value_name = "TOKEN")]
    secret_token: Option<String>,
}

pub(super) async fn run(flags: Flags) -> Result<(), Failure> {
    let sandbox = sandbox::start(Config {
        listen: flags.listen,
        token: flags.token,
        project: flags.project,
        webhook: flags.webhook,
        signing_token: flags.signing_token,
        secret_token: flags.secret_token,
    })
    .await?;
    output::data(sandbox.url());
    output::prose("a GitLab in memory; Ctrl-C ends it");
    asked_to_end().await?;
    sandbox.stop().await;
    Ok(())
}
