//! The ways in which GitLab says no. The shape of an error body depends on where in GitLab it comes
//! from: `{"message": "text"}`, `{"message": {"field": ["…"]}}` or `{"error": "…"}`.

use actix_web::{HttpResponse, ResponseError, http::StatusCode};
use serde_json::{Value, json};

/// What a handler answers.
pub(super) type Answer = Result<HttpResponse, Refusal>;

/// An answer that is an error, in GitLab's words.
#[derive(Debug, thiserror::Error)]
#[error("{status}: {body}")]
pub(super) struct Refusal {
    status: StatusCode,
    body: Value,
}

impl Refusal {
    fn message(status: StatusCode, message: impl Into<Value>) -> Self {
        Self { status, body: json!({ "message": message.into() }) }
    }

    /// No token, or one that is unknown, revoked or expired.
    pub(super) fn unauthorized() -> Self {
        Self::message(StatusCode::UNAUTHORIZED, "401 Unauthorized")
    }

    /// The role is too low.
    pub(super) fn forbidden() -> Self {
        Self::message(StatusCode::FORBIDDEN, "403 Forbidden")
    }

    /// The role would do, but not here and now.
    pub(super) fn forbidden_because(reason: &str) -> Self {
        Self::message(StatusCode::FORBIDDEN, format!("403 Forbidden - {reason}"))
    }

    /// The token's scope is too small: the one refusal with `error` and `error_description`.
    pub(super) fn insufficient_scope() -> Self {
        Self {
            status: StatusCode::FORBIDDEN,
            body: json!({
                "error": "insufficient_scope",
                "error_description": "The request requires higher privileges than provided by the access token.",
                "scope": "api",
            }),
        }
    }

    /// `404 <what> Not Found`; the plain one is `404 Not found`.
    pub(super) fn not_found(what: &str) -> Self {
        let message =
            if what.is_empty() { "404 Not found".to_owned() } else { format!("404 {what} Not Found") };
        Self::message(StatusCode::NOT_FOUND, message)
    }

    /// A parameter that must be there is not (Grape's own answer).
    pub(super) fn missing(parameter: &str) -> Self {
        Self::invalid(&format!("{parameter} is missing"))
    }

    /// A parameter that is there makes no sense (Grape's own answer).
    pub(super) fn invalid(error: &str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, body: json!({ "error": error }) }
    }

    /// 400 with a text or with `{"field": ["…"]}` (a model's validation).
    pub(super) fn bad_request(message: impl Into<Value>) -> Self {
        Self::message(StatusCode::BAD_REQUEST, message)
    }

    /// 405: the merge request cannot be merged as it is.
    pub(super) fn not_allowed() -> Self {
        Self::message(StatusCode::METHOD_NOT_ALLOWED, "405 Method Not Allowed")
    }

    /// 409.
    pub(super) fn conflict(message: impl Into<Value>) -> Self {
        Self::message(StatusCode::CONFLICT, message)
    }

    /// 429 of an application limit, which has no headers.
    pub(super) fn too_many() -> Self {
        let error = "This endpoint has been requested too many times. Try again later.";
        Self::message(StatusCode::TOO_MANY_REQUESTS, json!({ "error": error }))
    }

    /// 422.
    pub(super) fn unprocessable(message: impl Into<Value>) -> Self {
        Self::message(StatusCode::UNPROCESSABLE_ENTITY, message)
    }
}

impl ResponseError for Refusal {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        HttpResponse::build(self.status).json(&self.body)
    }
}
