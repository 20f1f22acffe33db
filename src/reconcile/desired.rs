//! What should be, decided from what is. Pure: no I/O, no clock.

use crate::preview::{
    Head, Hold, JobStatus, Lifetime, MergeRequest, MergeRequestState, Preview, Quoted, Reason, Sha, State,
    Verdict, rfc3339,
};
use crate::render::{FileError, ProjectFile, WaitFor};

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
    /// The pipeline that counts.
    pub head: &'a HeadFact,
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
    /// The pipeline's commit; differs from the head with merged results.
    pub pipeline_sha: Sha,
    /// The pipeline's ref, as the API shows it.
    pub pipeline_ref: String,
    /// Job whose artifact it is.
    pub job_id: u64,
    /// That job's name.
    pub job_name: String,
    /// What the project file says.
    pub file: ProjectFile,
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
    let mut rules = Vec::new();
    let life = match facts.file {
        FileFact::Present(file) => Life::Of(file.expires_after),
        _ => Life::AsTold,
    };
    let mut desired = decide(facts, &mut rules);
    if let Some(end) = facts.record.and_then(|record| end_of_life(life, record, &desired))
        && end <= facts.now
    {
        rules.push(format!("its lifetime ended at {}", rfc3339(end)));
        desired = Desired::Gone(Reason::Expired(rfc3339(end)));
    }
    Decision { desired, life, rules }
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

fn decide(facts: Facts<'_>, rules: &mut Vec<String>) -> Desired {
    let Facts { merge_request, file, record, .. } = facts;
    let state = match merge_request.state {
        MergeRequestState::Opened => "open",
        MergeRequestState::Locked => "locked, which counts as open",
        MergeRequestState::Closed => "closed",
        MergeRequestState::Merged => "merged",
    };
    rules.push(format!("merge request !{} is {state}", merge_request.key.iid));
    if merge_request.state.is_over() {
        if record.is_none() {
            rules.push(String::from("it never had a preview"));
            return Desired::Leave;
        }
        let merged = merge_request.state == MergeRequestState::Merged;
        return Desired::Gone(if merged { Reason::Merged } else { Reason::Closed });
    }

    let file = match file {
        FileFact::Absent | FileFact::NotRead => {
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
            let job = Quoted::new(&file.site.job);
            rules.push(format!("`.greenroom.yml` asks for engine {} with job {job}", file.engine));
            Ok(file)
        }
    };

    if let Some(Hold { sha, .. }) = record.and_then(|record| record.hold.as_ref()) {
        if *sha == merge_request.sha {
            rules.push(String::from("the environment was stopped by hand at this commit"));
            return Desired::Gone(Reason::StoppedInGitlab);
        }
        rules.push(String::from(
            "the environment was stopped by hand at an older commit, which does not count any more",
        ));
    }

    match file {
        Ok(file) => of_head(facts, file, rules),
        Err(error) => Desired::Keep(State::Failed, Reason::FileBroken(error.to_string())),
    }
}

