//! One extractor from a request to a verified, typed delivery. There is no other way to one, so no route can forget to
//! verify; and it is *one*, because actix runs the extractors of a route concurrently.

use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_LENGTH, ContentType, HeaderMap, HeaderValue};
use actix_web::{FromRequest, HttpRequest, HttpResponse, ResponseError, web};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use futures::future::LocalBoxFuture;
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use super::hint::{self, Meaning};
use super::intake::{Intake, Outcome};
use super::verify::Refusal;
use crate::store::Delivery;

/// The largest body GitLab sends.
pub(super) const LARGEST_BODY: usize = 25 * 1024 * 1024;

/// How long a body may take; GitLab itself gives up after ten seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Room made for a body before any of it came, at most.
const USUAL_BODY: usize = 64 * 1024;

/// The longest delivery id kept as it came; GitLab's are UUIDs.
const LONGEST_ID: usize = 200;

/// The longest event name kept; GitLab's longest has 27 characters.
const LONGEST_EVENT: usize = 64;

/// A delivery whose sender knows one of our secrets. Its body is gone by now: it may hold CI variables in clear.
#[derive(Debug)]
pub struct VerifiedDelivery {
    /// The same for every repetition of the delivery.
    pub id: String,
    /// The `X-Gitlab-Event` header, `none` when there is none.
    pub event: String,
    /// What it asks for.
    pub meaning: Meaning,
}

impl VerifiedDelivery {
    /// The row to store.
    pub(super) fn to_store(&self, at: i64) -> Delivery {
        let (work, project, reopened) = match &self.meaning {
            Meaning::Look { key, project, reopened } => (Some(key.clone()), Some(project.clone()), *reopened),
            _ => (None, None, false),
        };
        let outcome = self.meaning.outcome().as_str();
        Delivery { id: self.id.clone(), event: self.event.clone(), outcome, project, work, reopened, at }
    }
}

impl FromRequest for VerifiedDelivery {
    type Error = Rejection;
    type Future = LocalBoxFuture<'static, Result<Self, Rejection>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move {
            let intake = request.app_data::<web::Data<Intake>>().ok_or(Rejection::NoIntake)?;
            receive(intake, request.headers(), payload).await.inspect_err(|rejection| {
                rejection.outcome().inspect(|outcome| intake.count(*outcome));
                // Others than GitLab may knock at any time.
                if request.headers().contains_key("x-gitlab-event") {
                    rejection.outcome().inspect(|outcome| intake.suspect(*outcome, None));
                }
                tracing::warn!(reason = %rejection, "a delivery was turned away");
            })
        })
    }
}

async fn receive(
    intake: &Intake,
    headers: &HeaderMap,
    payload: Payload,
) -> Result<VerifiedDelivery, Rejection> {
    let secrets = intake.secrets();
    let proof = secrets.proof(headers, intake.clock.now().div_euclid(1000))?;
    let body = timeout(PATIENCE, body(headers, payload)).await.map_err(|_| Rejection::Slow)??;
    secrets.check(&proof, headers, &body)?;

    let event = headers.get("x-gitlab-event").and_then(|event| event.to_str().ok()).unwrap_or("none");
    Ok(VerifiedDelivery {
        id: id(headers, event, &body),
        event: event.chars().take(LONGEST_EVENT).collect(),
        meaning: hint::read(event, &body, &intake.projects),
    })
}

/// Reads the body as it comes, up to the limit. `Content-Length` can only make us give up sooner.
async fn body(headers: &HeaderMap, mut payload: Payload) -> Result<Bytes, Rejection> {
    let announced =
        headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > LARGEST_BODY) {
        return Err(Rejection::TooLarge);
    }
    let mut body = BytesMut::with_capacity(announced.unwrap_or_default().min(USUAL_BODY));
    while let Some(chunk) = payload.next().await {
        let chunk = chunk?;
        if body.len() + chunk.len() > LARGEST_BODY {
            return Err(Rejection::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// The delivery's identity: `webhook-id` (19.0 and later), else `Idempotency-Key` (17.4 and later), else a digest of
/// what came. An id that is no fit key for a database is replaced by its own digest.
fn id(headers: &HeaderMap, event: &str, body: &[u8]) -> String {
    let mut given = ["webhook-id", "idempotency-key"].into_iter().filter_map(|name| headers.get(name));
    match given.find(|id| !id.is_empty()).map(HeaderValue::as_bytes) {
        Some(id) => match str::from_utf8(id) {
            Ok(text) if text.len() <= LONGEST_ID && !text.contains(char::is_control) => text.to_owned(),
            _ => hex::encode(Sha256::digest(id)),
        },
        None => hex::encode(Sha256::new().chain_update(event).chain_update(body).finalize()),
    }
}

/// Why a request did not become a delivery. The text goes back to the sender.
#[derive(Debug, thiserror::Error)]
pub enum Rejection {
    /// Not proven to be GitLab's.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Larger than anything GitLab sends.
    #[error("the body is larger than 25 MiB, which GitLab itself would not send")]
    TooLarge,
    /// The body could not be read to its end.
    #[error("the body ended early: {0}")]
    Interrupted(#[from] PayloadError),
    /// The body did not come in time.
    #[error("the body did not come within {} s", PATIENCE.as_secs())]
    Slow,
    /// The route is there without its [`Intake`].
    #[error("this server is not set up to take webhooks")]
    NoIntake,
}

impl Rejection {
    fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::Refused(_) => Some(Outcome::Refused),
            Self::TooLarge => Some(Outcome::TooLarge),
            Self::Interrupted(_) | Self::Slow => Some(Outcome::Interrupted),
            Self::NoIntake => None,
        }
    }
}

impl ResponseError for Rejection {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::Refused(_) => StatusCode::UNAUTHORIZED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Interrupted(_) => StatusCode::BAD_REQUEST,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::NoIntake => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn error_response(&self) -> HttpResponse {
        HttpResponse::build(self.status_code())
            .content_type(ContentType::plaintext())
            .body(format!("{self}\n"))
    }
}
