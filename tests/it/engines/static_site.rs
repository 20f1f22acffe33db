//! A bench for the engine of static sites.

use std::{
    io::{Cursor, Write},
    path::PathBuf,
    sync::Arc,
};

use async_trait::async_trait;
use greenroom::{
    clock::Clock,
    engine::{
        Engine, Input, Order,
        static_site::{Limits, StaticSite},
    },
    preview::PreviewName,
};
use sha2::{Digest, Sha256};
use zip::{ZipWriter, write::SimpleFileOptions};

use super::{App, Bench, commit, kubernetes};
use crate::support::{PATIENCE, until};

/// The engine in a folder of its own.
pub struct Folder {
    engine: Option<Arc<StaticSite>>,
    folder: tempfile::TempDir,
}

impl Folder {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let engine = StaticSite::open(folder.path(), "ours", Limits::default(), Clock).unwrap();
        Self { engine: Some(engine), folder }
    }

    fn site(&self) -> &Arc<StaticSite> {
        self.engine.as_ref().expect("it is open")
    }
}

#[async_trait]
impl Bench for Folder {
    fn engine(&self) -> Arc<dyn Engine> {
        Arc::clone(self.site()) as Arc<dyn Engine>
    }

    fn order(&self, name: &PreviewName, sha: char, app: App) -> Order {
        let archive = match app {
            App::Works(version) => page(&version.to_string()),
            App::Broken => b"no archive".to_vec(),
        };
        let mut file = tempfile::NamedTempFile::new_in(self.site().incoming()).unwrap();
        file.write_all(&archive).unwrap();
        Order {
            key: name.key().unwrap(),
            name: name.clone(),
            sha: commit(sha),
            digest: hex::encode(Sha256::digest(&archive)),
            input: Input::Artifact { archive: file.into_temp_path(), root: PathBuf::new(), spa: false },
        }
    }

    fn misdirected(&self, name: &PreviewName) -> Order {
        Order { input: kubernetes::nothing(), ..self.order(name, 'a', App::Works(1)) }
    }

    async fn reopen(&mut self) {
        self.engine = None;
        // Its tasks let go of the folder's lock by and by.
        let engine = until("the folder is free", PATIENCE, || async {
            StaticSite::open(self.folder.path(), "ours", Limits::default(), Clock)
                .map_err(|it| it.to_string())
        });
        self.engine = Some(engine.await);
    }
}

fn page(text: &str) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file("index.html", SimpleFileOptions::default()).unwrap();
    zip.write_all(text.as_bytes()).unwrap();
    zip.finish().unwrap().into_inner()
}
