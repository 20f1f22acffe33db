//! Folders of a repository, and what of them is a template. Links are never followed: they may lead anywhere.

use std::fs;
use std::path::Path;

use super::error::RenderError;
use super::template::Files;

/// How many templates a folder may have.
const MOST_FILES: usize = 200;
/// How many bytes they may have together.
const LARGEST: u64 = 4 << 20;

/// Reads the `*.yaml` and `*.yml` of `folder` in `tree`, with those of the folders in it. `place` names the folder.
pub(super) fn read(tree: &Path, folder: &Path, place: &str) -> Result<Files, RenderError> {
    read_all(tree, folder, place, &["yaml", "yml"])
}

/// Reads the files with these extensions.
pub(super) fn read_all(
    tree: &Path,
    folder: &Path,
    place: &str,
    extensions: &[&str],
) -> Result<Files, RenderError> {
    let mut files = Files::new();
    let mut room = LARGEST;
    let top = below(tree, folder, place)?;
    if !top.is_dir() {
        return Err(RenderError::file(place, "there is no such folder in the repository"));
    }
    let mut folders = vec![top.clone()];
    while let Some(current) = folders.pop() {
        let failed = |error: &std::io::Error| RenderError::io(place, error);
        for entry in fs::read_dir(&current).map_err(|error| failed(&error))? {
            let entry = entry.map_err(|error| failed(&error))?;
            let path = entry.path();
            let kind = entry.file_type().map_err(|error| failed(&error))?;
            let name = path.strip_prefix(&top).unwrap_or(&path).to_string_lossy().into_owned();
            // At the top of a repository, these are for others: `.gitlab-ci.yml`, `.github`.
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if kind.is_dir() {
                folders.push(path);
                continue;
            }
            let extension = path.extension().and_then(std::ffi::OsStr::to_str).unwrap_or_default();
            if !extensions.contains(&extension) {
                continue;
            }
            let file = within(place, &name);
            if !kind.is_file() {
                return Err(RenderError::file(&file, "a link, expected a file; links are not followed"));
            }
            let length = entry.metadata().map_err(|error| failed(&error))?.len();
            let Some(left) = room.checked_sub(length).filter(|_| files.len() < MOST_FILES) else {
                let problem = format!(
                    "too much: a folder may have {MOST_FILES} templates of {} MiB together",
                    LARGEST >> 20
                );
                return Err(RenderError::file(&file, problem));
            };
            room = left;
            let bytes = fs::read(&path).map_err(|error| failed(&error))?;
            let text =
                String::from_utf8(bytes).map_err(|_| RenderError::file(&file, "not written in UTF-8"))?;
            files.insert(name, text);
        }
    }
    Ok(files)
}

/// `path` in `tree`, when nothing on the way there is a link.
pub(super) fn below(tree: &Path, path: &Path, place: &str) -> Result<std::path::PathBuf, RenderError> {
    let mut whole = tree.to_owned();
    for part in path.components() {
        whole.push(part);
        if whole.is_symlink() {
            return Err(RenderError::file(place, "leads over a link; links are not followed"));
        }
    }
    Ok(whole)
}

/// A folder of a repository, for people.
pub(super) fn shown(folder: &Path) -> String {
    if folder.as_os_str().is_empty() { String::from(".") } else { folder.display().to_string() }
}

/// A file in such a folder, for people.
pub(super) fn within(place: &str, name: &str) -> String {
    if place == "." { name.to_owned() } else { format!("{place}/{name}") }
}

/// Whether a template is there for others to include, and not rendered by itself.
pub(super) fn is_partial(name: &str) -> bool {
    name.rsplit('/').next().is_some_and(|name| name.starts_with('_'))
}
