//! The command line, as people and scripts use it.

mod check;
mod day;
mod demo;
mod formats;
mod health;
mod verbs;
mod why;

use std::{
    fs,
    path::PathBuf,
    process::{Child, Stdio},
};

use assert_cmd::{Command, cargo::cargo_bin_cmd};
use tempfile::TempDir;

use crate::support::PATIENCE;

/// Somebody at a shell: an empty folder, an empty environment.
struct Shell(TempDir);

impl Shell {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn writes(&self, file: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(file);
        fs::write(&path, text).unwrap();
        path
    }

    fn greenroom(&self, args: &[&str]) -> Command {
        let mut greenroom = cargo_bin_cmd!("greenroom");
        greenroom.env_clear().current_dir(&self.0).timeout(PATIENCE).args(args);
        greenroom
    }

    fn runs(&self, args: &[&str]) -> Ended {
        let output = self.greenroom(args).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
    }

    /// What a successful command prints; it has nothing to add on stderr.
    fn reads(&self, args: &[&str]) -> String {
        let (code, stdout, stderr) = self.runs(args);
        assert_eq!((code, &*stderr), (0, ""), "{args:?}");
        stdout
    }
}

/// How a command ended: exit code, stdout, stderr.
type Ended = (i32, String, String);

/// All three of them, for a snapshot.
fn shown((code, stdout, stderr): Ended) -> String {
    format!("exit code {code}\n── stdout\n{stdout}── stderr\n{stderr}")
}

/// As [`Shell::runs`], while the world goes on.
async fn ask(args: &[&str]) -> Ended {
    let args: Vec<_> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let ask = move || Shell::new().runs(&args.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(ask).await.unwrap()
}

/// One that goes on by itself.
fn child(shell: &Shell, args: &[&str], stdout: impl Into<Stdio>, stderr: impl Into<Stdio>) -> Child {
    std::process::Command::new(env!("CARGO_BIN_EXE_greenroom"))
        .args(args)
        .env_clear()
        .current_dir(&shell.0)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .unwrap()
}
