//! The operator's settings, read once at start. The only place that reads the environment.
//!
//! Layers, each winning over the one before: `templates/defaults.toml` (documented there, parsed here), the file given
//! with `--config`, `GREENROOM_*` variables, flags. All problems are reported together, each with name and remedy.

mod address;
mod alone;
mod browser;
mod ci;
mod cluster;
mod layer;
mod on_cluster;
mod problem;
mod project;
mod projects;
mod rate;
mod secret_file;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

pub use alone::AloneSettings;
pub use browser::browsers;
pub use ci::{CiJob, JobSettings, NO_SERVER, RenderedJob, ServerAccess, Way, job_settings, shows_colours};
pub use cluster::{Access, Cluster};
pub use layer::{DEFAULTS, Layer, Origin, search_path};
pub use on_cluster::{
    BaseDomain, Cidr, EgressRule, GatewayName, Label, Limits, OnCluster, PodSecurityLevel, Risk,
    SharedSecret, Span, Texts,
};
pub use problem::{Problem, Problems};
pub use project::{ProjectSettings, Projects, TokenFile};
pub use projects::ProjectFilter;
pub use rate::Rate;
pub use secret_file::{Secret, SecretFile};

use crate::outgoing::Roots;
use crate::preview::CommitStatusMode;
use address::{among_previews, below, domain, gitlab_base, web_url};
use layer::{Layers, Value};

/// What `serve` runs with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// How people reach the server.
    pub public_url: Url,
    /// Whom the ID tokens of CI jobs have to be meant for.
    pub job_audience: String,
    /// Where GitLab sends webhooks.
    pub webhook_url: Url,
    /// How often webhooks are looked at in GitLab; `None`: never.
    pub watch_webhooks: Option<Duration>,
    /// Domain below which previews live, lower case.
    pub preview_domain: String,
    /// GitLab's base URL.
    pub gitlab_url: Url,
    /// API token.
    pub gitlab_token: SecretString,
    /// The longest one call may take.
    pub gitlab_timeout: Duration,
    /// How many calls are made to GitLab in what time; none: no limit.
    pub gitlab_rate: Option<Rate>,
    /// Whose certificates are trusted besides the usual ones.
    pub roots: Roots,
    /// Webhook signing tokens.
    pub signing_tokens: Vec<SecretString>,
    /// Webhook secret tokens.
    pub secret_tokens: Vec<SecretString>,
    /// Folder for everything we keep.
    pub data_dir: PathBuf,
    /// Store URL.
    pub store_url: String,
    /// Which projects are served.
    pub projects: ProjectFilter,
    /// What holds for each of them.
    pub per_project: Projects,
    /// The clusters there are.
    pub clusters: Vec<Cluster>,
    /// How often everything is looked at.
    pub resync_interval: Duration,
    /// How long GitLab may not show a merge request before that is told.
    pub unseen_after: Duration,
    /// How long a removal that counts for the brake waits for others like it.
    pub brake_settle: Duration,
    /// Bearer token of the API.
    pub api_token: Option<SecretString>,
    /// Instance id, when it is set by hand.
    pub instance: Option<String>,
    /// What the passwords of previews are derived from, when it is set by hand.
    pub password_key: Option<SecretString>,
    /// How long delivery ids are kept.
    pub keep_deliveries: Duration,
    /// How long history is kept.
    pub keep_history: Duration,
    /// Largest artifact in bytes.
    pub artifact_max_bytes: u64,
    /// Whether log lines are JSON.
    pub log_json: bool,
    /// The secrets that were read from files of their own.
    pub secret_files: Vec<SecretFile>,
    /// What is allowed, but most likely not meant; one sentence each.
    pub warnings: Vec<String>,
}

/// Checks a signing token's form without keeping it; the message never contains the token.
pub type TokenCheck = fn(&str) -> Result<(), String>;

/// How a rate is written.
const RATE: &str = "use `20/s`, `600/m` and so on, or `off`";

