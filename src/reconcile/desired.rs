//! What should be, decided from what is. Pure: no I/O, no clock.

use super::branch;
use crate::preview::{
    Changes, DEFAULT_CLUSTER, Given, Head, Hold, HoldOrigin, Job, JobStatus, Judgement, Lifetime,
    MergeRequest, MergeRequestState, Place, Preview, ProjectRules, Quoted, Reason, Sha, State, Verdict,
    rfc3339,
};
use crate::render::{FileError, ProjectFile, WaitFor, Workload};

/// What is known of `.greenroom.yml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileFact {
    /// Not asked: the merge request is over.
    NotRead,
    /// GitLab says that the file is not there.
    Absent,
    /// It cannot be used.
    Broken(FileError),
    /// It says this.
    Present(ProjectFile),
}

/// What is known of the head's pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeadFact {
    /// Not asked: nothing depends on it.
    NotRead,
    /// No pipeline ran for the head.
    NoPipeline,
    /// This one counts.
    Pipeline(Head),
}

/// Everything a decision rests on.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// As GitLab shows it now.
    pub merge_request: &'a MergeRequest,
    /// At the deployed head; of a fork, from the target branch.
    pub file: &'a FileFact,
    /// The files it changes, where the project file asks for some.
    pub changes: &'a Changes,
    /// The pipeline that counts.
    pub head: &'a HeadFact,
    /// What the operator allows.
    pub rules: &'a ProjectRules,
    /// The names of the clusters there are.
    pub clusters: &'a [String],
    /// SHA-256 of what the operator's settings add on a cluster, in hexadecimal.
    pub settings: &'a str,
    /// How many other previews of the project run; counted where the operator limits them.
    pub others: u64,
    /// What we remember.
    pub record: Option<&'a Preview>,
    /// Unix milliseconds.
    pub now: i64,
}

/// What is to be deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The merge request's head.
    pub sha: Sha,
    /// The pipeline that counts; `None` where the image alone is waited for, and there is none.
    pub pipeline_id: Option<u64>,
    /// The pipeline's commit; differs from the head with merged results.
    pub pipeline_sha: Sha,
    /// The pipeline's ref, as the API shows it.
    pub pipeline_ref: String,
    /// Job that made it: the one whose artifact it is, or the newest one of the pipeline that made an image.
    pub job_id: u64,
    /// Where it is to run.
    pub place: Place,
    /// SHA-256 of what the operator's settings add to it, for an engine that they add to.
    pub settings: Option<String>,
    /// The merge request's title. Written by a stranger.
    pub title: String,
    /// User name of who opened it.
    pub author: String,
    /// What the project file says.
    pub file: ProjectFile,
    /// When the merge request was read, Unix milliseconds.
    pub seen_at: i64,
}

/// What should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Desired {
    /// Not ours: do nothing, say nothing.
    Leave,
    /// Nothing should run.
    Gone(Reason),
    /// The head cannot be deployed (now). What serves stays.
    Keep(State, Reason),
    /// This should run.
    Run(Box<Target>),
}

/// How long what runs may live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// The project file says so; without a lifetime, until the merge request ends.
    Of(Option<Lifetime>),
    /// The project file cannot be read: as people were told before.
    AsTold,
}

/// What should be, and the rules that led there, in the order they were asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The outcome.
    pub desired: Desired,
    /// How long what runs may live.
    pub life: Life,
    /// One sentence per rule that counted.
    pub rules: Vec<String>,
}

/// Decides what should be.
pub fn desired(facts: Facts<'_>) -> Decision {
    let (mut rules, mut bounds) = (Vec::new(), Vec::new());
    let life = match facts.file {
        FileFact::Present(file) => Life::Of(facts.rules.lifetime(file.expires_after, &mut bounds)),
        _ => Life::AsTold,
    };
    let desired = decide(facts, &mut rules);
    if !matches!(desired, Desired::Leave | Desired::Gone(_) | Desired::Keep(State::Skipped, _)) {
        rules.append(&mut bounds);
    }
    let mut decision = Decision { desired, life, rules };
    if let Some(record) = facts.record {
        decision.expire(record, facts.now);
    }
    decision
}

impl Decision {
    /// Turns into "gone" when the life of what serves is over at `now`.
    pub(super) fn expire(&mut self, record: &Preview, now: i64) {
        if let Some(end) = end_of_life(self.life, record, &self.desired).filter(|end| *end <= now) {
            self.rules.push(format!("its lifetime ended at {}", rfc3339(end)));
            self.desired = Desired::Gone(Reason::Expired(rfc3339(end)));
        }
    }
}

