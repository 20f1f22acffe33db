//! What a CI job's ID token says of it.

use serde::{Deserialize, Deserializer};

use crate::preview::{ProjectId, Sha};

/// The claims that count here. GitLab writes numbers as strings.
///
/// There is none that names a merge request, and `environment` is text from the branch's own `.gitlab-ci.yml`: it proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Claims {
    /// The project; in the pipeline of a fork's merge request the fork, wherever that runs.
    #[serde(deserialize_with = "number")]
    project_id: ProjectId,
    /// The project that runs the job; newer servers.
    #[serde(default, deserialize_with = "maybe_number")]
    job_project_id: Option<ProjectId>,
    /// The pipeline.
    #[serde(deserialize_with = "number")]
    pub pipeline_id: u64,
    /// The job.
    #[serde(deserialize_with = "number")]
    pub job_id: u64,
    /// The pipeline's commit: a temporary merge commit with merged results.
    pub sha: Sha,
    /// The source branch, or a tag.
    #[serde(rename = "ref")]
    pub reference: String,
    /// `branch` or `tag`.
    #[serde(default)]
    pub ref_type: String,
    /// What the job says its environment is.
    #[serde(default)]
    pub environment: Option<String>,
    /// What the job says it does with it.
    #[serde(default)]
    pub environment_action: Option<String>,
    /// Who started the job.
    #[serde(default)]
    pub user_login: String,
}

impl Claims {
    /// The project that runs the job.
    pub fn project(&self) -> ProjectId {
        self.job_project_id.unwrap_or(self.project_id)
    }

    /// Whether the job is that of a fork: it runs in one project for the sake of another.
    pub fn is_of_fork(&self) -> bool {
        self.project_id != self.project()
    }

    /// Whether GitLab itself records a deployment to this environment for the job. Only a hint, for who reads GitLab's pages.
    pub fn deploys_to(&self, environment: &str) -> bool {
        self.environment.as_deref() == Some(environment)
            && matches!(self.environment_action.as_deref(), None | Some("start"))
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Text(String),
    Plain(u64),
}

impl Number {
    fn value<E: serde::de::Error>(self) -> Result<u64, E> {
        match self {
            Self::Plain(number) => Ok(number),
            Self::Text(text) => text.parse().map_err(|_| E::custom("an id is no number")),
        }
    }
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    Number::deserialize(deserializer)?.value()
}

fn maybe_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Option::<Number>::deserialize(deserializer)?.map(Number::value).transpose()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(more: &serde_json::Value) -> Result<Claims, serde_json::Error> {
        let mut all = json!({
            "project_id": "42", "pipeline_id": "9", "job_id": "7", "sha": "a".repeat(40), "ref": "feature",
        });
        for (name, value) in more.as_object().unwrap() {
            all[name] = value.clone();
        }
        serde_json::from_value(all)
    }

    #[test]
    fn the_project_that_runs_the_job_counts_and_a_fork_is_told_from_it() {
        let own = claims(&json!({})).unwrap();
        assert_eq!((own.project(), own.is_of_fork()), (42, false));
        let newer = claims(&json!({ "job_project_id": "42" })).unwrap();
        assert_eq!((newer.project(), newer.is_of_fork()), (42, false));
        let fork = claims(&json!({ "project_id": "77", "job_project_id": 42 })).unwrap();
        assert_eq!((fork.project(), fork.is_of_fork()), (42, true));
    }

    #[test]
    fn what_is_no_id_or_no_commit_is_refused() {
        for wrong in [
            json!({ "project_id": "web" }),
            json!({ "pipeline_id": "-1" }),
            json!({ "job_id": null }),
            json!({ "job_project_id": "" }),
            json!({ "sha": "main" }),
        ] {
            assert!(claims(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn gitlab_records_a_deployment_for_a_job_that_starts_its_environment() {
        for (said, deploys) in [
            (json!({ "environment": "review/mr-7" }), true),
            (json!({ "environment": "review/mr-7", "environment_action": "start" }), true),
            (json!({ "environment": "review/mr-7", "environment_action": "prepare" }), false),
            (json!({ "environment": "review/mr-8" }), false),
            (json!({}), false),
        ] {
            assert_eq!(claims(&said).unwrap().deploys_to("review/mr-7"), deploys, "{said}");
        }
    }
}
