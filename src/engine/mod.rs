//! What runs previews.
//!
//! An engine is told what should run ([`Engine::apply`]), says what does run ([`Engine::status`]) and takes it away
//! ([`Engine::stop`]). All calls are idempotent and may be repeated after a crash at any point.
//!
//! Properties every engine has:
//! * `apply` submits and returns; readiness is observed. The old revision serves until the new one does.
//! * An order that a newer one for the same preview has overtaken never becomes what is served.
//! * `stop` returns what it could observe to be left; nothing left means gone.
//! * Only what carries our instance id is ever touched.

pub mod kubernetes;
pub mod static_site;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;
use tokio::sync::broadcast;

use crate::preview::{PreviewKey, PreviewName, Sha};
use crate::render::Manifest;

/// What to run.
#[derive(Debug)]
pub enum Input {
    /// A zip archive from a CI job. The file belongs to the engine from here on and is removed by it.
    Artifact {
        /// The archive, on the same file system as the engine's own folder.
        archive: tempfile::TempPath,
        /// Folder within the archive that is served; empty for all of it.
        root: PathBuf,
        /// Whether unknown paths get the index page (a single-page application).
        spa: bool,
    },
    /// Kubernetes objects, checked against the policy.
    Manifests {
        /// All of them, in the order they were written in.
        objects: Vec<Manifest>,
        /// What the operator says about the project's previews on a cluster.
        profile: Arc<kubernetes::Profile>,
    },
}

/// One order: run `input` as revision (`sha`, `digest`) of a preview.
#[derive(Debug)]
pub struct Order {
    /// Whose preview it is; named in the engine's events.
    pub key: PreviewKey,
    /// The preview's name.
    pub name: PreviewName,
    /// Head commit of the merge request.
    pub sha: Sha,
    /// SHA-256 of the input, in hexadecimal.
    pub digest: String,
    /// What to run.
    pub input: Input,
}

/// A program that is run once beside a preview, to its end.
#[derive(Debug)]
pub struct Errand {
    /// Whose preview it is.
    pub key: PreviewKey,
    /// The preview's name.
    pub name: PreviewName,
    /// What it belongs to: those that belong to something else are removed before it begins. A DNS label.
    pub run: String,
    /// The Job; one with that name that is there is this very one.
    pub job: Manifest,
    /// What the operator says about the project's previews on a cluster.
    pub profile: Arc<kubernetes::Profile>,
}

/// How an [`Errand`] ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// With exit code 0.
    Well,
    /// Otherwise.
    Badly {
        /// Why, in words without a full stop, Markdown-safe.
        why: String,
        /// The last lines it wrote, oldest first, each as [`shown_line`](crate::preview::shown_line) makes it and without secrets.
        lines: Vec<String>,
    },
}

/// A revision that answers requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Head commit it was ordered for.
    pub sha: Sha,
    /// Digest it was ordered with.
    pub digest: String,
    /// Since when it answers, Unix milliseconds.
    pub since: i64,
}

/// How an order that does not serve (yet) stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// On its way.
    Working,
    /// Given up for what was ordered; the diagnosis, one Markdown-safe sentence. The same order would fail again.
    Failed(String),
    /// Given up for a trouble of the engine's own (a full disk, damaged files), one Markdown-safe sentence. The same
    /// order is worth another try.
    Trouble(String),
}

/// What an engine observes of one preview.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// What answers now.
    pub serving: Option<Running>,
    /// The newest order, while it is not what answers: its commit, digest and progress.
    pub pending: Option<(Sha, String, Progress)>,
    /// What the newest order waits for, one Markdown-safe line each, such as `Deployment web: 1 of 2 replicas are ready`.
    pub waits_for: Vec<String>,
    /// The last lines of the program that the newest order failed for, oldest first, as [`shown_line`] makes them and
    /// without the preview's secrets. Empty when it failed for something else, or has not failed.
    ///
    /// [`shown_line`]: crate::preview::shown_line
    pub log: Vec<String>,
    /// Whether what is there was put to sleep.
    pub asleep: bool,
    /// What somebody else has changed in what serves since it was ready, one Markdown-safe line each. The same order again
    /// repairs it.
    pub drifted: Vec<String>,
}

impl Status {
    /// Whether nothing of the preview exists.
    pub const fn is_gone(&self) -> bool {
        self.serving.is_none() && self.pending.is_none()
    }
}

/// What an order would change in one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The object, such as `Deployment web`.
    pub object: String,
    /// What would happen to it.
    pub action: Action,
    /// The fields that differ, as a unified diff of YAML; secrets are never shown.
    pub diff: String,
    /// Why it would be refused, one Markdown-safe sentence; the whole order would fail with it.
    pub refused: Option<String>,
}

/// What happens to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is new.
    Create,
    /// It changes.
    Update,
    /// It goes.
    Delete,
    /// It goes and comes back, for what changes cannot be changed in place.
    Replace,
}

/// Why an engine could not do what it was asked. Worth another try, all of them: what a project did wrong is a
/// [`Progress::Failed`], not an error, and what went wrong after `apply` returned a [`Progress::Trouble`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation of an engine failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, with the path.
        what: String,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A cluster did not do what it was asked.
    #[error("the cluster `{cluster}` did not {what}: {why}")]
    Cluster {
        /// Its name in the settings.
        cluster: String,
        /// What was being done.
        what: String,
        /// The reason, Markdown-safe.
        why: String,
    },
    /// An order was given to an engine that is not for its input.
    #[error("the engine `{engine}` was given an order that is for another one")]
    Input {
        /// The engine it was given to.
        engine: &'static str,
    },
}

/// Something that runs previews.
#[async_trait]
pub trait Engine: Send + Sync {
    /// The name used in `.greenroom.yml`, such as `static`.
    fn name(&self) -> &'static str;

    /// Submits an order and returns. A repeated order is the same order; a newer one overtakes an older.
    async fn apply(&self, order: Order) -> Result<(), Error>;

    /// What is there now.
    async fn status(&self, name: &PreviewName) -> Result<Status, Error>;

    /// What an order would change, nothing is touched; empty when it would change nothing. An object that would be refused
    /// is a change that says so, not an error.
    async fn plan(&self, order: &Order) -> Result<Vec<Change>, Error>;

    /// The last lines that the preview's programs wrote, at most `most`, oldest first.
    async fn logs(&self, name: &PreviewName, most: usize) -> Result<Vec<String>, Error>;

    /// Runs a program beside a preview and waits for its end. Told again, or by another process, it finds what was begun and
    /// begins nothing twice. Nothing of it counts as a part of the preview.
    async fn run(&self, errand: &Errand) -> Result<Ended, Error> {
        let _ = errand;
        Err(Error::Input { engine: self.name() })
    }

    /// Lets a preview use as little as can be while it answers nothing.
    async fn sleep(&self, name: &PreviewName) -> Result<(), Error>;

    /// Brings back what sleeps, as it was.
    async fn wake(&self, name: &PreviewName) -> Result<(), Error>;

    /// Removes everything of a preview. Returns what is observed to be left, in words; empty means gone.
    async fn stop(&self, name: &PreviewName) -> Result<Vec<String>, Error>;

    /// Every preview of our instance that has anything here.
    async fn inventory(&self) -> Result<Vec<PreviewName>, Error>;

    /// The ids of other instances that have anything here. It is theirs, and only told of.
    async fn foreign(&self) -> Result<Vec<String>, Error>;

    /// Whom to look at again, as it happens. A slow listener may miss some: the resync is its net.
    fn events(&self) -> broadcast::Receiver<PreviewKey>;
}
