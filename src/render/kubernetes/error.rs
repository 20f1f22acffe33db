//! Why nothing can be rendered, for people.

use std::fmt;

use crate::preview::Quoted;
use crate::render::Source;

/// Why nothing can be rendered. `Display` is one Markdown-safe sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RenderError {
    /// The project has to change something; the same would fail again.
    Refused {
        /// Where, such as `.greenroom/k8s/web.yaml:12`.
        place: String,
        /// What is wrong, and what was expected.
        problem: String,
    },
    /// A trouble of the server's own; the same may well work later.
    Trouble(String),
}

impl RenderError {
    /// A mistake in a file, as a whole.
    pub(super) fn file(file: &str, problem: impl Into<String>) -> Self {
        Self::Refused { place: file.to_owned(), problem: problem.into() }
    }

    /// A mistake in a line, counted from 1.
    pub(super) fn line(file: &str, line: u64, problem: impl Into<String>) -> Self {
        Self::Refused { place: format!("{file}:{line}"), problem: problem.into() }
    }

    /// A mistake in an object.
    pub(super) fn object(source: &Source, problem: impl Into<String>) -> Self {
        Self::Refused { place: source.to_string(), problem: problem.into() }
    }

    /// A file operation that failed.
    pub(super) fn io(what: &str, error: &std::io::Error) -> Self {
        Self::Trouble(format!("{what}: {error}"))
    }
}

impl fmt::Display for RenderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { place, problem } => {
                write!(f, "{}: {}", Quoted::new(place), Quoted::new(problem))
            }
            Self::Trouble(what) => Quoted::new(what).fmt(f),
        }
    }
}

impl std::error::Error for RenderError {}
