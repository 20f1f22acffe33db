//! What a preview on a cluster is made of: the project's objects, rendered for one commit, with their image resolved.
//!
//! Properties:
//! * The files are those of the merge request's head, in a folder that goes with the look; nothing is fetched for a preset.
//! * What runs is what was in the registry when it was asked: by digest, so that another image under the same tag is news.
//! * The same objects under the same settings have the same digest, and are not deployed again.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::checks::Trouble;
use super::controller::{Links, Parts};
use super::deploy::Made;
use super::desired::Target;
use super::look::Error;
use crate::engine::kubernetes::Profile;
use crate::engine::{Errand, Input};
use crate::gitlab::Image;
use crate::preview::{Preview, Quoted, Reason, Redaction};
use crate::render::kubernetes::{self, ManifestRules, RenderError, Values};
use crate::render::{JobCheck, KubernetesSettings, Manifest, Workload};

/// What the operator says of a project's previews on a cluster.
#[derive(Debug, Clone)]
pub struct OnCluster {
    /// How links are made.
    pub links: Links,
    /// How the guard objects are made.
    pub profile: Arc<Profile>,
    /// What the project's objects may be.
    pub rules: ManifestRules,
    /// Values for the project's templates.
    pub values: BTreeMap<String, serde_json::Value>,
    /// SHA-256 of all that the settings add to a preview, in hexadecimal.
    pub digest: String,
}

/// Makes a target ready for a cluster.
pub(super) async fn make(
    parts: &Parts,
    record: &Preview,
    target: &Target,
    settings: &KubernetesSettings,
) -> Result<Made, Error> {
    let on_cluster = (parts.on_cluster)(&record.project_path);
    let mut values = values(parts, record, target, &on_cluster).await?;
    match kubernetes::image(settings, &values, &parts.tools).await {
        Ok(None) => {}
        Err(error) => return refused(error),
        Ok(Some(image)) => {
            match resolve(parts, record, &image, on_cluster.profile.pull_secret.as_ref()).await {
                Ok(resolved) => values.image = Some(resolved),
                Err(Unresolved::Refused(why)) => return Ok(Made::Refused(why)),
                Err(Unresolved::Waits(reason)) => return Ok(Made::Waits(reason)),
            }
        }
    }
    let folder = tempfile::tempdir_in(&parts.incoming).map_err(crate::gitlab::Error::Disk)?;
    if settings.source().needs_tree() {
        let fetched = parts.forge.tree(record.key.project_id, &target.sha, folder.path(), parts.limits).await;
        match fetched {
            Ok(()) => {}
            Err(crate::gitlab::Error::TooLarge { limit, .. }) => {
                return Ok(Made::Refused(format!("the repository is larger than {} MiB", limit >> 20)));
            }
            Err(error) => return Err(error.into()),
        }
    }
    match kubernetes::render(settings, folder.path(), &values, &on_cluster.rules, &parts.tools).await {
        Ok(objects) => {
            let digest = digest(&objects, &on_cluster.digest);
            Ok(Made::Ready(digest, Input::Manifests { objects, profile: on_cluster.profile }))
        }
        Err(error) => refused(error),
    }
}

/// What the project has to change, or a trouble that the look fails with.
fn refused(error: RenderError) -> Result<Made, Error> {
    match error {
        RenderError::Trouble(why) => Err(Error::Trouble(why)),
        error @ RenderError::Refused { .. } => Ok(Made::Refused(error.to_string())),
    }
}

