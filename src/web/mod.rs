//! JSON API, health and metrics.
//!
//! Needs: the store. GitLab is never called from here, except to find out who a CI job is and speaks for (`jobs`) and what a
//! look would do (`plan`), nor are engines, except for that and for what a preview's programs write.
//!
//! Who may ask (`access.rs`): with an API token set, whoever sends it; without one, only loopback peers that name a
//! loopback host and came through no proxy. `/livez` and `/readyz` answer everybody.

mod access;
mod brake;
mod deliveries;
mod health;
mod jobs;
mod plan;
mod previews;
mod problem;
mod ready;

use std::sync::Arc;

use actix_web::http::header::ContentType;
use actix_web::{HttpResponse, Route, guard, web};

pub use access::ApiToken;
use access::Operator;
pub use jobs::{Follower, JobDesk, Wanted};
pub use problem::Problem;
pub use ready::Readiness;

use crate::clock::Clock;
use crate::preview::{EngineKind, Preview, State};
use crate::reconcile::{Brake, Engines, Planner, foreign_instances};
use crate::store::Store;
use crate::telemetry::{Deploys, GitLabUse, Health, Looks, Metrics, Sample};

/// Reads counters that live in rooms this one does not know.
pub type Counters = Arc<dyn Fn() -> Vec<(&'static str, u64)> + Send + Sync>;

/// What the routes need.
pub struct Api {
    /// Deliveries, queue, previews.
    pub store: Store,
    /// Whether the store answers, as it is being found out.
    pub readiness: Readiness,
    /// The time.
    pub clock: Clock,
    /// Bearer token that is asked for, if any.
    pub token: ApiToken,
    /// Looks so far.
    pub looks: Arc<Looks>,
    /// Deploys so far.
    pub deploys: Arc<Deploys>,
    /// Deliveries by outcome.
    pub deliveries: Counters,
    /// Calls to GitLab by kind.
    pub gitlab: Arc<dyn Fn() -> GitLabUse + Send + Sync>,
    /// What is not as it should be.
    pub health: Health,
    /// Holds removals that are many at once.
    pub brake: Brake,
    /// What runs previews; asked only for what their programs write.
    pub engines: Engines,
    /// Says what looks would do.
    pub planner: Planner,
    /// Which project paths are served.
    pub served: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    /// How long GitLab may not show a merge request before that is told, milliseconds.
    pub unseen_after: i64,
    /// Our id.
    pub instance: String,
}

/// Mounts the routes. Needs `web::Data<Api>` and `web::Data<JobDesk>`.
pub fn configure(config: &mut web::ServiceConfig) {
    let get = || web::route().guard(guard::Any(guard::Get()).or(guard::Head()));
    let only = |allow: &'static str, path: &str, route: Route| {
        let refused = web::to(move || async move { Problem::not_allowed(allow).response() });
        web::resource(path).route(route).default_service(refused)
    };
    let at = |path: &str, route: Route| only("GET, HEAD", path, route);
    let asked = |verb: &str, route: Route| {
        only("POST", &format!("/api/v1/previews/{{project_id}}/{{subject}}/{verb}"), route)
    };
    jobs::configure(config);
    config
        .app_data(web::PathConfig::default().error_handler(|error, _| not_read(&error)))
        .app_data(web::QueryConfig::default().error_handler(|error, _| not_read(&error)))
        .service(at("/livez", get().to(livez)))
        .service(at("/readyz", get().to(ready::readyz)))
        .service(at("/metrics", get().to(metrics)))
        .service(at("/api/v1/deliveries/{id}", get().to(deliveries::one)))
        .service(at("/api/v1/health", get().to(health::health)))
        .service(
            only("GET, HEAD, POST", "/api/v1/brake", get().to(brake::show))
                .route(web::post().to(brake::release)),
        )
        .service(at("/api/v1/previews", get().to(previews::list)))
        .service(at("/api/v1/previews/{project_id}/{subject}", get().to(previews::one)))
        .service(at("/api/v1/previews/{project_id}/{subject}/log", get().to(previews::log)))
        .service(asked("stop", web::post().to(previews::stop)))
        .service(asked("refresh", web::post().to(previews::refresh)))
        .service(asked("sleep", web::post().to(previews::sleep)))
        .service(asked("wake", web::post().to(previews::wake)))
        .service(asked("plan", web::post().to(plan::plan)))
        .default_service(web::to(async || Problem::not_found("there is nothing at this address").response()));
}

/// Answers a request whose path or query is not as a route takes it.
fn not_read(error: &impl ToString) -> actix_web::Error {
    Problem::bad_request(error.to_string()).into()
}

/// Answers a request that leaves open which host it is for.
pub async fn unclear_host() -> HttpResponse {
    Problem::bad_request("name one host, in `Host`, and the same one wherever else it is named").response()
}

async fn livez() -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::plaintext()).body("ok\n")
}

async fn metrics(_: Operator, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let now = api.clock.now();
    let all = api.store.previews().await?;
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let count = |state: State| number(all.iter().filter(|p| p.state == state).count());
    let depth = api.store.queue_depth(now).await?;
    let unseen = |preview: &&Preview| preview.unseen_since.is_some_and(|at| now - at >= api.unseen_after);
    let unserved = |preview: &&Preview| !(api.served)(&preview.project_path);
    let live = || all.iter().filter(|preview| preview.state != State::Stopped);
    let sample = Sample {
        unseen: number(live().filter(unseen).count()),
        unserved: number(live().filter(unserved).count()),
        brake: api.brake.state(&api.store, now).await?.held,
        foreign: number(foreign_instances(&api.store).await?.len()),
        deliveries: (api.deliveries)(),
        gitlab: (api.gitlab)(),
        previews: State::ALL.iter().map(|state| (state.as_str(), count(*state))).collect(),
        engine_previews: by_engine(&all),
        warnings: api.health.counts(),
        queue: (depth.due, depth.later),
        oldest: depth.oldest / 1000,
    };
    let text = Metrics.render(&api.looks, &api.deploys, &sample).map_err(|_| Problem::internal())?;
    Ok(HttpResponse::Ok()
        .content_type("application/openmetrics-text; version=1.0.0; charset=utf-8")
        .body(text))
}

fn by_engine(all: &[Preview]) -> Vec<(&'static str, &'static str, i64)> {
    let pairs = EngineKind::ALL.into_iter().flat_map(|engine| State::ALL.map(|state| (engine, state)));
    let count = |engine: EngineKind, state: State| {
        let of = |preview: &&Preview| preview.state == state && preview.engine == engine.as_str();
        i64::try_from(all.iter().filter(of).count()).unwrap_or(i64::MAX)
    };
    pairs.map(|(engine, state)| (engine.as_str(), state.as_str(), count(engine, state))).collect()
}
