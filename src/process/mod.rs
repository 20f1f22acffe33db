//! Child processes: nothing of our environment, and limits on time, memory and output.
//!
//! Needs: a program by its path. Properties: a child sees no variable of ours, only a `HOME` that is empty when it starts
//! and gone when it ends; whatever happens, it and what it started have ended when [`run`] returns. Limits on memory,
//! CPU time and the size of files are the kernel's, set right after the start and only on Linux; before, the child has
//! read nothing yet. Dropping the future ends the child.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

/// How far a child may go.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Time on the clock, and of the CPU.
    pub time: Duration,
    /// Memory that can be written to, bytes.
    pub memory: u64,
    /// What it may print, bytes.
    pub output: usize,
}

/// A program, its arguments, and the folder it starts in.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Path of the program.
    pub program: &'a Path,
    /// Its arguments.
    pub arguments: &'a [OsString],
    /// The folder it starts in.
    pub folder: &'a Path,
    /// How far it may go.
    pub limits: Limits,
}

/// Why a child has no output.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be started, or listened to.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },
    /// It ended with another exit code than 0, or was ended by a signal.
    #[error("{0}")]
    Failed(String),
    /// It did not end in time.
    #[error("did not end within {0:?}")]
    TooSlow(Duration),
    /// It printed too much.
    #[error("printed more than {0} bytes")]
    TooMuch(usize),
}

/// How much of what a child complains about is kept, bytes.
const COMPLAINT: usize = 16 << 10;

/// Finds a program as a shell does, in the folders of a `PATH`.
pub fn find(program: &str, path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path).map(|folder| folder.join(program)).find(|file| is_executable(file))
}

#[cfg(unix)]
fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_executable(file: &Path) -> bool {
    file.is_file()
}

/// Starts a person's own program, such as the browser, with all that this one has of theirs, and does not wait for it. What is
/// said above of children does not hold for it: it is nothing that strangers have a say in.
pub fn launch(program: &Path, argument: &str) -> std::io::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "this is the room for it")]
    let mut command = std::process::Command::new(program);
    command.arg(argument).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().map(drop)
}

/// Runs a program to its end; returns what it printed.
pub async fn run(call: Call<'_>) -> Result<Vec<u8>, Error> {
    let failed = |what: &str| {
        let what = format!("{what} {}", call.program.display());
        move |source| Error::Io { what, source }
    };
    let home = tempfile::tempdir().map_err(failed("cannot make a folder for"))?;
    #[expect(clippy::disallowed_methods, reason = "this is the room for it")]
    let mut command = Command::new(call.program);
    command
        .args(call.arguments)
        .current_dir(call.folder)
        .env_clear()
        .env("HOME", home.path())
        .env("TMPDIR", home.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    #[cfg(unix)]
    command.process_group(0);
    let mut child = command.spawn().map_err(failed("cannot start"))?;
    limit(&child, call.limits).map_err(failed("cannot set the limits of"))?;
    let group = Group::of(&child);
    let ended = tokio::time::timeout(call.limits.time, talk(&mut child, call.limits.output)).await;
    drop(group);
    let (output, complaint, status) = match ended {
        Err(_) => return Err(Error::TooSlow(call.limits.time)),
        Ok(talked) => talked.map_err(failed("cannot listen to"))?,
    };
    if output.len() > call.limits.output {
        return Err(Error::TooMuch(call.limits.output));
    }
    if !status.is_some_and(|status| status.success()) {
        let complaint = String::from_utf8_lossy(&complaint);
        let ended = status.map_or_else(|| String::from("ended"), |status| status.to_string());
        return Err(Error::Failed(if complaint.trim().is_empty() {
            ended
        } else {
            complaint.trim().to_owned()
        }));
    }
    Ok(output)
}

type Talked = (Vec<u8>, Vec<u8>, Option<std::process::ExitStatus>);

/// Reads all that a child prints, up to one byte more than it may; then waits for its end, unless it printed too much.
async fn talk(child: &mut Child, most: usize) -> std::io::Result<Talked> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let output = read(stdout, most + 1);
    let complaint = read(stderr, COMPLAINT);
    tokio::pin!(output, complaint);
    // A child that prints too much gets no further, and its complaints have no end: they are not waited for.
    let (output, complaint) = tokio::select! {
        output = &mut output => {
            let output = output?;
            if output.len() > most {
                return Ok((output, Vec::new(), None));
            }
            (output, complaint.await?)
        }
        complaint = &mut complaint => {
            let complaint = complaint?;
            (output.await?, complaint)
        }
    };
    if output.len() > most {
        return Ok((output, complaint, None));
    }
    Ok((output, complaint, Some(child.wait().await?)))
}

async fn read(from: Option<impl AsyncRead + Unpin>, most: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        from.take(most as u64).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// Everything a child has started; ended when dropped.
struct Group(#[cfg(unix)] Option<rustix::process::Pid>);

impl Group {
    #[cfg(unix)]
    fn of(child: &Child) -> Self {
        Self(pid(child))
    }

    #[cfg(not(unix))]
    fn of(_: &Child) -> Self {
        Self()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        #[cfg(unix)]
        if let Some(pid) = self.0 {
            // Nobody left is what is wanted.
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
    }
}

#[cfg(unix)]
fn pid(child: &Child) -> Option<rustix::process::Pid> {
    rustix::process::Pid::from_raw(i32::try_from(child.id()?).ok()?)
}

#[cfg(target_os = "linux")]
fn limit(child: &Child, limits: Limits) -> std::io::Result<()> {
    use rustix::process::{Resource, Rlimit, prlimit};
    /// The largest file that a child may write, bytes.
    const LARGEST_FILE: u64 = 64 << 20;
    // Without a process, the limits would be our own.
    let Some(pid) = pid(child) else { return Ok(()) };
    let seconds = limits.time.as_secs().max(1);
    for (resource, most) in [
        (Resource::Data, limits.memory),
        (Resource::Cpu, seconds),
        (Resource::Fsize, LARGEST_FILE),
        (Resource::Core, 0),
    ] {
        match prlimit(Some(pid), resource, Rlimit { current: Some(most), maximum: Some(most) }) {
            // It has ended already.
            Ok(_) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn limit(_: &Child, _: Limits) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests;
