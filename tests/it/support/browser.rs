//! A real browser: headless Chromium. It resolves `*.localhost` to loopback by itself, so previews have their own hosts.

use std::{ffi::OsString, path::Path, process::Stdio};

use tokio::{process::Command, time::timeout};

use super::{PATIENCE, parts};

pub struct Browser {
    program: OsString,
}

impl Browser {
    /// Nothing, where `GREENROOM_TEST_CHROMIUM` does not name the program.
    pub fn find() -> Option<Self> {
        parts::part("GREENROOM_TEST_CHROMIUM", "no page is opened in a real browser")
            .map(|program| Self { program })
    }

    /// The page's DOM after its scripts have run.
    pub async fn dom(&self, url: &str) -> String {
        self.open(&["--dump-dom".into(), url.into()]).await
    }

    /// Takes a picture of the page.
    pub async fn screenshot(&self, url: &str, to: &Path) {
        self.open(&[format!("--screenshot={}", to.display()).into(), url.into()]).await;
        assert!(to.exists(), "Chromium left no picture of {url}");
    }

    async fn open(&self, what: &[OsString]) -> String {
        let profile = tempfile::tempdir().unwrap();
        let mut chromium = Command::new(&self.program);
        chromium
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--disable-dev-shm-usage",
            ])
            .args([
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .args(what)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        // The first start after the machine woke up reads hundreds of megabytes.
        let patience = 3 * PATIENCE;
        let output = timeout(patience, chromium.output())
            .await
            .unwrap_or_else(|_| panic!("Chromium took over {patience:?} for {what:?}"))
            .expect("Chromium starts");
        assert!(output.status.success(), "{what:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}
