//! How a preview stands by what the watches have seen. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::cache::{Cache, Seen};
use super::ready::Readiness;
use super::record::Wanted;
use super::reference::{Kind, Reference};
use crate::preview::Quoted;

/// How the newest order of a preview stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Assessment {
    /// What is waited for, one line each; empty when all is as it was ordered.
    pub waits_for: Vec<String>,
    /// Those of the lines that stay so without a change to what was ordered.
    pub hopeless: Vec<String>,
    /// Pods and containers whose last lines tell more.
    pub spoke: Vec<(String, String)>,
    /// What the order's objects are called and whatever they have made, for the cluster's events.
    pub concerned: BTreeSet<(String, String)>,
    /// Whether a part of the order has not reached the cluster, as far as that is known.
    pub partial: bool,
    /// What differs from what was ready, one line each.
    pub drifted: Vec<String>,
    /// Broken pods of an earlier revision that a StatefulSet waits for, name and uid.
    pub in_the_way: Vec<(String, String)>,
    /// Which fields of each object are ours.
    pub fields: BTreeMap<String, u32>,
}

/// How an object is called in [`super::record::Ready::fields`].
pub(super) fn called(object: &Reference) -> String {
    format!("{}/{}", object.kind.id(), object.name)
}

/// Assesses the preview in `namespace`, of which the cache knows the place.
pub(super) fn assess(cache: &Cache, namespace: &str) -> Assessment {
    let mut found = Assessment::default();
    let Some(place) = cache.places.get(namespace) else { return found };
    let Some(order) = &place.record.order else { return found };
    for wanted in place.record.objects.wanted.iter().filter(|wanted| wanted.object.kind.is_watched()) {
        found.look(cache, namespace, wanted, &order.digest);
    }
    let settled = found.waits_for.is_empty();
    for (name, pod) in cache.all(namespace, "Pod") {
        let Some(finding) = pod.finding.as_ref().filter(|_| !settled) else { continue };
        if is_in_the_way(cache, namespace, pod, &order.digest) {
            found.in_the_way.push((name.clone(), pod.uid.clone()));
        }
        if pod.errand.is_some() || !counts(cache, namespace, pod, &order.digest) {
            continue;
        }
        found.concerned.insert(("Pod".to_owned(), name.clone()));
        let line = format!("Pod {}: {}", Quoted::new(name), finding.text);
        // The pods of one template mostly say the same.
        let told = found.waits_for.iter().any(|line| line.ends_with(&finding.text));
        if told {
            continue;
        }
        if finding.hopeless {
            found.hopeless.push(line.clone());
        }
        found.waits_for.push(line);
        found.spoke.extend(finding.spoke.clone().map(|container| (name.clone(), container)));
    }
    if !settled {
        let made = cache.all(namespace, "PersistentVolumeClaim");
        let unbound = made.filter(|(_, claim)| claim.readiness != Readiness::Ready);
        found.concerned.extend(unbound.map(|(name, _)| ("PersistentVolumeClaim".to_owned(), name.clone())));
    }
    if let Some(ready) = place.record.ready.as_ref().filter(|_| place.record.is_ready()) {
        if order.pod_security.iter().any(|(label, level)| place.pod_security.get(label) != Some(level)) {
            found.drifted.push("the namespace's Pod Security was changed by somebody else".to_owned());
        }
        found.compare(
            cache,
            namespace,
            &place.record.objects.wanted,
            &ready.fields,
            place.record.asleep.is_some(),
        );
    }
    found
}

