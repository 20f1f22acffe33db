//! What is not as it should be, as JSON.

use actix_web::{HttpResponse, web};
use serde::Serialize;

use super::Api;
use super::access::Operator;
use crate::preview::rfc3339;
use crate::telemetry::{Standing, Warning};

#[derive(Serialize)]
struct Answer {
    status: &'static str,
    warnings: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    #[serde(flatten)]
    warning: Warning,
    since: String,
}

pub(super) async fn health(_: Operator, api: web::Data<Api>) -> HttpResponse {
    let told = |Standing { warning, since }| Line { warning, since: rfc3339(since) };
    let warnings: Vec<_> = api.health.standing().into_iter().map(told).collect();
    let status = if warnings.is_empty() { "ok" } else { "warning" };
    HttpResponse::Ok().json(Answer { status, warnings })
}
