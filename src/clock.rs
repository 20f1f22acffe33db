//! The time. Every other room is handed a [`Clock`]; nothing else reads the wall clock.

use jiff::Timestamp;

/// Reads the wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock;

impl Clock {
    /// Now, as Unix milliseconds.
    #[expect(clippy::disallowed_methods, reason = "this room reads the time")]
    pub fn now(self) -> i64 {
        Timestamp::now().as_millisecond()
    }
}
