//! Our HTTP client under the `gitlab` crate's endpoints.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use gitlab::api::{self, ApiError, AsyncClient, AsyncQuery, Endpoint, RestClient};
use http::header::{ACCEPT, DATE, LOCATION, RETRY_AFTER, USER_AGENT};
use http::{Method, Response, StatusCode};
use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;
use url::Url;

use super::budget::{Budget, Lane};
use super::calls::CallCount;
use super::credentials::{Credential, Table};
use super::error::WEB_PAGE;
use super::{Error, Settings};
use crate::outgoing::{Outgoing, certificate_refused};

/// The most that GitLab puts on one page.
const PER_PAGE: usize = 100;

/// The most we read of one answer; a page of 100 merge requests has about 300 KB.
const LARGEST_ANSWER: u64 = 16 << 20;

/// The longest a download may take.
const LONGEST_DOWNLOAD: Duration = Duration::from_mins(15);

/// How long to wait after a 429 that does not say.
const DEFAULT_PAUSE: Duration = Duration::from_secs(15);

/// The shortest wait after a 429, whatever it says.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// The longest wait that GitLab may ask for in one go.
const LONGEST_PAUSE: Duration = Duration::from_mins(15);

/// The way to GitLab, which all tokens share.
#[derive(Debug)]
pub(super) struct Link {
    /// Of the API, `…/api/v4/`.
    pub(super) api: Url,
    pub(super) http: Outgoing,
    pub(super) calls: CallCount,
    /// None: as many calls as there are.
    pub(super) budget: Option<Budget>,
}

impl Link {
    pub(super) fn new(settings: &Settings) -> Result<Self, Error> {
        let wrong = |error: &dyn std::fmt::Display| Error::Request(error.to_string());
        let mut base = settings.url.clone();
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        // A redirect would carry the token to wherever it points: none is followed.
        let http = Outgoing::new(&settings.roots, |http| {
            http.redirect(reqwest::redirect::Policy::none())
                .connect_timeout(Duration::from_secs(5))
                .read_timeout(settings.timeout)
                .timeout(settings.timeout)
        });
        Ok(Self {
            api: base.join("api/v4/").map_err(|error| wrong(&error))?,
            http: http.map_err(|error| wrong(&error))?,
            calls: CallCount::default(),
            budget: settings.rate.map(Budget::new),
        })
    }
}

/// GitLab through one token, for one lane. Made for each call.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) link: Arc<Link>,
    pub(super) table: Arc<Table>,
    pub(super) credential: Arc<Credential>,
    pub(super) lane: Lane,
}

impl Client {
    /// Whether our token is the one for the project with this path.
    pub(super) fn is_for(&self, path: &str) -> bool {
        Arc::ptr_eq(self.table.of(path), &self.credential)
    }

