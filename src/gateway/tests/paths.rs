//! Which path leads where, and that none leads out.

use proptest::prelude::*;

use super::super::route::decode;
use super::*;

#[actix_web::test]
async fn the_host_header_alone_says_which_preview_is_meant() {
    let bench = Bench::serving(&[("index.html", "web")], false).await;
    bench.deploy("docs-43-mr-1", &[("index.html", "docs"), ("only.html", "docs")], false).await;
    let forged = || {
        TestRequest::get()
            .insert_header(("x-forwarded-host", "docs-43-mr-1.preview.test"))
            .insert_header(("forwarded", "host=docs-43-mr-1.preview.test"))
    };
    assert_eq!(bench.ask(forged()).await.body, "web");
    assert_eq!(bench.ask(forged().uri("/only.html")).await.status, 404);
    assert_eq!(bench.ask_host("DOCS-43-mr-1.Preview.test.:8080", TestRequest::get()).await.body, "docs");

    let twice = forged()
        .append_header((header::HOST, HOST))
        .append_header((header::HOST, "docs-43-mr-1.preview.test"));
    let twice = twice.to_http_request();
    assert!(!bench.gateway.owns_request(twice.head()));
    assert_eq!(bench.gateway.answer(&twice).await.status(), 404);
    assert!(bench.gateway.owns("preview.test") && !bench.gateway.owns("test"));
}

#[actix_web::test]
async fn folders_have_an_index_and_a_slash() {
    let files =
        [("index.html", "top"), ("docs/index.html", "docs"), ("about.html", "about"), ("a b/é.txt", "é")];
    let bench = Bench::serving(&files, false).await;
    for (path, status, location, body) in [
        ("/", 200, None, "top"),
        ("/index.html?x", 200, None, "top"),
        ("/docs", 307, Some("./docs/"), ""),
        ("/docs?a=1", 307, Some("./docs/?a=1"), ""),
        ("/d%6fcs", 307, Some("./d%6fcs/"), ""),
        ("/docs/", 200, None, "docs"),
        ("/about", 200, None, "about"),
        ("/a%20b/%C3%A9.txt", 200, None, "é"),
    ] {
        let answer = bench.get(path).await;
        assert_eq!(
            (answer.status, answer.header("location"), answer.body.as_str()),
            (status, location, body),
            "{path}"
        );
    }
    for path in
        ["//docs", "/docs%2f", "/.", "/docs/..", "/%2e%2e/x", "/a%5cb", "/%00", "/%ff", "/about/", "/docs//"]
    {
        let answer = bench.get(path).await;
        assert!(matches!(answer.status, 400 | 404), "{path}: {}", answer.status);
        assert_eq!(answer.header("location"), None);
    }
}

#[actix_web::test]
async fn no_redirect_leads_off_the_site() {
    let bench = Bench::serving(
        &[("index.html", "top"), ("evil.com/index.html", "x"), ("javascript:x/index.html", "x")],
        false,
    )
    .await;
    let base = url::Url::parse(&format!("http://{HOST}/")).unwrap();
    for path in [
        "//evil.com",
        "///evil.com",
        "//evil.com/..",
        "/evil.com",
        "/javascript:x",
        "/%2fevil.com",
        "/\\evil.com",
    ] {
        let Ok(uri) = path.parse::<actix_web::http::Uri>() else { continue };
        let answer = bench.ask(TestRequest::get().uri(&uri.to_string())).await;
        if let Some(location) = answer.header("location") {
            assert!(location.starts_with("./"), "{path} → {location}");
            assert_eq!(base.join(location).unwrap().host_str(), Some(HOST));
        }
    }
}

#[actix_web::test]
async fn an_application_gets_its_own_addresses_but_no_page_for_a_script() {
    let bench = Bench::serving(&[("index.html", "app"), ("app.1.js", "js")], true).await;
    for (path, accept, status, body, vary) in [
        ("/users/7", "*/*", 200, "app", None),
        ("/users/7/", "*/*", 200, "app", None),
        ("/app.1.js", "*/*", 200, "js", None),
        ("/app.2.js", "text/html", 404, "", None),
        ("/style.css", "*/*", 404, "", None),
        ("/old.html", "*/*", 200, "app", None),
        ("/users/john.doe", "text/html,*/*;q=0.8", 200, "app", Some("Accept")),
        ("/chunk.1a2b3c", "*/*", 404, "", Some("Accept")),
        ("/..", "text/html", 400, "", None),
    ] {
        let answer = bench.ask(TestRequest::get().uri(path).insert_header(("accept", accept))).await;
        let body = if body.is_empty() { answer.body.clone() } else { body.to_owned() };
        assert_eq!((answer.status, &answer.body, answer.header("vary")), (status, &body, vary), "{path}");
    }
}

proptest! {
    #[test]
    fn a_decoded_path_stays_below_the_root(path in "(/|[a-z.%\\\\]|%2[eEfF]|%5[cC]|%00|%25|\\.\\.|é){0,24}") {
        if let Some(key) = decode(&path) {
            let names = key.split('/').all(|part| part != ".." && part != "." && !part.contains(['\\', '\0']));
            prop_assert!(names, "{path} → {key}");
        }
    }
}

/// Arbitrary paths against real files, with secrets beside them: only what was deployed ever comes back.
#[test]
fn no_path_leads_out_of_the_release() {
    let system = actix_web::rt::System::new();
    let bench = system.block_on(Bench::serving(&[("index.html", "mine"), ("a/b.txt", "mine")], false));
    system.block_on(bench.deploy(
        "docs-43-mr-1",
        &[("index.html", "theirs"), ("secret.txt", "theirs")],
        false,
    ));
    std::fs::write(bench.folder.path().join("secret.txt"), "theirs").unwrap();
    let piece = prop_oneof![
        Just("/"),
        Just(".."),
        Just("."),
        Just("%2e%2e"),
        Just("%2E."),
        Just("%2f"),
        Just("%5c"),
        Just("//"),
        Just("a"),
        Just("b.txt"),
        Just("secret.txt"),
        Just("manifest.json"),
        Just("files"),
        Just("releases"),
        Just("%252e%252e"),
        Just("index.html"),
        Just("%00"),
        Just("..;"),
        Just("~"),
    ];
    let paths = proptest::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()));
    proptest!(|(path in paths)| {
        let answer = system.block_on(bench.get(&path));
        prop_assert!(!answer.body.contains("theirs"), "{} → {}", path, answer.body);
        prop_assert!(!answer.body.contains("sha256"), "{} → {}", path, answer.body);
        prop_assert_eq!(answer.status == 200, answer.body == "mine");
    });
}
