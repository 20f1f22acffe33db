//! What a look would do, as JSON. Asks GitLab and the engine by the hand of `reconcile`, and changes nothing; still a `POST`,
//! because it costs more than a page of another site may ask for.

use actix_web::{HttpResponse, web};

use super::access::Operator;
use super::{Api, Problem};
use crate::preview::PreviewKey;
use crate::reconcile::{PlanError, Planner};

/// The project is named by its id, or by its path with `%2F` in the place of `/`: there may be no preview of it yet.
pub(super) async fn plan(
    _: Operator,
    api: web::Data<Api>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    let key = key(&api.planner, &path).await?;
    Ok(HttpResponse::Ok().json(api.planner.plan(key, None).await?))
}

async fn key(planner: &Planner, (project, subject): &(String, String)) -> Result<PreviewKey, Problem> {
    let unnamed = || {
        Problem::not_found(format!(
            "`{project}/{subject}` names no merge request; use the project's id, or its path with `%2F` for `/`, and the iid"
        ))
    };
    let subject = subject.parse().map_err(|_| unnamed())?;
    if let Ok(id) = project.parse() {
        return Ok(PreviewKey::new(id, subject));
    }
    let path = project.replace("%2F", "/").replace("%2f", "/");
    if !path.contains('/') {
        return Err(unnamed());
    }
    Ok(PreviewKey::new(planner.project_id(&path).await?, subject))
}

impl From<PlanError> for Problem {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::NotOurs(why) => Self::not_found(why),
            error @ (PlanError::Unavailable(_) | PlanError::TooLong) => Self::unavailable(error.to_string()),
            PlanError::Store(error) => error.into(),
        }
    }
}
