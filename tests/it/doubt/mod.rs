//! Never delete on doubt: what is not shown, not served, not known or too much at once stays.

mod brake;
mod orphans;
mod unseen;

use serde_json::{Value, json};

use crate::support::{PATIENCE, until, world::World};

/// The value of one series.
async fn metric(world: &World, series: &str) -> u64 {
    let metrics = world.greenroom.get("/metrics").await.text().await.unwrap();
    let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {series} in\n{metrics}")).parse().unwrap()
}

/// The codes of the warnings that stand.
async fn warnings(world: &World) -> Vec<String> {
    let health: Value = world.greenroom.get("/api/v1/health").await.json().await.unwrap();
    let warnings = health["warnings"].as_array().unwrap();
    warnings.iter().map(|warning| warning["code"].as_str().unwrap().to_owned()).collect()
}

/// Waits until the preview's reason begins like this; the preview.
async fn says(world: &World, mr: u64, reason: &str) -> Value {
    until(&format!("!{mr} says `{reason}`"), PATIENCE, || async {
        let preview = world.preview(mr).await.ok_or("no preview is known")?;
        let told = preview["reason"].as_str().unwrap_or_default().starts_with(reason);
        if told { Ok(preview) } else { Err(format!("{preview:#}")) }
    })
    .await
}

/// Merge requests, each with a page that says its number.
async fn many_ready(world: &World, count: u64) -> Vec<u64> {
    let mut all = Vec::new();
    for n in 1..=count {
        all.push(world.ready_mr(&format!("feature-{n}"), &n.to_string()).await);
    }
    world.rests().await;
    all
}

/// People act while greenroom is down and hears of nothing; it is started again afterwards.
async fn while_away(world: &World, act: impl AsyncFnOnce()) {
    world.greenroom.terminate().await;
    world.gitlab.fault(json!({ "deliveries": { "lose": true } })).await;
    act().await;
    world.gitlab.fault(json!({})).await;
}
