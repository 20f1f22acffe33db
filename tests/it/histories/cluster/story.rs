//! Lets a history happen: the people, those with hands in the cluster, the broken network, the crashes.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
};

use proptest::strategy::{BoxedStrategy, Strategy};
use serde_json::{Value, json};

use super::{
    hands::{ControlPlane, Hands},
    known::{Fact, Known},
    outage::back,
    revision::{Flaw, Revision},
    step::{Change, Mr, Step, Verb, history},
    truth,
};
use crate::histories::{self, mishap::heal};
use crate::support::{
    gitlab::{Gitlab, Pipeline},
    wire::Wire,
    world::World,
};

const BRANCHES: [&str; 3] = ["one", "two", "three"];
/// The one in whose preview's place is a namespace of somebody else.
const SQUATTED: Mr = 2;

/// A history as it happens.
pub struct Story {
    pub world: World,
    pub hands: Hands,
    /// From greenroom to the API server.
    wire: Wire,
    plane: &'static ControlPlane,
    /// Of project and instance.
    pub name: String,
    pub known: Vec<Option<Known>>,
    /// Namespaces that are not ours, as they were.
    pub foreign: BTreeMap<String, [Value; 2]>,
    /// What really happened, in words.
    said: Vec<String>,
    count: usize,
}

impl histories::Story for Story {
    type Step = Step;

    const REST: Step = Step::Rest;

    fn histories() -> BoxedStrategy<Vec<Step>> {
        history().boxed()
    }

    async fn begin() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("history-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let plane = ControlPlane::start().await.expect("asked before");
        let (hands, (wire, kubeconfig)) = (plane.administrator().await, plane.wire().await);
        let project = format!("acme/{name}");
        // Short times, so that a history is short; Prism hears the conversations of the other tests.
        let settings = [
            ("GREENROOM_PROJECTS", project.as_str()),
            ("GREENROOM_INSTANCE", &name),
            ("GREENROOM_KUBECONFIG", kubeconfig.to_str().expect("UTF-8")),
            ("GREENROOM_RESYNC_INTERVAL", "1s"),
            ("GREENROOM_GITLAB_TIMEOUT", "2s"),
        ];
        let world = World::unjudged(&project, &settings).await;
        let known = BRANCHES.iter().map(|_| None).collect();
        let (foreign, said) = (BTreeMap::new(), Vec::new());
        let mut story = Self { world, hands, wire, plane, name, known, foreign, said, count: 0 };
        let of_another = json!({
            "app.kubernetes.io/managed-by": "greenroom", "greenroom.dev/instance": format!("{}-b", story.name),
            "greenroom.dev/project-id": "42", "greenroom.dev/merge-request": "1",
        });
        story.foreign(&format!("{}-42-mr-9", story.name), of_another).await;
        story.foreign(&format!("{}-of-nobody", story.name), json!({})).await;
        story
    }

    async fn happen(&mut self, step: Step) -> Result<(), String> {
        self.count += 1;
        match step {
            Step::Meanwhile(mishap) => {
                if let Some(what) = mishap.happen(&self.world).await {
                    self.say(what);
                }
            }
            Step::Away(outage) => {
                if let Some(what) = outage.happen(&self.wire, &self.world.greenroom, self.plane).await {
                    self.say(what);
                }
            }
            Step::LoseStore if self.known.iter().flatten().all(Known::is_remembered_elsewhere) => {
                self.world.greenroom.kill9();
                self.world.greenroom.lose_store();
                self.world.greenroom.restart().await;
                for known in self.known.iter_mut().flatten() {
                    known.is_forgotten();
                }
                self.say("greenroom's store is lost");
            }
            Step::LoseStore => {}
            Step::Rest => {
                let healed = [heal(&self.world).await, back(&self.wire)].join(", ");
                for known in self.known.iter_mut().flatten().filter(|known| known.held) {
                    self.hands.let_go(&known.namespace).await;
                    known.held = false;
                }
                self.say(format!("{healed}, and all is quiet"));
                return truth::holds(self).await;
            }
            other => self.people(other).await,
        }
        Ok(())
    }

