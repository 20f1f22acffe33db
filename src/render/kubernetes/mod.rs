//! From `.greenroom.yml` to the objects of a preview.
//!
//! Needs: the settings, the repository's files where they are asked for, values, rules. Properties:
//! * Whatever `{{ }}` writes is data: it cannot add a key or a document (`marks.rs`).
//! * Nothing outside of the tree is read; links are refused.
//! * What is returned has passed the rules ([`ManifestRules`]); every refusal names file, document and field.

mod documents;
mod error;
mod folder;
mod helm;
mod kustomize;
mod marks;
mod policy;
mod preset;
mod template;
mod values;
mod work;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

pub use error::RenderError;
pub use policy::{Exception, Exposure, ManifestRules};
pub use preset::presets;
pub use values::{Values, password};

use crate::process;

use super::{JobCheck, KubernetesSettings, KubernetesSource, Manifest};
use documents::Document;
use template::{Files, Templates};

/// What rendering uses beside its input.
#[derive(Debug, Clone, Default)]
pub struct Tools {
    /// The program `helm`, version 3 or 4, when it is installed.
    pub helm: Option<PathBuf>,
    /// The program `kustomize`, when it is installed.
    pub kustomize: Option<PathBuf>,
    /// The operator's own presets: a folder with a folder for each.
    pub presets: Option<PathBuf>,
}

impl Tools {
    /// Those that lie in the folders of a `PATH`.
    pub fn find(path: &OsStr) -> Self {
        Self { helm: process::find("helm", path), kustomize: process::find("kustomize", path), presets: None }
    }
}

/// The objects of a preview. `tree` holds the repository at the deployed commit, unpacked; it is not looked at for a
/// preset. Nothing is written to it.
///
/// # Errors
/// [`RenderError::Refused`] for what the project has to change, [`RenderError::Trouble`] for what the server lacks.
pub async fn render(
    settings: &KubernetesSettings,
    tree: &Path,
    values: &Values,
    rules: &ManifestRules,
    tools: &Tools,
) -> Result<Vec<Manifest>, RenderError> {
    let context = values.context(settings, rules)?;
    let templates = Templates::new(context);
    let documents = match settings.source() {
        KubernetesSource::Preset(name) => {
            let files = preset::files(name, tools.presets.as_deref())?;
            all(&templates, &files, &format!("preset {name}"))?
        }
        KubernetesSource::Manifests(path) => {
            let place = path.display().to_string();
            let files = folder::read(tree, path, &place)?;
            all(&templates, &files, &place)?
        }
        KubernetesSource::Helm(helm) => helm::documents(helm, tree, &templates, values, tools).await?,
        KubernetesSource::Kustomize(path) => kustomize::documents(path, tree, &templates, tools).await?,
    };
    let mut manifests = documents::manifests(documents)?;
    if manifests.is_empty() {
        return Err(RenderError::file(".greenroom.yml kubernetes", "it renders to no objects at all"));
    }
    for manifest in &mut manifests {
        rules.check(manifest, values)?;
    }
    Ok(manifests)
}

/// The Job of a check, the `number`th of the project file's.
///
/// # Errors
/// When a template is wrong, or the Job is not allowed.
pub fn check_job(
    check: &JobCheck,
    number: usize,
    settings: &KubernetesSettings,
    values: &Values,
    rules: &ManifestRules,
) -> Result<Manifest, RenderError> {
    const FILE: &str = "preset check.yaml";
    let mut context = values.context(settings, rules)?;
    let texts = Templates::new(context.clone());
    let image = check.image.as_deref().map(|image| texts.text("checks.image", image)).transpose()?;
    if image.is_none() && context.get("image").is_none() {
        return Err(RenderError::file(
            ".greenroom.yml checks",
            "a job needs an image here, the preview names none",
        ));
    }
    context["check"] = serde_json::json!({
        "number": number,
        "seconds": check.timeout.duration().as_secs(),
        "image": image,
        "command": check.command,
    });
    let template = include_str!("../../../templates/kubernetes/check.yaml");
    let found = Templates::new(context).documents(FILE, template, &Files::new())?;
    let mut manifests = documents::manifests(found)?;
    let mut job =
        manifests.pop().ok_or_else(|| RenderError::file(FILE, "it renders to no objects at all"))?;
    rules.check(&mut job, values)?;
    Ok(job)
}

/// The image that the settings ask for, before it is looked up in the registry.
///
/// # Errors
/// When the template is wrong.
pub fn image(settings: &KubernetesSettings, values: &Values) -> Result<Option<String>, RenderError> {
    let templates = Templates::new(values.plain()?);
    settings.image.as_deref().map(|image| templates.text("kubernetes.image", image)).transpose()
}

/// Every template of a folder that is not there for others, in the order of their names.
fn all(templates: &Templates, files: &Files, place: &str) -> Result<Vec<Document>, RenderError> {
    let mut documents = Vec::new();
    for (name, text) in files.iter().filter(|(name, _)| !folder::is_partial(name)) {
        documents.extend(templates.documents(&format!("{place}/{name}"), text, files)?);
    }
    Ok(documents)
}

#[cfg(test)]
mod tests;
