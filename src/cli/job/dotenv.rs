//! The outcome as `artifacts:reports:dotenv` takes it: `NAME=value` lines, no quotes, no empty lines, at most 5 KiB.

use std::fs;
use std::path::Path;

use anyhow::Context;

use super::End;
use crate::cli::Failure;

pub(super) fn write(path: &Path, end: &End) -> Result<(), Failure> {
    Ok(fs::write(path, text(end)).with_context(|| format!("cannot write {}", path.display()))?)
}

/// What is not known has no line: GitLab would take an empty value for one.
fn text(end: &End) -> String {
    let values =
        [("URL", end.url.as_deref()), ("NAME", end.name.as_deref()), ("STATE", Some(end.state.as_str()))];
    let line =
        |(name, value): (&str, Option<&str>)| Some(format!("GREENROOM_{name}={}\n", one_line(value?)?));
    values.into_iter().filter_map(line).collect()
}

/// A value that GitLab takes: one line, of a length that the file has room for.
fn one_line(value: &str) -> Option<&str> {
    (!value.is_empty() && value.len() <= 1024 && !value.contains(char::is_control)).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::*;

    fn end(name: Option<&str>, url: Option<&str>) -> End {
        End {
            outcome: Outcome::Done,
            reason: String::new(),
            state: String::from("ready"),
            name: name.map(str::to_owned),
            url: url.map(str::to_owned),
            took_ms: None,
            checks: Vec::new(),
        }
    }

    #[test]
    fn the_report_keeps_to_what_gitlab_takes() {
        let told = text(&end(Some("web-42-mr-7"), Some("https://web-42-mr-7.preview.example.com")));
        let expected = "GREENROOM_URL=https://web-42-mr-7.preview.example.com\nGREENROOM_NAME=web-42-mr-7\n\
                        GREENROOM_STATE=ready\n";
        assert_eq!(told, expected);
        assert_eq!(text(&end(None, None)), "GREENROOM_STATE=ready\n");
        assert_eq!(text(&end(Some("a\nEVIL=1"), Some(""))), "GREENROOM_STATE=ready\n");
    }
}
