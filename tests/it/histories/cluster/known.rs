//! What is known of a merge request that no API tells.

use std::collections::{BTreeMap, BTreeSet};

use super::{revision::Revision, step::Hand};

/// Whether something was done to a merge request that only greenroom's memory tells from another story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    No,
    /// At this head, and nothing happened since that could take it back.
    At(String),
    /// Nobody can tell from outside.
    Perhaps,
}

impl Fact {
    pub fn blurs(&mut self) {
        if matches!(self, Self::At(_)) {
            *self = Self::Perhaps;
        }
    }

    pub fn is_over(&mut self, certain: bool) {
        if certain {
            *self = Self::No;
        } else {
            self.blurs();
        }
    }

    /// Whether it holds for this head, and whether that is certain.
    pub fn at(&self, head: &str) -> (bool, bool) {
        match self {
            Self::No => (false, true),
            Self::At(sha) => (sha == head, true),
            Self::Perhaps => (true, false),
        }
    }
}

/// What is known of a merge request that no API tells.
#[derive(Debug)]
pub struct Known {
    pub iid: u64,
    pub branch: &'static str,
    pub namespace: String,
    pub squatted: bool,
    pub revision: Revision,
    /// What each commit has.
    pub revisions: BTreeMap<String, Revision>,
    /// The pipeline that runs, and its commit.
    pub running: Option<(u64, String)>,
    /// What is in the cluster for certain: this, and nothing came since that could change it.
    pub exact: Option<Revision>,
    /// Images of which one certainly runs, where `serves` says so.
    pub good: BTreeSet<String>,
    pub serves: bool,
    /// Whether anything happened to it since the last quiet time.
    pub busy: bool,
    /// Whether GitLab had an available environment of it in the last quiet time, and nothing has ended it since.
    pub available: bool,
    /// Stopped in GitLab, or by the operator.
    pub by_hand: Fact,
    pub by_operator: Fact,
    /// Put to sleep.
    pub asleep: Fact,
    /// ConfigMaps of somebody's own beside it, as long as the namespace is the same.
    pub added: BTreeSet<String>,
    pub held: bool,
    /// Whether it slept in the last quiet time.
    pub slept: bool,
    /// Whether greenroom has lost its memory: what it finds in the cluster may then be what a job has deployed without it.
    pub forgotten: bool,
}

impl Known {
    pub fn new(
        iid: u64,
        branch: &'static str,
        namespace: String,
        squatted: bool,
        sha: String,
        revision: Revision,
    ) -> Self {
        Self {
            iid,
            branch,
            namespace,
            squatted,
            revision,
            revisions: BTreeMap::from([(sha, revision)]),
            running: None,
            exact: None,
            good: BTreeSet::new(),
            serves: false,
            busy: true,
            available: false,
            by_hand: Fact::No,
            by_operator: Fact::No,
            asleep: Fact::No,
            added: BTreeSet::new(),
            held: false,
            slept: false,
            forgotten: false,
        }
    }

    /// The head may be handed to the cluster from now on.
    pub fn may_be_ordered(&mut self, head: &str) {
        let Some(revision) = self.revisions.get(head).filter(|revision| revision.is_sent()) else { return };
        self.forgotten = false;
        if self.exact.as_ref() == Some(revision) {
            return;
        }
        // A Deployment that selects by something else is made anew.
        self.serves &= self.exact.is_some_and(|exact| exact.selector == revision.selector);
        self.good.insert(revision.image());
        self.exact = None;
        // An order wakes.
        self.asleep = Fact::No;
    }

    pub fn ends(&mut self) {
        self.is_taken_down();
        // Closed and reopened since, perhaps unseen.
        for fact in [&mut self.by_hand, &mut self.by_operator, &mut self.asleep] {
            fact.blurs();
        }
    }

    pub fn is_taken_down(&mut self) {
        (self.serves, self.available, self.exact) = (false, false, None);
        self.added.clear();
    }

    /// Whether nothing was stopped or woken that greenroom alone may know of by now.
    pub fn is_remembered_elsewhere(&self) -> bool {
        let facts = [&self.by_hand, &self.by_operator];
        !self.busy || (!self.slept && facts.iter().all(|fact| **fact == Fact::No))
    }

    pub fn is_forgotten(&mut self) {
        self.forgotten = true;
        for fact in [&mut self.by_hand, &mut self.by_operator, &mut self.asleep] {
            fact.blurs();
        }
    }

    pub fn is_meddled_with(&mut self, hand: Hand, count: usize) {
        match hand {
            Hand::Hold => self.held = true,
            Hand::Add => {
                self.added.insert(format!("ConfigMap added-{count}: by hand"));
            }
            Hand::Delete(0) | Hand::EditImage => (self.exact, self.serves) = (None, false),
            Hand::DeleteNamespace => {
                (self.exact, self.serves) = (None, false);
                self.added.clear();
                self.asleep.blurs();
            }
            _ => self.exact = None,
        }
    }

    /// What is certain after a quiet time. What somebody stopped comes back with a reopen when the end of its merge request was seen.
    pub fn rests(&mut self, state: &str, is_over: bool, head: &str, runs: BTreeSet<String>, available: bool) {
        (self.busy, self.available) = (false, available);
        self.exact = match state {
            "ready" | "asleep" => self.revisions.get(head).copied(),
            "stopped" => None,
            _ => self.exact,
        };
        let ended = |fact: &Fact, is: bool| match fact {
            Fact::No => Fact::No,
            _ if is => Fact::At(head.to_owned()),
            Fact::At(sha) if sha != head => Fact::At(sha.clone()),
            _ => Fact::No,
        };
        let stopped = state == "stopped" && !is_over;
        self.by_hand = ended(&self.by_hand, stopped);
        self.by_operator = ended(&self.by_operator, stopped);
        // What serves beside a head that waits or failed may sleep, too.
        let sleeps = self.asleep != Fact::No && self.exact.is_some() && runs.is_empty();
        self.asleep = if sleeps { Fact::At(head.to_owned()) } else { Fact::No };
        self.slept = sleeps;
        (self.serves, self.good) = (!runs.is_empty(), runs);
    }
}
