//! The objects that keep a preview within its bounds.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};

use super::names::{GREENROOM, POD_SECURITY, PULL_SECRET, SECRET};
use super::{PodSecurity, Profile};

/// The label of every namespace that says its name.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// Labels that make the API server refuse pods below the profile's level of Pod Security.
pub(super) fn pod_security(profile: &Profile) -> BTreeMap<String, String> {
    let level = match profile.pod_security {
        PodSecurity::Restricted => "restricted",
        PodSecurity::Baseline => "baseline",
    };
    ["enforce", "warn"].map(|mode| (format!("{POD_SECURITY}{mode}"), level.to_owned())).into()
}

/// The guard objects of a namespace, which come before everything that they guard.
pub(super) fn guards(profile: &Profile) -> Vec<Value> {
    let mut guards = vec![network_policy(profile)];
    if !profile.quota.is_empty() {
        guards.push(json!({
            "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": GREENROOM},
            "spec": {"hard": profile.quota},
        }));
    }
    if !profile.default_limits.is_empty() || !profile.default_requests.is_empty() {
        let mut limit = Map::from_iter([("type".to_owned(), json!("Container"))]);
        for (name, amounts) in
            [("default", &profile.default_limits), ("defaultRequest", &profile.default_requests)]
        {
            if !amounts.is_empty() {
                limit.insert(name.to_owned(), json!(amounts));
            }
        }
        guards.push(json!({
            "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": GREENROOM},
            "spec": {"limits": [limit]},
        }));
    }
    if !profile.secrets.is_empty() {
        let data: BTreeMap<&String, String> = profile
            .secrets
            .iter()
            .map(|(name, value)| (name, BASE64_STANDARD.encode(value.expose_secret())))
            .collect();
        guards.push(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET},
            "type": "Opaque", "data": data,
        }));
    }
    if let Some(login) = &profile.pull_secret {
        guards.push(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": PULL_SECRET},
            "type": "kubernetes.io/dockerconfigjson",
            "data": {".dockerconfigjson": BASE64_STANDARD.encode(login.expose_secret())},
        }));
    }
    guards
}

/// Nothing gets in but from the ingress controller and the namespace itself, and nothing out but to the namespace, to DNS
/// and to where the operator says.
fn network_policy(profile: &Profile) -> Value {
    let mut egress = vec![
        json!({"to": [{"podSelector": {}}]}),
        json!({
            "to": [{"namespaceSelector": {"matchLabels": {NAMESPACE_NAME: "kube-system"}}}],
            "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
        }),
    ];
    egress.extend(profile.egress.iter().map(|egress| {
        let mut rule = Map::from_iter([("to".to_owned(), json!([{"ipBlock": {"cidr": egress.cidr}}]))]);
        if !egress.ports.is_empty() {
            let ports: Vec<Value> =
                egress.ports.iter().map(|port| json!({"protocol": "TCP", "port": port})).collect();
            rule.insert("ports".to_owned(), json!(ports));
        }
        Value::Object(rule)
    }));
    let controller = json!({"matchLabels": {NAMESPACE_NAME: profile.ingress_namespace}});
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": GREENROOM},
        "spec": {
            "podSelector": {},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [{"podSelector": {}}, {"namespaceSelector": controller}]}],
            "egress": egress,
        },
    })
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::super::Egress;
    use super::*;

    pub(in crate::engine::kubernetes) fn profile() -> Profile {
        Profile {
            pod_security: PodSecurity::Restricted,
            quota: BTreeMap::new(),
            default_limits: BTreeMap::new(),
            default_requests: BTreeMap::new(),
            ingress_namespace: "ingress-nginx".into(),
            egress: Vec::new(),
            pull_secret: None,
            secrets: BTreeMap::new(),
            annotations: BTreeMap::new(),
            ready_within: Duration::from_mins(10),
        }
    }

    fn entries(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn nothing_but_what_is_needed_gets_in_and_out() {
        let mut profile = profile();
        profile.egress = vec![
            Egress { cidr: "10.1.0.0/16".into(), ports: vec![5432] },
            Egress { cidr: "192.0.2.7/32".into(), ports: vec![] },
        ];
        insta::assert_snapshot!(serde_saphyr::to_string(&network_policy(&profile)).unwrap());
    }

    #[test]
    fn what_the_operator_leaves_out_is_not_made() {
        let kinds = |profile: &Profile| {
            guards(profile).iter().map(|guard| guard["kind"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let mut profile = profile();
        assert_eq!(kinds(&profile), ["NetworkPolicy"]);
        profile.quota = entries(&[("pods", "10")]);
        profile.default_limits = entries(&[("memory", "256Mi")]);
        profile.secrets = [("TOKEN".to_owned(), "hush".into())].into();
        profile.pull_secret = Some("{}".into());
        assert_eq!(kinds(&profile), ["NetworkPolicy", "ResourceQuota", "LimitRange", "Secret", "Secret"]);
        assert_eq!(guards(&profile)[3]["data"]["TOKEN"], "aHVzaA==");
    }
}
