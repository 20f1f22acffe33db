//! Previews on a cluster: one, beside the shell way with the same objects; two hundred at once; a thousand that rest.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::bare;
use super::figures::{Aim, Table};
use super::gitlab::{Gitlab, Holds, PROJECT};
use super::operator::{Greenroom, until};
use super::previews::quiet;
use super::support::cluster::{Cluster, Request};
use super::{runtime, say};

/// Deploys that are measured one by one.
const SINGLE: usize = 10;
/// Merge requests that are opened at once.
const BURST: usize = 200;
const ROUNDS: usize = 3;
/// Previews that a resync goes over, a burst included.
const RESTING: usize = 1_000;
/// How long nothing happens.
const IDLE: Duration = Duration::from_mins(1);
/// A time between two resyncs in which one ends.
const INTERVAL: &str = "1m";

/// Whose requests are greenroom's.
const GREENROOM: &str = "greenroom";
/// Whose are the shell's.
const SHELL: &str = "shell";

#[derive(Default)]
struct Way {
    wall: Vec<f64>,
    cpu: Vec<f64>,
    requests: Vec<f64>,
}

/// Measures all three.
pub fn measure(scratch: &Path, table: &mut Table) -> anyhow::Result<()> {
    single(scratch, table)?;
    many(scratch, table)
}

fn single(scratch: &Path, table: &mut Table) -> anyhow::Result<()> {
    let folder = tempfile::tempdir_in(scratch)?;
    let (mut ours, mut shell, mut applied) = (Way::default(), Way::default(), Vec::new());
    runtime()?.block_on(async {
        let stage = Stage::set(folder.path(), "1h").await?;
        let branches: Vec<_> = (1..=SINGLE).map(|n| format!("single-{n}")).collect();
        stage.gitlab.push(&branches, Holds::Manifests).await?;
        let mut objects = None;
        for branch in &branches {
            say(&format!("kubernetes: {branch} of {SINGLE}"))?;
            let iid = stage.gitlab.open(std::slice::from_ref(branch)).await?[0];
            let job = stage.gitlab.start_pipeline(iid).await?;
            until(|| stage.greenroom.knows(iid)).await?;
            stage.greenroom.rest().await?;
            let (before, cpu) = (stage.cluster.requests_of(GREENROOM).len(), stage.greenroom.server.cpu()?);
            let (at, began) = (Timestamp::now(), Instant::now());
            stage.gitlab.finish_job(job, branch).await?;
            until(|| stage.greenroom.is_ready(iid)).await?;
            ours.wall.push(began.elapsed().as_secs_f64());
            stage.greenroom.rest().await?;
            ours.cpu.push(stage.greenroom.server.cpu()? - cpu);
            let requests = stage.cluster.requests_of(GREENROOM).split_off(before);
            ours.requests.push(requests.len() as f64);
            let last = requests.iter().filter(|request| writes_an_object(request)).map(|one| one.answered);
            let last = last.max().context("nothing was applied")?;
            applied.push(last.duration_since(at).as_secs_f64());
            if objects.is_none() {
                objects = Some(written(&stage.cluster, &namespace(iid)).await);
            }
        }
        let file = folder.path().join("app.yaml");
        std::fs::write(&file, objects.context("no objects")?)?;
        let kubeconfig = stage.cluster.administrator(SHELL).await;
        for n in 1..=SINGLE {
            say(&format!("kubernetes: by the shell, {n} of {SINGLE}"))?;
            let before = stage.cluster.requests_of(SHELL).len();
            let (wall, cpu) = by_shell(&file, &kubeconfig, &format!("by-shell-{n}")).await?;
            shell.wall.push(wall);
            shell.cpu.push(cpu);
            shell.requests.push((stage.cluster.requests_of(SHELL).len() - before) as f64);
        }
        anyhow::Ok(())
    })?;
    table.heading(&format!("one preview on a cluster, seven objects, {SINGLE} times"));
    table.row("from the pipeline's end to objects applied", &applied, "s", Aim::AtMost(0.1));
    table.row("to ready", &ours.wall, "s", Aim::None);
    table.row("processor time", &ours.cpu, "s", Aim::None);
    table.row("API requests", &ours.requests, "", Aim::AtMost(10.0));
    table.heading("the same objects by envsubst, kubectl apply, rollout status, curl");
    table.row("to ready", &shell.wall, "s", Aim::None);
    table.row("processor time", &shell.cpu, "s", Aim::None);
    table.row("API requests", &shell.requests, "", Aim::None);
    table.row("its time as a ratio to greenroom's", &ratios(&shell.wall, &ours.wall), "×", Aim::None);
    table.row("its processor time as a ratio", &ratios(&shell.cpu, &ours.cpu), "×", Aim::None);
    Ok(())
}

