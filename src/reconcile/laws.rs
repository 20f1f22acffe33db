//! Laws of `desired` and `plan`, over random histories of a merge request in a world without I/O.
//!
//! The world below does what GitLab and the engine do, in a few lines. A history is a list of happenings in any order;
//! looks come at any time and may be cut off after any step, as a crash does. After a quiet time the world must equal
//! the truth.

use proptest::prelude::*;

use super::apply::settle;
use super::desired::{Desired, Facts, FileFact, HeadFact, desired};
use super::plan::{Step, outcome, plan};
use super::sleep;
use crate::engine::{Progress, Running, Status};
use crate::preview::{
    Changes, Deployment, Head, Hold, HoldOrigin, Job, JobStatus, MergeRequest, MergeRequestState, MrKey,
    Pipeline, Place, Preview, ProjectRules, Reason, Release, Sha, Sleep, State,
};
use crate::render::ProjectFile;

const KEY: MrKey = MrKey::new(42, 7);
const HOUR: i64 = 3_600_000;

#[derive(Debug, Clone)]
enum Happening {
    Push,
    Pipeline,
    Job(JobStatus),
    Retry,
    ArtifactExpires,
    Close,
    Merge,
    Lock,
    Reopen,
    StopByHand,
    BreakFile,
    MendFile,
    RemoveFile,
    /// Somebody puts on the label that excludes, or takes it away.
    Label(bool),
    HoursPass(i64),
    EngineWorks,
    EngineFails,
    EngineForgets,
    EngineInTrouble,
    Sleep,
    Wake,
    /// A look that is cut off after this many steps.
    Look(usize),
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening as H;
    prop_oneof![
        3 => Just(H::Push),
        4 => Just(H::Pipeline),
        2 => Just(H::Job(JobStatus::Failed)),
        6 => Just(H::Job(JobStatus::Success)),
        1 => Just(H::Job(JobStatus::Canceled)),
        1 => Just(H::Job(JobStatus::Manual)),
        2 => Just(H::Retry),
        1 => Just(H::ArtifactExpires),
        2 => Just(H::Close),
        1 => Just(H::Merge),
        1 => Just(H::Lock),
        2 => Just(H::Reopen),
        1 => Just(H::StopByHand),
        1 => Just(H::BreakFile),
        2 => Just(H::MendFile),
        1 => Just(H::RemoveFile),
        2 => prop::bool::ANY.prop_map(H::Label),
        1 => (1_i64..100).prop_map(H::HoursPass),
        4 => Just(H::EngineWorks),
        1 => Just(H::EngineFails),
        1 => Just(H::EngineForgets),
        1 => Just(H::EngineInTrouble),
        2 => Just(H::Sleep),
        1 => Just(H::Wake),
        8 => (0_usize..6).prop_map(H::Look),
    ]
}

/// GitLab, the engine and our record.
struct World {
    fork: bool,
    lifetime: bool,
    now: i64,
    state: MergeRequestState,
    commits: u64,
    jobs: u64,
    pipeline: Option<(Sha, Job)>,
    file: FileFact,
    excluded: bool,
    engine: Status,
    record: Option<Preview>,
    environment: bool,
    environment_stopped: bool,
    running_deployments: Vec<u64>,
    deployments: u64,
    reopened: bool,
}

fn sha(n: u64) -> Sha {
    Sha::parse(&format!("{n:040x}")).unwrap()
}

fn file(lifetime: bool) -> FileFact {
    let life = if lifetime { "expires_after: 48h\n" } else { "" };
    let when = "when: {labels: {none: [no-preview]}}\n";
    let text = format!("version: 1\nengine: static\nstatic: {{job: build}}\n{life}{when}");
    FileFact::Present(ProjectFile::parse(&text).unwrap())
}

impl World {
    fn new(fork: bool, lifetime: bool) -> Self {
        Self {
            fork,
            lifetime,
            now: 1_000,
            state: MergeRequestState::Opened,
            commits: 1,
            jobs: 0,
            pipeline: None,
            file: file(lifetime),
            excluded: false,
            engine: Status::default(),
            record: None,
            environment: false,
            environment_stopped: false,
            running_deployments: Vec::new(),
            deployments: 0,
            reopened: false,
        }
    }

