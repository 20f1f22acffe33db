//! What the operator says about a project's previews on a cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use secrecy::SecretString;

/// How the guard objects of a preview's namespace are made.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Level of Pod Security that the namespace enforces.
    pub pod_security: PodSecurity,
    /// `spec.hard` of the namespace's ResourceQuota; empty for none.
    pub quota: BTreeMap<String, String>,
    /// What a container gets that asks for nothing (LimitRange `default`); empty for none.
    pub default_limits: BTreeMap<String, String>,
    /// What a container is counted for that asks for nothing (LimitRange `defaultRequest`); empty for none.
    pub default_requests: BTreeMap<String, String>,
    /// Namespace of the ingress controller, which may reach the previews.
    pub ingress_namespace: String,
    /// Where previews may connect to, beside DNS and their own namespace.
    pub egress: Vec<Egress>,
    /// The text of a `.dockerconfigjson`, for pulling images.
    pub pull_secret: Option<SecretString>,
    /// Values of the Secret `greenroom`, which pods may use.
    pub secrets: BTreeMap<String, SecretString>,
    /// Annotations that every namespace gets, such as Rancher's project.
    pub annotations: BTreeMap<String, String>,
    /// How long a revision may take to become ready.
    pub ready_within: Duration,
}

/// Level of the Pod Security Standards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodSecurity {
    /// The default.
    Restricted,
    /// For images that want to be root.
    Baseline,
}

/// A destination that previews may connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Egress {
    /// Addresses in CIDR notation.
    pub cidr: String,
    /// TCP ports; empty for all.
    pub ports: Vec<u16>,
}
