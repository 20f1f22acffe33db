//! How many calls in what time.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// So many calls in this time, evenly; what a second brings may come at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    calls: u32,
    per: Duration,
}

impl Rate {
    /// Calls per second, more than zero.
    pub fn per_second(self) -> f64 {
        f64::from(self.calls) / self.per.as_secs_f64()
    }

    /// How many calls may come at once.
    pub fn burst(self) -> f64 {
        self.per_second().max(1.0)
    }
}

/// A limit, which `off` is none.
pub(super) fn limit(text: &str) -> Result<Option<Rate>, String> {
    if text == "off" { Ok(None) } else { text.parse().map(Some) }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = if self.per == Duration::from_secs(1) { "s" } else { "m" };
        write!(f, "{}/{unit}", self.calls)
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || String::from("is no rate");
        let (calls, unit) = text.split_once('/').ok_or_else(wrong)?;
        let per = match unit.trim() {
            "s" => Duration::from_secs(1),
            "m" => Duration::from_mins(1),
            _ => return Err(wrong()),
        };
        match calls.trim().parse() {
            Ok(0) => Err(String::from("would never call GitLab")),
            Ok(calls) => Ok(Self { calls, per }),
            Err(_) => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_so_many_per_second_or_minute() {
        for (text, per_second, burst) in
            [("20/s", 20.0, 20.0), ("300/m", 5.0, 5.0), ("30 / m", 0.5, 1.0), ("1/s", 1.0, 1.0)]
        {
            let rate: Rate = text.parse().unwrap();
            assert!((rate.per_second() - per_second).abs() < 1e-9, "{rate}");
            assert!((rate.burst() - burst).abs() < 1e-9, "{rate}");
            assert_eq!(rate.to_string(), text.replace(' ', ""));
        }
        for text in ["", "20", "20/h", "-1/s", "0/s", "many/s", "1.5/s"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }
}
