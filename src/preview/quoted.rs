//! Text by strangers inside our sentences.

use std::fmt;

/// Text written by a stranger, made safe to stand inside a sentence: one line, no backtick, cut to 200 characters, shown
/// as inline code. Inside inline code GitLab pings nobody, renders no HTML and runs no quick action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quoted(String);

impl Quoted {
    /// The longest text that is shown, in characters.
    pub const LONGEST: usize = 200;

    /// Quotes `text`.
    pub fn new(text: &str) -> Self {
        let mut clean: String = text
            .split(|c: char| c.is_whitespace() || c.is_control() || is_invisible(c))
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
            .replace('`', "'");
        if clean.chars().count() > Self::LONGEST {
            clean = clean.chars().take(Self::LONGEST - 1).chain(['…']).collect();
        }
        Self(clean)
    }
}

/// Characters that change how their neighbours are shown: bidirectional controls, zero-width ones, the byte order mark.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// A line of a program's output, made safe to stand in a block of code: no backtick that could end the block, no control
/// character, cut to 200 characters. Spaces stay, for they show how a stack of calls is nested.
pub fn shown_line(line: &str) -> String {
    let clean = line.trim_end().replace('\t', "    ").replace('`', "'");
    clean.chars().filter(|c| !c.is_control() && !is_invisible(*c)).take(Quoted::LONGEST).collect()
}

impl fmt::Display for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("(empty)") } else { write!(f, "`{}`", self.0) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_stranger_wrote_stays_inside_its_quotes() {
        for (text, shown) in [
            ("build", "`build`"),
            ("`@all` <b>", "`'@all' <b>`"),
            ("a\n/close\r\n# b", "`a /close # b`"),
            ("", "(empty)"),
            ("\u{202e}evil", "`evil`"),
        ] {
            assert_eq!(Quoted::new(text).to_string(), shown);
        }
    }

    #[test]
    fn a_line_of_output_ends_no_block_of_code() {
        for (line, shown) in [
            ("```", "'''"),
            ("\tat main.rs:3\r", "    at main.rs:3"),
            ("\u{1b}[31mred\u{1b}[0m\u{202e}", "[31mred[0m"),
            ("/close", "/close"),
        ] {
            assert_eq!(shown_line(line), shown);
        }
        assert_eq!(shown_line(&"x".repeat(1000)).len(), Quoted::LONGEST);
    }

    proptest! {
        #[test]
        fn quoted_text_is_one_short_line_between_two_backticks(text in any::<String>()) {
            let shown = Quoted::new(&text).to_string();
            prop_assert!(!shown.contains(['\n', '\r']));
            prop_assert!(shown == "(empty)" || shown.matches('`').count() == 2);
            prop_assert!(shown.chars().count() <= Quoted::LONGEST + 2);
        }
    }
}
