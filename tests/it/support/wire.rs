//! The wire between greenroom and its GitLab: it carries, counts, and breaks on command.
//!
//! ```ignore
//! let wire = Wire::to_gitlab(gitlab.url()).await;
//! wire.on("POST", "*/notes").answer(502, &[], "<html>Bad Gateway</html>"); // the next one
//! wire.on("PUT", "*/deployments/*").always().hang();
//! wire.any().nth(7).instead(app.kill_switch()); // greenroom dies before GitLab hears of it
//! wire.any().nth(7).after(app.kill_switch()); // GitLab did it, greenroom dies before it knows
//! ```
//!
//! [`Wire::to_cluster`] is the same between greenroom and an API server, watches included.

use std::{
    ops::RangeInclusive,
    sync::{Arc, Mutex},
};

use anyhow::{Result, bail};
use bytes::Bytes;
use futures::TryStreamExt;
use globset::{Glob, GlobMatcher};
use http::{HeaderMap, Request, Response, header, request::Parts};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Body, Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use url::Url;

use super::prism::{Docket, Exchange};

/// A proxy in the test process. Forwards bytes, redirects and the `Host` header as they are.
pub struct Wire {
    url: Url,
    line: Arc<Line>,
    accepting: JoinHandle<()>,
}

/// One request as it came by. `status` is what the client was answered, if it was.
#[derive(Debug, Clone)]
pub struct Call {
    pub method: String,
    /// Path and query as sent, still encoded.
    pub path: String,
    pub body: String,
    /// What it came with as `PRIVATE-TOKEN`.
    pub token: Option<String>,
    /// The same as `Authorization`.
    pub authorization: Option<String>,
    pub status: Option<u16>,
}

struct Line {
    upstream: Url,
    client: reqwest::Client,
    docket: Option<Docket>,
    state: Mutex<State>,
    /// Told when everything that is under way breaks.
    broken: watch::Sender<()>,
    frozen: watch::Sender<bool>,
}

type Answer = Response<UnsyncBoxBody<Bytes, anyhow::Error>>;

#[derive(Default)]
struct State {
    cut: bool,
    calls: Vec<Call>,
    plans: Vec<Plan>,
    /// How often every plan was forgotten, what was begun of them included.
    healed: usize,
}

struct Plan {
    method: &'static str,
    path: GlobMatcher,
    seen: usize,
    fires: RangeInclusive<usize>,
    act: Act,
}

#[derive(Clone)]
enum Act {
    Answer(Response<Full<Bytes>>),
    Hang,
    Cut,
    Lose,
    Instead(Hook),
    Before(Hook),
    After(Hook),
}

type Hook = Arc<dyn Fn() + Send + Sync>;

impl Wire {
    /// A wire to GitLab: what GitLab's OpenAPI document does not allow, of either side, fails the test when the wire drops.
    pub async fn to_gitlab(gitlab: &Url) -> Self {
        Self::start(gitlab, client(), Docket::open()).await
    }

    /// A wire to anything else, such as GitLab's to greenroom's webhook.
    pub async fn to(upstream: &Url) -> Self {
        Self::start(upstream, client(), None).await
    }

    /// A wire to an API server that proves itself with a certificate of this authority (PEM). What comes bit by bit, such as a
    /// watch, is carried so.
    pub async fn to_cluster(api: &Url, authority: &str) -> Self {
        let root = reqwest::Certificate::from_pem(authority.as_bytes()).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([root]).no_proxy().http1_only();
        Self::start(api, client.build().unwrap(), None).await
    }

    async fn start(upstream: &Url, client: reqwest::Client, docket: Option<Docket>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let line = Arc::new(Line {
            upstream: upstream.clone(),
            client,
            docket,
            state: Mutex::default(),
            broken: watch::Sender::new(()),
            frozen: watch::Sender::new(false),
        });
        let accepting = tokio::spawn({
            let line = line.clone();
            serve(listener, move |request| {
                let line = line.clone();
                async move { line.carry(request).await }
            })
        });
        Self { url, line, accepting }
    }

    /// Where the client of this wire connects to.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// From now on every connection breaks without an answer.
    pub fn cut(&self) {
        self.line.state.lock().unwrap().cut = true;
    }

    /// Ends the cut and forgets every plan.
    pub fn heal(&self) {
        let mut state = self.line.state.lock().unwrap();
        state.cut = false;
        state.plans.clear();
        state.healed += 1;
    }

    /// Breaks every call that is under way, watches included. What comes later goes on.
    pub fn hang_up(&self) {
        self.line.broken.send_replace(());
    }

    /// From now on nothing passes, in neither direction, until [`Self::thaw`]; then all goes on where it was.
    pub fn freeze(&self) {
        self.line.frozen.send_replace(true);
    }