/// The Job of a check, the `number`th of the project file's, with its image resolved; for the run of checks with this id.
pub(super) async fn errand(
    parts: &Parts,
    record: &Preview,
    target: &Target,
    check: &JobCheck,
    number: usize,
    run: &str,
) -> Result<Errand, Trouble> {
    let passes = |error: Error| Trouble::Passes(error.to_string());
    let render = |error: RenderError| match error {
        RenderError::Trouble(why) => Trouble::Passes(why),
        error @ RenderError::Refused { .. } => Trouble::Stays(error.to_string()),
    };
    let Workload::Kubernetes(settings) = &target.file.workload else {
        return Err(Trouble::Stays(String::from("its engine runs no programs")));
    };
    let on_cluster = (parts.on_cluster)(&record.project_path);
    let values = values(parts, record, target, &on_cluster).await.map_err(passes)?;
    let mut image = kubernetes::check_image(check, &values, &parts.tools).await.map_err(render)?;
    if image.is_none() {
        image = kubernetes::image(settings, &values, &parts.tools).await.map_err(render)?;
    }
    if let Some(named) = &image {
        match resolve(parts, record, named, on_cluster.profile.pull_secret.as_ref()).await {
            Ok(resolved) => image = Some(resolved),
            Err(Unresolved::Refused(why)) => return Err(Trouble::Stays(why)),
            Err(Unresolved::Waits(reason)) => return Err(Trouble::Passes(reason.to_string())),
        }
    }
    // Random, and no longer than a name of an object has room for.
    let run = &run[run.len().saturating_sub(10)..];
    let check = JobCheck { image, ..check.clone() };
    let job = kubernetes::check_job(&check, number, run, settings, &values, &on_cluster.rules, &parts.tools)
        .await
        .map_err(render)?;
    Ok(Errand {
        key: record.key,
        name: record.name.clone(),
        run: run.to_owned(),
        job,
        profile: on_cluster.profile,
    })
}

/// The secrets that a preview on a cluster was given.
pub(super) fn secrets(parts: &Parts, record: &Preview) -> Redaction {
    let profile = (parts.on_cluster)(&record.project_path).profile;
    let given = profile.secrets.values().chain(&profile.pull_secret);
    let given = given.map(|secret| secret.expose_secret().to_owned());
    let own = parts.password_key.as_ref().map(|key| kubernetes::password(key, &record.name));
    Redaction::new(given.chain(own))
}

async fn values(
    parts: &Parts,
    record: &Preview,
    target: &Target,
    on_cluster: &OnCluster,
) -> Result<Values, Error> {
    let url = on_cluster.links.of(&record.name);
    Ok(Values {
        sha: target.pipeline_sha.clone(),
        head_sha: target.sha.clone(),
        name: record.name.clone(),
        host: format!("{}.{}", record.name, on_cluster.links.domain),
        url,
        iid: record.key.subject.iid(),
        title: target.title.clone(),
        branch: record.source_branch.clone(),
        author: target.author.clone(),
        registry_image: parts.forge.registry_image(record.key.project_id).await?,
        image: None,
        configured: on_cluster.values.clone(),
        password_key: parts.password_key.clone(),
    })
}

/// Why an image has no digest.
enum Unresolved {
    /// The project has to change it.
    Refused(String),
    /// It may have one later.
    Waits(Reason),
}

/// The image by its digest.
async fn resolve(
    parts: &Parts,
    record: &Preview,
    image: &str,
    pull_secret: Option<&SecretString>,
) -> Result<String, Unresolved> {
    let quoted = Quoted::new(image);
    let Some(parsed) = Image::parse(image) else {
        let why = format!("{quoted} is no name of an image, such as `registry.example.com/acme/web:1`");
        return Err(Unresolved::Refused(why));
    };
    match parts.forge.image_digest(record.key.project_id, &parsed, pull_secret).await {
        Ok(None) => Err(Unresolved::Waits(Reason::ImageMissing(quoted))),
        // Which one it is is known, whoever cannot be asked; whether the nodes may pull it is theirs to say.
        Ok(Some(_)) | Err(_) if parsed.has_digest() => Ok(image.to_owned()),
        Ok(Some(digest)) => Ok(parsed.with_digest(&digest)),
        Err(error) => {
            let why = format!("image {quoted} cannot be looked for: {error}");
            Err(Unresolved::Waits(Reason::RegistryTrouble(why)))
        }
    }
}

/// SHA-256 over the objects and what the settings add, in hexadecimal.
fn digest(objects: &[Manifest], settings: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(settings);
    for Manifest { object, .. } in objects {
        hash.update(object.to_string());
        hash.update([0]);
    }
    hex::encode(hash.finalize())
}