    pub(super) async fn get<T: DeserializeOwned + 'static>(
        &self,
        endpoint: impl Endpoint + Sync,
    ) -> Result<T, Error> {
        let what = named(&endpoint);
        endpoint.query_async(self).await.map_err(|error| Error::from_api(error, what))
    }

    /// All pages of a list. GitLab says which page is the next one, so that a full last page is not followed by an empty
    /// one, as the crate's own paging does.
    pub(super) async fn all<T: DeserializeOwned>(
        &self,
        endpoint: impl Endpoint + api::Pageable,
    ) -> Result<Vec<T>, Error> {
        let what = || named(&endpoint);
        let unreadable = |why: String| Error::Unreadable { what: what(), why };
        let mut all: Vec<T> = Vec::new();
        let mut page = 1;
        loop {
            let mut url = self
                .api_url(&endpoint.endpoint())
                .map_err(|error| Error::Request(format!("{}: {error}", what())))?;
            endpoint.parameters().add_to_url(&mut url);
            url.query_pairs_mut()
                .append_pair("per_page", &PER_PAGE.to_string())
                .append_pair("page", &page.to_string());
            let answer = self.ask(endpoint.method(), url, None).await?;
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

    /// The body as it comes.
    pub(super) async fn raw(&self, endpoint: impl Endpoint + Sync) -> Result<Vec<u8>, Error> {
        let what = named(&endpoint);
        api::raw(endpoint).query_async(self).await.map_err(|error| Error::from_api(error, what))
    }

    /// Asks for something to be done; the answer's body is of no matter.
    pub(super) async fn send(&self, endpoint: impl Endpoint + Sync) -> Result<(), Error> {
        let what = named(&endpoint);
        api::ignore(endpoint).query_async(self).await.map_err(|error| Error::from_api(error, what))
    }

    pub(super) fn api_url(&self, path: &str) -> Result<Url, url::ParseError> {
        self.link.api.join(path)
    }

    /// What time GitLab has; `None` when it does not tell.
    pub(super) async fn date(&self) -> Result<Option<Timestamp>, Error> {
        let url = self.api_url("user").map_err(|error| Error::Request(error.to_string()))?;
        let answer = self.call(Method::GET, url, None, None).await?;
        let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok());
        Ok(date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()).map(|date| date.timestamp()))
    }

    /// Makes one call to the API and reads the answer.
    async fn ask(
        &self,
        method: Method,
        url: Url,
        body: Option<(String, Vec<u8>)>,
    ) -> Result<Response<Bytes>, Error> {
        let what = format!("{method} {}", url.path());
        let answer = self.call(method, url, body, None).await?;
        if answer.status().is_redirection() {
            let to =
                answer.headers().get(LOCATION).map(|to| String::from_utf8_lossy(to.as_bytes()).into_owned());
            return Err(Error::Elsewhere {
                what,
                status: answer.status().as_u16(),
                to: to.unwrap_or_default(),
            });
        }
        let mut response = Response::builder().status(answer.status());
        if let Some(headers) = response.headers_mut() {
            headers.clone_from(answer.headers());
        }
        let body = read(answer, LARGEST_ANSWER, &what).await?;
        response.body(body).map_err(|error| Error::Request(error.to_string()))
    }

    /// Asks GitLab for a large file, which may take long as long as something comes. It may be elsewhere: then the answer
    /// is a redirect, see [`Self::fetch`].
    pub(super) async fn download(&self, url: Url) -> Result<reqwest::Response, Error> {
        self.call(Method::GET, url, None, Some(LONGEST_DOWNLOAD)).await
    }

    /// Fetches a large file from elsewhere, where our token must not go.
    pub(super) async fn fetch(&self, url: Url) -> Result<reqwest::Response, Error> {
        let what = format!("GET {}", url.path());
        let request = self.link.http.to(&url).get(url).timeout(LONGEST_DOWNLOAD);
        let response = answer(request, &what).await?;
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            let after = asked_pause(&response).unwrap_or(DEFAULT_PAUSE);
            return Err(Error::RateLimited { what, after });
        }
        succeeded(response, what).await
    }

    /// Makes one call to the API; any answer but a redirect or a success is an error. The body is not read yet.
    async fn call(
        &self,
        method: Method,
        url: Url,
        body: Option<(String, Vec<u8>)>,
        at_most: Option<Duration>,
    ) -> Result<reqwest::Response, Error> {
        let what = format!("{method} {}", url.path());
        if let Some(after) = self.credential.quiet_for() {
            return Err(Error::RateLimited { what, after });
        }
        if let Some(budget) = &self.link.budget
            && let Err(after) = budget.leave(self.lane, || self.credential.quiet_for()).await
        {
            return Err(Error::RateLimited { what, after });
        }
        let below = url.path().strip_prefix(self.link.api.path()).unwrap_or_default();
        self.link.calls.call(&method, below);
        let mut request = self.link.http.to(&url).request(method, url);
        request = request
            .header(ACCEPT, "application/json, */*;q=0.1")
            .header("PRIVATE-TOKEN", self.credential.secret.expose_secret());
        if let Some(at_most) = at_most {
            request = request.timeout(at_most);
        }
        if let Some((kind, body)) = body {
            request = request.header(http::header::CONTENT_TYPE, kind).body(body);
        }
        let answer = async {
            let response = answer(request, &what).await?;
            if response.status() == StatusCode::TOO_MANY_REQUESTS {
                let asked = asked_pause(&response);
                if let Some(pause) = asked {
                    // The limit is the token's, not this call's. One that says no time is of this kind of call alone.
                    self.credential.be_quiet_for(pause);
                }
                return Err(Error::RateLimited { what, after: asked.unwrap_or(DEFAULT_PAUSE) });
            }
            succeeded(response, what).await
        };
        let answer = answer.await;
        if answer.is_err() {
            self.link.calls.error();
        }
        answer
    }
}

