//! Text in, text out: `.greenroom.yml` and the templates.
//!
//! Needs: nothing but what it is handed, and the folder of the repository where it is handed one; Helm and Kustomize by
//! way of [`process`](crate::process). What strangers wrote comes in as plain text and goes out quoted.

pub mod kubernetes;
mod manifest;
mod note;
mod project_file;

pub use manifest::{Manifest, Source};
pub use note::{NoteFacts, marker, marker_matches, note};
pub use project_file::{
    Check, FileError, Helm, HttpCheck, JobCheck, KubernetesSettings, KubernetesSource, PROJECT_FILE,
    Patience, Pattern, ProjectFile, RelativePath, StaticSettings, UrlPath, WaitFor, Workload, schema,
};