#[derive(Default)]
struct Figures {
    ready: Vec<f64>,
    bare: Vec<f64>,
    requests: Vec<f64>,
    cpu: Vec<f64>,
    memory: Vec<f64>,
    idle: Vec<f64>,
    gone: Vec<f64>,
    resync: Vec<f64>,
    resync_requests: Vec<f64>,
    resync_calls: Vec<f64>,
}

fn many(scratch: &Path, table: &mut Table) -> anyhow::Result<()> {
    let mut figures = Figures::default();
    for round in 1..=ROUNDS {
        say(&format!("kubernetes: round {round} of {ROUNDS}: {BURST} merge requests at once"))?;
        let folder = tempfile::tempdir_in(scratch)?;
        runtime()?.block_on(async {
            let stage = Stage::set(folder.path(), "1h").await?;
            let opened = burst(&stage, &mut figures).await?;
            if round < ROUNDS {
                let objects = written(&stage.cluster, &namespace(opened[0])).await;
                ends(&stage, &opened, &mut figures).await?;
                say("  the same objects by a bare client")?;
                figures.bare.push(bare::create(&stage.cluster.client().await, &objects, BURST).await?);
                return Ok(());
            }
            resync(stage, folder.path(), &mut figures).await
        })?;
    }
    table.heading(&format!("{BURST} merge requests with a finished pipeline, opened at once, on a cluster"));
    table.row("until all are ready", &figures.ready, "s", Aim::AtMost(6.0));
    table.row("the same objects by a bare client", &figures.bare, "s", Aim::None);
    table.row("greenroom's time as a ratio to it", &ratios(&figures.ready, &figures.bare), "×", Aim::None);
    table.row("API requests for one", &figures.requests, "", Aim::AtMost(10.0));
    table.row("processor time", &figures.cpu, "s", Aim::AtMost(1.0));
    table.row("peak memory", &figures.memory, "MiB", Aim::AtMost(64.0));
    table.row("API requests in a minute without events", &figures.idle, "", Aim::AtMost(6.0));
    table.row("from closing all until all are gone", &figures.gone, "s", Aim::None);
    table.heading(&format!("resync of {RESTING} previews on a cluster that do not change"));
    table.row("time", &figures.resync, "s", Aim::None);
    table.row("API requests", &figures.resync_requests, "", Aim::None);
    table.row("GitLab calls", &figures.resync_calls, "", Aim::None);
    Ok(())
}

async fn burst(stage: &Stage, figures: &mut Figures) -> anyhow::Result<Vec<u64>> {
    let branches: Vec<_> = (1..=BURST).map(|n| format!("many-{n}")).collect();
    stage.gitlab.push(&branches, Holds::Manifests).await?;
    stage.gitlab.build(&branches).await?;
    let (before, cpu) = (stage.cluster.requests_of(GREENROOM).len(), stage.greenroom.server.cpu()?);
    let began = Instant::now();
    let opened = stage.gitlab.open(&branches).await?;
    until(|| stage.greenroom.has_ready(BURST)).await?;
    figures.ready.push(began.elapsed().as_secs_f64());
    stage.greenroom.rest().await?;
    figures.cpu.push(stage.greenroom.server.cpu()? - cpu);
    figures.memory.push(stage.greenroom.server.peak_memory()?);
    let requests = stage.cluster.requests_of(GREENROOM).len();
    figures.requests.push((requests - before) as f64 / BURST as f64);
    say("  nothing happens for a while")?;
    tokio::time::sleep(IDLE).await;
    let idle = stage.cluster.requests_of(GREENROOM).split_off(requests);
    for request in &idle {
        say(&format!("    {} {} at {}", request.verb, request.path, request.answered))?;
    }
    figures.idle.push(idle.len() as f64);
    Ok(opened)
}

