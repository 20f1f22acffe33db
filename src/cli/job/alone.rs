//! A job that does the work itself: with a kubeconfig, GitLab's API and nothing that outlives it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::follow;
use super::log::Log;
use crate::checks::Asker;
use crate::cli::{Failure, clusters};
use crate::clock::Clock;
use crate::gitlab::{self, ArtifactLimits, Credentials, Forge, Token};
use crate::oidc::Claims;
use crate::preview::{CommitStatusMode, EngineKind, PreviewKey};
use crate::reconcile::{
    Admitted, Alone as Worker, AloneError, Awaited, Brake, Engines, Jobs, Links, Parts, PlanError, Planner,
    Refusal, Strays, Uploads,
};
use crate::report::Reporter;
use crate::settings::{AloneSettings, CiJob};
use crate::store::Store;
use crate::telemetry::{Deploys, Health};
use crate::web::{Follower, Wanted};

/// How often it is looked whether there is trouble to tell of.
const EVERY: Duration = Duration::from_millis(250);

/// What such a job works with.
pub(super) struct Alone {
    worker: Worker,
    planner: Planner,
    jobs: Jobs,
    claims: Claims,
    project_path: String,
    /// Whether its pipeline is one merge request's own.
    of_merge_request: bool,
    /// Store and downloads are in it; it goes with the job.
    _folder: TempDir,
}

impl Alone {
    pub(super) async fn open(settings: AloneSettings) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let clock = Clock;
        let store =
            Store::open(&format!("sqlite://{}?mode=rwc", folder.path().join("job.db").display())).await?;
        let path = settings.job.project_path.clone();
        let forge = forge(&settings)?;
        let (engines, reached) =
            clusters::engines(&settings.clusters, &settings.roots, &settings.instance, clock).await;
        if let Some(why) = reached.iter().find_map(clusters::Reached::trouble) {
            return Err(Failure::Failed(anyhow!("{why}")));
        }
        let links = Links { scheme: settings.scheme, domain: settings.preview_domain, port: settings.port };
        let per_project = settings.per_project;
        let (rules, of_cluster, on_links) = (per_project.clone(), per_project, links.clone());
        let served: Arc<dyn Fn(&str) -> bool + Send + Sync> = Arc::new(|_| true);
        let health = Health::new(move || clock.now());
        let parts = Parts {
            store: store.clone(),
            forge: forge.clone(),
            engines: Engines::new(engines),
            reporter: Reporter::new(forge.clone(), settings.instance),
            strays: Strays::default(),
            links,
            on_cluster: Arc::new(move |path| {
                clusters::on_cluster(&on_links, &of_cluster.of(path).on_cluster)
            }),
            tools: clusters::tools(),
            asker: Arc::new(Asker::new(&settings.roots)?),
            deploys: Arc::new(Deploys::of(EngineKind::ALL.map(EngineKind::as_str))),
            password_key: settings.password_key,
            clock,
            incoming: folder.path().to_owned(),
            uploads: Uploads::open(folder.path().join("uploads"), settings.artifact_max_bytes)?,
            limits: ArtifactLimits { bytes: settings.artifact_max_bytes },
            served: Arc::clone(&served),
            // The job is the status, and a server, where there is one, sets its own.
            commit_status: Arc::new(|_| CommitStatusMode::Off),
            rules: Arc::new(move |path| rules.of(path).rules()),
            named_projects: Vec::new(),
            // A comment of ours may be older than anything that is known here.
            born: i64::MAX,
            has_wildcards: false,
            health,
            looks: Arc::default(),
            awaited: Awaited::default(),
            brake: Brake::new(Duration::ZERO, Duration::ZERO),
            unseen_after: i64::MAX,
            instance_is_chosen: true,
        };
        Ok(Self {
            planner: Planner::new(parts.clone()),
            worker: Worker::new(parts),
            jobs: Jobs { forge, store, served },
            claims: claims(&settings.job)?,
            of_merge_request: settings.job.of_merge_request,
            project_path: path,
            _folder: folder,
        })
    }

    /// Asks itself for a deploy of the job's merge request; answers as a server does.
    pub(super) async fn deploy(&self, named: &[u64]) -> Result<Value, Failure> {
        let admitted = self.jobs.admit_deploy(&self.claims, named).await.map_err(turned_away)?;
        let key = self.prepare(&admitted).await?;
        let kept = self.jobs.order(&self.claims, admitted, None, Clock.now()).await.map_err(turned_away)?;
        Ok(json!({ "key": key.to_string(), "order": kept.order.id }))
    }

    /// Remembers what there is of what the job may deploy, if it can be deployed without a server.
    async fn prepare(&self, admitted: &Admitted) -> Result<PreviewKey, Failure> {
        let merge_request = &admitted.merge_request;
        self.worker.check(merge_request).await.map_err(cannot)?;
        let restored = self.worker.restore(merge_request, &self.project_path, self.claims.job_id).await;
        restored.map_err(cannot)?;
        Ok(admitted.key())
    }

    /// What a deploy would do; answers as a server does.
    pub(super) async fn plan(&self, named: &[u64]) -> Result<Value, Failure> {
        let admitted = self.jobs.admit_deploy(&self.claims, named).await.map_err(turned_away)?;
        let key = self.prepare(&admitted).await?;
        let order = admitted.order(&self.claims, None, Clock.now());
        let planned = self.planner.plan(key, Some(order)).await.map_err(|error| match error {
            PlanError::NotOurs(_) => Failure::Failed(error.into()),
            _ => Failure::Unavailable(error.into()),
        })?;
        Ok(serde_json::to_value(planned)?)
    }

    /// Asks itself for a stop; answers as a server does, for each preview that is to go.
    pub(super) async fn stop(&self, named: &[u64]) -> Result<Vec<Value>, Failure> {
        let project = self.claims.project();
        // What nobody shows any more can be stopped all the same.
        let named = match named {
            [iid] => Some(PreviewKey::of_mr(project, *iid)),
            several => self.jobs.admit_stop(&self.claims, several).await.map_err(turned_away)?,
        };
        let mut keys = BTreeSet::from_iter(named);
        if !self.of_merge_request {
            // With the branch's environment goes all that its pipelines have made. When GitLab stops it, no merge request is
            // open any more, and none is named.
            keys.extend(self.worker.of_branch(&self.claims).await.map_err(cannot)?);
        }
        let mut answers = Vec::new();
        for key in keys {
            let branch = &self.claims.reference;
            let preview = self.worker.stop(key, &self.project_path, branch).await.map_err(cannot)?;
            answers.push(json!({ "key": key.to_string(), "name": preview.name.as_str() }));
        }
        Ok(answers)
    }

    /// Does the work and shows how it goes, until it is decided.
    pub(super) async fn follow(&self, log: &Log, answer: &Value) -> Result<Value, Failure> {
        let key: PreviewKey = answer["key"].as_str().unwrap_or_default().parse()?;
        let stop = CancellationToken::new();
        let wanted = Wanted { order: answer["order"].as_str().map(str::to_owned), after: None };
        let follower = Follower::new(self.jobs.store.clone(), Clock, stop.clone(), key, wanted).await?;
        let follow = async {
            let end = follow::print(follower.lines(), log, &mut None).await;
            // What a look is at is brought to its end.
            stop.cancel();
            end
        };
        let tell = async {
            let mut told = None;
            loop {
                let trouble = self.worker.trouble(key).await;
                if let Some(why) = trouble.as_ref().filter(|_| trouble != told) {
                    log.line(&format!("{why}; it is tried again"));
                }
                told = trouble;
                tokio::time::sleep(EVERY).await;
            }
        };
        let work = async {
            tokio::select! {
                () = self.worker.run(key, stop.clone()) => {}
                () = tell => {}
            }
        };
        let (end, ()) = tokio::join!(follow, work);
        end.ok_or_else(|| Failure::Failed(anyhow!("the job's own store cannot be read")))
    }
}

