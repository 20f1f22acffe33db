//! The instance itself: its version.

use super::{REVISION, VERSION, refusal::Answer, users::Caller};
use actix_web::{HttpResponse, web};
use serde_json::json;

pub(super) fn routes(api: &mut web::ServiceConfig) {
    api.route("/metadata", web::get().to(metadata)).route("/version", web::get().to(metadata));
}

async fn metadata(_: Caller) -> Answer {
    Ok(HttpResponse::Ok().json(json!({
        "version": VERSION,
        "revision": REVISION,
        "kas": { "enabled": false, "externalUrl": null, "externalK8sProxyUrl": null, "version": null },
        "enterprise": true,
    })))
}
