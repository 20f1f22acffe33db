//! Holds every exchange with GitLab, ours and the sandbox's half alike, to GitLab's OpenAPI document.
//!
//! Prism is the judge, one process per test run, started in the background by the first wire. It judges copies: an
//! exchange that has happened is sent through its proxy mode once more, and the upstream it is given only repeats the
//! answer that GitLab gave. Prism in the line itself would follow GitLab's redirects to object storage, decode artifacts as
//! UTF-8, replace the `Host` header, and with `--errors` stop a test at its first violation.

use std::{
    collections::HashMap,
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Condvar, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::Full;
use serde::Deserialize;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use super::{free_address, openapi, parts, wire};

/// How long Prism may take to listen, and a wire to hear the last verdicts when it drops.
const PATIENCE: Duration = Duration::from_mins(5);

/// Names the exchange to the upstream that repeats its answer.
const EXCHANGE: &str = "x-exchange";

/// A request and what was answered to it.
pub struct Exchange {
    pub request: Request<Bytes>,
    pub answer: Response<Bytes>,
}

/// The exchanges of one wire, and what was found against them.
pub struct Docket {
    case: Arc<Case>,
}

#[derive(Default)]
struct Case {
    found: Mutex<Found>,
    heard: Condvar,
}

#[derive(Default)]
struct Found {
    pending: usize,
    violations: Vec<String>,
}

impl Docket {
    /// Nothing, where `GREENROOM_TEST_PRISM` does not name the program.
    pub fn open() -> Option<Self> {
        parts::part("GREENROOM_TEST_PRISM", "GitLab's OpenAPI document is not held against what is said")?;
        judge();
        Some(Self { case: Arc::default() })
    }

    pub fn add(&self, exchange: Exchange) {
        self.case.found.lock().unwrap().pending += 1;
        judge().send((exchange, self.case.clone())).expect("the judge outlives the tests");
    }

    /// Waits for the verdicts and takes what was found.
    pub fn take(&self) -> Vec<String> {
        let found = self.case.found.lock().unwrap();
        let (mut found, late) =
            self.case.heard.wait_timeout_while(found, PATIENCE, |found| found.pending > 0).unwrap();
        let mut violations = std::mem::take(&mut found.violations);
        if late.timed_out() {
            violations.push(format!("{} exchanges were not judged within {PATIENCE:?}", found.pending));
        }
        violations
    }

    /// Fails the test with what was found.
    pub fn close(&self) {
        let violations = self.take();
        if violations.is_empty() {
            return;
        }
        let report = format!("GitLab's OpenAPI document does not allow:\n{}", violations.join("\n"));
        assert!(thread::panicking(), "{report}");
        eprintln!("{report}");
    }
}

impl Case {
    fn hear(&self, violations: Vec<String>) {
        let mut found = self.found.lock().unwrap();
        found.pending -= 1;
        for violation in violations {
            if !found.violations.contains(&violation) {
                found.violations.push(violation);
            }
        }
        self.heard.notify_all();
    }
}

type Queue = mpsc::UnboundedSender<(Exchange, Arc<Case>)>;

/// The queue to the one judge, which lives on a thread of its own: a test's runtime ends with the test.
fn judge() -> &'static Queue {
    static JUDGE: OnceLock<Queue> = OnceLock::new();
    JUDGE.get_or_init(|| {
        let (queue, mut exchanges) = mpsc::unbounded_channel::<(Exchange, Arc<Case>)>();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let prism = Prism::start().await;
                while let Some((exchange, case)) = exchanges.recv().await {
                    case.hear(match &prism {
                        Ok(prism) => prism
                            .violations(exchange)
                            .await
                            .unwrap_or_else(|error| vec![format!("no verdict: {error:#}")]),
                        Err(error) => vec![format!("Prism did not start: {error:#}")],
                    });
                }
            });
        });
        queue
    })
}

