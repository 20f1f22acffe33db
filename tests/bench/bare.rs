//! What the control plane itself takes: the objects of many previews, created by a client that does nothing else.

use std::time::{Duration, Instant};

use anyhow::Context;
use futures::{StreamExt, TryStreamExt, stream};
use kube::Client;
use serde_json::Value;

use super::operator::until;

/// How many previews' objects are under way at the same time, as greenroom has it.
const AT_ONCE: usize = 32;

/// Creates `count` times the objects of `templates`, in which `${NAME}` is the namespace, and waits until their
/// Deployments are available. Seconds from the first request on.
pub async fn create(client: &Client, templates: &str, count: usize) -> anyhow::Result<f64> {
    let began = Instant::now();
    stream::iter(1..=count)
        .map(|n| preview(client, templates.replace("${NAME}", &format!("bare-{n}"))))
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    until(|| async {
        tokio::time::sleep(Duration::from_millis(250)).await;
        let deployments = http::Request::get("/apis/apps/v1/deployments").body(Vec::new())?;
        let list: Value = client.request(deployments).await?;
        let available = list["items"].as_array().context("no list")?.iter().filter(|deployment| {
            let is_bare =
                deployment["metadata"]["namespace"].as_str().is_some_and(|it| it.starts_with("bare-"));
            is_bare && deployment["status"]["availableReplicas"] == deployment["spec"]["replicas"]
        });
        Ok(available.count() == count)
    })
    .await?;
    Ok(began.elapsed().as_secs_f64())
}

/// The namespace first, then all that is in it.
async fn preview(client: &Client, objects: String) -> anyhow::Result<()> {
    let objects: Vec<&str> = objects.split("\n---\n").collect();
    let (namespace, others) = objects.split_first().context("no objects")?;
    post(client, namespace).await?;
    futures::future::try_join_all(others.iter().map(|object| post(client, object))).await.map(drop)
}

async fn post(client: &Client, text: &str) -> anyhow::Result<()> {
    let object: Value = serde_json::from_str(text)?;
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
    let within = |group: &str, resource: &str| format!("{group}/namespaces/{namespace}/{resource}");
    let path = match object["kind"].as_str().context("no kind")? {
        "Namespace" => String::from("/api/v1/namespaces"),
        "Service" => within("/api/v1", "services"),
        "ResourceQuota" => within("/api/v1", "resourcequotas"),
        "LimitRange" => within("/api/v1", "limitranges"),
        "Deployment" => within("/apis/apps/v1", "deployments"),
        "NetworkPolicy" => within("/apis/networking.k8s.io/v1", "networkpolicies"),
        "Ingress" => within("/apis/networking.k8s.io/v1", "ingresses"),
        kind => anyhow::bail!("no path is known for {kind}"),
    };
    let request = http::Request::post(path).header("content-type", "application/json");
    client.request::<Value>(request.body(text.as_bytes().to_vec())?).await?;
    Ok(())
}
