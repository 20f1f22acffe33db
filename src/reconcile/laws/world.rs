//! GitLab, the engines and our record, in a few lines.

use std::collections::BTreeMap;

use super::Happening;
use crate::engine::{Progress, Running, Status};
use crate::preview::{
    Changes, DEFAULT_CLUSTER, Deployment, Given, Head, Hold, HoldOrigin, Job, JobStatus, MergeRequest,
    MergeRequestState, Pipeline, Place, Preview, PreviewKey, ProjectRules, Reason, Release, Sha, Sleep,
    State,
};
use crate::reconcile::apply::settle;
use crate::reconcile::desired::{Desired, Facts, FileFact, HeadFact, desired};
use crate::reconcile::engines::{place_of, places_of};
use crate::reconcile::plan::{Step, outcome, plan};
use crate::reconcile::sleep;
use crate::render::ProjectFile;

const KEY: PreviewKey = PreviewKey::of_mr(42, 7);
const HOUR: i64 = 3_600_000;
/// The cluster beside the default one.
const OTHER: &str = "other";

/// GitLab, the engine and our record.
pub(super) struct World {
    fork: bool,
    lifetime: bool,
    now: i64,
    state: MergeRequestState,
    commits: u64,
    jobs: u64,
    pipeline: Option<(Sha, Job)>,
    pub(super) file: FileFact,
    excluded: bool,
    /// Where it is wanted.
    place: Place,
    /// What there is, by place.
    pub(super) engines: BTreeMap<Place, Status>,
    pub(super) record: Option<Preview>,
    pub(super) environment: bool,
    environment_stopped: bool,
    pub(super) running_deployments: Vec<u64>,
    deployments: u64,
    reopened: bool,
}

fn sha(n: u64) -> Sha {
    Sha::parse(&format!("{n:040x}")).unwrap()
}

/// The places there are.
fn places() -> [Place; 3] {
    [Place::STATIC, Place::cluster(DEFAULT_CLUSTER), Place::cluster(OTHER)]
}

fn file(lifetime: bool, place: &Place) -> FileFact {
    let life = if lifetime { "expires_after: 48h\n" } else { "" };
    let when = "when: {labels: {none: [no-preview]}}\n";
    let engine = if place.cluster.is_some() {
        "engine: kubernetes\nkubernetes: {preset: web, image: web}\nwait_for: {job: build}\n"
    } else {
        "engine: static\nstatic: {job: build}\n"
    };
    let text = format!("version: 1\n{engine}{life}{when}");
    FileFact::Present(ProjectFile::parse(&text).unwrap())
}

impl World {
    pub(super) fn new(fork: bool, lifetime: bool) -> Self {
        Self {
            fork,
            lifetime,
            now: 1_000,
            state: MergeRequestState::Opened,
            commits: 1,
            jobs: 0,
            pipeline: None,
            file: file(lifetime, &Place::STATIC),
            excluded: false,
            place: Place::STATIC,
            engines: places().map(|place| (place, Status::default())).into(),
            record: None,
            environment: false,
            environment_stopped: false,
            running_deployments: Vec::new(),
            deployments: 0,
            reopened: false,
        }
    }