    /// Ends what [`Self::freeze`] began.
    pub fn thaw(&self) {
        self.line.frozen.send_replace(false);
    }

    /// Plans something for calls of this method whose path, without the query, fits the glob (`*` is any text): the next
    /// one, unless [`On::nth`] or [`On::always`] says otherwise. Calls count from here on; of several plans for one call the oldest wins.
    pub fn on(&self, method: &'static str, path: &str) -> On<'_> {
        On { line: &self.line, method, path: Glob::new(path).unwrap().compile_matcher(), fires: 1..=1 }
    }

    /// Plans something for calls of any kind.
    pub fn any(&self) -> On<'_> {
        self.on("*", "*")
    }

    /// Every call so far, in order of arrival.
    pub fn calls(&self) -> Vec<Call> {
        self.line.state.lock().unwrap().calls.clone()
    }

    /// What the OpenAPI document has against the exchanges so far, for a test that expects it; the drop then is content.
    /// Nothing where Prism is not at hand.
    pub fn violations(&self) -> Option<Vec<String>> {
        self.line.docket.as_ref().map(Docket::take)
    }

    /// How many calls of this method and path came by.
    pub fn count(&self, method: &str, path: &str) -> usize {
        let path = Glob::new(path).unwrap().compile_matcher();
        self.calls().iter().filter(|call| call.method == method && path.is_match(bare(&call.path))).count()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.accepting.abort();
        if let Some(docket) = &self.line.docket {
            docket.close();
        }
    }
}

/// A plan in the making; the last word of the sentence lays it down.
#[must_use = "say what shall happen"]
pub struct On<'a> {
    line: &'a Line,
    method: &'static str,
    path: GlobMatcher,
    fires: RangeInclusive<usize>,
}

impl On<'_> {
    /// For the n-th fitting call, counted from 1.
    pub fn nth(mut self, n: usize) -> Self {
        self.fires = n..=n;
        self
    }

    /// For so many fitting calls after so many that pass.
    pub fn after_passing(mut self, pass: usize, many: usize) -> Self {
        self.fires = pass + 1..=pass + many;
        self
    }

    /// For every fitting call until [`Wire::heal`].
    pub fn always(mut self) -> Self {
        self.fires = 1..=usize::MAX;
        self
    }

    /// Answers in GitLab's place; GitLab never hears of the call.
    pub fn answer(self, status: u16, headers: &[(&str, &str)], body: &str) {
        let answer = headers
            .iter()
            .fold(Response::builder().status(status), |answer, (name, value)| answer.header(*name, *value));
        let answer = answer.body(Full::from(body.to_owned())).unwrap();
        self.lay(Act::Answer(answer));
    }

    /// Takes the call and says nothing until the client gives up.
    pub fn hang(self) {
        self.lay(Act::Hang);
    }

    /// Breaks the connection before GitLab hears of the call.
    pub fn cut(self) {
        self.lay(Act::Cut);
    }

    /// Lets GitLab do it, then breaks the connection instead of passing the answer on.
    pub fn lose(self) {
        self.lay(Act::Lose);
    }

    /// Runs `hook` and breaks the connection; GitLab never hears of the call.
    pub fn instead(self, hook: impl Fn() + Send + Sync + 'static) {
        self.lay(Act::Instead(Arc::new(hook)));
    }

    /// Runs `hook` before GitLab hears of the call, which then goes on.
    pub fn before(self, hook: impl Fn() + Send + Sync + 'static) {
        self.lay(Act::Before(Arc::new(hook)));
    }

    /// Runs `hook` when GitLab has answered and the client has not seen it yet.
    pub fn after(self, hook: impl Fn() + Send + Sync + 'static) {
        self.lay(Act::After(Arc::new(hook)));
    }

    fn lay(self, act: Act) {
        let plan = Plan { method: self.method, path: self.path, seen: 0, fires: self.fires, act };
        self.line.state.lock().unwrap().plans.push(plan);
    }
}

impl Line {
    /// Carries one call. An error breaks the connection.
    async fn carry(self: Arc<Self>, request: Request<Incoming>) -> Result<Answer> {
        let mut broken = self.broken.subscribe();
        tokio::select! {
            answer = Arc::clone(&self).pass(request) => answer,
            _ = broken.changed() => bail!("broken"),
        }
    }

