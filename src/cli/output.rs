//! Printing: data to stdout, prose to stderr. A reader that went away (`| head`) is no error.

use std::io::{self, Write};

/// A line of what was asked for, to stdout.
pub(super) fn data(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
}

/// A line for people, to stderr.
pub(super) fn prose(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
