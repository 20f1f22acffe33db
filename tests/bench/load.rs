//! The load: one thread, a closed loop over raw keep-alive connections, and requests that were signed beforehand, so that
//! making the load costs little of the processors that the server shares with it.

use std::cell::{Cell, RefCell};
use std::io::IoSlice;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What all deliveries are signed with.
pub const SIGNING_TOKEN: &str = "whsec_dGVzdHRlc3R0ZXN0dGVzdHRlc3R0ZXN0dGVzdHRlc3Q=";
/// What they carry for servers that know tokens only.
pub const SECRET_TOKEN: &str = "a-secret-token-of-the-usual-len";
/// Connections, each with one request at a time.
pub const CONNECTIONS: usize = 64;
/// The size of a body, bytes.
pub const BODY: usize = 8192;

const PAYLOAD: &str = include_str!("../fixtures/gitlab/webhooks/merge_request_open_v19_2.json");
/// Merge requests that the deliveries are about, in turn.
const MERGE_REQUESTS: u64 = 100;
const WARM_UP: Duration = Duration::from_secs(1);
const MEASURED: Duration = Duration::from_secs(4);

/// Requests as they go over the wire, each with an id and a signature of its own.
pub struct Deliveries {
    bodies: Vec<Vec<u8>>,
    heads: Vec<Vec<u8>>,
}

impl Deliveries {
    /// Signs `count` deliveries, now: a signature is good for five minutes.
    pub fn sign(count: usize) -> anyhow::Result<Self> {
        let bodies = (1..=MERGE_REQUESTS).map(body).collect::<Result<Vec<_>, _>>()?;
        let key = BASE64_STANDARD.decode(SIGNING_TOKEN.trim_start_matches("whsec_"))?;
        let key = Hmac::<Sha256>::new_from_slice(&key)?;
        let sent = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
        let heads = bodies.iter().cycle().take(count).map(|body| head(&key, sent, body)).collect();
        Ok(Self { bodies, heads })
    }
}

/// A merge request's payload, filled up to [`BODY`] bytes.
fn body(iid: u64) -> anyhow::Result<Vec<u8>> {
    let mut payload: Value = serde_json::from_str(PAYLOAD)?;
    payload["object_attributes"]["iid"] = iid.into();
    payload["object_attributes"]["description"] = "".into();
    let missing = BODY.checked_sub(payload.to_string().len()).context("the payload is too long")?;
    payload["object_attributes"]["description"] = "x".repeat(missing).into();
    let body = payload.to_string().into_bytes();
    ensure!(body.len() == BODY, "a body of {} bytes", body.len());
    Ok(body)
}

fn head(key: &Hmac<Sha256>, sent: u64, body: &[u8]) -> Vec<u8> {
    let id = uuid::Uuid::new_v4();
    let mut mac = key.clone();
    mac.update(format!("{id}.{sent}.").as_bytes());
    mac.update(body);
    let signature = BASE64_STANDARD.encode(mac.finalize().into_bytes());
    format!(
        "POST /webhooks/gitlab HTTP/1.1\r\n\
         Host: localhost\r\n\
         User-Agent: GitLab/19.2.0-ee\r\n\
         Content-Type: application/json\r\n\
         X-Gitlab-Event: Merge Request Hook\r\n\
         X-Gitlab-Instance: http://gitlab.localhost\r\n\
         X-Gitlab-Token: {SECRET_TOKEN}\r\n\
         Idempotency-Key: {id}\r\n\
         webhook-id: {id}\r\n\
         webhook-timestamp: {sent}\r\n\
         webhook-signature: v1,{signature}\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes()
}

/// What one load found.
pub struct Answers {
    /// How many came in all, the warm-up included.
    pub all: usize,
    /// How many came in a second, after the warm-up.
    pub per_second: f64,
    /// How long each took, sorted.
    pub took: Vec<Duration>,
    /// How much of one processor the load itself took.
    pub own_cpu: f64,
}

impl Answers {
    /// The time within which this share of the answers came.
    pub fn percentile(&self, share: f64) -> Duration {
        super::figures::percentile(&self.took, share)
    }
}

/// Sends `deliveries` to the server, as fast as it answers them.
pub fn run(server: SocketAddr, deliveries: &Deliveries) -> anyhow::Result<Answers> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let cpu = own_cpu()?;
    let load = Load { deliveries, next: Cell::new(0), took: RefCell::default(), began: Instant::now() };
    let connections = (0..CONNECTIONS).map(|_| load.connection(server));
    runtime.block_on(futures::future::try_join_all(connections))?;
    let measured = load.began.elapsed().saturating_sub(WARM_UP);
    let own_cpu = (own_cpu()? - cpu) / load.began.elapsed().as_secs_f64();
    let mut took = load.took.into_inner();
    ensure!(!took.is_empty(), "no answer came after the warm-up");
    took.sort_unstable();
    let per_second = took.len() as f64 / measured.as_secs_f64();
    Ok(Answers { all: load.next.get(), per_second, took, own_cpu })
}

struct Load<'a> {
    deliveries: &'a Deliveries,
    next: Cell<usize>,
    took: RefCell<Vec<Duration>>,
    began: Instant,
}

impl Load<'_> {
    async fn connection(&self, server: SocketAddr) -> anyhow::Result<()> {
        let mut stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let mut answer = Vec::with_capacity(4096);
        while self.began.elapsed() < WARM_UP + MEASURED {
            let number = self.next.get();
            let Some(head) = self.deliveries.heads.get(number) else { break };
            self.next.set(number + 1);
            let body = &self.deliveries.bodies[number % self.deliveries.bodies.len()];
            let sent = Instant::now();
            send(&mut stream, head, body).await?;
            receive(&mut stream, &mut answer).await?;
            if sent.duration_since(self.began) >= WARM_UP {
                self.took.borrow_mut().push(sent.elapsed());
            }
        }
        Ok(())
    }
}

async fn send(stream: &mut TcpStream, head: &[u8], body: &[u8]) -> std::io::Result<()> {
    let mut parts = [IoSlice::new(head), IoSlice::new(body)];
    let mut left = &mut parts[..];
    while !left.is_empty() {
        let written = stream.write_vectored(left).await?;
        IoSlice::advance_slices(&mut left, written);
    }
    Ok(())
}

/// Reads one answer to its end; anything but success ends the load.
async fn receive(stream: &mut TcpStream, answer: &mut Vec<u8>) -> anyhow::Result<()> {
    answer.clear();
    loop {
        ensure!(stream.read_buf(answer).await? > 0, "the server hung up");
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut head = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(end) = head.parse(answer)? else { continue };
        let length = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
        let length: usize = length.map_or(Ok("0"), |header| str::from_utf8(header.value))?.parse()?;
        if answer.len() >= end + length {
            ensure!(
                head.code.is_some_and(|code| (200..300).contains(&code)),
                "the server answered {}",
                String::from_utf8_lossy(answer)
            );
            return Ok(());
        }
    }
}

/// The processor time that this thread has taken, in seconds.
fn own_cpu() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds: f64 = text.split_whitespace().next().unwrap_or_default().parse()?;
    Ok(nanoseconds / 1e9)
}
