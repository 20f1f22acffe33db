//! Charts, rendered by Helm's own program. It never goes to the network and never asks a cluster: what would is refused
//! before it starts.

use std::ffi::OsString;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use regex::Regex;
use serde_json::Value;

use super::documents::{self, Document};
use super::error::RenderError;
use super::marks::Marks;
use super::template::{Author, Files, Source, Templates};
use super::values::Values;
use super::work::{self, Work};
use super::{Tools, folder};
use crate::process::{self, Call, Limits};
use crate::render::Helm;

pub(super) const LIMITS: Limits = Limits { time: Duration::from_secs(30), memory: 1 << 30, output: 4 << 20 };

/// The objects of a chart. The files with values are templates of ours, the chart is not.
pub(super) async fn documents(
    helm: &Helm,
    tree: &Path,
    templates: &Templates,
    values: &Values,
    tools: &Tools,
) -> Result<Vec<Document>, RenderError> {
    let place = folder::shown(helm.chart.as_path());
    let Some(program) = &tools.helm else {
        return Err(RenderError::Trouble(String::from(
            "helm is not installed on the server; the operator can install it in a folder of its `PATH`",
        )));
    };
    let work = Work::new(tree)?;
    let chart = work.find(helm.chart.as_path(), Path::is_dir)?;
    check(&work, helm.chart.as_path())?;
    let mut arguments: Vec<OsString> = ["template", release(values.name.as_str())].map(Into::into).into();
    arguments.push(chart.into());
    arguments.extend(["--namespace", values.name.as_str(), "--skip-tests"].map(Into::into));
    let mut sources = Vec::new();
    for path in helm.values.iter().map(crate::render::RelativePath::as_path) {
        let file = work.find(path, Path::is_file)?;
        let place = path.display().to_string();
        sources.push(Source { text: work::text(&file, &place)?, place });
        arguments.extend([OsString::from("--values"), file.into()]);
    }
    let rendered = templates.documents(sources, &Files::new(), Author::Stranger).await?;
    for (path, documents) in helm.values.iter().zip(rendered) {
        work.write(path.as_path(), &documents)?;
    }
    let call = Call { program, arguments: &arguments, folder: work.path(), input: &[], limits: LIMITS };
    let output =
        process::run(call).await.map_err(|error| work::refused(&place, work.path(), "helm", error))?;
    let output = String::from_utf8_lossy(&output);
    let mut documents = documents::parse(&format!("helm {place}"), &output, &Marks::new())?;
    name_sources(&mut documents, &output, &place);
    documents.retain(|document| !is_left_out(&document.value));
    Ok(documents)
}

/// The name of the release: the preview's, as much of it as Helm takes. It is alone in its namespace.
fn release(name: &str) -> &str {
    const LONGEST: usize = 53;
    name.get(..LONGEST).unwrap_or(name).trim_end_matches('-')
}

/// Names the files of the chart that documents come from, as Helm tells it in a comment before each. Which of a file's documents
/// one is, and in which line, cannot be told: Helm sorts them.
fn name_sources(documents: &mut [Document], output: &str, place: &str) {
    let lines: Vec<&str> = output.lines().collect();
    for Document { source, .. } in documents {
        let until = source.line.and_then(|line| usize::try_from(line).ok()).unwrap_or(0).min(lines.len());
        let told = lines[..until].iter().rev().find_map(|line| line.strip_prefix("# Source: "));
        // It begins with the chart's name, which need not be its folder's.
        let Some((_, file)) = told.and_then(|told| told.split_once('/')) else { continue };
        *source = crate::render::Source { file: folder::within(place, file), document: 1, line: None };
    }
}

/// Whether an object is a hook for something else than installing and upgrading, such as for deleting: it is not for now.
fn is_left_out(object: &Value) -> bool {
    let hooks = object.pointer("/metadata/annotations/helm.sh~1hook").and_then(Value::as_str);
    let now = ["pre-install", "post-install", "pre-upgrade", "post-upgrade"];
    hooks.is_some_and(|hooks| !hooks.split(',').any(|hook| now.contains(&hook.trim())))
}

