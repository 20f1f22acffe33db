//! `.greenroom.yml`: what a project says about its previews.

use std::fmt;
use std::path::{Component, Path};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::preview::{EngineKind, Lifetime, Quoted, When};

/// Where the file lies in a repository.
pub const PROJECT_FILE: &str = ".greenroom.yml";

/// The contents of a `.greenroom.yml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectFile {
    /// What runs the preview.
    pub engine: EngineKind,
    /// Settings of the static-site engine; present when `engine` is `static`.
    pub site: StaticSettings,
    /// What has to be there before a head is deployed.
    pub wait_for: WaitFor,
    /// How long a preview lives after the last deploy of a new head.
    pub expires_after: Option<Lifetime>,
    /// Which merge requests get a preview.
    pub when: When,
}

/// The file as it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    title = ".greenroom.yml",
    description = "What a project says about its previews. Lies at the top of the repository."
)]
struct Written {
    /// Version of this format.
    #[schemars(with = "u64", extend("const" = 1))]
    #[expect(dead_code, reason = "checked while it is read")]
    version: Version,
    /// What runs the preview.
    #[schemars(with = "EngineKind")]
    engine: Spanned<EngineKind>,
    /// The static-site engine: a job's artifact, served as it is. Required when `engine` is `static`.
    #[schemars(required)]
    #[serde(rename = "static")]
    site: Option<StaticSettings>,
    /// What has to be there before a head is deployed. `job` (the default): the named job succeeded, whatever the rest
    /// of the pipeline does. `pipeline`: everything that must succeed has.
    #[serde(default)]
    wait_for: WaitFor,
    /// How long a preview lives after the last deploy of a new head, such as `7d`, `36h` or `90m`. Without it, until the
    /// merge request is closed or merged.
    #[schemars(with = "Option<String>")]
    expires_after: Option<Lifetime>,
    /// Which merge requests get a preview. Without it, all of them.
    #[serde(default)]
    when: When,
}

/// What has to be there before a head is deployed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WaitFor {
    /// The named job succeeded.
    #[default]
    Job,
    /// Everything in the pipeline that must succeed has.
    Pipeline,
}

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

/// A path that stays where it is: relative, no `..`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "String")]
pub struct RelativePath(String);

impl RelativePath {
    /// The path without `.` and without slashes at its ends; empty for "here".
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl TryFrom<String> for RelativePath {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let path = Path::new(&text);
        let mut parts = Vec::new();
        for component in path.components() {
            match component {
                Component::CurDir => {}
                Component::Normal(part) if !text.contains(['\\', '\0']) => {
                    parts.push(part.to_string_lossy().into_owned());
                }
                _ => {
                    return Err(format!(
                        "path {} leaves the artifact, expected a relative path such as dist",
                        Quoted::new(&text)
                    ));
                }
            }
        }
        Ok(Self(parts.join("/")))
    }
}

#[derive(Deserialize)]
#[serde(try_from = "u64")]
struct Version;

impl TryFrom<u64> for Version {
    type Error = String;

    fn try_from(number: u64) -> Result<Self, String> {
        if number == 1 { Ok(Self) } else { Err(format!("version {number} is not known, expected 1")) }
    }
}

fn job_name<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    if (1..=255).contains(&name.chars().count()) {
        Ok(name)
    } else {
        Err(serde::de::Error::custom("a job's name has 1 to 255 characters"))
    }
}

/// What is wrong with a `.greenroom.yml`, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct FileError {
    /// Line and column, counted from 1, when the mistake has a place.
    pub place: Option<(u64, u64)>,
    /// What is wrong and what was expected.
    pub problem: String,
}

impl fmt::Display for FileError {
    /// One Markdown-safe sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.place {
            write!(f, "line {line}, column {column}: ")?;
        }
        Quoted::new(&self.problem).fmt(f)
    }
}

/// The largest file that is read.
const LARGEST: usize = 64 << 10;

impl ProjectFile {
    /// Reads the text of a `.greenroom.yml`.
    pub fn parse(text: &str) -> Result<Self, FileError> {
        if text.len() > LARGEST {
            let problem = format!("the file has {} bytes, at most {LARGEST} are read", text.len());
            return Err(FileError { place: None, problem });
        }
        if text.trim().is_empty() {
            let problem = String::from("the file is empty, expected version, engine and static");
            return Err(FileError { place: Some((1, 1)), problem });
        }
        let written: Written = serde_saphyr::from_str(text).map_err(|error| {
            let place = error.location().map(|location| (location.line(), location.column()));
            FileError { place, problem: plain(&error) }
        })?;
        let at = written.engine.referenced;
        if written.engine.value != EngineKind::Static {
            return Err(FileError {
                place: Some((at.line(), at.column())),
                problem: format!("engine {} is not served here, expected static", written.engine.value),
            });
        }
        let Some(site) = written.site else {
            return Err(FileError {
                place: Some((at.line(), at.column())),
                problem: String::from(
                    "engine static needs a section static, such as static: {job: build, path: dist}",
                ),
            });
        };
        Ok(Self {
            engine: written.engine.value,
            site,
            wait_for: written.wait_for,
            expires_after: written.expires_after,
            when: written.when,
        })
    }
}

