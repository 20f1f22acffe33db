//! Who asks: a CI job with the ID token that GitLab gave it.

use actix_web::dev::Payload;
use actix_web::http::header::AUTHORIZATION;
use actix_web::{FromRequest, HttpRequest, web};
use futures::future::LocalBoxFuture;

use super::JobDesk;
use crate::oidc::Claims;
use crate::web::Problem;

/// A job whose token is proven, before any of its body is read.
pub(super) struct Caller(pub(super) Claims);

impl FromRequest for Caller {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let desk = request.app_data::<web::Data<JobDesk>>().cloned();
        let token = request
            .headers()
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim().to_owned());
        Box::pin(async move {
            let desk = desk.ok_or_else(Problem::internal)?;
            let token = token.ok_or_else(|| {
                Problem::unauthorized("send the job's ID token (`id_tokens:`) as `Authorization: Bearer …`")
            })?;
            match desk.verifier.verify(&token).await {
                Ok(claims) => Ok(Self(claims)),
                Err(error) if error.is_unavailable() => Err(Problem::unavailable(error.to_string())),
                Err(error) => {
                    tracing::warn!(%error, "a job was refused");
                    Err(Problem::unauthorized(error.to_string()))
                }
            }
        })
    }
}
