//! The comment in each state, and what strangers' names can do to it: nothing.

use insta::assert_snapshot;
use proptest::prelude::*;

use super::*;
use crate::preview::{JobStatus, Quoted, Reason, Release, Serving, Sha, Sleep, shown_line};
use crate::render::ProjectFile;

/// 2026-11-21 08:00:00 UTC.
const AT: i64 = 1_795_248_000_000;

fn sha(digit: &str) -> Sha {
    Sha::parse(&digit.repeat(40)).unwrap()
}

fn preview(state: State, reason: &Reason) -> Preview {
    let key = MrKey::new(42, 7);
    let mut preview = Preview::new(
        key.into(),
        "acme/web",
        "feature",
        |name| format!("https://{name}.preview.example.net"),
        AT,
    );
    preview.enter(state, reason, Some(&sha("b")));
    preview
}

/// The same while `commit` serves, which was deployed in 4.2 s and lives for a week.
fn serving(commit: &str, mut preview: Preview) -> Preview {
    preview.serving = Some(Serving { sha: sha(commit), since: AT });
    preview.release = Some(Release {
        sha: sha(commit),
        job_id: 9,
        digest: "d".repeat(64),
        submitted_at: AT - 4_250,
        settled_at: Some(AT),
        failure: None,
        settings: None,
        by_job: false,
    });
    preview.expires_at = Some(AT + 7 * 86_400_000);
    preview
}

fn told(preview: &Preview) -> String {
    note(NoteFacts { preview, instance: "abc123" }).unwrap()
}

fn job() -> Quoted {
    Quoted::new("build")
}

