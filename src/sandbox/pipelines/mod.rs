//! Pipelines of branches, tags and merge requests, parents and children, and external ones.
//!
//! A push starts none by itself here: tests say when. In REST a merge request pipeline has the ref
//! `refs/merge-requests/<iid>/{head,merge,train}`; the commit of a merged results or merge train
//! pipeline is a temporary merge commit on no branch. The status is always computed.

pub(super) mod composite;
pub(super) mod entity;
mod routes;

pub(super) use routes::routes;

use super::{
    delivery::Event,
    jobs::{Job, JobSpec},
    merge_requests::MergeRequest,
    payloads,
    projects::Project,
    refusal::Refusal,
    repository::ZERO,
    state::{Noun, State},
};
use jiff::Timestamp;
use serde::Deserialize;

/// One pipeline; it belongs to the project that runs it.
#[derive(Debug, Clone)]
pub(super) struct Pipeline {
    pub(super) id: u64,
    pub(super) iid: u64,
    pub(super) sha: String,
    /// As REST shows it.
    pub(super) reference: String,
    pub(super) tag: bool,
    pub(super) source: &'static str,
    /// Target project and iid of the merge request it is for.
    pub(super) merge_request: Option<(u64, u64)>,
    /// Project, pipeline and bridge job of the parent.
    pub(super) parent: Option<(u64, u64, Option<u64>)>,
    pub(super) user: u64,
    pub(super) status: String,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
    pub(super) started_at: Option<Timestamp>,
    pub(super) finished_at: Option<Timestamp>,
}

/// The kinds of pipeline the control interface makes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// For a branch or tag (the default with `ref`).
    #[default]
    Branch,
    /// For the merge request's head (the default with `mr_iid`).
    Detached,
    /// For the head merged into the target branch.
    MergedResult,
    /// For the merge train.
    MergeTrain,
}

/// A pipeline that is about to be made.
#[derive(Debug)]
pub(super) struct NewPipeline {
    pub(super) sha: String,
    pub(super) reference: String,
    pub(super) tag: bool,
    pub(super) source: &'static str,
    pub(super) merge_request: Option<(u64, u64)>,
    pub(super) parent: Option<(u64, u64, Option<u64>)>,
    pub(super) jobs: Vec<JobSpec>,
}

impl NewPipeline {
    /// The pipeline GitLab makes for a commit status that has none.
    pub(super) fn external(sha: &str, reference: &str) -> Self {
        Self {
            sha: sha.to_owned(),
            reference: reference.to_owned(),
            tag: false,
            source: "external",
            merge_request: None,
            parent: None,
            jobs: Vec::new(),
        }
    }
}

impl State {
    pub(super) fn pipeline(&self, project: u64, id: u64) -> Result<&Pipeline, Refusal> {
        self.project(project)?.pipelines.get(&id).ok_or_else(|| Refusal::not_found(""))
    }

    /// The pipeline GitLab would make for a merge request. The temporary merge commit of merged
    /// results has the parents `[target head, source head]`.
    pub(super) fn merge_request_pipeline(
        &mut self,
        project: u64,
        iid: u64,
        kind: Kind,
        user: u64,
    ) -> Result<NewPipeline, Refusal> {
        let merge_request = self.merge_request(project, iid)?;
        let no_commits =
            || Refusal::bad_request("Insufficient permissions to create a new pipeline or no commits");
        let head = merge_request.sha.clone().ok_or_else(no_commits)?;
        let target = merge_request.target_branch.clone();
        let (sha, which) = match kind {
            Kind::Branch | Kind::Detached => (head, "head"),
            Kind::MergedResult | Kind::MergeTrain => {
                let base = self.project(project)?.commit_of(&target)?;
                let sha = self.merge_commit(&base, &head, &format!("Merge {head} into {base}"), user)?;
                self.import_commits(project, &sha)?;
                let merge_request = self.merge_request_mut(project, iid)?;
                if kind == Kind::MergedResult {
                    merge_request.merge_ref = Some(sha.clone());
                    (sha, "merge")
                } else {
                    merge_request.train_ref = Some(sha.clone());
                    (sha, "train")
                }
            }
        };
        Ok(NewPipeline {
            sha,
            reference: format!("refs/merge-requests/{iid}/{which}"),
            tag: false,
            source: "merge_request_event",
            merge_request: Some((project, iid)),
            parent: None,
            jobs: Vec::new(),
        })
    }

    /// Makes a pipeline and its jobs, and tells the hooks.
    pub(super) fn create_pipeline(
        &mut self,
        project: u64,
        new: NewPipeline,
        user: u64,
    ) -> Result<u64, Refusal> {
        let id = self.next_id(Noun::Pipeline);
        let now = self.now();
        let iid = self.project(project)?.pipelines.len() as u64 + 1;
        let external = new.source == "external";
        let pipeline = Pipeline {
            id,
            iid,
            sha: new.sha,
            reference: new.reference,
            tag: new.tag,
            source: new.source,
            merge_request: new.merge_request,
            parent: new.parent,
            user,
            status: "created".to_owned(),
            created_at: now,
            updated_at: now,
            started_at: None,
            finished_at: None,
        };
        self.project_mut(project)?.pipelines.insert(id, pipeline);
        for spec in new.jobs {
            self.create_job(project, id, &spec, user)?;
        }
        self.adopt_head_pipelines(project, id)?;
        if !external {
            self.announce_pipeline(project, id)?;
        }
        self.refresh_pipeline(project, id)?;
        Ok(id)
    }

