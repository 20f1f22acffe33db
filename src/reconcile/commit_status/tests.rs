//! What is said, case by case; and over random histories, with a GitLab of a few lines.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::preview::{PreviewKey, Release, Sha};
use crate::render::ProjectFile;

fn sha(n: u64) -> Sha {
    Sha::parse(&format!("{n:040x}")).unwrap()
}

fn target(pipeline_id: u64) -> Target {
    Target {
        sha: sha(pipeline_id),
        pipeline_id: Some(pipeline_id),
        pipeline_sha: sha(pipeline_id),
        pipeline_ref: "refs/merge-requests/7/head".into(),
        job_id: pipeline_id,
        place: crate::preview::Place::STATIC,
        settings: None,
        title: String::new(),
        author: String::new(),
        seen_at: 0,
        file: ProjectFile::parse("version: 1\nengine: static\nstatic: {job: build}\n").unwrap(),
    }
}

fn record() -> Preview {
    Preview::new(PreviewKey::of_mr(42, 7), "acme/web", "feature", |name| format!("http://{name}.example"), 1)
}

/// How a deploy stands.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Outcome {
    Deploying,
    Ready,
    Refused,
    Trouble,
}

fn enter(record: &mut Preview, target: &Target, outcome: Outcome) {
    let why = || String::from("why");
    let (state, reason) = match outcome {
        Outcome::Deploying => (State::Deploying, Reason::Deploying(target.sha.clone())),
        Outcome::Ready => (State::Ready, Reason::Ready(target.sha.clone())),
        Outcome::Refused => (State::Failed, Reason::ArtifactRefused(why())),
        Outcome::Trouble => (State::Failed, Reason::EngineFailed(why())),
    };
    record.release = Some(Release {
        sha: target.sha.clone(),
        job_id: target.job_id,
        digest: "d".into(),
        submitted_at: 1,
        settled_at: None,
        failure: (outcome == Outcome::Refused).then(why),
        settings: None,
        by_job: false,
    });
    record.enter(state, &reason, Some(&target.sha));
}

/// What GitLab has: per pipeline every status of ours, oldest first.
#[derive(Debug, Default)]
struct Gitlab(BTreeMap<u64, Vec<Said>>);

impl Gitlab {
    fn hear(&mut self, pipeline: u64, said: &Said) {
        let all = self.0.entry(pipeline).or_default();
        match all.last_mut() {
            // Running again is refused.
            Some(last) if !last.state.is_final() && !said.state.is_final() => {}
            Some(last) if !last.state.is_final() => *last = said.clone(),
            _ => all.push(said.clone()),
        }
    }
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Crash {
    No,
    Instead,
    After,
}

struct World {
    mode: Mode,
    gitlab: Gitlab,
    record: Preview,
    /// The pipeline that counts, while something should run.
    runs: Option<u64>,
    pipelines: u64,
    outcome: Outcome,
}

impl World {
    fn new(mode: Mode) -> Self {
        let (gitlab, record) = (Gitlab::default(), record());
        Self { mode, gitlab, record, runs: None, pipelines: 0, outcome: Outcome::Deploying }
    }

    /// As `super::say` does it. `false` when it crashed.
    fn say(&mut self, says: Option<Said>, crash: Crash) -> bool {
        let (Some(says), Some(status)) = (says, self.record.commit_status.as_mut()) else { return true };
        let again = !status.answered;
        status.intend(says.clone());
        if crash == Crash::Instead {
            return false;
        }
        let newest = self.gitlab.0.get(&status.pipeline_id).and_then(|all| all.last());
        if !(again && says.state.is_final() && newest == Some(&says)) {
            self.gitlab.hear(status.pipeline_id, &says);
        }
        if crash == Crash::After {
            return false;
        }
        status.taken();
        true
    }

    fn deploy(&mut self, crash: Crash, retry: bool) {
        let Some(target) = self.runs.map(target) else { return };
        if !self.say(overtaken(self.mode, &target, &self.record), crash) {
            return;
        }
        turn_to(self.mode, &target, &mut self.record);
        self.outcome = Outcome::Deploying;
        self.say(begun(self.mode, &target, &self.record, retry), crash);
    }

    fn look(&mut self, crash: Crash) {
        let target = self.runs.map(target);
        match &target {
            Some(target) => enter(&mut self.record, target, self.outcome),
            None => self.record.enter(State::Stopped, &Reason::Closed, None),
        }
        self.say(due(self.mode, target.as_ref(), &self.record), crash);
    }

