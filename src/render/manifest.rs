//! One Kubernetes object as it was rendered, and where it was written.

use std::fmt;

use serde_json::Value;

/// Where an object was written, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The file, relative to the top of the repository, or of the preset, such as `preset web: deployment.yaml`.
    pub file: String,
    /// Which document of that file it is, counted from 1.
    pub document: usize,
    /// The line that it begins in, counted from 1, where that is known.
    pub line: Option<u64>,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if self.document > 1 {
            write!(f, " (document {})", self.document)?;
        }
        Ok(())
    }
}

/// One Kubernetes object: an object in JSON's sense with `apiVersion`, `kind` and `metadata.name`.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// The object itself.
    pub object: Value,
    /// Where it was written.
    pub source: Source,
}
