//! What makes a file operation last: flushing, and saying which one failed.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::engine::Error;

/// Names the operation and the path in an error.
pub(super) fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { what: format!("cannot {what} {}", path.display()), source }
}

/// Makes what was created, renamed or removed in a folder last.
pub(super) fn sync_folder(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(failed("flush", path))
}
