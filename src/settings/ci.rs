//! What a job of GitLab CI is told by its environment.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;
use url::Url;

use super::address::web_url;
use super::layer::{Layer, Layers, environment_variable, environment_variables};
use super::{AloneSettings, Problems, Reader};
use crate::outgoing::Roots;
use crate::preview::{EngineKind, Sha, merge_request_of_environment};

/// What a verb needs that runs in a job.
#[derive(Debug)]
pub struct JobSettings {
    /// Who does the work.
    pub way: Way,
    /// The merge requests that the job says it is for; GitLab is asked whether that is so.
    pub merge_requests: Vec<u64>,
    /// The engine that the job is for, where that is known.
    pub engine: Option<EngineKind>,
    /// How long the job waits for what it asked for, unless a flag says otherwise.
    pub patience: Duration,
    /// Whether the pipeline is that of a merge train, whose commit gets no preview.
    pub merge_train: bool,
    /// Whether GitLab shows what is printed.
    pub in_gitlab: bool,
    /// Whether colours are not wanted.
    pub no_color: bool,
}

/// Who does what a job asks for.
#[derive(Debug)]
pub enum Way {
    /// A server.
    Server(ServerAccess),
    /// The job itself.
    Alone(Box<AloneSettings>),
}

/// How a job asks a server.
#[derive(Debug)]
pub struct ServerAccess {
    /// The server.
    pub server: Url,
    /// Who the job is, as GitLab signed it.
    pub id_token: SecretString,
    /// Whose certificates are trusted besides the usual ones.
    pub roots: Roots,
}

/// Who a job is, as GitLab's variables tell it.
#[derive(Debug, Clone)]
pub struct CiJob {
    /// The project that runs it.
    pub project_id: u64,
    /// That project's path.
    pub project_path: String,
    /// Its pipeline.
    pub pipeline_id: u64,
    /// The job.
    pub job_id: u64,
    /// The pipeline's commit.
    pub sha: Sha,
    /// The source branch, or a tag.
    pub reference: String,
    /// Whether it is a tag.
    pub is_tag: bool,
    /// Its environment.
    pub environment: Option<String>,
    /// What it does with that, where it says so.
    pub environment_action: Option<String>,
    /// Whether its pipeline is one merge request's own.
    pub of_merge_request: bool,
}

/// What a job's variables say of what it would render; outside of jobs nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct RenderedJob {
    /// The pipeline's commit.
    pub ci_commit_sha: Option<String>,
    /// The source branch.
    pub ci_commit_ref_name: Option<String>,
    /// The branch, in a branch pipeline.
    pub ci_commit_branch: Option<String>,
    /// The branch's open merge requests, in a branch pipeline.
    pub ci_open_merge_requests: Option<String>,
    /// The merge request's number.
    pub ci_merge_request_iid: Option<u64>,
    /// Its title.
    pub ci_merge_request_title: Option<String>,
    /// Its head, where the pipeline's commit is another.
    pub ci_merge_request_source_branch_sha: Option<String>,
    /// The project's id.
    pub ci_project_id: Option<u64>,
    /// The project's path.
    pub ci_project_path: Option<String>,
    /// The project's image in the registry.
    pub ci_registry_image: Option<String>,
}

impl RenderedJob {
    /// As the environment has it.
    pub fn read() -> Self {
        let variables = environment_variables().filter(|(_, value)| !value.trim().is_empty());
        envy::from_iter(variables).unwrap_or_default()
    }
}

/// What `GREENROOM_SERVER` says where there is none: the include's input always has a value.
pub const NO_SERVER: &str = "none";

/// The server that is to be asked, whoever asks.
pub(super) fn server_url(text: &str) -> Result<Url, String> {
    match text {
        NO_SERVER => {
            Err(String::from("stands for no server: this job does the work itself, and has nobody to ask"))
        }
        text => web_url(text),
    }
}

