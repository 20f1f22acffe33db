//! Why an archive cannot be served, in words for the people of the merge request.

use std::fmt;

use crate::preview::Quoted;

/// Why an archive cannot be served. `Display` is one sentence without a full stop, safe as Markdown: it names the entry
/// and the limit, and says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The archive is larger than this many bytes.
    ArchiveBytes(u64),
    /// It unpacks to more than this many bytes.
    UnpackedBytes(u64),
    /// A file unpacks to more than this many bytes.
    FileBytes(Quoted, u64),
    /// It has this many entries; this many are allowed.
    Entries(usize, usize),
    /// Its list of contents is larger than this many bytes.
    DirectoryBytes(u64),
    /// It unpacks to more than this many times its own size.
    Ratio(u64),
    /// An entry's path is longer than this many bytes, or one of its parts than 255.
    PathBytes(Quoted, usize),
    /// An entry lies deeper than this many folders.
    PathDepth(Quoted, usize),
    /// An entry's path is not a plain path below the archive; what it has instead.
    Path(Quoted, &'static str),
    /// Two entries have the same name; which one, the archive's reader does not say.
    Duplicates,
    /// Two entries have names that mean the same path.
    Twice(Quoted),
    /// An entry is a file, and another one needs a folder there.
    FileAndFolder(Quoted),
    /// An entry is neither a file nor a folder; what it is.
    Special(Quoted, &'static str),
    /// An entry is encrypted.
    Encrypted(Quoted),
    /// An entry is compressed in a way we do not read.
    Method(Quoted),
    /// An entry's content does not fit what the archive says of it.
    DamagedEntry(Quoted),
    /// It cannot be read as a zip archive.
    Damaged,
    /// The folder to serve leads out of the archive.
    RootOutside(Quoted),
    /// The folder to serve is a file.
    RootIsFile(Quoted),
    /// The folder to serve does not exist; what the archive has at its top.
    RootMissing(Quoted, Vec<Quoted>),
    /// The folder to serve (empty: all of the archive) has no `index.html`; what the archive has at its top.
    NoIndex(Option<Quoted>, Vec<Quoted>),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ArchiveBytes(limit) => {
                write!(
                    f,
                    "the archive is larger than {}; keep only what is served in the artifact",
                    Size(*limit)
                )
            }
            Self::UnpackedBytes(limit) => write!(
                f,
                "the archive unpacks to more than {}; keep only what is served in the artifact",
                Size(*limit)
            ),
            Self::FileBytes(entry, limit) => {
                write!(
                    f,
                    "{entry} in the archive is larger than {}; leave it out or make it smaller",
                    Size(*limit)
                )
            }
            Self::Entries(entries, limit) => write!(
                f,
                "the archive has {entries} entries and {limit} are allowed; keep only what is served in the artifact"
            ),
            Self::DirectoryBytes(limit) => write!(
                f,
                "the archive's list of contents is larger than {}; use fewer files or shorter names",
                Size(*limit)
            ),
            Self::Ratio(limit) => write!(
                f,
                "the archive unpacks to more than {limit} times its own size; leave out files that are mostly padding"
            ),
            Self::PathBytes(entry, limit) => write!(
                f,
                "the path {entry} in the archive is longer than {limit} bytes, or a part of it than 255; shorten it"
            ),
            Self::PathDepth(entry, limit) => {
                write!(f, "{entry} in the archive lies deeper than {limit} folders; use fewer")
            }
            Self::Path(entry, what) => {
                write!(f, "the path {entry} in the archive {what}; use plain relative paths with `/`")
            }
            Self::Duplicates => {
                f.write_str("two entries of the archive have the same name; pack each file once")
            }
            Self::Twice(entry) => write!(f, "{entry} in the archive is there twice; pack it once"),
            Self::FileAndFolder(entry) => {
                write!(f, "{entry} in the archive is both a file and a folder; rename one of them")
            }
            Self::Special(entry, what) => {
                write!(f, "{entry} in the archive is {what}; pack plain files and folders only")
            }
            Self::Encrypted(entry) => {
                write!(f, "{entry} in the archive is encrypted; pack it without a password")
            }
            Self::Method(entry) => write!(
                f,
                "{entry} in the archive is compressed in a way that is not supported; pack it with deflate or store"
            ),
            Self::DamagedEntry(entry) => {
                write!(f, "{entry} in the archive is damaged; run the job again to make a new artifact")
            }
            Self::Damaged => {
                f.write_str("the archive is damaged or no zip file; run the job again to make a new artifact")
            }
            Self::RootOutside(root) => {
                write!(
                    f,
                    "the folder to serve, {root}, is not a path within the archive; change `path` in `.greenroom.yml`"
                )
            }
            Self::RootIsFile(root) => {
                write!(
                    f,
                    "the folder to serve, {root}, is a file in the archive; set `path` in `.greenroom.yml` to a folder"
                )
            }
            Self::RootMissing(root, top) => {
                write!(
                    f,
                    "the archive has no folder {root}{}; change `path` in `.greenroom.yml` or the job's artifact",
                    Top(top)
                )
            }
            Self::NoIndex(Some(root), _) => write!(
                f,
                "the folder to serve, {root}, has no `index.html`; change `path` in `.greenroom.yml` or what the job puts there"
            ),
            Self::NoIndex(None, top) => write!(
                f,
                "the archive has no `index.html` at its top{}; set `path` in `.greenroom.yml` to the folder that has it",
                Top(top)
            ),
        }
    }
}

/// A number of bytes as people read it.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes >= 1 << 30 && bytes.is_multiple_of(1 << 30) => write!(f, "{} GiB", bytes >> 30),
            bytes if bytes >= 1 << 20 && bytes.is_multiple_of(1 << 20) => write!(f, "{} MiB", bytes >> 20),
            bytes if bytes >= 1 << 10 && bytes.is_multiple_of(1 << 10) => write!(f, "{} KiB", bytes >> 10),
            bytes => write!(f, "{bytes} bytes"),
        }
    }
}

/// `, only a, b and c`: what is there instead.
struct Top<'a>(&'a [Quoted]);

impl fmt::Display for Top<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str(": it is empty"),
            [first, rest @ ..] => {
                write!(f, "; at its top it has {first}")?;
                rest.iter().try_for_each(|name| write!(f, ", {name}"))
            }
        }
    }
}