    async fn pass(self: Arc<Self>, request: Request<Incoming>) -> Result<Answer> {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();

        let healed = self.healed();
        let (number, act) = self.note(&head, &path, &body)?;
        self.flows().await;
        match &act {
            Some(Act::Answer(answer)) => {
                self.answered(number, answer.status().as_u16());
                return Ok(answer.clone().map(whole));
            }
            Some(Act::Hang) => std::future::pending().await,
            Some(Act::Cut) => bail!("cut"),
            Some(Act::Instead(hook)) => {
                hook();
                bail!("cut");
            }
            Some(Act::Before(hook)) => hook(),
            Some(Act::Lose | Act::After(_)) | None => {}
        }

        let upstream = format!("{}{path}", self.upstream.as_str().trim_end_matches('/'));
        let sent = self.client.request(head.method.clone(), upstream);
        let reply = sent.headers(end_to_end(&head.headers)).body(body.clone()).send().await?;
        let mut answer = Response::builder().status(reply.status());
        *answer.headers_mut().unwrap() = end_to_end(reply.headers());
        if path.contains("watch=") {
            match act {
                Some(Act::Lose) => bail!("lost"),
                Some(Act::After(hook)) => hook(),
                _ => {}
            }
            self.answered(number, reply.status().as_u16());
            return Ok(answer.body(self.stream(reply))?);
        }
        let answer = answer.body(reply.bytes().await?)?;
        self.flows().await;
        // The document is that of the API alone.
        if let Some(docket) = self.docket.as_ref().filter(|_| path.starts_with("/api/")) {
            let request = Request::from_parts(head, body);
            docket.add(Exchange { request, answer: answer.clone() });
        }

        match act {
            Some(Act::Lose) => bail!("lost"),
            Some(Act::After(hook)) if self.healed() == healed => hook(),
            _ => {}
        }
        self.answered(number, answer.status().as_u16());
        Ok(answer.map(|body| whole(Full::from(body))))
    }

    /// Waits as long as nothing passes.
    async fn flows(&self) {
        // The sender is ours.
        let _ = self.frozen.subscribe().wait_for(|frozen| !frozen).await;
    }

    /// A body that has no end, as it comes; until the connection breaks.
    fn stream(self: Arc<Self>, reply: reqwest::Response) -> UnsyncBoxBody<Bytes, anyhow::Error> {
        let broken = self.broken.subscribe();
        let frames = futures::stream::try_unfold(Box::pin(reply.bytes_stream()), move |mut chunks| {
            let (line, mut broken) = (Arc::clone(&self), broken.clone());
            async move {
                let next = async {
                    let chunk = chunks.try_next().await?;
                    line.flows().await;
                    anyhow::Ok(chunk)
                };
                let chunk = tokio::select! {
                    chunk = next => chunk?,
                    _ = broken.changed() => bail!("broken"),
                };
                Ok(chunk.map(|chunk| (Frame::data(chunk), chunks)))
            }
        });
        BodyExt::boxed_unsync(StreamBody::new(frames))
    }

    /// Writes the call down and looks up what is planned for it.
    fn note(&self, head: &Parts, path: &str, body: &[u8]) -> Result<(usize, Option<Act>)> {
        let method = head.method.as_str();
        let header = |name: &str| head.headers.get(name)?.to_str().ok().map(str::to_owned);
        let mut state = self.state.lock().unwrap();
        state.calls.push(Call {
            method: method.to_owned(),
            path: path.to_owned(),
            body: String::from_utf8_lossy(body).into_owned(),
            token: header("private-token"),
            authorization: header("authorization"),
            status: None,
        });
        if state.cut {
            bail!("cut");
        }
        let mut act = None;
        for plan in &mut state.plans {
            if (plan.method == "*" || plan.method == method) && plan.path.is_match(bare(path)) {
                plan.seen += 1;
                if act.is_none() && plan.fires.contains(&plan.seen) {
                    act = Some(plan.act.clone());
                }
            }
        }
        Ok((state.calls.len() - 1, act))
    }

    fn healed(&self) -> usize {
        self.state.lock().unwrap().healed
    }

    fn answered(&self, number: usize, status: u16) {
        if let Some(call) = self.state.lock().unwrap().calls.get_mut(number) {
            call.status = Some(status);
        }
    }
}

fn whole(body: Full<Bytes>) -> UnsyncBoxBody<Bytes, anyhow::Error> {
    body.map_err(|never| match never {}).boxed_unsync()
}

fn client() -> reqwest::Client {
    let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0);
    client.redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

/// The path without its query. Clients also send an empty query: `/notes?`.
fn bare(path: &str) -> &str {
    path.split('?').next().unwrap_or(path)
}

/// Serves HTTP on the listener until dropped. A handler's error breaks the connection without an answer.
pub async fn serve<H, F, B>(listener: TcpListener, handler: H)
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Response<B>>> + Send + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let _ = stream.set_nodelay(true);
        let handler = handler.clone();
        connections.spawn(async move {
            let service = service_fn(handler);
            let _broken = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

/// The headers that belong to the message rather than to one hop of it.
pub fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in
        [header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::TE, header::UPGRADE]
    {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers
}
