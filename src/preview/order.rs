//! What a CI job asks for: a deploy of exactly the head it ran for.

use serde::{Deserialize, Serialize};

use super::facts::{Head, Job, JobStatus, Pipeline, Sha};
use super::ids::ProjectId;

/// A deploy that a CI job asked for. It counts as long as its commit is the merge request's head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobOrder {
    /// Unique.
    pub id: String,
    /// When it was asked for, Unix milliseconds.
    pub at: i64,
    /// The job that asked.
    pub job_id: u64,
    /// Its pipeline.
    pub pipeline_id: u64,
    /// The project that runs it.
    pub pipeline_project: ProjectId,
    /// The commit it runs on; a temporary merge commit with merged results.
    pub pipeline_sha: Sha,
    /// Its ref, as the API shows it.
    pub pipeline_ref: String,
    /// What started it.
    pub pipeline_source: String,
    /// The merge request's head that the pipeline is for.
    pub sha: Sha,
    /// SHA-256 of the archive that the job sent, in hexadecimal; without one, what `.greenroom.yml` names is deployed.
    pub upload: Option<String>,
    /// Whether GitLab records a deployment for the job itself, so that none has to be made.
    pub has_deployment: bool,
    /// Whether a look has come to an end that knew of it.
    #[serde(default)]
    pub answered: bool,
}

impl JobOrder {
    /// What is known of the pipeline once the job has sent its files: it is as good as jobs of these names that have succeeded
    /// and left an artifact. The rest of the pipeline waits for this very job.
    pub fn head<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Head {
        let job = |name: &str| Job {
            id: self.job_id,
            name: name.to_owned(),
            status: JobStatus::Success,
            allow_failure: false,
            has_artifact: true,
        };
        Head {
            pipeline: Pipeline {
                id: self.pipeline_id,
                project_id: self.pipeline_project,
                sha: self.pipeline_sha.clone(),
                reference: self.pipeline_ref.clone(),
                source: self.pipeline_source.clone(),
            },
            jobs: names.into_iter().map(job).collect(),
            bridges: Vec::new(),
            child_jobs: Vec::new(),
        }
    }

    /// Whether the files that were deployed as those of job `job_id` are the ones it sent.
    pub fn upload_of(&self, sha: &Sha, job_id: u64) -> Option<&str> {
        (self.sha == *sha && self.job_id == job_id).then_some(self.upload.as_deref()).flatten()
    }
}

impl Head {
    /// The pipeline without what is still to come, except for the jobs of these names: a job that asks for a deploy is part of
    /// it, and whatever else the deploy needs has run before.
    #[must_use]
    pub fn so_far(mut self, but: &[&str]) -> Self {
        let counts = |job: &Job| {
            but.contains(&job.name.as_str())
                || !matches!(job.status, JobStatus::Unfinished | JobStatus::Manual)
        };
        self.jobs.retain(counts);
        self.child_jobs.retain(counts);
        self.bridges.retain(|bridge| counts(&bridge.job));
        self
    }
}
