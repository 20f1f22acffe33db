//! What is wrong with a project file, in words for the people who wrote it.

use std::fmt;

use crate::preview::Quoted;

/// What is wrong with a `.greenroom.yml`, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct FileError {
    /// Line and column, counted from 1, when the mistake has a place.
    pub place: Option<(u64, u64)>,
    /// What is wrong and what was expected.
    pub problem: String,
}

impl FileError {
    /// A problem of what stands at `location`.
    pub(super) fn at(location: serde_saphyr::Location, problem: impl Into<String>) -> Self {
        Self { place: Some((location.line(), location.column())), problem: problem.into() }
    }
}

impl fmt::Display for FileError {
    /// One Markdown-safe sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.place {
            write!(f, "line {line}, column {column}: ")?;
        }
        Quoted::new(&self.problem).fmt(f)
    }
}

/// The error's first line, without the place it repeats.
pub(in crate::render) fn plain(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("it is not valid YAML").trim();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    let line = match (line.rfind(" at line "), line.strip_prefix("line ")) {
        (Some(end), _) => &line[..end],
        (None, Some(rest)) => rest.split_once(": ").map_or(line, |(_, message)| message),
        (None, None) => line,
    };
    // The parser speaks to programmers; what it says here is read by people who wrote the file.
    for (parser, people) in [
        ("invalid u64", "not a whole number, expected 1"),
        ("invalid u", "not a whole number that fits here"),
        ("invalid value: integer '0', expected a nonzero", "0 does not fit here, expected 1 or more"),
        ("invalid value: integer `0`, expected a nonzero", "0 does not fit here, expected 1 or more"),
        ("invalid type: sequence, expected pipeline", "a list, expected pipeline, image, job or {job: name}"),
        ("cannot deserialize null into string", "nothing stands here, expected a text; an empty one is \"\""),
        ("expected string scalar", "expected a text; one that begins with {{ stands in quotes"),
        ("invalid boolean", "neither true nor false, expected one of them"),
        ("expected mapping start", "expected keys with values"),
        ("expected sequence start", "expected a list such as [a, b]"),
        ("externally tagged enum expected scalar", "a list or the like, expected a single word"),
        ("multiple YAML documents detected", "a second document begins here, expected one"),
    ] {
        if line.starts_with(parser) {
            return people.to_owned();
        }
    }
    let line = line.split(", set DuplicateKeyPolicy").next().unwrap_or(line);
    match line.strip_prefix("duplicate mapping key: ") {
        Some(key) => format!("key {key} stands here again, expected once"),
        None if line.starts_with("missing field") => format!("{line}, which is required"),
        None => line.to_owned(),
    }
}