/// The variables as they are set. An empty one counts as not set.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Variables {
    greenroom_server: Option<String>,
    greenroom_id_token: Option<String>,
    greenroom_instance: Option<String>,
    pub(super) greenroom_engine: Option<EngineKind>,
    greenroom_config: Option<PathBuf>,
    no_color: Option<String>,
    pub(super) ci_server_url: Option<String>,
    ci_project_id: Option<u64>,
    pub(super) ci_project_path: Option<String>,
    ci_pipeline_id: Option<u64>,
    ci_job_id: Option<u64>,
    ci_job_timeout: Option<u64>,
    ci_commit_sha: Option<String>,
    ci_commit_ref_name: Option<String>,
    ci_commit_tag: Option<String>,
    ci_environment_name: Option<String>,
    ci_environment_action: Option<String>,
    ci_merge_request_iid: Option<u64>,
    ci_merge_request_project_id: Option<u64>,
    ci_merge_request_event_type: Option<String>,
    ci_open_merge_requests: Option<String>,
}

impl Variables {
    fn read() -> Result<Self, envy::Error> {
        envy::from_iter(environment_variables().filter(|(_, value)| !value.trim().is_empty()))
    }

    /// An hour, unless GitLab ends the job before: what it leaves behind takes a moment.
    fn patience(&self) -> Duration {
        let left = self.ci_job_timeout.map_or(u64::MAX, |timeout| timeout.saturating_sub(120).max(60));
        Duration::from_secs(left.min(3_600))
    }

    /// The merge request of a merge request pipeline, else those that GitLab knows of the branch, else the one that the job's
    /// environment is for: it outlives the merge request in the list of the branch.
    fn merge_requests(&self) -> Vec<u64> {
        if let Some(iid) = self.ci_merge_request_iid {
            return vec![iid];
        }
        let of_project = |reference: &str| {
            let (path, iid) = reference.trim().rsplit_once('!')?;
            let own = self.ci_project_path.as_ref().is_none_or(|own| own.eq_ignore_ascii_case(path));
            own.then(|| iid.parse().ok()).flatten()
        };
        let open = self.ci_open_merge_requests.iter().flat_map(|all| all.split(',')).filter_map(of_project);
        let open: Vec<_> = open.collect();
        if open.is_empty() {
            return self
                .ci_environment_name
                .as_deref()
                .and_then(merge_request_of_environment)
                .into_iter()
                .collect();
        }
        open
    }
}

/// Reads what a verb needs that runs in a job; the arguments are what the flags say.
pub fn job_settings(
    server: Option<Url>,
    merge_request: Option<u64>,
    config: Option<PathBuf>,
) -> Result<JobSettings, Problems> {
    let mut problems = Vec::new();
    let read = Variables::read();
    let config = config.or_else(|| read.as_ref().ok()?.greenroom_config.clone());
    let layers = Layers::read(config.as_deref(), Layer::default(), &mut problems);
    let mut reader = Reader { layers, problems };
    let variables = match read {
        Ok(variables) => variables,
        // Nothing else can be said: all others would seem not to be set.
        Err(error) => {
            let problem = format!("cannot be read ({error})");
            reader.problem("the job's variables", &problem, "let GitLab set `CI_*`");
            return Err(Problems(reader.problems));
        }
    };
    let named = variables.greenroom_server.as_deref().filter(|text| *text != NO_SERVER);
    let way = if server.is_none() && named.is_none() && variables.greenroom_instance.is_some() {
        reader.alone(&variables).map(|settings| Way::Alone(Box::new(settings)))
    } else {
        reader.server(server, named, &variables).map(Way::Server)
    };
    let fork = variables.ci_merge_request_project_id.zip(variables.ci_project_id);
    if fork.is_some_and(|(target, own)| target != own) {
        reader.problem(
            "CI_MERGE_REQUEST_PROJECT_ID",
            "is another project than the job's: a fork's pipeline deploys nothing",
            "let the job run in the target project's own merge requests only",
        );
    }
    match way {
        Some(way) if reader.problems.is_empty() => Ok(JobSettings {
            way,
            merge_requests: merge_request.map_or_else(|| variables.merge_requests(), |iid| vec![iid]),
            engine: variables.greenroom_engine,
            patience: variables.patience(),
            merge_train: variables.ci_merge_request_event_type.as_deref() == Some("merge_train"),
            in_gitlab: is_job(),
            no_color: variables.no_color.is_some(),
        }),
        _ => Err(Problems(reader.problems)),
    }
}

/// Whether this is a job of GitLab CI.
pub(super) fn is_job() -> bool {
    environment_variable("GITLAB_CI").as_deref() == Some("true")
}

/// Whether colours are shown on a stdout that is a terminal or not: GitLab shows those of a job too.
pub fn shows_colours(is_terminal: bool) -> bool {
    (is_terminal || is_job()) && environment_variable("NO_COLOR").is_none()
}

