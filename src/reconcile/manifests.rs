//! What a preview on a cluster is made of: the project's objects, rendered for one commit, with their image resolved.
//!
//! Properties:
//! * The files are those of the merge request's head, in a folder that goes with the look; nothing is fetched for a preset.
//! * What runs is what was in the registry when it was asked: by digest, so that another image under the same tag is news.
//! * The same objects under the same settings have the same digest, and are not deployed again.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::SecretString;
use sha2::{Digest, Sha256};

use super::controller::{Links, Parts};
use super::deploy::Made;
use super::desired::Target;
use super::look::Error;
use crate::engine::Input;
use crate::engine::kubernetes::Profile;
use crate::gitlab::Image;
use crate::preview::{Preview, Quoted, Reason};
use crate::render::kubernetes::{self, ManifestRules, RenderError, Values};
use crate::render::{KubernetesSettings, Manifest};

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
                Err(made) => return Ok(made),
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
        iid: record.key.iid,
        title: target.title.clone(),
        branch: record.source_branch.clone(),
        author: target.author.clone(),
        registry_image: parts.forge.registry_image(record.key.project_id).await?,
        image: None,
        configured: on_cluster.values.clone(),
        password_key: parts.password_key.clone(),
    })
}

/// The image by its digest, or what becomes of the look without it.
async fn resolve(
    parts: &Parts,
    record: &Preview,
    image: &str,
    pull_secret: Option<&SecretString>,
) -> Result<String, Made> {
    let quoted = Quoted::new(image);
    let Some(parsed) = Image::parse(image) else {
        let why = format!("{quoted} is no name of an image, such as `registry.example.com/acme/web:1`");
        return Err(Made::Refused(why));
    };
    if parsed.has_digest() {
        return Ok(image.to_owned());
    }
    match parts.forge.image_digest(record.key.project_id, &parsed, pull_secret).await {
        Ok(Some(digest)) => Ok(parsed.with_digest(&digest)),
        Ok(None) => Err(Made::Waits(Reason::ImageMissing(quoted))),
        Err(error) => {
            let why = format!("image {quoted} cannot be looked for: {error}");
            Err(Made::Waits(Reason::RegistryTrouble(why)))
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
