//! The outside of `serve`: who is answered what, at which host.

mod access;
mod api;
mod health;
mod hosts;
mod metrics;
mod webhook;

use crate::support::{
    gitlab::{BOT, SIGNING_TOKEN},
    greenroom::Greenroom,
};

/// A greenroom whose GitLab is away.
async fn alone(settings: &[(&str, &str)]) -> Greenroom {
    let enough = [
        ("GREENROOM_GITLAB_URL", "http://127.0.0.1:9"),
        ("GREENROOM_GITLAB_TOKEN", BOT),
        ("GREENROOM_WEBHOOK_SIGNING_TOKEN", SIGNING_TOKEN),
    ];
    Greenroom::start(&[&enough[..], settings].concat()).await
}

/// The value of one series.
async fn metric(greenroom: &Greenroom, series: &str) -> u64 {
    let metrics = greenroom.get("/metrics").await.text().await.unwrap();
    let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {series} in\n{metrics}")).parse().unwrap()
}

/// How many deliveries ended like this.
async fn deliveries(greenroom: &Greenroom, kind: &str) -> u64 {
    metric(greenroom, &format!("greenroom_deliveries_total{{kind=\"{kind}\"}}")).await
}
