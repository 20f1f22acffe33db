//! From GitLab's event to what people see, one preview and a thousand; and what watching ten thousand merge requests costs.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::figures::{Aim, Table, milliseconds, percentile};
use super::gitlab::{Call, Gitlab, Holds};
use super::operator::{Greenroom, until};
use super::{runtime, say};

/// Measures from the end of a job to its comment and to its page, one merge request after the other.
pub fn latency(scratch: &Path, table: &mut Table) -> anyhow::Result<()> {
    const ROUNDS: usize = 50;
    let folder = tempfile::tempdir_in(scratch)?;
    let (mut served, mut told) = runtime()?.block_on(async {
        let gitlab = Gitlab::start().await?;
        let greenroom = Greenroom::start(folder.path(), &gitlab, "1h", &[])?;
        gitlab.add_hook(greenroom.server.address).await?;
        let branches: Vec<_> = (1..=ROUNDS).map(|n| format!("feature-{n}")).collect();
        gitlab.push(&branches, Holds::Site).await?;
        let (mut served, mut told) = (Vec::new(), Vec::new());
        for branch in &branches {
            say(&format!("latency: {branch} of {ROUNDS}"))?;
            let iid = gitlab.open(std::slice::from_ref(branch)).await?[0];
            let job = gitlab.start_pipeline(iid).await?;
            until(|| greenroom.knows(iid)).await?;
            greenroom.rest().await?;
            let host = greenroom.host(iid).await?;
            let began = Instant::now();
            gitlab.finish_job(job, branch).await?;
            let link = async {
                until(|| async { Ok(greenroom.visit(&host).await?.contains(branch)) }).await?;
                anyhow::Ok(began.elapsed())
            };
            let comment = async {
                let ready =
                    |comments: Vec<String>| comments.iter().any(|text| text.contains("Preview: ready"));
                until(|| async { Ok(ready(gitlab.comments(iid).await?)) }).await?;
                anyhow::Ok(began.elapsed())
            };
            let (link, comment) = tokio::try_join!(link, comment)?;
            served.push(link);
            told.push(comment);
            greenroom.rest().await?;
        }
        anyhow::Ok((served, told))
    })?;
    table.heading(&format!("one preview, from the end of its job, {ROUNDS} times"));
    for (name, times) in [("link served", &mut served), ("comment says ready", &mut told)] {
        times.sort_unstable();
        let at = |share| [milliseconds(percentile(times, share))];
        table.row(&format!("{name}, p50"), &at(0.5), "ms", Aim::AtMost(100.0));
        table.row(&format!("{name}, p99"), &at(0.99), "ms", Aim::None);
    }
    Ok(())
}

/// Merge requests that are opened at once.
const BURST: usize = 1_000;
/// Merge requests that a resync goes over, the burst included.
const WATCHED: usize = 10_000;
const ROUNDS: usize = 3;
/// A time between two resyncs in which one ends.
const INTERVAL: &str = "1m";

#[derive(Default)]
struct Figures {
    ready: Vec<f64>,
    calls: Vec<f64>,
    writes: Vec<f64>,
    memory: Vec<f64>,
    cpu: Vec<f64>,
    resync: Vec<f64>,
    lists: Vec<f64>,
    others: Vec<f64>,
    resync_cpu: Vec<f64>,
    resync_memory: Vec<f64>,
}

/// Measures a thousand merge requests that are opened at once, then a resync over ten thousand that do not change.
pub fn projects(scratch: &Path, table: &mut Table) -> anyhow::Result<()> {
    let mut figures = Figures::default();
    for round in 1..=ROUNDS {
        say(&format!("round {round} of {ROUNDS}: {BURST} merge requests at once"))?;
        let folder = tempfile::tempdir_in(scratch)?;
        runtime()?.block_on(async {
            let gitlab = Gitlab::start().await?;
            burst(&gitlab, folder.path(), &mut figures).await?;
            say(&format!("round {round} of {ROUNDS}: resync of {WATCHED} merge requests"))?;
            resync(&gitlab, folder.path(), &mut figures).await
        })?;
    }
    table.heading(&format!("{BURST} merge requests with a finished pipeline, opened at once"));
    table.row("until all are ready", &figures.ready, "s", Aim::AtMost(60.0));
    table.row("GitLab calls for one", &figures.calls, "", Aim::AtMost(16.0));
    table.row("of them writes", &figures.writes, "", Aim::AtMost(6.0));
    table.row("processor time", &figures.cpu, "s", Aim::None);
    table.row("peak memory", &figures.memory, "MiB", Aim::AtMost(64.0));
    table.heading(&format!(
        "resync of {WATCHED} merge requests that do not change, {BURST} of them with a preview"
    ));
    table.row("time", &figures.resync, "s", Aim::None);
    table.row("GitLab calls that list merge requests", &figures.lists, "", Aim::AtMost(100.0));
    table.row("other GitLab calls", &figures.others, "", Aim::None);
    table.row("processor time", &figures.resync_cpu, "s", Aim::None);
    table.row("peak memory", &figures.resync_memory, "MiB", Aim::AtMost(64.0));
    Ok(())
}

