//! Lets a history happen: the people, the broken network, the crashes.

use std::collections::{BTreeMap, BTreeSet};

use proptest::strategy::{BoxedStrategy, Strategy};
use serde_json::json;

use super::{
    step::{Mr, Step, history},
    truth,
};
use crate::histories::{self, mishap::heal};
use crate::support::{
    gitlab::Pipeline,
    world::{World, page},
};

const BRANCHES: [&str; 4] = ["one", "two", "three", "four"];
const FILE: &str = "version: 1\nengine: static\nstatic: {job: build, path: dist}\n";
pub const BROKEN_FILE: &str = "version: 1\nengine: static\nstatic: {job: build, paht: dist}\n";

/// The one whose pipelines name the environment, so that GitLab makes it, and stops it at the end.
const NAMES_ENVIRONMENT: Mr = 1;

/// What a job left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Built {
    /// A page with this text.
    Page(String),
    Nothing,
    /// An archive that cannot be served.
    Refused,
}

/// Whether somebody stopped the environment by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ByHand {
    No,
    /// At this head, and nothing happened since that could take it back.
    At(String),
    /// At this head, but GitLab shows no difference to another story: closed and reopened since, perhaps unseen, or stopped
    /// while a deploy was under way.
    Perhaps(String),
}

/// What is known of a merge request that no API tells.
#[derive(Debug)]
pub struct Known {
    mr: Mr,
    pub iid: u64,
    branch: &'static str,
    draft: bool,
    running: Vec<Pipeline>,
    /// By job.
    pub built: BTreeMap<u64, Built>,
    /// What was built since nothing was seen to serve: a broken head leaves the last good one of these.
    pub good: BTreeSet<String>,
    /// Whether something certainly serves since the last quiet time.
    pub serves: bool,
    /// Whether anything happened to it since the last quiet time.
    pub busy: bool,
    pub by_hand: ByHand,
    /// The link, once it is known.
    pub url: String,
}

