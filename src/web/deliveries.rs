//! Whether a delivery came, as JSON. For whoever has sent one and wants to know.

use actix_web::{HttpResponse, web};
use serde::Serialize;

use super::access::Operator;
use super::{Api, Problem};
use crate::preview::rfc3339;
use crate::store::Received;

#[derive(Serialize)]
struct Answer<'a> {
    id: &'a str,
    event: &'a str,
    outcome: &'a str,
    received_at: String,
}

pub(super) async fn one(
    _: Operator,
    api: web::Data<Api>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let Some(Received { event, outcome, at }) = api.store.delivery(&id).await? else {
        return Err(Problem::not_found("no delivery with this id came, or it is too long ago"));
    };
    let answer = Answer { id: &id, event: &event, outcome: &outcome, received_at: rfc3339(at) };
    Ok(HttpResponse::Ok().json(answer))
}
