//! Looks again at every preview of which something was seen: writes down that it is ready or has failed, and says whom to look
//! at.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use serde_json::Map;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Inner;
use super::assess::{Assessment, assess};
use super::cache::Place;
use super::desk::Attempt;
use super::diagnose::telling;
use super::record::{self, Begun, Failure, Ready};
use super::reference::Kind;
use super::refusal::Refusal;
use crate::preview::{PreviewName, Quoted, shown_line};

/// How long progress waits to be told, and what follows it with it.
const TELL_AFTER: Duration = Duration::from_secs(3);
/// The pause before a verdict that could not be written down is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How many lines of what is waited for a diagnosis names.
const LINES: usize = 4;
/// How many of a program's last lines a diagnosis keeps.
const LOG: usize = 30;
/// How many of a namespace's events are looked through.
const EVENTS: u32 = 500;
/// How often deadlines are compared with the clock. Costs no request.
const DEADLINES_EVERY: Duration = Duration::from_secs(1);

/// What was told of a preview.
#[derive(Debug, Default)]
struct Told {
    lines: Vec<String>,
    drifted: Vec<String>,
    /// [`Cache::recoveries`](super::cache::Cache::recoveries) at that time: whoever looked then may not have seen it.
    recoveries: u64,
    /// Since when there is something else to tell.
    at: Option<Instant>,
}

/// What is to be written down.
enum Verdict {
    Ready,
    Failed { late: bool },
}

impl Inner {
    /// Judges what `touched` names, until `stop`.
    pub(super) async fn judge(
        self: Arc<Self>,
        mut touched: mpsc::UnboundedReceiver<String>,
        stop: CancellationToken,
    ) {
        let busy = Arc::new(Mutex::new(HashSet::new()));
        let mut told: HashMap<String, Told> = HashMap::new();
        let mut tick = tokio::time::interval(DEADLINES_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let mut names = BTreeSet::new();
            tokio::select! {
                () = stop.cancelled() => return,
                name = touched.recv() => names.extend(name),
                _ = tick.tick() => {
                    names.extend(self.late());
                    let due = told.iter().filter(|(_, told)| told.at.is_some_and(|at| at.elapsed() >= TELL_AFTER));
                    names.extend(due.map(|(name, _)| name.clone()));
                }
            }
            while let Ok(name) = touched.try_recv() {
                names.insert(name);
            }
            for name in names {
                self.look(&name, &busy, &mut told);
            }
        }
    }

    /// Previews whose time is up and of which that was not said.
    fn late(&self) -> Vec<String> {
        let now = self.clock.now();
        let cache = self.cache();
        let late = cache.places.iter().filter(|(_, place)| is_late(place, now));
        late.map(|(name, _)| name.clone()).collect()
    }

    fn look(
        self: &Arc<Self>,
        name: &str,
        busy: &Arc<Mutex<HashSet<String>>>,
        told: &mut HashMap<String, Told>,
    ) {
        let sending =
            PreviewName::parse(name).and_then(|name| self.attempt(&name)).is_some_and(|it| it.is_sending());
        let cache = self.cache();
        let Some(place) = cache.places.get(name).filter(|place| !place.deleting).cloned() else {
            drop(cache);
            told.remove(name);
            self.tidy(name);
            return;
        };
        if sending || place.record.order.is_none() {
            return;
        }
        let assessed = assess(&cache, name);
        drop(cache);
        self.tell_progress(name, &place, &assessed, told);
        if !assessed.in_the_way.is_empty() {
            let (inner, name, pods) = (Arc::clone(self), name.to_owned(), assessed.in_the_way.clone());
            tokio::spawn(async move { inner.clear(&name, &pods).await });
        }
        if let Some(verdict) = verdict(&place, &assessed, self.clock.now())
            && busy.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned())
        {
            let (inner, busy, name) = (Arc::clone(self), Arc::clone(busy), name.to_owned());
            tokio::spawn(async move {
                let result = inner.write_down(&name, &place, &assessed, verdict).await;
                if let Err(refusal) = &result {
                    tracing::debug!(preview.name = %name, cluster = %inner.cluster, error = %refusal, "to be tried again");
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
                busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
                inner.touched(name);
            });
        }
    }

    fn tell_progress(
        &self,
        name: &str,
        place: &Place,
        assessed: &Assessment,
        told: &mut HashMap<String, Told>,
    ) {
        let told = told.entry(name.to_owned()).or_default();
        let recoveries = self.cache().recoveries;
        let missed = !assessed.drifted.is_empty() && told.recoveries != recoveries;
        if told.lines == assessed.waits_for && told.drifted == assessed.drifted && !missed {
            told.at = None;
            return;
        }
        // What is over in a moment is not worth a look.
        if told.at.get_or_insert_with(Instant::now).elapsed() >= TELL_AFTER {
            let (lines, drifted) = (assessed.waits_for.clone(), assessed.drifted.clone());
            *told = Told { lines, drifted, recoveries, at: None };
            self.tell(place.key);
        }
    }