    /// Computes the status anew; a change fires the pipeline hook.
    pub(super) fn refresh_pipeline(&mut self, project: u64, id: u64) -> Result<(), Refusal> {
        let known = self.project(project)?;
        let jobs = known.jobs_of(id).map(|job| (job.status.as_str(), job.allow_failure));
        let statuses = known.statuses.values().filter(|status| status.pipeline == id && !status.retried);
        let status = composite::status(jobs.chain(statuses.map(|status| (status.status.as_str(), false))));
        let now = self.now();
        let Some(pipeline) = self.project_mut(project)?.pipelines.get_mut(&id) else { return Ok(()) };
        if pipeline.status == status {
            return Ok(());
        }
        status.clone_into(&mut pipeline.status);
        pipeline.updated_at = now;
        let complete = composite::complete(status);
        if status == "running" || complete {
            pipeline.started_at = pipeline.started_at.or(Some(now));
        }
        pipeline.finished_at = complete.then_some(now);
        self.announce_pipeline(project, id)
    }

    fn announce_pipeline(&mut self, project: u64, id: u64) -> Result<(), Refusal> {
        let body = payloads::pipeline(self, project, self.pipeline(project, id)?)?;
        self.fire(project, Event::Pipeline, &body)
    }

    /// The merge request's own list, newest first: its merge request pipelines, and those of its
    /// source branch for one of its commits. Children are not in it.
    pub(super) fn pipelines_of<'state>(
        &'state self,
        project: &'state Project,
        merge_request: &MergeRequest,
    ) -> Vec<(&'state Project, &'state Pipeline)> {
        let base = merge_request.base_sha.as_deref().unwrap_or_default();
        let head = merge_request.sha.as_deref().unwrap_or_default();
        let own: Vec<_> = self.commits_between(base, head).iter().map(|commit| commit.sha.as_str()).collect();
        let source = merge_request.source_project.and_then(|source| self.projects.get(&source));
        let runners = std::iter::once(project).chain(source.filter(|source| source.id != project.id));
        let mut found: Vec<_> = runners
            .flat_map(|runner| runner.pipelines.values().map(move |pipeline| (runner, pipeline)))
            .filter(|(_, pipeline)| pipeline.parent.is_none())
            .filter(|(runner, pipeline)| match pipeline.merge_request {
                Some(key) => key == (project.id, merge_request.iid),
                None => {
                    pipeline.reference == merge_request.source_branch
                        && own.contains(&pipeline.sha.as_str())
                        && (merge_request.source_project == Some(runner.id) || pipeline.source == "external")
                }
            })
            .collect();
        found.sort_by_key(|(_, pipeline)| std::cmp::Reverse(pipeline.id));
        found
    }

    /// The stored head pipeline, which may be that of an older head.
    pub(super) fn head_pipeline<'state>(
        &'state self,
        project: &'state Project,
        merge_request: &MergeRequest,
    ) -> Option<(u64, &'state Pipeline)> {
        let id = merge_request.head_pipeline?;
        let source = merge_request.source_project.and_then(|source| self.projects.get(&source));
        [Some(project), source]
            .into_iter()
            .flatten()
            .find_map(|owner| Some((owner.id, owner.pipelines.get(&id)?)))
    }

    /// After a pipeline was made: it becomes the head pipeline of the merge requests it is for.
    fn adopt_head_pipelines(&mut self, project: u64, pipeline: u64) -> Result<(), Refusal> {
        let made = self.pipeline(project, pipeline)?.clone();
        let affected: Vec<(u64, u64)> = self
            .projects
            .values()
            .flat_map(|target| {
                target.merge_requests.values().map(move |merge_request| (target.id, merge_request))
            })
            .filter(|(target, one)| match made.merge_request {
                Some(key) => key == (*target, one.iid),
                None => one.source_branch == made.reference && one.sha.as_deref() == Some(&made.sha),
            })
            .map(|(target, merge_request)| (target, merge_request.iid))
            .collect();
        for (target, iid) in affected {
            self.adopt_head_pipeline(target, iid)?;
        }
        Ok(())
    }

    /// Stores the newest pipeline of the current head, if there is one; `updated_at` stays.
    pub(super) fn adopt_head_pipeline(&mut self, project: u64, iid: u64) -> Result<(), Refusal> {
        let merge_request = self.merge_request(project, iid)?;
        let head = merge_request.sha.as_deref().unwrap_or(ZERO);
        let for_head = |pipeline: &Pipeline| {
            let parents =
                self.commits.get(&pipeline.sha).map(|commit| commit.parents.as_slice()).unwrap_or_default();
            pipeline.sha == head
                || (pipeline.merge_request.is_some() && parents.iter().any(|parent| parent == head))
        };
        let pipelines = self.pipelines_of(self.project(project)?, merge_request);
        let newest = pipelines.into_iter().map(|(_, pipeline)| pipeline).find(|pipeline| for_head(pipeline));
        if let Some(id) = newest.map(|pipeline| pipeline.id) {
            self.merge_request_mut(project, iid)?.head_pipeline = Some(id);
        }
        Ok(())
    }
}

impl Project {
    /// A pipeline's current jobs and bridges, without those that were retried.
    pub(super) fn jobs_of(&self, pipeline: u64) -> impl Iterator<Item = &Job> {
        self.jobs.values().filter(move |job| job.pipeline == pipeline && !job.retried)
    }
}
