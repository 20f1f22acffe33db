//! Lifetimes: `7d`, `36h`, `90m`, with arithmetic on milliseconds since the Unix epoch, and how such a time is written.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long a preview lives after the last deploy of a new head. At least one minute, at most ten years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Lifetime(Duration);

const SHORTEST: Duration = Duration::from_mins(1);
const LONGEST: Duration = Duration::from_hours(10 * 366 * 24);

impl Lifetime {
    /// The length as a duration.
    pub const fn duration(self) -> Duration {
        self.0
    }

    /// The end of a life that began at `start` (Unix milliseconds).
    pub fn end_of(self, start: i64) -> i64 {
        start.saturating_add(i64::try_from(self.0.as_millis()).unwrap_or(i64::MAX))
    }
}

/// Unix milliseconds as RFC 3339 in UTC, to the second, such as `2026-11-21T07:39:23Z`.
pub fn rfc3339(milliseconds: i64) -> String {
    jiff::Timestamp::from_second(milliseconds.div_euclid(1000))
        .map_or_else(|_| String::from("unknown"), |t| t.to_string())
}

/// A text that is no lifetime.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}; expected a duration such as `7d`, `36h` or `90m`, from one minute to ten years")]
pub struct ParseLifetimeError(String);

impl FromStr for Lifetime {
    type Err = ParseLifetimeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = |why: &str| ParseLifetimeError(format!("`{}` {why}", text.escape_debug()));
        let span: jiff::Span = text.parse().map_err(|_| bad("is not a duration"))?;
        // A week is seven days and a day 24 hours: a lifetime is a length, not a date on somebody's calendar.
        let relative = jiff::SpanRelativeTo::days_are_24_hours();
        let exact = span.to_duration(relative).map_err(|_| bad("has no fixed length"))?;
        let length = Duration::try_from(exact).map_err(|_| bad("is negative"))?;
        if length < SHORTEST {
            return Err(bad("is too short"));
        }
        if length > LONGEST {
            return Err(bad("is too long"));
        }
        Ok(Self(length))
    }
}

impl TryFrom<String> for Lifetime {
    type Error = ParseLifetimeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Lifetime> for String {
    fn from(lifetime: Lifetime) -> Self {
        lifetime.to_string()
    }
}

impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match seconds {
            s if s.is_multiple_of(86_400) => write!(f, "{}d", s / 86_400),
            s if s.is_multiple_of(3_600) => write!(f, "{}h", s / 3_600),
            s if s.is_multiple_of(60) => write!(f, "{}m", s / 60),
            s => write!(f, "{s}s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_ways_to_write_a_lifetime_are_understood() {
        for (text, seconds) in [
            ("7d", 604_800),
            ("36h", 129_600),
            ("90m", 5_400),
            ("1w", 604_800),
            ("7 days", 604_800),
            ("2d 12h", 216_000),
            ("60s", 60),
        ] {
            assert_eq!(text.parse::<Lifetime>().map(|l| l.duration().as_secs()), Ok(seconds), "{text}");
        }
    }

    #[test]
    fn what_is_no_lifetime_is_refused_with_the_text_and_an_example() {
        for text in ["", "soon", "7", "-7d", "0s", "59s", "11y", "7d; rm -rf /", "99999999999999999d"] {
            let error = text.parse::<Lifetime>().unwrap_err().to_string();
            assert!(error.contains("expected a duration such as `7d`"), "{text}: {error}");
        }
    }

    #[test]
    fn a_lifetime_is_printed_in_the_largest_unit_that_fits() {
        for text in ["7d", "36h", "90m", "61s"] {
            assert_eq!(text.parse::<Lifetime>().unwrap().to_string(), text);
        }
    }
}