    /// Writes a verdict down where the cluster remembers it, and says so.
    async fn write_down(
        &self,
        name: &str,
        place: &Place,
        assessed: &Assessment,
        verdict: Verdict,
    ) -> Result<(), Refusal> {
        let Some(order) = &place.record.order else { return Ok(()) };
        let Some(preview) = PreviewName::parse(name) else { return Ok(()) };
        let diagnosis = match verdict {
            Verdict::Ready => None,
            Verdict::Failed { late } => Some(self.diagnosis(name, order, assessed, late).await),
        };
        // An order that came in the meantime has its own verdict, and may want what this one has not.
        let turn = self.turn(&preview).lock_owned().await;
        let newer = self.attempt(&preview).filter(|attempt| attempt.at != order.at);
        if newer.as_ref().is_some_and(Attempt::is_sending) {
            return Ok(());
        }
        if newer.is_some() && self.begun_last(name).await? != Some(order.at) {
            return Err(Refusal::Conflict("a newer order was sent".into()));
        }
        let annotations = match diagnosis {
            None => {
                self.prune(name, place).await?;
                let ready = Ready {
                    sha: order.sha.clone(),
                    digest: order.digest.clone(),
                    since: self.clock.now(),
                    fields: assessed.fields.clone(),
                };
                record::ready(&ready, &place.record.objects)
            }
            Some(failure) => record::failed(&failure),
        };
        match self.server.note(name, &place.uid, &Map::new(), &annotations).await {
            Ok(()) => {
                // Only now does the status say so: whoever is told must find it.
                let shown =
                    self.until(|cache| cache.places.get(name).is_none_or(|now| now.record != place.record));
                let _ = tokio::time::timeout(Duration::from_secs(10), shown).await;
                drop(turn);
                self.tell(place.key);
                Ok(())
            }
            // Whoever removed or replaced the namespace has seen to it.
            Err(Refusal::NotFound | Refusal::Conflict(_)) => Ok(()),
            Err(refusal) => Err(refusal),
        }
    }

    /// When the newest order was begun, as the cluster says itself: the watch may not have shown it yet.
    async fn begun_last(&self, name: &str) -> Result<Option<i64>, Refusal> {
        let found = self.server.namespace(name).await?.and_then(|found| Place::of(&found.metadata));
        Ok(found.and_then(|place| place.record.order).map(|order| order.at))
    }

    /// Removes pods that keep their StatefulSet from the next revision.
    async fn clear(&self, name: &str, pods: &[(String, String)]) {
        for result in join_all(pods.iter().map(|(pod, uid)| self.server.delete_pod(name, pod, uid))).await {
            match result {
                Ok(()) | Err(Refusal::NotFound | Refusal::Conflict(_)) => {}
                Err(refusal) => {
                    tracing::warn!(preview.name = name, error = %refusal, "a broken pod could not be removed");
                }
            }
        }
    }

    /// Removes what earlier orders had and the newest has not.
    async fn prune(&self, name: &str, place: &Place) -> Result<(), Refusal> {
        let old = &place.record.objects.old;
        for result in join_all(old.iter().map(|object| self.server.delete(name, object))).await {
            match result {
                Ok(_) | Err(Refusal::UnknownKind) => {}
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(())
    }

    /// Why an order has failed, with the last lines of the program that ended.
    async fn diagnosis(&self, name: &str, order: &Begun, assessed: &Assessment, late: bool) -> Failure {
        // What is hopeless first; what pods say explains it.
        let others = assessed.waits_for.iter().filter(|line| !assessed.hopeless.contains(line));
        let others = others.filter(|line| assessed.hopeless.is_empty() || line.starts_with("Pod "));
        let lines: Vec<&str> = assessed.hopeless.iter().chain(others).map(String::as_str).collect();
        let mut why = lines[..lines.len().min(LINES)].join("; ");
        if lines.len() > LINES {
            let _ = write!(why, "; and {} more", lines.len() - LINES);
        }
        if late {
            let within = jiff::SignedDuration::from_secs((order.ready_by - order.at) / 1000);
            why = format!("it was not ready within {within:#}: {why}");
        }
        let events =
            self.server.list(Some(name), &Kind::new("v1", "Event"), EVENTS).await.unwrap_or_default();
        let concerns =
            |kind: &str, name: &str| assessed.concerned.contains(&(kind.to_owned(), name.to_owned()));
        if let Some(more) = telling(&events, concerns).filter(|more| !why.contains(more.as_str())) {
            let _ = write!(why, "; {more}");
        }
        let mut log = Vec::new();
        if let Some((pod, container)) = assessed.spoke.first() {
            log = self.last_lines(name, pod, container, LOG).await.unwrap_or_default();
            if let Some(last) = log.last() {
                let _ = write!(why, "; its last line is {}", Quoted::new(last));
            }
        }
        Failure { at: order.at, why, log: log.iter().map(|line| shown_line(line)).collect() }
    }
}

fn is_late(place: &Place, now: i64) -> bool {
    let record = &place.record;
    !record.is_ready()
        && record.failed().is_none()
        && !place.deleting
        && record.order.as_ref().is_some_and(|order| now >= order.ready_by)
}

/// What is to be written down about a preview.
fn verdict(place: &Place, assessed: &Assessment, now: i64) -> Option<Verdict> {
    let record = &place.record;
    if record.is_ready() {
        // A repaired or repeated order may have left something to prune, or the failure of an attempt.
        let tidy = record.objects.old.is_empty() && record.failed().is_none();
        return (!tidy && assessed.waits_for.is_empty()).then_some(Verdict::Ready);
    }
    if assessed.waits_for.is_empty() {
        Some(Verdict::Ready)
    } else if record.failed().is_some() || assessed.partial {
        // What has not reached the cluster cannot fail there; whoever looks sends it again.
        (is_late(place, now)).then_some(Verdict::Failed { late: true })
    } else if !assessed.hopeless.is_empty() {
        Some(Verdict::Failed { late: false })
    } else {
        is_late(place, now).then_some(Verdict::Failed { late: true })
    }
}
