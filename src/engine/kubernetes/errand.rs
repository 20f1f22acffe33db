//! Programs that run once beside a preview: Jobs that are no part of it.
//!
//! A label tells them and their pods from what was ordered, so they count neither for readiness nor as drift, and nothing
//! prunes them. One is found again by its name. Those of another run go before one begins, and the cluster itself removes
//! each an hour after its end.

use std::slice;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use serde_json::Value;

use super::super::{Ended, Errand, Error};
use super::Inner;
use super::cache::{Cache, Seen};
use super::diagnose::{Finding, telling};
use super::names::{self, ERRAND};
use super::prepare::prepare;
use super::ready::{Readiness, condition};
use super::record::Wanted;
use super::reference::{Kind, Reference};
use super::refusal::Refusal;
use crate::preview::shown_line;

/// How long a Job that the API server has confirmed may take to show in the watch.
const SHOWN_WITHIN: Duration = Duration::from_secs(30);
/// How long a pod may take to say how it ended once its Job has.
const SPEAKS_WITHIN: Duration = Duration::from_secs(5);
/// How many of the last lines are told.
const LINES: usize = 10;
/// How many of a namespace's events are looked through.
const EVENTS: u32 = 500;

/// What was seen of an errand's pod.
#[derive(Debug, Clone)]
struct Pod {
    name: String,
    container: Option<String>,
    finding: Option<Finding>,
}

impl Inner {
    /// Runs an errand and waits for its end.
    pub(super) async fn errand(self: &Arc<Self>, errand: &Errand) -> Result<Ended, Error> {
        let (name, object) = (errand.name.as_str(), &errand.job.object);
        let Some(job) = Reference::of(object) else { return Err(Error::Input { engine: "kubernetes" }) };
        self.begin_watches(slice::from_ref(&Wanted { object: job.clone(), replicas: None }));
        self.read().await?;
        if let Some(why) = self.cache().watches.get(&job.kind).and_then(|watched| watched.trouble.clone()) {
            return Err(self.error("let its Jobs be watched", &why));
        }
        if self.cache().places.get(name).is_none_or(|place| place.deleting) {
            return Ok(badly("the preview is not there any more"));
        }
        self.clear_errands(name, &errand.run).await?;
        let there = self.server.get(name, &job).await;
        if there.map_err(|refusal| self.refused("show a Job", &refusal))?.is_none() {
            let mut labels = names::labels(&self.instance, errand.key);
            labels.insert(ERRAND.to_owned(), errand.run.clone());
            let ready = prepare(object, name, &labels, &errand.run, &errand.profile);
            match self.server.apply(name, &ready).await {
                Ok(()) => {}
                Err(Refusal::Object(why)) => return Ok(badly(&format!("the cluster refuses it: {why}"))),
                Err(refusal) => return Err(self.refused("begin a Job", &refusal)),
            }
        }
        let shown =
            self.until_seen(|cache| cache.get(name, &job).is_some() || !cache.places.contains_key(name));
        if tokio::time::timeout(SHOWN_WITHIN, shown).await.is_err() {
            return Err(self.error("show a Job", "its watch does not show what was begun"));
        }
        self.end_of(name, &job, object).await
    }

    /// Removes what is left of other runs.
    async fn clear_errands(&self, namespace: &str, run: &str) -> Result<(), Error> {
        let kind = Kind::new("batch/v1", "Job");
        let old: Vec<Reference> = self
            .cache()
            .all(namespace, "Job")
            .filter(|(_, seen)| seen.errand.as_ref().is_some_and(|of| of != run))
            .map(|(name, _)| Reference { kind: kind.clone(), name: name.clone() })
            .collect();
        for gone in join_all(old.iter().map(|job| self.server.delete(namespace, job))).await {
            gone.map_err(|refusal| self.refused("remove an old Job", &refusal))?;
        }
        Ok(())
    }

