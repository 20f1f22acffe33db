//! `[[project]]` tables of `greenroom.toml`: what holds for some projects. Of several tables that match a project, the
//! later one wins, for each key by itself.

use std::path::{Path, PathBuf};

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use toml::Spanned;
use toml::de::{DeArray, DeValue, ValueDeserializer};

use super::layer::{Layers, flat, read_secret};
use super::on_cluster::{Keys, OnCluster, SharedSecret};
use super::{Problem, ProjectFilter};
use crate::preview::{CommitStatusMode, EngineKind, Given, Lifetime, ProjectRules};

/// What the tables are called.
pub(super) const KEY: &str = "project";

/// A file with an API token, and the token that stood in it.
#[derive(Debug, Clone, Serialize)]
#[serde(into = "PathBuf")]
pub struct TokenFile {
    /// Where it lies.
    pub path: PathBuf,
    /// What it says.
    pub token: SecretString,
}

impl From<TokenFile> for PathBuf {
    fn from(file: TokenFile) -> Self {
        file.path
    }
}

/// What holds for one project, each value with where it was given; `default` for what nobody gave.
#[derive(Debug, Clone, Serialize)]
pub struct ProjectSettings {
    /// Whether it is served at all.
    pub served: Given<bool>,
    /// The API token for it; without one, the server's own.
    pub gitlab_token_file: Given<Option<TokenFile>>,
    /// Engines it may use; without, all of them.
    pub engines: Given<Option<Vec<EngineKind>>>,
    /// How long a preview may live; without, as long as the project says.
    pub max_lifetime: Given<Option<Lifetime>>,
    /// How many previews may run at once; without, any number.
    pub max_previews: Given<Option<u64>>,
    /// What commit statuses are for.
    pub commit_status: Given<CommitStatusMode>,
    /// What holds on a cluster.
    #[serde(flatten)]
    pub on_cluster: OnCluster,
}

impl ProjectSettings {
    /// The bounds on what its `.greenroom.yml` asks for.
    pub fn rules(&self) -> ProjectRules {
        ProjectRules {
            engines: bound(&self.engines),
            max_lifetime: bound(&self.max_lifetime),
            max_previews: bound(&self.max_previews),
            cluster: bound(&self.on_cluster.cluster)
                .map(|Given { value, origin }| Given { value: value.0, origin }),
        }
    }
}

fn bound<T: Clone>(given: &Given<Option<T>>) -> Option<Given<T>> {
    given.value.clone().map(|value| Given { value, origin: given.origin.clone() })
}

/// What holds for which project.
#[derive(Debug, Clone)]
pub struct Projects {
    served: Given<ProjectFilter>,
    commit_status: Given<CommitStatusMode>,
    tables: Vec<Table>,
}

impl Projects {
    /// From what was given. What cannot be read counts as not given; who reads the settings as a whole tells of it.
    pub(super) fn new(layers: &Layers) -> Self {
        let served = layers.get("projects").and_then(|value| {
            let filter = ProjectFilter::new(&value.list()).ok()?;
            Some(Given { value: filter, origin: value.origin })
        });
        let commit_status = layers
            .get("commit_status")
            .and_then(|value| Some(Given { value: value.text.parse().ok()?, origin: value.origin }));
        Self {
            served: served.unwrap_or_else(default),
            commit_status: commit_status.unwrap_or_else(default),
            tables: layers.tables.clone(),
        }
    }

    /// The files with API tokens, each with the projects it is for; of several the last counts.
    pub fn token_files(&self) -> impl Iterator<Item = (&ProjectFilter, &Given<TokenFile>)> {
        self.tables.iter().filter_map(|table| Some((&table.projects, table.gitlab_token_file.as_ref()?)))
    }

    /// What holds for the project with this path.
    pub fn of(&self, path: &str) -> ProjectSettings {
        let Given { value: filter, origin } = &self.served;
        let mut settings = ProjectSettings {
            served: Given { value: filter.serves(path), origin: origin.clone() },
            gitlab_token_file: default(),
            engines: default(),
            max_lifetime: default(),
            max_previews: default(),
            commit_status: self.commit_status.clone(),
            on_cluster: OnCluster::default(),
        };
        for table in self.tables.iter().filter(|table| table.projects.serves(path)) {
            table.lay_over(&mut settings);
        }
        settings
    }

    /// The secrets of tables that are about clusters, each with where its file was named.
    pub fn shared_secrets(&self) -> impl Iterator<Item = (&str, &SharedSecret)> {
        self.tables.iter().flat_map(|table| table.on_cluster.files())
    }
}

pub(super) fn lay<T: Clone>(under: &mut Given<Option<T>>, over: Option<&Given<T>>) {
    if let Some(Given { value, origin }) = over {
        *under = Given { value: Some(value.clone()), origin: origin.clone() };
    }
}

pub(super) fn default<T: Default>() -> Given<T> {
    Given { value: T::default(), origin: String::from("default") }
}

/// Where in a file something was given, for people: the file's name alone, for it stands in comments too.
pub(super) fn origin(file: &str, line: usize) -> String {
    let name = Path::new(file).file_name().map_or(file.into(), |name| name.to_string_lossy());
    format!("{name}:{line}")
}

