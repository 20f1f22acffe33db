//! The outcome as `artifacts:reports:junit` takes it: the deploy is a test case, and so is each check of the project.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::End;
use crate::cli::Failure;
use crate::preview::{CheckResult, CheckState};

pub(super) fn write(path: &Path, end: &End) -> Result<(), Failure> {
    let written = File::create(path).map_err(anyhow::Error::from);
    let written = written.and_then(|file| Ok(report(end).serialize(file)?));
    Ok(written.with_context(|| format!("cannot write {}", path.display()))?)
}

fn report(end: &End) -> Report {
    let name = end.name.as_deref().unwrap_or("preview");
    let mut suite = TestSuite::new(name);
    let deployed = if end.is_deployed() { Ok(()) } else { Err((end.reason.as_str(), end.reason.clone())) };
    suite.add_test_case(case(name, "deploy", deployed, end.took_ms));
    for check in &end.checks {
        let found = match check.state {
            CheckState::Failed => Err((check.reason.as_str(), text(check))),
            CheckState::Running | CheckState::Passed => Ok(()),
        };
        suite.add_test_case(case(name, &check.name, found, check.took_ms));
    }
    let mut report = Report::new("greenroom");
    report.add_test_suite(suite);
    report
}

fn case(suite: &str, name: &str, found: Result<(), (&str, String)>, took_ms: Option<i64>) -> TestCase {
    let status = match found {
        Ok(()) => TestCaseStatus::success(),
        Err((message, text)) => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            // GitLab shows no message beside a text.
            status.set_message(plain(message)).set_description(plain(&text));
            status
        }
    };
    let mut case = TestCase::new(plain(name), status);
    case.set_classname(suite);
    case.set_time(Duration::from_millis(took_ms.map_or(0, i64::unsigned_abs)));
    case
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

    use super::super::Outcome;
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
        assert_snapshot!(report(&end("ready", checks)).to_string().unwrap());
    }

    #[test]
    fn a_deploy_that_failed_is_the_only_failure() {
        assert_snapshot!(report(&end("failed", Vec::new())).to_string().unwrap());
    }
}
