//! Commit statuses. Each names its pipeline: for one that does not, GitLab may make a pipeline of source `external`, which
//! then shows as the merge request's own.

use gitlab::api::projects::repository::commits as endpoints;
use serde::Deserialize;

use super::{Error, Forge, built};
use crate::preview::{CommitStatus, CommitStatusState, ProjectId, Said};

/// The longest link that GitLab takes, in bytes to be safe.
const LONGEST_LINK: usize = 255;

/// How the state machine begins when it refuses to go where it is.
const NO_CHANGE: &str = "Cannot transition status via";

impl From<CommitStatusState> for endpoints::CommitStatusState {
    fn from(state: CommitStatusState) -> Self {
        match state {
            CommitStatusState::Running => Self::Running,
            CommitStatusState::Success => Self::Success,
            CommitStatusState::Failed => Self::Failed,
            CommitStatusState::Canceled => Self::Canceled,
        }
    }
}

impl Forge {
    /// Says `said` under `name` in the pipeline of `status`, with a link. A running status is updated, after a final one
    /// GitLab makes a new one. One that is in this state already is fine.
    pub async fn say_commit_status(
        &self,
        project: ProjectId,
        status: &CommitStatus,
        name: &str,
        said: &Said,
        link: &str,
    ) -> Result<(), Error> {
        let mut endpoint = endpoints::CreateCommitStatus::builder();
        endpoint
            .project(project)
            .commit(status.sha.as_str())
            .pipeline_id(status.pipeline_id)
            .state(said.state)
            .name(name)
            .description(&*said.description);
        if link.len() <= LONGEST_LINK {
            endpoint.target_url(link);
        }
        match self.of(project).await?.send(built(endpoint.build())?).await {
            Err(error) if error.status() == Some(400) && error.message().contains(NO_CHANGE) => Ok(()),
            other => other,
        }
    }

    /// Whether the newest status of this name in the pipeline of `status` says `said`.
    pub async fn has_commit_status(
        &self,
        project: ProjectId,
        status: &CommitStatus,
        name: &str,
        said: &Said,
    ) -> Result<bool, Error> {
        #[derive(Deserialize)]
        struct Shape {
            id: u64,
            status: String,
            description: Option<String>,
            pipeline_id: Option<u64>,
        }
        let endpoint = endpoints::CommitStatuses::builder()
            .project(project)
            .commit(status.sha.as_str())
            .name(name)
            .pipeline_id(status.pipeline_id)
            .build();
        let mut shapes: Vec<Shape> = self.of(project).await?.all(built(endpoint)?).await?;
        // Older servers know neither the filter nor the field; a commit has few pipelines.
        shapes.retain(|shape| shape.pipeline_id.is_none_or(|id| id == status.pipeline_id));
        let newest = shapes.into_iter().max_by_key(|shape| shape.id);
        Ok(newest.is_some_and(|shape| {
            shape.status == said.state.as_str()
                && shape.description.as_deref().map(str::trim) == Some(&said.description)
        }))
    }
}
