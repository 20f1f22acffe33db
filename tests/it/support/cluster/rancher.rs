//! What stands for Rancher: its endpoint for a cluster, `/k8s/clusters/<id>`, which takes tokens of Rancher's own and asks the
//! API server on its users' behalf. With a certificate of an authority that no system knows.

use std::sync::{Arc, Mutex};

use anyhow::Result;
use bytes::Bytes;
use futures::TryStreamExt;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use tokio::{net::TcpListener, task::JoinHandle};
use url::Url;

use super::{ADMIN, Cluster, token};
use crate::support::{
    tls::{Authority, TlsFront},
    wire,
};

/// The cluster's id there.
pub const ID: &str = "c-m-abcde";

type Answer = Response<UnsyncBoxBody<Bytes, reqwest::Error>>;

/// Answers as long as this is there.
pub struct Rancher {
    pub url: String,
    /// Tokens that it takes.
    tokens: Arc<Mutex<Vec<String>>>,
    /// Tokens that it was shown.
    shown: Arc<Mutex<Vec<String>>>,
    _front: TlsFront,
    accepting: JoinHandle<()>,
}

impl Drop for Rancher {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Rancher {
    /// Manages this cluster.
    pub async fn of(cluster: &Cluster, authority: &Authority) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server: Url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let api = format!("https://{}", cluster.port.address);
        let root = reqwest::Certificate::from_pem(cluster.authority.as_bytes()).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([root]).no_proxy().build().unwrap();
        let (tokens, shown) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<Mutex<Vec<String>>>::default());
        let accepting = tokio::spawn({
            let (tokens, shown) = (tokens.clone(), shown.clone());
            wire::serve(listener, move |request| {
                let bearer = bearer(&request);
                let known = tokens.lock().unwrap().contains(&bearer);
                shown.lock().unwrap().push(bearer);
                let (api, client) = (api.clone(), client.clone());
                async move {
                    if known {
                        forward(&client, &api, request).await
                    } else {
                        Ok(refusal(StatusCode::UNAUTHORIZED, "must authenticate"))
                    }
                }
            })
        });
        let front = TlsFront::before(&server, authority, "127.0.0.1").await;
        Self { url: format!("https://{}", front.address), tokens, shown, _front: front, accepting }
    }

    /// From now on it takes these tokens and no other.
    pub fn takes(&self, tokens: &[&str]) {
        *self.tokens.lock().unwrap() = tokens.iter().map(ToString::to_string).collect();
    }

    /// Whether it was ever shown this token.
    pub fn has_seen(&self, token: &str) -> bool {
        self.shown.lock().unwrap().iter().any(|shown| shown == token)
    }
}

fn bearer(request: &Request<Incoming>) -> String {
    let value = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    value.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default().to_owned()
}

fn refusal(status: StatusCode, words: &'static str) -> Answer {
    let text = format!(r#"{{"type":"error","status":"{}","message":"{words}"}}"#, status.as_u16());
    let body = Full::from(text).map_err(|never| match never {}).boxed_unsync();
    Response::builder().status(status).header(header::CONTENT_TYPE, "application/json").body(body).unwrap()
}

async fn forward(client: &reqwest::Client, api: &str, request: Request<Incoming>) -> Result<Answer> {
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let Some(path) = path.strip_prefix(&format!("/k8s/clusters/{ID}")) else {
        return Ok(refusal(StatusCode::NOT_FOUND, "not found"));
    };
    let mut headers = wire::end_to_end(&head.headers);
    headers.remove(header::HOST);
    headers.remove(header::AUTHORIZATION);
    let sent = client.request(head.method, format!("{api}{path}")).headers(headers).bearer_auth(token(ADMIN));
    let reply = sent.body(body.collect().await?.to_bytes()).send().await?;
    let mut answer = Response::builder().status(reply.status());
    *answer.headers_mut().unwrap() = wire::end_to_end(reply.headers());
    // As it comes: a watch has no end.
    Ok(answer.body(BodyExt::boxed_unsync(StreamBody::new(reply.bytes_stream().map_ok(Frame::data))))?)
}