struct Prism {
    address: SocketAddr,
    client: reqwest::Client,
    /// What GitLab answered, for the upstream to repeat.
    answers: Arc<Mutex<HashMap<u64, Response<Bytes>>>>,
    /// Holds Prism on its leash: the child ends when this end of its stdin closes, however this process ends.
    _leash: Child,
}

/// One entry of the header in which Prism says what it found.
#[derive(Deserialize)]
struct Violation {
    #[serde(default)]
    location: Vec<serde_json::Value>,
    message: String,
}

impl Prism {
    async fn start() -> Result<Self> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("prism-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let document = folder.join("openapi.json");
        fs::write(&document, openapi::document()?.to_string())?;

        let upstream = TcpListener::bind("127.0.0.1:0").await?;
        let upstream_url = format!("http://{}", upstream.local_addr()?);
        let answers = Arc::<Mutex<HashMap<u64, Response<Bytes>>>>::default();
        let repeated = answers.clone();
        tokio::spawn(wire::serve(upstream, move |request| {
            let answer = request
                .headers()
                .get(EXCHANGE)
                .and_then(|number| number.to_str().ok()?.parse().ok())
                .and_then(|number| repeated.lock().unwrap().remove(&number));
            async move { Ok(answer.context("an exchange of ours")?.map(Full::from)) }
        }));

        let address = free_address();
        let program =
            env::var_os("GREENROOM_TEST_PRISM").map(PathBuf::from).context("GREENROOM_TEST_PRISM")?;
        let log = fs::File::create(folder.join("prism.log"))?;
        let leash = Command::new("sh")
            .args(["-c", r#"folder=$1; shift; "$@" & read -r _; kill $!; rm -r "$folder""#, "sh"])
            .arg(&folder)
            .arg(program)
            .arg("proxy")
            .arg(&document)
            .args([&upstream_url, "--port", &address.port().to_string(), "--verboseLevel", "warn"])
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("sh")?;

        let began = Instant::now();
        while TcpStream::connect(address).await.is_err() {
            if began.elapsed() > PATIENCE {
                let log = fs::read_to_string(folder.join("prism.log")).unwrap_or_default();
                bail!("nothing listens on {address} after {PATIENCE:?}: {log}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let client = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self { address, client, answers, _leash: leash })
    }

    async fn violations(&self, Exchange { request, answer }: Exchange) -> Result<Vec<String>> {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let status = answer.status();
        let subject = format!("{} {} → {}", request.method(), request.uri(), status.as_u16());
        self.answers.lock().unwrap().insert(number, presentable(answer));

        let (head, body) = request.into_parts();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut headers = wire::end_to_end(&head.headers);
        headers.remove(header::HOST);
        headers.insert(EXCHANGE, number.into());
        let url = format!("http://{}{path}", self.address);
        let verdict = self.client.request(head.method, url).headers(headers).body(body).send().await?;
        self.answers.lock().unwrap().remove(&number);

        let violations = match verdict.headers().get("sl-violations") {
            Some(list) => serde_json::from_slice(list.as_bytes()).context("sl-violations")?,
            None if verdict.status() == status => Vec::new(),
            None => vec![Violation { location: Vec::new(), message: verdict.text().await? }],
        };
        Ok(violations
            .into_iter()
            .map(|Violation { location, message }| {
                let place: Vec<_> = location.iter().map(|step| step.to_string().replace('"', "")).collect();
                format!("{subject}: {}: {message}", place.join("."))
            })
            .collect())
    }
}

/// The answer as Prism can take it: nowhere to be sent on to, and text.
fn presentable(answer: Response<Bytes>) -> Response<Bytes> {
    let (mut head, body) = answer.into_parts();
    head.headers.remove(header::LOCATION);
    let body = if std::str::from_utf8(&body).is_ok() { body } else { Bytes::from_static(b"bytes") };
    Response::from_parts(head, body)
}