async fn ends(stage: &Stage, opened: &[u64], figures: &mut Figures) -> anyhow::Result<()> {
    let began = Instant::now();
    stage.gitlab.close(opened).await?;
    until(|| stage.greenroom.has_stopped(BURST)).await?;
    figures.gone.push(began.elapsed().as_secs_f64());
    Ok(())
}

async fn resync(stage: Stage, folder: &Path, figures: &mut Figures) -> anyhow::Result<()> {
    say(&format!("  {RESTING} previews"))?;
    stage.cluster.add_node("node-2").await;
    let branches: Vec<_> = (BURST + 1..=RESTING).map(|n| format!("many-{n}")).collect();
    stage.gitlab.push(&branches, Holds::Manifests).await?;
    stage.gitlab.build(&branches).await?;
    stage.gitlab.open(&branches).await?;
    until(|| stage.greenroom.has_ready(RESTING)).await?;
    stage.greenroom.rest().await?;
    let Stage { gitlab, cluster, greenroom, kubeconfig } = stage;
    greenroom.server.stop()?;
    let greenroom = Greenroom::start(folder, &gitlab, INTERVAL, &settings(&kubeconfig))?;
    // The first one looks at all of them, and so does the one after it, for the comments have changed.
    for _ in 0..2 {
        quiet(&gitlab, &greenroom).await?;
    }
    gitlab.forget_calls().await?;
    let before = cluster.requests_of(GREENROOM).len();
    let (time, calls) = quiet(&gitlab, &greenroom).await?;
    figures.resync.push(time.as_secs_f64());
    figures.resync_calls.push(calls.len() as f64);
    figures.resync_requests.push((cluster.requests_of(GREENROOM).len() - before) as f64);
    greenroom.server.stop()
}

/// A control plane of its own, a GitLab and a greenroom.
struct Stage {
    cluster: Cluster,
    gitlab: Gitlab,
    greenroom: Greenroom,
    kubeconfig: String,
}

impl Stage {
    async fn set(folder: &Path, interval: &str) -> anyhow::Result<Self> {
        let cluster = Cluster::own().await.context("`ci/bench` says where the control plane is")?;
        let kubeconfig = cluster.administrator(GREENROOM).await;
        let kubeconfig = kubeconfig.to_str().context("a path in UTF-8")?.to_owned();
        let gitlab = Gitlab::start().await?;
        let greenroom = Greenroom::start(folder, &gitlab, interval, &settings(&kubeconfig))?;
        gitlab.add_hook(greenroom.server.address).await?;
        Ok(Self { cluster, gitlab, greenroom, kubeconfig })
    }
}

fn settings(kubeconfig: &str) -> [(&str, &str); 1] {
    [("GREENROOM_KUBECONFIG", kubeconfig)]
}

fn namespace(iid: u64) -> String {
    format!("web-{PROJECT}-mr-{iid}")
}

/// Whether it brings one of the seven objects there.
fn writes_an_object(request: &Request) -> bool {
    const RESOURCES: [&str; 7] = [
        "namespaces",
        "resourcequotas",
        "limitranges",
        "networkpolicies",
        "deployments",
        "services",
        "ingresses",
    ];
    let is_new = matches!(request.status, 200 | 201) && matches!(&*request.verb, "patch" | "create");
    // The namespace is written once more at the end, to say what is ready.
    is_new && request.resource != "namespaces" && RESOURCES.contains(&&*request.resource)
}