    pub(super) fn happen(&mut self, happening: &Happening) {
        use Happening as H;
        match happening {
            H::Push => self.commits += 1,
            H::Pipeline => {
                self.jobs += 1;
                let job = Job {
                    id: self.jobs,
                    name: "build".into(),
                    status: JobStatus::Unfinished,
                    allow_failure: false,
                    has_artifact: false,
                };
                self.pipeline = Some((sha(self.commits), job));
            }
            H::Job(status) => {
                if let Some((_, job)) = &mut self.pipeline {
                    job.status = *status;
                    job.has_artifact = *status == JobStatus::Success;
                }
            }
            H::Retry => {
                self.jobs += 1;
                if let Some((_, job)) = &mut self.pipeline {
                    job.id = self.jobs;
                    job.status = JobStatus::Unfinished;
                    job.has_artifact = false;
                }
            }
            H::ArtifactExpires => {
                if let Some((_, job)) = &mut self.pipeline {
                    job.has_artifact = false;
                }
            }
            H::Close if self.state == MergeRequestState::Opened => self.state = MergeRequestState::Closed,
            H::Merge if self.state == MergeRequestState::Locked => self.state = MergeRequestState::Merged,
            H::Lock if self.state == MergeRequestState::Opened => self.state = MergeRequestState::Locked,
            H::Reopen if self.state == MergeRequestState::Closed => {
                self.state = MergeRequestState::Opened;
                self.reopened = true;
            }
            H::Close | H::Merge | H::Lock | H::Reopen => {}
            H::StopByHand => self.environment_stopped = self.environment,
            H::BreakFile => self.file = FileFact::Broken(ProjectFile::parse("x").unwrap_err()),
            H::MendFile => self.file = file(self.lifetime, &self.place),
            H::RemoveFile => self.file = FileFact::Absent,
            H::Label(on) => self.excluded = *on,
            H::HoursPass(hours) => self.now += hours * HOUR,
            H::Move(to) => {
                self.place = places()[*to].clone();
                if matches!(self.file, FileFact::Present(_)) {
                    self.file = file(self.lifetime, &self.place);
                }
            }
            H::EngineWorks => {
                let works = |(.., progress): &mut (_, _, Progress)| *progress == Progress::Working;
                for engine in self.engines.values_mut() {
                    if let Some((sha, digest, _)) = engine.pending.take_if(works) {
                        engine.serving = Some(Running { sha, digest, since: self.now });
                    }
                }
            }
            H::EngineFails => self.progress(&Progress::Failed("it is broken".into())),
            H::EngineForgets => self.engines.values_mut().for_each(|engine| engine.pending = None),
            H::EngineInTrouble => self.progress(&Progress::Trouble("the disk is full".into())),
            H::Sleep => {
                let record = self.record.as_mut().filter(|record| record.sleeps_since().is_none());
                if let Some((record, serving)) = record.and_then(|it| it.serving.clone().map(|at| (it, at))) {
                    record.sleep = Some(Sleep { sha: serving.sha, since: self.now, waking: false });
                }
            }
            H::Wake => self.record.iter_mut().for_each(|record| sleep::wake(record, self.now)),
            H::Look(steps) => {
                self.look(*steps);
            }
        }
    }

    /// Whatever is on its way comes to this.
    fn progress(&mut self, to: &Progress) {
        let pending = self.engines.values_mut().filter_map(|engine| engine.pending.as_mut());
        pending.for_each(|(.., progress)| *progress = to.clone());
    }

    /// Where something serves.
    pub(super) fn serves(&self) -> Vec<&Place> {
        self.engines.iter().filter(|(_, engine)| engine.serving.is_some()).map(|(place, _)| place).collect()
    }

    /// Where there is anything.
    pub(super) fn is_at(&self) -> Vec<&Place> {
        self.engines.iter().filter(|(_, engine)| !engine.is_gone()).map(|(place, _)| place).collect()
    }

    fn merge_request(&self) -> MergeRequest {
        MergeRequest {
            key: KEY,
            project_path: "acme/web".into(),
            state: self.state,
            sha: Some(sha(self.commits)),
            source_branch: "feature".into(),
            target_branch: "main".into(),
            created_at: None,
            source_project_id: Some(if self.fork { 43 } else { 42 }),
            draft: false,
            title: String::new(),
            author: String::new(),
            labels: self.excluded.then(|| "no-preview".into()).into_iter().collect(),
            diff: None,
            branch_deleted: false,
        }
    }

    fn head(&self) -> HeadFact {
        match &self.pipeline {
            Some((at, job)) if *at == sha(self.commits) => HeadFact::Pipeline(Head {
                pipeline: Pipeline {
                    id: 1,
                    project_id: 42,
                    sha: at.clone(),
                    reference: "refs/merge-requests/7/head".into(),
                    source: "merge_request_event".into(),
                },
                jobs: vec![job.clone()],
                bridges: Vec::new(),
                child_jobs: Vec::new(),
            }),
            _ => HeadFact::NoPipeline,
        }
    }

