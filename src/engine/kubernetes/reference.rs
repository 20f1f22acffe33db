//! Objects by kind and name, what is known of their kinds, and the order they are sent in.

use std::fmt;

use kube::core::{ApiResource, GroupVersionKind};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A kind of objects with its API version.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Kind {
    /// Such as `apps/v1`.
    #[serde(rename = "v")]
    pub api_version: String,
    /// Such as `Deployment`.
    #[serde(rename = "k")]
    pub kind: String,
}

/// An object of a preview's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Reference {
    #[serde(flatten)]
    pub kind: Kind,
    #[serde(rename = "n")]
    pub name: String,
}

/// API groups that are part of Kubernetes itself, whose kinds have the plural that English suggests.
const BUILT_IN: [&str; 7] =
    ["", "apps", "autoscaling", "batch", "networking.k8s.io", "policy", "rbac.authorization.k8s.io"];

impl Kind {
    pub(super) fn new(api_version: &str, kind: &str) -> Self {
        Self { api_version: api_version.to_owned(), kind: kind.to_owned() }
    }

    pub(super) fn gvk(&self) -> GroupVersionKind {
        let (group, version) = self.api_version.split_once('/').unwrap_or(("", &self.api_version));
        GroupVersionKind::gvk(group, version, &self.kind)
    }

    /// Tells it from kinds of other groups, in whatever version: such as `Deployment` or `Service.serving.knative.dev`.
    pub(super) fn id(&self) -> String {
        let gvk = self.gvk();
        if BUILT_IN.contains(&gvk.group.as_str()) { gvk.kind } else { format!("{}.{}", gvk.kind, gvk.group) }
    }

    /// How the API server calls it, where that needs no question.
    pub(super) fn built_in(&self) -> Option<ApiResource> {
        let gvk = self.gvk();
        BUILT_IN.contains(&gvk.group.as_str()).then(|| ApiResource::from_gvk(&gvk))
    }

    /// Whether objects of this kind become ready at once, so that their metadata tells all there is to know.
    pub(super) fn is_inert(&self) -> bool {
        matches!(
            self.kind.as_str(),
            "ConfigMap"
                | "ServiceAccount"
                | "ResourceQuota"
                | "LimitRange"
                | "NetworkPolicy"
                | "Role"
                | "RoleBinding"
        )
    }

    /// Whether objects of this kind are watched. Nobody should have to let greenroom list the Secrets of a whole cluster.
    pub(super) fn is_watched(&self) -> bool {
        !self.is_secret()
    }

    pub(super) fn is_secret(&self) -> bool {
        self.api_version == "v1" && self.kind == "Secret"
    }

    /// Whether an object of this kind may go and come back without harm, so that what cannot be changed in place changes.
    fn is_replaceable(&self) -> bool {
        matches!(
            self.kind.as_str(),
            "Job"
                | "CronJob"
                | "Deployment"
                | "StatefulSet"
                | "DaemonSet"
                | "ReplicaSet"
                | "Pod"
                | "Service"
                | "ConfigMap"
                | "Secret"
                | "RoleBinding"
                | "HorizontalPodAutoscaler"
                | "Ingress"
        )
    }

    /// Whether `object`, of this kind, may go and come back: one whose volumes go with it may not.
    pub(super) fn may_be_replaced(&self, object: &Value) -> bool {
        self.is_replaceable()
            && object.pointer("/spec/persistentVolumeClaimRetentionPolicy/whenDeleted")
                != Some(&Value::from("Delete"))
    }

    /// Which of the waves it is sent in: what others refer to goes first.
    fn wave(&self) -> usize {
        match self.kind.as_str() {
            "Role"
            | "RoleBinding"
            | "ServiceAccount"
            | "ConfigMap"
            | "Secret"
            | "PersistentVolumeClaim"
            | "Service" => 0,
            "HorizontalPodAutoscaler" | "PodDisruptionBudget" | "Ingress" | "HTTPRoute" => 2,
            _ => 1,
        }
    }
}

