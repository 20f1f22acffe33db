//! Everything a story needs, connected as in real life: GitLab's webhook to greenroom, greenroom's calls over the wire.

use serde_json::Value;
use url::Url;

use super::{
    PATIENCE, free_address,
    gitlab::{BOT, Gitlab, Pipeline, SIGNING_TOKEN},
    greenroom::Greenroom,
    until,
    wire::Wire,
};

/// Dropped in this order: nobody talks any more when the wire asks for the verdicts.
pub struct World {
    pub greenroom: Greenroom,
    /// From greenroom to GitLab.
    pub wire: Wire,
    pub gitlab: Gitlab,
}

impl World {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With these settings over the usual ones.
    pub async fn start_with(settings: &[(&str, &str)]) -> Self {
        Self::start_with_file(settings, "").await
    }

    /// With these settings and this `greenroom.toml`.
    pub async fn start_with_file(settings: &[(&str, &str)], file: &str) -> Self {
        let address = free_address().to_string();
        let webhook: Url = format!("http://{address}/webhooks/gitlab").parse().unwrap();
        let gitlab = Gitlab::start(Some(&webhook)).await;
        let wire = Wire::to_gitlab(&gitlab.url()).await;
        let usual = [
            ("GREENROOM_LISTEN", address.as_str()),
            ("GREENROOM_GITLAB_URL", wire.url().as_str()),
            ("GREENROOM_GITLAB_TOKEN", BOT),
            ("GREENROOM_WEBHOOK_SIGNING_TOKEN", SIGNING_TOKEN),
        ];
        let settings = [usual.as_slice(), settings].concat();
        let greenroom = if file.is_empty() {
            Greenroom::start(&settings).await
        } else {
            Greenroom::start_with_file(&settings, file).await
        };
        Self { greenroom, wire, gitlab }
    }
}

/// A page worth serving.
pub fn page(text: &str) -> String {
    format!("<!doctype html><title>{text}</title><h1>{text}</h1>")
}

impl World {
    /// Opens a merge request whose pipeline has built a page that says `text`; it is ready when this returns.
    pub async fn ready_mr(&self, branch: &str, text: &str) -> u64 {
        let mr = self.gitlab.open_mr(branch, text).await;
        self.build(mr, text).await;
        self.becomes(mr, "ready").await;
        mr
    }

    /// A pipeline runs for the head, and its job leaves a page that says `text`.
    pub async fn build(&self, mr: u64, text: &str) -> Pipeline {
        let pipeline = self.gitlab.start_pipeline(mr).await;
        self.gitlab.succeed_job(pipeline.job, &[("dist/index.html", &page(text))]).await;
        pipeline
    }

    /// Waits until the merge request's *head* is in this state, and the comment says so where there is one.
    pub async fn becomes(&self, mr: u64, state: &str) -> Value {
        until(&format!("!{mr} becomes {state}"), PATIENCE, || async {
            let head = self.gitlab.mr(mr).await["sha"].clone();
            let preview = self.preview(mr).await.ok_or("no preview is known")?;
            let reason = preview["reason"].as_str().unwrap_or_default();
            let told = match self.gitlab.comment(mr).await {
                Some(comment) => {
                    comment.contains(&format!("Preview: {state}")) && comment.contains(&reason[1..])
                }
                None => matches!(state, "skipped" | "stopped"),
            };
            if preview["state"] == state && preview["sha"] == head && told {
                Ok(preview)
            } else {
                Err(format!("{preview:#}"))
            }
        })
        .await
    }

    /// Waits until the queue is empty: whatever was hinted at has been looked at.
    pub async fn rests(&self) {
        self.gitlab.drain().await;
        until("greenroom rests", PATIENCE, || async {
            let metrics = self.greenroom.get("/metrics").await.text().await.unwrap();
            let due = metrics.lines().find(|line| line.starts_with("greenroom_queue_keys{kind=\"due\"}"));
            match due.and_then(|line| line.rsplit(' ').next()) {
                Some("0") => Ok(()),
                _ => Err(metrics),
            }
        })
        .await;
        self.gitlab.drain().await;
    }

    pub async fn preview(&self, mr: u64) -> Option<Value> {
        self.greenroom.preview(Gitlab::PROJECT, mr).await
    }

    /// What a reviewer sees who follows the link.
    pub async fn visit(&self, mr: u64, path: &str) -> (u16, String) {
        let preview = self.preview(mr).await.expect("a preview");
        let url = preview["url"].as_str().expect("a link").to_owned();
        let host = url.split_once("://").expect("a URL").1;
        let answer = self.greenroom.gateway(host, path).await;
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// The link shows this text.
    pub async fn shows(&self, mr: u64, text: &str) {
        let (status, body) = self.visit(mr, "/").await;
        assert_eq!((status, body), (200, page(text)), "!{mr}");
    }

    /// Nothing is left of it: not at the link, not in GitLab.
    pub async fn is_gone(&self, mr: u64) {
        assert_eq!(self.visit(mr, "/").await.0, 410, "the link of !{mr}");
        let name = format!("review/mr-{mr}");
        let left: Vec<_> =
            self.gitlab.environments().await.into_iter().filter(|e| e["name"] == *name).collect();
        assert!(left.is_empty(), "GitLab still has an environment of !{mr}: {left:#?}");
        let files = std::fs::read_dir(self.greenroom.data().join("static/previews")).unwrap();
        let files: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
        let ends = format!("-mr-{mr}.json");
        assert!(
            !files.iter().any(|file| file.to_string_lossy().ends_with(&ends)),
            "the engine still has {files:?}"
        );
    }

    /// No deployment is left running, and nothing contradicts GitLab's OpenAPI document.
    pub async fn ends_well(self) {
        self.rests().await;
        let running: Vec<_> =
            self.gitlab.deployments().await.into_iter().filter(|d| d["status"] == "running").collect();
        assert!(running.is_empty(), "left running: {running:#?}");
    }
}
