//! A project's files at a commit, unpacked into a folder.
//!
//! Archives are made of what strangers pushed: names that lead out of the folder, links and more than a limit of bytes or
//! files never reach the disk.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};

use super::artifact::ArtifactLimits;
use super::{Error, Forge};
use crate::preview::{ProjectId, Sha};

/// The largest archive that is fetched, in bytes.
const LARGEST_ARCHIVE: u64 = 100 << 20;

/// The most that is unpacked, in bytes.
const LARGEST_TREE: u64 = 256 << 20;

/// The most files.
const MOST_FILES: usize = 50_000;

impl Forge {
    /// Unpacks the files of a commit into `folder`, which is empty. Links are left out.
    pub async fn tree(
        &self,
        project: ProjectId,
        sha: &Sha,
        folder: &Path,
        limits: ArtifactLimits,
    ) -> Result<(), Error> {
        let path = format!("projects/{project}/repository/archive.zip?sha={sha}");
        let limits = ArtifactLimits { bytes: limits.bytes.min(LARGEST_ARCHIVE) };
        // Beside the folder: in it, the archive would pass for one of the project's files.
        let beside = folder.parent().unwrap_or(folder);
        let what = format!("GET projects/{project}/repository/archive.zip");
        let archive = self.download(project, &path, beside, limits).await?;
        let into = folder.to_owned();
        let unpacked = tokio::task::spawn_blocking(move || unpack(&archive.archive, &into)).await;
        match unpacked.map_err(|error| Error::Request(error.to_string()))? {
            Ok(()) => Ok(()),
            Err(Refused::TooLarge) => Err(Error::TooLarge { what, limit: LARGEST_TREE }),
            Err(Refused::Unreadable(why)) => Err(Error::Unreadable { what, why }),
            Err(Refused::Disk(error)) => Err(Error::Disk(error)),
        }
    }
}

enum Refused {
    TooLarge,
    Unreadable(String),
    Disk(io::Error),
}

/// Unpacks a zip archive without its top folder, which GitLab names after project and commit.
fn unpack(archive: &Path, into: &Path) -> Result<(), Refused> {
    let unreadable = |error: &dyn std::fmt::Display| Refused::Unreadable(error.to_string());
    let file = fs::File::open(archive).map_err(Refused::Disk)?;
    let mut archive = zip::ZipArchive::new(io::BufReader::new(file)).map_err(|error| unreadable(&error))?;
    if archive.len() > MOST_FILES {
        return Err(Refused::TooLarge);
    }
    let mut left = LARGEST_TREE;
    for index in 0..archive.len() {
        let entry = archive.by_index(index).map_err(|error| unreadable(&error))?;
        if !entry.is_file() {
            continue;
        }
        let name = entry.name().map_err(|error| unreadable(&error))?.into_owned();
        let Some(path) = inside(&name) else {
            return Err(Refused::Unreadable(String::from("it has a file that leads out of the repository")));
        };
        let target = into.join(path);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(Refused::Disk)?;
        }
        let mut file = fs::File::create_new(&target).map_err(Refused::Disk)?;
        // What an archive says of its sizes is not to be trusted.
        let written = io::copy(&mut entry.take(left + 1), &mut file).map_err(|error| unreadable(&error))?;
        left = left.checked_sub(written).ok_or(Refused::TooLarge)?;
    }
    Ok(())
}

/// The path below the top folder; `None` when it is not one.
fn inside(name: &str) -> Option<PathBuf> {
    let path = Path::new(name);
    let sound =
        path.components().all(|part| matches!(part, Component::Normal(_))) && !name.contains(['\\', '\0']);
    let path: PathBuf = path.components().skip(1).collect();
    (sound && path != Path::new("")).then_some(path)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    fn archive(entries: &[(&str, &str)], link: Option<&str>) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut zip = ZipWriter::new(&mut file);
        for (name, text) in entries {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(text.as_bytes()).unwrap();
        }
        if let Some(name) = link {
            zip.add_symlink(name, "/etc/passwd", SimpleFileOptions::default()).unwrap();
        }
        zip.finish().unwrap();
        file
    }

    #[test]
    fn files_come_without_the_top_folder_and_links_stay_out() {
        let file = archive(&[("web-abc/a.txt", "a"), ("web-abc/k8s/b.yaml", "b")], Some("web-abc/link"));
        let folder = tempfile::tempdir().unwrap();
        assert!(unpack(file.path(), folder.path()).is_ok());
        assert_eq!(fs::read_to_string(folder.path().join("k8s/b.yaml")).unwrap(), "b");
        assert_eq!(fs::read_to_string(folder.path().join("a.txt")).unwrap(), "a");
        assert!(!folder.path().join("link").exists());
    }

    #[test]
    fn nothing_leads_out_of_the_folder() {
        for name in ["web/../../x", "/etc/x", "web\\..\\x", "web/a\\b"] {
            assert_eq!(inside(name), None, "{name}");
            let file = archive(&[(name, "x")], None);
            let folder = tempfile::tempdir().unwrap();
            assert!(matches!(unpack(file.path(), folder.path()), Err(Refused::Unreadable(_))), "{name}");
        }
        assert_eq!(inside("web/a/b"), Some("a/b".into()));
    }
}
