//! Presets: folders with templates, ours or the operator's.

use std::path::Path;

use super::error::RenderError;
use super::folder;
use super::template::Files;

/// The folder of a preset in the program.
macro_rules! folder {
    ($name:literal: $($file:literal),*) => {
        &[$(($file, include_str!(concat!("../../../templates/kubernetes/", $name, "/", $file)))),*]
    };
}

type Layer = &'static [(&'static str, &'static str)];

const WORKER: Layer = folder!("worker": "autoscaler.yaml", "deployment.yaml", "env.yaml", "volumes.yaml");
const WEB: Layer = folder!("web": "_ports.yaml", "route.yaml", "service.yaml");
const WEB_POSTGRES: Layer = folder!("web-postgres": "_env.yaml", "_init.yaml", "postgres.yaml", "seed.yaml");

/// The presets in the program: name, what for, and the folders it is made of.
const PRESETS: [(&str, &str, &[Layer]); 3] = [
    ("web", "a program that answers HTTP: Deployment, Service, Ingress or HTTPRoute", &[WORKER, WEB]),
    (
        "web-postgres",
        "the same with a PostgreSQL database of its own, and a Job that fills it",
        &[WORKER, WEB, WEB_POSTGRES],
    ),
    ("worker", "a program that nobody calls: a Deployment", &[WORKER]),
];

/// Names of the presets in the program, and what each is for.
pub fn presets() -> impl Iterator<Item = (&'static str, &'static str)> {
    PRESETS.iter().map(|(name, purpose, _)| (*name, *purpose))
}

/// The files of the preset `name`; that of the operator's folder wins.
pub(super) fn files(name: &str, folder: Option<&Path>) -> Result<Files, RenderError> {
    if let Some(own) = folder.map(|folder| folder.join(name)).filter(|own| own.is_dir()) {
        return folder::read(&own, Path::new(""), &format!("preset {name}"));
    }
    let Some((_, _, layers)) = PRESETS.iter().find(|(known, ..)| *known == name) else {
        let known: Vec<_> = presets().map(|(name, _)| name).collect();
        let problem = format!("there is no preset {name}, expected one of {}", known.join(", "));
        return Err(RenderError::file(".greenroom.yml kubernetes.preset", problem));
    };
    let files = layers.iter().flat_map(|layer| layer.iter());
    Ok(files.map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect())
}
