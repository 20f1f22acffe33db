//! What CI jobs ask for: deploy, stop, what a deploy would do, and how it goes.
//!
//! A job proves who it is with the ID token that GitLab gave it (`oidc`), and no other secret; which merge request it speaks for is
//! found out by asking GitLab (`reconcile::Jobs`). All that is told strangers is why they are refused.
//!
//! Races, and what was decided:
//! * *The connection breaks while files are sent*: nothing was asked for. After they were: the same job asks again and gets
//!   the order that it made before.
//! * *The connection breaks while progress is told*: whoever comes back names the last line it has.
//! * *The job is cancelled*: what it asked for goes on, for it is durable; a newer job takes its place.
//! * *The server ends*: it hangs up, and the job comes back to the next one.

mod caller;
mod events;

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{Api, Problem, previews};
use crate::clock::Clock;
use crate::oidc::Verifier;
use crate::preview::Preview;
use crate::reconcile::{Jobs, Planner, Refusal, UploadError, Uploads};
use caller::Caller;
pub use events::{Follower, Wanted};

/// What the routes for jobs need.
pub struct JobDesk {
    /// Proves who asks.
    pub verifier: Verifier,
    /// Lets jobs in.
    pub jobs: Jobs,
    /// Says what deploys would do.
    pub planner: Planner,
    /// Where their files go.
    pub uploads: Uploads,
    /// The time.
    pub clock: Clock,
    /// Told when the server is about to end.
    pub stop: CancellationToken,
}

/// Mounts the routes. Needs `web::Data<JobDesk>` and, to show previews, `web::Data<Api>`.
pub(super) fn configure(config: &mut web::ServiceConfig) {
    let only = |allow: &'static str, path: &str, route: actix_web::Route| {
        let refused = web::to(move || async move { Problem::not_allowed(allow).response() });
        web::resource(path).route(route).default_service(refused)
    };
    config
        .service(only("POST", "/api/v1/jobs/deploy", web::post().to(deploy)))
        .service(only("POST", "/api/v1/jobs/stop", web::post().to(stop)))
        .service(only("POST", "/api/v1/jobs/plan", web::post().to(plan)))
        .service(only("GET", "/api/v1/jobs/preview", web::get().to(preview)))
        .service(only(
            "GET",
            "/api/v1/jobs/previews/{project_id}/{subject}/events",
            web::get().to(events::events),
        ));
}

/// The merge requests that a job says it is for: `mr=7` or `mr=7,8`.
#[derive(Debug, Deserialize)]
struct Named {
    #[serde(default)]
    mr: String,
}

impl Named {
    fn iids(&self) -> Result<Vec<u64>, Problem> {
        let parts = self.mr.split(',').filter(|part| !part.is_empty());
        parts.map(str::parse).collect::<Result<_, _>>().map_err(|_| {
            Problem::bad_request("`mr` names merge requests by their number, such as `mr=7` or `mr=7,8`")
        })
    }
}

/// What became of what was asked.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    /// Whose preview it is, such as `42!7`; nothing where there is none.
    key: Option<String>,
    /// Names what was asked for when its progress is asked for.
    order: Option<&'a str>,
    name: Option<&'a str>,
    url: Option<&'a str>,
    state: Option<&'a str>,
}

async fn deploy(
    caller: Caller,
    desk: web::Data<JobDesk>,
    named: web::Query<Named>,
    request: HttpRequest,
    body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let Caller(claims) = caller;
    let sends = request.headers().get(CONTENT_TYPE);
    if sends.is_some_and(|kind| kind != "application/zip") {
        return Err(Problem::unsupported(
            "files are sent as `Content-Type: application/zip`, or none at all",
        ));
    }
    let admitted = desk.jobs.admit_deploy(&claims, &named.iids()?).await?;
    let upload = if sends.is_some() {
        desk.uploads.tidy(&desk.jobs.store, desk.clock.now()).await;
        Some(desk.uploads.receive(body).await?)
    } else {
        None
    };
    let key = admitted.key();
    let kept = desk.jobs.order(&claims, admitted, upload, desk.clock.now()).await?;
    let preview = desk.jobs.store.preview(key).await?;
    Ok(HttpResponse::Accepted().json(Answer {
        key: Some(key.to_string()),
        order: Some(&kept.order.id),
        name: preview.as_ref().map(|preview| preview.name.as_str()),
        url: preview.as_ref().map(|preview| preview.url.as_str()),
        state: preview.as_ref().map(|preview| preview.state.as_str()),
    }))
}

/// What a deploy would do that the job asked for. It is told of no more than it may deploy.
async fn plan(
    caller: Caller,
    desk: web::Data<JobDesk>,
    named: web::Query<Named>,
) -> Result<HttpResponse, Problem> {
    let Caller(claims) = caller;
    let admitted = desk.jobs.admit_deploy(&claims, &named.iids()?).await?;
    let (key, order) = (admitted.key(), admitted.order(&claims, None, desk.clock.now()));
    Ok(HttpResponse::Ok().json(desk.planner.plan(key, Some(order)).await?))
}

/// The preview of the job's own merge request, whatever pipeline of it the job is in.
async fn preview(
    caller: Caller,
    desk: web::Data<JobDesk>,
    api: web::Data<Api>,
    named: web::Query<Named>,
) -> Result<HttpResponse, Problem> {
    match desk.jobs.admit_stop(&caller.0, &named.iids()?).await? {
        Some(key) => previews::show(&api, key).await,
        None => Err(Problem::not_found("the job's pipeline is that of a tag, and tags have no preview")),
    }
}

async fn stop(
    caller: Caller,
    desk: web::Data<JobDesk>,
    named: web::Query<Named>,
) -> Result<HttpResponse, Problem> {
    let Caller(claims) = caller;
    let key = desk.jobs.admit_stop(&claims, &named.iids()?).await?;
    let preview: Option<Preview> = match key {
        Some(key) => desk.jobs.stop(key, desk.clock.now()).await?,
        None => None,
    };
    let status = if preview.is_some() { HttpResponse::Accepted() } else { HttpResponse::Ok() };
    let mut status = status;
    Ok(status.json(Answer {
        key: key.map(|key| key.to_string()),
        order: None,
        name: preview.as_ref().map(|preview| preview.name.as_str()),
        url: preview.as_ref().map(|preview| preview.url.as_str()),
        state: Some(preview.as_ref().map_or("stopped", |preview| preview.state.as_str())),
    }))
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Forbidden(why) => Self::forbidden(why),
            Refusal::Superseded(why) => Self::conflict(why),
            Refusal::NoMergeRequest(why) => Self::not_found(why),
            Refusal::Unavailable(why) => Self::unavailable(why),
            Refusal::Store(error) => error.into(),
        }
    }
}

impl From<UploadError> for Problem {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::TooLarge { .. } => Self::too_large(error.to_string()),
            UploadError::Cut(_) => Self::bad_request(error.to_string()),
            UploadError::Disk(error) => {
                tracing::error!(%error, "an upload cannot be kept");
                Self::unavailable("the server cannot keep the files now")
            }
        }
    }
}