/// When the life of what serves, or is being brought up, ends. A head that was not deployed yet starts a new life.
pub(super) fn end_of_life(life: Life, record: &Preview, desired: &Desired) -> Option<i64> {
    let lives = match desired {
        Desired::Run(target) => record.release.as_ref().is_some_and(|release| {
            // What was refused never lived, and why must not be forgotten; it leaves the one before it in place.
            let lives = release.was_submitted() && release.failure.is_none();
            release.sha == target.sha && (lives || record.serving.is_some())
        }),
        Desired::Keep(..) => record.serving.is_some(),
        Desired::Leave | Desired::Gone(_) => false,
    };
    if !lives {
        return None;
    }
    match life {
        Life::Of(lifetime) => {
            lifetime.zip(record.deployed_at).map(|(lifetime, start)| lifetime.end_of(start))
        }
        Life::AsTold => record.expires_at,
    }
}

/// Whether the operator stopped it at this very head. Then nothing else of the merge request is asked for.
pub(super) fn is_held_by_operator(record: Option<&Preview>, merge_request: &MergeRequest) -> bool {
    record.and_then(Preview::held_by_operator).is_some_and(|hold| hold.sha == merge_request.sha)
}

fn decide(facts: Facts<'_>, rules: &mut Vec<String>) -> Desired {
    let Facts { merge_request, file, changes, record, .. } = facts;
    let is_branch = merge_request.key.subject.is_branch();
    let state = match merge_request.state {
        MergeRequestState::Opened => "open",
        MergeRequestState::Locked => "locked, which counts as open",
        MergeRequestState::Closed => "closed",
        MergeRequestState::Merged => "merged",
    };
    rules.push(if is_branch {
        format!("{} has no merge request", merge_request.called())
    } else {
        format!("{} is {state}", merge_request.called())
    });
    if merge_request.state.is_over() {
        if record.is_none() {
            rules.push(String::from("it never had a preview"));
            return Desired::Leave;
        }
        let merged = merge_request.state == MergeRequestState::Merged;
        return Desired::Gone(if merged { Reason::Merged } else { Reason::Closed });
    }

    // Before the file: where the operator said no, nothing else is read.
    if is_held_by_operator(record, merge_request) {
        rules.push(String::from("the operator stopped it at this commit"));
        return Desired::Gone(Reason::StoppedByOperator);
    }

    if is_branch && let Some(desired) = branch::end(merge_request, record, rules) {
        return desired;
    }

    let file = match file {
        // Nothing is known, so nothing is done.
        FileFact::NotRead => return Desired::Leave,
        FileFact::Absent => {
            rules.push(String::from("there is no `.greenroom.yml`"));
            return if record.is_none() { Desired::Leave } else { Desired::Gone(Reason::FileRemoved) };
        }
        _ if merge_request.from_fork() => {
            rules.push(String::from("the source branch is in another project, and forks get no preview"));
            return Desired::Keep(State::Skipped, Reason::Fork);
        }
        FileFact::Broken(error) => {
            rules.push(String::from("`.greenroom.yml` cannot be used"));
            Err(error)
        }
        FileFact::Present(file) => {
            let job = match &file.workload {
                Workload::Static(site) => format!(" with job {}", Quoted::new(&site.job)),
                Workload::Kubernetes(_) => String::new(),
            };
            rules.push(format!("`.greenroom.yml` asks for engine {}{job}", file.workload.engine()));
            Ok(file)
        }
    };

    if let Some(Hold { sha, origin, .. }) = record.and_then(|record| record.hold.as_ref()) {
        let by = match origin {
            HoldOrigin::Gitlab | HoldOrigin::Successor => "the environment was stopped by hand",
            HoldOrigin::Operator => "the operator stopped it",
        };
        if *sha == merge_request.sha {
            rules.push(format!("{by} at this commit"));
            return Desired::Gone(Reason::StoppedInGitlab);
        }
        rules.push(format!("{by} at an older commit, which does not count any more"));
    }

    let file = match file {
        Ok(file) => file,
        Err(error) => return Desired::Keep(State::Failed, Reason::FileBroken(error.to_string())),
    };
    match file.when.judge(merge_request, changes, rules) {
        Judgement::Admitted => {}
        Judgement::Excluded(reason) if record.is_some_and(Preview::has_begun) => {
            return Desired::Gone(reason);
        }
        Judgement::Excluded(reason) => return Desired::Keep(State::Skipped, reason),
        Judgement::Undecided if merge_request.sha.is_none() => {
            return Desired::Keep(State::Waiting, Reason::NoCommit);
        }
        Judgement::Undecided => return Desired::Keep(State::Waiting, Reason::ChangesUnknown),
    }
    if let Some(Given { value: allowed, origin }) = &facts.rules.engines
        && !allowed.contains(&file.workload.engine())
    {
        rules.push(format!("the server's settings do not allow that engine ({origin})"));
        let allowed: Vec<_> = allowed.iter().map(|engine| format!("`{engine}`")).collect();
        let reason = Reason::EngineNotAllowed {
            engine: file.workload.engine(),
            allowed: allowed.join(", "),
            origin: origin.clone(),
        };
        return Desired::Keep(State::Failed, reason);
    }
    of_head(facts, file, rules)
}

