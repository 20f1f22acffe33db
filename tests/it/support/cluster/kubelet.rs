//! What stands for kubelets: kwok's stages. No container runs. A pod becomes ready as soon as it is scheduled and a Job's pod
//! ends well, unless the name of one of its images tells what a kubelet would find: `registry.test/acme/web/kubelet-says-oom-killed:1`.

use std::path::Path;

use serde_json::{Value, json};

/// What a kubelet would say of a pod, from then on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    /// The registry does not have the image.
    ImageMissing,
    /// The registry wants credentials that the pod does not have.
    NoCredentials,
    /// The image is for other processors.
    WrongArchitecture,
    /// The program ends with exit code 1, again and again.
    CrashLoop,
    /// The program takes more memory than its limit.
    OomKilled,
    /// The program runs, and its readiness probe is answered with status 500.
    ProbeFailing,
    /// The container is being made, for ever.
    Creating,
    /// The program of a Job's pod ends with exit code 3, and that is it.
    Fails,
}

impl Says {
    pub const ALL: [Self; 8] = [
        Self::ImageMissing,
        Self::NoCredentials,
        Self::WrongArchitecture,
        Self::CrashLoop,
        Self::OomKilled,
        Self::ProbeFailing,
        Self::Creating,
        Self::Fails,
    ];

    /// An image of which kubelets say this, such as `registry.test/web/kubelet-says-oom-killed`; without tag and digest.
    pub fn image(self, repository: &str) -> String {
        format!("{repository}/kubelet-says-{}", self.word())
    }

    const fn word(self) -> &'static str {
        match self {
            Self::ImageMissing => "image-missing",
            Self::NoCredentials => "no-credentials",
            Self::WrongArchitecture => "wrong-architecture",
            Self::CrashLoop => "crash-loop",
            Self::OomKilled => "oom-killed",
            Self::ProbeFailing => "probe-failing",
            Self::Creating => "creating",
            Self::Fails => "fails",
        }
    }

    /// The pod's phase, the state of its containers and the one before, how often they were started again, and the event,
    /// in the words of kubelet and containerd. The words about an image have `{{ .image }}` in its place.
    fn story(self) -> Story {
        let pull = |cause: &str| Story {
            phase: "Pending",
            state: json!({ "waiting": {
                "reason": "ImagePullBackOff",
                "message": format!(
                    "Back-off pulling image \"{IMAGE}\": ErrImagePull: failed to pull and unpack image \"{IMAGE}\": {cause}"
                ),
            } }),
            last: json!({}),
            restarts: 0,
            event: Some(("Failed", "Error: ImagePullBackOff")),
        };
        let backing_off = |code: u8, reason: &str| Story {
            phase: "Running",
            state: json!({ "waiting": {
                "reason": "CrashLoopBackOff",
                "message": "back-off 40s restarting failed container",
            } }),
            last: json!({ "terminated": { "exitCode": code, "reason": reason, "startedAt": NOW, "finishedAt": NOW } }),
            restarts: 3,
            event: Some(("BackOff", "Back-off restarting failed container")),
        };
        match self {
            Self::ImageMissing => {
                pull(&format!("failed to resolve reference \"{IMAGE}\": {IMAGE}: not found"))
            }
            Self::NoCredentials => pull(&format!(
                "failed to resolve reference \"{IMAGE}\": pull access denied, repository does not exist or may require \
                 authorization: authorization failed: no basic auth credentials"
            )),
            Self::WrongArchitecture => pull("no match for platform in manifest: not found"),
            Self::CrashLoop => backing_off(1, "Error"),
            Self::OomKilled => backing_off(137, "OOMKilled"),
            Self::ProbeFailing => Story {
                phase: "Running",
                state: json!({ "running": { "startedAt": NOW } }),
                last: json!({}),
                restarts: 0,
                event: Some(("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 500")),
            },
            Self::Creating => Story {
                phase: "Pending",
                state: json!({ "waiting": { "reason": "ContainerCreating" } }),
                last: json!({}),
                restarts: 0,
                event: None,
            },
            Self::Fails => Story {
                phase: "Failed",
                state: json!({ "terminated": {
                    "exitCode": 3, "reason": "Error", "startedAt": NOW, "finishedAt": NOW,
                } }),
                last: json!({}),
                restarts: 0,
                event: None,
            },
        }
    }
}

