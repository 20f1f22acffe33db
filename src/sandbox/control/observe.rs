//! What happened: deliveries, API calls, faults; and waiting until the deliveries are through.

use crate::sandbox::{
    delivery::Delivery,
    faults::Faults,
    refusal::{Answer, Refusal},
    state::Gitlab,
};
use actix_web::{HttpResponse, web};
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;

/// How long `drain` waits at most.
const DRAIN_DEADLINE: Duration = Duration::from_mins(1);

pub(super) fn routes(control: &mut web::ServiceConfig) {
    control
        .service(web::resource("/deliveries").get(deliveries).delete(forget_deliveries))
        .service(web::resource("/calls").get(calls).delete(forget_calls))
        .service(web::resource("/faults").get(faults).put(set_faults).delete(forget_faults))
        .route("/drain", web::post().to(drain));
}

async fn deliveries(gitlab: Gitlab) -> HttpResponse {
    HttpResponse::Ok().json(gitlab.lock().deliveries_json())
}

/// Forgets those that are through.
async fn forget_deliveries(gitlab: Gitlab) -> HttpResponse {
    gitlab.lock().deliveries.retain(Delivery::pending);
    HttpResponse::NoContent().finish()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    /// How many of the oldest to leave out.
    #[serde(default)]
    skip: usize,
}

async fn calls(gitlab: Gitlab, page: web::Query<Page>) -> HttpResponse {
    let state = gitlab.lock();
    HttpResponse::Ok().json(state.calls.get(page.skip..).unwrap_or_default())
}

async fn forget_calls(gitlab: Gitlab) -> HttpResponse {
    gitlab.lock().calls.clear();
    HttpResponse::NoContent().finish()
}

async fn faults(gitlab: Gitlab) -> HttpResponse {
    HttpResponse::Ok().json(&gitlab.lock().faults)
}

async fn set_faults(gitlab: Gitlab, faults: web::Json<Faults>) -> Answer {
    faults.check().map_err(Refusal::bad_request)?;
    let mut state = gitlab.lock();
    state.faults = faults.into_inner();
    Ok(HttpResponse::Ok().json(&state.faults))
}

async fn forget_faults(gitlab: Gitlab) -> HttpResponse {
    gitlab.lock().faults = Faults::default();
    HttpResponse::NoContent().finish()
}

/// 200 when no delivery is in flight, 504 when some still are after 10 s.
async fn drain(gitlab: Gitlab) -> HttpResponse {
    let settled = async {
        loop {
            let mut next = std::pin::pin!(gitlab.settled.notified());
            next.as_mut().enable();
            if !gitlab.lock().deliveries.iter().any(Delivery::pending) {
                return;
            }
            next.await;
        }
    };
    let drained = tokio::time::timeout(DRAIN_DEADLINE, settled).await.is_ok();
    let pending = gitlab.lock().deliveries.iter().filter(|delivery| delivery.pending()).count();
    if drained { HttpResponse::Ok() } else { HttpResponse::GatewayTimeout() }
        .json(json!({ "pending": pending }))
}
