//! What `greenroom deploy` in a CI job adds: over the engine's own work, and over a program that does nothing.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use greenroom::clock::Clock;
use greenroom::engine::static_site::{Limits, StaticSite};
use greenroom::engine::{Engine, Input, Order};
use greenroom::preview::{PreviewKey, PreviewName, Sha};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::figures::{Aim, Table, milliseconds};
use super::gitlab::{Gitlab, Holds, PROJECT};
use super::operator::{Greenroom, until};
use super::{runtime, say};

const ROUNDS: usize = 20;
/// How often a program is started to learn what a start costs.
const STARTS: usize = 100;
const FILES: usize = 100;

/// Measures deploys of a folder through a server, and the verb's start.
pub fn measure(scratch: &Path, table: &mut Table) -> anyhow::Result<()> {
    let folder = tempfile::tempdir_in(scratch)?;
    let site = folder.path().join("dist");
    fs::create_dir(&site)?;
    let (mut verb, mut own, mut added) = (Vec::new(), Vec::new(), Vec::new());
    runtime()?.block_on(async {
        let gitlab = Gitlab::start().await?;
        let greenroom = Greenroom::start(folder.path(), &gitlab, "1h", &[])?;
        gitlab.add_hook(greenroom.server.address).await?;
        let branches: Vec<_> = (1..=ROUNDS).map(|n| format!("feature-{n}")).collect();
        gitlab.push(&branches, Holds::Site).await?;
        for branch in &branches {
            say(&format!("jobs: {branch} of {ROUNDS}"))?;
            write_site(&site, branch)?;
            let iid = gitlab.open(std::slice::from_ref(branch)).await?[0];
            let job = gitlab.start_deploy(iid).await?;
            until(|| greenroom.knows(iid)).await?;
            greenroom.rest().await?;
            let server = format!("http://{}", greenroom.server.address);
            let token = gitlab.id_token(job, &server).await?;
            let engine = engine(folder.path(), &site, iid).await?;
            let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_greenroom"));
            command
                .arg("deploy")
                .arg(&site)
                .env_clear()
                .envs([("GREENROOM_SERVER", server.as_str()), ("GREENROOM_ID_TOKEN", &token)])
                .envs([("CI_PROJECT_ID", PROJECT.to_string()), ("CI_MERGE_REQUEST_IID", iid.to_string())])
                .stdin(Stdio::null());
            let began = Instant::now();
            let output = command.output().await?;
            let took = began.elapsed();
            ensure!(output.status.success(), "{output:?}");
            let host = greenroom.host(iid).await?;
            ensure!(greenroom.visit(&host).await?.contains(branch.as_str()), "it serves something else");
            greenroom.rest().await?;
            verb.push(milliseconds(took));
            own.push(milliseconds(engine));
            added.push(milliseconds(took.saturating_sub(engine)));
        }
        anyhow::Ok(())
    })?;
    table.heading(&format!("`greenroom deploy` of {FILES} files through the server, {ROUNDS} times"));
    table.row("the job's step, from start to end", &verb, "ms", Aim::None);
    table.row("the engine's own work on these files", &own, "ms", Aim::None);
    table.row("added to that", &added, "ms", Aim::None);

    say("jobs: starts")?;
    let program = env!("CARGO_BIN_EXE_greenroom");
    // It reads settings and variables, finds that some are missing, and ends.
    let (wall, cpu) = starts(program, &["deploy"])?;
    let (floor, floor_cpu) = starts("/bin/true", &[])?;
    table.heading(&format!("start of the verb, {STARTS} times"));
    table.row("time", &wall, "ms", Aim::None);
    table.row("time of /bin/true", &floor, "ms", Aim::None);
    table.row("processor time for one", &[cpu], "ms", Aim::None);
    table.row("processor time of /bin/true", &[floor_cpu], "ms", Aim::None);
    table.row(
        "size of the program",
        &[fs::metadata(program)?.len() as f64 / f64::from(1 << 20)],
        "MiB",
        Aim::None,
    );
    Ok(())
}

fn write_site(folder: &Path, title: &str) -> anyhow::Result<()> {
    fs::write(folder.join("index.html"), format!("<!doctype html><title>{title}</title>"))?;
    for number in 1..FILES {
        let text =
            format!("export const part{number} = () => document.querySelector('#{title}');\n").repeat(100);
        fs::write(folder.join(format!("part{number}.js")), text)?;
    }
    Ok(())
}

/// How long the engine takes from an order to serving it, on the same disk and by itself.
async fn engine(scratch: &Path, site: &Path, iid: u64) -> anyhow::Result<Duration> {
    let home = tempfile::tempdir_in(scratch)?;
    let engine: Arc<StaticSite> = StaticSite::open(home.path(), "bench", Limits::default(), Clock)?;
    let file = tempfile::NamedTempFile::new_in(engine.incoming())?;
    let mut zip = ZipWriter::new(file.reopen()?);
    for entry in fs::read_dir(site)? {
        let path = entry?.path();
        let name = path.file_name().context("no name")?.to_string_lossy();
        zip.start_file(name, SimpleFileOptions::default())?;
        zip.write_all(&fs::read(&path)?)?;
    }
    zip.finish()?;
    let key = PreviewKey::of_mr(PROJECT, iid);
    let name = PreviewName::new("acme/web", key, "");
    let mut events = engine.events();
    let order = Order {
        key,
        name: name.clone(),
        sha: Sha::parse(&"a".repeat(40)).context("no commit")?,
        digest: "a".repeat(64),
        input: Input::Artifact { archive: file.into_temp_path(), root: "".into(), spa: false },
    };
    let began = Instant::now();
    engine.apply(order).await?;
    while engine.status(&name).await?.serving.is_none() {
        events.recv().await?;
    }
    Ok(began.elapsed())
}

/// How long each start takes, and what one takes of the processor, in milliseconds.
fn starts(program: &str, args: &[&str]) -> anyhow::Result<(Vec<f64>, f64)> {
    let before = of_children()?;
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let began = Instant::now();
        Command::new(program).args(args).env_clear().stdin(Stdio::null()).output()?;
        times.push(milliseconds(began.elapsed()));
    }
    Ok((times, (of_children()? - before) * 1e3 / STARTS as f64))
}

/// The processor time of all children that have ended, in seconds.
fn of_children() -> anyhow::Result<f64> {
    /// `USER_HZ`, which is 100 wherever Linux runs.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').context("no name")?;
    let ticks = fields.split_whitespace().skip(13).take(2).map(str::parse::<u32>);
    Ok(f64::from(ticks.sum::<Result<u32, _>>()?) / TICKS_PER_SECOND)
}
