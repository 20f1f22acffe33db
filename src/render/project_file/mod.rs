//! `.greenroom.yml`: what a project says about its previews.

mod check;
mod error;
mod kubernetes;
mod path;
mod static_site;
mod text;
mod wait_for;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_saphyr::Spanned;

pub use check::{Check, HttpCheck, JobCheck, Pattern};
pub use error::FileError;
pub(super) use error::plain;
pub use kubernetes::{Helm, KubernetesSettings, KubernetesSource};
pub use path::RelativePath;
pub use static_site::StaticSettings;
pub use text::{Patience, UrlPath};
pub use wait_for::WaitFor;

use crate::preview::{EngineKind, Lifetime, When};

/// Where the file lies in a repository.
pub const PROJECT_FILE: &str = ".greenroom.yml";

/// The contents of a `.greenroom.yml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectFile {
    /// What runs.
    pub workload: Workload,
    /// What has to be there before a head is deployed.
    pub wait_for: WaitFor,
    /// What is to be asked of the preview once it is ready; read, and not run yet.
    pub checks: Vec<Check>,
    /// How long a preview lives after the last deploy of a new head.
    pub expires_after: Option<Lifetime>,
    /// Which merge requests get a preview.
    pub when: When,
}

/// What runs, and on which engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Workload {
    /// A job's artifact.
    Static(StaticSettings),
    /// Objects on a cluster.
    Kubernetes(Box<KubernetesSettings>),
}

impl Workload {
    /// What runs it.
    pub const fn engine(&self) -> EngineKind {
        match self {
            Self::Static(_) => EngineKind::Static,
            Self::Kubernetes(_) => EngineKind::Kubernetes,
        }
    }
}

/// The file as it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    title = ".greenroom.yml",
    description = "What a project says about its previews. Lies at the top of the repository.",
    extend("oneOf" = [
        { "properties": { "engine": { "const": "static" }, "kubernetes": false }, "required": ["static"] },
        { "properties": { "engine": { "const": "kubernetes" }, "static": false }, "required": ["kubernetes"] },
    ])
)]
struct Written {
    /// Version of this format.
    #[schemars(with = "u64", extend("const" = 1))]
    #[expect(dead_code, reason = "checked while it is read")]
    version: Version,
    /// What runs the preview.
    #[schemars(with = "EngineKind")]
    engine: Spanned<EngineKind>,
    /// The static-site engine: a job's artifact, served as it is. Required when `engine` is `static`.
    #[schemars(with = "Option<StaticSettings>")]
    #[serde(rename = "static")]
    site: Option<Spanned<StaticSettings>>,
    /// The engine for clusters: objects in a namespace of its own. Required when `engine` is `kubernetes`.
    #[schemars(with = "Option<KubernetesSettings>")]
    kubernetes: Option<Spanned<KubernetesSettings>>,
    /// What has to be there before a head is deployed. Default: `job` for engine static, `pipeline` for engine kubernetes.
    #[schemars(with = "Option<wait_for::Written>")]
    wait_for: Option<Spanned<wait_for::Written>>,
    /// What is asked of a preview once it is ready, at most 20 checks. A check that fails takes nothing away.
    #[serde(default)]
    #[schemars(with = "Vec<check::Written>", length(max = 20))]
    checks: Vec<Spanned<check::Written>>,
    /// How long a preview lives after the last deploy of a new head, such as `7d`, `36h` or `90m`. Without it, until the
    /// merge request is closed or merged.
    #[schemars(with = "Option<String>")]
    expires_after: Option<Lifetime>,
    /// Which merge requests get a preview. Without it, all of them.
    #[serde(default)]
    when: When,
}

#[derive(Deserialize)]
#[serde(try_from = "u64")]
struct Version;

impl TryFrom<u64> for Version {
    type Error = String;

    fn try_from(number: u64) -> Result<Self, String> {
        if number == 1 { Ok(Self) } else { Err(format!("version {number} is not known, expected 1")) }
    }
}

/// The largest file that is read.
const LARGEST: usize = 64 << 10;

