//! Progress, line by line.

use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use serde_json::Value;

use super::log::Log;
use super::server::Server;
use crate::cli::Failure;

/// How long to wait before asking again for what broke off.
const PAUSE: Duration = Duration::from_secs(1);

/// Prints what happens until the server says how it came out, over however many connections it takes.
pub(super) async fn follow(server: &Server, log: &Log, path: &str) -> Result<Value, Failure> {
    let mut last = None;
    loop {
        let from = last.as_ref().map(|id| format!("&after={id}")).unwrap_or_default();
        let body = server.get(&format!("{path}{from}")).await?.bytes_stream();
        if let Some(end) = print(body, log, &mut last).await {
            return Ok(end);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Prints what comes; how it came out, unless it breaks off. `last` is the last line that was printed.
pub(super) async fn print<E>(
    lines: impl Stream<Item = Result<Bytes, E>>,
    log: &Log,
    last: &mut Option<String>,
) -> Option<Value> {
    let mut lines = std::pin::pin!(lines);
    let mut text = Vec::new();
    while let Some(Ok(chunk)) = lines.next().await {
        text.extend_from_slice(&chunk);
        while let Some(at) = text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = text.drain(..=at).collect();
            let Ok(event) = serde_json::from_slice::<Value>(&line) else { continue };
            if let Some(end) = event.get("end") {
                return Some(end.clone());
            }
            log.event(&event);
            if let Some(id) = event["id"].as_str() {
                *last = Some(id.to_owned());
            }
        }
    }
    None
}
