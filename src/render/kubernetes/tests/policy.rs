//! What an object must not be, in a table.

use super::*;

/// The objects of every kind that has pods, with this as the pod's specification.
fn workloads(spec: &Value) -> Vec<Value> {
    let template = json!({ "metadata": {"labels": {"a": "b"}}, "spec": spec });
    let object = |api: &str, kind: &str, spec: Value| json!({ "apiVersion": api, "kind": kind, "metadata": {"name": "a"}, "spec": spec });
    let mut all = vec![object("v1", "Pod", spec.clone())];
    for kind in ["Deployment", "StatefulSet", "DaemonSet"] {
        all.push(object("apps/v1", kind, json!({ "template": template })));
    }
    all.push(object("batch/v1", "Job", json!({ "template": template })));
    all.push(object("batch/v1", "CronJob", json!({ "jobTemplate": {"spec": {"template": template}} })));
    all
}

fn check(object: Value, rules: &ManifestRules) -> Result<Value, String> {
    let source = crate::render::Source { file: "k8s/a.yaml".into(), document: 2, line: Some(12) };
    let mut manifest = Manifest { object, source };
    rules.check(&mut manifest, &values()).map_err(|error| error.to_string())?;
    Ok(manifest.object)
}

fn pod(fields: &Value) -> Value {
    let mut spec = json!({ "containers": [{"name": "a", "image": "a"}] });
    for (key, value) in fields.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec
}

