//! Our HTTP client under the `gitlab` crate's endpoints.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use gitlab::api::{ApiError, AsyncClient, RestClient};
use http::header::{ACCEPT, RETRY_AFTER, USER_AGENT};
use http::{Method, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::error::WEB_PAGE;
use super::{Error, Settings};

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

/// How often GitLab was called.
#[derive(Debug, Default)]
pub struct CallCount {
    reads: AtomicU64,
    writes: AtomicU64,
    errors: AtomicU64,
}

impl CallCount {
    /// Reads, writes, and how many of both ended in an error.
    pub fn snapshot(&self) -> [(&'static str, u64); 3] {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [("read", read(&self.reads)), ("write", read(&self.writes)), ("error", read(&self.errors))]
    }
}

#[derive(Debug)]
pub(super) struct Client {
    base: Url,
    token: SecretString,
    http: reqwest::Client,
    pub(super) calls: CallCount,
    /// GitLab wants to hear nothing before this time.
    quiet_until: Mutex<Option<Instant>>,
}

impl Client {
    pub(super) fn new(settings: Settings) -> Result<Self, Error> {
        let mut base = settings.url;
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        // A redirect would carry the token to wherever it points: none is followed.
        let mut http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(5))
            .read_timeout(settings.timeout)
            .timeout(settings.timeout);
        if is_loopback(&base) {
            // No proxy can reach this machine's own loopback.
            http = http.no_proxy();
        }
        let http = http.build().map_err(|error| Error::Request(error.to_string()))?;
        Ok(Self {
            base,
            token: settings.token,
            http,
            calls: CallCount::default(),
            quiet_until: Mutex::default(),
        })
    }

    fn quiet_until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.quiet_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long GitLab still wants to hear nothing.
    fn quiet_for(&self) -> Option<Duration> {
        let until = *self.quiet_until();
        until?.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }

    pub(super) fn api_url(&self, path: &str) -> Result<Url, url::ParseError> {
        self.base.join("api/v4/")?.join(path)
    }

    /// Sends one request; any answer but a redirect or a success is an error. The body is not read yet.
    pub(super) async fn send(
        &self,
        method: Method,
        url: Url,
        with_token: bool,
        body: Option<(String, Vec<u8>)>,
    ) -> Result<reqwest::Response, Error> {
        self.send_for(method, url, with_token, body, None).await
    }

    /// Sends one request to the API and reads the answer.
    pub(super) async fn ask(
        &self,
        method: Method,
        url: Url,
        body: Option<(String, Vec<u8>)>,
    ) -> Result<Response<Bytes>, Error> {
        let what = format!("{method} {}", url.path());
        let answer = self.send(method, url, true, body).await?;
        let mut response = Response::builder().status(answer.status());
        if let Some(headers) = response.headers_mut() {
            headers.clone_from(answer.headers());
        }
        let body = read(answer, LARGEST_ANSWER, &what).await?;
        response.body(body).map_err(|error| Error::Request(error.to_string()))
    }

    /// Asks for a large file, which may take long as long as something comes.
    pub(super) async fn download(&self, url: Url, with_token: bool) -> Result<reqwest::Response, Error> {
        self.send_for(Method::GET, url, with_token, None, Some(LONGEST_DOWNLOAD)).await
    }

    async fn send_for(
        &self,
        method: Method,
        url: Url,
        with_token: bool,
        body: Option<(String, Vec<u8>)>,
        at_most: Option<Duration>,
    ) -> Result<reqwest::Response, Error> {
        let what = format!("{method} {}", url.path());
        if let Some(after) = self.quiet_for().filter(|_| with_token) {
            return Err(Error::RateLimited { what, after });
        }
        let counter = if method == Method::GET { &self.calls.reads } else { &self.calls.writes };
        counter.fetch_add(1, Ordering::Relaxed);
        let mut request = self
            .http
            .request(method, url)
            .header(USER_AGENT, concat!("greenroom/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, "application/json, */*;q=0.1");
        if with_token {
            request = request.header("PRIVATE-TOKEN", self.token.expose_secret());
        }
        if let Some(at_most) = at_most {
            request = request.timeout(at_most);
        }
        if let Some((kind, body)) = body {
            request = request.header(http::header::CONTENT_TYPE, kind).body(body);
        }
        let answer = async {
            let response = request
                .send()
                .await
                .map_err(|source| Error::Unreachable { what: what.clone(), source: source.without_url() })?;
            let status = response.status();
            if status.is_success() || status.is_redirection() {
                return Ok(response);
            }
            if status == StatusCode::TOO_MANY_REQUESTS {
                let asked = asked_pause(&response);
                if let Some(pause) = asked.filter(|_| with_token) {
                    // The limit is the token's, not this call's. One that says no time is of this kind of call alone.
                    *self.quiet_until() = Some(Instant::now() + pause);
                }
                return Err(Error::RateLimited { what, after: asked.unwrap_or(DEFAULT_PAUSE) });
            }
            let body = read(response, 64 << 10, "").await.unwrap_or_default();
            Err(Error::Status { what, status: status.as_u16(), message: message(&body) })
        };
        let answer = answer.await;
        if answer.is_err() {
            self.calls.errors.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
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
async fn read(response: reqwest::Response, limit: u64, what: &str) -> Result<Bytes, Error> {
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
