//! `/sandbox/*`: what a test or a person does to the world outside of the REST API. Needs no token
//! and no fault ever touches it. Bodies are strict: an unknown field is an error that names it.

mod observe;
mod pipelines;
mod world;

use super::{refusal::Refusal, state::State};
use actix_web::web;

pub(super) fn routes(control: &mut web::ServiceConfig) {
    control.app_data(
        web::JsonConfig::default()
            .limit(64 << 20)
            .error_handler(|error, _| Refusal::bad_request(error.to_string()).into()),
    );
    world::routes(control);
    pipelines::routes(control);
    observe::routes(control);
}

/// The built-in person who acts where a request names nobody.
pub(super) const DEV: &str = "dev";

/// The acting user: the named one, or [`DEV`].
fn actor(state: &State, username: Option<&str>) -> Result<u64, Refusal> {
    state.find_user(username.unwrap_or(DEV))
}