impl Reader {
    fn server(
        &mut self,
        flag: Option<Url>,
        named: Option<&str>,
        variables: &Variables,
    ) -> Option<ServerAccess> {
        let server = match (flag, named) {
            (Some(server), _) => Some(server),
            (None, Some(text)) => web_url(text)
                .map_err(|problem| {
                    let problem = format!("`{text}` {problem}");
                    self.problem("GREENROOM_SERVER", &problem, "use the base URL of a running greenroom");
                })
                .ok(),
            (None, None) => {
                let remedy = "set it to the base URL of your greenroom (the include's input `server`), or \
                              GREENROOM_INSTANCE (the input `instance`) for a job that does the work itself";
                self.problem("GREENROOM_SERVER", "is not set", remedy);
                None
            }
        };
        let id_token = variables.greenroom_id_token.as_deref().map(|token| SecretString::from(token.trim()));
        if id_token.is_none() {
            let remedy = "give the job `id_tokens: {GREENROOM_ID_TOKEN: {aud: <the server's URL>}}`, as the include does";
            self.problem("GREENROOM_ID_TOKEN", "is not set", remedy);
        }
        let roots = self.roots();
        let mut server = server?;
        if !server.path().ends_with('/') {
            server.set_path(&format!("{}/", server.path()));
        }
        Some(ServerAccess { server, id_token: id_token?, roots: roots? })
    }

    /// Who the job is; what GitLab has not set is among the problems.
    pub(super) fn job(&mut self, variables: &Variables) -> Option<CiJob> {
        let sha = variables.ci_commit_sha.as_deref().and_then(Sha::parse);
        let path = variables.ci_project_path.clone();
        for (name, is_set) in [
            ("CI_PROJECT_ID", variables.ci_project_id.is_some()),
            ("CI_PROJECT_PATH", path.is_some()),
            ("CI_PIPELINE_ID", variables.ci_pipeline_id.is_some()),
            ("CI_JOB_ID", variables.ci_job_id.is_some()),
            ("CI_COMMIT_SHA", sha.is_some()),
            ("CI_COMMIT_REF_NAME", variables.ci_commit_ref_name.is_some()),
        ] {
            if !is_set {
                self.problem(name, "is not set", "run it in a job of GitLab CI, which sets it");
            }
        }
        Some(CiJob {
            project_id: variables.ci_project_id?,
            project_path: path?,
            pipeline_id: variables.ci_pipeline_id?,
            job_id: variables.ci_job_id?,
            sha: sha?,
            reference: variables.ci_commit_ref_name.clone()?,
            is_tag: variables.ci_commit_tag.is_some(),
            environment: variables.ci_environment_name.clone(),
            environment_action: variables.ci_environment_action.clone(),
            of_merge_request: variables.ci_merge_request_iid.is_some(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Vec<u64> {
        let given = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        envy::from_iter::<_, Variables>(given).unwrap().merge_requests()
    }

    #[test]
    fn a_job_stops_waiting_before_gitlab_ends_it() {
        for (timeout, seconds) in
            [(None, 3_600), (Some("3600"), 3_480), (Some("90"), 60), (Some("86400"), 3_600)]
        {
            let given = timeout.map(|timeout| ("CI_JOB_TIMEOUT".to_owned(), timeout.to_owned()));
            let variables: Variables = envy::from_iter(given).unwrap();
            assert_eq!(variables.patience(), Duration::from_secs(seconds), "{timeout:?}");
        }
    }

    #[test]
    fn the_merge_request_is_that_of_the_pipeline_or_those_of_the_branch() {
        assert_eq!(of(&[]), Vec::<u64>::new());
        assert_eq!(of(&[("CI_MERGE_REQUEST_IID", "7"), ("CI_OPEN_MERGE_REQUESTS", "acme/web!9")]), [7]);
        let open = ("CI_OPEN_MERGE_REQUESTS", "acme/web!16,acme/other!3, acme/web!17,nonsense");
        assert_eq!(of(&[open, ("CI_PROJECT_PATH", "acme/web")]), [16, 17]);
        assert_eq!(of(&[("CI_ENVIRONMENT_NAME", "review/mr-9")]), [9]);
        assert_eq!(of(&[("CI_ENVIRONMENT_NAME", "review/feature")]), Vec::<u64>::new());
    }
}
