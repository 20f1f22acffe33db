//! What is found of previews that answer well, wrongly, late and with malice.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use insta::assert_snapshot;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};

use super::*;
use crate::render::{Check, ProjectFile};

/// A preview that gives these answers, one after the other, and then the last one again and again; an empty one hangs.
async fn preview(answers: &[&str]) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answers: Vec<String> =
        answers.iter().map(|answer| answer.replace("PORT", &port.to_string())).collect();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let number = count.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
            let answer = answers[number].clone();
            tokio::spawn(async move {
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).await;
                if answer.is_empty() {
                    std::future::pending::<()>().await;
                }
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    (format!("http://web-42-mr-7.preview.localhost:{port}"), asked)
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

fn leads(to: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

fn check(written: &str) -> HttpCheck {
    let file = format!("version: 1\nengine: static\nstatic: {{job: a}}\nchecks: [{{{written}}}]\n");
    match ProjectFile::parse(&file).unwrap().checks.remove(0) {
        Check::Http(check) => check,
        other @ Check::Job(_) => panic!("{other:?}"),
    }
}

async fn ask(link: &str, written: &str) -> Result<String, String> {
    static ASKER: LazyLock<Asker> = LazyLock::new(|| Asker::new(&Roots::default()).unwrap());
    let secrets = Redaction::new([String::from("hush-hush")]);
    ASKER.ask(link, &check(written), &secrets).await
}

/// What is found where the preview gives these answers.
async fn found(answers: &[&str], written: &str) -> String {
    let (link, _) = preview(answers).await;
    ask(&link, written)
        .await
        .unwrap_or_else(|why| format!("failed: {why}"))
        .replace(link.rsplit(':').next().unwrap(), "PORT")
}

#[tokio::test]
async fn an_answer_is_told_in_words() {
    let cases = [
        (answer("200 OK", "fine"), "http: /"),
        (answer("200 OK", "all is fine"), "http: /, body: fine"),
        (answer("404 Not Found", ""), "http: /missing, status: 404"),
        (answer("299 Odd", ""), "http: /, status: 299"),
        (answer("500 Internal Server Error", "password: hush-hush\n"), "http: /"),
        (answer("503 Service Unavailable", "\n"), "http: /, timeout: 5s"),
        (answer("200 OK", "`` @all\n/close\n<script>"), "http: /, body: '^ok$'"),
        (answer("200 OK", &"long ".repeat(100)), "http: /, body: short"),
        (answer("200 OK", &("x".repeat(1 << 20) + "late")), "http: /, body: late"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfour".to_owned(), "http: /, body: a, timeout: 5s"),
        (leads("/login"), "http: /, status: 302"),
        (leads("https://evil.example/`x`"), "http: /"),
        (leads("http://user@web-42-mr-7.preview.localhost:PORT/"), "http: /"),
        (leads("/again"), "http: /"),
        (String::new(), "http: /, timeout: 1s"),
        ("SMTP ready\r\n\r\n".to_owned(), "http: /, timeout: 5s"),
    ];
    let told = futures::future::join_all(
        cases.iter().map(async |(answer, written)| found(&[answer], written).await),
    )
    .await;
    assert_snapshot!(told.join("\n"));
}

#[tokio::test]
async fn a_redirect_within_the_preview_is_followed() {
    let page = answer("200 OK", "welcome");
    assert_eq!(
        found(&[&leads("/welcome"), &page], "http: /, body: welcome").await,
        "it answered with 200 OK, and its body matches"
    );
    let itself = leads("http://web-42-mr-7.preview.localhost:PORT/welcome");
    assert_eq!(found(&[&itself, &page], "http: /").await, "it answered with 200 OK");
}

#[tokio::test]
async fn what_passes_is_asked_again() {
    for first in ["404 Not Found", "502 Bad Gateway", "503 Service Unavailable"] {
        let (link, asked) = preview(&[&answer(first, ""), &answer("200 OK", "")]).await;
        assert_eq!(ask(&link, "http: /").await.as_deref(), Ok("it answered with 200 OK"), "{first}");
        assert_eq!(asked.load(Ordering::SeqCst), 2, "{first}");
    }
}

#[tokio::test]
async fn nobody_there_is_told_at_the_end_of_the_time() {
    // Held, so that nobody else listens there, and not listened on.
    let held = TcpSocket::new_v4().unwrap();
    held.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let port = held.local_addr().unwrap().port();
    let refused = ask(&format!("http://localhost:{port}"), "http: /, timeout: 5s").await;
    assert_eq!(refused.unwrap_err(), "the connection was refused, for 5s");
}

#[tokio::test]
async fn a_path_names_no_other_host() {
    let (link, asked) = preview(&[&answer("200 OK", "")]).await;
    for path in ["//evil.example/x", "/\\\\evil.example", "/@evil.example:80/"] {
        ask(&link, &format!("http: '{path}'")).await.unwrap();
    }
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

#[test]
fn a_preview_ends_where_its_host_and_port_do() {
    let within = |from: &str, to: &str| is_within(&from.parse().unwrap(), &to.parse().unwrap());
    for (from, to, is) in [
        ("http://a.example", "http://a.example:80/x", true),
        ("http://a.example", "https://a.example/x", true),
        ("https://a.example", "http://a.example/x", false),
        ("http://a.example:8080", "https://a.example:8443/", false),
        ("http://a.example", "http://a.example:9200/", false),
        ("http://a.example", "ftp://a.example:80/", false),
        ("http://a.example", "http://b.example/", false),
    ] {
        assert_eq!(within(from, to), is, "{from} → {to}");
    }
}