impl Reference {
    /// Of an object with `apiVersion`, `kind` and `metadata.name`.
    pub(super) fn of(object: &Value) -> Option<Self> {
        let text = |pointer| object.pointer(pointer).and_then(Value::as_str);
        Some(Self {
            kind: Kind::new(text("/apiVersion")?, text("/kind")?),
            name: text("/metadata/name")?.to_owned(),
        })
    }

    /// Whether its parts are names and nothing more.
    pub(super) fn is_plain(&self) -> bool {
        let is_name = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "-._:".contains(c));
        let Kind { api_version, kind } = &self.kind;
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let parts = [group, version, kind, &self.name];
        parts.into_iter().all(|part| is_name(part) && ![".", ".."].contains(&part))
    }

    /// Whether both mean one object, whatever version of its kind they were written in.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.name == other.name && self.kind.id() == other.kind.id()
    }
}

/// As in a sentence: Deployment `web`. Names are DNS names, so they cannot break out of the backticks.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.kind, crate::preview::Quoted::new(&self.name))
    }
}

/// Sorts objects into waves: those of one wave may be sent at the same time.
pub(super) fn waves<T>(objects: Vec<T>, kind: impl Fn(&T) -> &Kind) -> [Vec<T>; 3] {
    let mut waves = [Vec::new(), Vec::new(), Vec::new()];
    for object in objects {
        waves[kind(&object).wave()].push(object);
    }
    waves
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_kubernetes_need_no_question() {
        for (api_version, kind, plural) in [
            ("apps/v1", "Deployment", Some("deployments")),
            ("v1", "Service", Some("services")),
            ("networking.k8s.io/v1", "Ingress", Some("ingresses")),
            ("networking.k8s.io/v1", "NetworkPolicy", Some("networkpolicies")),
            ("v1", "ResourceQuota", Some("resourcequotas")),
            ("gateway.networking.k8s.io/v1", "HTTPRoute", None),
        ] {
            let resource = Kind::new(api_version, kind).built_in();
            assert_eq!(resource.map(|resource| resource.plural).as_deref(), plural, "{kind}");
        }
    }

    #[test]
    fn what_leads_elsewhere_is_no_name() {
        let plain = |api_version: &str, kind: &str, name: &str| {
            Reference { kind: Kind::new(api_version, kind), name: name.into() }.is_plain()
        };
        assert!(plain("apps/v1", "Deployment", "web") && plain("v1", "ServiceAccount", "a.b:c-1"));
        let elsewhere = "v1%2fnamespaces%2fkube-system%2fconfigmaps%2fcoredns?";
        for (api_version, kind, name) in [
            (elsewhere, "ConfigMap", "a"),
            ("apps/v1/namespaces", "Deployment", "a"),
            ("v1", "../Pod", "a"),
            ("v1", "Pod", "a/exec"),
            ("v1", "Pod", "a?force=true"),
            ("v1", "Pod", ".."),
        ] {
            assert!(!plain(api_version, kind, name), "{api_version} {kind} {name}");
        }
    }

    #[test]
    fn a_kind_of_somebody_else_is_not_ours_by_its_name() {
        let ids = ["v1", "serving.knative.dev/v1"].map(|api_version| Kind::new(api_version, "Service").id());
        assert_eq!(ids, ["Service", "Service.serving.knative.dev"]);
    }

    #[test]
    fn what_others_refer_to_goes_first() {
        let kinds = ["Ingress", "Deployment", "ConfigMap", "Widget", "Service"];
        let [first, second, third] = waves(kinds.map(|kind| Kind::new("v1", kind)).into(), |kind| kind);
        let names = |kinds: Vec<Kind>| kinds.into_iter().map(|kind| kind.kind).collect::<Vec<_>>();
        assert_eq!(names(first), ["ConfigMap", "Service"]);
        assert_eq!(names(second), ["Deployment", "Widget"]);
        assert_eq!(names(third), ["Ingress"]);
    }
}
