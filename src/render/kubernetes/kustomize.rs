//! Kustomizations, built by Kustomize's own program. It never goes to the network and starts nothing: what would is
//! refused before it starts.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use super::documents::{self, Document};
use super::error::RenderError;
use super::helm::{LIMITS, line_of};
use super::marks::Marks;
use super::template::{self, Author, Files, Source, Templates};
use super::work::{self, Work};
use super::{Tools, folder};
use crate::process::{self, Call};

const NAMES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// Keys that name files or folders, at any depth.
const PATHS: [&str; 11] = [
    "bases",
    "components",
    "configurations",
    "crds",
    "env",
    "envs",
    "files",
    "patchesStrategicMerge",
    "path",
    "resources",
    "openapi",
];

/// Keys that start programs or fetch charts.
const REFUSED: [(&str, &str); 6] = [
    ("generators", "generators can start programs"),
    ("transformers", "transformers can start programs"),
    ("validators", "validators can start programs"),
    ("helmCharts", "helmCharts fetches charts"),
    ("helmChartInflationGenerator", "helmChartInflationGenerator fetches charts"),
    ("helmGlobals", "helmGlobals is for charts that are fetched"),
];

/// The objects of a kustomization. The YAML of its own folder are templates of ours, what it builds on is not.
pub(super) async fn documents(
    path: &Path,
    tree: &Path,
    templates: &Templates,
    tools: &Tools,
) -> Result<Vec<Document>, RenderError> {
    let place = folder::shown(path);
    let Some(program) = &tools.kustomize else {
        return Err(RenderError::Trouble(String::from(
            "kustomize is not installed on the server; the operator can install it in a folder of its `PATH`",
        )));
    };
    let work = Work::new(tree)?;
    let folder = work.find(path, Path::is_dir)?;
    let (names, sources): (Vec<_>, Vec<_>) = folder::read(work.path(), path, &place)?
        .into_iter()
        // What is no template stays as it was written: it may be a file that becomes part of a ConfigMap.
        .filter(|(_, text)| template::is_one(text))
        .map(|(name, text)| (path.join(&name), Source { place: folder::within(&place, &name), text }))
        .unzip();
    let rendered = templates.documents(sources, &Files::new(), Author::Stranger).await?;
    for (name, documents) in names.iter().zip(rendered) {
        work.write(name, &documents)?;
    }
    check(&work, tree, path, &mut BTreeSet::new())?;
    ask_for_origins(&work, path)?;
    let arguments = ["build".into(), folder.into_os_string()];
    let call = Call { program, arguments: &arguments, folder: work.path(), input: &[], limits: LIMITS };
    let output =
        process::run(call).await.map_err(|error| work::refused(&place, work.path(), "kustomize", error))?;
    let output = String::from_utf8_lossy(&output);
    let mut documents = documents::parse(&format!("kustomize {place}"), &output, &Marks::new())?;
    for document in &mut documents {
        name_origin(document, path);
    }
    Ok(documents)
}

/// Has Kustomize note in each object which file it comes from.
fn ask_for_origins(work: &Work, path: &Path) -> Result<(), RenderError> {
    let Some(name) = kustomization(work, path) else { return Ok(()) };
    let file = name.display().to_string();
    let mut value = work::yaml(&work::text(&work.path().join(&name), &file)?, &file)?;
    let Some(keys) = value.as_object_mut() else { return Ok(()) };
    let notes = keys.entry("buildMetadata").or_insert(Value::Null);
    let mut wanted = notes.as_array().cloned().unwrap_or_default();
    let origins = Value::from("originAnnotations");
    if !wanted.contains(&origins) {
        wanted.push(origins);
    }
    *notes = Value::Array(wanted);
    let source = crate::render::Source { file, document: 1, line: None };
    work.write(&name, &[Document { value, source }])
}

/// Takes what Kustomize has noted, and names the file.
fn name_origin(document: &mut Document, folder: &Path) {
    let Some(metadata) = document.value["metadata"].as_object_mut() else { return };
    let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) else { return };
    let origin = annotations.remove("config.kubernetes.io/origin");
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
    let origin: Option<Value> = origin.and_then(|origin| serde_saphyr::from_str(origin.as_str()?).ok());
    let told = origin.as_ref().and_then(|origin| origin["path"].as_str().or(origin["configuredIn"].as_str()));
    if let Some(file) = told.and_then(|told| joined(folder, told)) {
        document.source = crate::render::Source { file: file.display().to_string(), document: 1, line: None };
    }
}

/// The file of a folder's kustomization.
fn kustomization(work: &Work, path: &Path) -> Option<PathBuf> {
    NAMES.into_iter().map(|name| path.join(name)).find(|name| work.path().join(name).is_file())
}

/// Checks a folder's kustomization, and those that it builds on. Lines are those of the file as it was written.
fn check(work: &Work, tree: &Path, path: &Path, seen: &mut BTreeSet<PathBuf>) -> Result<(), RenderError> {
    if !seen.insert(path.to_owned()) {
        return Ok(());
    }
    let Some(name) = kustomization(work, path) else {
        let problem = "there is no kustomization.yaml in that folder";
        return Err(RenderError::file(&folder::shown(path), problem));
    };
    let file = name.display().to_string();
    let written = work::text(&tree.join(&name), &file)?;
    let kustomization = work::yaml(&work::text(&work.path().join(&name), &file)?, &file)?;
    for (key, why) in REFUSED {
        if !kustomization[key].is_null() {
            let problem = format!("{why}, which greenroom does not let them");
            return Err(RenderError::line(&file, line_of(&written, &format!("{key}:")), problem));
        }
    }
    let mut named = Vec::new();
    paths(&kustomization, None, &mut named);
    for text in named {
        let line = line_of(&written, text);
        let target = text.split_once('=').map_or(text, |(_, target)| target);
        let inside = joined(path, target).filter(|inside| work.path().join(inside).exists());
        let Some(inside) = inside.filter(|_| !target.contains("://")) else {
            let problem =
                format!("{text} is not in the repository, and nothing is fetched or followed out of it");
            return Err(RenderError::line(&file, line, problem));
        };
        if work.path().join(&inside).is_dir() {
            check(work, tree, &inside, seen)?;
        }
    }
    Ok(())
}

/// The texts under the keys that name files.
fn paths<'a>(value: &'a Value, key: Option<&str>, found: &mut Vec<&'a str>) {
    match value {
        Value::String(text) if key.is_some_and(|key| PATHS.contains(&key)) && !text.contains('\n') => {
            found.push(text);
        }
        Value::Array(items) => items.iter().for_each(|item| paths(item, key, found)),
        Value::Object(map) => {
            for (key, value) in map {
                // Patches by JSON have paths of their own, in the object.
                if !["commonAnnotations", "commonLabels", "labels", "options", "patch", "target"]
                    .contains(&&**key)
                {
                    paths(value, Some(key), found);
                }
            }
        }
        _ => {}
    }
}

/// `target` as seen from `folder`, without `..`; `None` when it leads out of the tree.
fn joined(folder: &Path, target: &str) -> Option<PathBuf> {
    let mut whole = folder.to_owned();
    for part in Path::new(target).components() {
        match part {
            Component::CurDir => {}
            Component::Normal(part) => whole.push(part),
            Component::ParentDir => {
                if !whole.pop() {
                    return None;
                }
            }
            _ => return None,
        }
    }
    Some(whole)
}
