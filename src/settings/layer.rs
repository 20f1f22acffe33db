//! One layer of settings, and how layers are laid over each other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::Problem;
use super::cluster::{self, Cluster};
use super::project::{self, Table};
use super::secret_file::{is_no_path, secret_text};

/// The documented defaults, which the program itself parses.
pub const DEFAULTS: &str = include_str!("../../templates/defaults.toml");

const PREFIX: &str = "GREENROOM_";

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// `templates/defaults.toml`.
    Default,
    /// A file, at this line.
    File(String, usize),
    /// The environment.
    Environment,
    /// The command line.
    Flag,
}

/// Settings by key, as text; lists are comma-separated.
#[derive(Debug, Clone, Default)]
pub struct Layer(BTreeMap<String, (String, Option<Origin>)>);

impl Layer {
    /// Sets `key`, when there is a value.
    pub fn set(&mut self, key: &str, value: Option<String>, origin: Origin) {
        if let Some(value) = value {
            self.0.insert(key.to_owned(), (value, Some(origin)));
        }
    }
}

/// A value with the name it was given under.
#[derive(Debug, Clone)]
pub(super) struct Value {
    pub(super) name: String,
    pub(super) text: String,
    /// Where it was given, for people: `greenroom.toml:12`, a variable, a flag, `default`.
    pub(super) origin: String,
    /// The file of its own that it was read from.
    pub(super) file: Option<PathBuf>,
}

impl Value {
    pub(super) fn list(&self) -> Vec<String> {
        self.text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }
}

/// The environment variable of a setting.
pub(super) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase())
}

/// One variable; an empty one counts as not set.
#[expect(clippy::disallowed_methods, reason = "this room reads the environment")]
pub(super) fn environment_variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.trim().is_empty())
}

/// The folders that programs are looked for in, `PATH`.
#[expect(clippy::disallowed_methods, reason = "this room reads the environment")]
pub fn search_path() -> Option<std::ffi::OsString> {
    std::env::var_os("PATH")
}

/// All variables that are plain text. Not `vars`, nor envy's own way: they panic at any variable that is no text, whosever
/// it is.
#[expect(clippy::disallowed_methods, reason = "this room reads the environment")]
pub(super) fn environment_variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Variables with our prefix that are no settings of `serve`: the client's, a job's, the tests' and the test command's.
const OTHERS: [&str; 4] = ["server", "cache", "test_", "id_token"];

/// All layers, the winning one last.
pub(super) struct Layers {
    /// Each with the secrets in it that were read from files of their own.
    all: Vec<(Layer, BTreeMap<String, PathBuf>)>,
    /// Variables with our prefix that nobody reads; mistyped, most likely.
    pub(super) unknown: Vec<String>,
    /// The file's `[[project]]` tables.
    pub(super) tables: Vec<Table>,
    /// The file's `[[cluster]]` tables.
    pub(super) clusters: Vec<Cluster>,
}

impl Layers {
    pub(super) fn read(config: Option<&Path>, flags: Layer, problems: &mut Vec<Problem>) -> Self {
        let (mut layers, mut tables, mut clusters) = (Vec::new(), Vec::new(), Vec::new());
        match parse(DEFAULTS, None, problems) {
            Ok((defaults, ..)) => layers.push(defaults),
            Err(problem) => problems.push(problem),
        }
        let known: Vec<String> = layers.iter().flat_map(|layer| layer.0.keys().cloned()).collect();
        if let Some(path) = config {
            let name = path.display().to_string();
            let name = if is_no_path(&name) { String::from("--config") } else { name };
            let file = std::fs::read_to_string(path).map_err(|error| Problem {
                name: name.clone(),
                problem: format!("cannot be read ({error})"),
                remedy: String::from("give the path of a readable file with --config"),
            });
            match file.and_then(|text| parse(&text, Some(&name), problems)) {
                Ok((layer, found, reached)) => {
                    (tables, clusters) = (found, reached);
                    refuse_unknown(&layer, &known, problems);
                    layers.push(layer);
                }
                Err(problem) => problems.push(problem),
            }
        }
        let (environment, unknown) = environment(&known, problems);
        layers.push(environment);
        layers.push(flags);
        let with_files = |mut layer| {
            let files = read_secret_files(&mut layer, problems);
            (layer, files)
        };
        Self { all: layers.into_iter().map(with_files).collect(), unknown, tables, clusters }
    }