fn of_head(facts: Facts<'_>, file: &ProjectFile, rules: &mut Vec<String>) -> Desired {
    let Some(sha) = &facts.merge_request.sha else {
        return Desired::Keep(State::Waiting, Reason::NoCommit);
    };
    rules.push(format!("its head is `{}`", sha.short()));
    let head = match facts.head {
        HeadFact::Pipeline(head) => Some(head),
        _ if file.wait_for == WaitFor::Image => None,
        _ => {
            rules.push(String::from(if facts.merge_request.key.subject.is_branch() {
                "no job has asked for a deploy of that commit"
            } else {
                "no pipeline of the merge request runs on that commit"
            }));
            if let Some(serving) = facts.record.and_then(|record| record.serving.as_ref())
                && serving.sha == *sha
            {
                // Pipelines can be deleted; what they built is served all the same.
                rules.push(String::from("that commit is served already"));
                return Desired::Keep(State::Ready, Reason::Ready(sha.clone()));
            }
            if facts.merge_request.key.subject.is_branch() {
                return Desired::Keep(State::Waiting, Reason::LeftToBranch(sha.clone()));
            }
            return Desired::Keep(State::Waiting, Reason::NoPipeline(sha.clone()));
        }
    };
    if let Some(head) = head {
        let pipeline = head.pipeline.id;
        rules.push(if head.pipeline.sha == *sha {
            format!("pipeline {pipeline} is the newest one on that commit")
        } else {
            format!("pipeline {pipeline} is the newest one, and its merge commit has that commit as a parent")
        });
    }
    let made = match &file.workload {
        Workload::Static(site) => artifact(facts, head, &file.wait_for, &site.job, sha, rules),
        Workload::Kubernetes(_) => image(head, &file.wait_for, rules),
    };
    let job_id = match made {
        Ok(job_id) => job_id,
        Err(desired) => return *desired,
    };
    let place = wanted_place(file, facts.rules);
    if let Some(cluster) = place.cluster.as_ref().filter(|cluster| !facts.clusters.contains(cluster)) {
        rules.push(format!("the server's settings name no cluster `{cluster}`"));
        let origin = facts.rules.cluster.as_ref().map(|given| given.origin.clone());
        return Desired::Keep(State::Failed, Reason::NoCluster { cluster: cluster.clone(), origin });
    }
    // Only who has no place yet may be without one: nobody is sent away for a limit.
    if let Some(Given { value: limit, origin }) = &facts.rules.max_previews
        && !facts.record.is_some_and(Preview::takes_place)
    {
        let others = facts.others;
        rules.push(format!(
            "{others} of the {limit} previews run that the server's settings allow ({origin})"
        ));
        if others >= *limit {
            let reason = Reason::NoRoom { limit: *limit, origin: origin.clone() };
            return Desired::Keep(State::Waiting, reason);
        }
    }
    let (pipeline_sha, pipeline_ref) = match head {
        Some(head) => (head.pipeline.sha.clone(), head.pipeline.reference.clone()),
        None => (sha.clone(), String::new()),
    };
    Desired::Run(Box::new(Target {
        sha: sha.clone(),
        pipeline_id: head.map(|head| head.pipeline.id),
        pipeline_sha,
        pipeline_ref,
        job_id,
        settings: place.cluster.is_some().then(|| facts.settings.to_owned()),
        place,
        title: facts.merge_request.title.clone(),
        author: facts.merge_request.author.clone(),
        file: file.clone(),
        seen_at: facts.now,
    }))
}

