//! What the cluster's events add.

use serde_json::Value;

use crate::preview::Quoted;

/// Reasons of events that repeat what the status of a pod or a Job says better.
const REPEATS: [&str; 5] =
    ["BackOff", "BackoffLimitExceeded", "DeadlineExceeded", "FailedScheduling", "Failed"];

/// The newest warning about one of the objects that `concerns` picks by kind and name, in words.
pub(in super::super) fn telling(events: &[Value], concerns: impl Fn(&str, &str) -> bool) -> Option<String> {
    let text = |event: &Value, pointer: &str| {
        event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let event = events
        .iter()
        .filter(|event| event["type"] == "Warning")
        .filter(|event| !REPEATS.contains(&event["reason"].as_str().unwrap_or_default()))
        .filter(|event| concerns(&text(event, "/involvedObject/kind"), &text(event, "/involvedObject/name")))
        .max_by_key(|event| {
            ["/series/lastObservedTime", "/lastTimestamp", "/eventTime", "/metadata/creationTimestamp"]
                .map(|at| text(event, at))
                .into_iter()
                .find(|time| !time.is_empty())
        })?;
    let message = text(event, "/message");
    let shown = Quoted::new(&message);
    Some(match event["reason"].as_str().unwrap_or_default() {
        "Unhealthy" => {
            let kind = ["Startup", "Readiness", "Liveness"]
                .into_iter()
                .find(|kind| message.starts_with(kind))
                .unwrap_or("Health")
                .to_ascii_lowercase();
            let answer = message.split_once("probe failed: ").map_or(message.as_str(), |(_, answer)| answer);
            format!("its {kind} probe was answered with {}", Quoted::new(answer))
        }
        "FailedMount" | "FailedAttachVolume" => format!("a volume cannot be mounted: {shown}"),
        "ProvisioningFailed" => format!("no volume can be made for it: {shown}"),
        "FailedCreate" => super::super::refusal::explain(&message).1,
        _ => format!("the cluster says {shown}"),
    })
}
