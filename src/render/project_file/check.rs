//! What is asked of a preview once it is ready.

use std::time::Duration;

use regex::Regex;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Workload;
use super::text::{Patience, UrlPath};
use crate::preview::Quoted;

/// One question to a preview that is ready; what comes of it stands in the comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// A request to the preview.
    Http(HttpCheck),
    /// A Job in the preview's namespace.
    Job(JobCheck),
}

/// A request, and the answer that is expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpCheck {
    /// Path and query.
    pub path: UrlPath,
    /// Status of the answer.
    pub status: u16,
    /// What the body has to match somewhere.
    pub body: Option<Pattern>,
    /// How long the answer may take, and how long a wrong one is asked for again.
    pub timeout: Patience,
}

/// A program, and how long it may run. It has to end with exit code 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobCheck {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Its image, a template; without it, the preview's.
    pub image: Option<String>,
    /// How long it may run.
    pub timeout: Patience,
}

/// A regular expression.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct Pattern(Regex);

impl Check {
    /// What is asked, in words, Markdown-safe.
    pub fn name(&self) -> String {
        match self {
            Self::Http(check) => format!("GET {}", Quoted::new(check.path.as_str())),
            Self::Job(check) => format!("job {}", Quoted::new(&check.command.join(" "))),
        }
    }

    /// How long it may take.
    pub const fn timeout(&self) -> Duration {
        match self {
            Self::Http(check) => check.timeout.duration(),
            Self::Job(check) => check.timeout.duration(),
        }
    }
}

impl Pattern {
    /// The expression, ready to be used.
    pub const fn regex(&self) -> &Regex {
        &self.0
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        /// Compiled, in bytes: enough for what a person writes.
        const LARGEST: usize = 256 << 10;
        regex::RegexBuilder::new(&text).size_limit(LARGEST).build().map(Self).map_err(|error| {
            let why = error.to_string();
            let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
            format!("no regular expression: {why}")
        })
    }
}

/// One entry of `checks`, as it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Check", description = "What is asked of a preview once it is ready: http or job.")]
pub(super) struct Written {
    /// Path of the preview that is asked for, such as `/healthz`.
    http: Option<UrlPath>,
    /// Status that is expected of the answer to `http`. Default: 200.
    #[schemars(with = "Option<u16>", range(min = 100, max = 599))]
    status: Option<u16>,
    /// Regular expression that the body of the answer to `http` has to match somewhere.
    body: Option<Pattern>,
    /// A program and its arguments, run as a Job in the preview's namespace. It has to end with exit code 0.
    #[schemars(length(min = 1))]
    job: Option<Vec<String>>,
    /// Image of `job`, a template. Default: the preview's.
    image: Option<String>,
    /// How long it may take, from `1s` to `1h`. Default: `30s` for `http`, `5m` for `job`.
    timeout: Option<Patience>,
}

impl Written {
    /// The check, the `number`th from 0 of a project with this workload.
    pub(super) fn check(self, workload: &Workload, number: usize) -> Result<Check, String> {
        /// More than a reviewer would read.
        const MOST: usize = 20;
        if number >= MOST {
            return Err(format!("there are more than {MOST} checks"));
        }
        match self {
            Self { job: Some(_), .. } if matches!(workload, Workload::Static(_)) => {
                Err(String::from("engine static runs no programs, so it has no use for a check with job"))
            }
            Self { http: Some(path), status, body, job: None, image: None, timeout } => {
                let status = status.unwrap_or(200);
                if !(100..=599).contains(&status) {
                    return Err(format!("{status} is no status of HTTP, expected one from 100 to 599"));
                }
                let timeout = timeout.unwrap_or(Patience::from_secs(30));
                Ok(Check::Http(HttpCheck { path, status, body, timeout }))
            }
            Self { http: None, status: None, body: None, job: Some(command), image, timeout } => {
                if command.is_empty() {
                    return Err(String::from("job has no program, expected one such as [./smoke.sh]"));
                }
                let timeout = timeout.unwrap_or(Patience::from_secs(300));
                Ok(Check::Job(JobCheck { command, image, timeout }))
            }
            Self { http: None, job: None, .. } => Err(String::from(
                "a check needs http or job, such as {http: /healthz} or {job: [./smoke.sh]}",
            )),
            Self { http: Some(_), .. } => Err(String::from("http goes with status, body and timeout alone")),
            Self { .. } => Err(String::from("job goes with image and timeout alone")),
        }
    }
}
