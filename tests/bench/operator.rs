//! Whoever runs greenroom, and visits previews.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use reqwest::header::HOST;
use serde_json::Value;

use super::gitlab::{Gitlab, PROJECT};
use super::servers::{self, Server};

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_mins(15);

/// A running greenroom, asked as its operator and its visitors do.
pub struct Greenroom {
    pub server: Server,
    http: reqwest::Client,
}

impl Greenroom {
    pub fn start(
        folder: &Path,
        gitlab: &Gitlab,
        resync: &str,
        more: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let usual = [("GREENROOM_PROJECTS", "acme/web"), ("GREENROOM_RESYNC_INTERVAL", resync)];
        let settings = [&usual, more].concat();
        let server = servers::greenroom(folder, gitlab.url(), &settings)?;
        Ok(Self { server, http: reqwest::Client::builder().no_proxy().build()? })
    }

    async fn get(&self, path: &str) -> anyhow::Result<String> {
        let answer = self.http.get(format!("http://{}{path}", self.server.address)).send().await?;
        Ok(answer.error_for_status()?.text().await?)
    }

    /// A metric's value, such as that of `greenroom_queue_keys{kind="due"}`.
    pub async fn metric(&self, name: &str) -> anyhow::Result<u64> {
        let metrics = self.get("/metrics").await?;
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.with_context(|| format!("no metric {name} in\n{metrics}"))?.parse().map_err(Into::into)
    }

    pub async fn is_idle(&self) -> anyhow::Result<bool> {
        Ok(self.metric(r#"greenroom_queue_keys{kind="due"}"#).await? == 0)
    }

    /// Waits until nothing is left to be done at once.
    pub async fn rest(&self) -> anyhow::Result<()> {
        until(|| self.is_idle()).await
    }

    pub async fn has_ready(&self, count: usize) -> anyhow::Result<bool> {
        self.counts("ready", count).await
    }

    pub async fn has_stopped(&self, count: usize) -> anyhow::Result<bool> {
        self.counts("stopped", count).await
    }

    async fn counts(&self, state: &str, count: usize) -> anyhow::Result<bool> {
        // Counting reads every preview; asked more often it would be a load of its own.
        tokio::time::sleep(Duration::from_millis(250)).await;
        Ok(self.metric(&format!(r#"greenroom_previews{{kind="{state}"}}"#)).await? == count as u64)
    }

    /// Whether the merge request's preview is ready.
    pub async fn is_ready(&self, iid: u64) -> anyhow::Result<bool> {
        let preview = self.get(&format!("/api/v1/previews/{PROJECT}/{iid}")).await?;
        Ok(serde_json::from_str::<Value>(&preview)?["state"] == "ready")
    }

    /// Whether the merge request has a preview, in whatever state.
    pub async fn knows(&self, iid: u64) -> anyhow::Result<bool> {
        let url = format!("http://{}/api/v1/previews/{PROJECT}/{iid}", self.server.address);
        Ok(self.http.get(url).send().await?.status().is_success())
    }

    /// The host name of a merge request's preview.
    pub async fn host(&self, iid: u64) -> anyhow::Result<String> {
        let preview: Value =
            serde_json::from_str(&self.get(&format!("/api/v1/previews/{PROJECT}/{iid}")).await?)?;
        let url = preview["url"].as_str().context("no link")?;
        Ok(url.trim_start_matches("http://").trim_end_matches('/').to_owned())
    }

    /// What a visitor of that host gets to see.
    pub async fn visit(&self, host: &str) -> anyhow::Result<String> {
        let request = self.http.get(format!("http://{}/", self.server.address)).header(HOST, host);
        Ok(request.send().await?.text().await?)
    }
}

pub async fn until<F: Future<Output = anyhow::Result<bool>>>(
    mut holds: impl FnMut() -> F,
) -> anyhow::Result<()> {
    let began = Instant::now();
    while !holds().await? {
        if began.elapsed() > PATIENCE {
            bail!("it does not come to that");
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}
