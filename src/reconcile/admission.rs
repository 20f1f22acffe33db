//! Which merge request a CI job speaks for, and whether it may.
//!
//! The job's token is proven when it comes here, but names no merge request, and what the job says itself is a hint. So GitLab is
//! asked: the job's pipeline has to stand in the merge request's own list and, to deploy, run on its head.

use std::sync::Arc;

use super::observe;
use crate::gitlab::{Class, Error as GitLabError, Forge};
use crate::oidc::Claims;
use crate::preview::{
    Intent, JobOrder, MergeRequest, MrKey, Pipeline, Preview, Sha, State, environment_name,
};
use crate::store::{KeptOrder, Store};

/// How many merge requests a job may name; GitLab itself names no more than four of a branch.
const CANDIDATES: usize = 10;

/// Why a job is not served.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It may not.
    #[error("{0}")]
    Forbidden(String),
    /// Something newer counts.
    #[error("{0}")]
    Superseded(String),
    /// There is no merge request.
    #[error("{0}")]
    NoMergeRequest(String),
    /// GitLab cannot be asked now.
    #[error("{0}")]
    Unavailable(String),
    /// The store cannot.
    #[error(transparent)]
    Store(#[from] crate::store::Error),
}

impl From<GitLabError> for Refusal {
    fn from(error: GitLabError) -> Self {
        match error.class() {
            Class::Operator => {
                Self::Forbidden(format!("this server cannot look at the merge request: {error}"))
            }
            Class::Retry(_) => Self::Unavailable(error.to_string()),
        }
    }
}

/// A job whose merge request is known.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// The merge request.
    pub key: MrKey,
    head: Sha,
    pipeline: Pipeline,
}

impl Admitted {
    /// The deploy that the job may ask for.
    pub fn order(self, claims: &Claims, upload: Option<String>, now: i64) -> JobOrder {
        let Self { key, head, pipeline } = self;
        JobOrder {
            id: uuid::Uuid::now_v7().to_string(),
            at: now,
            job_id: claims.job_id,
            pipeline_id: pipeline.id,
            pipeline_project: pipeline.project_id,
            pipeline_sha: pipeline.sha,
            pipeline_ref: pipeline.reference,
            pipeline_source: pipeline.source,
            sha: head,
            upload,
            has_deployment: claims.deploys_to(&environment_name(key.iid)),
            answered: false,
        }
    }
}

/// Lets jobs in, and keeps what they ask for.
#[derive(Clone)]
pub struct Jobs {
    /// GitLab.
    pub forge: Forge,
    /// Where what they ask for is kept.
    pub store: Store,
    /// Which project paths are served.
    pub served: Arc<dyn Fn(&str) -> bool + Send + Sync>,
}

impl Jobs {
    /// The merge request that the job may deploy. `named` are those that it says it is for.
    pub async fn admit_deploy(&self, claims: &Claims, named: &[u64]) -> Result<Admitted, Refusal> {
        let Some((merge_request, pipeline)) = self.find(claims, named).await? else {
            return Err(Refusal::NoMergeRequest(format!(
                "no open merge request has the source branch of this job; without one there is no preview: open one, or run \
                 the job in merge request pipelines only (project {})",
                claims.project()
            )));
        };
        let (iid, id) = (merge_request.key.iid, pipeline.id);
        if merge_request.state.is_over() {
            return Err(Refusal::Forbidden(format!(
                "merge request !{iid} is closed or merged; nothing is deployed for it"
            )));
        }
        if !pipeline.may_count() {
            return Err(Refusal::Forbidden(format!(
                "pipeline {id} is that of a merge train; what is about to be merged gets no preview"
            )));
        }
        let Some(head) = merge_request.sha.clone() else {
            return Err(Refusal::Forbidden(format!("merge request !{iid} has no commit")));
        };
        if pipeline.sha != claims.sha || !observe::is_for(&self.forge, &pipeline, &head).await? {
            return Err(Refusal::Superseded(format!(
                "pipeline {id} is not for the head of merge request !{iid}, which is {} by now; the pipeline of that commit \
                 deploys it",
                head.short()
            )));
        }
        Ok(Admitted { key: merge_request.key, head, pipeline })
    }

