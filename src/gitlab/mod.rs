//! The only room that calls GitLab: what we ask, in our words.
//!
//! Needs: a base URL and tokens with scope `api` and role Developer (Maintainer for webhooks). Endpoints and paging come from the `gitlab` crate;
//! requests go through our own client (`client.rs`), which has the time-outs, limits and error classes that crate leaves
//! to its users.
//!
//! Properties:
//! * Nothing is asked at construction: a GitLab that is down delays looks, never the start.
//! * A token goes to GitLab's API only, and only for projects it was given for (`credentials.rs`). Artifacts that live
//!   elsewhere are fetched without it (`artifact.rs`).
//! * All calls together keep to one rate, and work that somebody waits for goes first (`budget.rs`). A pause that GitLab asks
//!   for holds for the token that it was told.
//! * Every error says what to do next ([`Error::class`]); a 404 is an error unless a method says otherwise, so that
//!   "not shown" is never taken for "gone".

mod artifact;
mod branches;
mod budget;
mod calls;
mod client;
mod commit_statuses;
mod credentials;
mod environments;
mod error;
mod health;
mod hooks;
mod image;
mod merge_requests;
mod notes;
mod pipelines;
mod registry;
mod tree;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use gitlab::api::{self, Endpoint};
use tokio::sync::Notify;
use url::Url;

pub use artifact::{Artifact, ArtifactLimits};
pub use calls::CallCount;
pub use credentials::{Credentials, Token};
pub use environments::{DeploymentOutcome, Environment, EnvironmentState};
pub use error::{Class, Error};
pub use health::{Health, OLDEST, TokenHealth};
pub use hooks::{Access, AlertStatus, Hook, HookChange, HookDelivery, TestOutcome, signs_deliveries};
pub use image::Image;
pub use merge_requests::OpenMergeRequest;
pub use notes::Note;
pub use registry::RegistryError;

use crate::outgoing::Roots;
use crate::preview::ProjectId;
use crate::settings::Rate;
use budget::Lane;
use client::{Client, Link};
use credentials::{Credential, Keyring, Table};

/// Tells the path of a project that delivered a webhook, if there is one.
pub type Paths = Arc<dyn Fn(ProjectId) -> BoxFuture<'static, Option<String>> + Send + Sync>;

/// What the room needs to know.
pub struct Settings {
    /// Base URL, such as `https://gitlab.example.com`.
    pub url: Url,
    /// API tokens.
    pub credentials: Credentials,
    /// The longest one API call may take.
    pub timeout: Duration,
    /// How many calls are made in what time; none: no limit.
    pub rate: Option<Rate>,
    /// Whose certificates are trusted besides the usual ones.
    pub roots: Roots,
    /// Where to look for the path of a project; asked only when there are tokens for some projects.
    pub paths: Paths,
}

/// GitLab, as greenroom asks it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Forge {
    shared: Arc<Shared>,
    lane: Lane,
}

struct Shared {
    link: Arc<Link>,
    keyring: Keyring,
    paths: Paths,
    /// Paths as GitLab itself named them; they count more than what webhooks said.
    named: Mutex<HashMap<ProjectId, String>>,
    /// Where projects keep their images.
    images: Mutex<HashMap<ProjectId, Option<String>>>,
    health: Mutex<Health>,
    /// Woken when tokens were replaced.
    replaced: Notify,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("link", &self.link).finish_non_exhaustive()
    }
}

/// What is left of the calls that may be made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    /// Calls that could be made at once, now.
    pub left: f64,
    /// Calls that come to it in a second.
    pub per_second: f64,
}

