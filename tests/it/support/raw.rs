//! HTTP by hand, for requests that no client would send.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use url::Url;

use super::PATIENCE;

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

/// Sends `lines` and an empty one, and reads until the server hangs up: ask it to with `Connection: close`.
pub async fn say(server: &Url, lines: &[&str]) -> Answer {
    let address = server.socket_addrs(|| None).unwrap()[0];
    let talk = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("{}\r\n\r\n", lines.join("\r\n")).as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    };
    let answer = timeout(PATIENCE, talk).await.expect("the server hangs up");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
    Answer { status: status.unwrap_or_else(|| panic!("{lines:?} was answered with {answer:?}")), body }
}