/// Collects problems while values are read.
struct Reader {
    layers: Layers,
    problems: Vec<Problem>,
}

impl Settings {
    /// Whether the environment says anything about GitLab or webhooks, so that it is meant for `serve`. In a job of GitLab CI what
    /// is said about GitLab is meant for the job, which may work alone.
    pub fn are_given() -> bool {
        let of_gitlab = if ci::is_job() { [].as_slice() } else { &["gitlab_url", "gitlab_token"] };
        ["webhook_signing_token", "webhook_secret_token"]
            .iter()
            .chain(of_gitlab)
            .map(|key| layer::variable(key))
            .any(|name| {
                let file = format!("{name}_FILE");
                layer::environment_variable(&name).or_else(|| layer::environment_variable(&file)).is_some()
            })
    }

    /// Reads all layers.
    ///
    /// `config` is the file given with `--config`, `flags` what was given on the command line.
    pub fn load(
        config: Option<&Path>,
        flags: Layer,
        check_signing_token: TokenCheck,
    ) -> Result<Self, Problems> {
        Self::inspect(config, flags, check_signing_token).1
    }

    /// As [`Self::load`], with what can be told of projects whatever else is wrong.
    pub fn inspect(
        config: Option<&Path>,
        flags: Layer,
        check_signing_token: TokenCheck,
    ) -> (Projects, Result<Self, Problems>) {
        let mut problems = Vec::new();
        let layers = Layers::read(config, flags, &mut problems);
        let projects = Projects::new(&layers);
        let mut reader = Reader { layers, problems };
        let settings = match reader.settings(check_signing_token, &projects) {
            Some(settings) if reader.problems.is_empty() => Ok(settings),
            _ => Err(Problems(reader.problems)),
        };
        (projects, settings)
    }

    /// What holds for the project with this path.
    pub fn project(&self, path: &str) -> ProjectSettings {
        self.per_project.of(path)
    }
}

/// What a verb needs that asks a running server.
#[derive(Debug)]
pub struct ClientSettings {
    /// Its address, from the flag, else `GREENROOM_SERVER`.
    pub server: Url,
    /// The API token.
    pub token: Option<SecretString>,
    /// Whose certificates are trusted besides the usual ones.
    pub roots: Roots,
}

/// Reads what a verb needs that asks a running server; `server` is what the flag says. Where nobody names a server it is
/// `default`, else this machine's; where the environment has no token it is `token`.
pub fn client_settings(
    server: Option<Url>,
    default: Option<Url>,
    token: Option<SecretString>,
) -> Result<ClientSettings, Problems> {
    let mut problems = Vec::new();
    let layers = Layers::read(None, Layer::default(), &mut problems);
    let mut reader = Reader { layers, problems };
    let given = layer::environment_variable("GREENROOM_SERVER").map(|text| {
        let name = String::from("GREENROOM_SERVER");
        Value { origin: name.clone(), name, text, file: None }
    });
    let server = match (server, given) {
        (Some(server), _) => Some(server),
        (None, Some(value)) => {
            reader.parse(&value, "use the base URL of a running greenroom", ci::server_url)
        }
        (None, None) => default.or_else(|| Url::parse("http://localhost:8080").ok()),
    };
    let token = reader.layers.get("api_token").as_ref().map(self::token).or(token);
    let roots = reader.roots();
    match (server, roots) {
        (Some(mut server), Some(roots)) if reader.problems.is_empty() => {
            if !server.path().ends_with('/') {
                server.set_path(&format!("{}/", server.path()));
            }
            Ok(ClientSettings { server, token, roots })
        }
        _ => Err(Problems(reader.problems)),
    }
}

/// Where a server on this machine listens that was started with the same file and environment.
pub fn listen_address(config: Option<&Path>) -> Result<SocketAddr, Problems> {
    let mut problems = Vec::new();
    let layers = Layers::read(config, Layer::default(), &mut problems);
    let mut reader = Reader { layers, problems };
    reader.listen().ok_or(Problems(reader.problems))
}