    /// Waits for the end of a Job that was begun.
    async fn end_of(&self, namespace: &str, job: &Reference, object: &Value) -> Result<Ended, Error> {
        let mut changes = self.errands.subscribe();
        let (mut pod, mut stuck) = (None, None);
        loop {
            pod = self.pod_of(namespace, job).or(pod);
            let readiness = self.cache().get(namespace, job).map(|seen| seen.readiness.clone());
            let hopeless =
                pod.as_ref().is_some_and(|it: &Pod| it.finding.as_ref().is_some_and(|it| it.hopeless));
            match readiness {
                None => return Ok(badly("its Job was removed before it had ended")),
                Some(Readiness::Ready) => return Ok(Ended::Well),
                Some(Readiness::Stuck(why)) => {
                    stuck = Some(why);
                    break;
                }
                Some(Readiness::Waiting(_)) if hopeless => break,
                Some(Readiness::Waiting(_)) => {}
            }
            if changes.changed().await.is_err() {
                return Err(self.error("say how a Job ended", "greenroom ends"));
            }
        }
        let failed = self.server.get(namespace, job).await.ok().flatten();
        let failed = failed.as_ref().and_then(|job| condition(job, "Failed"));
        let late = failed.is_some_and(|it| it.reason == "DeadlineExceeded");
        if !late {
            let speaks = self.until_seen(|cache| {
                cache.all(namespace, "Pod").any(|(_, seen)| is_of(seen, job) && seen.finding.is_some())
            });
            let _ = tokio::time::timeout(SPEAKS_WITHIN, speaks).await;
            pod = self.pod_of(namespace, job).or(pod);
        }
        let mut why = pod.as_ref().and_then(|pod| Some(pod.finding.as_ref()?.text.clone()));
        if late {
            let seconds = object.pointer("/spec/activeDeadlineSeconds").and_then(Value::as_i64);
            let within = jiff::SignedDuration::from_secs(seconds.unwrap_or_default());
            if why.is_none() {
                why = self.told_of(namespace, job).await;
            }
            let more = why.map_or_else(String::new, |why| format!(": {why}"));
            why = Some(format!("it did not end within {within:#}{more}"));
        }
        let why = why.or(stuck).unwrap_or_else(|| String::from("it failed"));
        let lines = match pod {
            Some(Pod { name, container: Some(container), .. }) => {
                self.last_lines(namespace, &name, &container, LINES).await.unwrap_or_default()
            }
            _ => Vec::new(),
        };
        let lines = lines.iter().map(|line| shown_line(line)).collect();
        Ok(Ended::Badly { why, lines })
    }

    /// Waits until `seen` holds of the errands.
    async fn until_seen(&self, seen: impl Fn(&Cache) -> bool) {
        let mut changes = self.errands.subscribe();
        while !seen(&self.cache()) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// The newest pod of a Job, as far as it was seen.
    fn pod_of(&self, namespace: &str, job: &Reference) -> Option<Pod> {
        let cache = self.cache();
        let (name, seen) = cache.all(namespace, "Pod").find(|(_, seen)| is_of(seen, job))?;
        let spoke = seen.finding.as_ref().and_then(|finding| finding.spoke.clone());
        Some(Pod {
            name: name.clone(),
            container: spoke.or_else(|| seen.containers.first().cloned()),
            finding: seen.finding.clone(),
        })
    }

    /// What the cluster's events say of a Job.
    async fn told_of(&self, namespace: &str, job: &Reference) -> Option<String> {
        let events = self.server.list(Some(namespace), &Kind::new("v1", "Event"), EVENTS).await.ok()?;
        telling(&events, |kind, name| kind == "Job" && name == job.name)
    }
}

fn is_of(pod: &Seen, job: &Reference) -> bool {
    pod.owner.as_ref().is_some_and(|owner| owner.kind == "Job" && owner.name == job.name)
}

fn badly(why: &str) -> Ended {
    Ended::Badly { why: why.to_owned(), lines: Vec::new() }
}
