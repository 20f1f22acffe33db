//! Templates: what they are told, what they may use, how far they may go.
//!
//! How many steps a template takes and how much it writes is counted. What its values take is not: a text that is doubled
//! thirty times, or a list that holds itself twice thirty times over, takes few steps. So templates of strangers are
//! rendered in a process apart (`apart.rs`), unless they do no more than name values: those can grow nothing.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minijinja::value::{Serde, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, UndefinedBehavior, Value};
use regex::Regex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Tools;
use super::apart;
use super::documents::{self, Document};
use super::error::RenderError;
use super::marks::Marks;
use crate::preview::ref_slug;

/// How many steps a template may take.
pub(super) const STEPS: u64 = 500_000;
/// How many bytes a template may write, marks included.
const LARGEST_OUTPUT: usize = 4 << 20;
/// How deep includes, macros and blocks may lie in each other.
const DEEPEST: usize = 50;

/// Files by their path in their folder. Templates see no others.
pub(super) type Files = BTreeMap<String, String>;

/// A template, and what it is called in errors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Source {
    pub(super) place: String,
    pub(super) text: String,
}

/// Who has written a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Author {
    /// We, or the operator.
    Trusted,
    /// Anybody who can push.
    Stranger,
}

/// Templates that are rendered together.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Batch {
    /// What they see: the keys of an object.
    pub(super) context: serde_json::Value,
    /// What they may include.
    pub(super) files: Files,
    pub(super) sources: Vec<Source>,
    /// Whether what they write becomes documents; else it is text.
    pub(super) marked: bool,
    /// How many steps each may take.
    pub(super) steps: u64,
}

/// What a template became.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Rendered {
    pub(super) text: String,
    pub(super) marks: Marks,
}

/// What is wrong with a template of a batch.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Wrong {
    /// Which of the sources.
    pub(super) source: usize,
    /// The line in it, counted from 1.
    pub(super) line: u64,
    pub(super) why: String,
}

/// Renders templates with the same values.
#[derive(Debug, Clone)]
pub(super) struct Templates {
    context: serde_json::Value,
    renderer: Option<PathBuf>,
}

impl Templates {
    /// Templates that see the keys of `context`, an object.
    pub(super) fn new(context: serde_json::Value, tools: &Tools) -> Self {
        Self { context, renderer: tools.renderer.clone() }
    }

    /// Texts of the project file, such as its image, each under the name of its key.
    pub(super) async fn texts(&self, sources: Vec<Source>) -> Result<Vec<String>, RenderError> {
        let file = |source: &Source| format!(".greenroom.yml {}", source.place);
        let batch = self.batch(sources, &Files::new(), false);
        match self.render(&batch, Author::Stranger).await? {
            Ok(rendered) => Ok(rendered.into_iter().map(|it| it.text).collect()),
            // A text of one line has no line worth a word.
            Err(Wrong { source, why, .. }) => Err(RenderError::file(&file(&batch.sources[source]), why)),
        }
    }

    /// One text of the project file.
    pub(super) async fn text(&self, key: &str, template: &str) -> Result<String, RenderError> {
        let source = Source { place: key.to_owned(), text: template.to_owned() };
        Ok(self.texts(vec![source]).await?.pop().unwrap_or_default())
    }

    /// The documents that each of some files becomes; `files` are those that they may include.
    pub(super) async fn documents(
        &self,
        mut sources: Vec<Source>,
        files: &Files,
        author: Author,
    ) -> Result<Vec<Vec<Document>>, RenderError> {
        for source in &mut sources {
            source.text = documents::with_lines(&source.text);
        }
        let batch = self.batch(sources, files, true);
        let place = |source: usize| batch.sources[source].place.as_str();
        match self.render(&batch, author).await? {
            Ok(rendered) => rendered
                .iter()
                .enumerate()
                .map(|(source, it)| documents::parse(place(source), &it.text, &it.marks))
                .collect(),
            Err(Wrong { source, line, why }) => Err(RenderError::line(place(source), line, why)),
        }
    }

    fn batch(&self, sources: Vec<Source>, files: &Files, marked: bool) -> Batch {
        Batch { context: self.context.clone(), files: files.clone(), sources, marked, steps: STEPS }
    }

    async fn render(
        &self,
        batch: &Batch,
        author: Author,
    ) -> Result<Result<Vec<Rendered>, Wrong>, RenderError> {
        match &self.renderer {
            Some(program)
                if author == Author::Stranger && !batch.sources.iter().all(|it| only_names(&it.text)) =>
            {
                apart::render(program, batch).await
            }
            _ => Ok(batch.render()),
        }
    }
}

/// Whether a text has anything of a template.
pub(super) fn is_one(text: &str) -> bool {
    ["{{", "{%", "{#"].iter().any(|begin| text.contains(begin))
}

/// Whether a template does no more than name values: each `{{ }}` is the path of one, with at most one filter after it.
fn only_names(template: &str) -> bool {
    static NAME: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(
            r"^\{\{[-+]?\s*[A-Za-z_]\w*(\.\w+)*\s*(\|\s*(b64encode|lower|sha256|slug|tojson|trim|upper)\s*)?[-+]?\}\}",
        )
        .ok()
    });
    let Some(name) = NAME.as_ref() else { return false };
    let mut rest = template;
    while let Some(at) = rest.find(['{']) {
        rest = &rest[at..];
        if let Some(found) = name.find(rest) {
            rest = &rest[found.end()..];
        } else if rest.starts_with("{{") || rest.starts_with("{%") || rest.starts_with("{#") {
            return false;
        } else {
            rest = &rest[1..];
        }
    }
    true
}