/// A history as it happens.
pub struct Story {
    pub world: World,
    pub known: Vec<Option<Known>>,
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
        // Short times, so that a history is short; Prism hears the conversations of the other tests.
        let settings = [
            ("GREENROOM_PROJECTS", "acme/web"),
            ("GREENROOM_RESYNC_INTERVAL", "1s"),
            ("GREENROOM_GITLAB_TIMEOUT", "2s"),
        ];
        let world = World::unjudged("acme/web", &settings).await;
        world.gitlab.push("main", &[(".greenroom.yml", FILE)]).await;
        world.gitlab.push("release", &[("release", "1")]).await;
        Self { world, known: BRANCHES.iter().map(|_| None).collect(), said: Vec::new(), count: 0 }
    }

    async fn happen(&mut self, step: Step) -> Result<(), String> {
        self.count += 1;
        match step {
            Step::Meanwhile(mishap) => {
                if let Some(what) = mishap.happen(&self.world).await {
                    self.say(what);
                }
            }
            Step::Rest => {
                let healed = heal(&self.world).await;
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
        (self.world, self.said)
    }
}

impl Story {
    fn say(&mut self, what: impl Into<String>) {
        self.said.push(format!("{:2}. {}", self.count, what.into()));
    }

    async fn people(&mut self, step: Step) {
        use Step as S;
        let (S::Open(mr)
        | S::Push(mr)
        | S::BreakFile(mr)
        | S::MendFile(mr)
        | S::Pipeline(mr)
        | S::BranchPipeline(mr)
        | S::Succeed(mr)
        | S::Fail(mr)
        | S::SucceedEmpty(mr)
        | S::SucceedBadly(mr)
        | S::SucceedOldest(mr)
        | S::Label(mr)
        | S::Draft(mr)
        | S::Undraft(mr)
        | S::Retarget(mr)
        | S::Close(mr)
        | S::Reopen(mr)
        | S::Merge(mr)
        | S::DeleteBranch(mr)
        | S::StopByHand(mr)) = step
        else {
            unreachable!("{step:?} is not what people do")
        };
        let Some(mut known) = self.known[mr].take() else {
            let branch = BRANCHES[mr];
            let iid = self.world.gitlab.open_mr(branch, branch).await;
            self.known[mr] = Some(Known::new(mr, iid, branch));
            self.say(format!("!{iid} is opened from `{branch}`"));
            return;
        };
        if let Some(what) = self.act(step, &mut known).await {
            self.say(format!("!{}: {what}", known.iid));
            known.busy = true;
        }
        self.known[mr] = Some(known);
    }

    /// Does it, if it makes sense now; what was done.
    async fn act(&self, step: Step, known: &mut Known) -> Option<String> {
        use Step as S;
        let gitlab = &self.world.gitlab;
        let (iid, branch, count) = (known.iid, known.branch, self.count);
        let shown = gitlab.mr(iid).await;
        let (opened, head) = (shown["state"] == "opened", shown["sha"].as_str().unwrap_or_default());
        match step {
            S::Push(_) | S::BreakFile(_) | S::MendFile(_) if shown["state"] != "merged" => {
                let text = count.to_string();
                let file = match step {
                    S::BreakFile(_) => Some((".greenroom.yml", BROKEN_FILE)),
                    S::MendFile(_) => Some((".greenroom.yml", FILE)),
                    _ => None,
                };
                let files: Vec<_> = [("count", &*text)].into_iter().chain(file).collect();
                Some(format!("push of {}, {step:?}", &gitlab.push(branch, &files).await[..8]))
            }
            S::Pipeline(_) if opened => Some(self.start(known).await),
            S::BranchPipeline(_) if opened && gitlab.has_branch(branch).await => {
                let jobs = json!([{ "name": "build", "status": "running" }]);
                let made = gitlab.act("pipelines", json!({ "ref": branch, "jobs": jobs })).await;
                let pipeline = Pipeline::of(&made);
                known.running.push(pipeline);
                Some(format!("pipeline {} of the branch starts", pipeline.id))
            }
            S::Succeed(_) | S::Fail(_) | S::SucceedEmpty(_) | S::SucceedBadly(_) | S::SucceedOldest(_) => {
                let mut started = String::new();
                if known.running.is_empty() && opened {
                    started = format!("{}, and at once ", self.start(known).await);
                }
                let oldest = matches!(step, S::SucceedOldest(_)) && !known.running.is_empty();
                let pipeline = if oldest { Some(known.running.remove(0)) } else { known.running.pop() };
                let job = pipeline?.job;
                Some(format!("{started}job {job} {}", self.end(step, known, job).await))
            }
            S::Label(_) => {
                gitlab.edit(iid, json!({ "labels": count.to_string() })).await;
                Some("labelled".to_owned())
            }
            S::Draft(_) | S::Undraft(_) if opened => {
                known.draft = matches!(step, S::Draft(_));
                let title = if known.draft { format!("Draft: {branch}") } else { branch.to_owned() };
                gitlab.edit(iid, json!({ "title": title })).await;
                Some(format!("its title is now {title}"))
            }
            S::Retarget(_) if opened => {
                let target = if shown["target_branch"] == "main" { "release" } else { "main" };
                gitlab.edit(iid, json!({ "target_branch": target })).await;
                Some(format!("its target is now {target}"))
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
            S::Merge(_) if opened && !known.draft => {
                gitlab.merge(iid).await;
                known.ends();
                Some("merged".to_owned())
            }
            S::DeleteBranch(_) if gitlab.has_branch(branch).await => {
                gitlab.delete_branch(branch).await;
                Some("its branch is deleted".to_owned())
            }
            S::StopByHand(_) if opened && known.serves && known.by_hand == ByHand::No => {
                gitlab.stop_environment(iid).await;
                // A deploy that is under way at that moment makes the environment available again, as any deployment does.
                let by_hand = if known.busy { ByHand::Perhaps } else { ByHand::At };
                known.by_hand = by_hand(head.to_owned());
                known.serves = false;
                Some("its environment is stopped by hand".to_owned())
            }
            _ => None,
        }
    }

    async fn start(&self, known: &mut Known) -> String {
        let build = json!({ "name": "build", "status": "running" });
        let view = json!({
            "name": "view", "status": "success",
            "environment": { "name": format!("review/mr-{}", known.iid), "action": "prepare" },
        });
        let jobs = if known.mr == NAMES_ENVIRONMENT { json!([build, view]) } else { json!([build]) };
        let made = self.world.gitlab.act("pipelines", json!({ "mr_iid": known.iid, "jobs": jobs })).await;
        let pipeline = Pipeline::of(&made);
        known.running.push(pipeline);
        format!("pipeline {} starts", pipeline.id)
    }

    /// The job ends; how.
    async fn end(&self, step: Step, known: &mut Known, job: u64) -> String {
        let gitlab = &self.world.gitlab;
        match step {
            Step::Fail(_) => {
                gitlab.fail_job(job).await;
                "fails".to_owned()
            }
            Step::SucceedEmpty(_) => {
                known.built.insert(job, Built::Nothing);
                gitlab.act(&format!("jobs/{job}"), json!({ "status": "success" })).await;
                "succeeds and leaves nothing".to_owned()
            }
            Step::SucceedBadly(_) => {
                known.built.insert(job, Built::Refused);
                gitlab.succeed_job(job, &[("elsewhere/index.html", "unreachable")]).await;
                "succeeds and leaves what cannot be served".to_owned()
            }
            _ => {
                let text = format!("{} at {}", known.branch, self.count);
                known.built.insert(job, Built::Page(text.clone()));
                known.good.insert(text.clone());
                gitlab.succeed_job(job, &[("dist/index.html", &page(&text))]).await;
                format!("succeeds and builds '{text}'")
            }
        }
    }
}

impl Known {
    fn new(mr: Mr, iid: u64, branch: &'static str) -> Self {
        Self {
            mr,
            iid,
            branch,
            draft: false,
            running: Vec::new(),
            built: BTreeMap::new(),
            good: BTreeSet::new(),
            serves: false,
            busy: true,
            by_hand: ByHand::No,
            url: String::new(),
        }
    }

    fn ends(&mut self) {
        self.serves = false;
        if let ByHand::At(head) = &self.by_hand {
            self.by_hand = ByHand::Perhaps(head.clone());
        }
    }
}