    async fn unbroken(&self) -> Result<(), String> {
        truth::unbroken(self).await
    }

    async fn end(self) -> (World, Vec<String>) {
        self.world.greenroom.kill9();
        let ours = self.known.iter().flatten().map(|known| &known.namespace);
        for namespace in ours.chain(self.foreign.keys()) {
            self.hands.let_go(namespace).await;
            self.hands.delete_namespace(namespace).await;
        }
        (self.world, self.said)
    }
}

impl Story {
    fn say(&mut self, what: impl Into<String>) {
        self.said.push(format!("{:2}. {}", self.count, what.into()));
    }

    /// Somebody else's namespace.
    async fn foreign(&mut self, name: &str, labels: Value) {
        self.hands.create_namespace(name, &labels).await;
        let was = self.hands.whole(name).await.expect("it was made");
        self.foreign.insert(name.to_owned(), was);
    }

    async fn people(&mut self, step: Step) {
        use Step as S;
        let (S::Open(mr)
        | S::Push(mr, _)
        | S::Pipeline(mr)
        | S::Pass(mr)
        | S::Fail(mr)
        | S::Label(mr)
        | S::Close(mr)
        | S::Reopen(mr)
        | S::Merge(mr)
        | S::DeleteBranch(mr)
        | S::StopByHand(mr)
        | S::Operator(mr, _)
        | S::Meddle(mr, _)) = step
        else {
            unreachable!("{step:?} is not what people do")
        };
        let Some(mut known) = self.known[mr].take() else {
            let known = self.open(mr).await;
            self.say(format!("!{} is opened from `{}`", known.iid, known.branch));
            self.known[mr] = Some(known);
            return;
        };
        if let Some(what) = self.act(step, &mut known).await {
            self.say(format!("!{}: {what}", known.iid));
            known.busy = true;
        }
        self.known[mr] = Some(known);
    }

    async fn open(&mut self, mr: Mr) -> Known {
        let revision = Revision { number: self.count, maps: 0b011, job: false, selector: 0, flaw: None };
        let sha = self.push(BRANCHES[mr], &revision).await;
        let next = self.known.iter().flatten().count() + 1;
        let namespace = format!("{}-{}-mr-{next}", self.name, Gitlab::PROJECT);
        if mr == SQUATTED {
            self.foreign(&namespace, json!({ "greenroom.dev/instance": self.name })).await;
        }
        let iid = self.world.gitlab.open_mr(BRANCHES[mr], BRANCHES[mr]).await;
        assert_eq!(iid, next as u64, "iids come one after another");
        Known::new(iid, BRANCHES[mr], namespace, mr == SQUATTED, sha, revision)
    }

    async fn push(&self, branch: &str, revision: &Revision) -> String {
        let files = revision.files();
        let files: Vec<_> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
        self.world.gitlab.push(branch, &files).await
    }

