//! GitLab environments and the deployments in them.

use std::collections::BTreeSet;

use gitlab::api::common::SortOrder;
use gitlab::api::projects::deployments as endpoints;
use gitlab::api::projects::environments;
use http::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Call, Error, Forge, built, found};
use crate::preview::{ENVIRONMENT_PREFIX, JobStatus, ProjectId, Sha};

/// An environment's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EnvironmentState {
    /// In use.
    Available,
    /// A stop job runs.
    Stopping,
    /// Stopped.
    Stopped,
    /// A word that GitLab did not know when this was written.
    #[serde(other)]
    Unknown,
}

/// A GitLab environment.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Environment {
    /// Unique per GitLab instance.
    pub id: u64,
    /// Such as `review/mr-7`.
    pub name: String,
    /// In use or stopped.
    pub state: EnvironmentState,
    /// The link GitLab shows.
    pub external_url: Option<String>,
    /// Free text; ours names the instance that made it.
    pub description: Option<String>,
}

/// How a deployment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeploymentOutcome {
    /// It is served.
    Success,
    /// It never will be.
    Failed,
    /// A newer one took its place, or the merge request ended.
    Canceled,
}

impl From<DeploymentOutcome> for endpoints::DeploymentStatus {
    fn from(outcome: DeploymentOutcome) -> Self {
        match outcome {
            DeploymentOutcome::Success => Self::Success,
            DeploymentOutcome::Failed => Self::Failed,
            DeploymentOutcome::Canceled => Self::Canceled,
        }
    }
}

impl Forge {
    /// The environment with this id; `None` when GitLab does not show it.
    pub async fn environment(&self, project: ProjectId, id: u64) -> Result<Option<Environment>, Error> {
        let endpoint = environments::Environment::builder().project(project).environment(id).build();
        found(self.of(project).await?.get(built(endpoint)?).await)
    }

    /// The environment with this name, if there is one.
    pub async fn environment_by_name(
        &self,
        project: ProjectId,
        name: &str,
    ) -> Result<Option<Environment>, Error> {
        let endpoint = environments::Environments::builder().project(project).name(name).build();
        let all: Vec<Environment> = self.of(project).await?.all(built(endpoint)?).await?;
        Ok(all.into_iter().find(|environment| environment.name == name))
    }

    /// The ids of the environments in this state that have `search`, at least three characters, in their names.
    pub async fn environments_in(
        &self,
        project: ProjectId,
        state: EnvironmentState,
        search: &str,
    ) -> Result<BTreeSet<u64>, Error> {
        let state = match state {
            EnvironmentState::Stopping => environments::EnvironmentState::Stopping,
            EnvironmentState::Stopped => environments::EnvironmentState::Stopped,
            EnvironmentState::Available | EnvironmentState::Unknown => {
                environments::EnvironmentState::Available
            }
        };
        let endpoint =
            environments::Environments::builder().project(project).search(search).states(state).build();
        let all: Vec<Environment> = self.of(project).await?.all(built(endpoint)?).await?;
        Ok(all.into_iter().map(|environment| environment.id).collect())
    }

    /// The project's environments whose names look like ours, in every state.
    pub async fn review_environments(&self, project: ProjectId) -> Result<Vec<Environment>, Error> {
        let endpoint =
            environments::Environments::builder().project(project).search(ENVIRONMENT_PREFIX).build();
        self.of(project).await?.all(built(endpoint)?).await
    }

