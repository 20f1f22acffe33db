//! `greenroom health`: is the server on this machine ready? An image without a shell has nothing else to ask it with.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, anyhow};

use super::{ConfigFlag, Failure, output};
use crate::settings::listen_address;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Asks /readyz where `listen` says that the server is. Exit code 0: ready; 1: not ready; 3: no answer."
)]
pub(super) struct Flags {
    #[command(flatten)]
    config: ConfigFlag,
}

/// Longer than the server itself waits for its store.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn run(Flags { config }: Flags) -> Result<(), Failure> {
    let listen = listen_address(config.config.as_deref())
        .map_err(|problems| Failure::Findings(problems.to_string()))?;
    let url = format!("http://{}/readyz", reached_at(listen));
    let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
    let answer = http.get(&url).send().await.map_err(|error| {
        Failure::Unavailable(anyhow!(error.without_url()).context(format!("{url} does not answer")))
    })?;
    let status = answer.status();
    if status.is_success() {
        output::data("ready");
        return Ok(());
    }
    let problem: serde_json::Value =
        answer.json().await.with_context(|| format!("{url} answered {status}"))?;
    let detail = problem["detail"].as_str().unwrap_or("no reason was given").to_owned();
    Err(Failure::Failed(anyhow!(detail).context(format!("{url} answered {status}"))))
}

/// Who listens on every address of this machine is reached on its loopback.
fn reached_at(mut listen: SocketAddr) -> SocketAddr {
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => listen.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => listen.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    listen
}

#[cfg(test)]
mod tests {
    use super::reached_at;

    #[test]
    fn every_address_is_reached_on_loopback_and_one_address_as_it_is() {
        for (listen, reached) in [
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("[::]:80", "[::1]:80"),
            ("127.0.0.9:1", "127.0.0.9:1"),
            ("10.0.0.5:8080", "10.0.0.5:8080"),
        ] {
            assert_eq!(reached_at(listen.parse().unwrap()).to_string(), reached);
        }
    }
}
