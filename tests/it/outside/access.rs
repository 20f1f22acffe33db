//! Who may ask the API and the metrics.

use http::header::CONTENT_TYPE;
use insta::assert_snapshot;

use super::alone;
use crate::support::{greenroom::Greenroom, raw};

/// Status of a GET with these headers.
async fn status(greenroom: &Greenroom, path: &str, headers: &[(&str, &str)]) -> u16 {
    status_of(greenroom, "GET", path, headers).await
}

async fn status_of(greenroom: &Greenroom, method: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
    let address = greenroom.url();
    let host = format!("Host: {}", address.authority());
    let own_host = headers.iter().any(|(name, _)| *name == "Host");
    let mut lines = vec![format!("{method} {path} HTTP/1.1"), String::from("Connection: close")];
    lines.extend((!own_host).then_some(host));
    lines.extend(headers.iter().map(|(name, value)| format!("{name}: {value}")));
    raw::say(&address, &lines.iter().map(String::as_str).collect::<Vec<_>>()).await.status
}

#[tokio::test]
async fn without_a_token_only_this_machine_is_answered_and_only_directly() {
    let greenroom = alone(&[]).await;
    for path in
        ["/api/v1/previews", "/api/v1/previews/42/1", "/api/v1/deliveries/1", "/api/v1/health", "/metrics"]
    {
        let found = if path.ends_with("/1") { 404 } else { 200 };
        for (headers, expected) in [
            (&[][..], found),
            (&[("Host", "localhost")], found),
            (&[("Host", "LOCALHOST:1")], found),
            (&[("Host", "[::1]:8080")], found),
            (&[("Host", "greenroom.example.com")], 401),
            (&[("Host", "localhost.example.com")], 401),
            (&[("Host", "127.0.0.1.example.com")], 401),
            (&[("Host", "192.0.2.1")], 401),
            (&[("Host", "")], 401),
            (&[("X-Forwarded-For", "192.0.2.1")], 401),
            (&[("X-Forwarded-Proto", "https")], 401),
            (&[("X-FORWARDED-HOST", "localhost")], 401),
            (&[("Forwarded", "for=192.0.2.1")], 401),
            (&[("Authorization", "Bearer anything")], found),
        ] {
            assert_eq!(status(&greenroom, path, headers).await, expected, "{path} {headers:?}");
        }
    }
}

#[tokio::test]
async fn a_change_is_asked_for_by_who_may_and_by_no_page_of_another_site() {
    let open = alone(&[]).await;
    let own = open.url().as_str().trim_end_matches('/').to_owned();
    for intent in ["stop", "refresh"] {
        let path = format!("/api/v1/previews/42/1/{intent}");
        for (headers, expected) in [
            (&[][..], 404),
            (&[("Origin", &*own)], 404),
            (&[("Host", "greenroom.example.com")], 401),
            (&[("X-Forwarded-For", "192.0.2.1")], 401),
            (&[("Origin", "https://evil.example.com")], 403),
            (&[("Origin", "http://web-42-mr-1.preview.localhost")], 403),
            (&[("Sec-Fetch-Site", "cross-site")], 403),
        ] {
            assert_eq!(status_of(&open, "POST", &path, headers).await, expected, "{path} {headers:?}");
        }
    }
    let closed = alone(&[("GREENROOM_API_TOKEN", "hush")]).await;
    for (headers, expected) in [(&[][..], 401), (&[("Authorization", "Bearer hush")], 404)] {
        let path = "/api/v1/previews/42/1/stop";
        assert_eq!(status_of(&closed, "POST", path, headers).await, expected, "{headers:?}");
    }
}

#[tokio::test]
async fn with_a_token_nothing_else_counts() {
    let greenroom = alone(&[("GREENROOM_API_TOKEN", "hush")]).await;
    for path in ["/api/v1/previews", "/api/v1/previews/42/1", "/api/v1/health", "/metrics"] {
        let found = if path.ends_with("/1") { 404 } else { 200 };
        for (headers, expected) in [
            (&[][..], 401),
            (&[("Host", "localhost")], 401),
            (&[("Authorization", "Bearer hus")], 401),
            (&[("Authorization", "Bearer hush hush")], 401),
            (&[("Authorization", "Basic hush")], 401),
            (&[("Authorization", "Bearer hush")], found),
            (&[("Authorization", "bearer hush"), ("X-Forwarded-For", "192.0.2.1")], found),
            (&[("Authorization", "Bearer hush"), ("Host", "greenroom.example.com")], found),
        ] {
            assert_eq!(status(&greenroom, path, headers).await, expected, "{path} {headers:?}");
        }
    }
}

#[tokio::test]
async fn health_is_told_to_everybody() {
    for token in ["", "hush"] {
        let greenroom = alone(&[("GREENROOM_API_TOKEN", token)]).await;
        for path in ["/livez", "/readyz"] {
            for headers in [&[][..], &[("Host", "10.0.0.1")], &[("X-Forwarded-For", "192.0.2.1")]] {
                assert_eq!(status(&greenroom, path, headers).await, 200, "{path} {headers:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_refusal_says_what_to_do_and_not_what_is_there() {
    let greenroom = alone(&[("GREENROOM_API_TOKEN", "hush")]).await;
    let refused = greenroom.get("/api/v1/previews/42/1").await;
    assert_eq!(refused.headers()["www-authenticate"], "Bearer");
    assert_eq!(refused.headers()[CONTENT_TYPE], "application/problem+json");
    assert_snapshot!(refused.text().await.unwrap(), @r#"{"type":"about:blank","title":"Not authorized","status":401,"detail":"send the API token as `Authorization: Bearer …`"}"#);
}
