//! One merge request, without a server: what a CI job does that has a way to the cluster itself.
//!
//! Needs: [`Parts`] with a store that nobody else has and that goes with the job. What it would remember is read from where it
//! stands: what runs from the engine, by our instance id; the comment, the environment and the deployment from GitLab. Then
//! the same looks follow as on a server.
//!
//! Properties:
//! * Nothing is looked at but the job's own merge request: neither sweep nor resync run here.
//! * What a server of the same instance id has made is taken over, and the other way round (`elsewhere.rs`).
//!
//! Races, and what was decided:
//! * *The job ends early*: what was sent stays, and says in the cluster what is to come. A server of the same id, or the next
//!   job, brings it to its end.
//! * *A server deploys the same head at the same time*: the newest order wins, and both tell of that one.

use std::collections::BTreeSet;

use tokio_util::sync::CancellationToken;

use super::controller::{Controller, Parts};
use super::desired::FileFact;
use super::look::Error as LookError;
use super::{apply, branch, observe, sweep};
use crate::gitlab::Class;
use crate::oidc::Claims;
use crate::preview::{
    BranchId, DEFAULT_CLUSTER, Intent, MergeRequest, Place, Preview, PreviewKey, PreviewName, Reason, State,
    Subject, WorkKey,
};
use crate::render::Workload;

/// Why a job that works alone cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum AloneError {
    /// It would be the same the next time.
    #[error("{0}")]
    Refused(String),
    /// Another try may work.
    #[error("{0}")]
    Unavailable(String),
}

impl From<LookError> for AloneError {
    fn from(error: LookError) -> Self {
        match &error {
            LookError::GitLab(gitlab) if matches!(gitlab.class(), Class::Operator) => {
                Self::Refused(error.to_string())
            }
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<crate::gitlab::Error> for AloneError {
    fn from(error: crate::gitlab::Error) -> Self {
        LookError::from(error).into()
    }
}

impl From<crate::store::Error> for AloneError {
    fn from(error: crate::store::Error) -> Self {
        LookError::from(error).into()
    }
}

/// Works without a server.
pub struct Alone {
    parts: Parts,
}

impl Alone {
    /// With a store of its own in `parts`.
    pub const fn new(parts: Parts) -> Self {
        Self { parts }
    }

    /// Refuses what nobody can deploy without a server.
    pub async fn check(&self, merge_request: &MergeRequest) -> Result<(), AloneError> {
        let (file, _) = observe::file(&self.parts.forge, merge_request, None).await?;
        match file {
            FileFact::Present(file) if matches!(file.workload, Workload::Static(_)) => {
                Err(AloneError::Refused(String::from(
                    "`.greenroom.yml` asks for the engine `static`, whose files a server's gateway serves: set \
                     GREENROOM_SERVER (the include's input `server`) and let the job ask that",
                )))
            }
            _ => Ok(()),
        }
    }

    /// Remembers what there is, before a deploy that job `job_id` asks for.
    pub async fn restore(
        &self,
        merge_request: &MergeRequest,
        project_path: &str,
        job_id: u64,
    ) -> Result<(), AloneError> {
        let mut record = self.record(merge_request.key, project_path, &merge_request.source_branch).await?;
        // Which job made the image is not known: what serves is compared by its digest.
        if let Some(release) = &mut record.release {
            release.job_id = job_id;
        }
        self.parts.store.save(&record, None).await?;
        Ok(())
    }

    /// The previews that a pipeline of the job's branch may have made and that are there: those of the branch's merge requests,
    /// which may be over by now, and the branch's own.
    pub async fn of_branch(&self, claims: &Claims) -> Result<Vec<PreviewKey>, AloneError> {
        let (project, branch) = (claims.project(), &claims.reference);
        if claims.ref_type != "branch" {
            return Ok(Vec::new());
        }
        let mut there = BTreeSet::new();
        for (place, engine) in self.parts.engines.all() {
            let names = engine.inventory().await.map_err(|error| LookError::engine(place, error))?;
            there.extend(names.iter().filter_map(PreviewName::key).filter(|key| key.project_id == project));
        }
        if there.is_empty() {
            return Ok(Vec::new());
        }
        let merge_requests = self.parts.forge.merge_requests_ever_of_branch(project, branch).await?;
        let of_merge_requests = merge_requests.into_iter().map(PreviewKey::from);
        let own = BranchId::of(branch).map(|id| PreviewKey::new(project, Subject::Branch(id)));
        Ok(of_merge_requests.chain(own).filter(|key| there.contains(key)).collect())
    }

    /// Asks for a stop; the preview as it is. `branch` is the job's.
    pub async fn stop(
        &self,
        key: PreviewKey,
        project_path: &str,
        branch: &str,
    ) -> Result<Preview, AloneError> {
        let branch = if key.subject.is_branch() { branch } else { "" };
        let record = self.record(key, project_path, branch).await?;
        let intent = match branch::read(&self.parts, key, Some(&record), None).await {
            // Whoever runs the job means it, even where the merge request was deleted.
            Err(error) if error.is_not_found() => Intent::Stop,
            shown => shown.map(|_| Intent::StopInGitlab)?,
        };
        self.parts.store.save(&record, None).await?;
        self.parts.store.ask(&record, intent, self.parts.clock.now()).await?;
        Ok(record)
    }

    /// Looks at the merge request as often as there is reason to, until `stop` is cancelled.
    pub async fn run(&self, key: PreviewKey, stop: CancellationToken) {
        Controller::new(self.parts.clone()).run_one(key, stop).await;
    }

    /// Why the last look failed, if it did; it is tried again.
    pub async fn trouble(&self, key: PreviewKey) -> Option<String> {
        let key = WorkKey::Preview(key);
        self.parts.store.trouble(&key).await.ok().flatten().map(|(why, _)| why)
    }

    /// The preview as the clusters and GitLab tell of it.
    async fn record(&self, key: PreviewKey, project_path: &str, branch: &str) -> Result<Preview, AloneError> {
        let parts = &self.parts;
        let now = parts.clock.now();
        let mut record = Preview::new(key, project_path, branch, |name| parts.links.of(name), now);
        let rules = (parts.rules)(project_path);
        let cluster = rules.cluster.as_ref().map_or(DEFAULT_CLUSTER, |given| given.value.as_str());
        record.move_to(&Place::cluster(cluster));
        let mut found = false;
        for (place, engine) in parts.engines.all() {
            let names = engine.inventory().await.map_err(|error| LookError::engine(place, error))?;
            let Some(name) = names.into_iter().find(|name| name.key() == Some(key)) else { continue };
            // A project that was renamed keeps the name.
            record.name = name;
            if found {
                record.leaving.push(place.clone());
                continue;
            }
            found = true;
            record.move_to(place);
            if let Some(running) = parts.engines.status(place, &record).await?.serving {
                sweep::take_over_running(&mut record, running);
            }
        }
        record.url = parts.link(&record);
        record.note_begun = true;
        apply::unless_refused(parts.reporter.find_environment(&mut record).await).map_err(LookError::from)?;
        let sha = record.serving.as_ref().map(|serving| serving.sha.clone());
        match &sha {
            Some(sha) => record.enter(State::Ready, &Reason::Ready(sha.clone()), Some(sha)),
            None => record.enter(State::Waiting, &Reason::Found, None),
        }
        Ok(record)
    }
}
