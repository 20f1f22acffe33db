//! The engine as a whole. What holds for every engine is asked through `&dyn Engine`.

mod archives;
mod lifecycle;
mod storage;

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::broadcast;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;
use crate::preview::Sha;

/// An engine in a folder of its own.
struct Bench {
    engine: Arc<StaticSite>,
    events: broadcast::Receiver<PreviewKey>,
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let engine = StaticSite::open(folder.path(), "ours", limits, Clock).unwrap();
        Self { events: engine.events(), engine, folder }
    }

    /// Ends the engine and opens it again.
    async fn reopen(self) -> Self {
        let Self { engine, folder, .. } = self;
        let inner = Arc::downgrade(&engine.inner);
        drop(engine);
        while inner.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
        let engine = StaticSite::open(folder.path(), "ours", Limits::default(), Clock).unwrap();
        Self { events: engine.events(), engine, folder }
    }

    fn engine(&self) -> &dyn Engine {
        &*self.engine
    }

    /// An order for a preview: its commit is `sha` many times.
    fn order(&self, name: &PreviewName, sha: char, archive: &[u8]) -> Order {
        let mut file = tempfile::NamedTempFile::new_in(self.engine.incoming()).unwrap();
        file.write_all(archive).unwrap();
        Order {
            key: PreviewKey::of_mr(42, 7),
            name: name.clone(),
            sha: commit(sha),
            digest: hex::encode(<sha2::Sha256 as sha2::Digest>::digest(archive)),
            input: Input::Artifact { archive: file.into_temp_path(), root: PathBuf::new(), spa: false },
        }
    }

    /// Waits until the newest order is served or given up.
    async fn settled(&mut self, name: &PreviewName) -> Status {
        settled(&*self.engine, &mut self.events, name).await
    }

    /// Applies an order and waits for its end.
    async fn run(&mut self, order: Order) -> Status {
        let name = order.name.clone();
        self.engine().apply(order).await.unwrap();
        self.settled(&name).await
    }

    /// The diagnosis of an archive that is refused; every trace of it but that is gone.
    async fn refused(&mut self, archive: &[u8]) -> String {
        self.refused_below("", archive).await
    }

    async fn refused_below(&mut self, below: &str, archive: &[u8]) -> String {
        let mut order = self.order(&web(), 'f', archive);
        let Input::Artifact { root, .. } = &mut order.input else { unreachable!() };
        *root = below.into();
        let status = self.run(order).await;
        assert_eq!(status.serving, None);
        self.quiet(&web()).await;
        assert_eq!(listing(&self.folder.path().join("releases")), [""; 0]);
        assert_eq!(listing(self.engine.incoming()), [""; 0]);
        match status.pending {
            Some((_, _, Progress::Failed(why))) => why,
            other => panic!("not refused: {other:?}"),
        }
    }

    /// Waits until nobody works for a preview any more, collection included.
    async fn quiet(&self, name: &PreviewName) {
        drop(self.engine.inner.desk(name).turn.lock().await);
    }

    fn content(&self, name: &PreviewName, path: &str) -> String {
        std::fs::read_to_string(self.engine.site(name).unwrap().root().join(path)).unwrap()
    }
}

/// Waits for an engine's events until the newest order is served or given up.
async fn settled(
    engine: &dyn Engine,
    events: &mut broadcast::Receiver<PreviewKey>,
    name: &PreviewName,
) -> Status {
    let wait = async {
        loop {
            let status = engine.status(name).await.unwrap();
            if !matches!(status.pending, Some((_, _, Progress::Working))) {
                return status;
            }
            events.recv().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_mins(1), wait).await.expect("the order does not end")
}

fn web() -> PreviewName {
    PreviewName::parse("web-42-mr-7").unwrap()
}

fn docs() -> PreviewName {
    PreviewName::parse("docs-43-mr-1").unwrap()
}

fn commit(digit: char) -> Sha {
    Sha::parse(&digit.to_string().repeat(40)).unwrap()
}

/// An archive of these files.
fn zip(files: &[(&str, &str)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        if name.ends_with('/') {
            zip.add_directory(*name, SimpleFileOptions::default()).unwrap();
        } else {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(content.as_bytes()).unwrap();
        }
    }
    zip.finish().unwrap().into_inner()
}

/// What a folder holds, sorted.
fn listing(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
