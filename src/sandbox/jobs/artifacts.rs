//! Job artifacts. The API answers 302 to another origin, as GitLab does with object storage; that
//! origin refuses any request that still carries a token, as a signed URL does.

use super::super::{
    refusal::{Answer, Refusal},
    state::{Gitlab, State},
};
use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine as _;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    io::{Cursor, Read as _, Write as _},
};
use zip::{ZipArchive, ZipWriter, result::ZipResult, write::SimpleFileOptions};

/// How long artifacts live unless they are told to expire.
const LIFETIME: SignedDuration = SignedDuration::from_hours(30 * 24);

/// The archive of a job.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Upload")]
pub(in crate::sandbox) struct Artifact {
    zip: web::Bytes,
    pub(super) expires_at: Option<Timestamp>,
}

/// How the control interface describes an archive.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Upload {
    /// Paths with their text, such as `{"dist/index.html": "<h1>hello</h1>"}`.
    Files { files: BTreeMap<String, String> },
    /// Any bytes, for archives that no well-meaning job would make.
    Raw { zip_base64: String },
}

impl TryFrom<Upload> for Artifact {
    type Error = String;

    fn try_from(upload: Upload) -> Result<Self, String> {
        let zip = match upload {
            Upload::Files { files } => pack(&files).map_err(|error| error.to_string())?,
            Upload::Raw { zip_base64 } => base64::engine::general_purpose::STANDARD
                .decode(zip_base64)
                .map_err(|error| error.to_string())?,
        };
        Ok(Self { zip: zip.into(), expires_at: None })
    }
}

fn pack(files: &BTreeMap<String, String>) -> ZipResult<Vec<u8>> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (path, text) in files {
        archive.start_file(path, SimpleFileOptions::default().unix_permissions(0o644))?;
        archive.write_all(text.as_bytes())?;
    }
    Ok(archive.finish()?.into_inner())
}

impl Artifact {
    /// An archive of paths and their text.
    pub(in crate::sandbox) fn of_files(files: BTreeMap<String, String>) -> Result<Self, Refusal> {
        Self::try_from(Upload::Files { files }).map_err(Refusal::bad_request)
    }

    pub(super) fn size(&self) -> usize {
        self.zip.len()
    }

    /// When this archive goes, if it was made at that moment.
    pub(super) fn expiry(&self, made: Timestamp) -> Timestamp {
        self.expires_at.unwrap_or_else(|| made.checked_add(LIFETIME).unwrap_or(made))
    }

    fn read(&self, path: &str) -> Option<Vec<u8>> {
        let mut archive = ZipArchive::new(Cursor::new(&self.zip)).ok()?;
        let mut content = Vec::new();
        archive.by_name(path).ok()?.read_to_end(&mut content).ok()?;
        Some(content)
    }
}

impl State {
    /// Gives a job an archive; it expires now if `expire` says so.
    pub(in crate::sandbox) fn store_artifact(
        &mut self,
        project: u64,
        job: u64,
        artifact: Artifact,
    ) -> Result<(), Refusal> {
        self.job_mut(project, job)?.artifact = Some(artifact);
        Ok(())
    }

    pub(in crate::sandbox) fn expire_artifact(&mut self, project: u64, job: u64) -> Result<(), Refusal> {
        let now = self.now();
        if let Some(artifact) = &mut self.job_mut(project, job)?.artifact {
            artifact.expires_at = Some(now);
        }
        Ok(())
    }

    /// The archive, unless it is absent or expired.
    fn live_artifact(&self, project: u64, job: u64) -> Result<&Artifact, Refusal> {
        let job = self.job(project, job)?;
        let live = |artifact: &&Artifact| artifact.expiry(job.created_at) > self.now();
        job.artifact.as_ref().filter(live).ok_or_else(|| Refusal::not_found(""))
    }

    /// Answers 302 to the object storage.
    pub(super) fn redirect_to_artifact(&mut self, project: u64, job: u64) -> Answer {
        self.live_artifact(project, job)?;
        let secret = uuid::Uuid::new_v4().simple().to_string();
        let location = format!("{}/artifacts/{secret}/artifacts.zip", self.storage_url);
        self.downloads.insert(secret, (project, job));
        Ok(HttpResponse::Found().insert_header(("Location", location)).finish())
    }

    /// Answers one file of the archive.
    pub(super) fn artifact_file(&self, project: u64, job: u64, path: &str) -> Answer {
        let content = self.live_artifact(project, job)?.read(path).ok_or_else(|| Refusal::not_found(""))?;
        Ok(HttpResponse::Ok().content_type("application/octet-stream").body(content))
    }
}

/// The object storage's only endpoint.
pub(in crate::sandbox) async fn download(
    gitlab: Gitlab,
    request: HttpRequest,
    path: web::Path<String>,
) -> Answer {
    let token = ["PRIVATE-TOKEN", "JOB-TOKEN", "Authorization"];
    if token.iter().any(|name| request.headers().contains_key(*name)) {
        return Err(Refusal::bad_request("Only one auth mechanism allowed"));
    }
    let state = gitlab.lock();
    let (project, job) = *state.downloads.get(path.as_str()).ok_or_else(Refusal::forbidden)?;
    let artifact = state.live_artifact(project, job)?;
    Ok(HttpResponse::Ok().content_type("application/zip").body(artifact.zip.clone()))
}
