//! The servers of a control plane as child processes that cannot outlive us.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, LazyLock, Mutex, mpsc},
    thread,
};

use rustix::process::{Pid, Signal, kill_process};

/// A server that was started, and may be killed and started again.
#[derive(Clone)]
pub(super) struct Process(Arc<Inner>);

struct Inner {
    program: PathBuf,
    folder: PathBuf,
    args: Vec<String>,
    child: Mutex<Option<Child>>,
}

impl Process {
    /// In `folder`, where its log is too, with nothing of our environment.
    pub(super) fn start(program: &Path, folder: &Path, args: &[String]) -> Self {
        let (program, folder) = (program.to_owned(), folder.to_owned());
        let process = Self(Arc::new(Inner { program, folder, args: args.to_vec(), child: Mutex::default() }));
        process.restart();
        process
    }

    /// Starts it again after [`Self::kill`].
    pub(super) fn restart(&self) {
        let log = File::options().create(true).append(true).open(self.log_file()).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(&self.0.program).args(&self.0.args);
        command.current_dir(&self.0.folder).env_clear().env("PATH", "/usr/bin:/bin");
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = spawn_for_life(command).unwrap_or_else(|error| panic!("setpriv, of util-linux: {error}"));
        *self.0.child.lock().unwrap() = Some(child);
    }

    /// `kill -9`; returns when it has ended, and its port is free.
    pub(super) fn kill(&self) {
        if let Some(mut child) = self.0.child.lock().unwrap().take() {
            let _ended_already = child.kill();
            child.wait().unwrap();
        }
    }

    pub(super) fn signal(&self, signal: Signal) {
        let pid = self.0.child.lock().unwrap().as_ref().map(Pid::from_child).expect("it runs");
        kill_process(pid, signal).unwrap();
    }

    /// Panics with the end of its log if it has ended by itself.
    pub(super) fn must_run(&self) {
        let ended = self.0.child.lock().unwrap().as_mut().and_then(|child| child.try_wait().unwrap());
        if let Some(status) = ended {
            let log = fs::read_to_string(self.log_file()).unwrap_or_default();
            let last = log.lines().rev().take(20).collect::<Vec<_>>().into_iter().rev();
            panic!("{} ended, {status}:\n{}", self.0.program.display(), last.collect::<Vec<_>>().join("\n"));
        }
    }

    fn log_file(&self) -> PathBuf {
        let name = self.0.program.file_name().unwrap().to_string_lossy();
        self.0.folder.join(format!("{name}.log"))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.get_mut().unwrap().take() {
            let _ended_already = child.kill();
            child.wait().unwrap();
        }
    }
}

type Order = (Command, mpsc::Sender<io::Result<Child>>);

/// A parent-death signal is sent when the *thread* ends that has started the child, and the threads of tests end with them.
/// So all are started by one that lives as long as the process.
fn spawn_for_life(command: Command) -> io::Result<Child> {
    static STARTER: LazyLock<Mutex<mpsc::Sender<Order>>> = LazyLock::new(|| {
        let (orders, ordered) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in ordered {
                let _nobody_waits = answer.send(command.spawn());
            }
        });
        Mutex::new(orders)
    });
    let (answer, answered) = mpsc::channel();
    STARTER.lock().unwrap().send((command, answer)).unwrap();
    answered.recv().unwrap()
}

/// A folder that goes with this value, or with this process, in whichever way that ends: a shell waits for the end of its
/// standard input.
pub(super) struct Folder {
    pub(super) path: PathBuf,
    remover: Child,
}

impl Folder {
    pub(super) fn new() -> Self {
        let path = tempfile::tempdir().unwrap().keep();
        // Servers that end with us may write until then.
        let script = r#"trap '' INT TERM HUP; read -r _; until rm -rf -- "$1"; do sleep 0.1; done"#;
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(&path).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { path, remover: command.spawn().unwrap() }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(self.remover.stdin.take());
        self.remover.wait().unwrap();
    }
}
