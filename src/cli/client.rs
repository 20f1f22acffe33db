//! Asking a running server: which one, with which token, and about which merge request.

use std::time::Duration;

use anyhow::{Context, anyhow};
use reqwest::header::LOCATION;
use reqwest::redirect::Policy;
use reqwest::{Method, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use url::Url;

use super::Failure;
use crate::outgoing::{Outgoing, certificate_refused};
use crate::preview::{BranchId, Subject};
use crate::settings::{ClientSettings, client_settings};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whom to ask.
#[derive(Debug, clap::Args)]
pub(super) struct ServerFlag {
    /// A running greenroom. Default: GREENROOM_SERVER, else `http://localhost:8080`.
    #[arg(long, value_name = "URL")]
    pub(super) server: Option<Url>,
}

/// Which preview is meant.
#[derive(Debug, clap::Args)]
pub(super) struct PreviewArgs {
    /// The merge request: `acme/web!7`, or with the project's id `42!7`; a branch that has none: `acme/web@feature`.
    #[arg(value_name = "PREVIEW")]
    name: String,
    #[command(flatten)]
    server: ServerFlag,
}

impl PreviewArgs {
    /// The preview of this name at this server.
    pub(super) fn new(name: String, server: Option<Url>) -> Self {
        Self { name, server: ServerFlag { server } }
    }

    /// The server, and where it has the preview.
    pub(super) async fn find(self) -> Result<(Client, String), Failure> {
        let (client, project, subject) = self.look_up().await?;
        let id = project.map_err(|path| {
            anyhow!("no preview of a project `{path}` is known; try the project's numeric id")
        })?;
        Ok((client, format!("api/v1/previews/{id}/{subject}")))
    }

    /// The same where there may be no preview yet: what nobody knows by its id is named by its path.
    pub(super) async fn find_any(self) -> Result<(Client, String), Failure> {
        let (client, project, subject) = self.look_up().await?;
        let project = project.map_or_else(|path| path.replace('/', "%2F"), |id| id.to_string());
        Ok((client, format!("api/v1/previews/{project}/{subject}")))
    }

    /// The server, the project's id or else its path, and what of it.
    async fn look_up(self) -> Result<(Client, Result<u64, String>, Subject), Failure> {
        let given = &self.name;
        let (project, subject) = parse(given).ok_or_else(|| {
            Failure::Findings(format!(
                "error: `{given}` names no merge request\nhint: write it as `acme/web!7`, or a branch without one as \
                 `acme/web@feature`"
            ))
        })?;
        let client = Client::of(self.server)?;
        let id = match project.parse::<u64>() {
            Ok(id) => Ok(id),
            Err(_) => id_of(project, &client.get("api/v1/previews").await?).ok_or_else(|| project.to_owned()),
        };
        Ok((client, id, subject))
    }
}

/// The project, and what of it. No path of a project has a `!` or `@` in it.
fn parse(given: &str) -> Option<(&str, Subject)> {
    let at = given.find(['!', '@']).filter(|at| *at > 0)?;
    let (project, rest) = (&given[..at], &given[at + 1..]);
    let subject = match given.as_bytes()[at] {
        b'!' => Subject::MergeRequest(rest.parse().ok()?),
        _ => Subject::Branch(BranchId::of(rest)?),
    };
    Some((project, subject))
}

fn id_of(path: &str, list: &Value) -> Option<u64> {
    let previews = list["previews"].as_array()?;
    let of_project = |preview: &&Value| {
        preview["project_path"].as_str().is_some_and(|found| found.eq_ignore_ascii_case(path))
    };
    previews.iter().find(of_project)?["project_id"].as_u64()
}

/// Speaks to one server.
pub(super) struct Client {
    http: Outgoing,
    server: Url,
    token: Option<SecretString>,
}

impl Client {
    pub(super) fn of(flag: ServerFlag) -> Result<Self, Failure> {
        Self::new(flag.server, None, None)
    }

    /// The server that is named, else `default`, with the token of the environment, else this one.
    pub(super) fn new(
        server: Option<Url>,
        default: Option<Url>,
        token: Option<SecretString>,
    ) -> Result<Self, Failure> {
        let settings = client_settings(server, default, token);
        let ClientSettings { server, token, roots } =
            settings.map_err(|problem| Failure::Findings(problem.to_string()))?;
        // A redirect would turn what is asked for into a look at it.
        let http = Outgoing::new(&roots, |http| http.redirect(Policy::none()))?;
        Ok(Self { http, server, token })
    }

    pub(super) const fn server(&self) -> &Url {
        &self.server
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.ask(Method::GET, path, PATIENCE).await
    }

    pub(super) async fn post(&self, path: &str) -> Result<Value, Failure> {
        self.ask(Method::POST, path, PATIENCE).await
    }

    /// As [`Self::post`], for what the server needs so long for.
    pub(super) async fn post_within(&self, path: &str, patience: Duration) -> Result<Value, Failure> {
        self.ask(Method::POST, path, patience).await
    }

    /// As [`Self::get`]; nothing where the server knows of none.
    pub(super) async fn find(&self, path: &str) -> Result<Option<Value>, Failure> {
        match self.answer(Method::GET, path, PATIENCE).await? {
            (StatusCode::NOT_FOUND, _) => Ok(None),
            answer => self.succeeded(answer).map(Some),
        }
    }

    async fn ask(&self, method: Method, path: &str, patience: Duration) -> Result<Value, Failure> {
        let answer = self.answer(method, path, patience).await?;
        self.succeeded(answer)
    }

    fn succeeded(&self, (status, body): (StatusCode, Value)) -> Result<Value, Failure> {
        if status.is_success() {
            return Ok(body);
        }
        let detail = body["detail"].as_str().unwrap_or("no reason was given").to_owned();
        let error = anyhow!(detail).context(format!("{} answered {status}", self.server));
        Err(if is_later(status) { Failure::Unavailable(error) } else { Failure::Failed(error) })
    }

    async fn answer(
        &self,
        method: Method,
        path: &str,
        patience: Duration,
    ) -> Result<(StatusCode, Value), Failure> {
        let server = &self.server;
        let url = server.join(path)?;
        let mut request = self.http.to(&url).request(method, url.clone()).timeout(patience);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose_secret());
        }
        let answer = request.send().await.map_err(|error| {
            Failure::Unavailable(match certificate_refused(&error) {
                Some(why) => anyhow!("{server} was not asked: {why}"),
                None => anyhow!(error.without_url()).context(format!("{server} does not answer")),
            })
        })?;
        if let Some(why) = elsewhere(server, &answer) {
            return Err(Failure::Failed(anyhow!(
                "{why}: use `--server` or GREENROOM_SERVER for where greenroom itself answers"
            )));
        }
        let status = answer.status();
        let body = match answer.json().await {
            // A proxy's own page, while there is nobody behind it.
            Err(_) if is_later(status) => Value::Null,
            body => body.with_context(|| format!("{url} answered {status} and no JSON"))?,
        };
        Ok((status, body))
    }
}

/// Whether the same question may have an answer later.
pub(super) fn is_later(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

/// Where a server sends those who ask, in words; `None` when it answers by itself.
pub(super) fn elsewhere(server: &Url, answer: &Response) -> Option<String> {
    let to = answer.headers().get(LOCATION).filter(|_| answer.status().is_redirection())?;
    Some(format!("{server} sends elsewhere, to `{}`", String::from_utf8_lossy(to.as_bytes())))
}

/// A text of an answer, `-` where it has none.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

/// The elements of a list of an answer.
pub(super) fn elements(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The first digits of a commit, as GitLab shows them.
pub(super) fn short(sha: &Value) -> &str {
    let sha = text(sha);
    sha.get(..8).unwrap_or(sha)
}

/// `acme/web!7`, or `acme/web@feature`.
pub(super) fn name(preview: &Value) -> String {
    let project = text(&preview["project_path"]);
    match preview["mr_iid"].as_u64() {
        Some(iid) => format!("{project}!{iid}"),
        None => format!("{project}@{}", text(&preview["branch"])),
    }
}