#[test]
fn what_a_pod_must_not_be_is_refused_in_every_kind_that_has_pods() {
    let specs = [
        (Some("hostNetwork"), json!({"hostNetwork": true})),
        (Some("hostPID"), json!({"hostPID": true})),
        (Some("hostPID"), json!({"hostIPC": true})),
        (
            Some("hostPath"),
            json!({"volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "hostPath": {"path": "/"}}]}),
        ),
        (Some("privileged"), json!({"containers": [{"securityContext": {"privileged": true}}]})),
        (Some("privileged"), json!({"initContainers": [{}, {"securityContext": {"privileged": true}}]})),
        (Some("privileged"), json!({"ephemeralContainers": [{"securityContext": {"privileged": true}}]})),
        (Some("hostPort"), json!({"initContainers": [{"ports": [{"hostPort": 80}]}]})),
        (Some("serviceAccountToken"), json!({"automountServiceAccountToken": true})),
        (
            Some("serviceAccountToken"),
            json!({"volumes": [{"name": "a", "projected": {"sources": [{"secret": {}}, {"serviceAccountToken": {}}]}}]}),
        ),
        (None, json!({"volumes": [{"name": "a", "nfs": {"server": "10.0.0.1"}}]})),
        (
            None,
            json!({"volumes": [{"name": "a", "ephemeral": {"volumeClaimTemplate": {"spec": {"volumeName": "b"}}}}]}),
        ),
        (None, json!({"volumes": [{"name": "a", "secret": {"secretName": "greenroom-pull"}}]})),
        (
            None,
            json!({"volumes": [{"name": "a", "projected": {"sources": [{"secret": {"name": "greenroom-pull"}}]}}]}),
        ),
        (None, json!({"containers": [{"envFrom": [{"secretRef": {"name": "greenroom-pull"}}]}]})),
        (
            None,
            json!({"initContainers": [{"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "greenroom-pull", "key": "a"}}}]}]}),
        ),
        (None, json!({"nodeName": "node-1"})),
        (None, json!({"priorityClassName": "system-node-critical"})),
    ];
    let mut told = Vec::new();
    for (allowed, fields) in specs {
        for object in workloads(&pod(&fields)) {
            let kind = object["kind"].clone();
            let refusal = check(object.clone(), &ManifestRules::default()).unwrap_err();
            if ["Pod", "CronJob"].contains(&kind.as_str().unwrap()) {
                told.push(refusal);
            }
            let Some(allowed) = allowed else { continue };
            let allow = [allowed.parse().unwrap()].into();
            check(object, &ManifestRules { allow, ..ManifestRules::default() }).unwrap();
        }
    }
    assert_snapshot!(told.join("\n"));
}

#[test]
fn no_pod_gets_a_token_that_does_not_ask_for_it() {
    for object in workloads(&pod(&json!({}))) {
        let text = check(object, &ManifestRules::default()).unwrap().to_string();
        assert!(text.contains("\"automountServiceAccountToken\":false"), "{text}");
    }
}

#[test]
fn what_an_object_must_not_be_is_refused_with_its_field() {
    let object = |api: &str, kind: &str, rest: Value| {
        let mut object = json!({ "apiVersion": api, "kind": kind, "metadata": {"name": "a"} });
        for (key, value) in rest.as_object().unwrap() {
            object[key] = value.clone();
        }
        object
    };
    let service = |spec: Value| object("v1", "Service", json!({ "spec": spec }));
    let ingress = |spec: Value| object("networking.k8s.io/v1", "Ingress", json!({ "spec": spec }));
    let route = |spec: Value| object("gateway.networking.k8s.io/v1", "HTTPRoute", json!({ "spec": spec }));
    let meta = |metadata: Value| object("v1", "ConfigMap", json!({ "metadata": metadata }));
    let host = "web-42-mr-7.preview.example";
    let objects = [
        object("v1", "Namespace", json!({})),
        object("v1", "PersistentVolume", json!({})),
        object("rbac.authorization.k8s.io/v1", "RoleBinding", json!({})),
        object("rbac.authorization.k8s.io/v1", "ClusterRole", json!({})),
        object("networking.k8s.io/v1", "NetworkPolicy", json!({})),
        object("v1", "ResourceQuota", json!({})),
        object("cert-manager.io/v1", "Certificate", json!({})),
        object("evil.example/v1", "Deployment", json!({})),
        object("extensions/v1beta1", "Ingress", json!({})),
        meta(json!({"name": "a", "namespace": "kube-system"})),
        meta(json!({"name": "a", "finalizers": ["a/b"]})),
        meta(json!({"name": "a", "ownerReferences": [{"kind": "Node"}]})),
        meta(json!({"name": "a", "labels": {"greenroom.dev/instance": "other"}})),
        meta(json!({"name": "a", "annotations": {"greenroom.dev/sha": "x"}})),
        service(json!({"selector": {"greenroom.dev/merge-request": "8"}})),
        object(
            "policy/v1",
            "PodDisruptionBudget",
            json!({"spec": {"selector": {"matchExpressions": [{"key": "greenroom.dev/instance", "operator": "Exists"}]}}}),
        ),
        service(json!({"type": "NodePort"})),
        service(json!({"type": "LoadBalancer"})),
        service(json!({"type": "ExternalName", "externalName": "gitlab.example"})),
        service(json!({"externalIPs": ["10.0.0.1"]})),
        service(json!({"ports": [{"port": 80}, {"port": 81, "nodePort": 30000}]})),
        object("v1", "Secret", json!({"type": "kubernetes.io/service-account-token"})),
        object("v1", "Secret", json!({"metadata": {"name": "greenroom"}})),
        object("v1", "PersistentVolumeClaim", json!({"spec": {"volumeName": "other"}})),
        object(
            "apps/v1",
            "StatefulSet",
            json!({"spec": {"volumeClaimTemplates": [{"spec": {"volumeName": "other"}}]}}),
        ),
        ingress(json!({})),
        ingress(json!({"rules": [{"http": {}}]})),
        ingress(json!({"rules": [{"host": host}, {"host": "gitlab.example"}]})),
        ingress(json!({"rules": [{"host": "evilweb-42-mr-7.preview.example"}]})),
        ingress(json!({"rules": [{"host": "*.preview.example"}]})),
        ingress(json!({"rules": [{"host": host}], "defaultBackend": {"service": {}}})),
        ingress(json!({"rules": [{"host": host}], "tls": [{"hosts": ["gitlab.example"]}]})),
        ingress(json!({"rules": [{"host": host}], "ingressClassName": "internal"})),
        object(
            "networking.k8s.io/v1",
            "Ingress",
            json!({"metadata": {"name": "a", "annotations": {"kubernetes.io/ingress.class": "internal"}}, "spec": {"rules": [{"host": host}]}}),
        ),
        object(
            "networking.k8s.io/v1",
            "Ingress",
            json!({"metadata": {"name": "a", "annotations": {"nginx.ingress.kubernetes.io/server-snippet": "x"}}, "spec": {"rules": [{"host": host}]}}),
        ),
        object(
            "networking.k8s.io/v1",
            "Ingress",
            json!({"metadata": {"name": "a", "annotations": {"nginx.ingress.kubernetes.io/auth-tls-secret": "kube-system/ca"}}, "spec": {"rules": [{"host": host}]}}),
        ),
        route(json!({})),
        route(json!({"hostnames": ["gitlab.example"]})),
        route(json!({"hostnames": [host], "parentRefs": [{"name": "public", "namespace": "gateways"}]})),
        route(
            json!({"hostnames": [host], "rules": [{"backendRefs": [{"name": "a", "namespace": "kube-system"}]}]}),
        ),
    ];
    let rules = ManifestRules {
        exposure: Exposure::Ingress { class: Some("nginx".into()) },
        ..ManifestRules::default()
    };
    let told: Vec<_> = objects.into_iter().map(|object| check(object, &rules).unwrap_err()).collect();
    assert_snapshot!(told.join("\n"));
}

#[test]
fn the_guards_are_nobody_elses_to_write() {
    let kinds = ["NetworkPolicy.networking.k8s.io".to_owned(), "ResourceQuota".to_owned()].into();
    let rules = ManifestRules { kinds, ..ManifestRules::default() };
    let told = [("networking.k8s.io/v1", "NetworkPolicy"), ("v1", "ResourceQuota")].map(|(api, kind)| {
        let named =
            |name: &str| check(json!({"apiVersion": api, "kind": kind, "metadata": {"name": name}}), &rules);
        named("own").unwrap();
        named("greenroom").unwrap_err()
    });
    assert_snapshot!(told.join("\n"), @r"
    `k8s/a.yaml:12 (document 2)`: `NetworkPolicy greenroom: metadata.name: is greenroom's own, expected another name`
    `k8s/a.yaml:12 (document 2)`: `ResourceQuota greenroom: metadata.name: is greenroom's own, expected another name`
    ");
}

#[test]
fn an_ingress_that_names_no_class_gets_the_operators() {
    let class = |ingress: Value, class: Option<&str>| {
        let rules = ManifestRules {
            exposure: Exposure::Ingress { class: class.map(str::to_owned) },
            ..ManifestRules::default()
        };
        check(ingress, &rules).unwrap()["spec"]["ingressClassName"].clone()
    };
    let ingress = |annotations: Value| {
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "a", "annotations": annotations},
            "spec": {"rules": [{"host": "web-42-mr-7.preview.example"}]},
        })
    };
    assert_eq!(class(ingress(json!({})), Some("nginx")), "nginx");
    assert_eq!(class(ingress(json!({"kubernetes.io/ingress.class": "nginx"})), Some("nginx")), Value::Null);
    assert_eq!(class(ingress(json!({})), None), Value::Null);
}

#[test]
fn what_stays_within_the_preview_is_let_through() {
    let host = "web-42-mr-7.preview.example";
    let rules = ManifestRules {
        kinds: ["NetworkPolicy.networking.k8s.io".to_owned()].into(),
        allow: Exception::ALL.iter().copied().collect(),
        exposure: Exposure::Gateway { name: "public".into(), namespace: "gateways".into(), section: None },
        ..ManifestRules::default()
    };
    let meta = json!({"name": "a", "namespace": "web-42-mr-7", "labels": {"app.kubernetes.io/name": "a"}});
    let nowhere =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": ""}});
    check(nowhere, &rules).unwrap();
    for (api, kind, spec) in [
        (
            "v1",
            "Service",
            json!({"type": "NodePort", "externalIPs": ["10.0.0.1"], "ports": [{"nodePort": 1}]}),
        ),
        ("networking.k8s.io/v1", "NetworkPolicy", json!({})),
        (
            "networking.k8s.io/v1",
            "Ingress",
            json!({"rules": [{"host": host}, {"host": format!("api.{host}")}]}),
        ),
        (
            "gateway.networking.k8s.io/v1",
            "HTTPRoute",
            json!({"hostnames": [host], "parentRefs": [{"name": "public", "namespace": "gateways"}],
                "rules": [{"backendRefs": [{"name": "a", "namespace": "web-42-mr-7"}]}]}),
        ),
    ] {
        check(json!({"apiVersion": api, "kind": kind, "metadata": meta, "spec": spec}), &rules).unwrap();
    }
    // What belongs to the cluster is never a preview's, whatever the settings say.
    let kinds = ["Namespace".to_owned(), "ClusterRole.rbac.authorization.k8s.io".to_owned()].into();
    let rules = ManifestRules { kinds, ..rules };
    for (api, kind) in [("v1", "Namespace"), ("rbac.authorization.k8s.io/v1", "ClusterRole")] {
        check(json!({"apiVersion": api, "kind": kind, "metadata": {"name": "a"}}), &rules).unwrap_err();
    }
}
