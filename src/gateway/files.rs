//! A file of a release as an HTTP response.
//!
//! `actix_files::NamedFile` would do most of this, but makes the entity tag from inode and time: every file would
//! change with every release. Ours is the hash of the content, known since the file was unpacked, so that after a push
//! a browser fetches only what really changed. Each encoding is a file of its own and thus has its own tag.
//!
//! Nothing is compressed on the way: `app.js.br` and `app.js.gz` beside `app.js` are used where the client accepts
//! them, and ranges are ranges of the encoding that is sent, as RFC 9110 has it.

use std::io::{self, SeekFrom};

use actix_files::HttpRange;
use actix_web::body::{None as NoBody, SizedStream};
use actix_web::http::header::{
    self, AcceptEncoding, Encoding, EntityTag, Header, IfMatch, IfNoneMatch, IfRange,
};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use bytes::Bytes;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use crate::engine::static_site::{Recorded, Site};

/// The encodings that may lie beside a file, the smaller one first.
const ENCODINGS: [(&str, &str); 2] = [("br", "br"), ("gz", "gzip")];

/// How much of a file is read at once.
const CHUNK: usize = 64 << 10;

/// What of a file is sent.
enum Part {
    All,
    Range { start: u64, length: u64 },
    Unsatisfiable,
}

/// Answers with the file at `path` of `site`, which must have it. Conditions and ranges are looked at when `status` is
/// 200.
pub(super) async fn respond(
    request: &HttpRequest,
    site: &Site,
    path: &str,
    status: StatusCode,
    vary_by_accept: bool,
) -> io::Result<HttpResponse> {
    let Representation { path: stored, file, encoding, varies } = represent(request, site, path)?;
    let mut response = HttpResponse::build(status);
    response.insert_header((header::CACHE_CONTROL, "no-cache"));
    for (_, name) in [(vary_by_accept, "Accept"), (varies, "Accept-Encoding")].iter().filter(|(it, _)| *it) {
        response.append_header((header::VARY, *name));
    }

    let mut part = Part::All;
    if status == StatusCode::OK {
        let tag = EntityTag::new_strong(file.sha256.chars().take(32).collect());
        response.insert_header((header::ETAG, tag.to_string()));
        response.insert_header((header::ACCEPT_RANGES, "bytes"));
        if !may_match(request, &tag) {
            return Ok(response.status(StatusCode::PRECONDITION_FAILED).finish());
        }
        if is_known(request, &tag) {
            return Ok(response.status(StatusCode::NOT_MODIFIED).body(NoBody::new()));
        }
        part = wanted(request, &tag, file.size);
    }
    let (start, length) = match part {
        Part::All => (0, file.size),
        Part::Range { start, length } => {
            let last = start + length - 1;
            response.status(StatusCode::PARTIAL_CONTENT);
            response.insert_header((header::CONTENT_RANGE, format!("bytes {start}-{last}/{}", file.size)));
            (start, length)
        }
        Part::Unsatisfiable => {
            response.insert_header((header::CONTENT_RANGE, format!("bytes */{}", file.size)));
            return Ok(response.status(StatusCode::RANGE_NOT_SATISFIABLE).finish());
        }
    };
    response.insert_header((header::CONTENT_TYPE, content_type(path)));
    if let Some(encoding) = encoding {
        response.insert_header((header::CONTENT_ENCODING, encoding));
    }
    if request.method() == Method::HEAD {
        return Ok(without_body(&mut response, length));
    }
    let mut content = File::open(site.root().join(&stored)).await?;
    if content.metadata().await?.len() != file.size {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("`{stored}` has another size than recorded"),
        ));
    }
    content.seek(SeekFrom::Start(start)).await?;
    let stream = ReaderStream::with_capacity(content.take(length), CHUNK);
    Ok(response.body(SizedStream::new(length, stream)))
}

