//! What may happen in a history, and how often.

use proptest::prelude::*;

use super::outage::{Outage, outage};
use super::revision::Flaw;
use crate::histories::mishap::{Mishap, mishap};

/// Which merge request: the first to the third branch of the project. Where the preview of the third one would be, somebody
/// has a namespace of that name.
pub type Mr = usize;

/// One happening. What makes no sense at its moment does not happen. Whatever happens to a merge request that is not there
/// yet opens it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Open(Mr),
    Push(Mr, Change),
    /// A pipeline starts for the head.
    Pipeline(Mr),
    /// The newest pipeline that runs passes; where none runs, one starts first. So in the next one.
    Pass(Mr),
    Fail(Mr),
    Label(Mr),
    Close(Mr),
    Reopen(Mr),
    Merge(Mr),
    DeleteBranch(Mr),
    /// Somebody stops the environment in GitLab's own page.
    StopByHand(Mr),
    Operator(Mr, Verb),
    /// Somebody does something in the cluster by hand.
    Meddle(Mr, Hand),
    /// greenroom's store is lost; it is started again.
    LoseStore,
    /// GitLab, webhooks, the machine.
    Meanwhile(Mishap),
    /// The cluster.
    Away(Outage),
    /// All is healed, and greenroom gets the time it needs: here, too, the world must equal the truth.
    Rest,
}

/// What is new in a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The image and these ConfigMaps.
    Maps(u8),
    /// It has a Job, or has it no more.
    Job,
    /// What the Deployment selects by.
    Selector,
    /// All is as before, but for this flaw.
    Breaks(Flaw),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Sleep,
    Wake,
    Refresh,
    Stop,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hand {
    /// The object that is at this place in [`super::hands::KINDS`] goes.
    Delete(usize),
    /// A text of every ConfigMap is changed.
    EditMaps,
    /// The Deployment gets another image.
    EditImage,
    /// The Deployment gets three replicas.
    Scale,
    /// The NetworkPolicy lets everybody in.
    OpenPolicy,
    /// The quota is raised.
    RaiseQuota,
    /// Pods may do whatever they like.
    Privileged,
    DeleteNamespace,
    /// A finalizer is put on the Deployment, and is taken off at the next rest.
    Hold,
    /// A ConfigMap of somebody's own is put beside the preview.
    Add,
}

fn mr() -> impl Strategy<Value = Mr> {
    prop_oneof![9 => Just(0_usize), 5 => Just(1_usize), 1 => Just(2_usize)]
}

fn change() -> impl Strategy<Value = Change> {
    let flaw = prop_oneof![
        2 => Just(Flaw::Crashes),
        2 => Just(Flaw::NoImage),
        1 => Just(Flaw::JobFails),
        1 => Just(Flaw::Forbidden),
        2 => Just(Flaw::Invalid),
        1 => Just(Flaw::BadFile),
    ];
    prop_oneof![
        6 => (0_u8..8).prop_map(Change::Maps),
        2 => Just(Change::Job),
        1 => Just(Change::Selector),
        5 => flaw.prop_map(Change::Breaks),
    ]
}

fn verb() -> impl Strategy<Value = Verb> {
    prop_oneof![4 => Just(Verb::Sleep), 2 => Just(Verb::Wake), 1 => Just(Verb::Refresh), 1 => Just(Verb::Stop)]
}

fn hand() -> impl Strategy<Value = Hand> {
    prop_oneof![
        4 => (0_usize..7).prop_map(Hand::Delete),
        1 => Just(Hand::EditMaps),
        1 => Just(Hand::EditImage),
        1 => Just(Hand::Scale),
        1 => Just(Hand::OpenPolicy),
        1 => Just(Hand::RaiseQuota),
        1 => Just(Hand::Privileged),
        2 => Just(Hand::DeleteNamespace),
        2 => Just(Hand::Hold),
        1 => Just(Hand::Add),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    use Step as S;
    let people = prop_oneof![
        2 => mr().prop_map(S::Open),
        6 => (mr(), change()).prop_map(|(mr, change)| S::Push(mr, change)),
        1 => mr().prop_map(S::Pipeline),
        10 => mr().prop_map(S::Pass),
        1 => mr().prop_map(S::Fail),
        1 => mr().prop_map(S::Label),
        4 => mr().prop_map(S::Close),
        4 => mr().prop_map(S::Reopen),
        1 => mr().prop_map(S::Merge),
        1 => mr().prop_map(S::DeleteBranch),
        1 => mr().prop_map(S::StopByHand),
        4 => (mr(), verb()).prop_map(|(mr, verb)| S::Operator(mr, verb)),
        6 => (mr(), hand()).prop_map(|(mr, hand)| S::Meddle(mr, hand)),
    ];
    prop_oneof![
        24 => people,
        5 => mishap().prop_map(S::Meanwhile),
        9 => outage().prop_map(S::Away),
        1 => Just(S::LoseStore),
        3 => Just(S::Rest),
    ]
}

/// A history of at most fourteen steps; mostly something is served at its beginning.
pub fn history() -> impl Strategy<Value = Vec<Step>> {
    use Step as S;
    let begin = prop_oneof![
        1 => Just(vec![]),
        2 => Just(vec![S::Open(0), S::Pass(0)]),
        5 => Just(vec![S::Open(0), S::Pass(0), S::Rest]),
        2 => Just(vec![S::Open(0), S::Pass(0), S::Open(1), S::Pass(1), S::Rest]),
    ];
    (begin, proptest::collection::vec(step(), 2..=9)).prop_map(|(begin, rest)| [begin, rest].concat())
}