fn forge(settings: &AloneSettings) -> Result<Forge, Failure> {
    let token = Token { name: String::from("GREENROOM_GITLAB_TOKEN"), secret: settings.gitlab_token.clone() };
    let path = settings.job.project_path.clone();
    Ok(Forge::new(gitlab::Settings {
        url: settings.gitlab_url.clone(),
        credentials: Credentials::one(token),
        timeout: settings.gitlab_timeout,
        rate: settings.gitlab_rate,
        roots: settings.roots.clone(),
        paths: Arc::new(move |_| {
            let path = path.clone();
            Box::pin(async move { Some(path) })
        }),
    })?)
}

/// What an ID token would say of the job. Nobody has to be convinced: what it could reach for is in its own hands.
fn claims(job: &CiJob) -> Result<Claims, Failure> {
    Ok(serde_json::from_value(json!({
        "project_id": job.project_id,
        "pipeline_id": job.pipeline_id,
        "job_id": job.job_id,
        "sha": job.sha.as_str(),
        "ref": job.reference,
        "ref_type": if job.is_tag { "tag" } else { "branch" },
        "environment": job.environment,
        "environment_action": job.environment_action,
    }))?)
}

fn turned_away(refusal: Refusal) -> Failure {
    match refusal {
        Refusal::Unavailable(_) => Failure::Unavailable(refusal.into()),
        _ => Failure::Failed(refusal.into()),
    }
}

fn cannot(error: AloneError) -> Failure {
    match error {
        AloneError::Unavailable(_) => Failure::Unavailable(error.into()),
        AloneError::Refused(_) => Failure::Failed(error.into()),
    }
}
