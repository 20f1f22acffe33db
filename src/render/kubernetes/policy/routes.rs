//! Which host names a preview may answer to: its own and those below.

use serde_json::Value;

use super::{Checked, Exposure, fault};
use crate::render::kubernetes::values::Values;

/// Annotations by which an Ingress takes more than its rules say, by the end of their names.
const REACHING: [&str; 6] =
    ["-snippet", "/server-alias", "/auth-url", "/auth-signin", "/permanent-redirect", "/temporal-redirect"];

/// Annotations that name an object, which may be of another namespace, by the end of their names.
const BORROWING: [&str; 2] = ["-secret", "-configmap"];

/// How an Ingress named its class before there was a field for it; controllers still heed it.
const CLASS: &str = "kubernetes.io/ingress.class";

/// Whether `name` is the preview's host or lies below it. A wildcard below it does, too.
fn is_own(name: &str, host: &str) -> bool {
    name == host || name.strip_suffix(host).is_some_and(|below| below.ends_with('.') && below.len() > 1)
}

fn check_host(name: Option<&str>, host: &str, field: &str) -> Checked {
    match name {
        Some(name) if is_own(name, host) => Ok(()),
        Some(name) => {
            Err(fault(field, format!("{name} is not this preview's, expected {host} or a name below it")))
        }
        None => Err(fault(field, format!("would answer to every host, expected {host}"))),
    }
}

/// Gives an Ingress that names no class the operator's.
pub(super) fn give_class(object: &mut Value, exposure: &Exposure) {
    let Exposure::Ingress { class: Some(class) } = exposure else { return };
    let silent =
        object["spec"]["ingressClassName"].is_null() && object["metadata"]["annotations"][CLASS].is_null();
    if object["kind"] == "Ingress"
        && silent
        && let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut)
    {
        spec.insert("ingressClassName".into(), class.as_str().into());
    }
}

pub(super) fn check_ingress(object: &Value, values: &Values, exposure: &Exposure) -> Checked {
    let (own, host) = (values.name.as_str(), values.host.as_str());
    for key in object["metadata"]["annotations"].as_object().into_iter().flatten().map(|(key, _)| key) {
        if REACHING.iter().any(|end| key.ends_with(end)) {
            return Err(fault(
                format!("metadata.annotations[{key}]"),
                "can change what other hosts of the controller answer",
            ));
        }
    }
    for (key, value) in object["metadata"]["annotations"].as_object().into_iter().flatten() {
        let named = value.as_str().and_then(|value| value.split_once('/')).map(|(namespace, _)| namespace);
        if BORROWING.iter().any(|end| key.ends_with(end)) && named.is_some_and(|named| named != own) {
            return Err(fault(format!("metadata.annotations[{key}]"), "reaches into another namespace"));
        }
    }
    let spec = &object["spec"];
    if let Exposure::Ingress { class: Some(class) } = exposure {
        for (asked, field) in [
            (&spec["ingressClassName"], "spec.ingressClassName".to_owned()),
            (&object["metadata"]["annotations"][CLASS], format!("metadata.annotations[{CLASS}]")),
        ] {
            if asked.as_str().is_some_and(|asked| asked != class) {
                return Err(fault(field, format!("expected {class}, as the operator says")));
            }
        }
    }
    if !spec["defaultBackend"].is_null() {
        return Err(fault("spec.defaultBackend", "would answer to every host"));
    }
    let rules = spec["rules"].as_array().map_or(&[][..], Vec::as_slice);
    if rules.is_empty() {
        return Err(fault("spec.rules", format!("is empty, expected one for host {host}")));
    }
    for (at, rule) in rules.iter().enumerate() {
        check_host(rule["host"].as_str(), host, &format!("spec.rules[{at}].host"))?;
    }
    for (at, tls) in spec["tls"].as_array().into_iter().flatten().enumerate() {
        for (number, name) in tls["hosts"].as_array().into_iter().flatten().enumerate() {
            check_host(name.as_str(), host, &format!("spec.tls[{at}].hosts[{number}]"))?;
        }
    }
    Ok(())
}

pub(super) fn check_http_route(object: &Value, values: &Values, exposure: &Exposure) -> Checked {
    let spec = &object["spec"];
    let names = spec["hostnames"].as_array().map_or(&[][..], Vec::as_slice);
    if names.is_empty() {
        return Err(fault("spec.hostnames", format!("is empty, expected {}", values.host)));
    }
    for (at, name) in names.iter().enumerate() {
        check_host(name.as_str(), &values.host, &format!("spec.hostnames[{at}]"))?;
    }
    for (at, parent) in spec["parentRefs"].as_array().into_iter().flatten().enumerate() {
        let field = format!("spec.parentRefs[{at}]");
        let Exposure::Gateway { name, namespace, .. } = exposure else {
            return Err(fault(field, "the operator has given this project no Gateway"));
        };
        let asked = (parent["name"].as_str(), parent["namespace"].as_str());
        if asked != (Some(name), Some(namespace)) {
            return Err(fault(field, format!("expected the Gateway {name} in namespace {namespace}")));
        }
    }
    no_other_namespace(&spec["rules"], "spec.rules", values.name.as_str())
}

/// Backends and mirrors are named deep within: none may be of another namespace.
fn no_other_namespace(value: &Value, path: &str, own: &str) -> Checked {
    match value {
        Value::Object(map) => map.iter().try_for_each(|(key, value)| {
            let field = super::join(path, key);
            if key == "namespace" && value.as_str().is_some_and(|namespace| namespace != own) {
                return Err(fault(field, "reaches into another namespace"));
            }
            no_other_namespace(value, &field, own)
        }),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .try_for_each(|(at, item)| no_other_namespace(item, &format!("{path}[{at}]"), own)),
        _ => Ok(()),
    }
}
