//! Printing: data to stdout, prose to stderr. A reader that went away (`| head`) is no error.

use std::io::{self, Write};

/// Where verbs print to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output;

impl Output {
    /// A line of what was asked for, to stdout.
    pub(super) fn data(self, text: &str) {
        let _ = writeln!(io::stdout().lock(), "{text}");
        let _ = io::stdout().flush();
    }

    /// A line for people, to stderr.
    pub(super) fn prose(self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}
