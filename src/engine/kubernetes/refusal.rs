//! What the API server's answers mean: whose fault it is, what to do next, and in which words.

use std::fmt;

use http::HeaderMap;
use kube::core::Status;

use crate::preview::Quoted;

/// What the API server answers, as an error of its own, to an object with a field that it does not know, or of another type.
const MISTYPED: &str = "failed to create typed patch object ";

/// Why a request did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is not there, or not any more.
    NotFound,
    /// It is there already, or was changed in the meantime.
    Conflict(String),
    /// What was sent is refused and would be again; the sentence says why.
    Object(String),
    /// A field that cannot be changed in place has changed; the server's words.
    Immutable(String),
    /// The cluster does not know such a kind.
    UnknownKind,
    /// greenroom may not do this, or is not known to the cluster; the sentence says so.
    Access(String),
    /// The cluster cannot be reached or has trouble of its own; worth another try. The sentence says so.
    Unavailable(String),
}

impl Refusal {
    /// Why what was sent would be refused again; `None` where the fault may not be with what was sent.
    pub(super) fn of_object(&self) -> Option<String> {
        match self {
            Self::Object(why) => Some(why.clone()),
            Self::Immutable(why) => Some(format!("it {}", unchangeable(why))),
            Self::UnknownKind => Some(String::from(
                "the cluster does not know this kind in this version; write another apiVersion, or have its definition installed first",
            )),
            Self::NotFound | Self::Conflict(_) | Self::Access(_) | Self::Unavailable(_) => None,
        }
    }
}

/// What is said of an object that cannot be changed in place, after its name; the server's words.
pub(super) fn unchangeable(why: &str) -> String {
    format!(
        "cannot be changed in place, and making it anew could lose data; give it another name, or stop the preview \
         first: {}",
        Quoted::new(why)
    )
}

/// In words, where no particular object is meant.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("it has no such thing"),
            Self::UnknownKind => f.write_str("it has no such kind"),
            Self::Conflict(why) | Self::Immutable(why) => write!(f, "{}", Quoted::new(why)),
            Self::Object(why) | Self::Access(why) | Self::Unavailable(why) => f.write_str(why),
        }
    }
}