impl Reader {
    fn listen(&mut self) -> Option<SocketAddr> {
        self.parsed("listen", "use an address and a port, such as `127.0.0.1:8080`", |text| {
            text.parse().map_err(|_| String::from("is no socket address"))
        })
    }

    fn settings(&mut self, check_signing_token: TokenCheck, per_project: &Projects) -> Option<Settings> {
        let listen = self.listen();
        let public_url =
            self.parsed("public_url", "use `http://host[:port]` or `https://host[:port]`", web_url);
        let preview_domain =
            self.parsed("preview_domain", "use a host name such as `preview.example.com`", domain);
        let gitlab_url =
            self.required("gitlab_url", "set it to GitLab's base URL, such as `https://gitlab.example.com`");
        let gitlab_url =
            gitlab_url.and_then(|value| self.parse(&value, "use GitLab's base URL", gitlab_base));
        let gitlab_token = self.gitlab_token();
        let gitlab_timeout = self.duration("gitlab_timeout", Duration::from_secs(1));
        let gitlab_rate = self.parsed("gitlab_rate", RATE, rate::limit);
        let roots = self.roots();
        let signing = self.layers.get("webhook_signing_token");
        let mut signing_tokens = Vec::new();
        for token in signing.iter().flat_map(Value::list) {
            if let Err(problem) = check_signing_token(&token) {
                let remedy = "copy the signing token from the webhook's page in GitLab, `whsec_…`";
                self.problem(
                    signing.as_ref().map_or("webhook_signing_token", |value| &value.name),
                    &problem,
                    remedy,
                );
            }
            signing_tokens.push(SecretString::from(token));
        }
        let secret_tokens: Vec<SecretString> = self
            .layers
            .get("webhook_secret_token")
            .iter()
            .flat_map(Value::list)
            .map(SecretString::from)
            .collect();
        if signing_tokens.is_empty() && secret_tokens.is_empty() {
            self.problem(
                "GREENROOM_WEBHOOK_SIGNING_TOKEN",
                "no webhook token is set, so nobody could prove to be GitLab",
                "set the signing token of the webhook (GitLab 19.0 and newer), or GREENROOM_WEBHOOK_SECRET_TOKEN",
            );
        }
        let data_dir = self
            .required("data_dir", "set it to a folder that can be written")
            .map(|v| PathBuf::from(v.text));
        let store_url = self.layers.get("store_url");
        if let Some(value) = &store_url
            && !["sqlite:", "postgres:", "postgresql:"].iter().any(|scheme| value.text.starts_with(scheme))
        {
            let remedy = "use `sqlite:///path/to/file?mode=rwc` or `postgres://user@host/database`";
            self.problem(&value.name, "names neither SQLite nor PostgreSQL", remedy);
        }
        let projects = match self.layers.get("projects") {
            None => Some(ProjectFilter::default()),
            Some(value) => self.parse(&value, "use globs such as `acme/web` or `acme/**`", |_| {
                ProjectFilter::new(&value.list())
            }),
        };
        let resync_interval = self.duration("resync_interval", Duration::from_secs(1));
        let unseen_after = self.duration("unseen_after", Duration::from_secs(1));
        let brake_settle = self.duration("brake_settle", Duration::from_secs(1));
        let commit_status = self.parsed("commit_status", "use `off`, `info` or `required`", |text| {
            text.parse::<CommitStatusMode>().map_err(|error| error.to_string())
        });
        let keep_deliveries = self.duration("keep_deliveries", Duration::from_mins(1));
        let keep_history = self.duration("keep_history", Duration::from_mins(1));
        let artifact_max_bytes = self.artifact_max_bytes();
        let log_json = self.parsed("log_format", "use `text` or `json`", |text| match text {
            "text" => Ok(false),
            "json" => Ok(true),
            _ => Err(String::from("is no log format")),
        });
        let instance = self.instance();
        let clusters = self.clusters().unwrap_or_default();
        let secret_files = self.secret_files(per_project, &clusters);
        let webhook_url = match self.layers.get("webhook_url") {
            None => public_url.as_ref().and_then(|url| below(url, "webhooks/gitlab")),
            Some(value) => {
                self.parse(&value, "use an address such as `https://host/webhooks/gitlab`", web_url)
            }
        };
        let watch = self.layers.get("watch_webhooks").is_none_or(|value| value.text != "off");
        let watch_webhooks = if watch {
            self.duration("watch_webhooks", Duration::from_secs(1)).map(Some)
        } else {
            Some(None)
        };
        let data_dir = data_dir?;
        let public = public_url.as_ref().map(|url| url.as_str().trim_end_matches('/').to_owned());
        let job_audience = self.layers.get("job_audience").map(|value| value.text).or(public);
        let urls = [
            ("GREENROOM_PUBLIC_URL", public_url.as_ref()?),
            ("GREENROOM_WEBHOOK_URL", webhook_url.as_ref()?),
        ];
        let mut warnings = self.warnings(listen?, urls[0].1);
        warnings.extend(among_previews(preview_domain.as_ref()?, &urls));
        Some(Settings {
            listen: listen?,
            public_url: public_url?,
            job_audience: job_audience?,
            webhook_url: webhook_url?,
            watch_webhooks: watch_webhooks?,
            preview_domain: preview_domain?,
            gitlab_url: gitlab_url?,
            gitlab_token: gitlab_token?,
            gitlab_timeout: gitlab_timeout?,
            gitlab_rate: gitlab_rate?,
            roots: roots?,
            signing_tokens,
            secret_tokens,
            store_url: store_url.map_or_else(
                || format!("sqlite://{}?mode=rwc", data_dir.join("greenroom.db").display()),
                |v| v.text,
            ),
            data_dir,
            projects: projects?,
            per_project: commit_status.map(|_| per_project.clone())?,
            clusters,
            resync_interval: resync_interval?,
            unseen_after: unseen_after?,
            brake_settle: brake_settle?,
            api_token: self.layers.get("api_token").as_ref().map(token),
            instance,
            password_key: self.layers.get("password_key").map(|value| SecretString::from(value.text)),
            keep_deliveries: keep_deliveries?,
            keep_history: keep_history?,
            artifact_max_bytes: artifact_max_bytes?,
            log_json: log_json?,
            secret_files,
            warnings,
        })
    }