/// See [`Says::story`].
struct Story {
    phase: &'static str,
    state: Value,
    last: Value,
    restarts: u8,
    event: Option<(&'static str, &'static str)>,
}

const NOW: &str = "{{ $now }}";
const IMAGE: &str = "{{ .image }}";

/// jq: the words after `kubelet-says-` in the names of a pod's images; none for most pods.
const SAID: &str = r#".spec.containers.[].image | capture("/kubelet-says-(?<word>[a-z-]+)") | .word"#;

/// kwok's configuration: its stages, and `log` as what every container has written, `previous` as what it had before it was
/// started again.
pub fn configuration(log: &Path, previous: &Path) -> String {
    let mut documents: Vec<_> = Says::ALL.into_iter().map(says).collect();
    documents.extend([node_starts(), pod_is_ready(), job_is_done(), pod_is_deleted()]);
    documents.push(json!({
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "ClusterLogs",
        "metadata": { "name": "every-container" },
        "spec": { "logs": [{ "logsFile": log, "previousLogsFile": previous, "follow": false }] },
    }));
    // JSON is YAML.
    documents.iter().map(|document| format!("{document:#}")).collect::<Vec<_>>().join("\n---\n")
}

fn stage(name: &str, kind: &str, conditions: &[Value], next: &Value) -> Value {
    json!({
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "Stage",
        "metadata": { "name": name },
        "spec": {
            "resourceRef": { "apiGroup": "v1", "kind": kind },
            "selector": { "matchExpressions": conditions },
            "next": next,
        },
    })
}

fn is(key: &str, value: &str) -> Value {
    json!({ "key": key, "operator": "In", "values": [value] })
}

fn is_not(key: &str, value: &str) -> Value {
    json!({ "key": key, "operator": "NotIn", "values": [value] })
}

fn has(key: &str) -> Value {
    json!({ "key": key, "operator": "Exists" })
}

fn has_no(key: &str) -> Value {
    json!({ "key": key, "operator": "DoesNotExist" })
}

const DELETED: &str = ".metadata.deletionTimestamp";
const PHASE: &str = ".status.phase";
const READY: &str = r#".status.conditions.[] | select(.type == "Ready") | .status"#;

fn says(what: Says) -> Value {
    let Story { phase, state, last, restarts, event } = what.story();
    let running = state.get("running").is_some();
    // The braces of Go's templates are no JSON, but stand within its strings.
    let status = format!(
        r#"{{{{ $now := Now }}}}
phase: {phase}
startTime: "{NOW}"
{ADDRESSES}
conditions:
- {{type: Initialized, status: "True", lastTransitionTime: "{NOW}"}}
{unready}
{containers}"#,
        containers = statuses("containers", (false, running), restarts, &format!("state: {state}\n  lastState: {last}")),
        unready = ["Ready", "ContainersReady"]
            .map(|kind| format!(
                r#"- {{type: {kind}, status: "False", reason: ContainersNotReady, lastTransitionTime: "{NOW}"}}"#
            ))
            .join("\n"),
    );
    let mut next = json!({ "statusTemplate": status });
    if let Some((reason, message)) = event {
        next["event"] = json!({ "type": "Warning", "reason": reason, "message": message });
    }
    let when =
        [is(SAID, what.word()), has_no(DELETED), is(PHASE, "Pending"), has_no(".status.containerStatuses")];
    stage(&format!("kubelet-says-{}", what.word()), "Pod", &when, &next)
}