    /// One look, as `look.rs` does it, cut off after `steps` steps. Returns what was decided.
    fn look(&mut self, steps: usize) -> (Desired, Vec<Step>) {
        let merge_request = self.merge_request();
        let over = merge_request.state.is_over();
        if let Some(record) = &mut self.record {
            if std::mem::take(&mut self.reopened) || over {
                record.hold = None;
            }
            let at_rest = matches!(record.state, State::Stopping | State::Stopped);
            if !over && record.environment_id.is_some() && self.environment_stopped && !at_rest {
                record.hold = Some(Hold {
                    sha: merge_request.sha.clone(),
                    since: self.now,
                    origin: HoldOrigin::Gitlab,
                });
            }
        }
        let (file, head) =
            if over { (FileFact::NotRead, HeadFact::NotRead) } else { (self.file.clone(), self.head()) };
        let cluster = self.place.cluster.clone();
        let rules = ProjectRules {
            cluster: cluster.map(|value| Given { value, origin: String::new() }),
            ..ProjectRules::default()
        };
        let facts = Facts {
            merge_request: &merge_request,
            file: &file,
            changes: &Changes::Unknown,
            head: &head,
            clusters: &[DEFAULT_CLUSTER.to_owned(), OTHER.to_owned()],
            settings: "",
            rules: &rules,
            others: 0,
            record: self.record.as_ref(),
            now: self.now,
        };
        let decided = desired(facts).desired;
        assert_eq!(decided, desired(facts).desired, "the same facts lead to the same decision");
        self.law_of(&decided);
        if decided == Desired::Leave {
            return (decided, Vec::new());
        }
        let mut record = self.record.take().unwrap_or_else(|| {
            Preview::new(KEY, "acme/web", "feature", |name| format!("http://{name}.example"), self.now)
        });
        record.hold = record.hold.filter(|hold| hold.sha == merge_request.sha);
        let place = match &decided {
            Desired::Run(target) => target.place.clone(),
            _ => place_of(&record),
        };
        settle(&mut record, &self.engines[&place], self.now);
        let planned = plan(&decided, &record, &self.engines[&place]);
        if matches!(decided, Desired::Gone(_)) && !planned.is_empty() {
            record.state = State::Stopping;
        }
        for (done, step) in planned.iter().enumerate() {
            if done == steps {
                self.record = Some(record);
                return (decided, planned);
            }
            self.step(step, &mut record);
        }
        let status = self.engines[&place].clone();
        settle(&mut record, &status, self.now);
        let serves = status.serving.is_some() && status.pending.is_none();
        if serves && matches!(decided, Desired::Run(_)) {
            if steps == planned.len() {
                self.record = Some(record);
                return (decided, planned);
            }
            for left in std::mem::take(&mut record.leaving) {
                self.engines.insert(left, Status::default());
            }
        }
        let (state, reason) = outcome(&decided, &record, &status, &[]);
        record.enter(state, &reason, merge_request.sha.as_ref());
        sleep::settle(&mut record, &status, self.now);
        let serves_there = record.serving.take().filter(|_| !record.leaving.is_empty());
        let serving = status.serving.as_ref();
        let serving =
            serving.map(|running| crate::preview::Serving { sha: running.sha.clone(), since: running.since });
        record.serving = serving.or(serves_there);
        if state == State::Stopped && !matches!(reason, Reason::Expired(_)) && !reason.is_exclusion() {
            record.deployed_at = None;
        }
        self.record = Some(record);
        (decided, planned)
    }