/// What greenroom has made in a namespace, as a template for `envsubst`, without what tells whose it is.
async fn written(cluster: &Cluster, namespace: &str) -> String {
    let mut objects = vec![cluster.get("namespaces", "", namespace).await.unwrap_or_default()];
    for kind in ["resourcequotas", "limitranges", "networkpolicies", "deployments", "services", "ingresses"] {
        objects.extend(cluster.list(kind, namespace).await);
    }
    let documents = objects.iter().map(|object| template(object, namespace).to_string());
    documents.collect::<Vec<_>>().join("\n---\n")
}

fn template(object: &Value, namespace: &str) -> Value {
    let mut spec = object["spec"].clone();
    if object["kind"] == "Service" {
        for given in ["clusterIP", "clusterIPs"] {
            spec[given].take();
        }
    }
    let mut metadata = json!({ "name": object["metadata"]["name"], "labels": object["metadata"]["labels"] });
    if object["kind"] == "Namespace" {
        metadata["name"] = "${NAME}".into();
        spec = json!({});
    } else {
        metadata["namespace"] = "${NAME}".into();
    }
    let mut template = json!({
        "apiVersion": object["apiVersion"], "kind": object["kind"], "metadata": metadata, "spec": spec,
    });
    disown(&mut template);
    serde_json::from_str(&template.to_string().replace(namespace, "${NAME}")).unwrap_or_default()
}

/// Takes away the labels and annotations by which greenroom knows its own.
fn disown(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, value| {
                !name.starts_with("greenroom.dev/")
                    && name != "app.kubernetes.io/managed-by"
                    && name != "kubernetes.io/metadata.name"
                    && !value.is_null()
            });
            fields.values_mut().for_each(disown);
        }
        Value::Array(items) => items.iter_mut().for_each(disown),
        _ => {}
    }
}

/// Deploys as a job's script does. The `curl` goes to the API server, for nothing listens in kwok's pods. Seconds of
/// time, and of processor time.
async fn by_shell(file: &Path, kubeconfig: &Path, name: &str) -> anyhow::Result<(f64, f64)> {
    const SCRIPT: &str = r#"
        set -euo pipefail
        envsubst '$NAME' <"$FILE" | kubectl apply -f - >/dev/null
        kubectl --namespace "$NAME" rollout status deployment/web --timeout=120s >/dev/null
        curl --fail --silent --insecure "$API/livez" >/dev/null
        times
    "#;
    let programs = std::env::var_os("GREENROOM_TEST_CONTROL_PLANE").context("no control plane")?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::env::split_paths(&programs).chain(std::env::split_paths(&path)))?;
    let config: Value = serde_json::from_slice(&std::fs::read(kubeconfig)?)?;
    let api = config["clusters"][0]["cluster"]["server"].as_str().context("no server")?;
    let mut command = tokio::process::Command::new("bash");
    command.args(["-c", SCRIPT]).env("PATH", path).env("KUBECONFIG", kubeconfig).env("NAME", name);
    command.env("FILE", file).env("API", api).stdin(Stdio::null());
    let began = Instant::now();
    let output = command.output().await?;
    let wall = began.elapsed().as_secs_f64();
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the shell failed: {said}");
    // The second line of `times` is that of the children: user and system, such as `0m0.132s 0m0.041s`.
    let times = String::from_utf8(output.stdout)?;
    let children = times.lines().nth(1).context("no times")?;
    let seconds = |time: &str| {
        let (minutes, seconds) = time.trim_end_matches('s').split_once('m')?;
        Some(minutes.parse::<f64>().ok()? * 60.0 + seconds.parse::<f64>().ok()?)
    };
    let cpu = children.split(' ').map(seconds).sum::<Option<f64>>().context("odd times")?;
    Ok((wall, cpu))
}

fn ratios(above: &[f64], below: &[f64]) -> Vec<f64> {
    // What took less than the clock's tick counts as one.
    above.iter().zip(below).map(|(above, below)| above / below.max(0.01)).collect()
}