    /// The winning value of `key`. An empty one counts as not set, so that the layer below shows through; only a flag
    /// can take away what is below.
    pub(super) fn get(&self, key: &str) -> Option<Value> {
        let is_set = |(text, origin): &&(String, Option<Origin>)| {
            *origin == Some(Origin::Flag) || !text.trim().is_empty()
        };
        let mut values = self.all.iter().rev().filter_map(|(layer, files)| Some((layer.0.get(key)?, files)));
        let ((text, origin), files) = values.find(|(value, _)| is_set(value))?;
        if text.trim().is_empty() {
            return None;
        }
        let name = match origin {
            Some(Origin::File(path, line)) => format!("{path}:{line}: {key}"),
            Some(Origin::Flag) => format!("--{}", key.replace('_', "-")),
            _ => variable(key),
        };
        let origin = match origin {
            Some(Origin::File(path, line)) => project::origin(path, *line),
            Some(Origin::Default) => String::from("default"),
            _ => name.clone(),
        };
        Some(Value { name, text: text.clone(), origin, file: files.get(key).cloned() })
    }
}

/// Reads TOML with its `[[project]]` tables; `file` is its name, none for the defaults.
fn parse(
    text: &str,
    file: Option<&str>,
    problems: &mut Vec<Problem>,
) -> Result<(Layer, Vec<Table>, Vec<Cluster>), Problem> {
    let invalid = |error: toml::de::Error| Problem {
        name: format!(
            "{}:{}",
            file.unwrap_or("defaults"),
            line_at(text, error.span().map_or(0, |span| span.start))
        ),
        problem: format!("is not valid TOML: {}", error.message()),
        remedy: String::from("compare with the documented defaults: `greenroom defaults`"),
    };
    let (mut layer, mut tables, mut clusters) = (Layer::default(), Vec::new(), Vec::new());
    for (key, value) in DeTable::parse(text).map_err(invalid)?.into_inner() {
        let line = line_at(text, key.span().start);
        match (key.get_ref().as_ref(), file, value.get_ref()) {
            (project::KEY, Some(file), DeValue::Array(items)) => {
                tables = project::read(items, &|at| line_at(text, at), file, problems);
            }
            (cluster::KEY, Some(file), DeValue::Array(items)) => {
                clusters = cluster::read(items, &|at| line_at(text, at), file, problems);
            }
            (key @ (project::KEY | cluster::KEY), Some(file), _) => problems.push(Problem {
                name: format!("{file}:{line}: {key}"),
                problem: String::from("is no list of tables"),
                remedy: format!("write `[[{key}]]`, with two brackets, before each"),
            }),
            (key, ..) => {
                let origin = file.map_or(Origin::Default, |name| Origin::File(name.to_owned(), line));
                let key = key.to_owned();
                let value = toml::Value::deserialize(ValueDeserializer::from(value)).map_err(invalid)?;
                layer.0.insert(key, (flat(&value), Some(origin)));
            }
        }
    }
    Ok((layer, tables, clusters))
}

