//! One pod per line of the table in the documentation.

use serde_json::json;

use super::*;

/// A pod with one container `web` in that state.
fn container(status: Value) -> Value {
    let mut status = status;
    status["name"] = json!("web");
    status["image"] = json!("registry.example.com/acme/web:1");
    json!({
        "spec": {"containers": [{
            "name": "web",
            "resources": {"limits": {"memory": "128Mi"}},
            "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}},
            "startupProbe": {"exec": {"command": ["pg_isready", "-U", "app"]}},
        }]},
        "status": {"phase": "Pending", "containerStatuses": [status]},
    })
}

fn waiting(reason: &str, message: &str) -> Value {
    container(json!({"state": {"waiting": {"reason": reason, "message": message}}}))
}

#[expect(clippy::needless_pass_by_value, reason = "reads best where it is called")]
fn crashed(restarts: i64, terminated: Value) -> Value {
    container(json!({
        "restartCount": restarts,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting failed container"}},
        "lastState": {"terminated": terminated},
    }))
}

fn unscheduled(message: &str) -> Value {
    json!({"status": {"phase": "Pending", "conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message},
    ]}})
}

#[test]
fn a_pod_that_does_not_run_says_why() {
    let cases = [
        (
            "image missing",
            waiting(
                "ImagePullBackOff",
                "Back-off pulling image \"registry.example.com/acme/web:1\": ErrImagePull: rpc error: code = NotFound desc = \
             failed to pull and unpack image: registry.example.com/acme/web:1: not found",
            ),
        ),
        ("image missing, first try", waiting("ErrImagePull", "manifest unknown")),
        (
            "no credentials",
            waiting(
                "ImagePullBackOff",
                "failed to authorize: failed to fetch anonymous token: unexpected status: 401 Unauthorized",
            ),
        ),
        (
            "credentials that may not",
            waiting("ImagePullBackOff", "pull access denied, repository does not exist"),
        ),
        ("wrong architecture", waiting("ImagePullBackOff", "no match for platform in manifest: not found")),
        (
            "registry unreachable",
            waiting("ImagePullBackOff", "dial tcp: lookup registry.example.com: no such host"),
        ),
        ("no name", waiting("InvalidImageName", "couldn't parse image name")),
        (
            "image, no cause",
            waiting("ImagePullBackOff", "Back-off pulling image \"registry.example.com/acme/web:1\""),
        ),
        ("crash loop", crashed(4, json!({"exitCode": 1, "reason": "Error"}))),
        ("crash, once", crashed(1, json!({"exitCode": 127, "reason": "Error"}))),
        ("ends at once", crashed(3, json!({"exitCode": 0, "reason": "Completed"}))),
        ("out of memory", crashed(3, json!({"exitCode": 137, "reason": "OOMKilled"}))),
        (
            "binary of another architecture",
            crashed(
                3,
                json!({
                    "exitCode": 128, "reason": "StartError", "message": "exec /app: exec format error",
                }),
            ),
        ),
        (
            "no program",
            crashed(
                3,
                json!({
                    "exitCode": 128, "reason": "StartError", "message": "exec: \"serve\": executable file not found in $PATH",
                }),
            ),
        ),
        (
            "readiness probe",
            container(json!({
                "ready": false, "started": true, "state": {"running": {}},
            })),
        ),
        (
            "startup probe",
            container(json!({
                "ready": false, "started": false, "state": {"running": {}},
            })),
        ),
        (
            "root",
            waiting(
                "CreateContainerConfigError",
                "container has runAsNonRoot and image will run as root (pod: \"web\", container: web)",
            ),
        ),
        (
            "user by name",
            waiting(
                "CreateContainerConfigError",
                "container has runAsNonRoot and image has non-numeric user (node), cannot verify user is non-root (pod: \"web\")",
            ),
        ),
        ("no such secret", waiting("CreateContainerConfigError", "secret \"db\" not found")),
        (
            "nothing free",
            unscheduled(
                "0/3 nodes are available: 1 Insufficient memory, 3 Insufficient cpu. preemption: not helpful",
            ),
        ),
        (
            "no volume",
            unscheduled("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."),
        ),
        (
            "evicted",
            json!({"status": {
                "phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory.",
            }}),
        ),
        (
            "hostile",
            crashed(
                3,
                json!({
                    "exitCode": 1, "reason": "StartError", "message": "`\n/close\n@all <b>",
                }),
            ),
        ),
    ];
    let told: Vec<String> = cases
        .iter()
        .map(|(name, it)| {
            let finding = pod(it).unwrap();
            let spoke = if finding.spoke.is_some() { ", with its log" } else { "" };
            let hopeless = if finding.hopeless { ", hopeless" } else { "" };
            format!("{name}{hopeless}{spoke}:\n    {}", finding.text)
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn a_pod_on_its_way_or_done_has_nothing_to_tell() {
    assert_eq!(pod(&waiting("ContainerCreating", "")), None);
    assert_eq!(pod(&json!({"status": {"phase": "Succeeded"}})), None);
    assert_eq!(pod(&json!({"status": {"phase": "Pending"}})), None);
    let mut going = crashed(4, json!({"exitCode": 1}));
    going["metadata"] = json!({"deletionTimestamp": "2026-11-21T00:00:00Z"});
    assert_eq!(pod(&going), None);
    let mut ready = container(json!({"ready": true, "state": {"running": {}}}));
    ready["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
    assert_eq!(pod(&ready), None);
}

#[test]
fn the_newest_warning_that_adds_something_is_told() {
    let event = |minute: u8, kind: &str, name: &str, reason: &str, message: &str| {
        json!({
            "type": "Warning", "reason": reason, "message": message,
            "involvedObject": {"kind": kind, "name": name},
            "lastTimestamp": format!("2026-11-21T10:{minute:02}:00Z"),
        })
    };
    let told = |reason: &str, message: &str| {
        let events = [
            event(1, "Pod", "web-1", "FailedMount", "MountVolume.SetUp failed: older"),
            event(2, "Pod", "web-1", reason, message),
            event(3, "Pod", "other", "Unhealthy", "Liveness probe failed: of another pod"),
            event(4, "Pod", "web-1", "BackOff", "Back-off restarting failed container"),
        ];
        telling(&events, |kind, name| (kind, name) == ("Pod", "web-1")).unwrap()
    };
    let cases = [
        told("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503"),
        told("Unhealthy", "Liveness probe failed: dial tcp 10.0.0.1:8080: connect: connection refused"),
        told("FailedMount", "MountVolume.SetUp failed for volume \"config\": configmap \"config\" not found"),
        told("ProvisioningFailed", "storageclass.storage.k8s.io \"fast\" not found"),
        told(
            "FailedCreate",
            "create Pod db-0 in StatefulSet db failed error: pods \"db-0\" is forbidden: exceeded quota: \
              greenroom, requested: pods=1, used: pods=1, limited: pods=1",
        ),
        told("NodeNotReady", "Node is not ready"),
    ];
    insta::assert_snapshot!(cases.join("\n"));
    assert_eq!(telling(&[], |_, _| true), None);
}