    /// The merge request whose preview the job may stop; `None` when there is none any more. A stop job belongs to the
    /// pipeline that deployed last, which may not be the head's.
    pub async fn admit_stop(&self, claims: &Claims, named: &[u64]) -> Result<Option<MrKey>, Refusal> {
        Ok(self.find(claims, named).await?.map(|(merge_request, _)| merge_request.key))
    }

    /// Whether the job may be told of this merge request's preview: it runs in the same project.
    pub fn may_follow(claims: &Claims, key: MrKey) -> bool {
        !claims.is_of_fork() && claims.project() == key.project_id
    }

    /// Keeps the order of a job that was let in; a look follows.
    pub async fn order(
        &self,
        claims: &Claims,
        admitted: Admitted,
        upload: Option<String>,
        now: i64,
    ) -> Result<KeptOrder, Refusal> {
        let key = admitted.key;
        let order = admitted.order(claims, upload, now);
        let preview = self.store.preview(key).await?;
        let kept = self.store.order(key, &order, preview.as_ref()).await?;
        let by = (kept.order.pipeline_id, kept.order.job_id);
        if by != (order.pipeline_id, order.job_id) {
            return Err(Refusal::Superseded(format!(
                "job {} of pipeline {} is newer, and deploys merge request !{} already",
                by.1, by.0, key.iid
            )));
        }
        tracing::info!(mr.key = %key, job.id = claims.job_id, pipeline.id = order.pipeline_id, "a job asked for a deploy");
        Ok(kept)
    }

    /// Asks for the preview to be stopped; the preview as it is. Nothing to stop is no error.
    pub async fn stop(&self, key: MrKey, now: i64) -> Result<Option<Preview>, Refusal> {
        let preview = self.store.preview(key).await?.filter(|preview| preview.state != State::Stopped);
        if let Some(preview) = &preview {
            self.store.ask(preview, Intent::StopInGitlab, now).await?;
            tracing::info!(mr.key = %key, "a job asked for a stop");
        }
        Ok(preview)
    }

    async fn find(
        &self,
        claims: &Claims,
        named: &[u64],
    ) -> Result<Option<(MergeRequest, Pipeline)>, Refusal> {
        if claims.is_of_fork() {
            return Err(Refusal::Forbidden(String::from(
                "the job is that of a fork's merge request, and forks get no preview",
            )));
        }
        let project = claims.project();
        let mut keys: Vec<_> = named.iter().take(CANDIDATES).map(|iid| MrKey::new(project, *iid)).collect();
        if keys.is_empty() && claims.ref_type == "branch" {
            keys = self.forge.merge_requests_of_branch(project, &claims.reference).await?;
        }
        if keys.is_empty() {
            return Ok(None);
        }
        keys.sort_unstable();
        for key in &keys {
            let merge_request = match self.forge.merge_request(*key).await {
                Err(error) if error.is_not_found() => continue,
                answer => answer?,
            };
            if !(self.served)(&merge_request.project_path) {
                return Err(Refusal::Forbidden(String::from(
                    "the settings of this server do not serve the job's project",
                )));
            }
            if merge_request.from_fork() {
                continue;
            }
            let pipelines = self.forge.pipelines(*key).await?;
            if let Some(pipeline) = pipelines.into_iter().find(|found| found.id == claims.pipeline_id) {
                return Ok(Some((merge_request, pipeline)));
            }
        }
        let keys: Vec<_> = keys.iter().map(|key| format!("!{}", key.iid)).collect();
        Err(Refusal::Forbidden(format!(
            "pipeline {} is none of merge request {}: a job speaks only for the merge request of its own pipeline, and the \
             pipeline of a fork or a child pipeline for none",
            claims.pipeline_id,
            keys.join(", ")
        )))
    }
}
