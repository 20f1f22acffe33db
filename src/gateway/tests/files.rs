//! Files: types, tags, ranges, encodings.

use super::*;

#[actix_web::test]
async fn types_are_those_that_browsers_want() {
    let names = [
        ("index.html", "text/html; charset=utf-8"),
        ("a.css", "text/css; charset=utf-8"),
        ("a.js", "text/javascript; charset=utf-8"),
        ("a.mjs", "application/javascript; charset=utf-8"),
        ("a.json", "application/json"),
        ("a.svg", "image/svg+xml; charset=utf-8"),
        ("a.wasm", "application/wasm"),
        ("a.webmanifest", "application/manifest+json"),
        ("a.woff2", "font/woff2"),
        ("a.js.gz", "application/gzip"),
        (".well-known/security.txt", "text/plain; charset=utf-8"),
        (".gitkeep", "application/octet-stream"),
    ];
    let files: Vec<(&str, &str)> = names.iter().map(|(name, _)| (*name, *name)).collect();
    let bench = Bench::serving(&files, false).await;
    for (name, kind) in names {
        let answer = bench.get(&format!("/{name}")).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(kind)), "{name}");
        assert_eq!(answer.body, name);
        assert_eq!(answer.header("cache-control"), Some("no-cache"));
    }
}

#[actix_web::test]
async fn a_tag_is_that_of_the_content_whatever_the_release() {
    let bench = Bench::serving(&[("index.html", "one"), ("same.js", "same")], false).await;
    let tag = |answer: &Answer| answer.header("etag").unwrap().to_owned();
    let (index, same) = (tag(&bench.get("/").await), tag(&bench.get("/same.js").await));
    assert!(index.starts_with('"') && index != same);
    let known =
        bench.ask(TestRequest::get().uri("/same.js").insert_header(("if-none-match", same.clone()))).await;
    assert_eq!((known.status, known.body.as_str(), tag(&known)), (304, "", same.clone()));

    bench.deploy("web-42-mr-7", &[("index.html", "two"), ("same.js", "same")], false).await;
    assert_eq!(tag(&bench.get("/same.js").await), same);
    let changed =
        bench.ask(TestRequest::get().uri("/").insert_header(("if-none-match", index.clone()))).await;
    assert_eq!((changed.status, changed.body.as_str()), (200, "two"));
    for (sent, status) in [
        (format!("W/{same}"), 304),
        ("*".into(), 304),
        (format!("\"x\", {same}"), 304),
        ("\"x\"".into(), 200),
    ] {
        let request = TestRequest::get().uri("/same.js").insert_header(("if-none-match", sent.clone()));
        assert_eq!(bench.ask(request).await.status, status, "{sent}");
    }
    let stale = TestRequest::get().uri("/").insert_header(("if-match", index));
    assert_eq!(bench.ask(stale).await.status, 412);
}

#[actix_web::test]
async fn a_range_is_a_part_of_the_same_content() {
    let bench = Bench::serving(&[("index.html", "x"), ("video.mp4", "0123456789")], false).await;
    let tag = bench.get("/video.mp4").await.header("etag").unwrap().to_owned();
    for (range, condition, status, content_range, body) in [
        ("bytes=2-4", None, 206, Some("bytes 2-4/10"), "234"),
        ("bytes=7-", None, 206, Some("bytes 7-9/10"), "789"),
        ("bytes=-2", None, 206, Some("bytes 8-9/10"), "89"),
        ("bytes=0-99", None, 206, Some("bytes 0-9/10"), "0123456789"),
        ("bytes=10-", None, 416, Some("bytes */10"), ""),
        ("bytes=0-1,4-5", None, 200, None, "0123456789"),
        ("lines=0-1", None, 200, None, "0123456789"),
        ("bytes=2-4", Some(tag.as_str()), 206, Some("bytes 2-4/10"), "234"),
        ("bytes=2-4", Some("\"other\""), 200, None, "0123456789"),
        ("bytes=2-4", Some("Sat, 29 Oct 1994 19:43:31 GMT"), 200, None, "0123456789"),
    ] {
        let mut request = TestRequest::get().uri("/video.mp4").insert_header(("range", range));
        if let Some(condition) = condition {
            request = request.insert_header(("if-range", condition));
        }
        let answer = bench.ask(request).await;
        assert_eq!(
            (answer.status, answer.header("content-range"), answer.body.as_str()),
            (status, content_range, body),
            "{range} {condition:?}"
        );
    }
}

#[actix_web::test]
async fn a_packed_file_is_sent_to_those_who_accept_it() {
    let files = [("index.html", "x"), ("a.js", "plain"), ("a.js.br", "brotli"), ("a.js.gz", "gzip")];
    let bench = Bench::serving(&files, false).await;
    let mut tags = std::collections::BTreeSet::new();
    for (accept, encoding, body) in [
        (None, None, "plain"),
        (Some("gzip, deflate, br, zstd"), Some("br"), "brotli"),
        (Some("gzip"), Some("gzip"), "gzip"),
        (Some("gzip;q=0, identity"), None, "plain"),
        (Some("identity, br;q=0.1"), None, "plain"),
        (Some("br;q=0, gzip;q=0.5"), Some("gzip"), "gzip"),
    ] {
        let mut request = TestRequest::get().uri("/a.js");
        if let Some(accept) = accept {
            request = request.insert_header(("accept-encoding", accept));
        }
        let answer = bench.ask(request).await;
        assert_eq!((answer.header("content-encoding"), answer.body.as_str()), (encoding, body), "{accept:?}");
        assert_eq!(answer.header("vary"), Some("Accept-Encoding"));
        assert_eq!(answer.header("content-type"), Some("text/javascript; charset=utf-8"));
        tags.insert(answer.header("etag").unwrap().to_owned());
    }
    assert_eq!(tags.len(), 3);
    let part = TestRequest::get().uri("/a.js").insert_header(("accept-encoding", "br"));
    let part = bench.ask(part.insert_header(("range", "bytes=1-2"))).await;
    assert_eq!((part.header("content-encoding"), part.body.as_str()), (Some("br"), "ro"));
    let index = bench.ask(TestRequest::get().insert_header(("accept-encoding", "br"))).await;
    assert_eq!((index.header("vary"), index.header("content-encoding")), (None, None));
}

#[actix_web::test]
async fn a_head_request_gets_the_headers_of_the_file() {
    let bench = Bench::serving(&[("index.html", "hello")], false).await;
    let request = TestRequest::default().method(Method::HEAD).insert_header((header::HOST, HOST));
    let response = bench.gateway.answer(&request.to_http_request()).await;
    let size = actix_web::body::MessageBody::size(response.body());
    assert_eq!((response.status().as_u16(), size), (200, actix_web::body::BodySize::Sized(5)));
    let ranged =
        bench.ask(TestRequest::default().method(Method::HEAD).insert_header(("range", "bytes=0-1"))).await;
    assert_eq!((ranged.status, ranged.body.as_str()), (200, ""));
}

#[actix_web::test]
async fn an_empty_file_is_a_file() {
    let bench = Bench::serving(&[("index.html", "")], false).await;
    let answer = bench.get("/").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    let ranged = bench.ask(TestRequest::get().insert_header(("range", "bytes=0-0"))).await;
    assert_eq!((ranged.status, ranged.header("content-range")), (416, Some("bytes */0")));
    let tail = bench.ask(TestRequest::get().insert_header(("range", "bytes=-5"))).await;
    assert_eq!((tail.status, tail.header("content-range"), tail.body.as_str()), (200, None, ""));
}