/// The error's first line, without the place it repeats.
fn plain(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("it is not valid YAML").trim();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    let line = match (line.rfind(" at line "), line.strip_prefix("line ")) {
        (Some(end), _) => &line[..end],
        (None, Some(rest)) => rest.split_once(": ").map_or(line, |(_, message)| message),
        (None, None) => line,
    };
    // The parser speaks to programmers; what it says here is read by people who wrote the file.
    for (parser, people) in [
        ("invalid u64", "not a whole number, expected 1"),
        ("invalid boolean", "neither true nor false, expected one of them"),
        ("expected mapping start", "expected keys with values"),
        ("expected sequence start", "expected a list such as [a, b]"),
        ("externally tagged enum expected scalar", "a list or the like, expected a single word"),
        ("multiple YAML documents detected", "a second document begins here, expected one"),
    ] {
        if line.starts_with(parser) {
            return people.to_owned();
        }
    }
    let line = line.split(", set DuplicateKeyPolicy").next().unwrap_or(line);
    match line.strip_prefix("duplicate mapping key: ") {
        Some(key) => format!("key {key} stands here again, expected once"),
        None if line.starts_with("missing field") => format!("{line}, which is required"),
        None => line.to_owned(),
    }
}

/// The JSON Schema of the file.
pub fn schema() -> schemars::Schema {
    let mut schema = schemars::schema_for!(Written);
    schemars::transform::transform_subschemas(&mut unwrap_descriptions, &mut schema);
    schema
}

/// The doc comments that descriptions are made of have hard line ends.
fn unwrap_descriptions(schema: &mut schemars::Schema) {
    if let Some(serde_json::Value::String(text)) = schema.get_mut("description") {
        *text = text.replace('\n', " ");
    }
    schemars::transform::transform_subschemas(&mut unwrap_descriptions, schema);
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    #[test]
    fn the_shortest_useful_file_is_read() {
        let file = ProjectFile::parse("version: 1\nengine: static\nstatic: {job: build}\n").unwrap();
        assert_eq!(
            file,
            ProjectFile {
                engine: EngineKind::Static,
                site: StaticSettings { job: "build".into(), path: RelativePath::default(), spa: false },
                wait_for: WaitFor::Job,
                expires_after: None,
                when: When::default(),
            }
        );
    }

    #[test]
    fn a_path_is_normalised() {
        for (text, path) in [("dist", "dist"), ("./dist/", "dist"), (".", ""), ("", ""), ("a//b", "a/b")] {
            assert_eq!(RelativePath::try_from(text.to_owned()).unwrap().as_path(), Path::new(path));
        }
        for text in ["..", "a/../..", "/etc", "a\\b", "a\0b"] {
            assert!(RelativePath::try_from(text.to_owned()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn each_mistake_is_named_with_its_place_and_what_was_expected() {
        let mistakes = [
            "",
            "version: 2\nengine: static\n",
            "version: 1\nengine: heroku\n",
            "version: 1\nengine: static\n",
            "version: 1\nengine: static\nstatic: {path: dist}\n",
            "version: 1\nengine: static\nstatic: {job: build}\nexpire_after: 7d\n",
            "version: 1\nengine: static\nstatic: {job: build}\nexpires_after: soon\n",
            "version: 1\nengine: static\nstatic: {job: build, path: ../..}\n",
            "version: 1\nengine: static\nstatic: {job: build, spa: perhaps}\n",
            "version: 1\nversion: 1\nengine: static\nstatic: {job: build}\n",
            "version: 1\nengine: [static\n",
            "a: &a [x]\nb: *c\n",
            "version: one\nengine: static\n",
            "static: build\n",
            "engine: static\nstatic: {job: build}\n",
            "version: 1\nengine: static\nstatic: {job: build}\n---\nversion: 1\n",
            "version: 1\nengine: static\nstatic: {job: build}\nwhen: {draft: false}\n",
            "version: 1\nengine: static\nstatic: {job: build}\nwhen: {drafts: never}\n",
            "version: 1\nengine: static\nstatic: {job: build}\nwhen:\n  labels: [preview]\n",
            "version: 1\nengine: static\nstatic: {job: build}\nwhen:\n  labels: {any: preview}\n",
            "version: 1\nengine: static\nstatic: {job: build}\nwhen:\n  labels: {none: ['a, b']}\n",
            "version: 1\nengine: static\nstatic: {job: build}\nwhen:\n  target_branches: main\n",
            "version: 1\nengine: static\nstatic: {job: build}\nwhen:\n  target_branches: ['release/[']\n",
            "version: 1\nengine: static\nstatic: {job: build}\nwhen:\n  paths:\n    - web/**\n    - '{api'\n",
            "version: 1\nengine: static\nstatic: {job: build}\nwhen:\n  paths: [web/]\n",
            "version: 1\nengine: static\nstatic: {job: build}\nwhen:\n  paths: [/web/**]\n",
        ];
        let told: Vec<String> = mistakes
            .iter()
            .map(|text| format!("{text:?}\n  {}", ProjectFile::parse(text).unwrap_err()))
            .collect();
        assert_snapshot!(told.join("\n"));
    }
}
