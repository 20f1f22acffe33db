//! `greenroom check`: is what was written right, before anybody runs it?

use std::path::{Path, PathBuf};

use super::{ConfigFlag, Failure, output};
use crate::render::{PROJECT_FILE, ProjectFile};
use crate::settings::{Layer, Problem, Problems, Settings};

#[derive(Debug, clap::Args)]
pub(super) struct Flags {
    #[command(flatten)]
    config: ConfigFlag,
    /// A `.greenroom.yml`. Default: the one in this folder, if there is one.
    file: Option<PathBuf>,
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
pub(super) fn run(flags: &Flags) -> Result<(), Failure> {
    let mut findings = Vec::new();
    let mut checked = Vec::new();
    if flags.config.config.is_some() || Settings::are_given() {
        checked.push(String::from("the settings"));
        if let Err(Problems(problems)) = Settings::load(
            flags.config.config.as_deref(),
            Layer::default(),
            super::serve::check_signing_token,
        ) {
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
        findings.extend(project_file(path));
    }
    if checked.is_empty() {
        return Err(Failure::Findings(format!(
            "error: there is nothing to check: no `{PROJECT_FILE}` here, no --config, no GREENROOM_ setting\n\
             hint: give a file, `greenroom check path/to/{PROJECT_FILE}`"
        )));
    }
    if flags.output == Format::Json {
        output::data(&serde_json::to_string_pretty(&serde_json::json!({ "findings": findings }))?);
    } else {
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

fn project_file(path: &Path) -> Option<Finding> {
    let name = path.display().to_string();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            return Some(Finding {
                place: name,
                problem: format!("cannot be read ({error})"),
                remedy: String::from("give the path of a readable file"),
            });
        }
    };
    let error = ProjectFile::parse(&text).err()?;
    Some(Finding {
        place: error.place.map_or_else(|| name.clone(), |(line, column)| format!("{name}:{line}:{column}")),
        problem: error.problem,
        remedy: String::from("compare with the schema: `greenroom schema`"),
    })
}
