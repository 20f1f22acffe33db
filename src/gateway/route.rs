//! Request path → file of a site. Pure: a look into the list of a release's files, never at the disk.
//!
//! In this order:
//! 1. the file itself;
//! 2. for a folder, its `index.html`; without a `/` at the end, a redirect to the address with one;
//! 3. `about.html` for `/about`, as site generators write them and GitLab Pages serves them;
//! 4. in a single-page application `index.html`, for what may be one of its own addresses: not for a missing script;
//! 5. the site's `404.html`, else our page.
//!
//! Files whose names start with a dot are served like any other: they are part of the artifact.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::engine::static_site::Site;

/// What answers a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    /// This file.
    File(String),
    /// The index page, for an address that the application itself knows. Whether the answer depends on what the client
    /// accepts.
    Application { by_accept: bool },
    /// A redirect to this relative address.
    Folder(String),
    /// Nothing. Whether the answer depends on what the client accepts.
    Missing { by_accept: bool },
    /// The path is none.
    Malformed,
}

/// Finds what answers the request for `path`, as it stands in the request line, without the query. `page` tells whether
/// the client asks for a page.
pub(super) fn route(site: &Site, path: &str, page: impl FnOnce() -> bool) -> Route {
    let Some(key) = decode(path) else {
        return Route::Malformed;
    };
    let has = |key: &str| site.file(key).is_some();
    let folder = key.is_empty() || key.ends_with('/');
    if !folder && has(&key) {
        return Route::File(key);
    }
    let index = if folder { format!("{key}index.html") } else { format!("{key}/index.html") };
    if has(&index) {
        return if folder { Route::File(index) } else { Route::Folder(with_slash(path)) };
    }
    let html = format!("{key}.html");
    if !folder && has(&html) {
        return Route::File(html);
    }
    if !site.spa() {
        return Route::Missing { by_accept: false };
    }
    match Asked::of(&key) {
        Asked::Page => Route::Application { by_accept: false },
        Asked::Asset => Route::Missing { by_accept: false },
        Asked::Either if page() => Route::Application { by_accept: true },
        Asked::Either => Route::Missing { by_accept: true },
    }
}

/// The path below a site's root: decoded once, part by part, so that an encoded slash is no slash. `None` when a part
/// could mean another folder, or is no text.
pub(super) fn decode(path: &str) -> Option<String> {
    let parts = path.strip_prefix('/')?.split('/').map(|part| {
        let part = percent_decode_str(part).decode_utf8().ok()?;
        let odd = part == "." || part == ".." || part.contains(['/', '\\', '\0']);
        (!odd).then_some(part)
    });
    parts.collect::<Option<Vec<Cow<'_, str>>>>().map(|parts| parts.join("/"))
}

/// The same address with a `/` at its end, relative to itself. The `./` keeps a part such as `javascript:x` from being
/// a scheme, and since only the last part is repeated, no other host can be named.
fn with_slash(path: &str) -> String {
    format!("./{}/", path.rsplit('/').next().unwrap_or_default())
}

/// What is likely asked for, by the look of the last part.
enum Asked {
    Page,
    Asset,
    Either,
}

impl Asked {
    fn of(key: &str) -> Self {
        let last = key.rsplit('/').next().unwrap_or_default();
        match last.rsplit_once('.') {
            None | Some(("", _) | (_, "html" | "htm")) => Self::Page,
            Some((_, extension)) if mime_guess::from_ext(extension).first().is_some() => Self::Asset,
            // `/users/john.doe` as well as `/chunk.1a2b3c`.
            Some(_) => Self::Either,
        }
    }
}
