//! The only room that calls GitLab: what we ask, in our words.
//!
//! Needs: a base URL and a token with scope `api` and role Developer. Endpoints and paging come from the `gitlab` crate;
//! requests go through our own client (`client.rs`), which has the time-outs, limits and error classes that crate leaves
//! to its users.
//!
//! Properties:
//! * Nothing is asked at construction: a GitLab that is down delays looks, never the start.
//! * The token goes to GitLab's API only. Artifacts that live elsewhere are fetched without it (`artifact.rs`).
//! * Every error says what to do next ([`Error::class`]); a 404 is an error unless a method says otherwise, so that
//!   "not shown" is never taken for "gone".

mod artifact;
mod client;
mod commit_statuses;
mod environments;
mod error;
mod merge_requests;
mod notes;
mod pipelines;

use std::sync::Arc;
use std::time::Duration;

use gitlab::api::{self, AsyncQuery, Endpoint};
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;
use url::Url;

pub use artifact::{Artifact, ArtifactLimits};
pub use client::CallCount;
pub use environments::{DeploymentOutcome, Environment, EnvironmentState};
pub use error::{Class, Error};
pub use merge_requests::OpenMergeRequest;
pub use notes::Note;

use client::Client;

/// The most that GitLab puts on one page.
const PER_PAGE: usize = 100;

/// What the room needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Base URL, such as `https://gitlab.example.com`.
    pub url: Url,
    /// API token.
    pub token: SecretString,
    /// The longest one API call may take.
    pub timeout: Duration,
}

/// GitLab, as greenroom asks it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Forge {
    client: Arc<Client>,
    me: Arc<OnceCell<u64>>,
}

impl Forge {
    /// A client for this GitLab. Does not call it.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        Ok(Self { client: Arc::new(Client::new(settings)?), me: Arc::default() })
    }

    /// The user id that the token acts as. Asked once.
    pub async fn me(&self) -> Result<u64, Error> {
        #[derive(serde::Deserialize)]
        struct User {
            id: u64,
        }
        self.me
            .get_or_try_init(|| async {
                let user: User = self.get(built(api::users::CurrentUser::builder().build())?).await?;
                Ok(user.id)
            })
            .await
            .copied()
    }

    /// How often GitLab was called so far.
    pub fn calls(&self) -> &CallCount {
        &self.client.calls
    }

    async fn get<T: DeserializeOwned + 'static>(&self, endpoint: impl Endpoint + Sync) -> Result<T, Error> {
        let what = format!("{} {}", endpoint.method(), endpoint.endpoint());
        endpoint.query_async(&*self.client).await.map_err(|error| Error::from_api(error, what))
    }

    /// All pages of a list. GitLab says which page is the next one, so that a full last page is not followed by an empty
    /// one, as the crate's own paging does.
    async fn all<T: DeserializeOwned>(
        &self,
        endpoint: impl Endpoint + api::Pageable,
    ) -> Result<Vec<T>, Error> {
        let what = || format!("{} {}", endpoint.method(), endpoint.endpoint());
        let unreadable = |why: String| Error::Unreadable { what: what(), why };
        let mut all: Vec<T> = Vec::new();
        let mut page = 1;
        loop {
            let mut url = self
                .client
                .api_url(&endpoint.endpoint())
                .map_err(|error| Error::Request(format!("{}: {error}", what())))?;
            endpoint.parameters().add_to_url(&mut url);
            url.query_pairs_mut()
                .append_pair("per_page", &PER_PAGE.to_string())
                .append_pair("page", &page.to_string());
            let answer = self.client.ask(endpoint.method(), url, None).await?;
            if !answer.status().is_success() {
                return Err(unreadable(format!("it leads elsewhere (status {})", answer.status().as_u16())));
            }
            let items: Vec<T> =
                serde_json::from_slice(answer.body()).map_err(|error| unreadable(error.to_string()))?;
            let full = items.len() >= PER_PAGE;
            all.extend(items);
            let next = match answer.headers().get("x-next-page").map(|next| next.to_str().unwrap_or_default())
            {
                Some(next) => next.trim().parse().ok(),
                None => full.then_some(page + 1),
            };
            match next {
                Some(next) if next > page => page = next,
                _ => return Ok(all),
            }
        }
    }

    async fn send(&self, endpoint: impl Endpoint + Sync) -> Result<(), Error> {
        let what = format!("{} {}", endpoint.method(), endpoint.endpoint());
        api::ignore(endpoint).query_async(&*self.client).await.map_err(|error| Error::from_api(error, what))
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
