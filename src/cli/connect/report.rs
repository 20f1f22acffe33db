//! How connecting a project went: told as it happens, or at the end as JSON.

use serde::Serialize;

use super::super::output;

/// One project.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    #[serde(skip)]
    is_silent: bool,
    path: String,
    /// What was changed, or would be; in words.
    changes: Vec<String>,
    /// Whether the changes were made.
    changed: bool,
    /// What is not as it should be, and was left; in words.
    left: Vec<String>,
    /// When the server got a test event.
    arrived_at: Option<String>,
    /// Why GitLab had no test event to send.
    no_event: Option<String>,
    /// Why it is not connected.
    error: Option<String>,
}

impl Report {
    /// Nothing yet. `is_silent`: it is printed as a whole at the end.
    pub(super) fn new(path: &str, is_silent: bool) -> Self {
        let report = Self {
            is_silent,
            path: path.to_owned(),
            changes: Vec::new(),
            changed: false,
            left: Vec::new(),
            arrived_at: None,
            no_event: None,
            error: None,
        };
        report.say(path);
        report
    }

    fn say(&self, line: &str) {
        if !self.is_silent {
            output::data(line);
        }
    }

    /// What is to be done, and what is left.
    pub(super) fn plans(&mut self, steps: &[String], left: &[String]) {
        for step in steps {
            self.say(&format!("  {step}"));
        }
        if steps.is_empty() {
            self.say("  nothing to change");
        }
        for left in left {
            self.say(&format!("  left as it is: {left}"));
        }
        (self.changes, self.left) = (steps.to_vec(), left.to_vec());
    }

    /// It is done.
    pub(super) fn done(&mut self) {
        self.changed = !self.changes.is_empty();
    }

    /// GitLab has nothing to make a test event of, in its words.
    pub(super) fn no_event(&mut self, words: String) {
        self.say(&format!("  no test event yet, GitLab says: {words}"));
        self.no_event = Some(words);
    }

    /// The server got the test event.
    pub(super) fn arrived(&mut self, at: &str) {
        self.say(&format!("  a test event arrived at {at}"));
        self.arrived_at = Some(at.to_owned());
    }

    /// It is not connected; why.
    pub(super) fn failed(&mut self, why: String) {
        self.error = Some(why);
    }
}
