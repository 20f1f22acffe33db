//! Templates: what they are told, what they may use, how far they may go.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minijinja::value::{Serde, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value};
use sha2::{Digest, Sha256};

use super::documents::{self, Document};
use super::error::RenderError;
use super::marks::Marks;
use crate::preview::ref_slug;

/// How many steps a template may take.
const STEPS: u64 = 500_000;
/// How many bytes a template may write, marks included.
const LARGEST_OUTPUT: usize = 4 << 20;
/// How deep includes, macros and blocks may lie in each other.
const DEEPEST: usize = 50;

/// Files by their path in their folder. Templates see no others.
pub(super) type Files = BTreeMap<String, String>;

/// Renders templates with the same values.
#[derive(Debug, Clone)]
pub(super) struct Templates {
    context: serde_json::Value,
}

impl Templates {
    /// Templates that see the keys of `context`, an object.
    pub(super) const fn new(context: serde_json::Value) -> Self {
        Self { context }
    }

    /// A text of the project file, such as its image, under the name of its key.
    pub(super) fn text(&self, key: &str, template: &str) -> Result<String, RenderError> {
        let place = format!(".greenroom.yml {key}");
        let environment = environment(&Files::new());
        self.write(&environment, &place, template).map_err(|problem| match problem {
            // A text of one line has no line worth a word.
            Problem::At(_, why) => RenderError::file(&place, why),
        })
    }

    /// The documents that a file becomes; `files` are those it may include.
    pub(super) fn documents(
        &self,
        file: &str,
        template: &str,
        files: &Files,
    ) -> Result<Vec<Document>, RenderError> {
        let mut environment = environment(files);
        let marks = Marks::new();
        let kept = marks.clone();
        environment.set_formatter(move |output, _, value| {
            match value.kind() {
                ValueKind::None => output.write_str("null")?,
                // They are what they are in YAML, too.
                ValueKind::Number | ValueKind::Bool => write!(output, "{value}")?,
                ValueKind::Plain | ValueKind::Bytes | ValueKind::Invalid => {
                    return Err(Error::new(
                        ErrorKind::BadSerialization,
                        "it is no value that can be written",
                    ));
                }
                _ => {
                    let value = serde_json::to_value(value).map_err(|_| {
                        Error::new(ErrorKind::BadSerialization, "it is no value that can be written")
                    })?;
                    output.write_str(&kept.mark(value))?;
                }
            }
            Ok(())
        });
        let text = self
            .write(&environment, file, &documents::with_lines(template))
            .map_err(|Problem::At(line, why)| RenderError::line(file, line, why))?;
        documents::parse(file, &text, &marks)
    }

    fn write(&self, environment: &Environment<'_>, name: &str, source: &str) -> Result<String, Problem> {
        let mut output = Bounded(Vec::new());
        let template =
            environment.template_from_named_str(name, source).map_err(|error| told(&error, source))?;
        template
            .render_captured_to(Serde(&self.context), &mut output)
            .map_err(|error| told(&error, source))?;
        String::from_utf8(output.0).map_err(|_| Problem::At(1, String::from("it renders to no text")))
    }
}

/// A line, and what is wrong there.
enum Problem {
    At(u64, String),
}

fn environment(files: &Files) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_debug(true);
    environment.set_fuel(Some(STEPS));
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
    environment.add_filter("tojson", |value: Value| {
        serde_json::to_string(&value)
            .map_err(|_| Error::new(ErrorKind::BadSerialization, "it is no value that can be written"))
    });
    let files = Arc::new(files.clone());
    environment.set_loader(move |name| Ok(files.get(name).cloned()));
    environment
}

/// The innermost error: that of an included file tells more than that of the `include`.
fn told(error: &Error, source: &str) -> Problem {
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
        ErrorKind::OutOfFuel => format!("it takes more than {STEPS} steps, which is the limit"),
        ErrorKind::WriteFailure => {
            format!("it renders to more than {} MiB, which is the limit", LARGEST_OUTPUT >> 20)
        }
        kind => match inner.detail() {
            Some(detail) => format!("{kind}: {detail}"),
            None => kind.to_string(),
        },
    };
    if std::ptr::eq(inner, error) {
        return Problem::At(line, why);
    }
    let place = format!("{}:{}", inner.name().unwrap_or_default(), inner.line().unwrap_or(1));
    Problem::At(line, format!("in {place}: {why}"))
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