/// The answer to a `HEAD` request whose `GET` would have a body of `length` bytes.
///
/// actix leaves out the body of such an answer itself, unless the next request was read before it was written. An empty
/// stream makes it end the connection then, where a real one would be taken for the next answer.
pub(super) fn without_body(response: &mut HttpResponseBuilder, length: u64) -> HttpResponse {
    response.body(SizedStream::new(length, futures::stream::empty::<io::Result<Bytes>>()))
}

/// A file in the encoding that is sent.
struct Representation<'a> {
    path: String,
    file: &'a Recorded,
    encoding: Option<&'static str>,
    /// Whether another client may get another encoding.
    varies: bool,
}

fn represent<'a>(request: &HttpRequest, site: &'a Site, path: &str) -> io::Result<Representation<'a>> {
    let mut varies = false;
    for (extension, encoding) in ENCODINGS {
        let packed = format!("{path}.{extension}");
        if let Some(file) = site.file(&packed) {
            varies = true;
            if accepts(request, encoding) {
                return Ok(Representation { path: packed, file, encoding: Some(encoding), varies });
            }
        }
    }
    let file = site.file(path).ok_or(io::ErrorKind::NotFound)?;
    Ok(Representation { path: path.to_owned(), file, encoding: None, varies })
}

/// Whether the client would rather have `encoding` than none.
fn accepts(request: &HttpRequest, encoding: &'static str) -> bool {
    let (Ok(accepted), Ok(encoding)) = (AcceptEncoding::parse(request), encoding.parse::<Encoding>()) else {
        return false;
    };
    accepted.negotiate([encoding.clone(), Encoding::identity()].iter()) == Some(encoding)
}

/// `If-Match`.
fn may_match(request: &HttpRequest, tag: &EntityTag) -> bool {
    match request.headers().contains_key(header::IF_MATCH).then(|| IfMatch::parse(request)) {
        Some(Ok(IfMatch::Items(tags))) => tags.iter().any(|other| other.strong_eq(tag)),
        Some(Ok(IfMatch::Any)) | None => true,
        Some(Err(_)) => false,
    }
}

/// `If-None-Match`: whether the client has this very content.
fn is_known(request: &HttpRequest, tag: &EntityTag) -> bool {
    match request.headers().contains_key(header::IF_NONE_MATCH).then(|| IfNoneMatch::parse(request)) {
        Some(Ok(IfNoneMatch::Items(tags))) => tags.iter().any(|other| other.weak_eq(tag)),
        Some(Ok(IfNoneMatch::Any)) => true,
        Some(Err(_)) | None => false,
    }
}

/// `Range` and `If-Range`. Several ranges at once, and one of an empty file, are answered with all of the file, which RFC 9110
/// (14.2) allows.
fn wanted(request: &HttpRequest, tag: &EntityTag, size: u64) -> Part {
    let range = request.headers().get(header::RANGE).and_then(|value| value.to_str().ok());
    let Some(range) = range.filter(|_| request.method() == Method::GET) else {
        return Part::All;
    };
    let bytes = range.split_once('=').is_some_and(|(unit, _)| unit.trim().eq_ignore_ascii_case("bytes"));
    if !bytes {
        return Part::All;
    }
    let same = match request.headers().contains_key(header::IF_RANGE).then(|| IfRange::parse(request)) {
        None => true,
        Some(Ok(IfRange::EntityTag(other))) => other.strong_eq(tag),
        Some(_) => false,
    };
    if !same {
        return Part::All;
    }
    match HttpRange::parse(range, size).as_deref() {
        Ok([one]) if one.length > 0 => Part::Range { start: one.start, length: one.length },
        Ok(_) => Part::All,
        Err(_) => Part::Unsatisfiable,
    }
}

/// The type by the name's ending; text is UTF-8, as every build tool writes it.
fn content_type(path: &str) -> String {
    let guess = mime_guess::from_path(path).first_or_octet_stream();
    let essence = guess.essence_str();
    let text = essence.starts_with("text/")
        || matches!(essence, "application/javascript" | "application/xml" | "image/svg+xml");
    if text { format!("{essence}; charset=utf-8") } else { essence.to_owned() }
}