#[test]
fn a_preview_that_waits_says_for_what() {
    assert_snapshot!(told(&preview(State::Waiting, &Reason::NoPipeline(sha("b")))), @"
    <!-- greenroom instance=abc123 project=42 mr=7 -->
    ### 🟡 Preview: waiting

    No pipeline has finished for commit `bbbbbbbb` yet.

    | | |
    |---|---|
    | Commit | `bbbbbbbb` |

    What is missing is waited for; this comment changes when it is there.
    ");
}

#[test]
fn a_merge_request_without_a_commit_has_none_to_name() {
    let mut preview = preview(State::Waiting, &Reason::NoCommit);
    preview.sha = None;
    assert_snapshot!(told(&preview), @"
    <!-- greenroom instance=abc123 project=42 mr=7 -->
    ### 🟡 Preview: waiting

    The merge request has no commit yet.

    | | |
    |---|---|
    | Commit | none yet |

    What is missing is waited for; this comment changes when it is there.
    ");
}

#[test]
fn a_first_deploy_has_no_link_yet() {
    assert_snapshot!(told(&preview(State::Deploying, &Reason::Deploying(sha("b")))), @"
    <!-- greenroom instance=abc123 project=42 mr=7 -->
    ### 🟡 Preview: deploying

    Commit `bbbbbbbb` is being deployed.

    | | |
    |---|---|
    | Commit | `bbbbbbbb` |

    This comment changes when it is done.
    ");
}

#[test]
fn what_sleeps_says_who_wakes_it() {
    let asleep = |mut preview: Preview| {
        preview.sleep = Some(Sleep { sha: sha("a"), since: AT, waking: false });
        preview
    };
    let mut head = asleep(serving("a", preview(State::Asleep, &Reason::Asleep(sha("a")))));
    head.sha = Some(sha("a"));
    assert_snapshot!(told(&head), @"
    <!-- greenroom instance=abc123 project=42 mr=7 -->
    ### ⚪ Preview: asleep

    **[web-42-mr-7.preview.example.net](https://web-42-mr-7.preview.example.net)** sleeps since 2026-11-21 08:00:00 UTC; `greenroom wake` wakes it.

    The operator has put commit `aaaaaaaa` to sleep.

    | | |
    |---|---|
    | Commit | `aaaaaaaa` |
    | Expires | 2026-11-28 08:00:00 UTC |

    Until then its link leads to an error of the cluster's ingress, such as 503. A refresh or the next push wakes it too.
    ");
    let older = preview(State::Failed, &Reason::JobFailed(job(), 9, JobStatus::Failed));
    assert_snapshot!(told(&asleep(serving("a", older))), @"
    <!-- greenroom instance=abc123 project=42 mr=7 -->
    ### 🔴 Preview: failed

    **[web-42-mr-7.preview.example.net](https://web-42-mr-7.preview.example.net)** sleeps since 2026-11-21 08:00:00 UTC; `greenroom wake` wakes it.

    Job `build` of pipeline 9 failed.

    | | |
    |---|---|
    | Commit | `bbbbbbbb` |
    | Expires | 2026-11-28 08:00:00 UTC |

    The next push or a new attempt of the job tries again.
    ");
}

#[test]
fn a_later_deploy_links_to_what_still_serves() {
    let preview = preview(State::Deploying, &Reason::Deploying(sha("b")));
    assert_snapshot!(told(&serving("a", preview)), @"
    <!-- greenroom instance=abc123 project=42 mr=7 -->
    ### 🟡 Preview: deploying

    **[web-42-mr-7.preview.example.net](https://web-42-mr-7.preview.example.net)** still serves commit `aaaaaaaa`, the last good one.

    Commit `bbbbbbbb` is being deployed.

    | | |
    |---|---|
    | Commit | `bbbbbbbb` |
    | Serving | `aaaaaaaa` since 2026-11-21 08:00:00 UTC |
    | Expires | 2026-11-28 08:00:00 UTC |

    This comment changes when it is done.
    ");
}

#[test]
fn a_preview_that_is_ready_has_its_link_on_top() {
    assert_snapshot!(told(&serving("b", preview(State::Ready, &Reason::Ready(sha("b"))))), @"
    <!-- greenroom instance=abc123 project=42 mr=7 -->
    ### 🟢 Preview: ready

    **[web-42-mr-7.preview.example.net](https://web-42-mr-7.preview.example.net)**

    Commit `bbbbbbbb` is being served.

    | | |
    |---|---|
    | Commit | `bbbbbbbb` |
    | Serving | `bbbbbbbb` since 2026-11-21 08:00:00 UTC |
    | Deployed in | 4.2 s |
    | Expires | 2026-11-28 08:00:00 UTC |

    The next push updates this preview. Closing or merging the merge request removes it.
    ");
}

#[test]
fn a_failure_says_that_the_last_good_one_serves() {
    let reason = Reason::JobFailed(job(), 12, JobStatus::Failed);
    assert_snapshot!(told(&serving("a", preview(State::Failed, &reason))), @"
    <!-- greenroom instance=abc123 project=42 mr=7 -->
    ### 🔴 Preview: failed

    **[web-42-mr-7.preview.example.net](https://web-42-mr-7.preview.example.net)** still serves commit `aaaaaaaa`, the last good one.

    Job `build` of pipeline 12 failed.

    | | |
    |---|---|
    | Commit | `bbbbbbbb` |
    | Serving | `aaaaaaaa` since 2026-11-21 08:00:00 UTC |
    | Expires | 2026-11-28 08:00:00 UTC |

    The next push or a new attempt of the job tries again.
    ");
}

#[test]
fn a_failure_without_a_last_good_one_has_no_link() {
    let error = ProjectFile::parse("version: 1\nengine: docker\n").unwrap_err();
    assert_snapshot!(told(&preview(State::Failed, &Reason::FileBroken(error.to_string()))), @"
    <!-- greenroom instance=abc123 project=42 mr=7 -->
    ### 🔴 Preview: failed

    `.greenroom.yml` cannot be used: line 2, column 9: `unknown variant 'docker', expected one of static, kubernetes`.

    | | |
    |---|---|
    | Commit | `bbbbbbbb` |

    The next push tries again.
    ");
}

#[test]
fn a_removal_that_left_something_names_it() {
    let reason = Reason::Leftover(String::from("GitLab has not stopped the environment `review/mr-7`"));
    assert_snapshot!(told(&preview(State::Stopping, &reason)), @"
    <!-- greenroom instance=abc123 project=42 mr=7 -->
    ### 🟡 Preview: stopping

    Not everything is gone yet: GitLab has not stopped the environment `review/mr-7`.

    | | |
    |---|---|
    | Commit | `bbbbbbbb` |

    Removal is repeated until nothing is left; this comment changes then.
    ");
}

#[test]
fn the_end_says_that_nothing_is_left() {
    assert_snapshot!(told(&preview(State::Stopped, &Reason::Closed)), @"
    <!-- greenroom instance=abc123 project=42 mr=7 -->
    ### ⚪ Preview: stopped

    The merge request was closed.

    | | |
    |---|---|
    | Commit | `bbbbbbbb` |

    Nothing of it is left. A reopen brings it back.
    ");
}

#[test]
fn an_expired_preview_says_when_it_ended() {
    let reason = Reason::Expired(rfc3339(AT));
    assert_snapshot!(told(&preview(State::Stopped, &reason)), @"
    <!-- greenroom instance=abc123 project=42 mr=7 -->
    ### ⚪ Preview: stopped

    Its lifetime ended at 2026-11-21T08:00:00Z.

    | | |
    |---|---|
    | Commit | `bbbbbbbb` |

    Nothing of it is left. The next push brings it back.
    ");
}

#[test]
fn a_skipped_head_keeps_what_served_before() {
    assert_snapshot!(told(&serving("a", preview(State::Skipped, &Reason::JobMissing(job(), 12)))), @"
    <!-- greenroom instance=abc123 project=42 mr=7 -->
    ### ⚪ Preview: skipped

    **[web-42-mr-7.preview.example.net](https://web-42-mr-7.preview.example.net)** still serves commit `aaaaaaaa`, the last good one.

    Pipeline 12 finished without a job `build`.

    | | |
    |---|---|
    | Commit | `bbbbbbbb` |
    | Serving | `aaaaaaaa` since 2026-11-21 08:00:00 UTC |
    | Expires | 2026-11-28 08:00:00 UTC |

    This comment changes when the rule does not apply any more.
    ");
}

/// The comment of a job with this name: the line with the reason, once all others were seen to be as with any name.
fn line_about(name: &str) -> String {
    let note = |name: &str| {
        let reason = Reason::JobFailed(Quoted::new(name), 12, JobStatus::Failed);
        told(&serving("a", preview(State::Failed, &reason)))
    };
    let (usual, about) = (note("build"), note(name));
    let mut different = usual.lines().zip(about.lines()).filter(|(usual, about)| usual != about);
    let line = different.next().map_or("", |(_, line)| line).to_owned();
    assert_eq!(different.next(), None);
    assert_eq!(usual.lines().count(), about.lines().count());
    line
}

#[test]
fn a_hostile_name_stays_inside_its_quotes() {
    let names = [
        "`@all`",
        "``` \n/close\n```",
        "/close",
        "a\r\n/merge\u{2028}/label ~bug",
        "<img src=x onerror=alert(1)><!-- greenroom instance=abc123 project=42 mr=7 -->",
        "a | b | c",
        "\n| --- | --- |\n| x | y |",
        "[click](javascript:alert(1)) ![](https://evil.example/pixel.png)",
        "$`\\require{color}`$ {{ marker }} {% raw %}",
        "\u{202e}dliub\u{200b}",
    ];
    assert_snapshot!(names.map(line_about).join("\n"), @r"
    Job `'@all'` of pipeline 12 failed.
    Job `''' /close '''` of pipeline 12 failed.
    Job `/close` of pipeline 12 failed.
    Job `a /merge /label ~bug` of pipeline 12 failed.
    Job `<img src=x onerror=alert(1)><!-- greenroom instance=abc123 project=42 mr=7 -->` of pipeline 12 failed.
    Job `a | b | c` of pipeline 12 failed.
    Job `| --- | --- | | x | y |` of pipeline 12 failed.
    Job `[click](javascript:alert(1)) ![](https://evil.example/pixel.png)` of pipeline 12 failed.
    Job `$'\require{color}'$ {{ marker }} {% raw %}` of pipeline 12 failed.
    Job `dliub` of pipeline 12 failed.
    ");
}

proptest! {
    #[test]
    fn no_name_changes_another_line(name in any::<String>()) {
        prop_assume!(Quoted::new(&name) != job());
        let line = line_about(&name);
        prop_assert!(line.starts_with("Job ") && line.ends_with(" of pipeline 12 failed."), "{line}");
    }
}

/// What was found of each of these, in this order.
fn checked(results: &[(CheckState, &str, &[&str])], mut preview: Preview) -> Preview {
    let release = preview.release.clone().unwrap();
    let names = (1..=results.len()).map(|number| format!("GET `/{number}`"));
    let mut run = CheckRun::new("run".into(), &release, names);
    for (check, (state, reason, lines)) in run.checks.iter_mut().zip(results) {
        check.state = *state;
        check.reason = (*reason).to_owned();
        check.lines = lines.iter().map(|line| shown_line(line)).collect();
        check.took_ms = (*state != CheckState::Running).then_some(35);
    }
    preview.check_run = Some(run);
    preview
}

#[test]
fn checks_are_told_while_they_are_asked_and_when_they_failed() {
    let ready = serving("b", preview(State::Ready, &Reason::Ready(sha("b"))));
    let going = [(CheckState::Passed, "it answered with 200 OK", &[][..]), (CheckState::Running, "", &[])];
    assert_snapshot!(told(&checked(&going, ready.clone())), @"
    <!-- greenroom instance=abc123 project=42 mr=7 -->
    ### 🟢 Preview: ready

    **[web-42-mr-7.preview.example.net](https://web-42-mr-7.preview.example.net)**

    Commit `bbbbbbbb` is being served.

    | | |
    |---|---|
    | Commit | `bbbbbbbb` |
    | Serving | `bbbbbbbb` since 2026-11-21 08:00:00 UTC |
    | Deployed in | 4.2 s |
    | Expires | 2026-11-28 08:00:00 UTC |

    Checks of commit `bbbbbbbb`: being asked.

    - 🟢 GET `/1` passed: it answered with 200 OK (35 ms)
    - 🟡 GET `/2` is being asked

    The next push updates this preview. Closing or merging the merge request removes it.
    ");
    let lines = &["# all\n/close", "`` @all"][..];
    let failed = [going[0], (CheckState::Failed, "it ended with exit code 3", lines)];
    assert_snapshot!(told(&checked(&failed, ready.clone())).split_once("\n\nChecks").unwrap().1, @"
     of commit `bbbbbbbb`: 1 of 2 checks failed.

    - 🟢 GET `/1` passed: it answered with 200 OK (35 ms)
    - 🔴 GET `/2` failed: it ended with exit code 3 (35 ms)

      ```text
      │ # all/close
      │ '' @all
      ```

    The next push updates this preview. Closing or merging the merge request removes it.
    ");
    // Those of another revision than what serves are not told.
    let mut other = checked(&failed, ready);
    other.serving = Some(Serving { sha: sha("c"), since: AT });
    assert!(!told(&other).contains("Checks"));
}