impl Assessment {
    fn look(&mut self, cache: &Cache, namespace: &str, wanted: &Wanted, digest: &str) {
        let object = &wanted.object;
        let watched = cache.watches.get(&object.kind).cloned().unwrap_or_default();
        let why = if let Some(why) = watched.trouble {
            format!("the cluster does not let it be watched: {why}")
        } else if !watched.synced {
            "it is being looked up".to_owned()
        } else if let Some(seen) = cache.get(namespace, object) {
            self.fields.insert(called(object), seen.fields);
            if seen.digest.as_deref() == Some(digest) {
                match &seen.readiness {
                    Readiness::Ready => return,
                    Readiness::Waiting(why) => why.clone(),
                    Readiness::Stuck(why) => {
                        self.hopeless.push(format!("{object}: {why}"));
                        why.clone()
                    }
                }
            } else {
                self.partial = true;
                "it is of an earlier revision".to_owned()
            }
        } else {
            self.partial = true;
            "it is not there yet".to_owned()
        };
        self.concerned.insert((object.kind.kind.clone(), object.name.clone()));
        self.waits_for.push(format!("{object}: {why}"));
    }

    /// Notes what differs from what was ready.
    fn compare(
        &mut self,
        cache: &Cache,
        namespace: &str,
        wanted: &[Wanted],
        fields: &BTreeMap<String, u32>,
        asleep: bool,
    ) {
        let scaled_by_others = wanted.iter().any(|it| it.object.kind.kind == "HorizontalPodAutoscaler");
        for Wanted { object, replicas } in wanted {
            let synced = cache.watches.get(&object.kind).is_some_and(|it| it.synced && it.trouble.is_none());
            if !synced {
                continue;
            }
            // A Job may be told to remove itself, and nobody starts a Pod again.
            let passing = matches!(object.kind.kind.as_str(), "Job" | "Pod");
            match cache.get(namespace, object) {
                None if passing => {}
                None => self.drifted.push(format!("{object} is missing")),
                Some(seen) if fields.get(&called(object)).is_some_and(|ours| *ours != seen.fields) => {
                    self.drifted.push(format!("{object} was changed by somebody else"));
                }
                Some(Seen { replicas: Some(now), .. })
                    if !asleep && !scaled_by_others && replicas.is_some_and(|it| it != *now) =>
                {
                    let ordered = replicas.unwrap_or_default();
                    self.drifted
                        .push(format!("{object} was scaled from {ordered} to {now} by somebody else"));
                }
                Some(_) => {}
            }
        }
    }
}

/// Whether a pod is broken, and of an earlier revision of a StatefulSet: that replaces its pods in turn once they are ready, so
/// this one would stay for good.
fn is_in_the_way(cache: &Cache, namespace: &str, pod: &Seen, digest: &str) -> bool {
    let Some(owner) = pod.owner.as_ref().filter(|owner| owner.kind == "StatefulSet") else { return false };
    let set = Reference { kind: Kind::new("apps/v1", "StatefulSet"), name: owner.name.clone() };
    let current =
        cache.get(namespace, &set).filter(|set| set.digest.as_deref() == Some(digest) && set.observed);
    let newest = current.filter(|set| set.uid == owner.uid).and_then(|set| set.revision.as_ref());
    !pod.deleting && newest.is_some_and(|newest| pod.revision.as_ref() != Some(newest))
}

/// Whether a pod is of the revision that the order of `digest` asked for. The pods of an earlier one may be as broken as
/// they like.
fn counts(cache: &Cache, namespace: &str, pod: &Seen, digest: &str) -> bool {
    let Some(owner) = &pod.owner else { return true };
    let find =
        |kind: &str, name: &str| cache.objects.get(namespace)?.get(&(kind.to_owned(), name.to_owned()));
    // Until a controller has looked, what it says of revisions is about the one before.
    let current = |seen: &&Seen| seen.digest.as_deref() == Some(digest) && seen.observed;
    match owner.kind.as_str() {
        "ReplicaSet" => {
            let Some(set) = find("ReplicaSet", &owner.name) else { return false };
            let Some(deployment) = &set.owner else { return true };
            find("Deployment", &deployment.name).filter(current).is_some_and(|it| it.revision == set.revision)
        }
        "StatefulSet" => {
            find("StatefulSet", &owner.name).filter(current).is_some_and(|it| it.revision == pod.revision)
        }
        kind => find(kind, &owner.name).is_none_or(|it| it.uid == owner.uid),
    }
}
