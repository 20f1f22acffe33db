//! A zip archive written by a stranger → a folder of plain files.
//!
//! Done in two steps. The first looks only at the list of contents and refuses whatever has no business in a site:
//! paths that lead elsewhere, links, devices, passwords. The second unpacks, and counts what really comes out: nothing
//! that a header says of a size is believed.
//!
//! Only what lies below the folder to serve must be plain files: links elsewhere, as in `node_modules/.bin`, are never
//! unpacked and harm nobody. Paths are checked everywhere, for they decide what lies below it. What a checkout keeps for Git
//! (`.git`) is left out: all of the history, and maybe a token, are no part of a site.
//!
//! The folder it unpacks to is new and empty, and only folders and files that did not exist are made in it, so that no
//! link can be followed. Files are `0644` and folders `0755` (less the umask), whatever the archive says.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::rc::Rc;

use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use zip::read::{ArchiveOffset, Config, ZipFileEntry};
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use super::durable::{failed, sync_folder};
use super::entry::EntryPath;
use super::limits::Limits;
use super::refusal::Refusal;
use super::release::{Manifest, Recorded};
use crate::engine::Error;
use crate::preview::Quoted;

/// How many of the names at the top of an archive are shown when the folder to serve is not among them.
const SHOWN: usize = 5;

/// Why an archive was not unpacked.
#[derive(Debug)]
pub(super) enum Stop {
    /// The project's archive is at fault.
    Refused(Refusal),
    /// A newer order, or a stop, has come in between.
    Overtaken,
    /// This machine is at fault.
    Io(Error),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Io(error)
    }
}

/// Unpacks what lies below `root` in `archive` to the new folder `into`. On return all of it is on the disk.
pub(super) fn unpack(
    archive: &Path,
    root: &Path,
    into: &Path,
    limits: &Limits,
    overtaken: &CancellationToken,
) -> Result<Manifest, Stop> {
    let root = EntryPath::of_root(root)?;
    let file = File::open(archive).map_err(failed("open", archive))?;
    let archive_bytes = file.metadata().map_err(failed("look at", archive))?.len();
    if archive_bytes > limits.archive_bytes {
        return Err(Refusal::ArchiveBytes(limits.archive_bytes).into());
    }
    let mut zip = open(file, archive, limits)?;
    let plan = plan(&zip, &root, limits)?;

    fs::create_dir(into).map_err(failed("make", into))?;
    for folder in &plan.folders {
        let path = into.join(folder);
        fs::create_dir(&path).map_err(failed("make", &path))?;
    }
    let mut budget = Budget { limits, archive_bytes, unpacked: 0 };
    let mut files = BTreeMap::new();
    for (path, index) in plan.files {
        let shown = || Quoted::new(&path);
        let mut entry = zip.by_index(index).map_err(|error| unreadable(error, archive, Some(shown())))?;
        let target = into.join(&path);
        let recorded = copy(&mut entry, &target, archive, &mut budget, &shown, overtaken)?;
        files.insert(path, recorded);
    }
    // Flushed only now: once the first file has made the file system write its journal, the others are nearly free.
    for path in files.keys() {
        let path = into.join(path);
        File::open(&path).and_then(|file| file.sync_all()).map_err(failed("flush", &path))?;
    }
    for folder in &plan.folders {
        sync_folder(&into.join(folder))?;
    }
    sync_folder(into)?;
    Ok(Manifest::new(files))
}

/// Reads the list of contents, and no more of it than the limits allow.
fn open(file: File, path: &Path, limits: &Limits) -> Result<ZipArchive<BufReader<Metered>>, Stop> {
    let left = Rc::new(Cell::new(limits.directory_bytes()));
    let reader = BufReader::new(Metered { file, left: Rc::clone(&left) });
    // An artifact starts at its first byte; looking for another start would read all of it.
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    let zip = ZipArchive::with_config(config, reader).map_err(|error| {
        if left.get() == 0 {
            Refusal::DirectoryBytes(limits.directory_bytes()).into()
        } else {
            unreadable(error, path, None)
        }
    })?;
    left.set(u64::MAX);
    Ok(zip)
}

/// A file of which only so much is read.
struct Metered {
    file: File,
    left: Rc<Cell<u64>>,
}

impl Read for Metered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        let left = self.left.get().saturating_sub(read as u64);
        self.left.set(left);
        if left == 0 { Err(io::Error::other("more was read than is allowed")) } else { Ok(read) }
    }
}

