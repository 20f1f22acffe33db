//! One address, two worlds: previews at their own hosts, the server at all others.

use http::header::CONTENT_TYPE;

use super::alone;
use crate::support::{
    courier::Delivery,
    raw,
    world::{World, page},
};

/// Paths at which the server itself has something to say.
const OURS: [&str; 5] = ["/livez", "/readyz", "/metrics", "/api/v1/previews", "/webhooks/gitlab"];

/// A merge request whose page also has files at those paths.
async fn cunning(world: &World) -> u64 {
    let mr = world.gitlab.open_mr("feature", "Cunning").await;
    let pipeline = world.gitlab.start_pipeline(mr).await;
    let files: Vec<_> = OURS.iter().map(|path| (format!("dist{path}"), "the page's own")).collect();
    let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
    let index = page("cunning");
    let files = [&files[..], &[("dist/index.html", &*index)]].concat();
    world.gitlab.succeed_job(pipeline.job, &files).await;
    world.becomes(mr, "ready").await;
    mr
}

#[tokio::test]
async fn a_previews_host_answers_with_its_own_files_and_nothing_else() {
    let world = World::start().await;
    cunning(&world).await;
    for host in [
        "web-42-mr-1.preview.localhost",
        "web-42-mr-1.preview.localhost:8080",
        "WEB-42-MR-1.Preview.LocalHost",
        "web-42-mr-1.preview.localhost.",
        "web-42-mr-1.preview.localhost.:80",
    ] {
        for path in OURS {
            let answer = world.greenroom.gateway(host, path).await;
            assert_eq!(answer.status(), 200, "{host}{path}");
            assert_eq!(answer.text().await.unwrap(), "the page's own", "{host}{path}");
        }
    }
    world.ends_well().await;
}

#[tokio::test]
async fn the_rest_of_the_preview_domain_is_nobodys() {
    let greenroom = alone(&[]).await;
    for host in [
        "preview.localhost",
        "PREVIEW.localhost:8080",
        "preview.localhost.",
        "web-42-mr-9.preview.localhost",
        "a.b.preview.localhost",
        "-.preview.localhost",
        ".preview.localhost",
    ] {
        for path in OURS {
            let answer = greenroom.gateway(host, path).await;
            assert_eq!(answer.status(), 404, "{host}{path}");
            let text = answer.text().await.unwrap();
            assert!(text.contains("There is no preview here"), "{host}{path}: {text}");
        }
    }
}

#[tokio::test]
async fn a_previews_host_takes_no_webhooks() {
    let world = World::start().await;
    let mr = cunning(&world).await;
    world.rests().await;
    let before = world.wire.calls().len();
    for host in ["web-42-mr-1.preview.localhost", "preview.localhost", "WEB-42-mr-2.PREVIEW.localhost.:1"] {
        assert_eq!(Delivery::about(mr).under_host(host).deliver(&world.greenroom).await, 405, "{host}");
    }
    world.rests().await;
    assert_eq!(world.wire.calls().len(), before, "nobody was looked at");
    world.ends_well().await;
}

#[tokio::test]
async fn the_servers_own_host_shows_no_preview() {
    let world = World::start().await;
    cunning(&world).await;
    for host in
        ["127.0.0.1", "localhost", "greenroom.example.com", "evilpreview.localhost", "preview.localhost.com"]
    {
        for path in ["/", "/index.html", "/web-42-mr-1/", "/?host=web-42-mr-1.preview.localhost"] {
            let answer = world.greenroom.gateway(host, path).await;
            assert_eq!(answer.status(), 404, "{host}{path}");
            assert_eq!(answer.headers()[CONTENT_TYPE], "application/problem+json", "{host}{path}");
        }
        let answer = world.greenroom.gateway(host, "/livez").await;
        assert_eq!(answer.text().await.unwrap(), "ok\n", "{host}");
    }
    world.ends_well().await;
}

#[tokio::test]
async fn who_names_no_host_or_two_is_not_guessed_at() {
    let world = World::start().await;
    cunning(&world).await;
    let preview = "Host: web-42-mr-1.preview.localhost";
    let url = |path: &str| format!("GET http://web-42-mr-1.preview.localhost{path} HTTP/1.1");
    let say = async |lines: &[&str]| {
        let lines = [lines, &["Connection: close"]].concat();
        let answer = raw::say(&world.greenroom.url(), &lines).await;
        (answer.status, answer.body)
    };
    let own = (200, String::from("the page's own"));
    let health = (200, String::from("ok\n"));

    // A whole URL as a proxy sends it; its host is the one that counts, and any other beside it is refused.
    assert_eq!(say(&[&url("/livez"), preview]).await, own);
    assert_eq!(say(&[&url("/livez"), "Host: WEB-42-mr-1.preview.localhost"]).await, own);
    assert_eq!(say(&[&url("/livez"), "Host: localhost"]).await.0, 400);
    assert_eq!(say(&["GET http://localhost/livez HTTP/1.1", "Host: localhost"]).await, health);
    assert_eq!(say(&["GET http://localhost/livez HTTP/1.1", preview]).await.0, 400);
    assert_eq!(say(&["GET http://evil.example.com/metrics HTTP/1.1", "Host: localhost"]).await.0, 400);

    // Two hosts, also when both are the same.
    assert_eq!(say(&["GET /livez HTTP/1.1", preview, "Host: localhost"]).await.0, 400);
    assert_eq!(say(&["GET /livez HTTP/1.1", "Host: localhost", preview]).await.0, 400);
    assert_eq!(say(&["GET /livez HTTP/1.1", "Host: localhost", "Host: localhost"]).await.0, 400);

    // None: HTTP/1.1 must have one. An old health check has none, and is no operator.
    assert_eq!(say(&["GET /livez HTTP/1.1"]).await.0, 400);
    assert_eq!(say(&["GET /livez HTTP/1.0"]).await, health);
    assert_eq!(say(&["GET /metrics HTTP/1.0"]).await.0, 401);
    // What Nginx sends on that was told nothing but where to.
    assert_eq!(say(&["GET /metrics HTTP/1.0", "Host: localhost"]).await.0, 401);
    assert_eq!(say(&["GET /metrics HTTP/1.1", "Host: localhost"]).await.0, 200);
    assert_eq!(say(&["GET / HTTP/1.0"]).await.0, 404);
    assert_eq!(say(&["GET /livez HTTP/1.0", preview]).await, own);

    // What can be no host.
    assert_eq!(say(&["GET /livez HTTP/1.1", "Host: web-42-mr-1.preview.localhost@localhost"]).await.0, 400);
    assert_eq!(say(&["GET /livez HTTP/1.1", "Host: lócalhost"]).await.0, 400);
    world.ends_well().await;
}