/// What is said of each of a pod's `containers` or `initContainers`: whether it is ready and was started, how often it was
/// started again, and its state.
fn statuses(containers: &str, (ready, started): (bool, bool), restarts: u8, state: &str) -> String {
    let key = format!("{}Statuses", containers.trim_end_matches('s'));
    format!(
        r#"{key}:
{{{{ range .spec.{containers} }}}}
- name: {{{{ .name | Quote }}}}
  image: {{{{ .image | Quote }}}}
  imageID: ""
  ready: {ready}
  started: {started}
  restartCount: {restarts}
  {state}
{{{{ end }}}}
"#
    )
}

/// The state of a container whose program has ended well.
fn completed() -> String {
    format!(
        r#"state: {{terminated: {{exitCode: 0, reason: Completed, startedAt: "{NOW}", finishedAt: "{NOW}"}}}}"#
    )
}

const ADDRESSES: &str = "hostIP: {{ NodeIPWith .spec.nodeName | Quote }}
podIP: {{ PodIPWith .spec.nodeName false .metadata.uid .metadata.name .metadata.namespace | Quote }}";

fn pod_is_ready() -> Value {
    let status = format!(
        r#"{{{{ $now := Now }}}}
phase: Running
startTime: "{NOW}"
{ADDRESSES}
conditions:
- {{type: Initialized, status: "True", lastTransitionTime: "{NOW}"}}
- {{type: Ready, status: "True", lastTransitionTime: "{NOW}"}}
- {{type: ContainersReady, status: "True", lastTransitionTime: "{NOW}"}}
{containers}{before}"#,
        containers = statuses(
            "containers",
            (true, true),
            0,
            &format!(r#"state: {{running: {{startedAt: "{NOW}"}}}}"#)
        ),
        before = statuses("initContainers", (true, false), 0, &completed()),
    );
    let when = [has_no(SAID), has_no(DELETED), is(PHASE, "Pending"), is_not(READY, "True")];
    stage("pod-is-ready", "Pod", &when, &json!({ "statusTemplate": status }))
}

fn job_is_done() -> Value {
    let status = format!(
        r#"{{{{ $now := Now }}}}
phase: Succeeded
conditions:
- {{type: Ready, status: "False", reason: PodCompleted, lastTransitionTime: "{NOW}"}}
- {{type: ContainersReady, status: "False", reason: PodCompleted, lastTransitionTime: "{NOW}"}}
{containers}"#,
        containers = statuses("containers", (false, false), 0, &completed()),
    );
    let when =
        [has_no(SAID), has_no(DELETED), is(PHASE, "Running"), is(".metadata.ownerReferences.[].kind", "Job")];
    stage("job-is-done", "Pod", &when, &json!({ "statusTemplate": status }))
}

fn pod_is_deleted() -> Value {
    let when = [has(DELETED), has_no(".metadata.finalizers")];
    stage("pod-is-deleted", "Pod", &when, &json!({ "delete": true }))
}

fn node_starts() -> Value {
    let next = json!({ "statusTemplate": format!("{}phase: Running\n", node_status()) });
    stage("node-starts", "Node", &[is_not(READY, "True")], &next)
}

fn node_status() -> String {
    format!(
        r#"{{{{ $now := Now }}}}
conditions:
{{{{ range NodeConditions }}}}
- type: {{{{ .type | Quote }}}}
  status: {{{{ .status | Quote }}}}
  reason: {{{{ .reason | Quote }}}}
  message: {{{{ .message | Quote }}}}
  lastHeartbeatTime: "{NOW}"
  lastTransitionTime: {{{{ .metadata.creationTimestamp | Quote }}}}
{{{{ end }}}}
addresses:
- {{type: InternalIP, address: {{{{ NodeIP | Quote }}}}}}
- {{type: Hostname, address: {{{{ NodeName | Quote }}}}}}
daemonEndpoints: {{kubeletEndpoint: {{Port: {{{{ NodePort }}}}}}}}
nodeInfo:
  architecture: amd64
  operatingSystem: linux
  kubeletVersion: kwok
  containerRuntimeVersion: kwok
  kernelVersion: kwok
  kubeProxyVersion: kwok
  bootID: ""
  machineID: ""
  osImage: ""
  systemUUID: ""
"#
    )
    .replace(".metadata.creationTimestamp", "$.metadata.creationTimestamp")
}
