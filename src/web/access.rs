//! Who may use the API.
//!
//! A page in an operator's browser may not make it ask for anything: a change is refused when the browser says that
//! another site is behind it. (What such a page could read, browsers keep from it.)

use std::future::{Ready, ready};
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use actix_web::dev::Payload;
use actix_web::http::Version;
use actix_web::http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN};
use actix_web::{FromRequest, HttpRequest, web};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Api, Problem};

/// What page a browser's request comes from. `actix-web` has no name for it.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// The bearer token that is asked for, if any. It may be replaced while the server runs. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct ApiToken(Arc<RwLock<Option<SecretString>>>);

impl ApiToken {
    /// Asks for this token from the start.
    pub fn new(token: Option<SecretString>) -> Self {
        Self(Arc::new(RwLock::new(token)))
    }

    /// Asks for another token from now on.
    pub fn replace(&self, token: SecretString) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(token);
    }

    fn read(&self) -> RwLockReadGuard<'_, Option<SecretString>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A caller who may use the API.
pub(super) struct Operator;

impl FromRequest for Operator {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let Some(api) = request.app_data::<web::Data<Api>>() else { return ready(Err(Problem::internal())) };
        let allowed = match &*api.token.read() {
            Some(token) => has_token(request.headers(), token)
                .then_some(())
                .ok_or("send the API token as `Authorization: Bearer …`"),
            None => is_local(request.peer_addr().map(|peer| peer.ip()), request.version(), request.headers())
                .then_some(())
                .ok_or("without GREENROOM_API_TOKEN this answers on loopback only, and not through a proxy"),
        };
        let allowed = allowed.map(|()| Self).map_err(Problem::unauthorized);
        ready(allowed.and_then(|operator| {
            if request.method().is_safe() || is_own(request.headers()) {
                return Ok(operator);
            }
            Err(Problem::forbidden("a page of another site may not ask for this; use `greenroom` or curl"))
        }))
    }
}

/// Compares digests, so that neither content nor length of the token shows in the time it takes.
fn has_token(headers: &HeaderMap, token: &SecretString) -> bool {
    let given = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map_or("", |(_, given)| given.trim());
    Sha256::digest(given).ct_eq(&Sha256::digest(token.expose_secret())).into()
}

/// A peer on this machine that names this machine: a page from elsewhere in somebody's browser names another host, and
/// a proxy leaves its traces. Nginx that was told nothing else names us as the host and adds no header, but speaks HTTP/1.0.
fn is_local(peer: Option<IpAddr>, version: Version, headers: &HeaderMap) -> bool {
    let is_trace = |name: &str| {
        matches!(name, "forwarded" | "via" | "x-real-ip" | "x-client-ip") || name.starts_with("x-forwarded-")
    };
    let proxied = version == Version::HTTP_10 || headers.keys().any(|name| is_trace(name.as_str()));
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let host = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let address: Option<IpAddr> = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
    let local_host =
        host.eq_ignore_ascii_case("localhost") || address.is_some_and(|address| address.is_loopback());
    peer.is_some_and(|peer| peer.is_loopback()) && local_host && !proxied
}

/// Whether no browser is behind a request, or one that shows a page of this very server.
fn is_own(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or("?"));
    let own_origin = text(ORIGIN).is_none_or(|origin| {
        let host = origin.split_once("://").map(|(_, host)| host);
        host.is_some() && host == text(HOST)
    });
    own_origin && text(SEC_FETCH_SITE).is_none_or(|site| matches!(site, "same-origin" | "none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
        all.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn without_a_token_only_this_machine_may_ask_and_only_directly() {
        let here: Option<IpAddr> = Some([127, 0, 0, 1].into());
        for (peer, given, allowed) in [
            (here, vec![("host", "localhost:8080")], true),
            (here, vec![("host", "127.0.0.1")], true),
            (here, vec![("host", "[::1]:8080")], true),
            (here, vec![("host", "greenroom.example.com")], false),
            (here, vec![("host", "localhost.example.com")], false),
            (here, vec![], false),
            (here, vec![("host", "localhost"), ("x-forwarded-for", "10.0.0.1")], false),
            (here, vec![("host", "localhost"), ("forwarded", "for=10.0.0.1")], false),
            (here, vec![("host", "localhost"), ("x-real-ip", "10.0.0.1")], false),
            (here, vec![("host", "localhost"), ("via", "1.1 proxy")], false),
            (Some([10, 0, 0, 1].into()), vec![("host", "localhost")], false),
            (None, vec![("host", "localhost")], false),
        ] {
            let headers = headers(&given);
            assert_eq!(is_local(peer, Version::HTTP_11, &headers), allowed, "{peer:?} {given:?}");
            assert!(!is_local(peer, Version::HTTP_10, &headers), "as a proxy speaks: {given:?}");
        }
    }

    #[test]
    fn a_change_is_asked_for_by_no_page_of_another_site() {
        let host = ("host", "localhost:8080");
        for (given, own) in [
            (vec![host], true),
            (vec![host, ("origin", "http://localhost:8080"), ("sec-fetch-site", "same-origin")], true),
            (vec![host, ("sec-fetch-site", "none")], true),
            (vec![host, ("origin", "http://localhost:3000")], false),
            (vec![host, ("origin", "http://web-42-mr-7.preview.localhost:8080")], false),
            (vec![host, ("origin", "null")], false),
            (vec![host, ("sec-fetch-site", "same-site")], false),
            (vec![host, ("sec-fetch-site", "cross-site")], false),
        ] {
            assert_eq!(is_own(&headers(&given)), own, "{given:?}");
        }
    }

    #[test]
    fn a_token_is_asked_for_whole() {
        let token = SecretString::from("hush");
        for (given, allowed) in [
            ("Bearer hush", true),
            ("bearer hush", true),
            ("Bearer hus", false),
            ("Bearer hush2", false),
            ("Basic hush", false),
            ("hush", false),
            ("Bearer ", false),
        ] {
            assert_eq!(has_token(&headers(&[("authorization", given)]), &token), allowed, "{given}");
        }
        assert!(!has_token(&headers(&[]), &token));
    }
}