impl ProjectFile {
    /// Reads the text of a `.greenroom.yml`.
    pub fn parse(text: &str) -> Result<Self, FileError> {
        if text.len() > LARGEST {
            let problem = format!("the file has {} bytes, at most {LARGEST} are read", text.len());
            return Err(FileError { place: None, problem });
        }
        if text.trim().is_empty() {
            let problem = String::from("the file is empty, expected version, engine and its section");
            return Err(FileError { place: Some((1, 1)), problem });
        }
        let mut written: Written = serde_saphyr::from_str(text).map_err(|error| {
            let place = error.location().map(|location| (location.line(), location.column()));
            FileError { place, problem: plain(&error) }
        })?;
        let wait_for = written.wait_for()?;
        let workload = written.workload()?;
        let checks = written.checks.into_iter().enumerate().map(|(number, check)| {
            let at = check.referenced;
            check.value.check(&workload, number).map_err(|problem| FileError::at(at, problem))
        });
        let checks = checks.collect::<Result<_, _>>()?;
        Ok(Self { workload, wait_for, checks, expires_after: written.expires_after, when: written.when })
    }
}

impl Written {
    /// The engine's section. That of another engine would never be looked at.
    fn workload(&mut self) -> Result<Workload, FileError> {
        let engine = self.engine.referenced;
        match (self.engine.value, self.site.take(), self.kubernetes.take()) {
            (EngineKind::Static, Some(site), None) => Ok(Workload::Static(site.value)),
            (EngineKind::Kubernetes, None, Some(settings)) => {
                let Spanned { value, referenced, .. } = settings;
                value.check().map_err(|problem| FileError::at(referenced, problem))?;
                Ok(Workload::Kubernetes(Box::new(value)))
            }
            (EngineKind::Static, None, _) => Err(FileError::at(
                engine,
                "engine static needs a section static, such as static: {job: build, path: dist}",
            )),
            (EngineKind::Kubernetes, _, None) => Err(FileError::at(
                engine,
                "engine kubernetes needs a section kubernetes, such as kubernetes: {preset: web, image: ...}",
            )),
            (EngineKind::Static, _, Some(other)) => {
                Err(FileError::at(other.referenced, "engine static has no use for a section kubernetes"))
            }
            (EngineKind::Kubernetes, Some(other), _) => {
                Err(FileError::at(other.referenced, "engine kubernetes has no use for a section static"))
            }
        }
    }

    fn wait_for(&self) -> Result<WaitFor, FileError> {
        use wait_for::Written as Word;
        let own_job = self.site.as_ref().map(|site| site.value.job.clone());
        let Some(written) = &self.wait_for else {
            return Ok(own_job.map_or(WaitFor::Pipeline, WaitFor::Job));
        };
        match (&written.value, own_job) {
            (Word::Pipeline, _) => Ok(WaitFor::Pipeline),
            (Word::Job(Some(name)), _) => Ok(WaitFor::Job(name.clone())),
            (Word::Job(None), Some(name)) => Ok(WaitFor::Job(name)),
            (Word::Image, None) if self.kubernetes.as_ref().is_some_and(|it| it.value.image.is_none()) => {
                Err(FileError::at(
                    written.referenced,
                    "no image is named that could be waited for, expected kubernetes.image",
                ))
            }
            (Word::Image, None) => Ok(WaitFor::Image),
            (Word::Image, Some(_)) => {
                Err(FileError::at(written.referenced, "engine static has no image, expected pipeline or job"))
            }
            (Word::Job(None), None) => Err(FileError::at(
                written.referenced,
                "engine kubernetes has no job of its own, expected one with its name such as {job: build}",
            )),
        }
    }
}

/// The JSON Schema of the file.
pub fn schema() -> schemars::Schema {
    let mut schema = schemars::schema_for!(Written);
    schemars::transform::transform_subschemas(&mut unwrap_descriptions, &mut schema);
    schema
}

/// The doc comments that descriptions are made of have hard line ends.
fn unwrap_descriptions(schema: &mut schemars::Schema) {
    if let Some(serde_json::Value::String(text)) = schema.get_mut("description") {
        *text = text.replace('\n', " ");
    }
    schemars::transform::transform_subschemas(&mut unwrap_descriptions, schema);
}

#[cfg(test)]
mod tests;
