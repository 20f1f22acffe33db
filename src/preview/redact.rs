//! Text by programs, without the secrets that they were given.

use std::collections::BTreeSet;
use std::fmt;

const HIDDEN: &str = "[redacted]";

/// Shorter values are words of the language rather than secrets.
const SHORTEST: usize = 4;

/// Secrets that no text may show.
#[derive(Clone, Default)]
pub struct Redaction(Vec<String>);

impl Redaction {
    /// Hides these values, and each line of them by itself.
    pub fn new(values: impl IntoIterator<Item = String>) -> Self {
        let mut hidden = BTreeSet::new();
        for value in values {
            hidden.extend(value.lines().map(|line| line.trim().to_owned()));
            hidden.insert(value);
        }
        hidden.retain(|value| value.chars().count() >= SHORTEST);
        // A secret that contains another one goes first.
        let mut hidden: Vec<String> = hidden.into_iter().collect();
        hidden.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Self(hidden)
    }

    /// `text` without them.
    pub fn hide(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), HIDDEN))
    }
}

/// Nobody sees them here either.
impl fmt::Debug for Redaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redaction({} values)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_shows_no_secret() {
        let secrets = Redaction::new(["hush", "hush-and-more", "on", "first\nsecond"].map(str::to_owned));
        let text = "token=hush-and-more\npassword=hush on\nkey=second";
        assert_eq!(secrets.hide(text), "token=[redacted]\npassword=[redacted] on\nkey=[redacted]");
        assert!(!format!("{secrets:?}").contains("hush"));
    }
}
