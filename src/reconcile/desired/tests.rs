//! What each fact leads to, in tables.

use super::*;
use crate::preview::{BranchId, Job, Pipeline, PreviewKey, Release, Serving, Subject};

const NOW: i64 = 1_000_000_000;
const HOUR: i64 = 3_600_000;

fn sha(digit: char) -> Sha {
    Sha::parse(&String::from(digit).repeat(40)).unwrap()
}

fn merge_request() -> MergeRequest {
    MergeRequest {
        key: PreviewKey::of_mr(42, 7),
        project_path: "acme/web".into(),
        state: MergeRequestState::Opened,
        sha: Some(sha('a')),
        source_branch: "feature".into(),
        target_branch: "main".into(),
        created_at: None,
        source_project_id: Some(42),
        draft: false,
        title: String::new(),
        author: String::new(),
        labels: Vec::new(),
        diff: None,
        branch_deleted: false,
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
    let mut preview = Preview::new(
        PreviewKey::of_mr(42, 7),
        "acme/web",
        "feature",
        |name| format!("http://{name}.example"),
        0,
    );
    preview.deployed_at = Some(NOW - HOUR);
    preview.serving = Some(Serving { sha: sha('a'), since: NOW - HOUR });
    preview.release = Some(Release {
        sha: sha('a'),
        job_id: 1,
        digest: "d".into(),
        submitted_at: NOW - HOUR,
        settled_at: Some(NOW - HOUR),
        failure: None,
        settings: None,
        by_job: false,
    });
    preview
}

/// What should be, in one line.
fn shown(merge_request: &MergeRequest, file: &FileFact, head: &HeadFact, record: Option<&Preview>) -> String {
    shown_with(merge_request, file, head, record, &ProjectRules::default(), 0)
}

/// The same, in bounds and with so many other previews.
fn shown_with(
    merge_request: &MergeRequest,
    file: &FileFact,
    head: &HeadFact,
    record: Option<&Preview>,
    rules: &ProjectRules,
    others: u64,
) -> String {
    let changes = &Changes::Unknown;
    let facts = Facts {
        merge_request,
        file,
        changes,
        head,
        rules,
        clusters: &[String::from("default")],
        settings: "",
        others,
        record,
        now: NOW,
    };
    match desired(facts).desired {
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
        (file(""), HeadFact::NoPipeline, "waiting: no pipeline has finished for commit `aaaaaaaa` yet"),
        (file(""), pipeline(&[]), "waiting: pipeline 9 runs and has no job `build` yet"),
        (file(""), pipeline(&[("lint", Unfinished)]), "waiting: pipeline 9 runs and has no job `build` yet"),
        (file(""), pipeline(&[("lint", Success)]), "skipped: pipeline 9 finished without a job `build`"),
        (file(""), pipeline(&[("build", Unfinished)]), "waiting: job `build` of pipeline 9 has not finished"),
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
    assert_eq!(shown(&open, &FileFact::NotRead, &built, Some(&serving())), "leave", "nothing is known of it");
    assert_eq!(
        shown(&open, &FileFact::Absent, &built, Some(&serving())),
        "gone: the branch has no `.greenroom.yml` any more"
    );
    assert!(
        shown(&open, &broken, &built, None).starts_with("failed: `.greenroom.yml` cannot be used: line 1")
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
    let waiting = "waiting: no pipeline has finished for commit `bbbbbbbb` yet";
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
fn a_stop_counts_for_the_head_it_was_asked_for_at() {
    let built = pipeline(&[("build", JobStatus::Success)]);
    let open = merge_request();
    for (origin, reason) in [
        (HoldOrigin::Gitlab, "gone: somebody stopped the environment in GitLab"),
        (HoldOrigin::Operator, "gone: it was stopped by the operator"),
    ] {
        let held = |at| Preview { hold: Some(Hold { sha: Some(sha(at)), since: 0, origin }), ..serving() };
        assert_eq!(shown(&open, &file(""), &built, Some(&held('a'))), reason);
        assert_eq!(shown(&open, &file(""), &built, Some(&held('b'))), "run aaaaaaaa of job 1");
    }
    let held = Preview {
        hold: Some(Hold { sha: Some(sha('a')), since: 0, origin: HoldOrigin::Operator }),
        ..serving()
    };
    assert_eq!(
        shown(&open, &FileFact::NotRead, &HeadFact::NotRead, Some(&held)),
        "gone: it was stopped by the operator",
        "nothing else is asked"
    );
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

#[test]
fn what_when_excludes_goes_where_it_runs_and_is_skipped_where_it_does_not() {
    let built = pipeline(&[("build", JobStatus::Success)]);
    let no_drafts = file("when: {drafts: false}\n");
    let draft = MergeRequest { draft: true, ..merge_request() };
    let why = "the merge request is a draft, and `.greenroom.yml` wants none (`when.drafts`)";
    assert_eq!(shown(&draft, &no_drafts, &built, None), format!("skipped: {why}"));
    assert_eq!(shown(&draft, &no_drafts, &built, Some(&serving())), format!("gone: {why}"));
    let waiting = Preview { serving: None, release: None, ..serving() };
    assert_eq!(shown(&draft, &no_drafts, &built, Some(&waiting)), format!("skipped: {why}"));
    // Once it went for that, it stays so.
    let stopped = Preview { state: State::Stopped, ..waiting };
    assert_eq!(shown(&draft, &no_drafts, &built, Some(&stopped)), format!("gone: {why}"));
    assert_eq!(shown(&merge_request(), &no_drafts, &built, Some(&stopped)), "run aaaaaaaa of job 1");
    let fork = MergeRequest { source_project_id: Some(43), ..draft.clone() };
    assert!(shown(&fork, &no_drafts, &built, None).starts_with("skipped: the change comes from a fork"));
    let held = Preview {
        hold: Some(Hold { sha: Some(sha('a')), since: 0, origin: HoldOrigin::Gitlab }),
        ..serving()
    };
    assert!(shown(&draft, &no_drafts, &built, Some(&held)).starts_with("gone: somebody stopped"));
}

#[test]
fn what_is_not_known_of_the_changes_takes_nothing_away() {
    let built = pipeline(&[("build", JobStatus::Success)]);
    let web = file("when: {paths: ['web/**']}\n");
    let unknown = "waiting: GitLab has not told yet which files the merge request changes";
    assert_eq!(shown(&merge_request(), &web, &built, Some(&serving())), unknown);
    let empty = MergeRequest { sha: None, ..merge_request() };
    assert_eq!(shown(&empty, &web, &built, None), "waiting: the merge request has no commit yet");
}

#[test]
fn the_operators_bounds_hold_for_what_is_new() {
    let built = pipeline(&[("build", JobStatus::Success)]);
    let origin = || String::from("greenroom.toml:3");
    let none = ProjectRules {
        engines: Some(Given { value: Vec::new(), origin: origin() }),
        ..ProjectRules::default()
    };
    assert_eq!(
        shown_with(&merge_request(), &file(""), &built, Some(&serving()), &none, 0),
        "failed: the server's settings (`greenroom.toml:3`) let this project use no engine, and `.greenroom.yml` \
         asks for `static`"
    );
    let two =
        ProjectRules { max_previews: Some(Given { value: 2, origin: origin() }), ..ProjectRules::default() };
    let full = "waiting: the server's settings (`greenroom.toml:3`) let this project run 2 previews at once, and all \
                of them run";
    let open = merge_request();
    for (record, others, expected) in [
        (None, 1, "run aaaaaaaa of job 1"),
        (None, 2, full),
        (Some(&serving()), 2, "run aaaaaaaa of job 1"),
        (Some(&Preview { serving: None, ..serving() }), 5, full),
        (Some(&Preview { serving: None, place_since: Some(1), ..serving() }), 5, "run aaaaaaaa of job 1"),
    ] {
        assert_eq!(shown_with(&open, &file(""), &built, record, &two, others), expected);
    }
}

#[test]
fn of_a_branch_only_a_job_a_stop_and_the_lifetime_decide() {
    let id = BranchId::of("feature").unwrap();
    let key = PreviewKey::new(42, Subject::Branch(id));
    let branch =
        |head: Option<char>| MergeRequest::of_branch(key, "acme/web".into(), "feature", head.map(sha));
    let deleted = MergeRequest { branch_deleted: true, ..branch(None) };
    let record = |hold: Option<(HoldOrigin, char)>| {
        let hold = hold.map(|(origin, of)| Hold { sha: Some(sha(of)), since: NOW, origin });
        Preview { key, state: State::Ready, hold, ..serving() }
    };
    let asked = pipeline(&[("build", JobStatus::Success)]);
    // Drafts are not wanted, and a branch is none.
    let file = file("when: {drafts: false, target_branches: [main]}\n");
    for (what, head, hold, order, file, expected) in [
        ("a job asked", Some('a'), None, &asked, &file, "run"),
        (
            "nobody asked, and it serves",
            Some('a'),
            None,
            &HeadFact::NoPipeline,
            &file,
            "ready: commit `aaaaaaaa` is being served",
        ),
        (
            "a newer commit that nobody asked for",
            Some('b'),
            None,
            &HeadFact::NoPipeline,
            &file,
            "waiting: no job of its branch has deployed commit `bbbbbbbb` yet",
        ),
        (
            "its environment was stopped",
            Some('a'),
            Some((HoldOrigin::Gitlab, 'a')),
            &asked,
            &file,
            "gone: somebody stopped the environment in GitLab",
        ),
        (
            "and then somebody pushed",
            Some('b'),
            Some((HoldOrigin::Gitlab, 'a')),
            &HeadFact::NoPipeline,
            &file,
            "gone: somebody stopped the environment in GitLab",
        ),
        (
            "a merge request serves",
            Some('a'),
            Some((HoldOrigin::Successor, 'a')),
            &HeadFact::NoPipeline,
            &file,
            "gone: a merge request of its branch has a preview by now",
        ),
        (
            "the branch is gone and its environment is stopped",
            None,
            Some((HoldOrigin::Gitlab, 'a')),
            &HeadFact::NoPipeline,
            &FileFact::NotRead,
            "gone: somebody stopped the environment in GitLab",
        ),
        (
            "the branch alone is not shown",
            None,
            None,
            &HeadFact::NoPipeline,
            &FileFact::NotRead,
            "ready: GitLab does not show its branch any more, but has not stopped the environment `review/feature`",
        ),
        (
            "its file is not there any more",
            Some('b'),
            None,
            &HeadFact::NoPipeline,
            &FileFact::Absent,
            "gone: the branch has no `.greenroom.yml` any more",
        ),
    ] {
        let shown = shown(&branch(head), file, order, Some(&record(hold)));
        assert!(shown.starts_with(expected), "{what}: {shown}");
    }
    assert_eq!(shown(&branch(None), &FileFact::NotRead, &HeadFact::NoPipeline, None), "leave");
    let of_deleted =
        |record: &Preview| shown(&deleted, &FileFact::NotRead, &HeadFact::NoPipeline, Some(record));
    assert_eq!(of_deleted(&record(None)), "gone: its branch was deleted");
    let stopped = record(Some((HoldOrigin::Gitlab, 'a')));
    assert_eq!(of_deleted(&stopped), "gone: somebody stopped the environment in GitLab");
    // Of what never ran nothing can be left.
    let never = Preview { release: None, serving: None, state: State::Waiting, ..record(None) };
    assert_eq!(of_deleted(&never), "stopped: neither its branch nor its environment is there any more");
    let shown = shown(&branch(None), &FileFact::NotRead, &HeadFact::NoPipeline, Some(&never));
    assert_eq!(shown, "stopped: neither its branch nor its environment is there any more");
}
