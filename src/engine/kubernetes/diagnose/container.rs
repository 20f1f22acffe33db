//! One container: images, crashes, probes.

use serde_json::Value;

use super::Finding;
use crate::preview::Quoted;

/// How many restarts show that a program does not come up by itself.
const HOPELESS_RESTARTS: i64 = 3;

/// What is wrong with the container of this status.
pub(super) fn finding(status: &Value, pod: &Value) -> Option<Finding> {
    let text = |pointer| status.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let name = text("/name");
    let (reason, message) = (text("/state/waiting/reason"), text("/state/waiting/message"));
    match reason {
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => {
            Some(image(text("/image"), reason, message))
        }
        "CreateContainerConfigError" => Some(configuration(name, message)),
        "CreateContainerError" | "RunContainerError" => Some(Finding::waiting(format!(
            "container {} cannot be started: {}",
            Quoted::new(name),
            Quoted::new(message)
        ))),
        "CrashLoopBackOff" => Some(ended(status, "/lastState/terminated", pod)?.spoken(name)),
        "" => running(status, pod),
        // `ContainerCreating` and `PodInitializing` are the ordinary way.
        _ => None,
    }
}

/// Why an image cannot be pulled, from the words of container runtimes and registries.
fn image(image: &str, reason: &str, message: &str) -> Finding {
    let shown = Quoted::new(image);
    let says = |words: &[&str]| words.iter().any(|word| message.to_ascii_lowercase().contains(word));
    if reason == "InvalidImageName" {
        return Finding::hopeless(format!("{shown} is no name of an image"));
    }
    let why = if says(&["no match for platform", "no matching manifest", "exec format error"]) {
        format!("the image {shown} is not built for the processor architecture of the cluster's nodes")
    } else if says(&["unauthorized", "authentication required", "denied", "no basic auth", "403 forbidden"]) {
        format!(
            "the registry does not let the cluster pull the image {shown}; the project needs a `pull_secret` that may"
        )
    } else if says(&["not found", "manifest unknown", "name unknown", "does not exist"]) {
        format!("the image {shown} does not exist")
    } else if says(&["no such host", "i/o timeout", "connection refused", "tls:", "x509", "dial tcp"]) {
        return Finding::waiting(format!(
            "the registry of the image {shown} cannot be reached from the cluster: {}",
            Quoted::new(message)
        ));
    } else {
        // The kubelet's first back-off no longer says what the try before it has met.
        return Finding::waiting(format!("the image {shown} cannot be pulled: {}", Quoted::new(message)));
    };
    // One more try is usual before the kubelet backs off.
    Finding {
        hopeless: reason == "ImagePullBackOff" || reason == "ErrImageNeverPull",
        text: why,
        spoke: None,
    }
}

fn configuration(name: &str, message: &str) -> Finding {
    let name = Quoted::new(name);
    if message.contains("non-numeric user") {
        return Finding::hopeless(format!(
            "the image of container {name} names its user, and the cluster cannot tell whether that is root; its `USER` has to be \
             a number, or the project's `user`"
        ));
    }
    if message.contains("runAsNonRoot") {
        return Finding::hopeless(format!(
            "container {name} would run as root, which its Pod Security forbids; the image needs a numeric `USER`"
        ));
    }
    Finding::waiting(format!("container {name} cannot be configured: {}", Quoted::new(message)))
}

/// How a container's program ended, from the state at `pointer`.
fn ended(status: &Value, pointer: &str, pod: &Value) -> Option<Finding> {
    let state = status.pointer(pointer)?;
    let name = status["name"].as_str().unwrap_or_default();
    let restarts = status["restartCount"].as_i64().unwrap_or(0);
    let code = state["exitCode"].as_i64().unwrap_or(0);
    let message = state["message"].as_str().unwrap_or_default();
    let shown = Quoted::new(name);
    let cannot_start = matches!(state["reason"].as_str(), Some("StartError" | "ContainerCannotRun"));
    let text = if state["reason"] == "OOMKilled" {
        let limit = spec(pod, name)
            .and_then(|spec| spec.pointer("/resources/limits/memory")?.as_str())
            .map_or_else(String::new, |limit| format!(" of {}", Quoted::new(limit)));
        format!("container {shown} was killed because it used more memory than its limit{limit}")
    } else if message.contains("exec format error") {
        format!(
            "the image of container {shown} is not built for the processor architecture of the cluster's nodes"
        )
    } else if cannot_start {
        format!("the program of container {shown} cannot be started: {}", Quoted::new(message))
    } else if code == 0 {
        format!("the program of container {shown} ends at once, without an error; it has to keep running")
    } else {
        format!("the program of container {shown} ends with exit code {code}{}", meaning(code))
    };
    let times = match restarts {
        // How often hardly matters where it never ran.
        _ if cannot_start => String::new(),
        0 => String::new(),
        1 => ", and was started again once".to_owned(),
        times => format!(", and was started again {times} times"),
    };
    Some(Finding { hopeless: restarts >= HOPELESS_RESTARTS, text: text + &times, spoke: None })
}

/// What some exit codes mean to everybody.
fn meaning(code: i64) -> &'static str {
    match code {
        126 => " (the command is not executable)",
        127 => " (the command does not exist in the image)",
        137 => " (killed)",
        139 => " (a memory fault)",
        143 => " (ended by a signal)",
        _ => "",
    }
}

/// A container that nothing holds back: between two tries, or with a probe that does not succeed.
fn running(status: &Value, pod: &Value) -> Option<Finding> {
    let name = status["name"].as_str().unwrap_or_default();
    if let Some(state) = status.pointer("/state/terminated") {
        let failed = state["exitCode"].as_i64() != Some(0);
        return failed.then(|| ended(status, "/state/terminated", pod)).flatten().map(|it| it.spoken(name));
    }
    if status.pointer("/state/running").is_none() || status["ready"] == true {
        return None;
    }
    let spec = spec(pod, name)?;
    let started = status["started"] != false;
    let (kind, field) = if started { ("readiness", "readinessProbe") } else { ("startup", "startupProbe") };
    let probe = spec.get(field)?;
    let text = format!(
        "container {} runs, but its {kind} probe ({}) does not succeed",
        Quoted::new(name),
        describe(probe)
    );
    Some(Finding::waiting(text).spoken(name))
}

/// What a probe asks, such as HTTP `/healthz` on port `8080`.
fn describe(probe: &Value) -> String {
    let port = |at: &Value| Quoted::new(&at["port"].to_string().replace('"', "")).to_string();
    if let Some(http) = probe.get("httpGet") {
        let path = Quoted::new(http["path"].as_str().unwrap_or("/"));
        format!("HTTP {path} on port {}", port(http))
    } else if let Some(tcp) = probe.get("tcpSocket") {
        format!("TCP port {}", port(tcp))
    } else if let Some(grpc) = probe.get("grpc") {
        format!("gRPC on port {}", port(grpc))
    } else {
        let command = probe.pointer("/exec/command").and_then(Value::as_array);
        let words: Vec<&str> = command.into_iter().flatten().filter_map(Value::as_str).collect();
        format!("the command {}", Quoted::new(&words.join(" ")))
    }
}

/// The container called `name` in the pod's spec.
fn spec<'a>(pod: &'a Value, name: &str) -> Option<&'a Value> {
    ["containers", "initContainers"]
        .iter()
        .filter_map(|list| pod["spec"][list].as_array())
        .flatten()
        .find(|container| container["name"] == name)
}
