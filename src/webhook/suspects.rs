//! Hooks that do not do what they should, for the operator: unreadable, not proven, of projects that are not served, or
//! silent.
//!
//! What came is remembered by this process alone and for a while only: a mistake that was mended is no warning for ever.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use actix_web::web;
use tokio_util::sync::CancellationToken;

use super::intake::{Intake, Outcome};
use crate::preview::Quoted;
use crate::telemetry::{Health, Warning};

/// How long a delivery that was wrong is a warning, milliseconds.
const REMEMBERED: i64 = 3_600_000;

/// When something wrong came last. Of a project that is not served also its path, the first of its time: a text that
/// changes would be news.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    unreadable: Mutex<Option<i64>>,
    refused: Mutex<Option<i64>>,
    foreign: Mutex<Option<(i64, String)>>,
}

impl Suspects {
    pub(super) fn note(&self, outcome: Outcome, path: Option<&str>, now: i64) {
        match (outcome, path) {
            (Outcome::Unreadable, _) => *lock(&self.unreadable) = Some(now),
            (Outcome::Refused, _) => *lock(&self.refused) = Some(now),
            (Outcome::Foreign, Some(path)) => {
                let mut foreign = lock(&self.foreign);
                let known = foreign.take().filter(|(at, _)| now - at < REMEMBERED);
                *foreign = Some((now, known.map_or_else(|| path.to_owned(), |(_, first)| first)));
            }
            _ => {}
        }
    }

    pub(super) fn warnings(&self, now: i64) -> Vec<Warning> {
        let lately = |at: i64| now - at < REMEMBERED;
        let unreadable = lock(&self.unreadable).filter(|at| lately(*at)).map(|_| {
            Warning::new(
                "deliveries_unreadable",
                "webhooks came that greenroom could not read",
                "look for \"a delivery is unreadable\" in the log: a custom webhook template, or a GitLab newer than \
                 greenroom; until then the resync finds what they told",
            )
        });
        let refused = lock(&self.refused).filter(|at| lately(*at)).map(|_| {
            Warning::new(
                "deliveries_refused",
                "webhooks came that were not signed with a token of the settings",
                "compare the token on the webhook's page in GitLab with GREENROOM_WEBHOOK_SIGNING_TOKEN or \
                 GREENROOM_WEBHOOK_SECRET_TOKEN",
            )
        });
        let foreign = lock(&self.foreign).clone().filter(|(at, _)| lately(*at)).map(|(_, path)| {
            Warning::new(
                "deliveries_foreign",
                format!("webhooks came of projects that are not served, such as {}", Quoted::new(&path)),
                "add the project to GREENROOM_PROJECTS, or remove its webhook",
            )
        });
        [unreadable, refused, foreign].into_iter().flatten().collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells `health` every so often what hooks do that they should not, until stopped. A hook may be late by `grace`.
pub async fn watch(
    intake: web::Data<Intake>,
    health: Health,
    every: Duration,
    grace: Duration,
    stop: CancellationToken,
) {
    let grace = i64::try_from(grace.as_millis()).unwrap_or(i64::MAX);
    let mut timer = tokio::time::interval(every);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(timer.tick()).await.is_some() {
        health.set("webhook", intake.suspects());
        match intake.store.last_deliveries().await {
            Ok(last) => {
                let now = intake.clock.now();
                let delivered = |project| last.get(&project).copied();
                health.set("silence", health.webhooks.silent(delivered, now, grace));
            }
            Err(error) => tracing::warn!(%error, "when projects delivered last cannot be read"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_wrong_is_told_for_an_hour_and_a_project_by_its_first_name() {
        let suspects = Suspects::default();
        assert_eq!(suspects.warnings(0), []);
        suspects.note(Outcome::Look, Some("acme/web"), 0);
        assert_eq!(suspects.warnings(0), []);
        suspects.note(Outcome::Unreadable, None, 0);
        suspects.note(Outcome::Refused, None, 0);
        suspects.note(Outcome::Foreign, Some("acme/one"), 0);
        suspects.note(Outcome::Foreign, Some("acme/two"), 1);
        let codes = |now| suspects.warnings(now).into_iter().map(|w| w.code).collect::<Vec<_>>();
        assert_eq!(codes(1), ["deliveries_unreadable", "deliveries_refused", "deliveries_foreign"]);
        assert!(suspects.warnings(1)[2].text.ends_with("such as `acme/one`"));
        assert_eq!(codes(REMEMBERED), ["deliveries_foreign"]);
        assert_eq!(codes(REMEMBERED + 1), [""; 0]);
        suspects.note(Outcome::Foreign, Some("acme/two"), REMEMBERED + 1);
        assert!(suspects.warnings(REMEMBERED + 1)[0].text.ends_with("such as `acme/two`"));
    }
}
