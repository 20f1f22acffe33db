//! What the cluster remembers of a preview: annotations of its namespace.
//!
//! So a restart needs no store: which order was last begun, what it consists of, which revision was ready last, and how
//! an attempt ended.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::reference::Reference;
use crate::preview::Sha;

const ORDER: &str = "greenroom.dev/order";
const OBJECTS: &str = "greenroom.dev/objects";
const READY: &str = "greenroom.dev/ready";
const FAILURE: &str = "greenroom.dev/failure";
const ASLEEP: &str = "greenroom.dev/asleep";

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Record {
    /// The newest order that was begun.
    pub order: Option<Begun>,
    /// What it consists of, and what earlier ones have left.
    pub objects: Objects,
    /// The last revision that was ready.
    pub ready: Option<Ready>,
    /// How the newest order failed.
    pub failure: Option<Failure>,
    /// What is asleep, and how many of each there were.
    pub asleep: Option<BTreeMap<String, i64>>,
}

/// An order that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Begun {
    pub sha: Sha,
    pub digest: String,
    /// When it was begun, Unix milliseconds.
    pub at: i64,
    /// By when it has to be ready, Unix milliseconds.
    pub ready_by: i64,
    /// The namespace's labels of Pod Security.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pod_security: BTreeMap<String, String>,
}

/// Objects of a namespace, beside the guards.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Objects {
    /// Those of the newest order.
    pub wanted: Vec<Wanted>,
    /// Those of earlier orders that are to go once the newest is ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub old: Vec<Reference>,
}

/// An object of the newest order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Wanted {
    #[serde(flatten)]
    pub object: Reference,
    /// `spec.replicas`, where the order says so.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i64>,
}

/// A revision that was ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ready {
    pub sha: Sha,
    pub digest: String,
    /// Since when, Unix milliseconds.
    pub since: i64,
    /// For each object, which fields were ours ([`super::cache::Seen::fields`]): what differs was changed by others.
    #[serde(default)]
    pub fields: BTreeMap<String, u32>,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failure {
    /// [`Begun::at`] of the attempt.
    pub at: i64,
    /// Why, one Markdown-safe sentence.
    pub why: String,
    /// [`Status::log`](crate::engine::Status::log).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
}

impl Record {
    /// Reads annotations. What cannot be read counts as not there: the order is then given again.
    pub(super) fn read(annotations: &BTreeMap<String, String>) -> Self {
        fn get<T: serde::de::DeserializeOwned>(from: &BTreeMap<String, String>, name: &str) -> Option<T> {
            serde_json::from_str(from.get(name)?).ok()
        }
        Self {
            order: get(annotations, ORDER),
            objects: get(annotations, OBJECTS).unwrap_or_default(),
            ready: get(annotations, READY),
            failure: get(annotations, FAILURE),
            asleep: get(annotations, ASLEEP),
        }
    }

    /// How the newest order failed, if it has.
    pub(super) fn failed(&self) -> Option<&Failure> {
        let (order, failure) = (self.order.as_ref()?, self.failure.as_ref()?);
        (failure.at == order.at).then_some(failure)
    }

    /// Whether the newest order was ready.
    pub(super) fn is_ready(&self) -> bool {
        match (&self.order, &self.ready) {
            (Some(order), Some(ready)) => order.sha == ready.sha && order.digest == ready.digest,
            _ => false,
        }
    }

    /// What is to go once an order of `wanted` objects is ready.
    pub(super) fn leftovers(&self, wanted: &[Wanted]) -> Vec<Reference> {
        let mut old: Vec<Reference> = Vec::new();
        let before = self.objects.wanted.iter().map(|wanted| &wanted.object).chain(&self.objects.old);
        for object in before {
            let stays = wanted.iter().map(|wanted| &wanted.object).chain(&old);
            if !stays.into_iter().any(|other| other.is_same(object)) {
                old.push(object.clone());
            }
        }
        old
    }
}

/// Annotations that say an order was begun.
pub(super) fn begun(order: &Begun, objects: &Objects) -> Map<String, Value> {
    entries([(ORDER, text(order)), (OBJECTS, text(objects)), (FAILURE, Value::Null), (ASLEEP, Value::Null)])
}

