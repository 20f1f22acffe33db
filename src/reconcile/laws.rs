//! Laws of `desired` and `plan`, over random histories of a merge request in a world without I/O.
//!
//! The world below does what GitLab and the engine do, in a few lines. A history is a list of happenings in any order;
//! looks come at any time and may be cut off after any step, as a crash does. After a quiet time the world must equal
//! the truth.

use proptest::prelude::*;

use super::desired::Desired;
use super::engines::{place_of, places_of};
use crate::preview::{JobStatus, State};
use world::World;

mod world;

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
    /// The operator or the project wants it elsewhere, at one of the places there are.
    Move(usize),
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
        2 => (0_usize..3).prop_map(H::Move),
        4 => Just(H::EngineWorks),
        1 => Just(H::EngineFails),
        1 => Just(H::EngineForgets),
        1 => Just(H::EngineInTrouble),
        2 => Just(H::Sleep),
        1 => Just(H::Wake),
        8 => (0_usize..6).prop_map(H::Look),
    ]
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
        let record = world.record.as_ref();
        let asleep = record.is_some_and(|record| world.engines[&place_of(record)].asleep);
        let wanted = record.is_some_and(|record| record.sleeps_since().is_some());
        prop_assert_eq!(asleep, wanted, "what is to sleep sleeps, and nothing else: {:?}", world.record);
        prop_assert_eq!(&world.running_deployments, &Vec::<u64>::new(), "no deployment is left running");
        match &decided {
            Desired::Run(target) => {
                let record = world.record.as_ref().unwrap();
                let served = world.engines[&target.place].serving.as_ref().map(|running| &running.sha);
                if matches!(record.state, State::Ready | State::Asleep) {
                    prop_assert_eq!(served, Some(&target.sha));
                    prop_assert_eq!(world.is_at(), vec![&target.place], "nothing is left where it was before");
                } else {
                    prop_assert_eq!(record.state, State::Failed, "{:?}", record);
                }
            }
            Desired::Gone(_) => {
                prop_assert!(world.is_at().is_empty() && !world.environment, "nothing is left: {:?}", world.record);
                prop_assert_eq!(world.record.as_ref().map(|record| record.state), Some(State::Stopped));
            }
            Desired::Leave => prop_assert!(world.is_at().is_empty() && !world.environment),
            Desired::Keep(state, _) => {
                prop_assert_eq!(world.record.as_ref().map(|record| record.state), Some(*state));
            }
        }
    }

    #[test]
    fn what_serves_goes_by_an_end_alone_and_whatever_there_is_anywhere_is_known(
        history in prop::collection::vec(happening(), 1..60), lifetime: bool,
    ) {
        let mut world = World::new(false, lifetime);
        for happening in &history {
            let before = !world.serves().is_empty();
            world.happen(happening);
            if before && world.serves().is_empty() {
                let record = world.record.as_ref().unwrap();
                let ended = matches!(record.state, State::Stopping | State::Stopped);
                prop_assert!(ended, "it went without a reason: {:?}", record);
            }
            let known = world.record.as_ref().map(places_of).unwrap_or_default();
            for place in world.is_at() {
                prop_assert!(known.contains(place), "{place} is forgotten: {:?}", world.record);
            }
        }
    }
}
