//! `greenroom init`: a first `.greenroom.yml` for what lies in a repository, and why it is as it is.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;
use serde_saphyr::options::DuplicateKeyPolicy;

use super::{Failure, output};
use crate::render::{PROJECT_FILE, ProjectFile};

#[derive(Debug, clap::Args)]
pub(super) struct Flags {
    /// A checkout.
    #[arg(default_value = ".")]
    folder: PathBuf,
}

/// What was found, and what follows from it.
struct Found {
    /// Sentences for people.
    why: Vec<String>,
    /// The lines after `version`.
    file: String,
}

pub(super) fn run(flags: &Flags) -> Result<(), Failure> {
    let path = flags.folder.join(PROJECT_FILE);
    let look = [chart, kustomization, dockerfile, site];
    let Some(Found { why, file }) = look.into_iter().find_map(|look| look(&flags.folder)) else {
        return Err(Failure::Findings(String::from(
            "error: there is nothing here that could be previewed: no chart, no kustomization, no Dockerfile, no \
             package.json, no job with artifacts\nhint: run it at the top of a repository, or write the file by hand: \
             `greenroom schema` knows its keys",
        )));
    };
    let text = format!("version: 1\n{file}expires_after: 7d\n");
    ProjectFile::parse(&text).context("the file that was made is wrong")?;
    let mut created = match OpenOptions::new().write(true).create_new(true).open(&path) {
        Ok(created) => created,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            return Err(Failure::Findings(format!(
                "error: `{0}` is there already, and stays as it is\nhint: check it with `greenroom check {0}`",
                path.display()
            )));
        }
        Err(error) => {
            return Err(anyhow::Error::new(error).context(format!("cannot write {}", path.display())).into());
        }
    };
    created.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
    for sentence in why {
        output::prose(&sentence);
    }
    output::prose(&format!("wrote `{}`:", path.display()));
    output::data(text.trim_end());
    Ok(())
}

/// A Helm chart, where charts usually lie.
fn chart(top: &Path) -> Option<Found> {
    let usual = ["chart", "helm", "deploy/chart", "deploy/helm", "."].map(PathBuf::from);
    let in_charts = folders(top, "charts").into_iter();
    let chart =
        usual.into_iter().chain(in_charts).find(|folder| top.join(folder).join("Chart.yaml").is_file())?;
    let chart = slashed(&chart);
    Some(Found {
        why: vec![
            format!("`{chart}/Chart.yaml` is there: the preview is that chart, rendered by helm."),
            String::from(
                "Name a file with values to set what differs in a preview; it is a template, such as",
            ),
            String::from("  image: {repository: \"{{ registry_image }}\", tag: \"{{ sha }}\"}"),
        ],
        file: format!("engine: kubernetes\nkubernetes:\n  helm: {{chart: {chart}, values: []}}\n"),
    })
}

/// A kustomization; an overlay that is meant for this comes first.
fn kustomization(top: &Path) -> Option<Found> {
    let mut candidates = Vec::new();
    for root in ["k8s", "kustomize", "deploy", "kubernetes"] {
        for overlay in ["review", "preview", "dev", "development", "staging"] {
            candidates.push(Path::new(root).join("overlays").join(overlay));
        }
        candidates.push(Path::new(root).join("base"));
        candidates.push(PathBuf::from(root));
    }
    candidates.push(PathBuf::from("."));
    let is = |folder: &PathBuf| {
        let names = ["kustomization.yaml", "kustomization.yml", "Kustomization"];
        names.iter().any(|name| top.join(folder).join(name).is_file())
    };
    let folder = slashed(&candidates.into_iter().find(is)?);
    Some(Found {
        why: vec![
            format!("`{folder}` has a kustomization: the preview is what kustomize builds of it."),
            String::from(
                "The YAML files in that folder are templates: `newTag: \"{{ sha }}\"` is the commit's image.",
            ),
        ],
        file: format!("engine: kubernetes\nkubernetes:\n  kustomize: {folder}\n"),
    })
}

