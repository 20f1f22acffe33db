//! What an object may be, before anything is sent. Pure.
//!
//! The API server's own checks (Pod Security, quota, network policy) stand behind this one; this one stands before them
//! because it can name the file and the field, and because some of it nobody else would refuse: another's host name, a
//! finalizer, our own labels.

mod pods;
mod routes;

use std::collections::BTreeSet;
use std::str::FromStr;

use serde_json::Value;

use super::error::RenderError;
use super::values::Values;
use crate::render::Manifest;

/// Kinds that a preview may have, by group.
const KINDS: [(&str, &[&str]); 7] = [
    ("", &["ConfigMap", "PersistentVolumeClaim", "Pod", "Secret", "Service", "ServiceAccount"]),
    ("apps", &["DaemonSet", "Deployment", "StatefulSet"]),
    ("autoscaling", &["HorizontalPodAutoscaler"]),
    ("batch", &["CronJob", "Job"]),
    ("gateway.networking.k8s.io", &["HTTPRoute"]),
    ("networking.k8s.io", &["Ingress"]),
    ("policy", &["PodDisruptionBudget"]),
];

/// Kinds of the cluster as a whole, which no setting allows: they would outlive the preview's namespace.
const OF_THE_CLUSTER: [&str; 16] = [
    "APIService",
    "ClusterIssuer",
    "ClusterRole",
    "ClusterRoleBinding",
    "CSIDriver",
    "CustomResourceDefinition",
    "GatewayClass",
    "IngressClass",
    "MutatingWebhookConfiguration",
    "Namespace",
    "Node",
    "PersistentVolume",
    "PriorityClass",
    "RuntimeClass",
    "StorageClass",
    "ValidatingWebhookConfiguration",
];

/// Objects that greenroom itself puts into the namespace.
const OURS: [(&str, &str); 5] = [
    ("LimitRange", "greenroom"),
    ("NetworkPolicy", "greenroom"),
    ("ResourceQuota", "greenroom"),
    ("Secret", "greenroom"),
    ("Secret", PULL_SECRET),
];

/// The Secret that images are pulled with.
const PULL_SECRET: &str = "greenroom-pull";

/// What the operator lets a project's objects be.
#[derive(Debug, Clone, Default)]
pub struct ManifestRules {
    /// Kinds beside the usual ones, such as `Certificate.cert-manager.io`, or `NetworkPolicy.networking.k8s.io`.
    pub kinds: BTreeSet<String>,
    /// What is allowed though it reaches out of the preview.
    pub allow: BTreeSet<Exception>,
    /// How previews are reached.
    pub exposure: Exposure,
    /// Name of the Secret with the certificate of the host, in the preview's namespace.
    pub tls_secret: Option<String>,
    /// Names of the operator's secrets that the project may use.
    pub secrets: BTreeSet<String>,
}

/// How previews are reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exposure {
    /// By an Ingress.
    Ingress {
        /// Its class; without one, the cluster's default.
        class: Option<String>,
    },
    /// By an HTTPRoute of a Gateway that is there.
    Gateway {
        /// The Gateway's name.
        name: String,
        /// The Gateway's namespace.
        namespace: String,
        /// One of its listeners; without one, all that fit.
        section: Option<String>,
    },
}

impl Default for Exposure {
    fn default() -> Self {
        Self::Ingress { class: None }
    }
}

macro_rules! exceptions {
    ($($(#[$doc:meta])* $name:ident = $text:literal),* $(,)?) => {
        /// Something that reaches out of the preview, which an operator can allow.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Exception {
            $($(#[$doc])* $name),*
        }

        impl Exception {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Its name in settings.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text),*
                }
            }
        }
    };
}

exceptions! {
    /// Volumes of the node's own file system.
    HostPath = "hostPath",
    /// Containers with all rights on the node.
    Privileged = "privileged",
    /// The node's network, `hostNetwork`.
    HostNetwork = "hostNetwork",
    /// The node's processes, `hostPID` and `hostIPC`.
    HostProcesses = "hostPID",
    /// Ports of the node, `hostPort`.
    HostPort = "hostPort",
    /// Services with a port on every node.
    NodePort = "nodePort",
    /// Services with an address of their own.
    LoadBalancer = "loadBalancer",
    /// Services that claim addresses, `externalIPs`, or names, `externalName`.
    External = "externalIPs",
    /// A token for the API server in the pods.
    ServiceAccountToken = "serviceAccountToken",
}

impl FromStr for Exception {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.iter().copied().find(|exception| exception.as_str() == text).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|exception| exception.as_str()).collect();
            format!("cannot be allowed; known: {}", known.join(", "))
        })
    }
}

/// A field that must not be as it is.
struct Fault {
    field: String,
    why: String,
}

/// Collects nothing: the first fault is the one people mend first.
type Checked = Result<(), Fault>;

fn fault(field: impl Into<String>, why: impl Into<String>) -> Fault {
    Fault { field: field.into(), why: why.into() }
}

impl ManifestRules {
    /// Checks an object, takes the token from its pods where it says nothing about it, and gives an Ingress the operator's class
    /// where it names none.
    pub(super) fn check(&self, manifest: &mut Manifest, values: &Values) -> Result<(), RenderError> {
        let object = &manifest.object;
        let text = |key| object.pointer(key).and_then(Value::as_str).unwrap_or_default();
        let (kind, name) = (text("/kind"), text("/metadata/name"));
        self.check_object(object, kind, values).map_err(|Fault { field, why }| {
            RenderError::object(&manifest.source, format!("{kind} {name}: {field}: {why}"))
        })?;
        if !self.allow.contains(&Exception::ServiceAccountToken) {
            pods::take_token(&mut manifest.object);
        }
        routes::give_class(&mut manifest.object, &self.exposure);
        Ok(())
    }

