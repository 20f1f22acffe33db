//! The figures of one run, beside their aims: `ci/bench`. What they mean stands in `docs/benchmarks.md`.
#![allow(
    clippy::disallowed_methods,
    reason = "a benchmark starts the binary and looks at the clock; the rooms do not"
)]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures of at most seven digits"
)]
#![allow(missing_docs, unreachable_pub, reason = "nobody outside uses these names")]

mod bare;
mod figures;
mod gitlab;
mod image;
mod intake;
mod jobs;
mod kubernetes;
mod load;
mod operator;
mod previews;
mod servers;
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "the tests' tools, of which the control plane is wanted here"
)]
#[path = "../it/support/mod.rs"]
mod support;

use std::io::Write as _;
use std::path::Path;

use figures::Table;

/// What can be measured, in this order.
const PARTS: [&str; 6] = ["intake", "latency", "projects", "kubernetes", "jobs", "image"];

fn main() -> anyhow::Result<()> {
    let asked: Vec<String> = std::env::args().skip(1).filter(|given| !given.starts_with("--")).collect();
    if let [bare, address] = &asked[..]
        && bare == "bare"
    {
        return servers::serve_bare(address);
    }
    if let Some(unknown) = asked.iter().find(|part| !PARTS.contains(&part.as_str())) {
        anyhow::bail!("there is no part `{unknown}`; there are {}", PARTS.join(", "));
    }
    // On the disk that cargo builds on: in memory, a flush would cost nothing.
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let mut table = Table::default();
    for part in PARTS.iter().filter(|part| asked.is_empty() || asked.iter().any(|asked| asked == *part)) {
        match *part {
            "intake" => intake::measure(scratch, &mut table)?,
            "latency" => previews::latency(scratch, &mut table)?,
            "kubernetes" => kubernetes::measure(scratch, &mut table)?,
            "jobs" => jobs::measure(scratch, &mut table)?,
            "image" => image::measure(&mut table)?,
            _ => previews::projects(scratch, &mut table)?,
        }
    }
    writeln!(std::io::stdout(), "\n{table}\n{}", figures::machine())?;
    Ok(())
}

/// Tells on stderr what is being done.
fn say(text: &str) -> std::io::Result<()> {
    writeln!(std::io::stderr(), "{text}")
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}
