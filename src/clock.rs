//! The time. Every other room is handed a [`Clock`]; nothing else reads the wall clock.

use jiff::Timestamp;

/// Reads the wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock;

impl Clock {
    /// Now, as Unix milliseconds.
    pub fn now(self) -> i64 {
        Timestamp::now().as_millisecond()
    }
}

/// Unix milliseconds as RFC 3339 in UTC, to the second, such as `2026-11-21T07:39:23Z`.
pub fn rfc3339(milliseconds: i64) -> String {
    Timestamp::from_second(milliseconds.div_euclid(1000))
        .map_or_else(|_| String::from("unknown"), |t| t.to_string())
}