/// An endpoint as errors name it.
fn named(endpoint: &impl Endpoint) -> String {
    format!("{} {}", endpoint.method(), endpoint.endpoint())
}

async fn answer(request: reqwest::RequestBuilder, what: &str) -> Result<reqwest::Response, Error> {
    let request = request.header(USER_AGENT, concat!("greenroom/", env!("CARGO_PKG_VERSION")));
    request.send().await.map_err(|error| {
        let host = error.url().and_then(Url::host_str).unwrap_or_default().to_owned();
        match certificate_refused(&error) {
            Some(why) => Error::Certificate { what: what.to_owned(), host, why },
            None => Error::Unreachable { what: what.to_owned(), source: error.without_url() },
        }
    })
}

async fn succeeded(response: reqwest::Response, what: String) -> Result<reqwest::Response, Error> {
    let status = response.status();
    if status.is_success() || status.is_redirection() {
        return Ok(response);
    }
    let body = read(response, 64 << 10, "").await.unwrap_or_default();
    Err(Error::Status { what, status: status.as_u16(), message: message(&body) })
}

/// `Retry-After` in seconds; GitLab's application limits leave it out.
fn asked_pause(response: &reqwest::Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).clamp(SHORTEST_PAUSE, LONGEST_PAUSE))
}

/// GitLab's error bodies vary: `{"message": text or object}`, `{"error": text}`, or a page.
fn message(body: &[u8]) -> String {
    let text = match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(value) => match value.get("message").or_else(|| value.get("error")) {
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => value.to_string(),
        },
        Err(_) if body.is_empty() => String::from("(no text)"),
        Err(_) if body.trim_ascii_start().starts_with(b"<") => String::from(WEB_PAGE),
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect()
}

/// Reads a body up to `limit` bytes.
pub(super) async fn read(response: reqwest::Response, limit: u64, what: &str) -> Result<Bytes, Error> {
    let mut body = BytesMut::new();
    let mut stream = response.bytes_stream();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk
            .map_err(|source| Error::Unreachable { what: what.to_owned(), source: source.without_url() })?;
        if (body.len() + chunk.len()) as u64 > limit {
            return Err(Error::TooLarge { what: what.to_owned(), limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

impl RestClient for Client {
    type Error = Error;

    fn rest_endpoint(&self, endpoint: &str) -> Result<Url, ApiError<Error>> {
        Ok(self.api_url(endpoint)?)
    }
}

#[async_trait::async_trait]
impl AsyncClient for Client {
    async fn rest_async(
        &self,
        request: http::request::Builder,
        body: Vec<u8>,
    ) -> Result<Response<Bytes>, ApiError<Error>> {
        let request =
            request.body(body).map_err(|error| ApiError::client(Error::Request(error.to_string())))?;
        let (parts, body) = request.into_parts();
        let url: Url = parts.uri.to_string().parse()?;
        let kind = parts.headers.get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
        let body = kind.map(|kind| (kind.to_owned(), body));
        self.ask(parts.method, url, body).await.map_err(ApiError::client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gitlabs_many_shapes_of_an_error_become_one_line() {
        for (body, line) in [
            (r#"{"message":"404 File Not Found"}"#, "404 File Not Found"),
            (r#"{"message":{"name":["has already been taken"]}}"#, r#"{"name":["has already been taken"]}"#),
            (r#"{"error":"insufficient_scope"}"#, "insufficient_scope"),
            ("Retry later\n", "Retry later"),
            ("  <!DOCTYPE html><html>", "a web page instead of an answer"),
            ("", "(no text)"),
        ] {
            assert_eq!(message(body.as_bytes()), line);
        }
    }
}
