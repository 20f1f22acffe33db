//! What a job prints: GitLab's collapsible sections, and colours where they are shown.

use std::io::IsTerminal;

use serde_json::Value;

use super::{End, Outcome};
use crate::cli::check::Format;
use crate::cli::output;
use crate::clock::Clock;
use crate::settings::JobSettings;

/// Where lines go, and how they look.
pub(super) struct Log {
    sections: bool,
    colours: bool,
    to_stderr: bool,
}

impl Log {
    pub(super) fn new(settings: &JobSettings, format: Format) -> Self {
        let to_stderr = format == Format::Json;
        let terminal =
            if to_stderr { std::io::stderr().is_terminal() } else { std::io::stdout().is_terminal() };
        Self {
            sections: settings.in_gitlab,
            colours: (settings.in_gitlab || terminal) && !settings.no_color,
            to_stderr,
        }
    }

    /// One line.
    pub(super) fn line(&self, text: &str) {
        if self.to_stderr { output::prose(text) } else { output::data(text) }
    }

    /// Begins a section that people can fold; its name, to end it with.
    pub(super) fn open(&self, name: &'static str, title: &str) -> &'static str {
        let title = self.painted("1", title);
        if self.sections {
            self.line(&format!("\x1b[0Ksection_start:{}:{name}\r\x1b[0K{title}", seconds()));
        } else {
            self.line(&title);
        }
        name
    }

    /// Ends it.
    pub(super) fn close(&self, name: &str) {
        if self.sections {
            self.line(&format!("\x1b[0Ksection_end:{}:{name}\r\x1b[0K", seconds()));
        }
    }

    /// One line of a preview's history.
    pub(super) fn event(&self, event: &Value) {
        let text = |field: &str| event[field].as_str().unwrap_or("-").to_owned();
        let (at, state) = (text("at"), text("state"));
        let time = at.split('T').nth(1).unwrap_or(&at).trim_end_matches('Z');
        let state = self.painted(colour(&state), &format!("{state:<9}"));
        self.line(&format!("{time}  {state}  {}", text("text")));
    }

    /// How it came out.
    pub(super) fn outcome(&self, end: &End, done: &str) {
        match end.outcome {
            Outcome::Done => self.line(&self.painted("32", &format!("{}: {done}", end.state))),
            Outcome::Failed => {}
        }
    }

    fn painted(&self, colour: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn colour(state: &str) -> &'static str {
    match state {
        "ready" => "32",
        "failed" => "31",
        "waiting" | "deploying" | "stopping" => "33",
        _ => "36",
    }
}

fn seconds() -> i64 {
    Clock.now() / 1000
}
