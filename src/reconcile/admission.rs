//! Which preview a CI job speaks for, and whether it may.
//!
//! The job's token is proven when it comes here, but names no merge request, and what the job says itself is a hint. So GitLab is
//! asked: the job's pipeline has to stand in the merge request's own list and, to deploy, run on its head. Where the job's branch has no
//! merge request, the pipeline has to be the branch's own, on its head.

use std::sync::Arc;

use super::observe;
use crate::gitlab::{Class, Error as GitLabError, Forge};
use crate::oidc::Claims;
use crate::preview::{
    BranchId, Intent, JobOrder, MergeRequest, MrKey, Pipeline, Preview, PreviewKey, Quoted, Sha, State,
    Subject, environment_name, subject_of_environment,
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
            Class::Operator => Self::Forbidden(format!("the merge request cannot be looked at: {error}")),
            Class::Retry(_) => Self::Unavailable(error.to_string()),
        }
    }
}

/// A job of which it is known what it may deploy.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// The merge request, or what stands in its place.
    pub merge_request: MergeRequest,
    head: Sha,
    pipeline: Pipeline,
}

impl Admitted {
    /// Whose preview it is.
    pub const fn key(&self) -> PreviewKey {
        self.merge_request.key
    }

    /// The deploy that the job may ask for.
    pub fn order(self, claims: &Claims, upload: Option<String>, now: i64) -> JobOrder {
        let Self { merge_request, head, pipeline } = self;
        let environment = environment_name(merge_request.key.subject, &merge_request.source_branch);
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
            has_deployment: claims.deploys_to(&environment),
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
    /// What the job may deploy. `named` are the merge requests that it says it is for.
    pub async fn admit_deploy(&self, claims: &Claims, named: &[u64]) -> Result<Admitted, Refusal> {
        let Some((merge_request, pipeline)) = self.find(claims, named).await? else {
            return self.admit_branch(claims).await;
        };
        let (called, id) = (merge_request.called(), pipeline.id);
        if merge_request.state.is_over() {
            return Err(Refusal::Forbidden(format!(
                "{called} is closed or merged; nothing is deployed for it"
            )));
        }
        if !pipeline.may_count() {
            return Err(Refusal::Forbidden(format!(
                "pipeline {id} is that of a merge train; what is about to be merged gets no preview"
            )));
        }
        let Some(head) = merge_request.sha.clone() else {
            return Err(Refusal::Forbidden(format!("{called} has no commit")));
        };
        if pipeline.sha != claims.sha || !observe::is_for(&self.forge, &pipeline, &head).await? {
            return Err(superseded(id, &called, &head));
        }
        Ok(Admitted { merge_request, head, pipeline })
    }

    /// Lets the job of a branch without a merge request in. The branch is GitLab's word in the token, and the environment has to be
    /// the one whose stop ends the preview.
    async fn admit_branch(&self, claims: &Claims) -> Result<Admitted, Refusal> {
        let (project, branch) = (claims.project(), &claims.reference);
        if claims.ref_type != "branch" {
            return Err(Refusal::NoMergeRequest(format!(
                "the pipeline is that of the tag {}; merge requests and branches have previews, tags have none",
                Quoted::new(branch)
            )));
        }
        let project_path = self.forge.project_path(project).await?;
        if !(self.served)(&project_path) {
            return Err(unserved());
        }
        let called = format!("branch {}", Quoted::new(branch));
        let own = BranchId::of(branch).map(Subject::Branch);
        let environment = own.map(|subject| environment_name(subject, branch));
        let Some((subject, environment)) = own
            .zip(environment)
            .filter(|(subject, environment)| subject_of_environment(environment) == Some(*subject))
        else {
            return Err(Refusal::Forbidden(format!(
                "{called} has no merge request, and its name makes no environment of its own: it has neither letters nor digits \
                 of ASCII, or is called like a merge request's"
            )));
        };
        if !claims.deploys_to(&environment) {
            return Err(Refusal::NoMergeRequest(format!(
                "{called} has no open merge request. Without one its preview belongs to the environment `{environment}`, whose end \
                 is its own, and this job deploys to another one: open a merge request, or set the include's input \
                 `environment` to `review/$CI_COMMIT_REF_SLUG` (project {project})"
            )));
        }
        let pipeline = self.forge.pipeline(project, claims.pipeline_id).await?;
        let id = pipeline.id;
        if pipeline.reference != *branch || pipeline.project_id != project || !pipeline.may_count() {
            return Err(Refusal::Forbidden(format!(
                "pipeline {id} is none of {called} itself: a child pipeline, or one that others made, speaks for no branch"
            )));
        }
        let Some(head) = self.forge.branch_head(project, branch).await? else {
            return Err(Refusal::Forbidden(format!("{called} is gone; nothing is deployed for it")));
        };
        if pipeline.sha != claims.sha || pipeline.sha != head {
            return Err(superseded(id, &called, &head));
        }
        let key = PreviewKey::new(project, subject);
        let merge_request = MergeRequest::of_branch(key, project_path, branch, Some(head.clone()));
        Ok(Admitted { merge_request, head, pipeline })
    }

    /// The preview that the job may stop; `None` when there can be none any more. A stop job belongs to the pipeline that deployed
    /// last, which may not be the head's.
    pub async fn admit_stop(&self, claims: &Claims, named: &[u64]) -> Result<Option<PreviewKey>, Refusal> {
        let of_branch = BranchId::of(&claims.reference)
            .filter(|_| claims.ref_type == "branch" && !claims.is_of_fork())
            .map(|id| PreviewKey::new(claims.project(), Subject::Branch(id)));
        if named.is_empty()
            && let Some(key) = of_branch
            && self.store.preview(key).await?.is_some_and(|preview| preview.state != State::Stopped)
        {
            // Its merge request came later, and may have been deployed by this pipeline already.
            return Ok(Some(self.deployed_by(claims).await?.unwrap_or(key)));
        }
        let found = self.find(claims, named).await?;
        Ok(found.map(|(merge_request, _)| merge_request.key).or(of_branch))
    }

    /// The preview of the job's branch, with a merge request or without, that its pipeline asked for last.
    async fn deployed_by(&self, claims: &Claims) -> Result<Option<PreviewKey>, Refusal> {
        let mut last = None;
        for key in self.store.previews_of_branch(claims.project(), &claims.reference).await? {
            let order = self.store.job_order(key).await?.map(|kept| kept.order);
            if let Some(order) = order.filter(|order| order.pipeline_id == claims.pipeline_id) {
                last = last.max(Some((order.at, key)));
            }
        }
        Ok(last.map(|(_, key)| key))
    }

    /// Whether the job may be told of this merge request's preview: it runs in the same project.
    pub fn may_follow(claims: &Claims, key: PreviewKey) -> bool {
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
        let (key, called) = (admitted.key(), admitted.merge_request.called());
        let order = admitted.order(claims, upload, now);
        let preview = self.store.preview(key).await?;
        let kept = self.store.order(key, &order, preview.as_ref()).await?;
        let by = (kept.order.pipeline_id, kept.order.job_id);
        if by != (order.pipeline_id, order.job_id) {
            return Err(Refusal::Superseded(format!(
                "job {} of pipeline {} is newer, and deploys {called} already",
                by.1, by.0
            )));
        }
        tracing::info!(mr.key = %key, job.id = claims.job_id, pipeline.id = order.pipeline_id, "a job asked for a deploy");
        Ok(kept)
    }

    /// Asks for the preview to be stopped; the preview as it is. Nothing to stop is no error.
    pub async fn stop(&self, key: PreviewKey, now: i64) -> Result<Option<Preview>, Refusal> {
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
                return Err(unserved());
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

fn unserved() -> Refusal {
    Refusal::Forbidden(String::from("the settings of this server do not serve the job's project"))
}

fn superseded(pipeline: u64, called: &str, head: &Sha) -> Refusal {
    Refusal::Superseded(format!(
        "pipeline {pipeline} is not for the head of {called}, which is {} by now; the pipeline of that commit deploys it",
        head.short()
    ))
}
