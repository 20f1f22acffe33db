//! Durable signed deliveries per second, beside servers that do less with them.

use std::net::TcpListener;
use std::path::Path;

use anyhow::ensure;
use sqlx::Connection as _;

use super::figures::{Aim, Table, milliseconds};
use super::load::{self, Deliveries};
use super::servers::{self, Server};

/// Signed for one load. A server that has answered all of them before the time is over is done.
const DELIVERIES: usize = 400_000;
const ROUNDS: usize = 3;

#[derive(Clone, Copy)]
enum Rival {
    Greenroom,
    WebhookRuns,
    WebhookReads,
    Bare,
}

const RIVALS: [(Rival, &str); 4] = [
    (Rival::Greenroom, "greenroom: verified and durable"),
    (Rival::WebhookRuns, "webhook, runs /bin/true"),
    (Rival::WebhookReads, "webhook, only reads the body"),
    (Rival::Bare, "actix handler, only reads and signs"),
];

/// One rival's figures, a number per round.
#[derive(Default)]
struct Figures {
    per_second: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    /// Microseconds of processor time for one delivery.
    cpu: Vec<f64>,
    memory: Vec<f64>,
    load_cpu: Vec<f64>,
}

/// Measures all of them, in turn, and again.
pub fn measure(scratch: &Path, table: &mut Table) -> anyhow::Result<()> {
    // A GitLab that takes connections and never answers: looks wait for it, and the intake is measured alone.
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let gitlab = format!("http://{}", silent.local_addr()?);
    let mut all: [Figures; RIVALS.len()] = Default::default();
    for round in 1..=ROUNDS {
        let deliveries = Deliveries::sign(DELIVERIES)?;
        for ((rival, name), figures) in RIVALS.iter().zip(&mut all) {
            super::say(&format!("round {round} of {ROUNDS}: {name}"))?;
            let folder = tempfile::tempdir_in(scratch)?;
            let server = start(*rival, folder.path(), &gitlab)?;
            let cpu = server.cpu()?;
            let answers = load::run(server.address, &deliveries)?;
            let cpu = (server.cpu()? - cpu) * 1e6 / answers.all as f64;
            let (p50, p99) = (answers.percentile(0.50), answers.percentile(0.99));
            super::say(&format!(
                "  {:.0}/s, p50 {p50:.1?}, p99 {p99:.1?}, {cpu:.1} µs of processor time each",
                answers.per_second
            ))?;
            figures.per_second.push(answers.per_second);
            figures.p50.push(milliseconds(p50));
            figures.p99.push(milliseconds(p99));
            figures.cpu.push(cpu);
            figures.memory.push(server.peak_memory()?);
            figures.load_cpu.push(answers.own_cpu * 100.0);
            // As a crash would.
            drop(server);
            if matches!(rival, Rival::Greenroom) {
                let kept = kept(folder.path())?;
                ensure!(kept >= answers.all, "{} were answered and {kept} were kept", answers.all);
            }
        }
    }
    for ((_, name), figures) in RIVALS.iter().zip(&all) {
        table.heading(name);
        table.row("deliveries per second", &figures.per_second, "/s", Aim::None);
        table.row("p50", &figures.p50, "ms", Aim::None);
        let is_ours = *name == RIVALS[0].1;
        table.row("p99", &figures.p99, "ms", if is_ours { Aim::AtMost(5.0) } else { Aim::None });
        table.row("processor time for one", &figures.cpu, "µs", Aim::None);
        table.row("peak memory", &figures.memory, "MiB", Aim::None);
        table.row("one processor's share that the load took", &figures.load_cpu, "%", Aim::None);
    }
    let [ours, runs, reads, bare] = &all;
    let ratio = |to: &Figures| -> Vec<f64> {
        ours.per_second.iter().zip(&to.per_second).map(|(ours, theirs)| ours / theirs).collect()
    };
    table.heading("greenroom's deliveries per second, as a ratio");
    table.row("to webhook, running /bin/true", &ratio(runs), "×", Aim::AtLeast(6.0));
    table.row("to webhook, only reading", &ratio(reads), "×", Aim::None);
    table.row("to the bare actix handler", &ratio(bare), "×", Aim::AtLeast(0.6));
    Ok(())
}

fn start(rival: Rival, folder: &Path, gitlab: &str) -> anyhow::Result<Server> {
    match rival {
        Rival::Greenroom => servers::greenroom(folder, gitlab, &[]),
        Rival::WebhookRuns => servers::webhook(folder, true),
        Rival::WebhookReads => servers::webhook(folder, false),
        Rival::Bare => servers::bare(folder),
    }
}

/// How many deliveries are in the store of a greenroom that was killed.
fn kept(folder: &Path) -> anyhow::Result<usize> {
    let url = format!("sqlite://{}", folder.join("data/greenroom.db").display());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let count: i64 = runtime.block_on(async {
        sqlx::any::install_default_drivers();
        let mut store = sqlx::AnyConnection::connect(&url).await?;
        sqlx::query_scalar("SELECT COUNT(*) FROM deliveries").fetch_one(&mut store).await
    })?;
    Ok(usize::try_from(count)?)
}
