//! Branches, and what is known of them without a merge request: head, pipelines, what was deployed from them.

use gitlab::api::projects::merge_requests::MergeRequests;
use gitlab::api::projects::repository::branches;
use gitlab::api::projects::{self, pipelines};
use serde::Deserialize;

use super::pipelines::PipelineShape;
use super::{Error, Forge, built};
use crate::preview::{MrKey, Pipeline, ProjectId, Sha};

impl Forge {
    /// The head of a branch; `None` only when GitLab says that the *branch* is not there.
    pub async fn branch_head(&self, project: ProjectId, branch: &str) -> Result<Option<Sha>, Error> {
        #[derive(Deserialize)]
        struct Shape {
            commit: Commit,
        }
        #[derive(Deserialize)]
        struct Commit {
            id: Sha,
        }
        let endpoint = branches::Branch::builder().project(project).branch(branch).build();
        match self.of(project).await?.get::<Shape>(built(endpoint)?).await {
            Ok(shape) => Ok(Some(shape.commit.id)),
            Err(error) if error.is_not_found() && error.message().contains("Branch Not Found") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether GitLab shows the project's default branch, and with it what there is of branches.
    pub async fn shows_branches(&self, project: ProjectId) -> Result<bool, Error> {
        #[derive(Deserialize)]
        struct Shape {
            default_branch: Option<String>,
        }
        let endpoint = projects::Project::builder().project(project).build();
        let shape: Shape = self.of(project).await?.get(built(endpoint)?).await?;
        match shape.default_branch {
            Some(branch) => Ok(self.branch_head(project, &branch).await?.is_some()),
            None => Ok(false),
        }
    }

    /// All merge requests that a branch of the project has ever had, also those that are over. Those of forks are not among them.
    pub async fn merge_requests_ever_of_branch(
        &self,
        project: ProjectId,
        branch: &str,
    ) -> Result<Vec<MrKey>, Error> {
        #[derive(Deserialize)]
        struct Shape {
            iid: u64,
            source_project_id: Option<ProjectId>,
        }
        let endpoint = MergeRequests::builder().project(project).source_branch(branch).build();
        let shapes: Vec<Shape> = self.of(project).await?.all(built(endpoint)?).await?;
        let own = shapes.into_iter().filter(|shape| shape.source_project_id == Some(project));
        Ok(own.map(|shape| MrKey::new(project, shape.iid)).collect())
    }

    /// One pipeline.
    pub async fn pipeline(&self, project: ProjectId, id: u64) -> Result<Pipeline, Error> {
        let endpoint = pipelines::Pipeline::builder().project(project).pipeline(id).build();
        let shape: PipelineShape = self.of(project).await?.get(built(endpoint)?).await?;
        Ok(shape.of(project))
    }
}
