//! Lets a history happen: the people, and the jobs that run the program's verbs.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::strategy::{BoxedStrategy, Strategy};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Child;

use super::{
    step::{Branch, Runner, Step, history},
    truth,
};
use crate::histories::{self, mishap::heal};
use crate::jobs::{DEPLOY, STOP, environment, site};
use crate::support::{PATIENCE, until, world::World};

/// Their pipelines are the branch's own, or those of the merge request where one is open.
const BRANCHES: [(&str, bool); 2] = [("one", false), ("two", true)];

/// How long a job waits for its deploy, seconds. A server that is killed for good keeps nobody waiting for long.
const TIMEOUT: &str = "6";

/// What is known of a preview that no API tells.
#[derive(Debug, Default)]
pub struct Place {
    pub fate: Fate,
    /// What it may show.
    pub good: BTreeSet<String>,
    /// Whether what it shows is what the branch has now.
    pub current: bool,
    /// Whether a job asked for it, and it is not known how that came out.
    undecided: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Nothing serves, for certain.
    #[default]
    Gone,
    /// It was ended for certain, and GitLab says so, too.
    Ended,
    /// It serves for certain, and did so in a quiet time.
    Serves,
    /// A job deployed it for certain, and nobody looked since.
    Deployed,
    /// GitLab shows no difference to another story.
    Perhaps,
}

impl Place {
    fn begins(&mut self, text: &str) {
        self.good.insert(text.to_owned());
        (self.current, self.undecided) = (false, true);
        if self.is_over() {
            self.fate = Fate::Perhaps;
        }
    }

    pub fn showing(fate: Fate, text: &str, current: bool) -> Self {
        Self { fate, good: BTreeSet::from([text.to_owned()]), current, undecided: false }
    }

    pub const fn is_over(&self) -> bool {
        matches!(self.fate, Fate::Gone | Fate::Ended)
    }

    fn is_deployed(&mut self, text: &str) {
        *self = Self::showing(Fate::Deployed, text, true);
    }

    /// Somebody or something ended it, which is known for certain where nothing else was going on.
    fn ends(&mut self, certain: bool) {
        if certain && !self.undecided {
            *self = Self { fate: Fate::Ended, ..Self::default() };
        } else if !self.is_over() {
            self.fate = Fate::Perhaps;
        }
    }
}

/// A pipeline with the include's two jobs.
#[derive(Debug, Clone, Copy)]
struct Pipeline {
    deploy: u64,
    stop: u64,
    /// Whether the stop job has run.
    stopped: bool,
    /// Whether it belongs to the merge request.
    of_mr: bool,
}

/// A deploy job that runs.
struct Running {
    job: u64,
    of_mr: bool,
    text: String,
    verb: Child,
    /// Whether nothing happened beside it that leaves open for whom it deployed, or whether that still is the head.
    alone: bool,
    /// What it deploys, and where it writes.
    _folders: [TempDir; 2],
}

/// A branch, and what is known of it.
pub struct Known {
    pub name: &'static str,
    pub in_mr_pipelines: bool,
    pub mr: Option<u64>,
    newest: Option<Pipeline>,
    running: Vec<Running>,
    /// All that its jobs have deployed, or tried to.
    texts: BTreeSet<String>,
    pub of_branch: Place,
    pub of_mr: Place,
}

impl Known {
    /// Whether its environment is nobody else's: in pipelines of its own a merge request shares it.
    pub const fn is_alone(&self) -> bool {
        self.in_mr_pipelines || self.mr.is_none()
    }

    fn place(&mut self, of_mr: bool) -> &mut Place {
        if of_mr { &mut self.of_mr } else { &mut self.of_branch }
    }

    /// What happens beside a job may come before or after what it does.
    fn unsettles(&mut self) {
        self.running.iter_mut().for_each(|running| running.alone = false);
    }

    /// Who is who is not certain while a job runs that asked before.
    fn blurs(&mut self) {
        if self.running.is_empty() {
            return;
        }
        self.unsettles();
        let good = &self.of_branch.good | &self.of_mr.good;
        for place in [&mut self.of_branch, &mut self.of_mr] {
            *place = Place { fate: Fate::Perhaps, good: good.clone(), current: false, undecided: true };
        }
    }
}

