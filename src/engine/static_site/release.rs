//! The releases: folders of files that never change, each called after what it holds.
//!
//! ```text
//! releases/<digest>/manifest.json    what it holds: path, size and hash of each file
//! releases/<digest>/files/…          the files
//! ```
//!
//! The digest is that of the manifest, so that equal sites share one release, and a manifest that was damaged is
//! noticed. A release is complete from the moment it has its name: it is made elsewhere, flushed, and renamed.
//!
//! Race: a release is looked up by one order while another one's end makes it superfluous. Both happen under one lock,
//! and what is looked up is held by an [`Arc`]; only what nobody holds is removed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::durable::{failed, sync_folder};
use crate::engine::Error;

const MANIFEST: &str = "manifest.json";
const FILES: &str = "files";

/// What is known of one file of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// Its size in bytes.
    pub size: u64,
    /// SHA-256 of its content, in hexadecimal.
    pub sha256: String,
}

/// The files of a release by path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    version: u32,
    files: BTreeMap<String, Recorded>,
}

impl Manifest {
    pub(super) const fn new(files: BTreeMap<String, Recorded>) -> Self {
        Self { version: 1, files }
    }

    /// SHA-256 over paths and contents, in hexadecimal. A path has no NUL byte, so that two manifests never read alike.
    fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for (path, file) in &self.files {
            hash.update(path);
            hash.update([0]);
            hash.update(&file.sha256);
            hash.update(b"\n");
        }
        hex::encode(hash.finalize())
    }
}

/// A release that is kept on the disk for as long as somebody holds this.
#[derive(Debug)]
pub(super) struct Release {
    /// The SHA-256 it is called after.
    pub(super) digest: String,
    /// The folder of its files.
    pub(super) root: PathBuf,
    /// Its files by path.
    pub(super) files: BTreeMap<String, Recorded>,
}

/// Where the releases stand.
#[derive(Debug)]
pub(super) struct Shelf {
    releases: PathBuf,
    incoming: PathBuf,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    live: HashMap<String, Weak<Release>>,
    kept: HashSet<String>,
    keep_all: bool,
}

impl Shelf {
    /// The shelf in `releases`; what is made or thrown away stands in `incoming` meanwhile.
    pub(super) fn new(releases: PathBuf, incoming: PathBuf) -> Self {
        Self { releases, incoming, held: Mutex::default() }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Never removes this release: somebody may need it who does not hold it.
    pub(super) fn keep(&self, digest: &str) {
        self.held().kept.insert(digest.to_owned());
    }

    /// Never removes any release: it is not known who needs which.
    pub(super) fn keep_all(&self) {
        self.held().keep_all = true;
    }

    /// The release called `digest`; `None` when there is none, or none that can be used.
    pub(super) fn get(&self, digest: &str) -> Result<Option<Arc<Release>>, Error> {
        self.find(&mut self.held(), digest)
    }

    fn find(&self, held: &mut Held, digest: &str) -> Result<Option<Arc<Release>>, Error> {
        if let Some(release) = held.live.get(digest).and_then(Weak::upgrade) {
            return Ok(Some(release));
        }
        let folder = self.releases.join(digest);
        let path = folder.join(MANIFEST);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &path)(error)),
        };
        let manifest: Option<Manifest> = serde_json::from_slice(&text).ok();
        let Some(manifest) = manifest.filter(|it| it.version == 1 && it.digest() == digest) else {
            tracing::error!(release = digest, "a release on the disk is damaged and is not used");
            return Ok(None);
        };
        Ok(Some(self.hold(held, digest.to_owned(), manifest)))
    }

    fn hold(&self, held: &mut Held, digest: String, manifest: Manifest) -> Arc<Release> {
        let root = self.releases.join(&digest).join(FILES);
        let release = Arc::new(Release { digest: digest.clone(), root, files: manifest.files });
        held.live.insert(digest, Arc::downgrade(&release));
        release
    }

    /// Room for a new release.
    pub(super) fn draft(&self) -> Result<Draft, Error> {
        let room = tempfile::Builder::new()
            .prefix("release-")
            .tempdir_in(&self.incoming)
            .map_err(failed("make a folder in", &self.incoming))?;
        let folder = room.path().join("release");
        fs::create_dir(&folder).map_err(failed("make", &folder))?;
        Ok(Draft { room, folder })
    }

    /// Puts a draft on the shelf, unless an equal release stands there already.
    pub(super) fn put(&self, draft: &Draft, manifest: Manifest) -> Result<Arc<Release>, Error> {
        let digest = manifest.digest();
        let path = draft.folder.join(MANIFEST);
        let text = serde_json::to_vec(&manifest).map_err(|error| failed("write", &path)(error.into()))?;
        File::create_new(&path)
            .and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()))
            .map_err(failed("write", &path))?;
        sync_folder(&draft.folder)?;

        let target = self.releases.join(&digest);
        let mut held = self.held();
        if let Some(release) = self.find(&mut held, &digest)? {
            return Ok(release);
        }
        if target.exists() {
            let aside = draft.room.path().join("damaged");
            fs::rename(&target, aside).map_err(failed("move", &target))?;
        }
        fs::rename(&draft.folder, &target).map_err(failed("make", &target))?;
        sync_folder(&self.releases)?;
        Ok(self.hold(&mut held, digest, manifest))
    }

    /// Removes what nobody holds.
    pub(super) fn collect(&self) -> Result<(), Error> {
        let mut aside: Option<TempDir> = None;
        {
            let mut held = self.held();
            held.live.retain(|_, release| release.strong_count() > 0);
            if held.keep_all {
                return Ok(());
            }
            let listing = failed("list", &self.releases);
            let names = fs::read_dir(&self.releases)
                .and_then(|entries| {
                    entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()
                })
                .map_err(listing)?;
            for name in names.iter().filter_map(|name| name.to_str()).filter(|name| is_digest(name)) {
                if held.live.contains_key(name) || held.kept.contains(name) {
                    continue;
                }
                // Renamed under the lock, which is quick; removed after it, which is not.
                let room = match aside.take() {
                    Some(room) => room,
                    None => tempfile::Builder::new()
                        .prefix("removed-")
                        .tempdir_in(&self.incoming)
                        .map_err(failed("make a folder in", &self.incoming))?,
                };
                let path = self.releases.join(name);
                fs::rename(&path, room.path().join(name)).map_err(failed("move", &path))?;
                tracing::debug!(release = name, "release removed");
                aside = Some(room);
            }
        }
        match aside {
            Some(room) => {
                sync_folder(&self.releases)?;
                let path = room.path().to_owned();
                room.close().map_err(failed("remove", &path))
            }
            None => Ok(()),
        }
    }
}

fn is_digest(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// A release in the making; gone when dropped.
#[derive(Debug)]
pub(super) struct Draft {
    room: TempDir,
    folder: PathBuf,
}

impl Draft {
    /// The folder for its files, which does not exist yet.
    pub(super) fn files(&self) -> PathBuf {
        self.folder.join(FILES)
    }
}