    fn check_object(&self, object: &Value, kind: &str, values: &Values) -> Checked {
        self.check_kind(object, kind)?;
        let metadata = &object["metadata"];
        let namespace = metadata["namespace"].as_str().unwrap_or_default();
        if !namespace.is_empty() && namespace != values.name.as_str() {
            let why = format!("{namespace} is another namespace, expected {} or none", values.name);
            return Err(fault("metadata.namespace", why));
        }
        for key in ["finalizers", "ownerReferences"] {
            if metadata[key].as_array().is_some_and(|entries| !entries.is_empty()) {
                return Err(fault(format!("metadata.{key}"), "could keep the preview from being removed"));
            }
        }
        no_labels_of_ours(object, "")?;
        if OURS.iter().any(|own| Some(*own) == metadata["name"].as_str().map(|name| (kind, name))) {
            return Err(fault("metadata.name", "is greenroom's own, expected another name"));
        }
        match kind {
            "Service" => self.check_service(&object["spec"])?,
            "Secret" => check_secret(object)?,
            "Ingress" => routes::check_ingress(object, values, &self.exposure)?,
            "HTTPRoute" => routes::check_http_route(object, values, &self.exposure)?,
            "PersistentVolumeClaim" => pods::check_claim(&object["spec"], "spec")?,
            _ => {}
        }
        pods::check(object, &self.allow)
    }

    fn check_kind(&self, object: &Value, kind: &str) -> Checked {
        let api = object["apiVersion"].as_str().unwrap_or_default();
        let group = api.rsplit_once('/').map_or("", |(group, _)| group);
        if OF_THE_CLUSTER.contains(&kind) || group == "rbac.authorization.k8s.io" {
            return Err(fault("kind", "is not of a namespace, or gives rights; previews may have neither"));
        }
        if group == "extensions" {
            let instead = if kind == "Ingress" { "networking.k8s.io/v1" } else { "apps/v1" };
            return Err(fault("apiVersion", format!("{api} is gone from Kubernetes, expected {instead}")));
        }
        if group == "apps" && kind == "ReplicaSet" {
            // Those of Deployments are watched by their metadata alone.
            return Err(fault(
                "kind",
                "is what Deployments make, and whether it is ready by itself is not seen; write a Deployment",
            ));
        }
        let usual = KINDS.iter().any(|(known, kinds)| *known == group && kinds.contains(&kind));
        let full = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
        if usual || self.kinds.contains(&full) {
            return Ok(());
        }
        Err(fault(
            "kind",
            format!("{full} is not allowed here; the operator can allow it with the setting kinds"),
        ))
    }

    fn check_service(&self, spec: &Value) -> Checked {
        let unless = |exception: Exception, field: &str, why: &str| {
            if self.allow.contains(&exception) {
                Ok(())
            } else {
                Err(fault(field, not_allowed(why, exception)))
            }
        };
        match spec["type"].as_str() {
            Some("NodePort") => unless(Exception::NodePort, "spec.type", "opens a port on every node")?,
            Some("LoadBalancer") => {
                unless(Exception::LoadBalancer, "spec.type", "takes an address of its own")?;
            }
            Some("ExternalName") => unless(Exception::External, "spec.type", "leads out of the preview")?,
            _ => {}
        }
        if spec["externalIPs"].as_array().is_some_and(|addresses| !addresses.is_empty()) {
            unless(Exception::External, "spec.externalIPs", "claims addresses of the network")?;
        }
        for (at, port) in spec["ports"].as_array().into_iter().flatten().enumerate() {
            if !port["nodePort"].is_null() {
                unless(
                    Exception::NodePort,
                    &format!("spec.ports[{at}].nodePort"),
                    "opens a port on every node",
                )?;
            }
        }
        Ok(())
    }
}

fn not_allowed(what: &str, exception: Exception) -> String {
    format!("{what}; the operator can allow it with {}", exception.as_str())
}

fn check_secret(object: &Value) -> Checked {
    if object["type"].as_str() == Some("kubernetes.io/service-account-token") {
        return Err(fault("type", "asks for a token for the API server; previews get none"));
    }
    Ok(())
}

/// `greenroom.dev/…` is how we know what is ours: nobody else may write it, or select by it.
fn no_labels_of_ours(value: &Value, path: &str) -> Checked {
    const OURS: &str = "greenroom.dev/";
    let refuse =
        |field: String| Err(fault(field, "labels and annotations of greenroom.dev are greenroom's own"));
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let field = join(path, key);
                let names = ["key", "topologyKey"].contains(&key.as_str())
                    && value.as_str().is_some_and(|text| text.starts_with(OURS));
                if key.starts_with(OURS) || names {
                    return refuse(field);
                }
                no_labels_of_ours(value, &field)?;
            }
            Ok(())
        }
        Value::Array(items) => items
            .iter()
            .enumerate()
            .try_for_each(|(at, item)| no_labels_of_ours(item, &format!("{path}[{at}]"))),
        _ => Ok(()),
    }
}

fn join(path: &str, key: &str) -> String {
    match (path, key.contains(['.', '/'])) {
        ("", false) => key.to_owned(),
        (_, false) => format!("{path}.{key}"),
        (_, true) => format!("{path}[{key}]"),
    }
}
