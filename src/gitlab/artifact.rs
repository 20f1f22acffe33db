//! Job artifacts, streamed to a file.

use std::path::Path;

use futures::StreamExt;
use http::header::LOCATION;
use sha2::{Digest, Sha256};
use tempfile::TempPath;
use tokio::io::AsyncWriteExt;
use url::Url;

use super::{Error, Forge};
use crate::preview::ProjectId;

/// How much of an artifact is fetched.
#[derive(Debug, Clone, Copy)]
pub struct ArtifactLimits {
    /// Largest archive in bytes.
    pub bytes: u64,
}

/// A downloaded artifact archive.
#[derive(Debug)]
pub struct Artifact {
    /// The zip archive; removed when dropped.
    pub archive: TempPath,
    /// SHA-256 of the archive, in hexadecimal.
    pub digest: String,
    /// Size in bytes.
    pub size: u64,
}

/// How many redirects lead to an artifact at most; GitLab needs one.
const HOPS: usize = 3;

impl Forge {
    /// Fetches the artifact archive of a job into `folder`; `None` when GitLab has none (never made, or expired).
    ///
    /// GitLab often answers with a redirect to object storage. It is followed without the token.
    pub async fn artifact(
        &self,
        project: ProjectId,
        job: u64,
        folder: &Path,
        limits: ArtifactLimits,
    ) -> Result<Option<Artifact>, Error> {
        match self
            .download(project, &format!("projects/{project}/jobs/{job}/artifacts"), folder, limits)
            .await
        {
            Ok(artifact) => Ok(Some(artifact)),
            Err(Error::Status { status: 404, what, .. }) if what.contains("/api/v4/") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Fetches what the API has at `path` into a file in `folder`.
    pub(super) async fn download(
        &self,
        project: ProjectId,
        path: &str,
        folder: &Path,
        limits: ArtifactLimits,
    ) -> Result<Artifact, Error> {
        let what = format!("GET {path}");
        let bad = |why: &str| Error::Unreadable { what: what.clone(), why: why.to_owned() };
        let client = self.of(project).await?;
        let mut url = client.api_url(path).map_err(|error| bad(&error.to_string()))?;
        let mut hops = 0;
        let response = loop {
            let answer =
                if hops == 0 { client.download(url.clone()).await } else { client.fetch(url.clone()).await };
            let response = answer?;
            if !response.status().is_redirection() {
                break response;
            }
            hops += 1;
            if hops > HOPS {
                return Err(bad("it redirects too often"));
            }
            let target = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let target: Option<Url> = target.and_then(|target| url.join(target).ok());
            url = target
                .filter(|target| matches!(target.scheme(), "http" | "https"))
                .ok_or_else(|| bad("it redirects to no web address"))?;
        };

        let (file, archive) = tempfile::NamedTempFile::new_in(folder)?.into_parts();
        let mut file = tokio::fs::File::from_std(file);
        let mut digest = Sha256::new();
        let mut size = 0;
        let mut body = response.bytes_stream();
        while let Some(chunk) = body.next().await {
            let chunk = chunk
                .map_err(|source| Error::Unreachable { what: what.clone(), source: source.without_url() })?;
            size += chunk.len() as u64;
            if size > limits.bytes {
                return Err(Error::TooLarge { what, limit: limits.bytes });
            }
            digest.update(&chunk);
            file.write_all(&chunk).await?;
        }
        file.flush().await?;
        Ok(Artifact { archive, digest: hex::encode(digest.finalize()), size })
    }
}