/// A Dockerfile, and the port it speaks of.
fn dockerfile(top: &Path) -> Option<Found> {
    let name = ["Dockerfile", "Containerfile"].into_iter().find(|name| top.join(name).is_file())?;
    let text = fs::read_to_string(top.join(name)).unwrap_or_default();
    let port = text.lines().rev().find_map(|line| {
        let (word, ports) = line.trim().split_once(char::is_whitespace)?;
        let port = ports.split_whitespace().next()?.split('/').next()?.parse::<u16>().ok()?;
        (word.eq_ignore_ascii_case("EXPOSE") && port != 0).then_some(port)
    });
    let mut why = vec![
        format!(
            "`{name}` is there: the preview is a container of that image, on a cluster, by the preset web."
        ),
        String::from("The pipeline has to push the image as `$CI_REGISTRY_IMAGE:$CI_COMMIT_SHA`."),
    ];
    why.push(port.map_or_else(
        || String::from("It has no EXPOSE with a number: 8080 is a guess, change it if the program listens elsewhere."),
        |port| format!("It says EXPOSE {port}: that is the port."),
    ));
    let port = port.unwrap_or(8080);
    Some(Found {
        why,
        file: format!(
            "engine: kubernetes\nkubernetes:\n  preset: web\n  image: \"{{{{ registry_image }}}}:{{{{ sha }}}}\"\n  port: {port}\nwait_for: pipeline\n"
        ),
    })
}

/// A static site: a job of the pipeline with artifacts, or at least a `package.json`.
fn site(top: &Path) -> Option<Found> {
    const FOLDERS: [&str; 6] = ["dist", "build", "public", "_site", "out", "site"];
    let mut jobs = pipeline(top).into_iter().filter_map(|(job, about)| {
        let paths = about["artifacts"]["paths"].as_array()?;
        let named = |path: &str| {
            let path = ["./", "$CI_PROJECT_DIR/", "${CI_PROJECT_DIR}/"]
                .into_iter()
                .find_map(|top| path.strip_prefix(top))
                .unwrap_or(path);
            let path = path.trim_end_matches(['*', '/']).to_owned();
            FOLDERS.into_iter().find(|folder| path == *folder)
        };
        let folder = paths.iter().filter_map(Value::as_str).find_map(named)?;
        // What all jobs have by default is no job.
        (!job.starts_with('.') && job != "default").then_some((job, folder))
    });
    let (why, job, folder) = if let Some((job, folder)) = jobs.next() {
        let why = format!(
            "Job `{job}` of `.gitlab-ci.yml` keeps `{folder}`: the preview is that folder, served as it is."
        );
        (why, job, folder)
    } else if top.join("package.json").is_file() {
        let why = "`package.json` is there, and no job of `.gitlab-ci.yml` keeps a site: give a job `build` the artifact `dist`.";
        (why.to_owned(), String::from("build"), "dist")
    } else {
        return None;
    };
    let job = Value::String(job);
    Some(Found { why: vec![why], file: format!("engine: static\nstatic: {{job: {job}, path: {folder}}}\n") })
}

/// What stands in a `.gitlab-ci.yml`, without the header that some have; nothing where there is none that can be read.
fn pipeline(top: &Path) -> serde_json::Map<String, Value> {
    let text = fs::read_to_string(top.join(".gitlab-ci.yml")).unwrap_or_default();
    // GitLab takes the last of two keys that are the same.
    let options = serde_saphyr::options! { duplicate_keys: DuplicateKeyPolicy::LastWins };
    let documents = serde_saphyr::from_multiple_with_options::<Value>(&text, options).unwrap_or_default();
    match documents.into_iter().next_back() {
        Some(Value::Object(pipeline)) => pipeline,
        _ => serde_json::Map::new(),
    }
}

/// The folders in a folder, in the order of their names.
fn folders(top: &Path, folder: &str) -> Vec<PathBuf> {
    let Ok(entries) = top.join(folder).read_dir() else { return Vec::new() };
    let mut found: Vec<_> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| Path::new(folder).join(entry.file_name()))
        .collect();
    found.sort();
    found
}

/// As it is written in YAML, whatever it holds.
fn slashed(path: &Path) -> String {
    let text = path.to_string_lossy().replace('\\', "/");
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    if plain { text } else { Value::String(text).to_string() }
}