impl Seek for Metered {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// What is to be unpacked. In order, a folder stands before what it holds.
#[derive(Debug, Default)]
struct Plan {
    folders: BTreeSet<String>,
    files: BTreeMap<String, usize>,
}

/// Looks at the list of contents: what is to be unpacked, or why nothing is.
fn plan<R: Read + Seek>(zip: &ZipArchive<R>, root: &EntryPath, limits: &Limits) -> Result<Plan, Stop> {
    if zip.len() > limits.entries {
        return Err(Refusal::Entries(zip.len(), limits.entries).into());
    }
    if zip.has_duplicate_names() {
        return Err(Refusal::Duplicates.into());
    }
    let mut plan = Plan::default();
    let mut top: Vec<&str> = Vec::new();
    let paths = (0..zip.len())
        .map(|index| {
            let entry = zip.by_index_data(index).map_err(|_| Refusal::Damaged)?;
            let path = EntryPath::of_entry(entry.name_raw(), limits)?;
            Ok((index, entry, path))
        })
        .collect::<Result<Vec<_>, Refusal>>()?;
    let mut root_exists = root.as_str().is_empty();
    for (index, entry, path) in &paths {
        if top.len() < SHOWN && !path.as_str().is_empty() && !top.contains(&path.top()) {
            top.push(path.top());
        }
        let shown = || Quoted::new(path.as_str());
        let Some(inner) = path.below(root) else {
            if root.folders().any(|folder| folder == path.as_str()) && !matches!(kind(entry), Kind::Folder) {
                return Err(Refusal::RootIsFile(shown()).into());
            }
            continue;
        };
        if inner.names().any(|name| name == ".git") {
            continue;
        }
        match kind(entry) {
            Kind::Special(what) => return Err(Refusal::Special(shown(), what).into()),
            Kind::Folder => {
                root_exists = true;
                if !inner.as_str().is_empty() {
                    plan.add_folders(&inner);
                    plan.folders.insert(inner.as_str().to_owned());
                }
            }
            Kind::File if inner.as_str().is_empty() => return Err(Refusal::RootIsFile(shown()).into()),
            Kind::File if entry.encrypted() => return Err(Refusal::Encrypted(shown()).into()),
            Kind::File if !is_supported(entry.compression()) => return Err(Refusal::Method(shown()).into()),
            Kind::File => {
                root_exists = true;
                plan.add_folders(&inner);
                if plan.files.insert(inner.as_str().to_owned(), *index).is_some() {
                    return Err(Refusal::Twice(shown()).into());
                }
            }
        }
        let made = plan.files.len() + plan.folders.len();
        if made > limits.entries {
            return Err(Refusal::Entries(made, limits.entries).into());
        }
    }
    if let Some(both) = plan.folders.iter().find(|folder| plan.files.contains_key(*folder)) {
        return Err(Refusal::FileAndFolder(Quoted::new(both)).into());
    }
    let named = (!root.as_str().is_empty()).then(|| Quoted::new(root.as_str()));
    let top = top.into_iter().map(Quoted::new).collect();
    match named {
        Some(root) if !root_exists => Err(Refusal::RootMissing(root, top).into()),
        named if !plan.files.contains_key("index.html") => Err(Refusal::NoIndex(named, top).into()),
        _ => Ok(plan),
    }
}

impl Plan {
    fn add_folders(&mut self, path: &EntryPath) {
        for folder in path.folders() {
            if !self.folders.contains(folder) {
                self.folders.insert(folder.to_owned());
            }
        }
    }
}

/// What an entry is.
enum Kind {
    File,
    Folder,
    Special(&'static str),
}

/// Tells from the Unix mode, which every packer for Unix writes, else from the name.
fn kind(entry: &ZipFileEntry<'_>) -> Kind {
    const TYPE: u32 = 0o170_000;
    let folder_by_name = entry.name_raw().ends_with(b"/");
    match (entry.external_attributes() >> 16) & TYPE {
        0 | 0o100_000 if folder_by_name => Kind::Folder,
        0 | 0o100_000 => Kind::File,
        0o040_000 => Kind::Folder,
        0o120_000 => Kind::Special("a symbolic link"),
        0o010_000 => Kind::Special("a pipe"),
        0o020_000 | 0o060_000 => Kind::Special("a device"),
        0o140_000 => Kind::Special("a socket"),
        _ => Kind::Special("neither a file nor a folder"),
    }
}

fn is_supported(method: CompressionMethod) -> bool {
    matches!(method, CompressionMethod::Stored | CompressionMethod::Deflated)
}

/// What may still come out of the archive.
struct Budget<'a> {
    limits: &'a Limits,
    archive_bytes: u64,
    unpacked: u64,
}

impl Budget<'_> {
    /// Takes note of `more` bytes.
    fn spend(&mut self, more: u64) -> Result<(), Refusal> {
        self.unpacked += more;
        let allowed = self.archive_bytes.saturating_mul(self.limits.ratio).max(Limits::RATIO_FLOOR);
        if self.unpacked > self.limits.unpacked_bytes {
            Err(Refusal::UnpackedBytes(self.limits.unpacked_bytes))
        } else if self.unpacked > allowed {
            Err(Refusal::Ratio(self.limits.ratio))
        } else {
            Ok(())
        }
    }
}

/// Unpacks one entry to the new file `target`.
fn copy(
    entry: &mut impl Read,
    target: &Path,
    archive: &Path,
    budget: &mut Budget<'_>,
    shown: &impl Fn() -> Quoted,
    overtaken: &CancellationToken,
) -> Result<Recorded, Stop> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(target)
        .map_err(failed("make", target))?;
    let mut hash = Sha256::new();
    let mut size = 0_u64;
    let mut buffer = vec![0; 64 << 10];
    loop {
        if overtaken.is_cancelled() {
            return Err(Stop::Overtaken);
        }
        let read = entry
            .read(&mut buffer)
            .map_err(|error| unreadable(ZipError::Io(error), archive, Some(shown())))?;
        if read == 0 {
            break;
        }
        size += read as u64;
        if size > budget.limits.file_bytes {
            return Err(Refusal::FileBytes(shown(), budget.limits.file_bytes).into());
        }
        budget.spend(read as u64)?;
        hash.update(&buffer[..read]);
        file.write_all(&buffer[..read]).map_err(failed("write", target))?;
    }
    Ok(Recorded { size, sha256: hex::encode(hash.finalize()) })
}

/// Tells a broken archive from a broken disk: only the latter has an error number.
fn unreadable(error: ZipError, archive: &Path, entry: Option<Quoted>) -> Stop {
    match error {
        ZipError::Io(error) if error.raw_os_error().is_some() => failed("read", archive)(error).into(),
        _ => entry.map_or(Refusal::Damaged, Refusal::DamagedEntry).into(),
    }
}
