//! Faults on demand: what a network, an overloaded GitLab or a proxy in front of it does to the
//! API and to webhook deliveries. They never touch `/sandbox/*`.

use actix_web::{
    HttpResponse,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::StatusCode,
    middleware::Next,
};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The faults in force (`PUT /sandbox/faults` replaces all of them).
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Faults {
    pub(super) deliveries: DeliveryFaults,
    api: Vec<ApiFault>,
}

/// What happens to webhooks on their way.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DeliveryFaults {
    /// The next n deliveries, or all of them, are never sent.
    lose: Lose,
    /// The next n deliveries are sent twice with the same id.
    repeat: u64,
    /// Deliveries overtake each other.
    pub(super) shuffle: bool,
    /// Each delivery waits this long first.
    pub(super) delay_ms: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Lose {
    All(bool),
    Next(u64),
}

impl Default for Lose {
    fn default() -> Self {
        Self::All(false)
    }
}

/// One rule for API calls. The first that matches counts; one with `times` wears out.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ApiFault {
    /// Any method when absent.
    #[serde(default)]
    method: Option<String>,
    /// A glob on the path without its query, such as `/api/v4/projects/*/notes*`; any when absent.
    #[serde(default)]
    path: Option<String>,
    /// How often; for ever when absent.
    #[serde(default)]
    times: Option<u64>,
    kind: Kind,
    #[serde(default)]
    status: Option<u16>,
    /// Seconds; makes a 429 one of the request throttle, with its headers.
    #[serde(default)]
    retry_after: Option<i64>,
    #[serde(default)]
    body: Option<Body>,
    /// The call takes effect, only its answer is replaced.
    #[serde(default)]
    after: bool,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// Answers `status` (503 when absent).
    Status,
    /// Never answers.
    Hang,
    /// Answers a web page (200 unless `status` is given).
    Html,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Body {
    Html,
    Json,
    EmptyList,
}

/// A fault that was chosen for a call.
#[derive(Debug)]
pub(super) struct Chosen {
    fault: ApiFault,
    now: Timestamp,
}

impl Faults {
    /// The fault for this call, if one is planned.
    pub(super) fn for_call(&mut self, method: &str, path: &str, now: Timestamp) -> Option<Chosen> {
        let fault =
            self.api.iter_mut().find(|fault| fault.times != Some(0) && fault.matches(method, path))?;
        fault.times = fault.times.map(|times| times - 1);
        Some(Chosen { fault: fault.clone(), now })
    }

    /// Whether the next delivery gets lost.
    pub(super) fn loses(&mut self) -> bool {
        match &mut self.deliveries.lose {
            Lose::All(all) => *all,
            Lose::Next(0) => false,
            Lose::Next(left) => {
                *left -= 1;
                true
            }
        }
    }

    /// Whether the next delivery is sent twice.
    pub(super) fn repeats(&mut self) -> bool {
        let repeats = self.deliveries.repeat > 0;
        self.deliveries.repeat = self.deliveries.repeat.saturating_sub(1);
        repeats
    }

    /// Says what is wrong with a rule before it is taken.
    pub(super) fn check(&self) -> Result<(), String> {
        for fault in &self.api {
            if let Some(path) = &fault.path {
                globset::Glob::new(path).map_err(|error| error.to_string())?;
            }
            if let Some(status) = fault.status {
                StatusCode::from_u16(status).map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }
}

impl ApiFault {
    fn matches(&self, method: &str, path: &str) -> bool {
        let same_method = self.method.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(method));
        let glob =
            |glob: &String| globset::Glob::new(glob).is_ok_and(|glob| glob.compile_matcher().is_match(path));
        same_method && self.path.as_ref().is_none_or(glob)
    }
}

/// Answers in place of the sandbox.
pub(super) async fn answer(
    chosen: Chosen,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let request =
        if chosen.fault.after { next.call(request).await?.into_parts().0 } else { request.into_parts().0 };
    if matches!(chosen.fault.kind, Kind::Hang) {
        std::future::pending::<()>().await;
    }
    Ok(ServiceResponse::new(request, chosen.response()))
}

impl Chosen {
    fn response(&self) -> HttpResponse {
        let fault = &self.fault;
        let page = matches!(fault.kind, Kind::Html);
        let default = if page || matches!(fault.body, Some(Body::EmptyList)) { 200 } else { 503 };
        let status =
            StatusCode::from_u16(fault.status.unwrap_or(default)).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        let mut answer = HttpResponse::build(status);
        if let Some(seconds) = fault.retry_after {
            answer.insert_header(("Retry-After", seconds.to_string()));
        }
        match (fault.body, status) {
            (Some(Body::Html), _) => html(&mut answer, status),
            (Some(Body::EmptyList), _) => answer.json(json!([])),
            _ if page => html(&mut answer, status),
            (None, StatusCode::TOO_MANY_REQUESTS) => self.throttled(&mut answer),
            _ => answer.json(json!({ "message": message(status) })),
        }
    }

    /// The request throttle answers in plain text with headers; GitLab's application limits (notes,
    /// pipelines …) answer JSON without any.
    fn throttled(&self, answer: &mut actix_web::HttpResponseBuilder) -> HttpResponse {
        let Some(seconds) = self.fault.retry_after else {
            let error = "This endpoint has been requested too many times. Try again later.";
            return answer.json(json!({ "message": { "error": error } }));
        };
        let reset = self.now.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(self.now);
        answer
            .insert_header(("RateLimit-Limit", "60"))
            .insert_header(("RateLimit-Name", "throttle_authenticated_api"))
            .insert_header(("RateLimit-Observed", "61"))
            .insert_header(("RateLimit-Remaining", "0"))
            .insert_header(("RateLimit-Reset", reset.as_second().to_string()))
            .insert_header(("RateLimit-ResetTime", reset.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()))
            .content_type("text/plain")
            .body("Retry later\n")
    }
}

fn html(answer: &mut actix_web::HttpResponseBuilder, status: StatusCode) -> HttpResponse {
    let title = status.canonical_reason().unwrap_or("GitLab");
    answer.content_type("text/html; charset=utf-8").body(format!(
        "<!DOCTYPE html>\n<html><head><title>{title} ({})</title></head><body><h1>{title}</h1></body></html>\n",
        status.as_u16()
    ))
}

fn message(status: StatusCode) -> String {
    match status {
        StatusCode::NOT_FOUND => "404 Not found".to_owned(),
        _ => status.to_string(),
    }
}
