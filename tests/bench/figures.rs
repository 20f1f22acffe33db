//! Medians, spreads and the table.

use std::fmt::Write as _;
use std::time::Duration;

/// What a figure should be.
#[derive(Debug, Clone, Copy)]
pub enum Aim {
    None,
    AtLeast(f64),
    AtMost(f64),
}

/// Figures in the order in which they were found.
#[derive(Debug, Default)]
pub struct Table {
    lines: String,
}

impl Table {
    pub fn heading(&mut self, text: &str) {
        let _ = write!(self.lines, "\n{text}\n");
    }

    /// One figure: the median of `values` and their spread, beside its aim.
    pub fn row(&mut self, name: &str, values: &[f64], unit: &str, aim: Aim) {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let (Some(least), Some(most)) = (sorted.first(), sorted.last()) else { return };
        let median = sorted[sorted.len() / 2];
        let spread =
            if sorted.len() > 1 { format!("{} – {}", short(*least), short(*most)) } else { String::new() };
        let (aim, holds) = match aim {
            Aim::None => (String::new(), ""),
            Aim::AtLeast(bound) => (format!("≥ {bound}"), if median >= bound { "holds" } else { "MISSED" }),
            Aim::AtMost(bound) => (format!("≤ {bound}"), if median <= bound { "holds" } else { "MISSED" }),
        };
        let line = format!("  {name:<42} {:>9} {unit:<4} {spread:<19} {aim:<7} {holds}", short(median));
        let _ = writeln!(self.lines, "{}", line.trim_end());
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let head = format!("  {:<42} {:>9} {:<4} {:<19} aim", "figure", "median", "", "least – most");
        write!(f, "{head}\n{}", self.lines)
    }
}

/// Three digits that count.
fn short(value: f64) -> String {
    match value {
        ..10.0 => format!("{value:.2}"),
        ..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The time within which this share of `sorted` is.
pub fn percentile(sorted: &[Duration], share: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).round() as usize).copied().unwrap_or_default()
}

/// What the figures were found on.
pub fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
        line.split_once(':').map_or_else(String::new, |(_, value)| value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory =
        field(&read("/proc/meminfo"), "MemTotal").trim_end_matches(" kB").parse::<u64>().unwrap_or(0);
    let model = field(&read("/proc/cpuinfo"), "model name");
    format!("on {cores} processors ({model}), {} GiB of memory; servers and load share them", memory >> 20)
}
