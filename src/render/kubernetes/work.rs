//! A copy of a repository for a program of others to work in: plain files only, templates rendered.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use super::documents::{self, Document};
use super::error::RenderError;
use super::folder;
use crate::process;

/// How deep the folders of a repository are followed.
const DEEPEST: usize = 32;

/// The copy. It goes when this is dropped.
pub(super) struct Work {
    folder: TempDir,
}

impl Work {
    /// Copies `tree` without its links: whoever follows one may read what is not the repository's.
    pub(super) fn new(tree: &Path) -> Result<Self, RenderError> {
        let failed = |error: &std::io::Error| RenderError::io("cannot copy the repository", error);
        let folder = tempfile::tempdir().map_err(|error| failed(&error))?;
        copy(tree, folder.path(), DEEPEST).map_err(|error| failed(&error))?;
        Ok(Self { folder })
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// `path` in the copy, when it is of this kind.
    pub(super) fn find(&self, path: &Path, is: fn(&Path) -> bool) -> Result<PathBuf, RenderError> {
        let place = path.display().to_string();
        let found = folder::below(self.path(), path, &place)?;
        if is(&found) {
            Ok(found)
        } else {
            Err(RenderError::file(&place, "is not in the repository, or is a link; links are not followed"))
        }
    }

    /// Puts what a template became in its place. JSON is YAML, too.
    pub(super) fn write(&self, path: &Path, documents: &[Document]) -> Result<(), RenderError> {
        let texts: Vec<_> = documents.iter().map(|document| format!("---\n{}\n", document.value)).collect();
        let file = self.path().join(path);
        // What lies there may be the repository's own file under another name.
        fs::remove_file(&file)
            .and_then(|()| fs::write(&file, texts.concat()))
            .map_err(|error| RenderError::io("cannot write a rendered file", &error))
    }
}

fn copy(from: &Path, to: &Path, depth: usize) -> std::io::Result<()> {
    if depth == 0 {
        return Err(std::io::Error::other("its folders lie too deep in each other"));
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let target = to.join(entry.file_name());
        if kind.is_dir() {
            fs::create_dir(&target)?;
            copy(&entry.path(), &target, depth - 1)?;
        } else if kind.is_file() {
            fs::hard_link(entry.path(), &target).or_else(|_| fs::copy(entry.path(), &target).map(drop))?;
        }
    }
    Ok(())
}

/// Text of a file of the copy.
pub(super) fn text(file: &Path, place: &str) -> Result<String, RenderError> {
    let bytes = fs::read(file).map_err(|error| RenderError::io(place, &error))?;
    String::from_utf8(bytes).map_err(|_| RenderError::file(place, "not written in UTF-8"))
}

/// Reads a file of YAML that is no template.
pub(super) fn yaml(text: &str, place: &str) -> Result<Value, RenderError> {
    serde_saphyr::from_str_with_options(text, documents::as_kubectl()).map_err(|error| {
        let line = error.location().map_or(1, |location| location.line());
        RenderError::line(place, line, crate::render::project_file::plain(&error))
    })
}

/// What a program's end means for the project. Where the copy of the repository lies is another place each time, and
/// nobody's business.
pub(super) fn refused(place: &str, copy: &Path, program: &str, error: process::Error) -> RenderError {
    match error {
        process::Error::Io { .. } => RenderError::Trouble(error.to_string()),
        process::Error::Failed(complaint) => {
            // Both begin their complaint with this word; warnings stand before it, hints behind.
            let complaint = complaint.split_once("Error: ").map_or(&*complaint, |(_, complaint)| complaint);
            let complaint = complaint.split("\n\n").next().unwrap_or_default();
            let complaint = complaint.replace(&format!("{}/", copy.display()), "");
            RenderError::file(place, format!("{program} says: {complaint}"))
        }
        error => RenderError::file(place, format!("{program} {error}")),
    }
}
