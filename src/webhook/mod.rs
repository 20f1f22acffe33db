//! GitLab's POST → a verified, typed delivery → a stored hint.
//!
//! Needs: an [`Intake`] with at least one secret, and a store. Never calls GitLab or an engine.
//!
//! | file | holds |
//! |---|---|
//! | `signing_key` | GitLab's signing tokens, and the signatures made with them |
//! | `verify` | who sent it: which proof counts, and whether it holds |
//! | `payload` | the smallest typed part of a body |
//! | `hint` | what a body asks us to look at |
//! | `delivery` | the one way from a request to a verified delivery |
//! | `intake` | what the route works with, and its counts |
//! | `suspects` | which hooks do not do what they should, for the operator |
//!
//! Properties:
//! * Nothing is believed, parsed or stored before it is verified over its raw bytes.
//! * What asks for a look is durable before it is answered, so a crash after the answer loses nothing.
//! * Whatever GitLab sends and can prove is answered with 2xx, also what we cannot read: four failures in a row pause a
//!   hook, and one odd payload must not switch the product off. Failures are kept for what they are: a wrong secret
//!   (401), a store that is down (503).
//! * A repeated delivery gets the answer of the first and changes nothing.
//! * No body and no secret reaches the log, the store or an answer.
//!
//! | answer | when |
//! |---|---|
//! | 202 | stored; a merge request or branch will be looked at |
//! | 200 | stored, and nothing is to be done: irrelevant, not served here, of an unknown kind, or unreadable |
//! | 401 | not proven to be from a GitLab that knows our secret |
//! | 405 | not a POST |
//! | 408 | the body did not come within half a minute |
//! | 413 | over 25 MiB |
//! | 503 | the store is down, or slower than GitLab waits; a resend is recognised if it was kept after all |
//!
//! Races, and what was decided:
//! * *The same delivery comes twice at once* (GitLab timed out and somebody pressed "resend"): the store decides by the
//!   id, in one transaction. Both get the same answer.
//! * *A group hook and a project hook tell of one event*: their ids differ, so both are stored; the queue holds the key
//!   once all the same.
//! * *Deliveries overtake each other*: of no matter. They only name a merge request; what is true is read from GitLab
//!   later, and a hint that comes during a look causes exactly one more.
//! * *The secrets are replaced while a delivery comes in*: it is judged by those it began with.
//! * *GitLab hangs up before the answer*: the delivery is stored or it is not, never half; a resend is recognised.
//! * *The store is down*: 503, and GitLab does not send again. The hook may pause and events are lost, which is what the
//!   resync is for; an answer of 2xx would hide it from whoever looks at the hook's page.
//! * *A resend carries its first timestamp*: it is refused as stale after five minutes, since it cannot be told from a
//!   replay. Resync mends this too.

mod delivery;
mod hint;
mod intake;
mod payload;
mod signing_key;
mod suspects;
mod verify;

#[cfg(test)]
mod meanings;
#[cfg(test)]
mod tests;

use actix_web::http::header::{ALLOW, RETRY_AFTER};
use actix_web::{HttpResponse, web};

pub use delivery::{Rejection, VerifiedDelivery};
pub use hint::{Meaning, read};
pub use intake::{Intake, Outcome, Projects};
pub use signing_key::{BadSigningToken, SigningKey};
pub use suspects::watch;
pub use verify::{Refusal, Secrets};

use crate::store::{self, Accepted};

/// When to try again while the store is down, in seconds. GitLab does not read it; proxies and people do.
const RETRY_SECONDS: u32 = 5;

/// Mounts `POST /webhooks/gitlab`. The app needs a `web::Data<Intake>`.
pub fn configure(config: &mut web::ServiceConfig) {
    config.service(web::resource("/webhooks/gitlab").route(web::post().to(receive)).default_service(
        web::to(|| async { HttpResponse::MethodNotAllowed().insert_header((ALLOW, "POST")).finish() }),
    ));
}

async fn receive(delivery: VerifiedDelivery, intake: web::Data<Intake>) -> HttpResponse {
    let outcome = delivery.meaning.outcome();
    let accepted = intake.store.accept(delivery.to_store(intake.clock.now())).await;
    intake.count(match accepted {
        Ok(Accepted::New) => outcome,
        Ok(Accepted::Repeated) => Outcome::Repeated,
        Err(_) => Outcome::Unstored,
    });
    intake.suspect(outcome, delivery.meaning.project_path());
    log(&delivery, accepted.as_ref());
    match accepted {
        Ok(_) if outcome == Outcome::Look => HttpResponse::Accepted().finish(),
        Ok(_) => HttpResponse::Ok().finish(),
        Err(_) => HttpResponse::ServiceUnavailable().insert_header((RETRY_AFTER, RETRY_SECONDS)).finish(),
    }
}

fn log(delivery: &VerifiedDelivery, accepted: Result<&Accepted, &store::Error>) {
    let VerifiedDelivery { id, event, meaning } = delivery;
    // What is usual is told at `debug`: a line for each delivery costs more than all else that is done with it, and the
    // look that follows tells of itself.
    match (accepted, meaning) {
        (Err(error), _) => {
            tracing::error!(delivery.id = id, delivery.event = event, %error, "a delivery could not be stored");
        }
        (Ok(Accepted::Repeated), _) => {
            tracing::debug!(delivery.id = id, delivery.event = event, "a delivery came again");
        }
        (_, Meaning::Look { key, .. }) => {
            tracing::debug!(delivery.id = id, delivery.event = event, work.key = %key, "a delivery asks for a look");
        }
        (_, Meaning::Irrelevant(why)) => {
            tracing::debug!(
                delivery.id = id,
                delivery.event = event,
                reason = why,
                "a delivery is irrelevant"
            );
        }
        (_, Meaning::Foreign(path)) => {
            tracing::debug!(
                delivery.id = id,
                project.path = path,
                "a delivery is of a project that is not served"
            );
        }
        (_, Meaning::Unknown(kind)) => {
            tracing::info!(delivery.id = id, delivery.kind = kind, "a delivery is of an unknown kind");
        }
        (_, Meaning::Unreadable(why)) => {
            tracing::warn!(
                delivery.id = id,
                delivery.event = event,
                reason = why,
                "a delivery is unreadable"
            );
        }
    }
}
