//! From `.greenroom.yml` to the objects of a preview.
//!
//! Needs: the settings, the repository's files where they are asked for, values, rules. Properties:
//! * Whatever `{{ }}` writes is data: it cannot add a key or a document (`marks.rs`).
//! * Nothing outside of the tree is read; links are refused.
//! * What is returned has passed the rules ([`ManifestRules`]); every refusal names file, document and field.

mod apart;
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

pub use apart::{VERB as APART, answer as render_apart};
pub use error::RenderError;
pub use policy::{Exception, Exposure, ManifestRules};
pub use preset::presets;
pub use values::{Values, password};

use crate::process;

use super::{JobCheck, KubernetesSettings, KubernetesSource, Manifest};
use documents::Document;
use template::{Author, Files, Source, Templates};

/// What rendering uses beside its input.
#[derive(Debug, Clone, Default)]
pub struct Tools {
    /// The program `helm`, version 3 or 4, when it is installed.
    pub helm: Option<PathBuf>,
    /// The program `kustomize`, when it is installed.
    pub kustomize: Option<PathBuf>,
    /// The operator's own presets: a folder with a folder for each.
    pub presets: Option<PathBuf>,
    /// The program itself, which renders what strangers wrote in a process apart by its verb [`APART`]. Without, templates
    /// are rendered in this process.
    pub renderer: Option<PathBuf>,
}

impl Tools {
    /// Those that lie in the folders of a `PATH`.
    pub fn find(path: &OsStr) -> Self {
        Self {
            helm: process::find("helm", path),
            kustomize: process::find("kustomize", path),
            ..Self::default()
        }
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
    let context = values.context(settings, rules, tools).await?;
    let templates = Templates::new(context, tools);
    let documents = match settings.source() {
        KubernetesSource::Preset(name) => {
            let files = preset::files(name, tools.presets.as_deref())?;
            all(&templates, &files, &format!("preset {name}"), Author::Trusted).await?
        }
        KubernetesSource::Manifests(path) => {
            let place = folder::shown(path);
            let files = folder::read(tree, path, &place)?;
            if files.is_empty() {
                return Err(RenderError::file(&place, "there is no *.yaml and no *.yml in that folder"));
            }
            all(&templates, &files, &place, Author::Stranger).await?
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

/// The Job of a check, the `number`th of the project file's, in the run of checks that is called `run`: a DNS label of at most
/// 20 characters. The image of `check` is no template here, but what [`check_image`] was found to be.
///
/// # Errors
/// When a template is wrong, or the Job is not allowed.
pub async fn check_job(
    check: &JobCheck,
    number: usize,
    run: &str,
    settings: &KubernetesSettings,
    values: &Values,
    rules: &ManifestRules,
    tools: &Tools,
) -> Result<Manifest, RenderError> {
    const FILE: &str = "preset check.yaml";
    let mut context = values.context(settings, rules, tools).await?;
    if check.image.is_none() && context.get("image").is_none() {
        return Err(RenderError::file(
            ".greenroom.yml checks",
            "a job needs an image here, the preview names none",
        ));
    }
    context["check"] = serde_json::json!({
        "number": number,
        "run": run,
        "seconds": check.timeout.duration().as_secs(),
        "image": check.image,
        "command": check.command,
    });
    let text = include_str!("../../../templates/kubernetes/check.yaml").to_owned();
    let source = Source { place: String::from(FILE), text };
    let templates = Templates::new(context, tools);
    let found = templates.documents(vec![source], &Files::new(), Author::Trusted).await?;
    let mut manifests = documents::manifests(found.concat())?;
    let mut job =
        manifests.pop().ok_or_else(|| RenderError::file(FILE, "it renders to no objects at all"))?;
    rules.check(&mut job, values)?;
    Ok(job)
}

/// The image that the settings ask for, before it is looked up in the registry.
///
/// # Errors
/// When the template is wrong.
pub async fn image(
    settings: &KubernetesSettings,
    values: &Values,
    tools: &Tools,
) -> Result<Option<String>, RenderError> {
    let Some(image) = &settings.image else { return Ok(None) };
    Templates::new(values.plain()?, tools).text("kubernetes.image", image).await.map(Some)
}

/// The image that a check by a Job asks for, before it is looked up in the registry; `None` for the preview's.
///
/// # Errors
/// When the template is wrong.
pub async fn check_image(
    check: &JobCheck,
    values: &Values,
    tools: &Tools,
) -> Result<Option<String>, RenderError> {
    let Some(image) = &check.image else { return Ok(None) };
    Templates::new(values.plain()?, tools).text("checks.image", image).await.map(Some)
}

/// Every template of a folder that is not there for others, in the order of their names.
async fn all(
    templates: &Templates,
    files: &Files,
    place: &str,
    author: Author,
) -> Result<Vec<Document>, RenderError> {
    let whole = files.iter().filter(|(name, _)| !folder::is_partial(name));
    let sources = whole.map(|(name, text)| Source { place: folder::within(place, name), text: text.clone() });
    Ok(templates.documents(sources.collect(), files, author).await?.concat())
}

#[cfg(test)]
mod tests;