    /// Does it, if it makes sense now; what was done.
    async fn act(&self, step: Step, known: &mut Known) -> Option<String> {
        use Step as S;
        let gitlab = &self.world.gitlab;
        let iid = known.iid;
        let shown = gitlab.mr(iid).await;
        let (opened, head) = (shown["state"] == "opened", shown["sha"].as_str().unwrap_or_default());
        match step {
            S::Push(_, change) if shown["state"] != "merged" => {
                known.revision.changes(self.count, change);
                let sha = self.push(known.branch, &known.revision).await;
                let what = format!("push of {}: {:?}", &sha[..8], known.revision);
                known.revisions.insert(sha, known.revision);
                // Whoever stopped it did so at the head that greenroom saw then.
                if known.busy {
                    known.by_operator.blurs();
                }
                Some(what)
            }
            S::Pipeline(_) if opened => Some(format!("pipeline {} starts", self.start(known, head).await)),
            S::Pass(_) | S::Fail(_) if opened => {
                let runs = known.running.take_if(|(_, sha)| sha == head);
                let pipeline = match runs {
                    Some((pipeline, _)) => pipeline,
                    None => self.start(known, head).await,
                };
                known.running = None;
                let passes = matches!(step, S::Pass(_));
                let status = if passes { "success" } else { "failed" };
                gitlab.act(&format!("pipelines/{pipeline}/finish"), json!({ "status": status })).await;
                if passes {
                    known.may_be_ordered(head);
                }
                Some(format!("pipeline {pipeline} of {}: {status}", &head[..8]))
            }
            S::Label(_) => {
                gitlab.edit(iid, json!({ "labels": self.count.to_string() })).await;
                Some("labelled".to_owned())
            }
            S::Close(_) if opened => {
                gitlab.close(iid).await;
                known.ends();
                Some("closed".to_owned())
            }
            S::Reopen(_) if shown["state"] == "closed" => {
                gitlab.reopen(iid).await;
                Some("reopened".to_owned())
            }
            S::Merge(_) if opened => {
                gitlab.merge(iid).await;
                known.ends();
                Some("merged".to_owned())
            }
            S::DeleteBranch(_) if gitlab.has_branch(known.branch).await => {
                gitlab.delete_branch(known.branch).await;
                Some("its branch is deleted".to_owned())
            }
            S::StopByHand(_) if opened && known.available => {
                gitlab.stop_environment(iid).await;
                // A deploy that is under way at that moment makes the environment available again, as any deployment does.
                known.by_hand = if known.busy { Fact::Perhaps } else { Fact::At(head.to_owned()) };
                known.is_taken_down();
                Some("its environment is stopped by hand".to_owned())
            }
            S::Operator(_, verb) if opened => self.ask(verb, known, head).await,
            S::Meddle(_, hand) if !known.squatted => {
                let what = self.hands.do_it(hand, &known.namespace, self.count).await?;
                known.is_meddled_with(hand, self.count);
                Some(what)
            }
            _ => None,
        }
    }

    async fn start(&self, known: &mut Known, head: &str) -> u64 {
        let Pipeline { id, .. } = self.world.gitlab.start_pipeline(known.iid).await;
        known.running = Some((id, head.to_owned()));
        id
    }

    /// The operator asks for it; what was said to it, if anything.
    async fn ask(&self, verb: Verb, known: &mut Known, head: &str) -> Option<String> {
        // What sleeps is what served: only a quiet time tells which commit that is.
        if !self.world.greenroom.is_running()
            || (verb == Verb::Sleep && (known.busy || known.exact.is_none()))
        {
            return None;
        }
        let word = format!("{verb:?}").to_lowercase();
        let path = format!("/api/v1/previews/{}/{}/{word}", Gitlab::PROJECT, known.iid);
        let answer = self.world.greenroom.post(&path).send().await;
        let status = answer.ok().map(|answer| answer.status().as_u16());
        let certain = status == Some(202) && !known.busy;
        let at = |certain| if certain { Fact::At(head.to_owned()) } else { Fact::Perhaps };
        if status.is_none_or(|status| status == 202) {
            match verb {
                Verb::Sleep => {
                    known.asleep = at(certain);
                    known.serves = false;
                }
                Verb::Stop => {
                    known.by_operator = at(certain);
                    known.is_taken_down();
                }
                Verb::Wake | Verb::Refresh => {
                    known.asleep.is_over(certain);
                    if verb == Verb::Refresh {
                        known.by_operator.is_over(certain);
                        known.by_hand.is_over(certain);
                        known.may_be_ordered(head);
                    }
                }
            }
            // What is asked for replaces what was asked for and not taken up.
            if known.busy && verb != Verb::Stop {
                known.by_operator.blurs();
            }
        }
        Some(format!("the operator says {verb:?}, which is answered {status:?}"))
    }
}

impl Revision {
    fn changes(&mut self, number: usize, change: Change) {
        (self.number, self.flaw) = (number, None);
        match change {
            Change::Maps(maps) => self.maps = maps,
            Change::Job => self.job = !self.job,
            Change::Selector => self.selector += 1,
            Change::Breaks(flaw) => {
                self.job |= flaw == Flaw::JobFails;
                self.flaw = Some(flaw);
            }
        }
    }
}
