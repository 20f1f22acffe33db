//! Mounted in a server and asked over a socket: what only shows there.

use actix_web::{App, HttpServer, guard};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

/// Sends a request down a connection and returns the head of the answer. What follows it is left to be read.
async fn ask(socket: &mut TcpStream, request: &str) -> String {
    socket.write_all(request.replace('\n', "\r\n").as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[actix_web::test]
async fn a_connection_is_of_use_after_a_head_and_other_hosts_are_not_ours() {
    let bench = Bench::serving(&[("index.html", "hello")], false).await;
    let Bench { gateway, folder } = bench;
    let gateway = web::Data::new(gateway);
    let server = HttpServer::new(move || {
        let owner = gateway.clone();
        let ours = guard::fn_guard(move |context| owner.owns_request(context.head()));
        App::new()
            .app_data(gateway.clone())
            .service(web::scope("").guard(ours).default_service(web::to(handle)))
            .default_service(web::to(|| async { "the API" }))
    })
    .workers(1)
    .bind(("127.0.0.1", 0))
    .unwrap();
    let address = server.addrs()[0];
    let server = server.run();
    let handle = server.handle();
    actix_web::rt::spawn(server);

    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = ask(&mut socket, "HEAD / HTTP/1.1\nHost: web-42-mr-7.preview.test\n\n").await;
    assert!(head.starts_with("HTTP/1.1 200 OK") && head.contains("content-length: 5\r\n"), "{head}");
    let head = ask(&mut socket, "HEAD /nope HTTP/1.1\nHost: web-42-mr-7.preview.test\n\n").await;
    assert!(head.starts_with("HTTP/1.1 404 Not Found") && !head.contains("content-length: 0\r\n"), "{head}");
    let range = "GET / HTTP/1.1\nHost: web-42-mr-7.preview.test:8080\nRange: bytes=1-3\n\n";
    let head = ask(&mut socket, range).await;
    assert!(
        head.starts_with("HTTP/1.1 206 Partial Content") && head.contains("content-length: 3\r\n"),
        "{head}"
    );
    let mut body = [0; 3];
    socket.read_exact(&mut body).await.unwrap();
    assert_eq!(&body, b"ell");
    let head = ask(&mut socket, "GET /api HTTP/1.1\nHost: greenroom.test\nConnection: close\n\n").await;
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    let mut body = String::new();
    socket.read_to_string(&mut body).await.unwrap();
    assert_eq!(body, "the API");
    handle.stop(false).await;
    drop(folder);
}
