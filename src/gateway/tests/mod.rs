//! The gateway with a real engine and a real store behind it.

mod files;
mod pages;
mod paths;
mod wire;

use std::io::{Cursor, Write};

use actix_web::body::to_bytes;
use actix_web::test::TestRequest;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;
use crate::clock::Clock;
use crate::engine::static_site::Limits;
use crate::engine::{Engine, Input, Order};
use crate::preview::{Preview, PreviewKey, Sha, State};

const HOST: &str = "web-42-mr-7.preview.test";

struct Bench {
    gateway: Gateway,
    folder: tempfile::TempDir,
}

/// What came back.
struct Answer {
    status: u16,
    headers: header::HeaderMap,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The words of a page: without tags and style.
    fn words(&self) -> String {
        let body = self.body.split_once("<main>").unwrap().1.split_once("</main>").unwrap().0;
        let (mut words, mut inside) = (String::new(), false);
        for c in body.chars() {
            match c {
                '<' => inside = true,
                '>' => inside = false,
                c if !inside => words.push(c),
                _ => {}
            }
        }
        let words = [("&lt;", "<"), ("&gt;", ">"), ("&#x2f;", "/"), ("&#x27;", "'"), ("&amp;", "&")]
            .iter()
            .fold(words, |words, (escaped, plain)| words.replace(escaped, plain));
        let lines: Vec<&str> = words.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        format!("{}\n{}", self.status, lines.join("\n"))
    }
}

impl Bench {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sites = StaticSite::open(&folder.path().join("sites"), "ours", Limits::default(), Clock).unwrap();
        let store = folder.path().join("store.db");
        let store = Store::open(&format!("sqlite://{}?mode=rwc", store.display())).await.unwrap();
        Self { gateway: Gateway::new("preview.test", sites, store), folder }
    }

    /// One with a site at [`HOST`].
    async fn serving(files: &[(&str, &str)], spa: bool) -> Self {
        let bench = Self::new().await;
        bench.deploy("web-42-mr-7", files, spa).await;
        bench
    }

    async fn deploy(&self, name: &str, files: &[(&str, &str)], spa: bool) {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in files {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(content.as_bytes()).unwrap();
        }
        let bytes = zip.finish().unwrap().into_inner();
        let sites = &self.gateway.sites;
        let mut archive = tempfile::NamedTempFile::new_in(sites.incoming()).unwrap();
        archive.write_all(&bytes).unwrap();
        let mut events = sites.events();
        let digest = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&bytes));
        let name = PreviewName::parse(name).unwrap();
        let order = Order {
            key: PreviewKey::of_mr(42, 7),
            name: name.clone(),
            sha: Sha::parse(&"a".repeat(40)).unwrap(),
            digest: digest.clone(),
            input: Input::Artifact { archive: archive.into_temp_path(), root: "".into(), spa },
        };
        sites.apply(order).await.unwrap();
        events.recv().await.unwrap();
        assert_eq!(sites.site(&name).unwrap().digest(), digest);
    }

    /// Stores what is known of the preview at [`HOST`].
    async fn know(&self, state: State, reason: &str) {
        self.know_on(None, state, reason).await;
    }

    /// The same of a preview on this cluster.
    async fn know_on(&self, cluster: Option<&str>, state: State, reason: &str) {
        let mut preview = Preview::new(
            PreviewKey::of_mr(42, 7),
            "acme/web",
            "feature",
            |_| String::new(),
            1_700_000_000_000,
        );
        preview.state = state;
        preview.reason = reason.to_owned();
        preview.cluster = cluster.map(str::to_owned);
        preview.stopped_at = (state == State::Stopped).then_some(1_700_000_360_000);
        self.gateway.store.save(&preview, None).await.unwrap();
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(TestRequest::get().uri(path)).await
    }

    async fn ask(&self, request: TestRequest) -> Answer {
        self.ask_host(HOST, request).await
    }

    async fn ask_host(&self, host: &str, request: TestRequest) -> Answer {
        let request = request.insert_header((header::HOST, host)).to_http_request();
        let response = self.gateway.answer(&request).await;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let body = to_bytes(response.into_body()).await;
        // A `HEAD` answer has a length and no body, which `to_bytes` takes for one that ended early.
        let body = body.map(|body| String::from_utf8_lossy(&body).into_owned()).unwrap_or_default();
        let answer = Answer { status, headers, body };
        assert_eq!(answer.header("x-robots-tag"), Some("noindex"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("set-cookie"), None);
        answer
    }
}