    fn gitlab_token(&mut self) -> Option<SecretString> {
        self.required("gitlab_token", "create an access token with scope `api` and role Developer")
            .map(|value| token(&value))
    }

    fn artifact_max_bytes(&mut self) -> Option<u64> {
        self.parsed("artifact_max_mib", "use a whole number of MiB, from 1 up", |text| {
            let mib: u64 = text.parse().map_err(|_| String::from("is no whole number"))?;
            mib.checked_mul(1 << 20).filter(|bytes| *bytes > 0).ok_or_else(|| String::from("is out of range"))
        })
    }

    fn instance(&mut self) -> Option<String> {
        let value = self.layers.get("instance")?;
        self.parse(&value, "use 1 to 63 of `a-z`, `0-9` and `-`", |text| {
            let label = crate::preview::valid_dns_label(text);
            if label { Ok(text.to_owned()) } else { Err(String::from("is no valid id")) }
        })
    }

    fn roots(&mut self) -> Option<Roots> {
        let Some(value) = self.layers.get("ca_file") else { return Some(Roots::default()) };
        self.parse(&value, "give the path of a readable PEM file of certificates", |path| {
            let pem = std::fs::read(path).map_err(|error| format!("cannot be read ({error})"))?;
            Roots::from_pem(&pem)
        })
    }

