//! The part of the static-site engine.

use schemars::JsonSchema;
use serde::Deserialize;

use super::RelativePath;

/// The static-site engine's part.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StaticSettings {
    /// Name of the job whose artifact is served.
    #[schemars(with = "String", length(min = 1, max = 255))]
    #[serde(deserialize_with = "job_name")]
    pub job: String,
    /// Folder in the artifact that is served, such as `dist`. Default: all of it.
    #[schemars(with = "String")]
    #[serde(default)]
    pub path: RelativePath,
    /// Whether unknown paths get `index.html`, as a single-page application wants it.
    #[serde(default)]
    pub spa: bool,
}

fn job_name<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    checked_job_name(String::deserialize(deserializer)?)
}

/// A name that a job can have.
pub(super) fn checked_job_name<E: serde::de::Error>(name: String) -> Result<String, E> {
    if (1..=255).contains(&name.chars().count()) {
        Ok(name)
    } else {
        Err(E::custom("a job's name has 1 to 255 characters"))
    }
}