/// A history as it happens.
pub struct Story {
    pub world: World,
    pub known: Vec<Known>,
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
        let settings = [
            ("GREENROOM_PROJECTS", "acme/web"),
            ("GREENROOM_RESYNC_INTERVAL", "1s"),
            ("GREENROOM_GITLAB_TIMEOUT", "2s"),
        ];
        let world = World::unjudged("acme/web", &settings).await;
        let known = BRANCHES.map(|(name, in_mr_pipelines)| Known {
            name,
            in_mr_pipelines,
            mr: None,
            newest: None,
            running: Vec::new(),
            texts: BTreeSet::new(),
            of_branch: Place::default(),
            of_mr: Place::default(),
        });
        Self { world, known: known.into(), said: Vec::new(), count: 0 }
    }

    async fn happen(&mut self, step: Step) -> Result<(), String> {
        self.count += 1;
        self.jobs_end().await;
        match step {
            Step::Meanwhile(mishap) => {
                if let Some(what) = mishap.happen(&self.world).await {
                    self.say(what);
                }
            }
            Step::Rest => {
                let healed = heal(&self.world).await;
                self.say(format!("{healed}, and all is quiet"));
                self.answers().await;
                self.wait_for_jobs().await;
                self.world.rests().await;
                return truth::holds(self).await;
            }
            Step::Push(at)
            | Step::Deploy(at)
            | Step::Begin(at)
            | Step::Again(at)
            | Step::Cancel(at)
            | Step::StopJob(at)
            | Step::StopByHand(at, _)
            | Step::Open(at)
            | Step::Close(at)
            | Step::Reopen(at)
            | Step::Merge(at)
            | Step::DeleteBranch(at) => {
                if let Some(what) = self.people(step, at).await {
                    let name = self.known[at].name;
                    self.say(format!("{name}: {what}"));
                }
            }
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

    /// Waits until greenroom answers; one that was killed a moment ago may look alive.
    async fn answers(&self) {
        let greenroom = &self.world.greenroom;
        until("greenroom answers", PATIENCE, || async {
            if !greenroom.is_running() {
                greenroom.restart().await;
            }
            greenroom.try_get(greenroom.url().authority(), "/livez").await
        })
        .await;
    }

    /// Does it, if it makes sense now; what was done.
    async fn people(&mut self, step: Step, at: Branch) -> Option<String> {
        let name = self.known[at].name;
        let exists = self.world.gitlab.has_branch(name).await;
        let state = match self.known[at].mr {
            Some(iid) => self.world.gitlab.mr(iid).await["state"].as_str().unwrap_or_default().to_owned(),
            None => String::new(),
        };
        let opened = state == "opened";
        match step {
            Step::Push(_) => {
                let sha = self.world.gitlab.push(name, &[("count", &self.count.to_string())]).await;
                let known = &mut self.known[at];
                known.unsettles();
                (known.of_branch.current, known.of_mr.current) = (false, false);
                Some(format!("push of {}", &sha[..8]))
            }
            Step::Deploy(_) if exists => {
                let pipeline = self.pipeline(at, opened).await;
                self.begin_deploy(at, pipeline, opened).await;
                self.wait_for_jobs().await;
                Some(format!("job {} has deployed", pipeline.deploy))
            }
            Step::Begin(_) if exists => {
                let pipeline = self.pipeline(at, opened).await;
                self.begin_deploy(at, pipeline, opened).await;
                Some(format!("job {} begins to deploy", pipeline.deploy))
            }
            Step::Again(_) if self.known[at].running.is_empty() => {
                let newest = self.known[at].newest?;
                let again = Pipeline { deploy: self.world.gitlab.retry(newest.deploy).await, ..newest };
                self.known[at].newest = Some(again);
                self.begin_deploy(at, again, opened).await;
                self.wait_for_jobs().await;
                Some(format!("job {} has deployed again, as {}", newest.deploy, again.deploy))
            }
            Step::Cancel(_) if !self.known[at].running.is_empty() => {
                for mut running in std::mem::take(&mut self.known[at].running) {
                    running.verb.kill().await.unwrap();
                    self.job_is(running.job, "canceled").await;
                }
                Some("what deploys is cancelled".to_owned())
            }
            // It is of the same resource group: GitLab lets it wait for a deploy job.
            Step::StopJob(_) if self.known[at].running.is_empty() => {
                let newest = self.known[at].newest?;
                let of_mr = newest.of_mr || opened;
                let stop =
                    if newest.stopped { self.world.gitlab.retry(newest.stop).await } else { newest.stop };
                let code = self.stop_job(at, stop).await?;
                // A server that took it does it, whatever becomes of the job.
                let known = &mut self.known[at];
                let certain = code == 0 && known.running.is_empty();
                known.place(of_mr).ends(certain);
                known.place(!of_mr).ends(false);
                Some(format!("stop job {stop} has ended with {code}"))
            }
            Step::StopByHand(_, runner) => self.stop_by_hand(at, runner, opened).await,
            Step::Open(_) if exists && self.known[at].mr.is_none() => {
                let iid = self.world.gitlab.open_mr(name, name).await;
                let known = &mut self.known[at];
                known.mr = Some(iid);
                known.blurs();
                Some(format!("!{iid} is opened"))
            }
            Step::Close(_) | Step::Merge(_) if opened => {
                let iid = self.known[at].mr?;
                if step == Step::Close(at) {
                    self.world.gitlab.close(iid).await;
                } else {
                    self.world.gitlab.merge(iid).await;
                }
                let known = &mut self.known[at];
                known.blurs();
                // Whatever was asked for.
                known.of_mr = Place { fate: Fate::Ended, ..Place::default() };
                // Whether the branch had been replaced is not known while nobody looked.
                known.of_branch.ends(false);
                Some(format!("!{iid} is over: {step:?}"))
            }
            Step::Reopen(_) if state == "closed" && exists => {
                let iid = self.known[at].mr?;
                self.world.gitlab.reopen(iid).await;
                let known = &mut self.known[at];
                known.blurs();
                // What was deployed of its head may come back.
                known.of_mr.fate = Fate::Perhaps;
                known.of_mr.good.clone_from(&known.texts);
                Some(format!("!{iid} is reopened"))
            }
            Step::DeleteBranch(_) if exists => {
                self.world.gitlab.delete_branch(name).await;
                let known = &mut self.known[at];
                let certain = known.running.is_empty() && known.of_branch.fate == Fate::Serves;
                // Where the merge request's preview had GitLab's environment of the branch, that is stopped, too.
                known.of_mr.ends(false);
                known.of_branch.ends(certain);
                Some("it is deleted".to_owned())
            }
            _ => None,
        }
    }

    /// A pipeline for the head, with the include's two jobs.
    async fn pipeline(&mut self, at: Branch, opened: bool) -> Pipeline {
        let known = &mut self.known[at];
        let of_mr = known.mr.filter(|_| opened && known.in_mr_pipelines);
        let environment = of_mr.map_or_else(|| environment(known.name), |iid| format!("review/mr-{iid}"));
        let jobs = json!([
            { "name": DEPLOY, "status": "running", "environment": { "name": environment, "on_stop": STOP } },
            { "name": STOP, "when": "manual", "environment": { "name": environment, "action": "stop" } },
        ]);
        let wanted = match of_mr {
            Some(iid) => json!({ "mr_iid": iid, "jobs": jobs }),
            None => json!({ "ref": known.name, "jobs": jobs }),
        };
        let made = self.world.gitlab.act("pipelines", wanted).await;
        let id = |value: &Value| value["id"].as_u64().expect("an id");
        let pipeline = Pipeline {
            deploy: id(&made["jobs"][0]),
            stop: id(&made["jobs"][1]),
            stopped: false,
            of_mr: of_mr.is_some(),
        };
        known.newest = Some(pipeline);
        pipeline
    }

    /// A verb in a job of this branch.
    async fn verb(&self, at: Branch, job: u64, of_mr: bool, args: &[&str]) -> tokio::process::Command {
        let token = self.world.id_token(job, json!({})).await;
        let iid = self.known[at].mr.filter(|_| of_mr);
        let mut verb = self.world.verb_command(args, iid.unwrap_or_default(), &token);
        if iid.is_none() {
            verb.env_remove("CI_MERGE_REQUEST_IID").env_remove("CI_MERGE_REQUEST_PROJECT_ID");
        }
        verb
    }

    async fn begin_deploy(&mut self, at: Branch, pipeline: Pipeline, opened: bool) {
        let text = format!("{} by job {}", self.known[at].name, pipeline.deploy);
        let folder = site(&text);
        let args = ["deploy", "--timeout", TIMEOUT, folder.path().to_str().unwrap()];
        let mut verb = self.verb(at, pipeline.deploy, pipeline.of_mr, &args).await;
        let home = tempfile::tempdir().unwrap();
        let verb = verb.arg("--dotenv").arg(home.path().join("greenroom.env")).spawn().unwrap();
        let of_mr = pipeline.of_mr || opened;
        let known = &mut self.known[at];
        known.texts.insert(text.clone());
        known.place(of_mr).begins(&text);
        if of_mr {
            // It will be replaced by what the job deploys.
            known.of_branch.ends(false);
        }
        known.unsettles();
        let alone = known.running.is_empty();
        let folders = [folder, home];
        known.running.push(Running { job: pipeline.deploy, of_mr, text, verb, alone, _folders: folders });
    }

    /// The jobs whose verbs have ended, end.
    async fn jobs_end(&mut self) {
        for at in 0..self.known.len() {
            let mut left = Vec::new();
            for mut running in std::mem::take(&mut self.known[at].running) {
                let Some(status) = running.verb.try_wait().unwrap() else {
                    left.push(running);
                    continue;
                };
                let deployed = status.success();
                assert_ne!(status.code(), Some(2), "a verb that is called in a wrong way");
                self.job_is(running.job, if deployed { "success" } else { "failed" }).await;
                self.say(format!("job {} ends with {:?}", running.job, status.code()));
                let known = &mut self.known[at];
                // With another one beside it, or an end, there is no telling which came last.
                if deployed && running.alone && known.place(running.of_mr).good.contains(&running.text) {
                    known.place(running.of_mr).is_deployed(&running.text);
                }
            }
            self.known[at].running = left;
        }
    }

    async fn wait_for_jobs(&mut self) {
        let began = std::time::Instant::now();
        loop {
            self.jobs_end().await;
            if self.known.iter().all(|known| known.running.is_empty()) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "a deploy job does not end");
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    async fn job_is(&self, job: u64, status: &str) {
        self.world.gitlab.act(&format!("jobs/{job}"), json!({ "status": status })).await;
    }

    async fn stop_job_is(&mut self, at: Branch, job: u64, status: &str) {
        self.job_is(job, status).await;
        if let Some(newest) = &mut self.known[at].newest {
            (newest.stop, newest.stopped) = (job, true);
        }
    }

    /// Somebody runs the stop job; with which exit code it ended. Nothing where it cannot be run again.
    async fn stop_job(&mut self, at: Branch, job: u64) -> Option<i32> {
        let of_mr = self.known[at].newest?.of_mr;
        let mut verb = self.verb(at, job, of_mr, &["stop", "--timeout", TIMEOUT]).await;
        let output = verb.output().await.unwrap();
        let code = output.status.code()?;
        assert_ne!(code, 2, "{}", String::from_utf8_lossy(&output.stderr));
        self.stop_job_is(at, job, if code == 0 { "success" } else { "failed" }).await;
        Some(code)
    }

    async fn stop_by_hand(&mut self, at: Branch, runner: Runner, opened: bool) -> Option<String> {
        let newest = self.known[at].newest?;
        let of_mr = newest.of_mr || opened;
        let environment = match self.known[at].mr.filter(|_| newest.of_mr) {
            Some(iid) => format!("review/mr-{iid}"),
            None => environment(self.known[at].name),
        };
        let environments = self.world.gitlab.environments().await;
        environments.iter().find(|one| one["name"] == *environment && one["state"] == "available")?;
        let stopped = self.world.gitlab.stop_named(&environment, false).await;
        let mut told = format!("{environment} is stopped by hand: {}", stopped["state"]);
        let mut ended = stopped["state"] == "stopped";
        if stopped["state"] == "stopping" {
            match runner {
                Runner::RunsIt if self.known[at].running.is_empty() => {
                    let code = self.stop_job(at, newest.stop).await?;
                    told = format!("{told}; stop job {} has ended with {code}", newest.stop);
                    ended = code == 0;
                }
                Runner::FailsIt => {
                    self.stop_job_is(at, newest.stop, "failed").await;
                    told = format!("{told}; stop job {} fails", newest.stop);
                }
                Runner::RunsIt | Runner::IsAway => ended = true,
            }
        }
        let known = &mut self.known[at];
        // What a merge request shows goes with that, not with the environment of its branch.
        let is_its = newest.of_mr == of_mr;
        let certain = ended && is_its && known.running.is_empty() && known.place(of_mr).fate == Fate::Serves;
        known.place(of_mr).ends(certain);
        known.place(!of_mr).ends(false);
        Some(told)
    }
}
