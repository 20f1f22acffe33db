//! Archives that CI jobs send, kept by their digest until no order names them.
//!
//! Properties: what is taken in is whole and flushed before anybody hears of it; a name is given once, at the end. What no order
//! names any more goes when the next one comes or with a resync, an hour later at the earliest, so that no upload loses its file to
//! one beside it.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::gitlab::Artifact;
use crate::store::Store;

/// How long an archive stays that no order names.
const UNNAMED: Duration = Duration::from_hours(1);

/// How long nothing may come of an archive: a runner that was taken away does not hang up.
const SILENCE: Duration = Duration::from_mins(1);

/// Why an archive was not taken in.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// It is larger than an artifact may be.
    #[error("the archive is larger than {} MiB", limit >> 20)]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// It broke off.
    #[error("the archive did not arrive whole: {0}")]
    Cut(String),
    /// It cannot be written.
    #[error("the archive cannot be kept: {0}")]
    Disk(#[from] io::Error),
}

/// The folder they are in.
#[derive(Debug, Clone)]
pub struct Uploads {
    folder: PathBuf,
    limit: u64,
}

impl Uploads {
    /// Keeps archives of at most `limit` bytes in this folder, which is made when missing.
    pub fn open(folder: PathBuf, limit: u64) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self { folder, limit })
    }

    /// Takes an archive in; its SHA-256 in hexadecimal. Durable when this returns.
    pub async fn receive<E: std::fmt::Display>(
        &self,
        mut body: impl Stream<Item = Result<Bytes, E>> + Unpin,
    ) -> Result<String, UploadError> {
        let (file, path) = NamedTempFile::new_in(&self.folder)?.into_parts();
        let mut file = tokio::fs::File::from_std(file);
        let (mut digest, mut size) = (Sha256::new(), 0);
        let silent = |_| UploadError::Cut(format!("nothing came for {} s", SILENCE.as_secs()));
        while let Some(chunk) = timeout(SILENCE, body.next()).await.map_err(silent)? {
            let chunk = chunk.map_err(|error| UploadError::Cut(error.to_string()))?;
            size += chunk.len() as u64;
            if size > self.limit {
                return Err(UploadError::TooLarge { limit: self.limit });
            }
            digest.update(&chunk);
            file.write_all(&chunk).await?;
        }
        file.sync_all().await?;
        let digest = hex::encode(digest.finalize());
        path.persist(self.path(&digest)).map_err(|error| error.error)?;
        File::open(&self.folder)?.sync_all()?;
        Ok(digest)
    }

    /// A copy of an archive, in `folder`; `None` when it is not here.
    pub(super) async fn artifact(&self, digest: &str, folder: &Path) -> io::Result<Option<Artifact>> {
        let copy = NamedTempFile::new_in(folder)?.into_temp_path();
        match tokio::fs::copy(self.path(digest), &copy).await {
            Ok(size) => Ok(Some(Artifact { archive: copy, digest: digest.to_owned(), size })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes what no order in `store` names any more. What cannot be removed now is removed another time.
    pub async fn tidy(&self, store: &Store, now: i64) {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(now.unsigned_abs());
        let Ok(named) = store.uploads().await else { return };
        if let Err(error) = self.sweep(&named, now) {
            tracing::warn!(%error, "old uploads cannot be removed");
        }
    }

    /// Removes what none of these names.
    fn sweep(&self, named: &[String], now: SystemTime) -> io::Result<()> {
        let named: HashSet<_> = named.iter().map(|digest| self.path(digest)).collect();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let age = entry.metadata()?.modified().ok().and_then(|at| now.duration_since(at).ok());
            if !named.contains(&entry.path()) && age.is_some_and(|age| age > UNNAMED) {
                match fs::remove_file(entry.path()) {
                    // Another job's request swept too.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    removed => removed?,
                }
            }
        }
        Ok(())
    }

    fn path(&self, digest: &str) -> PathBuf {
        self.folder.join(format!("{digest}.zip"))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::stream;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_archive_that_stops_coming_is_given_up_and_nothing_stays_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let uploads = Uploads::open(folder.path().join("uploads"), 100).unwrap();
        let begins = stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"PK"))]);
        let body = Box::pin(begins.chain(stream::pending()));
        let why = uploads.receive(body).await.unwrap_err().to_string();
        assert_eq!(why, "the archive did not arrive whole: nothing came for 60 s");
        assert_eq!(fs::read_dir(folder.path().join("uploads")).unwrap().count(), 0);
    }
}