/// Where a project's previews are to run.
pub(super) fn wanted_place(file: &ProjectFile, rules: &ProjectRules) -> Place {
    match file.workload {
        Workload::Static(_) => Place::STATIC,
        Workload::Kubernetes(_) => {
            Place::cluster(rules.cluster.as_ref().map_or(DEFAULT_CLUSTER, |given| &given.value))
        }
    }
}

/// The job whose artifact is to be served, once it is there.
fn artifact(
    facts: Facts<'_>,
    head: Option<&Head>,
    wait_for: &WaitFor,
    name: &str,
    sha: &Sha,
    rules: &mut Vec<String>,
) -> Result<u64, Box<Desired>> {
    let Some(head) = head else {
        return Err(Box::new(Desired::Keep(State::Waiting, Reason::NoPipeline(sha.clone()))));
    };
    awaited(head, wait_for, rules)?;
    let job = succeeded(head, name, rules)?;
    // What was fetched once does not need its artifact any more: it may expire while the preview lives.
    let release = facts.record.and_then(|record| record.release.as_ref());
    let fetched = release.is_some_and(|release| release.is_of(sha, job.id));
    if !job.has_artifact && !fetched {
        return Err(Box::new(Desired::Keep(State::Failed, Reason::ArtifactGone(Quoted::new(name)))));
    }
    Ok(job.id)
}

/// The newest job that may have made an image, once what is waited for is there.
fn image(head: Option<&Head>, wait_for: &WaitFor, rules: &mut Vec<String>) -> Result<u64, Box<Desired>> {
    let Some(head) = head else {
        rules.push(String::from("`wait_for: image` asks for no pipeline"));
        return Ok(Head::NO_JOB);
    };
    awaited(head, wait_for, rules)?;
    if let WaitFor::Job(name) = wait_for {
        return Ok(head.job(name).map_or(Head::NO_JOB, |job| job.id));
    }
    let jobs = head.jobs.iter().chain(&head.child_jobs);
    let newest = jobs.filter(|job| job.status == JobStatus::Success).map(|job| job.id).max();
    Ok(newest.unwrap_or(Head::NO_JOB))
}

/// Nothing, once what the project file waits for is there.
fn awaited(head: &Head, wait_for: &WaitFor, rules: &mut Vec<String>) -> Result<(), Box<Desired>> {
    let pipeline = head.pipeline.id;
    match wait_for {
        WaitFor::Image => {
            rules.push(String::from("`wait_for: image` asks for the image alone"));
            Ok(())
        }
        WaitFor::Job(name) => succeeded(head, name, rules).map(drop),
        WaitFor::Pipeline => {
            rules.push(String::from("`wait_for: pipeline` asks for all of it"));
            let (state, reason) = match head.verdict() {
                Verdict::Passed => return Ok(()),
                Verdict::Running => (State::Waiting, Reason::PipelineRunning(pipeline)),
                Verdict::Blocked(job) => {
                    (State::Waiting, Reason::PipelineBlocked(pipeline, Quoted::new(&job)))
                }
                Verdict::Failed(job) => (State::Failed, Reason::PipelineFailed(pipeline, Quoted::new(&job))),
            };
            Err(Box::new(Desired::Keep(state, reason)))
        }
    }
}

/// The job of this name, once it has succeeded.
fn succeeded<'a>(head: &'a Head, name: &str, rules: &mut Vec<String>) -> Result<&'a Job, Box<Desired>> {
    let pipeline = head.pipeline.id;
    let keep = |state, reason| Err(Box::new(Desired::Keep(state, reason)));
    let quoted = Quoted::new(name);
    let Some(job) = head.job(name) else {
        return if head.is_finished() {
            keep(State::Skipped, Reason::JobMissing(quoted, pipeline))
        } else {
            keep(State::Waiting, Reason::JobNotYet(quoted, pipeline))
        };
    };
    match job.status {
        JobStatus::Unfinished => keep(State::Waiting, Reason::JobUnfinished(quoted, pipeline)),
        JobStatus::Manual => keep(State::Waiting, Reason::JobManual(quoted, pipeline)),
        status @ (JobStatus::Failed | JobStatus::Canceled | JobStatus::Skipped) => {
            keep(State::Failed, Reason::JobFailed(quoted, pipeline, status))
        }
        JobStatus::Success => {
            let told = format!("job {quoted} (id {}) succeeded", job.id);
            if !rules.contains(&told) {
                rules.push(told);
            }
            Ok(job)
        }
    }
}

#[cfg(test)]
mod tests;
