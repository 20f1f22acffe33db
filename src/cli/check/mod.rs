//! `greenroom check`: is what was written right, before anybody runs it?

mod include;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::clusters::on_cluster;
use super::render::{pair, try_out};
use super::{ConfigFlag, Failure, output};
use crate::reconcile::Links;
use crate::render::kubernetes::{ManifestRules, RenderError};
use crate::render::{KubernetesSettings, PROJECT_FILE, ProjectFile, Workload};
use crate::settings::{Layer, OnCluster, Problem, Problems, ProjectSettings, Settings};

/// The pipeline beside a project file.
const PIPELINE: &str = ".gitlab-ci.yml";

#[derive(Debug, clap::Args)]
pub(super) struct Flags {
    #[command(flatten)]
    config: ConfigFlag,
    /// A `.greenroom.yml`. Default: the one in this folder, if there is one.
    file: Option<PathBuf>,
    /// Print what the settings say of this project, such as `acme/web`, and where they say it.
    #[arg(long, value_name = "PATH")]
    project: Option<String>,
    /// A value that the operator has configured for the templates of manifests, as `name=text`; may be given often. Default:
    /// what the settings say of --project.
    #[arg(long, value_name = "NAME=TEXT", value_parser = pair)]
    value: Vec<(String, String)>,
    /// How findings are printed.
    #[arg(long, value_enum, default_value = "text")]
    output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// For people.
    Text,
    /// For scripts.
    Json,
}

#[derive(serde::Serialize)]
struct Finding {
    place: String,
    problem: String,
    remedy: String,
}

/// The settings are checked when there are any: `--config`, or a `GREENROOM_` variable of `serve`.
pub(super) async fn run(flags: Flags) -> Result<(), Failure> {
    let mut findings = Vec::new();
    let mut checked = Vec::new();
    let mut project = None;
    if let Some(path) = flags.project.as_ref().filter(|path| !is_project_path(path)) {
        return Err(Failure::Findings(format!(
            "error: `{path}` is no project's path\nhint: write it as GitLab does, such as `acme/web`"
        )));
    }
    if flags.project.is_some() || flags.config.config.is_some() || Settings::are_given() {
        checked.push(String::from("the settings"));
        let config = flags.config.config.as_deref();
        let (projects, settings) =
            Settings::inspect(config, Layer::default(), super::serve::check_signing_token);
        project = flags.project.as_deref().map(|path| (path, projects.of(path)));
        if let Err(Problems(problems)) = settings {
            findings.extend(problems.into_iter().map(|Problem { name, problem, remedy }| Finding {
                place: name,
                problem,
                remedy,
            }));
        }
    }
    let default = Path::new(PROJECT_FILE);
    let file = flags.file.as_deref().or_else(|| default.exists().then_some(default));
    if let Some(path) = file {
        checked.push(format!("`{}`", path.display()));
        match project_file(path) {
            Ok(ProjectFile { workload: Workload::Kubernetes(settings), .. }) => {
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                let folder = folder.unwrap_or(Path::new("."));
                let values = flags.value.iter().map(|(name, text)| (name.clone(), text.as_str().into()));
                let of_project = project.as_ref().map(|(_, settings)| &settings.on_cluster);
                findings.extend(objects(&settings, folder, values.collect(), of_project).await);
            }
            Ok(_) => {}
            Err(finding) => findings.push(finding),
        }
    }
    let pipeline = file.and_then(Path::parent).unwrap_or(Path::new("")).join(PIPELINE);
    if let Some(found) = pipeline_file(&pipeline) {
        checked.push(format!("`{}`", pipeline.display()));
        findings.extend(found);
    }
    if checked.is_empty() {
        return Err(Failure::Findings(format!(
            "error: there is nothing to check: no `{PROJECT_FILE}` here, no --config, no GREENROOM_ setting\n\
             hint: give a file, `greenroom check path/to/{PROJECT_FILE}`"
        )));
    }
    if flags.output == Format::Json {
        let mut answer = serde_json::json!({ "findings": findings });
        if let Some((path, settings)) = &project {
            answer["project"] = serde_json::json!({ "path": path, "settings": settings });
        }
        output::data(&serde_json::to_string_pretty(&answer)?);
    } else {
        if let Some((path, settings)) = &project {
            output::data(&told(path, settings)?);
        }
        for Finding { place, problem, remedy } in &findings {
            output::data(&format!("{place}: {problem}\n  hint: {remedy}"));
        }
    }
    let checked = checked.join(" and ");
    if findings.is_empty() {
        output::prose(&format!("{checked}: nothing found"));
        return Ok(());
    }
    let count = findings.len();
    Err(Failure::Findings(format!("{checked}: {count} finding{}", if count == 1 { "" } else { "s" })))
}