    fn step(&mut self, step: &Step, record: &mut Preview) {
        match step {
            Step::FinishDeployment(_) => {
                if let Some(deployment) = &mut record.deployment {
                    deployment.finished = true;
                    self.running_deployments.retain(|id| Some(*id) != deployment.id);
                }
            }
            Step::Deploy(target) => {
                let has = target.place.cluster.is_some()
                    || self.pipeline.as_ref().is_some_and(|(_, job)| job.has_artifact);
                let digest = format!("{}", target.job_id);
                let mut release = Release {
                    sha: target.sha.clone(),
                    job_id: target.job_id,
                    digest: digest.clone(),
                    submitted_at: self.now,
                    settled_at: None,
                    failure: None,
                    settings: target.settings.clone(),
                    by_job: false,
                };
                if !has {
                    release.failure = Some("there is no artifact".into());
                    release.settled_at = Some(self.now);
                    record.move_to(&target.place);
                    record.release = Some(release);
                    return;
                }
                let engine = self.engines.entry(target.place.clone()).or_default();
                let is_known = |known: &Release| known.sha == target.sha && known.digest == digest;
                if record.release.as_ref().is_some_and(is_known)
                    && engine.serving.iter().any(|it| it.sha == target.sha && it.digest == digest)
                {
                    record.move_to(&target.place);
                    record.release = Some(release);
                    return;
                }
                record.environment_id = Some(1);
                if !self.environment {
                    self.environment = true;
                    self.environment_stopped = false;
                }
                let open = record.deployment.as_ref().filter(|d| !d.finished && d.sha == target.pipeline_sha);
                let id = open.and_then(|deployment| deployment.id).unwrap_or_else(|| {
                    self.deployments += 1;
                    self.running_deployments.push(self.deployments);
                    self.deployments
                });
                record.deployment = Some(Deployment {
                    id: Some(id),
                    sha: target.pipeline_sha.clone(),
                    reference: target.pipeline_ref.clone(),
                    finished: false,
                });
                if record.release.as_ref().is_none_or(|old| old.sha != release.sha)
                    || record.deployed_at.is_none()
                {
                    record.deployed_at = Some(self.now);
                }
                record.move_to(&target.place);
                record.release = Some(release);
                record.sleep = None;
                engine.asleep = false;
                engine.pending = Some((target.sha.clone(), digest, Progress::Working));
            }
            Step::Sleep => self.engines.entry(place_of(record)).or_default().asleep = true,
            Step::Wake => self.engines.entry(place_of(record)).or_default().asleep = false,
            Step::StopEngine => {
                for place in places_of(record) {
                    self.engines.insert(place, Status::default());
                }
                record.leaving.clear();
            }
            Step::RemoveEnvironment => {
                self.environment = false;
                self.environment_stopped = false;
                record.environment_id = None;
                record.deployment = None;
                // GitLab deletes an environment's deployments with it.
                self.running_deployments.clear();
            }
        }
    }

    /// What must hold of every single decision.
    fn law_of(&self, decided: &Desired) {
        let over = self.state.is_over();
        match decided {
            Desired::Run(target) => {
                assert!(
                    !over && !self.fork && !self.excluded,
                    "what is over, a fork or excluded is not deployed"
                );
                assert_eq!(target.sha, sha(self.commits), "the exact head or nothing");
                let (at, job) = self.pipeline.as_ref().expect("a pipeline");
                assert!(*at == target.sha && job.id == target.job_id && job.status == JobStatus::Success);
            }
            Desired::Gone(reason) => match reason {
                Reason::Closed => assert_eq!(self.state, MergeRequestState::Closed),
                Reason::Merged => assert_eq!(self.state, MergeRequestState::Merged),
                Reason::StoppedInGitlab => assert!(!over),
                Reason::FileRemoved => assert_eq!(self.file, FileFact::Absent),
                Reason::Expired(_) => assert!(self.lifetime && !over),
                Reason::LabelExcluded(_) => assert!(self.excluded && !over),
                other => panic!("{other:?} is no reason to remove anything"),
            },
            Desired::Keep(..) => assert!(!over, "what has ended is not kept"),
            Desired::Leave => {}
        }
    }

    /// Looks and engine until nothing changes any more.
    pub(super) fn quiet(&mut self) -> Desired {
        for _ in 0..20 {
            let (decided, steps) = self.look(usize::MAX);
            self.happen(&Happening::EngineWorks);
            let place = self.record.as_ref().map_or(Place::STATIC, place_of);
            let pending = self.engines[&place].pending.as_ref().map(|(.., progress)| progress);
            if steps.is_empty() && pending != Some(&Progress::Working) {
                return decided;
            }
        }
        panic!("it never comes to rest: {:?}", self.record);
    }
}