    /// Creates an environment; `None` when the name is taken.
    pub async fn create_environment(
        &self,
        project: ProjectId,
        name: &str,
        url: &str,
        description: &str,
    ) -> Result<Option<Environment>, Error> {
        let call = Call {
            method: Method::POST,
            path: format!("projects/{project}/environments"),
            form: vec![
                ("name", name.to_owned()),
                ("external_url", url.to_owned()),
                ("description", description.to_owned()),
                ("tier", String::from("development")),
            ],
        };
        match self.of(project).await?.get(call).await {
            Ok(environment) => Ok(Some(environment)),
            Err(error) if error.status() == Some(400) && error.message().contains("taken") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sets an environment's link and description.
    pub async fn update_environment(
        &self,
        project: ProjectId,
        id: u64,
        url: &str,
        description: &str,
    ) -> Result<(), Error> {
        self.of(project)
            .await?
            .send(Call {
                method: Method::PUT,
                path: format!("projects/{project}/environments/{id}"),
                form: vec![("external_url", url.to_owned()), ("description", description.to_owned())],
            })
            .await
    }

    /// Stops an environment without running any job; the state it then has, `None` when GitLab does not show it.
    ///
    /// GitLab answers 200 also when nothing was stopped: read the state.
    pub async fn stop_environment(
        &self,
        project: ProjectId,
        id: u64,
    ) -> Result<Option<EnvironmentState>, Error> {
        let call = Call {
            method: Method::POST,
            path: format!("projects/{project}/environments/{id}/stop"),
            form: vec![("force", String::from("true"))],
        };
        let stopped: Option<Environment> = found(self.of(project).await?.get(call).await)?;
        Ok(stopped.map(|environment| environment.state))
    }

    /// Deletes a stopped environment and its deployments. One that is gone already is fine.
    pub async fn delete_environment(&self, project: ProjectId, id: u64) -> Result<(), Error> {
        let path = format!("projects/{project}/environments/{id}");
        found(self.of(project).await?.send(Call { method: Method::DELETE, path, form: Vec::new() }).await)
            .map(drop)
    }

    /// Records a running deployment; its id.
    pub async fn create_deployment(
        &self,
        project: ProjectId,
        environment: &str,
        sha: &Sha,
        reference: &str,
    ) -> Result<u64, Error> {
        #[derive(Deserialize)]
        struct Shape {
            id: u64,
        }
        let endpoint = endpoints::CreateDeployment::builder()
            .project(project)
            .environment(environment)
            .sha(sha.as_str())
            .ref_(reference)
            .tag(false)
            .status(endpoints::DeploymentStatus::Running)
            .build();
        let shape: Shape = self.of(project).await?.get(built(endpoint)?).await?;
        Ok(shape.id)
    }

    /// Brings a deployment to its final status. One that has it already, or is gone, is fine.
    pub async fn finish_deployment(
        &self,
        project: ProjectId,
        id: u64,
        outcome: DeploymentOutcome,
    ) -> Result<(), Error> {
        let endpoint = endpoints::EditDeployment::builder()
            .project(project)
            .deployment_id(id)
            .status(outcome.into())
            .build();
        match self.of(project).await?.send(built(endpoint)?).await {
            // GitLab refuses a transition into the state that is held (CONTRACT of the deployments API: 400).
            Err(error) if matches!(error.status(), Some(400 | 404)) => Ok(()),
            other => other,
        }
    }

    /// The job of this pipeline that GitLab records the newest deployment to an environment for: its name, and how it stands.
    pub async fn job_deployment(
        &self,
        project: ProjectId,
        environment: &str,
        pipeline: u64,
    ) -> Result<Option<(String, JobStatus)>, Error> {
        #[derive(Deserialize)]
        struct Shape {
            deployable: Option<Deployable>,
        }
        #[derive(Deserialize)]
        struct Deployable {
            name: String,
            status: String,
            pipeline: Option<OfPipeline>,
        }
        #[derive(Deserialize)]
        struct OfPipeline {
            id: u64,
        }
        // Those of the newest pipeline are on the first page.
        let shapes: Vec<Shape> = self.newest_deployments(project, environment).await?;
        let jobs = shapes.into_iter().filter_map(|shape| shape.deployable);
        let mut jobs = jobs.filter(|job| job.pipeline.as_ref().is_some_and(|of| of.id == pipeline));
        Ok(jobs.next().map(|job| (job.name, JobStatus::from_gitlab(&job.status))))
    }

    /// The branch that an environment was deployed from last, if it ever was.
    pub async fn deployed_branch(
        &self,
        project: ProjectId,
        environment: &str,
    ) -> Result<Option<String>, Error> {
        #[derive(Deserialize)]
        struct Shape {
            #[serde(rename = "ref")]
            reference: String,
        }
        let shapes: Vec<Shape> = self.newest_deployments(project, environment).await?;
        Ok(shapes.into_iter().next().map(|newest| newest.reference))
    }

    /// The deployments to an environment, the newest first, as far as one page has them.
    async fn newest_deployments<T: DeserializeOwned + Send + 'static>(
        &self,
        project: ProjectId,
        environment: &str,
    ) -> Result<Vec<T>, Error> {
        let endpoint = endpoints::Deployments::builder()
            .project(project)
            .environment(environment)
            .order_by(endpoints::DeploymentOrderBy::Id)
            .sort(SortOrder::Descending)
            .build();
        self.of(project).await?.get(built(endpoint)?).await
    }

    /// Running deployments of an environment that no CI job owns: ids and commits, the 20 oldest.
    pub async fn running_deployments(
        &self,
        project: ProjectId,
        environment: &str,
    ) -> Result<Vec<(u64, Sha)>, Error> {
        #[derive(Deserialize)]
        struct Shape {
            id: u64,
            sha: Sha,
            deployable: Option<serde_json::Value>,
        }
        let endpoint = endpoints::Deployments::builder()
            .project(project)
            .environment(environment)
            .status(endpoints::DeploymentStatusFilter::Running)
            .build();
        // The crate does not page deployments. One page (20) is enough: whoever asks finishes these and asks again.
        let shapes: Vec<Shape> = self.of(project).await?.get(built(endpoint)?).await?;
        // A deployment with a job belongs to CI and cannot be changed by API.
        Ok(shapes.into_iter().filter(|shape| shape.deployable.is_none()).map(|s| (s.id, s.sha)).collect())
    }
}