/// Whether this could be the path of a project: groups and a name, no blanks, nothing that is a glob.
fn is_project_path(path: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
    };
    path.contains('/') && path.split('/').all(part)
}

/// What holds for a project, a line for each setting: name, value, where it was given.
fn told(path: &str, settings: &ProjectSettings) -> Result<String, serde_json::Error> {
    use serde_json::Value;
    let mut lines = vec![path.to_owned()];
    let settings = serde_json::to_value(settings)?;
    for (name, given) in settings.as_object().into_iter().flatten() {
        // What nobody said of clusters is many lines that say nothing.
        if OnCluster::NAMES.contains(&name.as_str()) && given["value"].is_null() {
            continue;
        }
        let value = match (name.as_str(), &given["value"]) {
            ("gitlab_token_file", Value::Null) => String::from("the server's own token"),
            ("engines", Value::Null) => String::from("all"),
            (_, Value::Null) => String::from("no limit"),
            (_, Value::Bool(value)) => String::from(if *value { "yes" } else { "no" }),
            (_, Value::String(value)) => value.clone(),
            (_, Value::Array(values)) if values.is_empty() => String::from("none"),
            (_, Value::Array(values)) if values.iter().all(Value::is_string) => {
                values.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
            }
            (_, other) => other.to_string(),
        };
        lines.push(format!("  {name:<17}  {value:<22}  {}", given["origin"].as_str().unwrap_or_default()));
    }
    Ok(lines.join("\n"))
}

fn project_file(path: &Path) -> Result<ProjectFile, Finding> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| Finding {
        place: name.clone(),
        problem: format!("cannot be read ({error})"),
        remedy: String::from("give the path of a readable file"),
    })?;
    ProjectFile::parse(&text).map_err(|error| Finding {
        place: error.place.map_or_else(|| name.clone(), |(line, column)| format!("{name}:{line}:{column}")),
        problem: error.problem,
        remedy: String::from("compare with the schema: `greenroom schema`"),
    })
}

/// What is wrong with what a preview on a cluster is made of, as far as that shows with a made-up merge request.
async fn objects(
    settings: &KubernetesSettings,
    folder: &Path,
    values: BTreeMap<String, serde_json::Value>,
    given: Option<&OnCluster>,
) -> Option<Finding> {
    let mut rules = ManifestRules::default();
    let mut configured = BTreeMap::new();
    if let Some(given) = given {
        let links =
            Links { scheme: String::from("https"), domain: String::from("preview.example"), port: None };
        let given = on_cluster(&links, given);
        (rules, configured) = (given.rules, given.values);
    } else {
        // Whether the operator gives them is not known here.
        rules.secrets = settings.secrets.iter().map(ToString::to_string).collect();
    }
    configured.extend(values);
    match try_out(settings, folder, configured, rules).await {
        Ok(()) => None,
        Err(RenderError::Refused { place, problem }) => Some(Finding {
            place,
            problem,
            remedy: String::from(
                "`greenroom render` prints what it comes to; a value of the operator's is given with --value",
            ),
        }),
        Err(RenderError::Trouble(why)) => {
            output::prose(&format!("note: its objects are not checked here: {why}"));
            None
        }
    }
}

/// What is wrong with the includes of greenroom in a pipeline; nothing where there is none.
fn pipeline_file(path: &Path) -> Option<Vec<Finding>> {
    let text = std::fs::read_to_string(path).ok()?;
    include::findings(&path.display().to_string(), &text)
}
