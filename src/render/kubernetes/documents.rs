//! Text to objects: many documents in a file, lists of objects, and where each was written.

use serde_json::Value;
use serde_saphyr::Spanned;

use super::error::RenderError;
use super::marks::{LARGEST_VALUES, Marks, Misplaced};
use crate::render::project_file::plain;
use crate::render::{Manifest, Source};

/// How many objects a preview may have.
const MOST_OBJECTS: usize = 200;
/// How many bytes one object may have, as JSON.
const LARGEST_OBJECT: usize = 1 << 20;
/// How many bytes all of them may have.
const LARGEST_ALL: usize = LARGEST_VALUES;

/// Stands behind each `---`, so that what is rendered knows its lines.
const LINE: &str = " # line ";

/// A document, and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Document {
    pub(super) value: Value,
    pub(super) source: Source,
}

/// Notes the line of each `---` behind it: loops and conditions change how many lines there are.
pub(super) fn with_lines(template: &str) -> String {
    let mut noted = String::with_capacity(template.len() + 64);
    for (number, line) in template.lines().enumerate() {
        noted.push_str(line);
        if begins_document(line) && !line.contains(['|', '>', '{']) {
            noted.push_str(LINE);
            noted.push_str(&(number + 1).to_string());
        }
        noted.push('\n');
    }
    noted
}

fn begins_document(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
}

/// The line of the template that a line of what was rendered comes from, as far as it is known.
fn line_of(text: &str, rendered: u64) -> u64 {
    let until = usize::try_from(rendered).unwrap_or(usize::MAX);
    let noted = text.lines().take(until).enumerate().filter_map(|(at, line)| {
        let (_, number) = line.rsplit_once(LINE).filter(|_| begins_document(line))?;
        Some((at as u64 + 1, number.parse::<u64>().ok()?))
    });
    noted.last().map_or(rendered, |(at, line)| line + rendered.saturating_sub(at))
}

/// YAML as `kubectl` reads it: in `mode: 0400` the number is octal.
pub(super) fn as_kubectl() -> serde_saphyr::Options {
    serde_saphyr::options! { legacy_octal_numbers: true }
}

/// Parses what a template became, and puts the values where their marks are.
pub(super) fn parse(file: &str, text: &str, marks: &Marks) -> Result<Vec<Document>, RenderError> {
    let parsed: Vec<Spanned<Value>> =
        serde_saphyr::from_multiple_with_options(text, as_kubectl()).map_err(|error| {
            let line = error.location().map_or(1, |location| line_of(text, location.line()));
            RenderError::line(file, line, plain(&error))
        })?;
    let mut documents = Vec::new();
    let mut room = LARGEST_ALL;
    for (number, Spanned { value, referenced, .. }) in parsed.into_iter().enumerate() {
        if value.is_null() {
            continue;
        }
        let line = line_of(text, referenced.line());
        let source = Source { file: file.to_owned(), document: number + 1, line: Some(line) };
        let value = marks.fill(value, &mut room).map_err(|misplaced| {
            RenderError::object(
                &source,
                match misplaced {
                    Misplaced::Key(key) => format!("key {key} stands in it twice, expected once"),
                    Misplaced::Changed => {
                        String::from("a filter changes what a macro or a block wrote; apply it within")
                    }
                    Misplaced::TooDeep => {
                        String::from("what a macro or a block wrote is written again too many times over")
                    }
                    Misplaced::TooLarge => format!("its values have more than {} MiB", LARGEST_ALL >> 20),
                },
            )
        })?;
        documents.push(Document { value, source });
    }
    Ok(documents)
}

/// Takes lists apart, and sees that all are objects, each there once.
pub(super) fn manifests(documents: Vec<Document>) -> Result<Vec<Manifest>, RenderError> {
    let mut found: Vec<Manifest> = Vec::new();
    let mut size = 0;
    for Document { value, source } in documents {
        for object in items(value, &source)? {
            let length = object.to_string().len();
            size += length;
            if length > LARGEST_OBJECT || size > LARGEST_ALL {
                let problem = format!(
                    "too large: an object may have {} MiB and all of them {} MiB",
                    LARGEST_OBJECT >> 20,
                    LARGEST_ALL >> 20
                );
                return Err(RenderError::object(&source, problem));
            }
            named(&object).map_err(|problem| RenderError::object(&source, problem))?;
            if let Some(other) = found.iter().find(|other| identity(&other.object) == identity(&object)) {
                let (_, kind, name) = identity(&object);
                let problem = format!("{kind} {name} stands in {} already", other.source);
                return Err(RenderError::object(&source, problem));
            }
            found.push(Manifest { object, source: source.clone() });
            if found.len() > MOST_OBJECTS {
                let problem = format!("more than {MOST_OBJECTS} objects, which is the limit");
                return Err(RenderError::object(&source, problem));
            }
        }
    }
    Ok(found)
}

/// Sees that an object has an API version, a kind and a name, and that they are no more than that: addresses are made of them.
fn named(object: &Value) -> Result<(), String> {
    for (key, example) in [("apiVersion", "apps/v1"), ("kind", "Deployment"), ("metadata.name", "web")] {
        match object.pointer(&format!("/{}", key.replace('.', "/"))) {
            Some(Value::String(text)) if is_called(key, text) => {}
            None | Some(Value::Null)
                if key == "metadata.name" && object["metadata"]["generateName"].is_string() =>
            {
                return Err(format!("metadata.generateName makes another object each time, expected {key}"));
            }
            None | Some(Value::Null) => return Err(format!("{key} is missing; every object needs one")),
            Some(other) => return Err(format!("{key} is {other}, expected a text such as {example}")),
        }
    }
    Ok(())
}

/// Whether an object may be called `text` where `key` stands.
fn is_called(key: &str, text: &str) -> bool {
    let is_word = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric());
    let is_name = |text: &str| {
        let known = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
        !["", ".", ".."].contains(&text) && text.chars().all(known)
    };
    match (key, text.split_once('/')) {
        ("apiVersion", Some((group, version))) => is_name(group) && is_word(version),
        ("apiVersion" | "kind", _) => is_word(text),
        _ => is_name(text),
    }
}

/// Group, kind and name.
fn identity(object: &Value) -> (&str, &str, &str) {
    let text = |key| object.pointer(key).and_then(Value::as_str).unwrap_or_default();
    let group = text("/apiVersion").rsplit_once('/').map_or("", |(group, _)| group);
    (group, text("/kind"), text("/metadata/name"))
}

/// The items of a list, or the object itself.
fn items(value: Value, source: &Source) -> Result<Vec<Value>, RenderError> {
    let is_list = value["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
    match value {
        Value::Object(mut map)
            if is_list && map.get("items").is_some_and(|it| it.is_array() || it.is_null()) =>
        {
            match map.remove("items") {
                Some(Value::Array(inner)) => Ok(inner),
                _ => Ok(Vec::new()),
            }
        }
        Value::Object(_) => Ok(vec![value]),
        _ => Err(RenderError::object(source, "no object, expected keys such as apiVersion and kind")),
    }
}
