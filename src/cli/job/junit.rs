//! The outcome as `artifacts:reports:junit` takes it: the deploy is a test case, and so is each check of the project.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::{End, Outcome};
use crate::cli::Failure;
use crate::preview::{CheckResult, CheckState};

/// The suite's name where the preview's is not known.
const UNNAMED: &str = "preview";

pub(super) fn write(path: &Path, report: &Report) -> Result<(), Failure> {
    let written = File::create(path).map_err(anyhow::Error::from);
    let written = written.and_then(|file| Ok(report.serialize(file)?));
    Ok(written.with_context(|| format!("cannot write {}", path.display()))?)
}

/// What came out.
pub(super) fn of(end: &End) -> Report {
    let name = end.name.as_deref().unwrap_or(UNNAMED);
    let deploy = match end.outcome {
        Outcome::Done if !end.is_deployed() => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(plain(&end.reason));
            status
        }
        _ if end.is_deployed() => TestCaseStatus::success(),
        _ => non_success(NonSuccessKind::Failure, &end.reason, &end.reason),
    };
    let checks = end.checks.iter().map(|check| {
        let status = match check.state {
            CheckState::Failed => non_success(NonSuccessKind::Failure, &check.reason, &text(check)),
            CheckState::Running | CheckState::Passed => TestCaseStatus::success(),
        };
        case(name, &check.name, status, check.took_ms)
    });
    report(name, std::iter::once(case(name, "deploy", deploy, end.took_ms)).chain(checks))
}

/// That nothing came out: who was asked refused, did not answer or not in time, or the job lacks what it needs.
pub(super) fn of_no_end(failure: &Failure) -> Report {
    let kind = match failure {
        Failure::Failed(_) => NonSuccessKind::Failure,
        Failure::Findings(_) | Failure::Unavailable(_) => NonSuccessKind::Error,
    };
    let told = failure.told();
    let message = told.lines().next().unwrap_or_default();
    report(UNNAMED, [case(UNNAMED, "deploy", non_success(kind, message, &told), None)])
}

fn report(name: &str, cases: impl IntoIterator<Item = TestCase>) -> Report {
    let mut suite = TestSuite::new(name);
    suite.add_test_cases(cases);
    let mut report = Report::new("greenroom");
    report.add_test_suite(suite);
    report
}

fn case(suite: &str, name: &str, status: TestCaseStatus, took_ms: Option<i64>) -> TestCase {
    let mut case = TestCase::new(plain(name), status);
    case.set_classname(suite);
    case.set_time(Duration::from_millis(took_ms.map_or(0, i64::unsigned_abs)));
    case
}

/// GitLab shows no message beside a text.
fn non_success(kind: NonSuccessKind, message: &str, text: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_message(plain(message)).set_description(plain(text));
    status
}

/// Without the two characters that XML cannot hold and the report's writer lets pass.
fn plain(text: &str) -> String {
    text.replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}")
}

/// All that is known of a check.
fn text(check: &CheckResult) -> String {
    std::iter::once(&check.reason).chain(&check.lines).cloned().collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn end(state: &str, checks: Vec<CheckResult>) -> End {
        End {
            outcome: Outcome::Failed,
            reason: String::from("the archive has no folder `dist`"),
            state: state.to_owned(),
            name: Some(String::from("web-42-mr-7")),
            url: None,
            took_ms: Some(4_250),
            checks,
        }
    }

    fn check(state: CheckState, reason: &str, lines: &[&str]) -> CheckResult {
        CheckResult {
            state,
            reason: reason.to_owned(),
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
            took_ms: Some(35),
            ..CheckResult::running(String::from("GET `/<&\">?a=1&b=2`"))
        }
    }

    #[test]
    fn the_deploy_and_each_check_are_test_cases() {
        let hostile = "it answered with 200 OK: `]]></failure><!-- \u{7}\u{1b}[31m &lt; \u{ffff}`";
        let checks = vec![
            check(CheckState::Passed, "it answered with 200 OK", &[]),
            check(CheckState::Failed, hostile, &["line 39", "line 40"]),
        ];
        assert_snapshot!(of(&end("ready", checks)).to_string().unwrap());
    }

    #[test]
    fn a_deploy_that_failed_is_the_only_failure() {
        assert_snapshot!(of(&end("failed", Vec::new())).to_string().unwrap());
    }
    #[test]
    fn a_deploy_without_an_end_is_told_as_the_job_tells_it() {
        let missing = "error: GREENROOM_SERVER is not set\nhint: set it\n";
        for (failure, kind) in [
            (
                Failure::Failed(anyhow::anyhow!("it may not")),
                "<failure message=\"it may not\">it may not</failure>",
            ),
            (
                Failure::Unavailable(anyhow::anyhow!("not in time")),
                "<error message=\"not in time\">not in time</error>",
            ),
            (
                Failure::Findings(missing.to_owned()),
                "<error message=\"error: GREENROOM_SERVER is not set\">error: ",
            ),
        ] {
            let written = of_no_end(&failure).to_string().unwrap();
            assert!(written.contains("<testcase name=\"deploy\"") && written.contains(kind), "{written}");
        }
    }

    #[test]
    fn what_gets_no_preview_is_skipped() {
        let end = End { outcome: Outcome::Done, ..end("skipped", Vec::new()) };
        let written = of(&end).to_string().unwrap();
        assert!(written.contains("<skipped message=\"the archive has no folder `dist`\"/>"), "{written}");
    }
}
