//! What a scraper gets.

use std::collections::{BTreeMap, BTreeSet};

use http::header::CONTENT_TYPE;
use insta::assert_snapshot;

use super::metric;
use crate::support::{documented, world::World};

/// What OpenMetrics asks of a text: families whole and in one piece, suffixes by type, nothing twice, an end.
fn families(text: &str) -> BTreeMap<String, String> {
    let lines = text.strip_suffix("# EOF\n").unwrap_or_else(|| panic!("no end:\n{text}"));
    let (mut families, mut series) = (BTreeMap::new(), BTreeSet::new());
    let mut current = (String::new(), String::new());
    for line in lines.lines() {
        if let Some(declared) = line.strip_prefix("# ") {
            let mut words = declared.splitn(3, ' ');
            let (word, name, rest) = (words.next(), words.next().expect("a name"), words.next());
            match word {
                Some("TYPE") => {
                    let kind = rest.expect("a type").to_owned();
                    assert_eq!(families.insert(name.to_owned(), kind.clone()), None, "{name} comes twice");
                    current = (name.to_owned(), kind);
                }
                Some("HELP" | "UNIT") => assert!(rest.is_some(), "{line}"),
                _ => panic!("{line}"),
            }
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
        assert!(value.parse::<f64>().is_ok(), "no number: {line}");
        assert!(series.insert(sample.to_owned()), "{sample} comes twice");
        let name = sample.split('{').next().unwrap();
        let suffix = name.strip_prefix(&*current.0).unwrap_or_else(|| panic!("{line} is not in {current:?}"));
        let allowed: &[&str] = match &*current.1 {
            "counter" => &["_total", "_created"],
            "gauge" => &[""],
            "histogram" => &["_bucket", "_count", "_sum", "_created"],
            other => panic!("a family of type {other}"),
        };
        assert!(allowed.contains(&suffix), "{line} in a {}", current.1);
    }
    families
}

/// The label names of all samples.
fn labels(text: &str) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((_, rest)) = line.split_once('{') else { continue };
        let (inside, _) = rest.rsplit_once("} ").unwrap_or_else(|| panic!("no value: {line}"));
        for label in inside.split(',') {
            let (name, value) = label.split_once('=').unwrap_or_else(|| panic!("no label: {line}"));
            let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            let value = value.unwrap_or_else(|| panic!("not quoted: {line}"));
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '+');
            assert!(value.chars().all(plain), "a label that anybody could fill: {line}");
            names.insert(name);
        }
    }
    names
}

#[tokio::test]
async fn they_are_openmetrics() {
    // What has no sample yet is not there at all: one warning.
    let world = World::start_with(&[("GREENROOM_COLOUR", "green"), ("GREENROOM_GITLAB_RATE", "100/s")]).await;
    world.ready_mr("feature", "one").await;
    let answer = world.greenroom.get("/metrics").await;
    assert_eq!(answer.headers()[CONTENT_TYPE], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let text = answer.text().await.unwrap();
    let families = families(&text);
    assert_eq!(labels(&text), ["code", "endpoint", "engine", "kind", "le", "outcome", "state"].into());
    let documented = documented("docs/operations.md", "Metrics");
    assert_eq!(families.keys().cloned().collect::<BTreeSet<_>>(), documented, "left: told, right: explained");
    let families: Vec<_> = families.iter().map(|(name, kind)| format!("{name} {kind}")).collect();
    assert_snapshot!(families.join("\n"), @"
greenroom_brake gauge
greenroom_deliveries counter
greenroom_deploy_seconds histogram
greenroom_deploys counter
greenroom_engine_previews gauge
greenroom_foreign_instances gauge
greenroom_gitlab_budget_left gauge
greenroom_gitlab_calls counter
greenroom_gitlab_endpoint_calls counter
greenroom_look_seconds histogram
greenroom_looks_done counter
greenroom_looks_failed counter
greenroom_previews gauge
greenroom_previews_unseen gauge
greenroom_previews_unserved gauge
greenroom_queue_keys gauge
greenroom_queue_oldest_seconds gauge
greenroom_warnings gauge
");
    world.rests().await;
    assert_eq!(metric(&world.greenroom, "greenroom_previews{kind=\"ready\"}").await, 1);
    assert_eq!(metric(&world.greenroom, "greenroom_looks_failed_total").await, 0);
    world.ends_well().await;
}

#[tokio::test]
async fn deploys_are_counted_once_by_engine_and_outcome() {
    let world = World::start().await;
    let told = async |name: &str| metric(&world.greenroom, name).await;
    let ended = async |outcome: &str| {
        told(&format!("greenroom_deploys_total{{engine=\"static\",outcome=\"{outcome}\"}}")).await
    };
    assert_eq!(ended("ready").await, 0, "told before the first");
    let mr = world.ready_mr("feature", "one").await;
    world.rests().await;
    assert_eq!((ended("ready").await, ended("failed").await), (1, 0));

    // To look again is no deploy, nor is a job that makes the same again.
    world.gitlab.edit(mr, serde_json::json!({ "title": "Another title" })).await;
    world.build(mr, "one").await;
    world.rests().await;
    assert_eq!(ended("ready").await, 1);

    world.gitlab.push("feature", &[("a", "2")]).await;
    let pipeline = world.gitlab.start_pipeline(mr).await;
    world.gitlab.succeed_job(pipeline.job, &[("elsewhere/index.html", "not where it should be")]).await;
    world.becomes(mr, "failed").await;
    world.rests().await;
    assert_eq!((ended("ready").await, ended("failed").await, ended("overtaken").await), (1, 1, 0));
    assert_eq!(told("greenroom_deploy_seconds_count{engine=\"static\"}").await, 1);
    assert_eq!(told("greenroom_engine_previews{engine=\"static\",state=\"failed\"}").await, 1);
    assert_eq!(told("greenroom_engine_previews{engine=\"kubernetes\",state=\"failed\"}").await, 0);
}
