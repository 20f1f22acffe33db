//! The journal of API calls: what was asked, by whom and how it was answered, so that a test can
//! count calls and say "nothing was written".

use super::{faults, state::Gitlab, users::sent_token};
use actix_web::{
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    middleware::Next,
};
use serde::Serialize;

/// One API call.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Call {
    method: String,
    /// With the query string, as it was sent.
    path: String,
    status: u16,
    /// Username; null when the token was not good.
    user: Option<String>,
    /// Whether a fault answered instead of the sandbox.
    fault: bool,
}

/// Middleware around the whole API: lets the planned faults happen and writes the journal.
pub(super) async fn record(
    gitlab: Gitlab,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let method = request.method().to_string();
    let path = request.uri().path_and_query().map_or_else(String::new, ToString::to_string);
    let (user, fault) = {
        let mut state = gitlab.lock();
        let token = sent_token(request.headers(), request.query_string());
        let user = token.and_then(|token| state.tokens.get(&token).map(|token| token.user));
        let username = user.and_then(|user| state.users.get(&user)).map(|user| user.username.clone());
        let now = state.now();
        (username, state.faults.for_call(&method, request.path(), now))
    };
    let faulty = fault.is_some();
    let answer = match fault {
        None => next.call(request).await.map(ServiceResponse::map_into_boxed_body),
        Some(fault) => faults::answer(fault, request, next).await,
    };
    let status = match &answer {
        Ok(answer) => answer.status().as_u16(),
        Err(error) => error.as_response_error().status_code().as_u16(),
    };
    gitlab.lock().calls.push(Call { method, path, status, user, fault: faulty });
    answer
}