async fn burst(gitlab: &Gitlab, folder: &Path, figures: &mut Figures) -> anyhow::Result<()> {
    let branches: Vec<_> = (1..=BURST).map(|n| format!("site-{n}")).collect();
    gitlab.push(&branches, Holds::Site).await?;
    gitlab.build(&branches).await?;
    let greenroom = Greenroom::start(folder, gitlab, "1h", &[])?;
    let hook = gitlab.add_hook(greenroom.server.address).await?;
    gitlab.forget_calls().await?;
    let (began, cpu) = (Instant::now(), greenroom.server.cpu()?);
    let opened = gitlab.open(&branches).await?;
    until(|| greenroom.has_ready(BURST)).await?;
    let ready = began.elapsed();
    figures.ready.push(ready.as_secs_f64());
    greenroom.rest().await?;
    figures.cpu.push(greenroom.server.cpu()? - cpu);
    figures.memory.push(greenroom.server.peak_memory()?);
    let calls = gitlab.calls(0).await?;
    let each = |calls: usize| calls as f64 / BURST as f64;
    figures.calls.push(each(calls.len()));
    figures.writes.push(each(calls.iter().filter(|call| call.is_write()).count()));
    say(&format!("  all ready after {ready:.1?}, {} calls", calls.len()))?;
    let last = *opened.last().context("nothing was opened")?;
    let page = greenroom.visit(&greenroom.host(last).await?).await?;
    ensure!(page.contains(&branches[BURST - 1]), "the link of !{last} shows {page}");
    gitlab.remove_hook(hook).await?;
    greenroom.server.stop()
}

async fn resync(gitlab: &Gitlab, folder: &Path, figures: &mut Figures) -> anyhow::Result<()> {
    let branches: Vec<_> = (BURST + 1..=WATCHED).map(|n| format!("plain-{n}")).collect();
    gitlab.push(&branches, Holds::Nothing).await?;
    gitlab.open(&branches).await?;
    gitlab.forget_calls().await?;
    let greenroom = Greenroom::start(folder, gitlab, INTERVAL, &[])?;
    // The first resync finds out about all of them.
    quiet(gitlab, &greenroom).await?;
    gitlab.forget_calls().await?;
    let cpu = greenroom.server.cpu()?;
    let (time, calls) = quiet(gitlab, &greenroom).await?;
    let lists = calls.iter().filter(|call| call.is_list()).count();
    say(&format!("  {} calls in {time:.1?}, {lists} of them lists", calls.len()))?;
    figures.resync.push(time.as_secs_f64());
    figures.lists.push(lists as f64);
    figures.others.push((calls.len() - lists) as f64);
    figures.resync_cpu.push(greenroom.server.cpu()? - cpu);
    figures.resync_memory.push(greenroom.server.peak_memory()?);
    greenroom.server.stop()
}

/// Waits until calls have begun to come and for a while no more has; how long they went on, and which they were.
pub async fn quiet(gitlab: &Gitlab, greenroom: &Greenroom) -> anyhow::Result<(Duration, Vec<Call>)> {
    const STEP: Duration = Duration::from_millis(50);
    const SILENCE: Duration = Duration::from_secs(3);
    let mut calls = Vec::new();
    let (mut first, mut last) = (None, Instant::now());
    let began = Instant::now();
    loop {
        let now = Instant::now();
        let new = gitlab.calls(calls.len()).await?;
        if !new.is_empty() {
            first.get_or_insert(now);
            last = now;
            calls.extend(new);
        }
        if let Some(first) = first
            && last.elapsed() > SILENCE
            && greenroom.is_idle().await?
        {
            return Ok((last - first, calls));
        }
        ensure!(
            began.elapsed() < super::operator::PATIENCE,
            "GitLab is asked and asked: {} calls",
            calls.len()
        );
        tokio::time::sleep(STEP).await;
    }
}