/// Annotations that say the newest order is ready, and what earlier ones had is gone.
pub(super) fn ready(ready: &Ready, objects: &Objects) -> Map<String, Value> {
    let objects = Objects { wanted: objects.wanted.clone(), old: Vec::new() };
    entries([(READY, text(ready)), (OBJECTS, text(&objects)), (FAILURE, Value::Null)])
}

/// Annotations that say the newest order failed.
pub(super) fn failed(failure: &Failure) -> Map<String, Value> {
    entries([(FAILURE, text(failure))])
}

/// Annotations that say what is asleep.
pub(super) fn asleep(counts: Option<&BTreeMap<String, i64>>) -> Map<String, Value> {
    entries([(ASLEEP, counts.map_or(Value::Null, text))])
}

fn text<T: Serialize>(value: &T) -> Value {
    // Plain data with text keys: it always serializes.
    json!(serde_json::to_string(value).unwrap_or_default())
}

fn entries<const N: usize>(entries: [(&str, Value); N]) -> Map<String, Value> {
    entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::reference::Kind;
    use super::*;

    fn wanted(api_version: &str, kind: &str, name: &str) -> Wanted {
        let object = Reference { kind: Kind::new(api_version, kind), name: name.to_owned() };
        Wanted { object, replicas: None }
    }

    fn strings(entries: Map<String, Value>) -> BTreeMap<String, String> {
        entries.into_iter().filter_map(|(name, value)| Some((name, value.as_str()?.to_owned()))).collect()
    }

    fn failure(at: i64) -> Failure {
        Failure { at, why: "no".into(), log: vec!["panicked".into()] }
    }

    fn order() -> Begun {
        let sha = Sha::parse(&"a".repeat(40)).unwrap();
        Begun { sha, digest: "d".into(), at: 5, ready_by: 9, pod_security: BTreeMap::new() }
    }

    #[test]
    fn what_was_noted_is_read_again() {
        let mut deployment = wanted("apps/v1", "Deployment", "web");
        deployment.replicas = Some(2);
        let objects = Objects { wanted: vec![deployment], old: vec![wanted("v1", "Service", "old").object] };
        let revision = Ready {
            sha: order().sha,
            digest: "d".into(),
            since: 7,
            fields: [("Deployment/web".into(), 1)].into(),
        };
        let mut annotations = strings(begun(&order(), &objects));
        assert_eq!(Record::read(&annotations).objects, objects);
        annotations.extend(strings(failed(&failure(5))));
        assert_eq!(Record::read(&annotations).failed(), Some(&failure(5)));
        annotations.extend(strings(ready(&revision, &objects)));
        annotations.extend(strings(asleep(Some(&[("Deployment/web".into(), 2)].into()))));
        let record = Record::read(&annotations);
        assert!(record.is_ready());
        assert_eq!((record.ready, record.objects.old), (Some(revision), vec![]));
        assert_eq!(record.asleep, Some([("Deployment/web".into(), 2)].into()));
    }

    #[test]
    fn the_failure_of_an_earlier_attempt_is_history() {
        let mut annotations = strings(failed(&failure(4)));
        annotations.extend(strings(begun(&order(), &Objects::default())));
        assert_eq!(Record::read(&annotations).failed(), None);
    }

    #[test]
    fn what_an_earlier_order_had_and_this_one_has_not_is_to_go() {
        let record = Record {
            objects: Objects {
                wanted: vec![wanted("apps/v1", "Deployment", "web"), wanted("v1", "Service", "web")],
                old: vec![wanted("v1", "ConfigMap", "gone").object, wanted("v1", "ConfigMap", "back").object],
            },
            ..Record::default()
        };
        let next = [wanted("apps/v2", "Deployment", "web"), wanted("v1", "ConfigMap", "back")];
        let names: Vec<String> = record.leftovers(&next).iter().map(ToString::to_string).collect();
        assert_eq!(names, ["Service `web`", "ConfigMap `gone`"]);
    }
}