/// One table: what it gives to the projects that it matches.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    projects: ProjectFilter,
    gitlab_token_file: Option<Given<TokenFile>>,
    engines: Option<Given<Vec<EngineKind>>>,
    max_lifetime: Option<Given<Lifetime>>,
    max_previews: Option<Given<u64>>,
    commit_status: Option<Given<CommitStatusMode>>,
    on_cluster: Keys,
}

impl Table {
    fn lay_over(&self, settings: &mut ProjectSettings) {
        lay(&mut settings.gitlab_token_file, self.gitlab_token_file.as_ref());
        lay(&mut settings.engines, self.engines.as_ref());
        lay(&mut settings.max_lifetime, self.max_lifetime.as_ref());
        lay(&mut settings.max_previews, self.max_previews.as_ref());
        if let Some(mode) = &self.commit_status {
            settings.commit_status = mode.clone();
        }
        self.on_cluster.lay_over(&mut settings.on_cluster);
    }
}

/// Reads the tables. `line_of` tells the line of a place in the file called `file`.
pub(super) fn read(
    tables: &DeArray<'_>,
    line_of: &dyn Fn(usize) -> usize,
    file: &str,
    problems: &mut Vec<Problem>,
) -> Vec<Table> {
    tables.iter().filter_map(|table| one(table, line_of, file, problems)).collect()
}

/// One table; none when it has no usable `match`.
fn one(
    table: &Spanned<DeValue<'_>>,
    line_of: &dyn Fn(usize) -> usize,
    file: &str,
    problems: &mut Vec<Problem>,
) -> Option<Table> {
    let mut read = Table::default();
    // A table with a mistake there must not count for everybody.
    let mut projects = None;
    let keys = table.get_ref().as_table();
    if !keys.is_some_and(|keys| keys.contains_key("match")) {
        problems.push(Problem {
            name: format!("{file}:{}: {KEY}", line_of(table.span().start)),
            problem: String::from("does not say for which projects it is"),
            remedy: String::from("give it globs on project paths, such as `match = [\"team-a/**\"]`"),
        });
    }
    let mut keys: Vec<_> = keys?.iter().collect();
    keys.sort_by_key(|(key, _)| key.span().start);
    for (key, value) in keys {
        let line = line_of(key.span().start);
        let key = key.get_ref().as_ref();
        let origin = origin(file, line);
        let name = format!("{file}:{line}: {key}");
        let value = toml::Value::deserialize(ValueDeserializer::from(value.clone()));
        let value = value.unwrap_or_else(|_| toml::Value::String(String::new()));
        let text = flat(&value);
        if read.on_cluster.take((key, value), &origin, &name, problems) {
            continue;
        }
        let list = || text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned);
        let outcome = match key {
            "match" => match ProjectFilter::new(&list().collect::<Vec<_>>()) {
                _ if text.trim().is_empty() => Err((
                    String::from("names no project"),
                    "use globs such as `acme/web` or `acme/**`; `**` is every project",
                )),
                Err(problem) => Err((problem, "use globs such as `acme/web` or `acme/**`")),
                Ok(filter) => {
                    projects = Some(filter);
                    Ok(())
                }
            },
            "gitlab_token_file" => match read_secret(&text, name.clone()) {
                Ok(token) => {
                    let value = TokenFile { path: PathBuf::from(text.trim()), token: token.into() };
                    read.gitlab_token_file = Some(Given { value, origin });
                    Ok(())
                }
                Err(problem) => {
                    problems.push(problem);
                    continue;
                }
            },
            "engines" => {
                let engines =
                    list().map(|engine| engine.parse().map_err(|problem| format!("`{engine}` {problem}")));
                let engines = engines.collect::<Result<Vec<_>, String>>();
                engines
                    .map(|value| read.engines = Some(Given { value, origin }))
                    .map_err(|problem| (problem, "use engines' names, or `[]` for none"))
            }
            "max_lifetime" => text
                .parse::<Lifetime>()
                .map(|value| read.max_lifetime = Some(Given { value, origin }))
                .map_err(|error| (error.to_string(), "use a duration such as `7d`, `36h` or `90m`")),
            "max_previews" => match text.parse::<u64>() {
                Ok(value) if value > 0 => {
                    read.max_previews = Some(Given { value, origin });
                    Ok(())
                }
                _ => Err((format!("`{text}` is no number of previews"), "use a whole number, from 1 up")),
            },
            "commit_status" => text
                .parse::<CommitStatusMode>()
                .map(|value| read.commit_status = Some(Given { value, origin }))
                .map_err(|error| (format!("`{text}` {error}"), "use `off`, `info` or `required`")),
            _ => Err((
                String::from("is no setting of a project"),
                "see the tables at the end of `greenroom defaults`",
            )),
        };
        if let Err((problem, remedy)) = outcome {
            problems.push(Problem { name, problem, remedy: remedy.to_owned() });
        }
    }
    Some(Table { projects: projects?, ..read })
}
