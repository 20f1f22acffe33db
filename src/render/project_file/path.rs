//! Paths that a project file names.

use std::path::{Component, Path};

use serde::Deserialize;

use crate::preview::Quoted;

/// A path that stays where it is: relative, no `..`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "String")]
pub struct RelativePath(String);

impl RelativePath {
    /// The path without `.` and without slashes at its ends; empty for "here".
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl TryFrom<String> for RelativePath {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let path = Path::new(&text);
        let mut parts = Vec::new();
        for component in path.components() {
            match component {
                Component::CurDir => {}
                Component::Normal(part) if !text.contains(['\\', '\0']) => {
                    parts.push(part.to_string_lossy().into_owned());
                }
                _ => {
                    return Err(format!(
                        "path {} leads out of where it begins, expected a relative path such as dist",
                        Quoted::new(&text)
                    ));
                }
            }
        }
        Ok(Self(parts.join("/")))
    }
}
