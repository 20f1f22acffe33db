//! Counts deploys, and how long they took.

use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// How a deploy ended.
#[derive(Debug, Clone, Copy, Hash, PartialEq, Eq)]
pub enum Deployed {
    /// It serves.
    Ready,
    /// It never will.
    Failed,
    /// Another one took its place before it came to an end.
    Overtaken,
}

impl EncodeLabelValue for Deployed {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        match self {
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Overtaken => "overtaken",
        }
        .encode(encoder)
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct End {
    engine: &'static str,
    outcome: Deployed,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Engine {
    engine: &'static str,
}

/// Deploys by engine and outcome, and the time from the order to ready.
#[derive(Debug)]
pub struct Deploys {
    ended: Family<End, Counter>,
    seconds: Family<Engine, Histogram, fn() -> Histogram>,
}

impl Deploys {
    /// Of these engines, whose names are all there ever are.
    pub fn of(engines: impl IntoIterator<Item = &'static str>) -> Self {
        // From 20 ms, which files take, to three quarters of an hour.
        let seconds: Family<_, _, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.02, 2.0, 18)));
        let ended = Family::<End, Counter>::default();
        for engine in engines {
            drop(seconds.get_or_create(&Engine { engine }));
            for outcome in [Deployed::Ready, Deployed::Failed, Deployed::Overtaken] {
                drop(ended.get_or_create(&End { engine, outcome }));
            }
        }
        Self { ended, seconds }
    }

    /// A deploy by `engine` ended like this, so long after it was ordered.
    pub fn record(&self, engine: &'static str, outcome: Deployed, took: Duration) {
        self.ended.get_or_create(&End { engine, outcome }).inc();
        if outcome == Deployed::Ready {
            self.seconds.get_or_create(&Engine { engine }).observe(took.as_secs_f64());
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("deploys", "Deploys by engine and outcome", self.ended.clone());
        let help = "How long deploys took from the order to ready, by engine";
        registry.register("deploy_seconds", help, self.seconds.clone());
    }
}