    fn happen(&mut self, happening: &Happening) {
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
            H::MendFile => self.file = file(self.lifetime),
            H::RemoveFile => self.file = FileFact::Absent,
            H::Label(on) => self.excluded = *on,
            H::HoursPass(hours) => self.now += hours * HOUR,
            H::EngineWorks => {
                let works = |(.., progress): &mut (_, _, Progress)| *progress == Progress::Working;
                if let Some((sha, digest, _)) = self.engine.pending.take_if(works) {
                    self.engine.serving = Some(Running { sha, digest, since: self.now });
                }
            }
            H::EngineFails => {
                if let Some((_, _, progress)) = &mut self.engine.pending {
                    *progress = Progress::Failed("it is broken".into());
                }
            }
            H::EngineForgets => self.engine.pending = None,
            H::EngineInTrouble => {
                if let Some((_, _, progress)) = &mut self.engine.pending {
                    *progress = Progress::Trouble("the disk is full".into());
                }
            }
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
        let facts = Facts {
            merge_request: &merge_request,
            file: &file,
            changes: &Changes::Unknown,
            head: &head,
            clusters: &[],
            settings: "",
            rules: &ProjectRules::default(),
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
            Preview::new(KEY, "acme/web", |name| format!("http://{name}.example"), self.now)
        });
        record.hold = record.hold.filter(|hold| hold.sha == merge_request.sha);
        record.move_to(&Place::STATIC);
        settle(&mut record, &self.engine, self.now);
        let planned = plan(&decided, &record, &self.engine);
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
        settle(&mut record, &self.engine, self.now);
        let (state, reason) = outcome(&decided, &record, &self.engine, &[]);
        record.enter(state, &reason, merge_request.sha.as_ref());
        sleep::settle(&mut record, &self.engine, self.now);
        record.serving = None;
        if let Some(running) = &self.engine.serving {
            record.serving = Some(crate::preview::Serving { sha: running.sha.clone(), since: running.since });
        }
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
                let has = self.pipeline.as_ref().is_some_and(|(_, job)| job.has_artifact);
                let digest = format!("{}", target.job_id);
                let mut release = Release {
                    sha: target.sha.clone(),
                    job_id: target.job_id,
                    digest: digest.clone(),
                    submitted_at: self.now,
                    settled_at: None,
                    failure: None,
                    settings: target.settings.clone(),
                };
                if !has {
                    release.failure = Some("there is no artifact".into());
                    release.settled_at = Some(self.now);
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
                record.release = Some(release);
                record.sleep = None;
                self.engine.asleep = false;
                self.engine.pending = Some((target.sha.clone(), digest, Progress::Working));
            }
            Step::Sleep => self.engine.asleep = true,
            Step::Wake => self.engine.asleep = false,
            Step::StopEngine => self.engine = Status::default(),
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
    fn quiet(&mut self) -> Desired {
        for _ in 0..20 {
            let (decided, steps) = self.look(usize::MAX);
            self.happen(&Happening::EngineWorks);
            if steps.is_empty() && self.engine.pending.is_none() {
                return decided;
            }
            if steps.is_empty()
                && matches!(self.engine.pending, Some((_, _, Progress::Failed(_) | Progress::Trouble(_))))
            {
                return decided;
            }
        }
        panic!("it never comes to rest: {:?}", self.record);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn after_a_quiet_time_the_world_equals_the_truth(
        history in prop::collection::vec(happening(), 1..60), fork in prop::bool::weighted(0.1), lifetime: bool,
    ) {
        let mut world = World::new(fork, lifetime);
        for happening in &history {
            world.happen(happening);
        }
        world.quiet();
        let decided = world.quiet();
        let wanted = world.record.as_ref().is_some_and(|record| record.sleeps_since().is_some());
        prop_assert_eq!(world.engine.asleep, wanted, "what is to sleep sleeps, and nothing else: {:?}", world.record);
        prop_assert_eq!(&world.running_deployments, &Vec::<u64>::new(), "no deployment is left running");
        match &decided {
            Desired::Run(target) => {
                let record = world.record.as_ref().unwrap();
                let served = world.engine.serving.as_ref().map(|running| &running.sha);
                if matches!(record.state, State::Ready | State::Asleep) {
                    prop_assert_eq!(served, Some(&target.sha));
                } else {
                    prop_assert_eq!(record.state, State::Failed, "{:?}", record);
                }
            }
            Desired::Gone(_) => {
                prop_assert!(world.engine.is_gone() && !world.environment, "nothing is left: {:?}", world.record);
                prop_assert_eq!(world.record.as_ref().map(|record| record.state), Some(State::Stopped));
            }
            Desired::Leave => prop_assert!(world.engine.is_gone() && !world.environment),
            Desired::Keep(state, _) => {
                prop_assert_eq!(world.record.as_ref().map(|record| record.state), Some(*state));
            }
        }
    }

    #[test]
    fn what_serves_is_only_taken_away_by_an_end_or_by_a_newer_head(
        history in prop::collection::vec(happening(), 1..60), lifetime: bool,
    ) {
        let mut world = World::new(false, lifetime);
        for happening in &history {
            let before = world.engine.serving.clone();
            world.happen(happening);
            if let (Some(before), None) = (&before, &world.engine.serving) {
                let record = world.record.as_ref().unwrap();
                let ended = matches!(record.state, State::Stopping | State::Stopped);
                prop_assert!(ended, "{:?} went without a reason: {:?}", before, record);
            }
        }
    }
}
