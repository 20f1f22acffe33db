//! A folder as a zip archive: the same files make the same archive, so that a repeated request is known for one.

use std::fmt::Display;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tempfile::NamedTempFile;
use zip::write::SimpleFileOptions;
use zip::{DateTime, ZipWriter};

use crate::cli::Failure;

/// A packed folder.
pub(super) struct Packed {
    pub(super) file: NamedTempFile,
    pub(super) files: usize,
    pub(super) bytes: u64,
}

/// What a checkout keeps for Git: all of the history, and in a job the address it came from, with the job's token in it.
const GIT: &str = ".git";

/// Packs what is in the folder, links and special files excepted, which are refused, and what Git keeps, which nobody meant.
pub(super) fn pack(folder: &Path) -> Result<Packed, Failure> {
    let files = files(folder)?;
    if files.is_empty() {
        return Err(Failure::Findings(format!("error: there is no file in `{}`", folder.display())));
    }
    let file = NamedTempFile::new()?;
    let mut zip = ZipWriter::new(file.reopen()?);
    let options = SimpleFileOptions::default().last_modified_time(DateTime::default()).large_file(true);
    for path in &files {
        let name = path.strip_prefix(folder).unwrap_or(path);
        if name.to_str().is_none() {
            return Err(cannot_read(path, "its name is not UTF-8"));
        }
        let mut from = File::open(path).map_err(|error| cannot_read(path, error))?;
        let told = || format!("cannot pack `{}`", path.display());
        zip.start_file_from_path(name, options).with_context(told)?;
        io::copy(&mut from, &mut zip).with_context(told)?;
    }
    let bytes = zip.finish()?.metadata()?.len();
    Ok(Packed { file, files: files.len(), bytes })
}

/// All files below the folder, in the order of their names.
fn files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(&at).map_err(|error| cannot_read(&at, error))? {
            let entry = entry.map_err(|error| cannot_read(&at, error))?;
            if entry.file_name() == GIT {
                continue;
            }
            let kind = entry.file_type().map_err(|error| cannot_read(&entry.path(), error))?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            } else {
                return Err(Failure::Findings(format!(
                    "error: `{}` is a link or no ordinary file, and is not served\nhint: copy what it leads to",
                    entry.path().display()
                )));
            }
        }
    }
    files.sort();
    Ok(files)
}

fn cannot_read(path: &Path, why: impl Display) -> Failure {
    Failure::Findings(format!("error: `{}` cannot be read: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn the_same_files_make_the_same_archive() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("js")).unwrap();
        for (name, text) in [("js/app.js", "1"), ("index.html", "2"), ("a b.txt", "3")] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let bytes = |packed: &Packed| fs::read(packed.file.path()).unwrap();
        let (one, two) = (pack(folder.path()).ok().unwrap(), pack(folder.path()).ok().unwrap());
        assert_eq!((one.files, bytes(&one)), (3, bytes(&two)));
        let archive = zip::ZipArchive::new(File::open(one.file.path()).unwrap()).unwrap();
        let names: Vec<_> = archive.file_names().map(|name| name.unwrap().into_owned()).collect();
        assert_eq!(names, ["a b.txt", "index.html", "js/app.js"]);
    }

    #[test]
    fn what_git_keeps_stays_in_the_job() {
        let folder = tempfile::tempdir().unwrap();
        for name in [".git", "docs"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        for name in ["index.html", ".gitignore", ".git/config", "docs/.git"] {
            fs::write(folder.path().join(name), "https://gitlab-ci-token:hush@gitlab.example.com").unwrap();
        }
        assert_eq!(pack(folder.path()).ok().unwrap().files, 2);
    }

    #[test]
    fn links_and_empty_folders_are_refused_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |path: &Path| match pack(path) {
            Err(Failure::Findings(text)) => text,
            _ => panic!("it is refused"),
        };
        assert!(refused(folder.path()).contains("there is no file in"));
        assert!(refused(&folder.path().join("gone")).contains("cannot be read"));
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).unwrap();
        assert!(refused(folder.path()).contains("is a link"));
    }

    #[test]
    fn a_name_that_no_link_could_have_is_refused_with_the_file() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(OsStr::from_bytes(b"caf\xe9.html")), "").unwrap();
        let Err(Failure::Findings(why)) = pack(folder.path()) else { panic!("it is refused") };
        assert!(why.contains("/caf\u{fffd}.html` cannot be read: its name is not UTF-8"), "{why}");
    }
}