    fn statuses(&self) -> impl Iterator<Item = (u64, &Said)> {
        self.gitlab.0.iter().flat_map(|(pipeline, all)| all.iter().map(|said| (*pipeline, said)))
    }

    fn states(&self) -> Vec<(u64, Is)> {
        self.statuses().map(|(pipeline, said)| (pipeline, said.state)).collect()
    }
}

/// A first deploy, its outcome, and a look that changes nothing.
fn first_deploy(mode: Mode, outcome: Outcome) -> World {
    let mut world = World::new(mode);
    world.runs = Some(1);
    world.deploy(Crash::No, false);
    world.look(Crash::No);
    world.outcome = outcome;
    world.look(Crash::No);
    world.look(Crash::No);
    world
}

#[test]
fn a_deploy_is_told_as_the_operator_wants_it() {
    use Mode::{Info, Off, Required};
    use Outcome::{Deploying, Ready, Refused, Trouble};
    for (mode, outcome, states) in [
        (Off, Ready, vec![]),
        (Info, Deploying, vec![]),
        (Info, Ready, vec![Is::Success]),
        (Info, Refused, vec![Is::Success]),
        (Info, Trouble, vec![]),
        (Required, Deploying, vec![Is::Running]),
        (Required, Ready, vec![Is::Success]),
        (Required, Refused, vec![Is::Failed]),
        (Required, Trouble, vec![Is::Failed]),
    ] {
        let told = first_deploy(mode, outcome).states();
        assert_eq!(told, states.into_iter().map(|is| (1, is)).collect::<Vec<_>>(), "{mode:?} {outcome:?}");
    }
}

#[test]
fn the_words_say_how_it_came_out() {
    let words = |mode, outcome| first_deploy(mode, outcome).statuses().next().unwrap().1.description.clone();
    assert_eq!(words(Mode::Info, Outcome::Ready), "Preview ready: commit `00000000` is being served");
    assert_eq!(words(Mode::Info, Outcome::Refused), "Preview failed: the artifact cannot be served: why");
    assert_eq!(
        words(Mode::Required, Outcome::Deploying),
        "Preview deploying: commit `00000000` is being deployed"
    );
}

#[test]
fn one_that_runs_is_ended_whatever_makes_nobody_wait_for_it() {
    let running = || first_deploy(Mode::Required, Outcome::Deploying);
    let mut closed = running();
    closed.runs = None;
    closed.look(Crash::No);
    assert_eq!(closed.states(), [(1, Is::Canceled)]);

    let mut overtaken = running();
    overtaken.runs = Some(2);
    overtaken.deploy(Crash::No, false);
    assert_eq!(overtaken.states(), [(1, Is::Canceled), (2, Is::Running)]);

    for mode in [Mode::Off, Mode::Info] {
        let mut switched = running();
        switched.mode = mode;
        switched.look(Crash::No);
        assert_eq!(switched.states(), [(1, Is::Success)], "{mode:?}");
    }
}

#[test]
fn a_later_attempt_is_told_where_it_came_out_differently() {
    for (mode, states) in [
        (Mode::Info, vec![Is::Success, Is::Success]),
        (Mode::Required, vec![Is::Failed, Is::Success, Is::Success]),
    ] {
        let mut world = first_deploy(mode, Outcome::Refused);
        // The job ran again, twice.
        for _ in 0..2 {
            world.deploy(Crash::No, false);
            world.outcome = Outcome::Ready;
            world.look(Crash::No);
        }
        let told: Vec<_> = world.states().into_iter().map(|(_, is)| is).collect();
        assert_eq!(told, states, "{mode:?}");
    }
}

#[test]
fn the_retries_of_an_engine_in_trouble_do_not_flicker() {
    let mut world = first_deploy(Mode::Required, Outcome::Trouble);
    for outcome in [Outcome::Deploying, Outcome::Trouble, Outcome::Deploying, Outcome::Trouble] {
        world.deploy(Crash::No, true);
        world.outcome = outcome;
        world.look(Crash::No);
    }
    assert_eq!(world.states(), [(1, Is::Failed)]);
    world.outcome = Outcome::Ready;
    world.look(Crash::No);
    assert_eq!(world.states(), [(1, Is::Failed), (1, Is::Success)]);
}

#[test]
fn what_gitlab_heard_before_two_crashes_is_not_said_again() {
    let mut world = World::new(Mode::Info);
    world.runs = Some(1);
    world.deploy(Crash::No, false);
    let crashes = [Crash::After, Crash::Instead, Crash::No];
    for (outcome, crash) in [Outcome::Refused, Outcome::Ready, Outcome::Refused].into_iter().zip(crashes) {
        world.outcome = outcome;
        world.look(crash);
    }
    assert_eq!(world.states(), [(1, Is::Success)]);
}

#[derive(Debug, Clone)]
enum Happening {
    Switch(Mode),
    Pipeline(Crash),
    Deploy(Crash, bool),
    Outcome(Outcome),
    Close,
    Look(Crash),
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening as H;
    let crash = || prop_oneof![4 => Just(Crash::No), 1 => Just(Crash::Instead), 1 => Just(Crash::After)];
    prop_oneof![
        1 => prop_oneof![Just(Mode::Off), Just(Mode::Info), Just(Mode::Required)].prop_map(H::Switch),
        4 => crash().prop_map(H::Pipeline),
        3 => (crash(), any::<bool>()).prop_map(|(crash, retry)| H::Deploy(crash, retry)),
        5 => prop_oneof![Just(Outcome::Ready), Just(Outcome::Refused), Just(Outcome::Trouble)].prop_map(H::Outcome),
        2 => Just(H::Close),
        8 => crash().prop_map(H::Look),
    ]
}

proptest! {
    #[test]
    fn none_is_left_running_and_nothing_is_said_twice(
        first in prop_oneof![Just(Mode::Info), Just(Mode::Required)],
        history in prop::collection::vec(happening(), 0..40),
    ) {
        use Happening as H;
        let mut world = World::new(first);
        let mut required = first == Mode::Required;
        for happening in &history {
            match happening {
                H::Switch(mode) => {
                    world.mode = *mode;
                    required |= *mode == Mode::Required;
                }
                H::Pipeline(crash) => {
                    world.pipelines += 1;
                    world.runs = Some(world.pipelines);
                    world.deploy(*crash, false);
                }
                H::Deploy(crash, retry) => world.deploy(*crash, *retry),
                H::Outcome(outcome) => world.outcome = *outcome,
                H::Close => world.runs = None,
                H::Look(crash) => world.look(*crash),
            }
        }
        // Whatever the last deploy was cut off at is done again.
        world.deploy(Crash::No, true);
        world.look(Crash::No);
        let told = format!("{:?}", world.gitlab);
        world.look(Crash::No);
        prop_assert_eq!(&told, &format!("{:?}", world.gitlab), "an unchanged look says something");

        for (pipeline, said) in world.statuses() {
            let goes_on = world.mode == Mode::Required && world.runs == Some(pipeline);
            prop_assert!(said.state.is_final() || goes_on, "left running: {} {}", pipeline, told);
            prop_assert!(required || said.state == Is::Success, "only for information: {}", told);
        }
        for all in world.gitlab.0.values() {
            // Where it is required, each deploy shows that it runs, and so has an end of its own.
            let twice = all.windows(2).any(|pair| pair[0] == pair[1]);
            prop_assert!(required || !twice, "said twice: {}", told);
        }
    }
}

#[test]
fn checks_belong_to_the_deploy() {
    use crate::preview::{CheckRun, CheckState};
    let target = target(1);
    let mut record = record();
    turn_to(Mode::Required, &target, &mut record);
    enter(&mut record, &target, Outcome::Ready);
    let release = record.release.clone().unwrap();
    let mut run = CheckRun::new("run".into(), &release, ["GET `/`".to_owned(), "GET `/api`".to_owned()]);
    record.check_run = Some(run.clone());
    for mode in [Mode::Info, Mode::Required] {
        assert_eq!(due(mode, Some(&target), &record), None, "while they are asked");
    }
    for check in &mut run.checks {
        check.state = CheckState::Passed;
    }
    record.check_run = Some(run.clone());
    let said = due(Mode::Required, Some(&target), &record).unwrap();
    assert_eq!(
        (said.state, said.description.ends_with("; 2 checks passed")),
        (Is::Success, true),
        "{said:?}"
    );
    run.checks[1].state = CheckState::Failed;
    run.checks[1].reason = "it answered with 500".to_owned();
    record.check_run = Some(run);
    for (mode, state) in [(Mode::Info, Is::Success), (Mode::Required, Is::Failed)] {
        let said = due(mode, Some(&target), &record).unwrap();
        let told = "; 1 of 2 checks failed: GET `/api` failed: it answered with 500";
        assert_eq!((said.state, said.description.ends_with(told)), (state, true), "{said:?}");
    }
}