fn of_head(facts: Facts<'_>, file: &ProjectFile, rules: &mut Vec<String>) -> Desired {
    let Some(sha) = &facts.merge_request.sha else {
        return Desired::Keep(State::Waiting, Reason::NoCommit);
    };
    rules.push(format!("its head is `{}`", sha.short()));
    let HeadFact::Pipeline(head) = facts.head else {
        rules.push(String::from("no pipeline of the merge request runs on that commit"));
        if let Some(serving) = facts.record.and_then(|record| record.serving.as_ref())
            && serving.sha == *sha
        {
            // Pipelines can be deleted; what they built is served all the same.
            rules.push(String::from("that commit is served already"));
            return Desired::Keep(State::Ready, Reason::Ready(sha.clone()));
        }
        return Desired::Keep(State::Waiting, Reason::NoPipeline(sha.clone()));
    };
    let pipeline = head.pipeline.id;
    rules.push(if head.pipeline.sha == *sha {
        format!("pipeline {pipeline} is the newest one on that commit")
    } else {
        format!("pipeline {pipeline} is the newest one, and its merge commit has that commit as a parent")
    });

    if file.wait_for == WaitFor::Pipeline {
        rules.push(String::from("`wait_for: pipeline` asks for all of it"));
        match head.verdict() {
            Verdict::Passed => {}
            Verdict::Running => return Desired::Keep(State::Waiting, Reason::PipelineRunning(pipeline)),
            Verdict::Blocked(job) => {
                return Desired::Keep(State::Waiting, Reason::PipelineBlocked(pipeline, Quoted::new(&job)));
            }
            Verdict::Failed(job) => {
                return Desired::Keep(State::Failed, Reason::PipelineFailed(pipeline, Quoted::new(&job)));
            }
        }
    }

    let name = Quoted::new(&file.site.job);
    let Some(job) = head.job(&file.site.job) else {
        return if head.is_finished() {
            Desired::Keep(State::Skipped, Reason::JobMissing(name, pipeline))
        } else {
            Desired::Keep(State::Waiting, Reason::JobNotYet(name, pipeline))
        };
    };
    match job.status {
        JobStatus::Unfinished => {
            return Desired::Keep(State::Waiting, Reason::JobUnfinished(name, pipeline));
        }
        JobStatus::Manual => return Desired::Keep(State::Waiting, Reason::JobManual(name, pipeline)),
        status @ (JobStatus::Failed | JobStatus::Canceled | JobStatus::Skipped) => {
            return Desired::Keep(State::Failed, Reason::JobFailed(name, pipeline, status));
        }
        JobStatus::Success => {}
    }
    rules.push(format!("job {name} (id {}) succeeded", job.id));

    // What was fetched once does not need its artifact any more: it may expire while the preview lives.
    let release = facts.record.and_then(|record| record.release.as_ref());
    let fetched = release.is_some_and(|release| release.sha == *sha && release.job_id == job.id);
    if !job.has_artifact && !fetched {
        return Desired::Keep(State::Failed, Reason::ArtifactGone(name));
    }
    Desired::Run(Box::new(Target {
        sha: sha.clone(),
        pipeline_sha: head.pipeline.sha.clone(),
        pipeline_ref: head.pipeline.reference.clone(),
        job_id: job.id,
        job_name: job.name.clone(),
        file: file.clone(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preview::{Job, MrKey, Pipeline, Release, Serving};

    const NOW: i64 = 1_000_000_000;
    const HOUR: i64 = 3_600_000;

    fn sha(digit: char) -> Sha {
        Sha::parse(&String::from(digit).repeat(40)).unwrap()
    }

    fn merge_request() -> MergeRequest {
        MergeRequest {
            key: MrKey::new(42, 7),
            project_path: "acme/web".into(),
            state: MergeRequestState::Opened,
            sha: Some(sha('a')),
            source_branch: "feature".into(),
            target_branch: "main".into(),
            source_project_id: Some(42),
        }
    }

    fn file(more: &str) -> FileFact {
        let text = format!("version: 1\nengine: static\nstatic: {{job: build}}\n{more}");
        FileFact::Present(ProjectFile::parse(&text).unwrap())
    }

    fn pipeline(jobs: &[(&str, JobStatus)]) -> HeadFact {
        let jobs = jobs.iter().zip(1..).map(|((name, status), id)| Job {
            id,
            name: (*name).into(),
            status: *status,
            allow_failure: false,
            has_artifact: *status == JobStatus::Success,
        });
        HeadFact::Pipeline(Head {
            pipeline: Pipeline {
                id: 9,
                project_id: 42,
                sha: sha('a'),
                reference: "refs/merge-requests/7/head".into(),
                source: "merge_request_event".into(),
            },
            jobs: jobs.collect(),
            bridges: Vec::new(),
            child_jobs: Vec::new(),
        })
    }

    /// A preview that was deployed an hour ago and serves commit `a…`.
    fn serving() -> Preview {
        let mut preview =
            Preview::new(MrKey::new(42, 7), "acme/web", |name| format!("http://{name}.example"), 0);
        preview.deployed_at = Some(NOW - HOUR);
        preview.serving = Some(Serving { sha: sha('a'), since: NOW - HOUR });
        preview.release = Some(Release {
            sha: sha('a'),
            job_id: 1,
            digest: "d".into(),
            submitted_at: NOW - HOUR,
            settled_at: Some(NOW - HOUR),
            failure: None,
        });
        preview
    }

    /// What should be, in one line.
    fn shown(
        merge_request: &MergeRequest,
        file: &FileFact,
        head: &HeadFact,
        record: Option<&Preview>,
    ) -> String {
        match desired(Facts { merge_request, file, head, record, now: NOW }).desired {
            Desired::Leave => "leave".into(),
            Desired::Gone(reason) => format!("gone: {reason}"),
            Desired::Keep(state, reason) => format!("{state}: {reason}"),
            Desired::Run(target) => format!("run {} of job {}", target.sha.short(), target.job_id),
        }
    }

    #[test]
    fn the_pipeline_and_the_job_decide_what_an_open_head_gets() {
        use JobStatus::{Canceled, Failed, Manual, Skipped, Success, Unfinished};
        let whole = file("wait_for: pipeline\n");
        for (file, head, expected) in [
            (file(""), HeadFact::NoPipeline, "waiting: no pipeline has run for commit `aaaaaaaa` yet"),
            (file(""), pipeline(&[]), "waiting: pipeline 9 runs and has no job `build` yet"),
            (
                file(""),
                pipeline(&[("lint", Unfinished)]),
                "waiting: pipeline 9 runs and has no job `build` yet",
            ),
            (file(""), pipeline(&[("lint", Success)]), "skipped: pipeline 9 finished without a job `build`"),
            (
                file(""),
                pipeline(&[("build", Unfinished)]),
                "waiting: job `build` of pipeline 9 has not finished",
            ),
            (
                file(""),
                pipeline(&[("build", Manual)]),
                "waiting: job `build` of pipeline 9 waits for a person to start it",
            ),
            (file(""), pipeline(&[("build", Failed)]), "failed: job `build` of pipeline 9 failed"),
            (file(""), pipeline(&[("build", Canceled)]), "failed: job `build` of pipeline 9 was cancelled"),
            (file(""), pipeline(&[("build", Skipped)]), "failed: job `build` of pipeline 9 was skipped"),
            (file(""), pipeline(&[("build", Success), ("test", Failed)]), "run aaaaaaaa of job 1"),
            (
                whole.clone(),
                pipeline(&[("build", Success), ("test", Unfinished)]),
                "waiting: pipeline 9 has not finished",
            ),
            (
                whole.clone(),
                pipeline(&[("build", Success), ("test", Failed)]),
                "failed: pipeline 9 did not pass: job `test` did not succeed",
            ),
            (
                whole.clone(),
                pipeline(&[("build", Success), ("ok?", Manual)]),
                "waiting: pipeline 9 waits for job `ok?`, which a person has to start",
            ),
            (whole, pipeline(&[("build", Success), ("test", Success)]), "run aaaaaaaa of job 1"),
        ] {
            assert_eq!(shown(&merge_request(), &file, &head, None), expected);
        }
    }

    #[test]
    fn without_a_usable_file_there_is_nothing_new() {
        let built = pipeline(&[("build", JobStatus::Success)]);
        let broken = FileFact::Broken(ProjectFile::parse("version: 2").unwrap_err());
        let open = merge_request();
        assert_eq!(shown(&open, &FileFact::Absent, &built, None), "leave");
        assert_eq!(
            shown(&open, &FileFact::Absent, &built, Some(&serving())),
            "gone: the branch has no `.greenroom.yml` any more"
        );
        assert!(
            shown(&open, &broken, &built, None)
                .starts_with("failed: `.greenroom.yml` cannot be used: line 1")
        );
    }

    #[test]
    fn forks_get_nothing_also_when_the_fork_is_gone_and_they_hear_of_it_only_where_there_is_a_file() {
        let built = pipeline(&[("build", JobStatus::Success)]);
        for source_project_id in [Some(43), None] {
            let fork = MergeRequest { source_project_id, ..merge_request() };
            assert_eq!(
                shown(&fork, &file(""), &built, None),
                "skipped: the change comes from a fork, and forks get no preview"
            );
            assert_eq!(shown(&fork, &FileFact::Absent, &built, None), "leave");
        }
    }

    #[test]
    fn what_serves_does_not_depend_on_its_pipeline_any_more() {
        let none = HeadFact::NoPipeline;
        let ready = "ready: commit `aaaaaaaa` is being served";
        assert_eq!(shown(&merge_request(), &file(""), &none, Some(&serving())), ready);
        let next = MergeRequest { sha: Some(sha('b')), ..merge_request() };
        let waiting = "waiting: no pipeline has run for commit `bbbbbbbb` yet";
        assert_eq!(shown(&next, &file(""), &none, Some(&serving())), waiting);
    }

    #[test]
    fn an_end_is_an_end_and_locked_is_none() {
        let built = pipeline(&[("build", JobStatus::Success)]);
        for (state, expected) in [
            (MergeRequestState::Closed, "gone: the merge request was closed"),
            (MergeRequestState::Merged, "gone: the merge request was merged"),
            (MergeRequestState::Locked, "run aaaaaaaa of job 1"),
        ] {
            let merge_request = MergeRequest { state, ..merge_request() };
            assert_eq!(shown(&merge_request, &file(""), &built, Some(&serving())), expected);
        }
        let closed = MergeRequest { state: MergeRequestState::Closed, ..merge_request() };
        assert_eq!(shown(&closed, &FileFact::NotRead, &HeadFact::NotRead, None), "leave");
    }

    #[test]
    fn stopped_by_hand_counts_for_the_head_it_was_stopped_at() {
        let built = pipeline(&[("build", JobStatus::Success)]);
        let held = |at| Preview { hold: Some(Hold { sha: Some(sha(at)), since: 0 }), ..serving() };
        let open = merge_request();
        assert_eq!(
            shown(&open, &file(""), &built, Some(&held('a'))),
            "gone: somebody stopped the environment in GitLab"
        );
        assert_eq!(shown(&open, &file(""), &built, Some(&held('b'))), "run aaaaaaaa of job 1");
    }

    #[test]
    fn a_life_ends_on_time_and_a_new_head_begins_another() {
        let built = pipeline(&[("build", JobStatus::Success)]);
        let failed = pipeline(&[("build", JobStatus::Failed)]);
        let over = "gone: its lifetime ended at 1970-01-12T13:16:40Z";
        let next = MergeRequest { sha: Some(sha('b')), ..merge_request() };
        let asleep = Preview { serving: None, ..serving() };
        let mut refused = asleep.clone();
        refused.release.as_mut().unwrap().failure = Some("it is no zip archive".into());
        let (short, long) = (file("expires_after: 30m\n"), file("expires_after: 2h\n"));
        for (merge_request, file, head, record, expected) in [
            (&merge_request(), &long, &built, serving(), "run aaaaaaaa of job 1"),
            (&merge_request(), &short, &built, serving(), over),
            (&merge_request(), &short, &built, asleep.clone(), over),
            (&merge_request(), &short, &failed, serving(), over),
            (&merge_request(), &short, &failed, asleep, "failed: job `build` of pipeline 9 failed"),
            (&merge_request(), &short, &built, refused, "run aaaaaaaa of job 1"),
            (&next, &short, &built, serving(), "run bbbbbbbb of job 1"),
        ] {
            assert_eq!(shown(merge_request, file, head, Some(&record)), expected);
        }
    }

    #[test]
    fn an_artifact_is_needed_until_it_was_fetched() {
        let mut head = pipeline(&[("build", JobStatus::Success)]);
        let HeadFact::Pipeline(inner) = &mut head else { unreachable!() };
        inner.jobs[0].has_artifact = false;
        let open = merge_request();
        assert_eq!(
            shown(&open, &file(""), &head, None),
            "failed: job `build` succeeded, but GitLab has no artifact of it: it was never made or has expired"
        );
        assert_eq!(shown(&open, &file(""), &head, Some(&serving())), "run aaaaaaaa of job 1");
    }
}