/// The line of a place in `text`, counted from 1.
fn line_at(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

pub(super) fn flat(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Array(items) => items.iter().map(flat).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// The key whose value a `…_file` key names, for secrets only.
fn secret_of(key: &str) -> Option<&str> {
    key.strip_suffix("_file")
        .filter(|secret| secret.ends_with("token") || ["store_url", "password_key"].contains(secret))
}

fn refuse_unknown(layer: &Layer, known: &[String], problems: &mut Vec<Problem>) {
    for (key, (_, origin)) in &layer.0 {
        let plain = secret_of(key).unwrap_or(key);
        if !known.iter().any(|name| name == plain) {
            let name = match origin {
                Some(Origin::File(path, line)) => format!("{path}:{line}: {key}"),
                _ => key.clone(),
            };
            problems.push(Problem {
                name,
                problem: String::from("is no setting"),
                remedy: String::from("see the documented defaults: `greenroom defaults`"),
            });
        }
    }
}

/// `GREENROOM_*`, by envy. Variables that are no settings (a tool's, a test's) are left alone.
#[expect(clippy::disallowed_methods, reason = "this room reads the environment")]
fn environment(known: &[String], problems: &mut Vec<Problem>) -> (Layer, Vec<String>) {
    let is_setting = |key: &str| {
        let plain = secret_of(key).unwrap_or(key);
        known.iter().any(|name| name == plain)
    };
    let mut given = Vec::new();
    // Not `vars`, nor envy's own way: they panic at any variable that is no text, whosever it is.
    for (name, value) in std::env::vars_os() {
        let Ok(name) = name.into_string() else { continue };
        match value.into_string() {
            Ok(value) => given.push((name, value)),
            Err(_) if name.strip_prefix(PREFIX).is_some_and(|key| is_setting(&key.to_ascii_lowercase())) => {
                problems.push(Problem {
                    name,
                    problem: String::from("is not plain text"),
                    remedy: String::from("write it in UTF-8"),
                });
            }
            Err(_) => {}
        }
    }
    let all: BTreeMap<String, String> = match envy::prefixed(PREFIX).from_iter(given) {
        Ok(all) => all,
        Err(error) => {
            problems.push(Problem {
                name: format!("{PREFIX}*"),
                problem: format!("the environment cannot be read ({error})"),
                remedy: String::from("unset what is not plain text"),
            });
            return (Layer::default(), Vec::new());
        }
    };
    let mut layer = Layer::default();
    let mut unknown = Vec::new();
    for (key, value) in all {
        if is_setting(&key) {
            layer.0.insert(key, (value, Some(Origin::Environment)));
        } else if !OTHERS.iter().any(|other| key.starts_with(other)) {
            unknown.push(variable(&key));
        }
    }
    (layer, unknown)
}

/// Replaces `x_file` by `x` with the file's contents, for secrets; the files by secret.
fn read_secret_files(layer: &mut Layer, problems: &mut Vec<Problem>) -> BTreeMap<String, PathBuf> {
    let mut read = BTreeMap::new();
    for (key, (text, _)) in &layer.0 {
        if key.ends_with("token") && !text.is_empty() && text.trim().is_empty() {
            problems.push(Problem {
                name: variable(key),
                problem: String::from("is blank"),
                remedy: String::from("set it to the token, or unset it"),
            });
        }
    }
    let files: Vec<String> = layer.0.keys().filter(|key| secret_of(key).is_some()).cloned().collect();
    for key in files {
        let Some((path, origin)) = layer.0.remove(&key) else { continue };
        let Some(secret) = secret_of(&key) else { continue };
        if path.trim().is_empty() {
            continue;
        }
        if layer.0.get(secret).is_some_and(|(text, _)| !text.trim().is_empty()) {
            problems.push(Problem {
                name: variable(&key),
                problem: format!("is set beside {}", variable(secret)),
                remedy: String::from("keep one of the two"),
            });
        }
        match read_secret(&path, variable(&key)) {
            Ok(text) => {
                layer.0.insert(secret.to_owned(), (text, origin));
                read.insert(secret.to_owned(), PathBuf::from(path.trim()));
            }
            Err(problem) => problems.push(problem),
        }
    }
    read
}

/// The secret in a file: its lines, trimmed, with commas between them. `name` is the setting that names the file.
pub(super) fn read_secret(path: &str, name: String) -> Result<String, Problem> {
    read_file(path, name, secret_text)
}

/// The secret in a file, as `text_of` takes it from the file's contents.
pub(super) fn read_file(
    path: &str,
    name: String,
    text_of: impl Fn(&str) -> Option<String>,
) -> Result<String, Problem> {
    let shown = if is_no_path(path) { String::from("the value") } else { format!("`{path}`") };
    let text = std::fs::read_to_string(path.trim()).map_err(|error| Problem {
        name: name.clone(),
        problem: format!("{shown} cannot be read ({error})"),
        remedy: String::from("give the path of a readable file that holds the secret"),
    })?;
    // A secret that was meant and is not there must not pass for one that was not meant.
    text_of(&text).ok_or_else(|| Problem {
        name,
        problem: format!("{shown} is empty"),
        remedy: String::from("write the secret into the file, or unset the variable"),
    })
}
