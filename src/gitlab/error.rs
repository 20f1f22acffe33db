//! Errors, sorted by what to do next.

use std::error::Error as _;
use std::time::Duration;

use gitlab::api::ApiError;

use crate::preview::ProjectId;

/// What stands for the message of an error that came as a web page.
pub(super) const WEB_PAGE: &str = "a web page instead of an answer";

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Try again; GitLab may have said when.
    Retry(Option<Duration>),
    /// An operator has to mend something (token, role, URL). Trying often does not help.
    Operator,
}

/// Why GitLab did not give what was asked. Never contains the token.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer: connection refused, time-out, TLS.
    #[error("GitLab did not answer `{what}`: {}", with_causes(source))]
    Unreachable {
        /// Method and path.
        what: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// Whoever answered could not prove to be who we asked.
    #[error("`{what}` was not sent to {host}: {why}")]
    Certificate {
        /// Method and path.
        what: String,
        /// The host that was asked.
        host: String,
        /// Why, and what to do.
        why: String,
    },
    /// There are several tokens, and nothing tells which one is for this project.
    #[error("project {project} cannot be asked for: its path is not known yet, so neither is its token")]
    NoToken {
        /// The project.
        project: ProjectId,
    },
    /// The project has another path than we thought, and its token is another one.
    #[error("project {project} is `{path}`, and the token that was used for it is not meant for that path")]
    OtherToken {
        /// The project.
        project: ProjectId,
        /// The path that GitLab named.
        path: String,
    },
    /// GitLab asks us to slow down.
    #[error("GitLab asks to wait {} s before the next `{what}`", after.as_secs())]
    RateLimited {
        /// Method and path.
        what: String,
        /// How long.
        after: Duration,
    },
    /// An answer other than success.
    #[error("GitLab answered `{what}` with {status}: {message}")]
    Status {
        /// Method and path.
        what: String,
        /// HTTP status code.
        status: u16,
        /// What GitLab said, cut to one short line.
        message: String,
    },
    /// GitLab, or whoever answers in its place, names another address, which the token must not go to unasked.
    #[error(
        "`{what}` is answered with {status} and another address, `{to}`; GitLab and its projects are asked where they are by now"
    )]
    Elsewhere {
        /// Method and path.
        what: String,
        /// HTTP status code.
        status: u16,
        /// The address.
        to: String,
    },
    /// An answer that is not what GitLab's API sends: a proxy's page, a cut body.
    #[error("GitLab's answer to `{what}` cannot be read: {why}")]
    Unreadable {
        /// Method and path.
        what: String,
        /// Why.
        why: String,
    },
    /// A body larger than we read.
    #[error("GitLab's answer to `{what}` is larger than {limit} bytes")]
    TooLarge {
        /// Method and path.
        what: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// The request itself could not be made.
    #[error("the request to GitLab could not be made: {0}")]
    Request(String),
    /// A file of ours could not be written while downloading.
    #[error("the download could not be written: {0}")]
    Disk(#[from] std::io::Error),
}

/// The error and its causes: the HTTP library's own words say little.
fn with_causes(error: &reqwest::Error) -> String {
    let (mut told, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        told = format!("{told}: {error}");
        cause = error.source();
    }
    told
}

impl Error {
    /// What to do next.
    pub fn class(&self) -> Class {
        match self {
            Self::RateLimited { after, .. } => Class::Retry(Some(*after)),
            // Not shown is like not allowed: GitLab hides what a token may not see.
            Self::Status { status: 401 | 403 | 404, .. }
            | Self::Elsewhere { status: 301 | 308, .. }
            | Self::Certificate { .. }
            | Self::NoToken { .. }
            | Self::Request(_) => Class::Operator,
            _ => Class::Retry(None),
        }
    }

    /// The HTTP status GitLab answered with.
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether GitLab answered 404: it does not exist, *or* the token may not see it.
    pub const fn is_not_found(&self) -> bool {
        matches!(self, Self::Status { status: 404, .. })
    }

    /// Whether GitLab said no to this very call: what it is about is wrong, missing, switched off, or not for our token.
    /// A web page is somebody else's word, such as that of a proxy.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Status { status: 400 | 403 | 404 | 405 | 422, message, .. } if message != WEB_PAGE)
    }

    /// GitLab's words, when it answered.
    pub fn message(&self) -> &str {
        match self {
            Self::Status { message, .. } => message,
            _ => "",
        }
    }

    /// Our client makes errors of its own for all but 2xx; what is left of the crate's are unreadable bodies.
    pub(super) fn from_api(error: ApiError<Self>, what: String) -> Self {
        match error {
            ApiError::Client { source } => source,
            ApiError::Json { source } | ApiError::DataType { source, .. } => {
                Self::Unreadable { what, why: source.to_string() }
            }
            ApiError::GitlabService { .. } => {
                Self::Unreadable { what, why: String::from("the body is not JSON") }
            }
            other => Self::Request(other.to_string()),
        }
    }
}