impl Batch {
    /// Renders all of it, here and now.
    pub(super) fn render(&self) -> Result<Vec<Rendered>, Wrong> {
        let one = |(source, it)| self.one(it).map_err(|(line, why)| Wrong { source, line, why });
        self.sources.iter().enumerate().map(one).collect()
    }

    /// What one template becomes, or the line where it goes wrong, and why.
    fn one(&self, source: &Source) -> Result<Rendered, (u64, String)> {
        let mut environment = environment(&self.files, self.steps);
        let marks = Arc::new(Mutex::new(Marks::new()));
        if self.marked {
            let kept = Arc::clone(&marks);
            environment.set_formatter(move |output, _, value| write_marked(output, value, &kept));
        }
        let told = |error| self.told(&error, &source.text);
        let mut output = Bounded(Vec::new());
        environment
            .template_from_named_str(&source.place, &source.text)
            .map_err(told)?
            .render_captured_to(Serde(&self.context), &mut output)
            .map_err(told)?;
        drop(environment);
        let marks =
            Arc::into_inner(marks).map(|marks| marks.into_inner().unwrap_or_else(PoisonError::into_inner));
        match (String::from_utf8(output.0), marks) {
            (Ok(text), Some(marks)) => Ok(Rendered { text, marks }),
            _ => Err((1, String::from("it renders to no text"))),
        }
    }

    /// The innermost error: that of an included file tells more than that of the `include`.
    fn told(&self, error: &Error, source: &str) -> (u64, String) {
        let line = error.line().unwrap_or(1).try_into().unwrap_or(1);
        let mut inner = error;
        while let Some(cause) = std::error::Error::source(inner).and_then(|cause| cause.downcast_ref()) {
            inner = cause;
        }
        let source = inner.template_source().unwrap_or(source);
        let code = || inner.range().and_then(|range| source.get(range)).map(str::trim).unwrap_or_default();
        let why = match inner.kind() {
            ErrorKind::UndefinedError => match inner.detail() {
                Some(detail) => detail.to_owned(),
                None => format!("{} is not defined", code()),
            },
            ErrorKind::OutOfFuel => format!("it takes more than {} steps, which is the limit", self.steps),
            ErrorKind::WriteFailure => {
                format!("it renders to more than {} MiB, which is the limit", LARGEST_OUTPUT >> 20)
            }
            kind => match inner.detail() {
                Some(detail) => format!("{kind}: {detail}"),
                None => kind.to_string(),
            },
        };
        if std::ptr::eq(inner, error) {
            return (line, why);
        }
        let place = format!("{}:{}", inner.name().unwrap_or_default(), inner.line().unwrap_or(1));
        (line, format!("in {place}: {why}"))
    }
}

/// Writes a value, or the mark that stands for it.
fn write_marked(output: &mut Output<'_>, value: &Value, marks: &Mutex<Marks>) -> Result<(), Error> {
    match value.kind() {
        ValueKind::None => output.write_str("null")?,
        // They are what they are in YAML, too.
        ValueKind::Number | ValueKind::Bool => write!(output, "{value}")?,
        ValueKind::Plain | ValueKind::Bytes | ValueKind::Invalid => return Err(unwritable()),
        _ => {
            let value = serde_json::to_value(value).map_err(|_| unwritable())?;
            let mark = marks.lock().unwrap_or_else(PoisonError::into_inner).mark(value);
            output.write_str(&mark.ok_or_else(|| Error::from(ErrorKind::WriteFailure))?)?;
        }
    }
    Ok(())
}

fn unwritable() -> Error {
    Error::new(ErrorKind::BadSerialization, "it is no value that can be written")
}

fn environment(files: &Files, steps: u64) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_debug(true);
    environment.set_fuel(Some(steps));
    environment.set_recursion_limit(DEEPEST);
    // What they did is not needed: all that is written is data.
    for filter in ["safe", "escape", "e"] {
        environment.remove_filter(filter);
    }
    environment.remove_global("debug");
    environment.add_filter("slug", |text: String| ref_slug(&text));
    environment.add_filter("b64encode", |text: String| STANDARD.encode(text));
    environment.add_filter("sha256", |value: Value| {
        let text =
            value.as_str().map_or_else(|| serde_json::to_string(&value).unwrap_or_default(), str::to_owned);
        hex::encode(Sha256::digest(text))
    });
    environment.add_filter("tojson", |value: Value| serde_json::to_string(&value).map_err(|_| unwritable()));
    let files = Arc::new(files.clone());
    environment.set_loader(move |name| Ok(files.get(name).cloned()));
    environment
}

/// A writer that takes so much and no more.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > LARGEST_OUTPUT {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_that_only_names_values_is_told_from_one_that_computes() {
        for (template, plain) in [
            ("", true),
            ("image: {{ registry_image }}:{{sha}}", true),
            ("{{- app.env.LOG_LEVEL | b64encode -}} {a: {b: 1}} { {", true),
            ("{{ title ~ title }}", false),
            ("{{ title | b64encode | b64encode }}", false),
            ("{{ range(3) }}", false),
            ("{{ title * 9 }}", false),
            ("{{ [title] }}", false),
            ("{{ title", false),
            ("{{{ title }}}", false),
            ("{% set a = 1 %}", false),
            ("{# a remark #}", false),
            ("{{ title | join(title) }}", false),
        ] {
            assert_eq!(only_names(template), plain, "{template}");
        }
    }
}
