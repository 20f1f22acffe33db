//! Why a pod does not run, in words: pure, from what the API server says of it.
//!
//! Every text is one Markdown-safe sentence without a full stop. What a project, an image or a program wrote stands in it as
//! [`Quoted`].

mod container;
mod events;
#[cfg(test)]
mod tests;

use serde_json::Value;

use super::ready::condition;
use crate::preview::Quoted;
pub(super) use events::telling;

/// What is wrong with a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// Whether it stays so without a change to what was ordered.
    pub hopeless: bool,
    /// What is wrong.
    pub text: String,
    /// The container whose last lines tell more, if there is one.
    pub spoke: Option<String>,
}

impl Finding {
    fn waiting(text: String) -> Self {
        Self { hopeless: false, text, spoke: None }
    }

    fn hopeless(text: String) -> Self {
        Self { hopeless: true, text, spoke: None }
    }

    fn spoken(self, container: &str) -> Self {
        Self { spoke: Some(container.to_owned()), ..self }
    }
}

/// What is wrong with `pod`; `None` for one that is ready, has completed or is going.
pub(super) fn pod(pod: &Value) -> Option<Finding> {
    let text = |pointer| pod.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let phase = text("/status/phase");
    let ready = condition(pod, "Ready").is_some_and(|it| it.status == "True");
    if phase == "Succeeded" || ready || pod.pointer("/metadata/deletionTimestamp").is_some() {
        return None;
    }
    if let Some(it) = condition(pod, "PodScheduled").filter(|it| it.status == "False") {
        return Some(unschedulable(it.message));
    }
    if phase == "Failed" && !text("/status/reason").is_empty() {
        let reason = Quoted::new(text("/status/reason"));
        return Some(Finding::waiting(format!(
            "the pod was ended by the cluster ({reason}): {}",
            Quoted::new(text("/status/message"))
        )));
    }
    ["initContainerStatuses", "containerStatuses"]
        .iter()
        .filter_map(|list| pod["status"][list].as_array())
        .flatten()
        .filter_map(|status| container::finding(status, pod))
        .max_by_key(|finding| finding.hopeless)
}

/// From the scheduler's words, such as `0/3 nodes are available: 3 Insufficient cpu.`
fn unschedulable(message: &str) -> Finding {
    let mut short: Vec<&str> = message
        .split("Insufficient ")
        .skip(1)
        .filter_map(|rest| rest.split([' ', ',', '.']).next().filter(|name| !name.is_empty()))
        .collect();
    short.sort_unstable();
    short.dedup();
    let quoted = Quoted::new(message);
    if short.is_empty() {
        return Finding::waiting(format!("no node can take the pod: {quoted}"));
    }
    let short: Vec<String> = short.into_iter().map(|name| Quoted::new(name).to_string()).collect();
    Finding::waiting(format!("no node has enough {} left for the pod: {quoted}", short.join(" and ")))
}
