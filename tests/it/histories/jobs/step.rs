//! What may happen in a history, and how often.

use proptest::prelude::*;

use crate::histories::mishap::{Mishap, mishap};

/// Which branch. The pipelines of the first are always its own; those of the second belong to its merge request once that
/// is open.
pub type Branch = usize;

/// One happening. What makes no sense at its moment does not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A push, which also makes the branch.
    Push(Branch),
    /// A pipeline runs for the head; its job deploys, and ends.
    Deploy(Branch),
    /// The same, but nobody waits for its end.
    Begin(Branch),
    /// Somebody runs the newest deploy job again.
    Again(Branch),
    /// Somebody cancels the jobs that run.
    Cancel(Branch),
    /// Somebody runs the newest stop job.
    StopJob(Branch),
    /// Somebody stops the environment in GitLab's own page, which starts the stop job.
    StopByHand(Branch, Runner),
    Open(Branch),
    Close(Branch),
    Reopen(Branch),
    Merge(Branch),
    DeleteBranch(Branch),
    Meanwhile(Mishap),
    /// All is healed, and greenroom gets the time it needs: here, too, the world must equal the truth.
    Rest,
}

/// What becomes of a stop job that GitLab starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runner {
    RunsIt,
    /// It fails before it has begun.
    FailsIt,
    /// No runner takes it.
    IsAway,
}

fn branch() -> impl Strategy<Value = Branch> {
    prop_oneof![4 => Just(0_usize), 5 => Just(1_usize)]
}

fn runner() -> impl Strategy<Value = Runner> {
    prop_oneof![2 => Just(Runner::RunsIt), 1 => Just(Runner::FailsIt), 1 => Just(Runner::IsAway)]
}

fn step() -> impl Strategy<Value = Step> {
    use Step as S;
    let people = prop_oneof![
        3 => branch().prop_map(S::Push),
        8 => branch().prop_map(S::Deploy),
        3 => branch().prop_map(S::Begin),
        1 => branch().prop_map(S::Again),
        1 => branch().prop_map(S::Cancel),
        3 => branch().prop_map(S::StopJob),
        5 => (branch(), runner()).prop_map(|(branch, runner)| S::StopByHand(branch, runner)),
        3 => branch().prop_map(S::Open),
        3 => branch().prop_map(S::Close),
        2 => branch().prop_map(S::Reopen),
        2 => branch().prop_map(S::Merge),
        4 => branch().prop_map(S::DeleteBranch),
    ];
    prop_oneof![
        20 => people,
        8 => mishap().prop_map(S::Meanwhile),
        5 => Just(S::Rest),
    ]
}

/// A history of at most fourteen steps; mostly something is served at its beginning.
pub fn history() -> impl Strategy<Value = Vec<Step>> {
    use Step as S;
    let begin = prop_oneof![
        1 => Just(vec![S::Push(0)]),
        3 => Just(vec![S::Push(0), S::Deploy(0), S::Rest]),
        2 => Just(vec![S::Push(0), S::Deploy(0), S::Open(0), S::Deploy(0)]),
        3 => Just(vec![S::Push(1), S::Deploy(1), S::Rest]),
        3 => Just(vec![S::Push(1), S::Open(1), S::Deploy(1), S::Rest]),
    ];
    (begin, proptest::collection::vec(step(), 2..=10)).prop_map(|(begin, rest)| [begin, rest].concat())
}
