//! The two images that `Dockerfile` makes of a static program: how large they are, and what a start in one costs.

use anyhow::{Context, ensure};

use super::figures::{Aim, Table};
use super::say;
use super::support::podman::Podman;

/// How often a program is started in a container, and in how many.
const STARTS: u32 = 200;
const ROUNDS: usize = 5;

/// Builds both out of the program that `GREENROOM_TEST_STATIC` names; nothing without it.
pub fn measure(table: &mut Table) -> anyhow::Result<()> {
    let Some(podman) = Podman::start() else { return Ok(()) };
    table.heading("the images");
    let mut image = String::new();
    for target in ["server", "ci"] {
        say(&format!("image: {target}"))?;
        image = podman.build(&["--format=docker", "--target", target]);
        let bytes = podman.image(&image)["Size"].as_u64().context("an image without a size")?;
        table.row(&format!("size of `{target}`"), &[bytes as f64 / f64::from(1 << 20)], "MiB", Aim::None);
    }
    // The last one has a shell to start them from. Nobody answers the health check, which costs it no time.
    for program in ["/bin/true", "greenroom --version", "greenroom health"] {
        say(&format!("image: {program}"))?;
        let times: anyhow::Result<Vec<_>> = (0..ROUNDS).map(|_| start(&podman, &image, program)).collect();
        table.row(&format!("one start of `{program}` in `ci`"), &times?, "ms", Aim::None);
    }
    Ok(())
}

/// What one start takes, in milliseconds: the mean of those in a container of its own.
fn start(podman: &Podman, image: &str, program: &str) -> anyhow::Result<f64> {
    let script = format!(
        "read before idle </proc/uptime; for i in $(seq {STARTS}); do {program}; done >/dev/null 2>&1; \
         read after idle </proc/uptime; echo $before $after"
    );
    let output = podman.run(&[], image, &["sh"], &script);
    ensure!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout)?;
    let (before, after) = said.trim().split_once(' ').context("no times")?;
    Ok((after.parse::<f64>()? - before.parse::<f64>()?) * 1e3 / f64::from(STARTS))
}
