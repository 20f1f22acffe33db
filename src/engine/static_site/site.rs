//! What is served of each preview: the pointer on the disk, and its reading in memory.
//!
//! `previews/<name>.json` names a preview's release. It is replaced as a whole, by a rename, and flushed: whoever reads
//! it sees the old one or the new one. It bears the id of the greenroom instance that wrote it; a pointer of another
//! instance is neither read further, nor replaced, nor removed.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::durable::{failed, sync_folder};
use super::release::{Recorded, Release};
use crate::engine::Error;
use crate::preview::{PreviewKey, PreviewName, Sha};

/// One order, without its archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Revision {
    pub(super) key: PreviewKey,
    pub(super) name: PreviewName,
    pub(super) sha: Sha,
    /// SHA-256 of the archive.
    pub(super) digest: String,
    /// The folder within the archive.
    pub(super) root: PathBuf,
    pub(super) spa: bool,
}

impl Revision {
    /// Whether both come to the same files.
    pub(super) fn same_files(&self, other: &Self) -> bool {
        self.name == other.name && self.digest == other.digest && self.root == other.root
    }
}

/// The pointer of a preview, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pointer {
    version: u32,
    instance: String,
    #[serde(flatten)]
    pub(super) revision: Revision,
    /// The release's digest.
    pub(super) release: String,
    /// Since when it is served, Unix milliseconds.
    pub(super) since: i64,
}

/// The folder of the pointers.
#[derive(Debug)]
pub(super) struct Pointers {
    folder: PathBuf,
    incoming: PathBuf,
    instance: String,
}

/// A pointer as it was found.
#[derive(Debug)]
pub(super) enum Found {
    /// Written by this instance.
    Ours(Pointer),
    /// Written by another instance: its id, and the release that is named.
    Foreign { instance: String, release: String },
    /// Of unknown origin: it cannot be read.
    Unreadable,
}

impl Pointers {
    pub(super) const fn new(folder: PathBuf, incoming: PathBuf, instance: String) -> Self {
        Self { folder, incoming, instance }
    }

    fn path(&self, name: &PreviewName) -> PathBuf {
        self.folder.join(format!("{name}.json"))
    }

    /// Every pointer in the folder.
    pub(super) fn all(&self) -> Result<Vec<Found>, Error> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(failed("list", &self.folder))? {
            let path = entry.map_err(failed("list", &self.folder))?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                found.extend(self.read(&path)?);
            }
        }
        Ok(found)
    }

    /// The pointer of a preview.
    pub(super) fn get(&self, name: &PreviewName) -> Result<Option<Found>, Error> {
        self.read(&self.path(name))
    }

    fn read(&self, path: &Path) -> Result<Option<Found>, Error> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", path)(error)),
        };
        let pointer: Option<Pointer> = serde_json::from_slice(&text).ok();
        Ok(Some(match pointer.filter(|it| it.version == 1 && self.path(&it.revision.name) == path) {
            Some(pointer) if pointer.instance == self.instance => Found::Ours(pointer),
            Some(pointer) => Found::Foreign { instance: pointer.instance, release: pointer.release },
            None => {
                tracing::error!(pointer = %path.display(), "a pointer cannot be read and is left alone");
                Found::Unreadable
            }
        }))
    }

    /// Points a preview to a release. `None` when its pointer is not ours to replace.
    pub(super) fn set(
        &self,
        revision: Revision,
        release: &Release,
        since: i64,
    ) -> Result<Option<Pointer>, Error> {
        if let Some(Found::Foreign { .. } | Found::Unreadable) = self.get(&revision.name)? {
            return Ok(None);
        }
        let path = self.path(&revision.name);
        let instance = self.instance.clone();
        let pointer = Pointer { version: 1, instance, revision, release: release.digest.clone(), since };
        let text =
            serde_json::to_vec_pretty(&pointer).map_err(|error| failed("write", &path)(error.into()))?;
        let mut file =
            tempfile::NamedTempFile::new_in(&self.incoming).map_err(failed("write", &self.incoming))?;
        file.write_all(&text)
            .and_then(|()| file.as_file().sync_all())
            .map_err(failed("write", file.path()))?;
        file.persist(&path).map_err(|error| failed("replace", &path)(error.error))?;
        sync_folder(&self.folder)?;
        Ok(Some(pointer))
    }

    /// Removes the pointer of a preview, if it is ours. Whether one that is not is there.
    pub(super) fn remove(&self, name: &PreviewName) -> Result<(), Error> {
        if let Some(Found::Ours(_)) = self.get(name)? {
            let path = self.path(name);
            fs::remove_file(&path).map_err(failed("remove", &path))?;
            sync_folder(&self.folder)?;
        }
        Ok(())
    }
}

/// What is served of one preview. Its files stay on the disk for as long as somebody holds this.
#[derive(Debug)]
pub struct Site {
    pub(super) revision: Revision,
    pub(super) release: Arc<Release>,
    pub(super) since: i64,
}

impl Site {
    pub(super) fn new(pointer: Pointer, release: Arc<Release>) -> Self {
        Self { revision: pointer.revision, release, since: pointer.since }
    }

    /// The folder of its files. Nothing in it ever changes.
    pub fn root(&self) -> &Path {
        &self.release.root
    }

    /// The file at a path below [`Site::root`], such as `assets/app.js`. Only a file that was unpacked from the archive
    /// is ever found, whatever the path.
    pub fn file(&self, path: &str) -> Option<&Recorded> {
        self.release.files.get(path)
    }

    /// Whether unknown paths get the index page.
    pub const fn spa(&self) -> bool {
        self.revision.spa
    }

    /// Head commit that is served.
    pub const fn sha(&self) -> &Sha {
        &self.revision.sha
    }

    /// SHA-256 of the archive it comes from, in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.revision.digest
    }

    /// Since when it is served, Unix milliseconds.
    pub const fn since(&self) -> i64 {
        self.since
    }
}
