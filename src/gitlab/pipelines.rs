//! Pipelines, their jobs and trigger jobs.

use gitlab::api::projects::merge_requests::pipelines::MergeRequestPipelines;
use gitlab::api::projects::pipelines::{PipelineBridges, PipelineJobs};
use serde::Deserialize;

use super::{Error, Forge, built};
use crate::preview::{Bridge, Job, JobStatus, MrKey, Pipeline, ProjectId, Sha};

#[derive(Deserialize)]
pub(super) struct PipelineShape {
    id: u64,
    project_id: Option<ProjectId>,
    sha: Sha,
    #[serde(rename = "ref")]
    reference: Option<String>,
    source: Option<String>,
}

impl PipelineShape {
    /// The pipeline that `project` was asked for.
    pub(super) fn of(self, project: ProjectId) -> Pipeline {
        Pipeline {
            id: self.id,
            // Servers before 12.8 leave it out; those run in the project that was asked for.
            project_id: self.project_id.unwrap_or(project),
            sha: self.sha,
            reference: self.reference.unwrap_or_default(),
            source: self.source.unwrap_or_default(),
        }
    }
}

#[derive(Deserialize)]
struct JobShape {
    id: u64,
    name: String,
    status: String,
    allow_failure: Option<bool>,
    artifacts_file: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct BridgeShape {
    #[serde(flatten)]
    job: JobShape,
    downstream_pipeline: Option<Downstream>,
}

#[derive(Deserialize)]
struct Downstream {
    id: u64,
    project_id: ProjectId,
}

impl From<JobShape> for Job {
    fn from(shape: JobShape) -> Self {
        Self {
            id: shape.id,
            name: shape.name,
            status: JobStatus::from_gitlab(&shape.status),
            allow_failure: shape.allow_failure.unwrap_or(false),
            has_artifact: shape.artifacts_file.is_some_and(|file| !file.is_null()),
        }
    }
}

impl Forge {
    /// The merge request's own pipelines, newest first.
    pub async fn pipelines(&self, key: MrKey) -> Result<Vec<Pipeline>, Error> {
        let endpoint =
            MergeRequestPipelines::builder().project(key.project_id).merge_request(key.iid).build();
        let shapes: Vec<PipelineShape> = self.of(key.project_id).await?.all(built(endpoint)?).await?;
        Ok(shapes.into_iter().map(|shape| shape.of(key.project_id)).collect())
    }

    /// The newest attempt of each job of a pipeline.
    pub async fn jobs(&self, project: ProjectId, pipeline: u64) -> Result<Vec<Job>, Error> {
        let endpoint = PipelineJobs::builder().project(project).pipeline(pipeline).build();
        let shapes: Vec<JobShape> = self.of(project).await?.all(built(endpoint)?).await?;
        Ok(shapes.into_iter().map(Job::from).collect())
    }

    /// The trigger jobs of a pipeline.
    pub async fn bridges(&self, project: ProjectId, pipeline: u64) -> Result<Vec<Bridge>, Error> {
        let endpoint = PipelineBridges::builder().project(project).pipeline(pipeline).build();
        let shapes: Vec<BridgeShape> = self.of(project).await?.all(built(endpoint)?).await?;
        Ok(shapes
            .into_iter()
            .map(|shape| Bridge {
                job: shape.job.into(),
                downstream: shape.downstream_pipeline.map(|down| (down.project_id, down.id)),
            })
            .collect())
    }
}