/// Sorts an error.
pub(super) fn classify(error: &kube::Error) -> Refusal {
    match error {
        kube::Error::Api(status) => answer(status),
        // Its API is there, or was asked for, and has no such kind.
        kube::Error::Discovery(_) => Refusal::UnknownKind,
        // What follows the first colon repeats the source, which the end of the chain says best.
        other => Refusal::Unavailable(match innermost(other) {
            slow if slow == "deadline has elapsed" => String::from("it does not answer in time"),
            why => format!("it cannot be reached: {}", Quoted::new(&why)),
        }),
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

fn answer(status: &Status) -> Refusal {
    let message = status.message.as_str();
    // Whatever status it chooses for that, and whatever it says.
    if message.contains("admission webhook ") && message.contains(" denied the request") {
        return Refusal::Object(explain(message).1);
    }
    match status.code {
        401 => Refusal::Access("it does not accept greenroom's credentials (401)".into()),
        403 if message.contains("status unknown for quota") => {
            Refusal::Unavailable("it has not counted the namespace's quota yet".into())
        }
        // The account's own rights are spelt `User "…" cannot patch resource …`.
        403 if message.contains("User \"") && message.contains("\" cannot ") => {
            Refusal::Access(format!("greenroom's account lacks a right (403): {}", Quoted::new(message)))
        }
        403 if message.contains("being terminated") => Refusal::Conflict(message.to_owned()),
        403 if message.contains("error looking up service account") => {
            Refusal::Unavailable("it has not made the namespace's service account yet".into())
        }
        404 if status.reason == "NotFound"
            && status.details.as_ref().is_some_and(|it| !it.name.is_empty()) =>
        {
            Refusal::NotFound
        }
        404 => Refusal::UnknownKind,
        409 => Refusal::Conflict(message.to_owned()),
        422 if is_immutable(message) => Refusal::Immutable(message.to_owned()),
        500 if message.contains(MISTYPED) => Refusal::Object(explain(message).1),
        // A webhook that cannot be asked is the cluster's trouble, one that says no is the object's.
        500 if message.contains("failed calling webhook") => Refusal::Unavailable(format!(
            "one of its admission webhooks does not answer: {}",
            Quoted::new(message)
        )),
        400 | 403 | 405 | 413 | 415 | 422 => Refusal::Object(explain(message).1),
        code => Refusal::Unavailable(format!("it answers {code}: {}", Quoted::new(message))),
    }
}

fn is_immutable(message: &str) -> bool {
    [
        "field is immutable",
        "updates to statefulset spec for fields other than",
        "may not change once set",
        "is immutable after creation",
        "pod updates may not change fields",
        "cannot change roleRef",
        "primary clusterIP",
        // What the API server has filled in stays, and does not go with what is written now.
        "may not be specified when strategy",
        "only allowed for updateStrategy",
    ]
    .iter()
    .any(|words| message.contains(words))
}

/// What Pod Security warns of in an answer: that it will refuse the pods that an object makes. Its `warn` level is that which it
/// enforces (`guards.rs`).
pub(super) fn refused_pods(headers: &HeaderMap) -> Option<Refusal> {
    let warnings = headers.get_all(http::header::WARNING).into_iter().filter_map(|it| it.to_str().ok());
    let mut refused = warnings.filter_map(|warning| warning.split_once("would violate PodSecurity "));
    let (_, why) = refused.next()?;
    // A quoted string (RFC 9110, section 5.6.4).
    let why = why.strip_suffix('"').unwrap_or(why).replace("\\\"", "\"");
    Some(Refusal::Object(explain(&format!("violates PodSecurity {why}")).1))
}

/// What a refusal of an object says, in words: whether it is hopeless without a change, and why.
pub(super) fn explain(message: &str) -> (bool, String) {
    if let Some((_, rest)) = message.split_once(MISTYPED) {
        let (_, why) = rest.split_once("): ").unwrap_or(("", rest));
        // How it writes values it has no type for.
        let why = why.replace("&value.valueUnstructured{Value:", "").replace('}', "");
        return (true, format!("it is not valid: {}", Quoted::new(&why)));
    }
    // Both come by and by in a namespace that is new.
    for (words, what) in [
        ("status unknown for quota", "the cluster has not counted the namespace's quota yet"),
        ("error looking up service account", "its service account is not there"),
    ] {
        if message.contains(words) {
            return (false, format!("{what}: {}", Quoted::new(message)));
        }
    }
    if let Some((_, rest)) = message.split_once("exceeded quota: ") {
        return (false, format!("the quota of the preview's namespace is used up: {}", Quoted::new(rest)));
    }
    if let Some((_, rest)) = message.split_once("violates PodSecurity ") {
        let (level, rest) = rest.split_once(": ").unwrap_or((rest, ""));
        let level = level.trim_matches('"');
        let level = level.split_once(':').map_or(level, |(level, _)| level);
        let why = Quoted::new(rest);
        return (true, format!("Pod Security level {} refuses its pods: {why}", Quoted::new(level)));
    }
    if let Some((_, rest)) = message.split_once("admission webhook ") {
        let (webhook, why) = rest.split_once(" denied the request").unwrap_or((rest, ""));
        let why = why.trim_start_matches(": ").trim_start_matches(" without explanation");
        let webhook = Quoted::new(webhook.trim_matches('"'));
        return if why.is_empty() {
            (true, format!("the admission webhook {webhook} refuses it and does not say why"))
        } else {
            (true, format!("the admission webhook {webhook} refuses it: {}", Quoted::new(why)))
        };
    }
    if let Some((_, rest)) = message.split_once("is invalid: ") {
        return (true, format!("it is not valid: {}", Quoted::new(rest)));
    }
    (true, format!("the cluster refuses it: {}", Quoted::new(message)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(code: u16, reason: &str, message: &str) -> String {
        let details = json!({"name": "web", "kind": "deployments"});
        let status: Status = serde_json::from_value(
            json!({"code": code, "reason": reason, "message": message, "details": details}),
        )
        .unwrap();
        format!("{code}: {:?}", classify(&kube::Error::Api(status.boxed())))
    }

    #[test]
    fn each_answer_says_what_to_do_next() {
        let cases = [
            refused(401, "Unauthorized", "Unauthorized"),
            refused(
                403,
                "Forbidden",
                "deployments.apps \"web\" is forbidden: User \"system:serviceaccount:greenroom:greenroom\" cannot patch \
                 resource \"deployments\" in API group \"apps\" in the namespace \"web-42-mr-7\"",
            ),
            refused(
                403,
                "Forbidden",
                "services \"web\" is forbidden: exceeded quota: greenroom, requested: services=1, used: services=2, \
                 limited: services=2",
            ),
            refused(
                403,
                "Forbidden",
                "services \"web\" is forbidden: status unknown for quota: greenroom, resources: services",
            ),
            refused(
                403,
                "Forbidden",
                "pods \"web\" is forbidden: violates PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false \
                 (container \"web\" must set securityContext.allowPrivilegeEscalation=false)",
            ),
            refused(
                403,
                "Forbidden",
                "unable to create new content in namespace x because it is being terminated",
            ),
            refused(
                400,
                "BadRequest",
                "admission webhook \"policy.example.com\" denied the request: no `latest`, please",
            ),
            refused(
                403,
                "Forbidden",
                "admission webhook \"policy.example.com\" denied the request without explanation",
            ),
            refused(
                403,
                "Forbidden",
                "admission webhook \"policy.example.com\" denied the request: a web cannot ask for so much of a resource",
            ),
            refused(
                500,
                "InternalError",
                "admission webhook \"policy.example.com\" denied the request: not on a Friday",
            ),
            refused(
                500,
                "InternalError",
                "Internal error occurred: failed calling webhook \"policy.example.com\": connection refused",
            ),
            refused(404, "NotFound", "deployments.apps \"web\" not found"),
            refused(409, "AlreadyExists", "namespaces \"x\" already exists"),
            refused(
                422,
                "Invalid",
                "Deployment.apps \"web\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            ),
            refused(
                422,
                "Invalid",
                "Deployment.apps \"web\" is invalid: spec.selector: Invalid value: {}: field is immutable",
            ),
            refused(
                500,
                "InternalError",
                "failed to create typed patch object (x/web; apps/v1, Kind=Deployment): .spec.template.spec.containers\
                 [name=\"web\"].env[name=\"PORT\"].value: expected string, got &value.valueUnstructured{Value:8080}",
            ),
            refused(429, "TooManyRequests", "too many requests"),
            refused(503, "ServiceUnavailable", "apiserver is shutting down"),
        ];
        insta::assert_snapshot!(cases.join("\n"));
    }

    #[test]
    fn a_kind_that_nobody_serves_is_not_an_object_that_is_missing() {
        let status: Status = serde_json::from_value(
            json!({"code": 404, "reason": "NotFound", "message": "the server could not find the requested resource"}),
        )
        .unwrap();
        assert_eq!(classify(&kube::Error::Api(status.boxed())), Refusal::UnknownKind);
    }

    #[test]
    fn a_kind_that_its_group_does_not_have_is_unknown() {
        let error = kube::error::DiscoveryError::MissingKind("Widget".into());
        assert_eq!(classify(&kube::Error::Discovery(error)), Refusal::UnknownKind);
    }

    #[test]
    fn an_error_of_the_wire_says_what_lies_at_its_bottom() {
        let cause = std::io::Error::other("connection refused");
        let Refusal::Unavailable(why) = classify(&kube::Error::ReadEvents(cause)) else { panic!() };
        assert_eq!(why, "it cannot be reached: `connection refused`");
    }
}