    fn secret_files(&self, per_project: &Projects, clusters: &[Cluster]) -> Vec<SecretFile> {
        let secrets = [
            ("gitlab_token", Secret::GitLabToken),
            ("webhook_signing_token", Secret::SigningTokens),
            ("webhook_secret_token", Secret::SecretTokens),
            ("api_token", Secret::ApiToken),
        ];
        let file = |(key, secret)| {
            let value = self.layers.get(key)?;
            Some(SecretFile::new(secret, format!("{}_FILE", layer::variable(key)), &value.file?, &value.text))
        };
        let of_tables = per_project.token_files().enumerate().map(|(i, (_, given))| {
            let TokenFile { path, token } = &given.value;
            SecretFile::new(Secret::ProjectToken(i), given.origin.clone(), path, token.expose_secret())
        });
        let of_clusters = clusters.iter().filter_map(|cluster| Some((&*cluster.origin, cluster.secret()?)));
        let shared = per_project.shared_secrets().chain(of_clusters);
        let shared = shared.enumerate().map(|(i, (origin, secret))| {
            SecretFile::new(
                Secret::OnCluster(i),
                origin.to_owned(),
                secret.path(),
                secret.text().expose_secret(),
            )
        });
        secrets.into_iter().filter_map(file).chain(of_tables).chain(shared).collect()
    }

    fn warnings(&self, listen: SocketAddr, public_url: &Url) -> Vec<String> {
        let unknown = self.layers.unknown.iter();
        let mut warnings: Vec<String> = unknown
            .map(|name| format!("{name} is no setting and is ignored; see `greenroom defaults`"))
            .collect();
        let local = matches!(public_url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        if local && listen.port() != 0 && public_url.port_or_known_default() != Some(listen.port()) {
            warnings.push(format!(
                "preview links will lead to {public_url}, but greenroom listens on {listen}; set GREENROOM_PUBLIC_URL"
            ));
        }
        warnings
    }

    fn problem(&mut self, name: &str, problem: &str, remedy: &str) {
        self.problems.push(Problem {
            name: name.to_owned(),
            problem: problem.to_owned(),
            remedy: remedy.to_owned(),
        });
    }

    fn required(&mut self, key: &'static str, remedy: &str) -> Option<Value> {
        let value = self.layers.get(key);
        if value.is_none() {
            self.problem(&layer::variable(key), "is not set", remedy);
        }
        value
    }

    fn parsed<T>(
        &mut self,
        key: &'static str,
        remedy: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.required(key, remedy)?;
        self.parse(&value, remedy, parse)
    }

    fn parse<T>(
        &mut self,
        value: &Value,
        remedy: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match parse(&value.text) {
            Ok(parsed) => Some(parsed),
            Err(problem) => {
                // A password in a URL is a secret, even where it does not belong.
                let shown = if value.text.contains('@') { "the value" } else { &format!("`{}`", value.text) };
                self.problem(&value.name, &format!("{shown} {problem}"), remedy);
                None
            }
        }
    }

    fn duration(&mut self, key: &'static str, least: Duration) -> Option<Duration> {
        self.parsed(key, "use a duration such as `30s`, `5m` or `8d`", |text| {
            let span: jiff::Span = text.parse().map_err(|_| String::from("is no duration"))?;
            let exact = span
                .to_duration(jiff::SpanRelativeTo::days_are_24_hours())
                .map_err(|_| String::from("has no fixed length"))?;
            let length = Duration::try_from(exact).map_err(|_| String::from("is negative"))?;
            if length < least {
                return Err(format!("is shorter than {} s", least.as_secs()));
            }
            Ok(length)
        })
    }
}

/// A token as it is sent: a variable may have got the end of the line that it was copied with, which no header can hold.
fn token(value: &Value) -> SecretString {
    SecretString::from(value.text.trim())
}

#[cfg(test)]
mod tests;
