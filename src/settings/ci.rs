//! What a job of GitLab CI is told by its environment.

use secrecy::SecretString;
use serde::Deserialize;
use url::Url;

use super::address::web_url;
use super::layer::{Layer, Layers, environment_variables};
use super::{Problems, Reader};
use crate::outgoing::Roots;

/// What a verb needs that runs in a job and asks a server.
#[derive(Debug)]
pub struct JobSettings {
    /// The server.
    pub server: Url,
    /// Who the job is, as GitLab signed it.
    pub id_token: SecretString,
    /// Whose certificates are trusted besides the usual ones.
    pub roots: Roots,
    /// The merge requests that the job says it is for; the server asks GitLab whether that is so.
    pub merge_requests: Vec<u64>,
    /// Whether the pipeline is that of a merge train, whose commit gets no preview.
    pub merge_train: bool,
    /// Whether GitLab shows what is printed.
    pub in_gitlab: bool,
    /// Whether colours are not wanted.
    pub no_color: bool,
}

/// The variables as they are set. An empty one counts as not set.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Variables {
    greenroom_server: Option<String>,
    greenroom_id_token: Option<String>,
    gitlab_ci: Option<String>,
    no_color: Option<String>,
    ci_project_id: Option<u64>,
    ci_project_path: Option<String>,
    ci_merge_request_iid: Option<u64>,
    ci_merge_request_project_id: Option<u64>,
    ci_merge_request_event_type: Option<String>,
    ci_open_merge_requests: Option<String>,
}

impl Variables {
    fn read() -> Result<Self, envy::Error> {
        envy::from_iter(environment_variables().filter(|(_, value)| !value.trim().is_empty()))
    }

    /// The merge request of a merge request pipeline, else those that GitLab knows of the branch.
    fn merge_requests(&self) -> Vec<u64> {
        if let Some(iid) = self.ci_merge_request_iid {
            return vec![iid];
        }
        let of_project = |reference: &str| {
            let (path, iid) = reference.trim().rsplit_once('!')?;
            let own = self.ci_project_path.as_ref().is_none_or(|own| own.eq_ignore_ascii_case(path));
            own.then(|| iid.parse().ok()).flatten()
        };
        self.ci_open_merge_requests.iter().flat_map(|all| all.split(',')).filter_map(of_project).collect()
    }
}

/// Reads what a verb needs that runs in a job; `server` and `merge_request` are what the flags say.
pub fn job_settings(server: Option<Url>, merge_request: Option<u64>) -> Result<JobSettings, Problems> {
    let mut problems = Vec::new();
    let layers = Layers::read(None, Layer::default(), &mut problems);
    let mut reader = Reader { layers, problems };
    let variables = Variables::read().unwrap_or_else(|error| {
        reader.problem("the job's variables", &format!("cannot be read ({error})"), "let GitLab set `CI_*`");
        Variables::default()
    });
    let server = match (server, &variables.greenroom_server) {
        (Some(server), _) => Some(server),
        (None, Some(text)) => web_url(text)
            .map_err(|problem| {
                let problem = format!("`{text}` {problem}");
                reader.problem("GREENROOM_SERVER", &problem, "use the base URL of a running greenroom");
            })
            .ok(),
        (None, None) => {
            let remedy = "set it to the base URL of your greenroom, or give the include the input `server`";
            reader.problem("GREENROOM_SERVER", "is not set", remedy);
            None
        }
    };
    let id_token = variables.greenroom_id_token.clone().map(SecretString::from);
    if id_token.is_none() {
        let remedy =
            "give the job `id_tokens: {GREENROOM_ID_TOKEN: {aud: <the server's URL>}}`, as the include does";
        reader.problem("GREENROOM_ID_TOKEN", "is not set", remedy);
    }
    let roots = reader.roots();
    let fork = variables.ci_merge_request_project_id.zip(variables.ci_project_id);
    if fork.is_some_and(|(target, own)| target != own) {
        reader.problem(
            "CI_MERGE_REQUEST_PROJECT_ID",
            "is another project than the job's: a fork's pipeline deploys nothing",
            "let the job run in the target project's own merge requests only",
        );
    }
    match (server, id_token, roots) {
        (Some(mut server), Some(id_token), Some(roots)) if reader.problems.is_empty() => {
            if !server.path().ends_with('/') {
                server.set_path(&format!("{}/", server.path()));
            }
            Ok(JobSettings {
                server,
                id_token,
                roots,
                merge_requests: merge_request.map_or_else(|| variables.merge_requests(), |iid| vec![iid]),
                merge_train: variables.ci_merge_request_event_type.as_deref() == Some("merge_train"),
                in_gitlab: variables.gitlab_ci.as_deref() == Some("true"),
                no_color: variables.no_color.is_some(),
            })
        }
        _ => Err(Problems(reader.problems)),
    }
}

/// Whether colours are shown on a stdout that is a terminal or not: GitLab shows those of a job too.
pub fn shows_colours(is_terminal: bool) -> bool {
    let Variables { gitlab_ci, no_color, .. } = Variables::read().unwrap_or_default();
    (is_terminal || gitlab_ci.as_deref() == Some("true")) && no_color.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Vec<u64> {
        let given = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        envy::from_iter::<_, Variables>(given).unwrap().merge_requests()
    }

    #[test]
    fn the_merge_request_is_that_of_the_pipeline_or_those_of_the_branch() {
        assert_eq!(of(&[]), Vec::<u64>::new());
        assert_eq!(of(&[("CI_MERGE_REQUEST_IID", "7"), ("CI_OPEN_MERGE_REQUESTS", "acme/web!9")]), [7]);
        let open = ("CI_OPEN_MERGE_REQUESTS", "acme/web!16,acme/other!3, acme/web!17,nonsense");
        assert_eq!(of(&[open, ("CI_PROJECT_PATH", "acme/web")]), [16, 17]);
    }
}