impl Forge {
    /// A client for this GitLab. Does not call it.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let link = Arc::new(Link::new(&settings)?);
        let shared = Shared {
            link,
            keyring: Keyring::new(settings.credentials),
            paths: settings.paths,
            named: Mutex::default(),
            images: Mutex::default(),
            health: Mutex::default(),
            replaced: Notify::new(),
        };
        Ok(Self { shared: Arc::new(shared), lane: Lane::default() })
    }

    /// The same GitLab for work that nobody waits for: its calls go only when no other call waits.
    #[must_use]
    pub fn in_background(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), lane: Lane::Background }
    }

    /// Replaces the tokens. Calls that were begun end with the token they began with.
    pub fn replace_tokens(&self, credentials: Credentials) {
        self.shared.keyring.replace(credentials);
        self.shared.replaced.notify_one();
    }

    /// The user id that the project's token acts as. Asked once per token.
    pub async fn me(&self, project: ProjectId) -> Result<u64, Error> {
        #[derive(serde::Deserialize)]
        struct User {
            id: u64,
        }
        let client = self.of(project).await?;
        let ask = async || {
            let user: User = client.get(built(api::users::CurrentUser::builder().build())?).await?;
            Ok(user.id)
        };
        client.credential.me.get_or_try_init(ask).await.copied()
    }

    /// Where the project keeps its images, as `CI_REGISTRY_IMAGE` has it; `None` when it has no registry. Asked once.
    pub async fn registry_image(&self, project: ProjectId) -> Result<Option<String>, Error> {
        #[derive(serde::Deserialize)]
        struct Project {
            container_registry_image_prefix: Option<String>,
        }
        let known = self.shared.images.lock().unwrap_or_else(PoisonError::into_inner).get(&project).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let endpoint = built(api::projects::Project::builder().project(project).build())?;
        let shown: Project = self.of(project).await?.get(endpoint).await?;
        let image = shown.container_registry_image_prefix.filter(|image| !image.is_empty());
        self.shared.images.lock().unwrap_or_else(PoisonError::into_inner).insert(project, image.clone());
        Ok(image)
    }

    /// How often GitLab was called so far.
    pub fn calls(&self) -> &CallCount {
        &self.shared.link.calls
    }

    /// How many calls may be made; `None` without a limit.
    pub fn budget(&self) -> Option<Budget> {
        let budget = self.shared.link.budget.as_ref()?;
        Some(Budget { left: budget.left().floor(), per_second: budget.per_second() })
    }

    /// GitLab through the token for this project.
    async fn of(&self, project: ProjectId) -> Result<Client, Error> {
        let table = self.shared.keyring.table();
        let credential = if let Some(only) = table.only() {
            Arc::clone(only)
        } else {
            let path = self.path(project).await.ok_or(Error::NoToken { project })?;
            Arc::clone(table.of(&path))
        };
        Ok(self.through(table, credential))
    }

    /// GitLab through the token for the project with this path.
    fn at(&self, path: &str) -> Client {
        let table = self.shared.keyring.table();
        let credential = Arc::clone(table.of(path));
        self.through(table, credential)
    }

    fn through(&self, table: Arc<Table>, credential: Arc<Credential>) -> Client {
        Client { link: Arc::clone(&self.shared.link), table, credential, lane: self.lane }
    }

    async fn path(&self, project: ProjectId) -> Option<String> {
        let named = self.shared.named.lock().unwrap_or_else(PoisonError::into_inner).get(&project).cloned();
        match named {
            Some(path) => Some(path),
            None => (self.shared.paths)(project).await,
        }
    }

    /// GitLab named the project's path. An error when the token that asked is not the one for it.
    fn check_path(&self, client: &Client, project: ProjectId, path: &str) -> Result<(), Error> {
        if client.table.only().is_some() {
            return Ok(());
        }
        let mut named = self.shared.named.lock().unwrap_or_else(PoisonError::into_inner);
        named.insert(project, path.to_owned());
        if client.is_for(path) { Ok(()) } else { Err(Error::OtherToken { project, path: path.to_owned() }) }
    }
}

/// A builder's result. Builders only fail when a required part was left out, which is a mistake of ours.
fn built<T>(result: Result<T, impl std::fmt::Display>) -> Result<T, Error> {
    result.map_err(|error| Error::Request(error.to_string()))
}

/// Nothing instead of "not found".
fn found<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// An endpoint the `gitlab` crate does not have.
#[derive(Debug)]
struct Call {
    method: http::Method,
    path: String,
    form: Vec<(&'static str, String)>,
}

impl Endpoint for Call {
    fn method(&self) -> http::Method {
        self.method.clone()
    }

    fn endpoint(&self) -> std::borrow::Cow<'static, str> {
        self.path.clone().into()
    }

    fn body(&self) -> Result<Option<(&'static str, Vec<u8>)>, api::BodyError> {
        if self.form.is_empty() {
            return Ok(None);
        }
        let mut form = api::FormParams::default();
        for (name, value) in &self.form {
            form.push(*name, value);
        }
        form.into_body()
    }
}
