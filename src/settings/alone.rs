//! What a verb needs that works alone in a CI job: the settings of `serve` that are about GitLab and clusters, from the job's
//! variables.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use super::address::{domain, gitlab_base, web_url};
use super::ci::{CiJob, Variables};
use super::cluster::{self, Access, Cluster};
use super::layer::environment_variable;
use super::{Projects, RATE, Rate, Reader, rate};
use crate::outgoing::Roots;
use crate::preview::{DEFAULT_CLUSTER, EngineKind};

/// What a verb needs that works without a server.
#[derive(Debug)]
pub struct AloneSettings {
    /// Who the job is.
    pub job: CiJob,
    /// The id that everything it makes carries.
    pub instance: String,
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
    /// `http` or `https`, of the preview's link.
    pub scheme: String,
    /// The port of the preview's link, when it is not the scheme's own.
    pub port: Option<u16>,
    /// Domain below which previews live, lower case.
    pub preview_domain: String,
    /// The clusters there are.
    pub clusters: Vec<Cluster>,
    /// What holds for the project.
    pub per_project: Projects,
    /// What the passwords of previews are derived from.
    pub password_key: Option<SecretString>,
    /// Largest archive of a repository in bytes.
    pub artifact_max_bytes: u64,
}

impl Reader {
    /// Reads all of it; what is missing is among the problems.
    pub(super) fn alone(&mut self, variables: &Variables) -> Option<AloneSettings> {
        let instance = self.instance();
        let gitlab_url = self.gitlab_url(variables);
        let gitlab_token = self.gitlab_token();
        let gitlab_timeout = self.duration("gitlab_timeout", Duration::from_secs(1));
        let gitlab_rate = self.parsed("gitlab_rate", RATE, rate::limit);
        let roots = self.roots();
        let per_project = Projects::new(&self.layers);
        let job = self.job(variables);
        let path = variables.ci_project_path.clone().unwrap_or_default();
        let preview_domain = self.preview_domain(&per_project, &path);
        let public_url = self.layers.get("public_url").filter(|value| value.origin != "default");
        let (scheme, port) = match public_url {
            None => (String::from("https"), None),
            Some(value) => {
                let url = self.parse(&value, "use `http://host[:port]` or `https://host[:port]`", web_url)?;
                (url.scheme().to_owned(), url.port())
            }
        };
        let clusters = self.kubeconfig();
        if variables.greenroom_engine == Some(EngineKind::Static) {
            let remedy = "set GREENROOM_SERVER (the include's input `server`) and let the job ask that";
            self.problem("GREENROOM_ENGINE", "is `static`, which a server's gateway serves", remedy);
        }
        let password_key = self.layers.get("password_key").map(|value| SecretString::from(value.text));
        let artifact_max_bytes = self.artifact_max_bytes();
        Some(AloneSettings {
            job: job?,
            instance: instance?,
            gitlab_url: gitlab_url?,
            gitlab_token: gitlab_token?,
            gitlab_timeout: gitlab_timeout?,
            gitlab_rate: gitlab_rate?,
            roots: roots?,
            scheme,
            port,
            preview_domain: preview_domain?,
            clusters: clusters?,
            per_project,
            password_key,
            artifact_max_bytes: artifact_max_bytes?,
        })
    }

    fn gitlab_url(&mut self, variables: &Variables) -> Option<Url> {
        let given = self.layers.get("gitlab_url").map(|value| value.text);
        let Some(text) = given.or_else(|| variables.ci_server_url.clone()) else {
            self.problem("CI_SERVER_URL", "is not set", "let GitLab set it, or set GREENROOM_GITLAB_URL");
            return None;
        };
        gitlab_base(&text)
            .map_err(|problem| {
                let problem = format!("`{text}` {problem}");
                self.problem("GREENROOM_GITLAB_URL", &problem, "use GitLab's base URL");
            })
            .ok()
    }

    fn preview_domain(&mut self, per_project: &Projects, path: &str) -> Option<String> {
        let value = self.layers.get("preview_domain")?;
        if value.origin == "default" && per_project.of(path).on_cluster.base_domain.value.is_none() {
            let remedy = "set it to the domain that has a wildcard record, such as `preview.example.com`";
            self.problem(&value.name, "is not set", remedy);
            return None;
        }
        self.parse(&value, "use a host name such as `preview.example.com`", domain)
    }

    /// The clusters that the job has a way to. Not the account of the runner's own pod, which nobody meant.
    fn kubeconfig(&mut self) -> Option<Vec<Cluster>> {
        let name = "KUBECONFIG";
        let tables = self.layers.clusters.clone();
        let given = self.layers.get("kubeconfig").map(|value| (value.text, value.origin));
        let given = given.or_else(|| Some((environment_variable(name)?, name.to_owned())));
        match given {
            None if tables.is_empty() => {
                let remedy = "give the job a kubeconfig as a CI/CD variable of the type file";
                self.problem(name, "is not set", remedy);
                None
            }
            None => Some(tables),
            Some((text, origin)) => {
                let remedy = "give the CI/CD variable the type file, which makes it a path";
                self.path_of_kubeconfig(&text, &origin, remedy)?;
                let mut clusters = cluster::with_default(tables, Some((text.clone(), origin)));
                let context = environment_variable("KUBE_CONTEXT");
                if let Some(default) = clusters.iter_mut().find(|cluster| cluster.name == DEFAULT_CLUSTER)
                    && context.is_some()
                {
                    default.access = Access::Kubeconfig { path: PathBuf::from(text), context };
                }
                Some(clusters)
            }
        }
    }
}
