//! Everything a story needs, connected as in real life: GitLab's webhook to greenroom, greenroom's calls over the wire.

use serde_json::Value;
use url::Url;

use super::{
    PATIENCE, free_address,
    gitlab::{BOT, Gitlab, Pipeline, SIGNING_TOKEN},
    greenroom::Greenroom,
    until,
    wire::{Call, Wire},
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
        Self::after(Before::start().await, settings, file).await
    }

    /// As [`Self::of_project`], but nobody holds what is said to GitLab's OpenAPI document: for tests that say so much that
    /// Prism would be busy for hours.
    pub async fn unjudged(project: &str, settings: &[(&str, &str)]) -> Self {
        Self::after(Before::connect(project, false).await, settings, "").await
    }

    /// As [`Self::start_with_file`], with GitLab's project at another path.
    pub async fn of_project(project: &str, settings: &[(&str, &str)], file: &str) -> Self {
        Self::after(Before::connect(project, true).await, settings, file).await
    }

    async fn after(before: Before, settings: &[(&str, &str)], file: &str) -> Self {
        let world = before.greenroom_with_file(settings, file).await;
        // It asks once how GitLab and its token are; who counts calls begins after that.
        until("greenroom has asked for its token's health", PATIENCE, || async {
            let asked =
                |call: &Call| call.path.contains("/personal_access_tokens/self") && call.status.is_some();
            world.wire.calls().iter().any(asked).then_some(())
        })
        .await;
        world
    }

    /// GitLab keeps the project's images at this host from now on, and nothing else is out of the ordinary. Greenroom asks once.
    pub async fn has_images_at(&self, host: &str) {
        let path = format!("/api/v4/projects/{}", Gitlab::PROJECT);
        let url = self.gitlab.url().join(&path).unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = client.get(url).header("PRIVATE-TOKEN", BOT).send().await.unwrap();
        let mut project: Value = answer.error_for_status().unwrap().json().await.unwrap();
        project["container_registry_image_prefix"] = format!("{host}/acme/web").into();
        self.wire.heal();
        self.wire.on("GET", &path).always().answer(200, &[], &project.to_string());
    }
}

/// A world in which greenroom was not started yet.
pub struct Before {
    pub wire: Wire,
    pub gitlab: Gitlab,
    address: String,
}

impl Before {
    pub async fn start() -> Self {
        Self::connect("acme/web", true).await
    }

    async fn connect(project: &str, judged: bool) -> Self {
        let address = free_address().to_string();
        let webhook: Url = format!("http://{address}/webhooks/gitlab").parse().unwrap();
        let gitlab = Gitlab::start_with(project, Some(&webhook)).await;
        let to = gitlab.url();
        let wire = if judged { Wire::to_gitlab(&to).await } else { Wire::to(&to).await };
        Self { wire, gitlab, address }
    }

    /// Where greenroom will listen.
    pub fn greenroom_url(&self) -> Url {
        format!("http://{}", self.address).parse().unwrap()
    }

    /// Starts it, with these settings over the usual ones.
    pub async fn greenroom(self, settings: &[(&str, &str)]) -> World {
        self.greenroom_with_file(settings, "").await
    }

    async fn greenroom_with_file(self, settings: &[(&str, &str)], file: &str) -> World {
        let Self { wire, gitlab, address } = self;
        let usual = [
            ("GREENROOM_LISTEN", address.as_str()),
            ("GREENROOM_GITLAB_URL", wire.url().as_str()),
            ("GREENROOM_GITLAB_TOKEN", BOT),
            ("GREENROOM_GITLAB_RATE", "off"),
            ("GREENROOM_WATCH_WEBHOOKS", "off"),
            ("GREENROOM_WEBHOOK_SIGNING_TOKEN", SIGNING_TOKEN),
        ];
        let settings = [usual.as_slice(), settings].concat();
        let greenroom = if file.is_empty() {
            Greenroom::start(&settings).await
        } else {
            Greenroom::start_with_file(&settings, file).await
        };
        World { greenroom, wire, gitlab }
    }
}

impl World {
    /// Ends all of it now, for a test that has many worlds one after another.
    pub async fn end(self) {
        let Self { greenroom, wire, gitlab } = self;
        drop(greenroom);
        drop(wire);
        gitlab.stop().await;
    }
}

/// Whether the comment tells this reason, in which its first letter is a capital one. A preview that is not told yet has none.
pub fn says(comment: &str, reason: &str) -> bool {
    reason.get(1..).is_some_and(|rest| comment.contains(rest))
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
                Some(comment) => comment.contains(&format!("Preview: {state}")) && says(&comment, reason),
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

    /// Waits until whatever was hinted at has been looked at: the queue is empty, and nothing is on its way there. Where a
    /// resync comes every second, a slow machine may have no moment without work: there it is enough that the looks that
    /// were due have ended.
    pub async fn rests(&self) {
        self.gitlab.drain().await;
        let (due, ended) = self.queue().await;
        // Who waits longest comes first, but of those that are at work at once any may end last.
        let (resyncs_often, enough) = (self.greenroom.has("GREENROOM_RESYNC_INTERVAL"), ended + due + 16);
        until("greenroom rests", PATIENCE, || async {
            let (due, before) = self.queue().await;
            // What the last look has caused comes now, and may be looked at in its turn.
            self.gitlab.drain().await;
            let (still_due, ended) = self.queue().await;
            if (due + still_due == 0 && ended == before) || (resyncs_often && ended >= enough) {
                Ok(())
            } else {
                Err(format!("{still_due} keys are due, {ended} looks have ended"))
            }
        })
        .await;
    }

    /// How many keys are due, and how many looks have ended since the start.
    async fn queue(&self) -> (u64, u64) {
        let metrics = self.greenroom.get("/metrics").await.text().await.unwrap();
        let number = |name: &str| {
            let line = metrics
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap_or_else(|| panic!("{metrics}"));
            line.trim().parse::<u64>().expect("a number")
        };
        let ended = number("greenroom_looks_done_total") + number("greenroom_looks_failed_total");
        (number("greenroom_queue_keys{kind=\"due\"}"), ended)
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

    /// No deployment and no commit status is left running, no pipeline was made for a status, and nothing contradicts
    /// GitLab's OpenAPI document.
    pub async fn ends_well(self) {
        self.rests().await;
        let running: Vec<_> =
            self.gitlab.deployments().await.into_iter().filter(|d| d["status"] == "running").collect();
        assert!(running.is_empty(), "left running: {running:#?}");
        let mut statuses = self.gitlab.commit_statuses().await;
        statuses.retain(|status| matches!(status["status"].as_str(), Some("running" | "pending")));
        assert!(statuses.is_empty(), "left running: {statuses:#?}");
        let mut pipelines = self.gitlab.pipelines().await;
        pipelines.retain(|pipeline| pipeline["source"] == "external");
        assert!(pipelines.is_empty(), "made for a commit status: {pipelines:#?}");
    }
}
