//! Host name → preview: every host below the preview domain is answered here, and no other.
//!
//! Needs: to be mounted outside of any compression middleware, which would spoil ranges and entity tags.
//!
//! Properties:
//! * The `Host` header alone says which preview is meant; no header that a client or proxy adds can change it.
//! * What is served needs neither the store nor a look at the disk to be found. Only a host without a site is looked up
//!   in the store, so that its page can say why.
//! * A request reaches files of its own preview's release only: paths are looked up in the list of what was unpacked.
//! * Every answer bears `X-Robots-Tag: noindex` and `X-Content-Type-Options: nosniff`, and is asked for again every
//!   time: an address stays while its content changes. No cookies are set.
//!
//! What it cannot do: keep sites below one domain from setting cookies for each other. That is the browser's to do,
//! which needs the domain to be on the public suffix list, or at least to hold nothing but previews.

mod files;
mod host;
mod pages;
mod route;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use actix_web::dev::RequestHead;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::http::uri::Authority;
use actix_web::http::{Method, StatusCode, Version};
use actix_web::{HttpRequest, HttpResponse, web};

use crate::engine::static_site::{Site, StaticSite};
use crate::preview::PreviewName;
use crate::store::Store;
use host::{Domain, Place};
use pages::{Page, Pages};
use route::{Route, route};

/// Answers for the preview domain.
#[derive(Debug)]
pub struct Gateway {
    domain: Domain,
    sites: Arc<StaticSite>,
    store: Store,
    pages: Pages,
}

/// Answers a request for a host that the gateway [owns](Gateway::owns). Wants the gateway as application data.
pub async fn handle(request: HttpRequest, gateway: web::Data<Gateway>) -> HttpResponse {
    gateway.answer(&request).await
}

impl Gateway {
    /// A gateway for the hosts of `domain`. What has no site is explained by `store`.
    pub fn new(domain: &str, sites: Arc<StaticSite>, store: Store) -> Self {
        Self { domain: Domain::new(domain), sites, store, pages: Pages::new() }
    }

    /// Whether `host`, as in a `Host` header, is the preview domain or lies below it.
    pub fn owns(&self, host: &str) -> bool {
        self.domain.place(host).is_some()
    }

    /// Whether a request is ours to answer; for a guard.
    pub fn owns_request(&self, head: &RequestHead) -> bool {
        host_of(head).is_some_and(|host| self.owns(host))
    }

    /// Answers a request.
    pub async fn answer(&self, request: &HttpRequest) -> HttpResponse {
        let mut response = self.find(request).await;
        let headers = response.headers_mut();
        headers.insert(HeaderName::from_static("x-robots-tag"), HeaderValue::from_static("noindex"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }

    async fn find(&self, request: &HttpRequest) -> HttpResponse {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return self.page(request, &Page::Method);
        }
        match host_of(request.head()).and_then(|host| self.domain.place(host)) {
            Some(Place::Preview(name)) => match self.sites.site(&name) {
                Some(site) => self.serve(request, &site).await,
                None => self.explain(request, &name).await,
            },
            Some(Place::Nobody) | None => self.page(request, &Page::Unknown),
        }
    }

    /// Answers with what a site has at the request's path.
    async fn serve(&self, request: &HttpRequest, site: &Site) -> HttpResponse {
        let path = request.uri().path();
        let (file, status, by_accept) = match route(site, path, || wants_page(request)) {
            Route::File(file) => (file, StatusCode::OK, false),
            Route::Application { by_accept } => ("index.html".to_owned(), StatusCode::OK, by_accept),
            Route::Missing { by_accept } => ("404.html".to_owned(), StatusCode::NOT_FOUND, by_accept),
            Route::Folder(address) => return redirect(&address, request.uri().query()),
            Route::Malformed => return self.page(request, &Page::Malformed),
        };
        if status == StatusCode::NOT_FOUND && site.file(&file).is_none() {
            let mut response = self.page(request, &Page::Missing(path));
            if by_accept {
                response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
            }
            return response;
        }
        files::respond(request, site, &file, status, by_accept).await.unwrap_or_else(|error| {
            tracing::error!(%error, release = %site.root().display(), file, "a file cannot be served");
            self.page(request, &Page::Unreadable)
        })
    }

    /// Says why a preview has no site.
    async fn explain(&self, request: &HttpRequest, name: &PreviewName) -> HttpResponse {
        match self.store.preview_by_name(name).await {
            Ok(Some(preview)) => self.page(request, &Page::Absent(&preview)),
            Ok(None) => self.page(request, &Page::Unknown),
            Err(error) => {
                tracing::error!(%error, preview.name = %name, "a preview cannot be looked up");
                self.page(request, &Page::StoreDown)
            }
        }
    }

    fn page(&self, request: &HttpRequest, page: &Page<'_>) -> HttpResponse {
        self.pages.respond(page, request.method() == Method::HEAD)
    }
}

/// Whether a request says clearly which host it is for, as RFC 9112, section 3.2, asks: one `Host` that can be one, and
/// no other in the request target. HTTP/1.0 did without. Whoever answers may then go by `Host` alone.
pub fn names_its_host(head: &RequestHead) -> bool {
    let target = head.uri.authority().map(Authority::as_str);
    let mut hosts = head.headers().get_all(header::HOST);
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().is_ok_and(|host| {
            let plausible = host.is_empty() || (host.parse::<Authority>().is_ok() && !host.contains('@'));
            plausible && target.is_none_or(|target| target.eq_ignore_ascii_case(host))
        }),
        (None, _) => head.version != Version::HTTP_11,
        (Some(_), Some(_)) => false,
    }
}

/// The host a request names: its `Host` header, or what HTTP/2 has in its place. `None` when there are two.
fn host_of(head: &RequestHead) -> Option<&str> {
    let mut hosts = head.headers().get_all(header::HOST);
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().ok(),
        (None, _) => head.uri.authority().map(Authority::as_str),
        (Some(_), Some(_)) => None,
    }
}

/// Whether the client names pages among what it accepts, as a browser does when it goes to an address.
fn wants_page(request: &HttpRequest) -> bool {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.to_ascii_lowercase().contains("text/html"))
}

/// Sends the client to a relative address. Temporary: the next push may have a file where the folder is.
fn redirect(address: &str, query: Option<&str>) -> HttpResponse {
    let address = query.map_or_else(|| address.to_owned(), |query| format!("{address}?{query}"));
    HttpResponse::TemporaryRedirect()
        .insert_header((header::LOCATION, address))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .finish()
}