/// Refuses what Helm would have to fetch or to ask a cluster for.
fn check(work: &Work, chart: &Path) -> Result<(), RenderError> {
    let name = chart.join("Chart.yaml");
    let file = name.display().to_string();
    let text = work::text(&work.find(&name, Path::is_file)?, &file)?;
    let about = work::yaml(&text, &file)?;
    let vendored = work.path().join(chart).join("charts");
    for dependency in about["dependencies"].as_array().into_iter().flatten() {
        let name = dependency["name"].as_str().unwrap_or_default();
        if !lies_in(&vendored, name) {
            let line = line_of(&text, &format!("name: {name}"));
            let problem = format!(
                "dependency {name} is not in the repository, and nothing is fetched; run `helm dependency build` and \
                 commit charts/"
            );
            return Err(RenderError::line(&file, line, problem));
        }
    }
    for part in ["templates", "charts"].map(|part| chart.join(part)) {
        let place = folder::shown(&part);
        if !work.path().join(&part).is_dir() {
            continue;
        }
        for (name, text) in folder::read_all(work.path(), &part, &place, &["yaml", "yml", "tpl", "txt"])? {
            if let Some(line) = asks_cluster(&text) {
                let problem = "lookup asks a cluster, and rendering has none; expected a value in its place";
                return Err(RenderError::line(&folder::within(&place, &name), line, problem));
            }
        }
    }
    Ok(())
}

/// Whether a chart of this name lies in the folder, unpacked or packed.
fn lies_in(folder: &Path, name: &str) -> bool {
    let Ok(entries) = folder.read_dir() else { return false };
    entries.filter_map(Result::ok).any(|entry| {
        let found = entry.file_name().to_string_lossy().into_owned();
        found == name
            || found.strip_suffix(".tgz").and_then(|packed| packed.strip_prefix(name)).is_some_and(
                |version| {
                    version
                        .strip_prefix('-')
                        .is_some_and(|version| version.starts_with(|c: char| c.is_ascii_digit()))
                },
            )
    })
}

/// The line, counted from 1, of an action of a template that calls `lookup`.
fn asks_cluster(text: &str) -> Option<u64> {
    static ACTION: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"(?s)\{\{.*?\}\}").ok());
    static CALL: LazyLock<Option<Regex>> = LazyLock::new(|| {
        // Texts and comments first: what they hold is no call.
        Regex::new(r#"(?s)"(?:\\.|[^"\\])*"|`[^`]*`|/\*.*?\*/|[.$\w]*\blookup\b"#).ok()
    });
    let (action, call) = (ACTION.as_ref()?, CALL.as_ref()?);
    action.find_iter(text).find_map(|action| {
        let found = call.find_iter(action.as_str()).find(|found| found.as_str() == "lookup")?;
        Some(text[..action.start() + found.start()].lines().count().max(1) as u64)
    })
}

/// The line, counted from 1, in which a text stands first.
pub(super) fn line_of(text: &str, part: &str) -> u64 {
    text.find(part).map_or(1, |at| text[..at].matches('\n').count() as u64 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_of_lookup_is_found_and_nothing_else() {
        for (text, line) in [
            ("a\n{{ lookup \"v1\" \"Secret\" \"\" \"\" }}\n", Some(2)),
            ("{{- $s := (lookup \"v1\" \"Secret\" .Release.Namespace \"x\") -}}", Some(1)),
            ("{{ if\n  (lookup \"v1\" \"Pod\" \"\" \"\") }}", Some(2)),
            ("{{ .Values.lookup }}\nlookup", None),
            ("{{ \"lookup\" }} {{ `lookup` }} {{/* lookup */}}", None),
            ("{{ $lookup }} {{ lookups }}", None),
        ] {
            assert_eq!(asks_cluster(text), line, "{text}");
        }
    }
}
