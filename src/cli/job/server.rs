//! The server as a job asks it: with its ID token, patiently.

use std::time::Duration;

use anyhow::anyhow;
use backon::{ExponentialBuilder, Retryable};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::redirect::Policy;
use reqwest::{Body, RequestBuilder, Response};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use tokio_util::io::ReaderStream;
use url::Url;

use super::archive::Packed;
use crate::cli::Failure;
use crate::cli::client::{elsewhere, is_later};
use crate::outgoing::{Outgoing, certificate_refused};
use crate::settings::ServerAccess;

/// How long a connection may take to come about, and to say nothing; the server says something every ten seconds.
const CONNECT: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_mins(1);

/// How often a server that is away is asked again; with the pauses between them about two minutes.
const TRIES: usize = 8;

/// The server.
pub(super) struct Server {
    http: Outgoing,
    url: Url,
    token: SecretString,
    /// Until when it is asked again.
    until: Instant,
}

impl Server {
    pub(super) fn new(access: ServerAccess, until: Instant) -> Result<Self, Failure> {
        let http = Outgoing::new(&access.roots, |http| {
            http.connect_timeout(CONNECT).read_timeout(SILENCE).redirect(Policy::none())
        })?;
        Ok(Self { http, url: access.server, token: access.id_token, until })
    }

    /// Asks for something, with files if there are some.
    pub(super) async fn ask(
        &self,
        path: &str,
        query: &str,
        files: Option<&Packed>,
    ) -> Result<Value, Failure> {
        let mut url = self.url.join(path)?;
        url.set_query(Some(query));
        let send = async || {
            let mut request = self.http.to(&url).post(url.clone());
            if let Some(packed) = files {
                let file = tokio::fs::File::from_std(packed.file.reopen()?);
                request = request
                    .header(CONTENT_TYPE, "application/zip")
                    .header(CONTENT_LENGTH, packed.bytes)
                    .body(Body::wrap_stream(ReaderStream::new(file)));
            }
            let answer = self.answered(request).await?.bytes().await.map_err(|error| self.away(error))?;
            serde_json::from_slice(&answer).map_err(|error| {
                Failure::Failed(anyhow!("{} gave no answer of greenroom's: {error}", self.url))
            })
        };
        self.patiently(send).await
    }

    /// Reads something.
    pub(super) async fn get(&self, path: &str) -> Result<Response, Failure> {
        let url = self.url.join(path)?;
        self.patiently(async || self.answered(self.http.to(&url).get(url.clone())).await).await
    }

    async fn patiently<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        send: impl FnMut() -> F,
    ) -> Result<T, Failure> {
        let pauses = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(500))
            .with_max_delay(Duration::from_secs(30))
            .with_jitter()
            .with_max_times(TRIES);
        let mut last = None;
        let asked = send
            .retry(pauses)
            .when(|failure| matches!(failure, Failure::Unavailable(_)))
            .notify(|failure, _| last = Some(failure.told()));
        let Ok(answered) = timeout_at(self.until, asked).await else {
            let last = last.unwrap_or_else(|| format!("{} is silent", self.url));
            return Err(Failure::Unavailable(anyhow!(last).context("the time of the job is over")));
        };
        answered
    }

    async fn answered(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let server = &self.url;
        let answer = request.bearer_auth(self.token.expose_secret()).send().await.map_err(|error| {
            match certificate_refused(&error) {
                Some(why) => Failure::Failed(anyhow!("{server} was not asked: {why}")),
                None => self.away(error),
            }
        })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        if let Some(why) = elsewhere(server, &answer) {
            return Err(Failure::Failed(anyhow!(
                "{why}: set GREENROOM_SERVER (the include's input `server`) to where greenroom itself answers"
            )));
        }
        let body: Value = answer.json().await.unwrap_or_default();
        let detail = body["detail"].as_str().unwrap_or("no reason was given").to_owned();
        let error = anyhow!(detail).context(format!("{server} answered {status}"));
        Err(if is_later(status) { Failure::Unavailable(error) } else { Failure::Failed(error) })
    }

    fn away(&self, error: reqwest::Error) -> Failure {
        Failure::Unavailable(anyhow!(error.without_url()).context(format!("{} does not answer", self.url)))
    }
}
