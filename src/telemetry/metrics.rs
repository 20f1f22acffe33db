//! Metrics in OpenMetrics text. Service values (queue, previews) are read when they are asked for.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::Deploys;

/// Counts looks and their time.
#[derive(Debug)]
pub struct Looks {
    done: AtomicU64,
    failed: AtomicU64,
    seconds: Family<Outcome, Histogram, fn() -> Histogram>,
}

impl Default for Looks {
    fn default() -> Self {
        let seconds: Family<_, _, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.005, 2.0, 14)));
        for outcome in [DONE, FAILED] {
            drop(seconds.get_or_create(&outcome));
        }
        Self { done: AtomicU64::default(), failed: AtomicU64::default(), seconds }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

const DONE: Outcome = Outcome { outcome: "done" };
const FAILED: Outcome = Outcome { outcome: "failed" };

impl Looks {
    /// One look took this long.
    pub fn record(&self, time: Duration, ok: bool) {
        let (counter, outcome) = if ok { (&self.done, DONE) } else { (&self.failed, FAILED) };
        counter.fetch_add(1, Ordering::Relaxed);
        self.seconds.get_or_create(&outcome).observe(time.as_secs_f64());
    }
}

/// What is read at the moment of a scrape.
#[derive(Debug, Default)]
pub struct Sample {
    /// Deliveries by outcome.
    pub deliveries: Vec<(&'static str, u64)>,
    /// What GitLab was asked.
    pub gitlab: GitLabUse,
    /// Previews by state.
    pub previews: Vec<(&'static str, i64)>,
    /// Previews by engine and state.
    pub engine_previews: Vec<(&'static str, &'static str, i64)>,
    /// Warnings that stand, by code.
    pub warnings: Vec<(&'static str, i64)>,
    /// Previews whose merge request GitLab has not shown for too long.
    pub unseen: i64,
    /// Previews of projects that the settings do not serve.
    pub unserved: i64,
    /// Removals that the brake holds.
    pub brake: i64,
    /// Other instances before whose things we stand back.
    pub foreign: i64,
    /// Keys that are due, keys that wait for later.
    pub queue: (i64, i64),
    /// How long the oldest due key waits, in seconds.
    pub oldest: i64,
}

/// How GitLab is used.
#[derive(Debug, Default)]
pub struct GitLabUse {
    /// Calls by kind.
    pub calls: Vec<(&'static str, u64)>,
    /// Calls by what they were about.
    pub endpoints: Vec<(&'static str, u64)>,
    /// Calls that could go at once now; none when there is no limit.
    pub budget_left: Option<f64>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Label {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Code {
    code: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Where {
    engine: &'static str,
    state: &'static str,
}

/// Turns counters into text.
#[derive(Debug, Clone, Copy, Default)]
pub struct Metrics;

impl Metrics {
    /// All metrics as OpenMetrics text.
    ///
    /// # Errors
    /// Only when the encoder fails to write to memory.
    pub fn render(
        self,
        looks: &Looks,
        deploys: &Deploys,
        sample: &Sample,
    ) -> Result<String, std::fmt::Error> {
        let mut registry = Registry::with_prefix("greenroom");
        registry.register("look_seconds", "How long looks took, by outcome", looks.seconds.clone());
        let previews = Family::<Label, Gauge>::default();
        for (kind, count) in &sample.previews {
            previews.get_or_create(&Label { kind }).set(*count);
        }
        registry.register("previews", "Previews by state", previews);
        let engine_previews = Family::<Where, Gauge>::default();
        for (engine, state, count) in &sample.engine_previews {
            engine_previews.get_or_create(&Where { engine, state }).set(*count);
        }
        registry.register("engine_previews", "Previews by engine and state", engine_previews);
        deploys.register(&mut registry);
        let warnings = Family::<Code, Gauge>::default();
        for (code, count) in &sample.warnings {
            warnings.get_or_create(&Code { code }).set(*count);
        }
        registry.register("warnings", "Warnings that stand, by code", warnings);
        for (name, help, value) in [
            ("brake", "Removals that the brake holds", sample.brake),
            (
                "previews_unseen",
                "Previews whose merge request GitLab has not shown for too long",
                sample.unseen,
            ),
            ("previews_unserved", "Previews of projects that the settings do not serve", sample.unserved),
            ("foreign_instances", "Other instances before whose things nothing is done", sample.foreign),
        ] {
            let gauge = Gauge::<i64>::default();
            gauge.set(value);
            registry.register(name, help, gauge);
        }
        let queue = Family::<Label, Gauge>::default();
        queue.get_or_create(&Label { kind: "due" }).set(sample.queue.0);
        queue.get_or_create(&Label { kind: "later" }).set(sample.queue.1);
        registry.register("queue_keys", "Keys in the work queue", queue);
        if let Some(left) = sample.gitlab.budget_left {
            let budget = Gauge::<f64, AtomicU64>::default();
            budget.set(left);
            registry.register("gitlab_budget_left", "Calls to GitLab that could go at once now", budget);
        }
        let oldest = Gauge::<i64>::default();
        oldest.set(sample.oldest);
        registry.register("queue_oldest_seconds", "How long the oldest due key waits", oldest);
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        registry.register("looks_done", "Looks that ended well", ConstCounter::new(read(&looks.done)));
        registry.register(
            "looks_failed",
            "Looks that failed and are retried",
            ConstCounter::new(read(&looks.failed)),
        );
        let mut text = String::new();
        encode(&mut text, &registry)?;
        let end = text.trim_end().strip_suffix("# EOF").map_or(text.len(), str::len);
        text.truncate(end);
        let GitLabUse { calls, endpoints, .. } = &sample.gitlab;
        for (name, help, label, values) in [
            ("deliveries", "Webhook deliveries by outcome", "kind", &sample.deliveries),
            ("gitlab_calls", "Calls to GitLab by kind", "kind", calls),
            ("gitlab_endpoint_calls", "Calls to GitLab by what they were about", "endpoint", endpoints),
        ] {
            counters(&mut text, name, help, label, values)?;
        }
        text.push_str("# EOF\n");
        Ok(text)
    }
}

/// A family of counters whose values live elsewhere; the library's families only count up by themselves.
fn counters(
    text: &mut String,
    name: &str,
    help: &str,
    label: &str,
    values: &[(&'static str, u64)],
) -> std::fmt::Result {
    writeln!(text, "# HELP greenroom_{name} {help}.\n# TYPE greenroom_{name} counter")?;
    for (which, value) in values {
        writeln!(text, "greenroom_{name}_total{{{label}=\"{which}\"}} {value}")?;
    }
    Ok(())
}
