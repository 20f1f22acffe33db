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
    /// The pipeline without what is still to come, except for the jobs of these names: job `asking`, which asks for a deploy, is
    /// part of it, and whatever else the deploy needs has run before. What becomes of that job itself decides nothing.
    #[must_use]
    pub fn so_far(mut self, asking: u64, but: &[&str]) -> Self {
        for job in self.jobs.iter_mut().filter(|job| job.id == asking) {
            job.status = JobStatus::Success;
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preview::Verdict;

    #[test]
    fn a_job_that_asks_for_a_deploy_never_waits_for_its_own_pipeline() {
        use JobStatus::{Canceled, Failed, Manual, Success, Unfinished};
        for (jobs, verdict) in [
            (vec![(7, Unfinished)], Verdict::Passed),
            (vec![(7, Unfinished), (8, Manual), (9, Unfinished)], Verdict::Passed),
            (vec![(1, Success), (7, Canceled)], Verdict::Passed),
            (vec![(1, Failed), (7, Unfinished)], Verdict::Failed("1".into())),
        ] {
            let job = |(id, status): (u64, JobStatus)| Job {
                id,
                name: id.to_string(),
                status,
                allow_failure: false,
                has_artifact: false,
            };
            let pipeline = Pipeline {
                id: 1,
                project_id: 42,
                sha: Sha::parse(&"a".repeat(40)).unwrap(),
                reference: String::new(),
                source: String::new(),
            };
            let jobs: Vec<_> = jobs.into_iter().map(job).collect();
            let head = Head { pipeline, jobs: jobs.clone(), bridges: Vec::new(), child_jobs: Vec::new() };
            assert_eq!(head.so_far(7, &[]).verdict(), verdict, "{jobs:?}");
        }
    }
}
