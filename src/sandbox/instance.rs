//! The instance itself: its version, which servers before 15.2 tell at `/version` only.

use super::{
    REVISION,
    refusal::{Answer, Refusal},
    state::{Gitlab, State},
    users::Caller,
};
use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

pub(super) fn routes(api: &mut web::ServiceConfig) {
    api.route("/metadata", web::get().to(metadata)).route("/version", web::get().to(version));
}

async fn metadata(gitlab: Gitlab, _: Caller) -> Answer {
    let state = gitlab.lock();
    if state.has_metadata { Ok(HttpResponse::Ok().json(told(&state))) } else { Err(Refusal::not_found("")) }
}

async fn version(gitlab: Gitlab, _: Caller) -> Answer {
    Ok(HttpResponse::Ok().json(told(&gitlab.lock())))
}

fn told(state: &State) -> Value {
    json!({
        "version": state.version,
        "revision": REVISION,
        "kas": { "enabled": false, "externalUrl": null, "externalK8sProxyUrl": null, "version": null },
        "enterprise": true,
    })
}
