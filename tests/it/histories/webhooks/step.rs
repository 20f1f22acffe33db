//! What may happen in a history, and how often.

use proptest::prelude::*;

use crate::histories::mishap::{Mishap, mishap};

/// Which merge request: the first to the fourth branch of the project.
pub type Mr = usize;

/// One happening. What makes no sense at its moment does not happen: nobody merges what is closed. Whatever happens to a
/// merge request that is not there yet opens it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Open(Mr),
    Push(Mr),
    /// A push whose `.greenroom.yml` cannot be used.
    BreakFile(Mr),
    /// A push whose `.greenroom.yml` can.
    MendFile(Mr),
    /// A merge request's pipeline starts for the head. That of the second one names the environment, as the CI include does.
    Pipeline(Mr),
    /// A pipeline of the branch starts.
    BranchPipeline(Mr),
    /// The newest job that runs ends well; where none runs, a pipeline starts first. So in the next three.
    Succeed(Mr),
    Fail(Mr),
    /// … ends well, but leaves nothing.
    SucceedEmpty(Mr),
    /// … ends well, but what it leaves cannot be served.
    SucceedBadly(Mr),
    /// The oldest job that runs ends well, perhaps that of a head left behind.
    SucceedOldest(Mr),
    Label(Mr),
    Draft(Mr),
    Undraft(Mr),
    Retarget(Mr),
    Close(Mr),
    Reopen(Mr),
    Merge(Mr),
    DeleteBranch(Mr),
    /// Somebody stops the environment in GitLab's own page.
    StopByHand(Mr),
    Meanwhile(Mishap),
    /// All is healed, and greenroom gets the time it needs: here, too, the world must equal the truth.
    Rest,
}

fn mr() -> impl Strategy<Value = Mr> {
    prop_oneof![8 => Just(0_usize), 5 => Just(1_usize), 1 => Just(2_usize), 1 => Just(3_usize)]
}

fn step() -> impl Strategy<Value = Step> {
    use Step as S;
    let people = prop_oneof![
        3 => mr().prop_map(S::Open),
        6 => mr().prop_map(S::Push),
        1 => mr().prop_map(S::BreakFile),
        1 => mr().prop_map(S::MendFile),
        4 => mr().prop_map(S::Pipeline),
        1 => mr().prop_map(S::BranchPipeline),
        9 => mr().prop_map(S::Succeed),
        3 => mr().prop_map(S::Fail),
        1 => mr().prop_map(S::SucceedEmpty),
        1 => mr().prop_map(S::SucceedBadly),
        1 => mr().prop_map(S::SucceedOldest),
        1 => mr().prop_map(S::Label),
        1 => mr().prop_map(S::Draft),
        1 => mr().prop_map(S::Undraft),
        1 => mr().prop_map(S::Retarget),
        5 => mr().prop_map(S::Close),
        4 => mr().prop_map(S::Reopen),
        2 => mr().prop_map(S::Merge),
        1 => mr().prop_map(S::DeleteBranch),
        2 => mr().prop_map(S::StopByHand),
    ];
    prop_oneof![
        24 => people,
        16 => mishap().prop_map(S::Meanwhile),
        2 => Just(S::Rest),
    ]
}

/// A history of at most fifteen steps; mostly something is served at its beginning.
pub fn history() -> impl Strategy<Value = Vec<Step>> {
    use Step as S;
    let begin = prop_oneof![
        1 => Just(vec![]),
        2 => Just(vec![S::Open(0), S::Succeed(0)]),
        3 => Just(vec![S::Open(0), S::Succeed(0), S::Rest]),
        3 => Just(vec![S::Open(1), S::Succeed(1), S::Rest]),
    ];
    (begin, proptest::collection::vec(step(), 2..=12)).prop_map(|(begin, rest)| [begin, rest].concat())
}
