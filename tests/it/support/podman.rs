//! Debian's podman, told how to do with as little as a machine grants that is a virtual one or a container itself.
//!
//! * `--runtime runc`: crun refuses cgroups in hybrid mode.
//! * `--cgroup-manager cgroupfs`, and health checks started by hand: there is no systemd to ask.
//! * `--ulimit`: the usual ones are above what root may set without `CAP_SYS_RESOURCE`, and the container does not start.
//! * `--storage-driver vfs`: overlays cannot be mounted on overlays.
//! * `--isolation chroot`: a build needs no container of its own.
//! * `--network host`: bridges need packages and rights. What listens on loopback here is reached from within.
//!
//! No image comes from a registry: [`Podman::start`] makes the one that all others are built on.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use super::parts::part;

const RUN: &[&str] = &["--network=host", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"];

/// The image with a shell and the authorities that this machine trusts.
pub const BASE: &str = "localhost/base";

/// A store of images and containers that ends with the test.
pub struct Podman {
    folder: TempDir,
}

/// A container that runs.
pub struct Container<'a> {
    podman: &'a Podman,
    id: String,
}

impl Podman {
    /// An empty store with [`BASE`] in it, and a build context with the program as `greenroom`; nothing where
    /// `GREENROOM_TEST_STATIC` does not name a static build of it.
    pub fn start() -> Option<Self> {
        let program = part("GREENROOM_TEST_STATIC", "the images are not built and run")?;
        let podman = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(podman.context()).unwrap();
        fs::copy(program, podman.context().join("greenroom")).expect("the program of GREENROOM_TEST_STATIC");
        fs::create_dir(podman.context().join("ci")).unwrap();
        fs::copy(project("ci/install"), podman.context().join("ci/install")).unwrap();
        podman.import_base();
        Some(podman)
    }

    fn import_base(&self) {
        let root = self.folder.path().join("base");
        for folder in ["bin", "etc/ssl/certs", "tmp"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::set_permissions(root.join("tmp"), PermissionsExt::from_mode(0o1777)).unwrap();
        fs::copy("/bin/busybox", root.join("bin/busybox")).expect("Debian's busybox-static");
        let commands = said(Command::new("/bin/busybox").arg("--list"));
        for command in commands.lines().filter(|command| *command != "busybox") {
            symlink("busybox", root.join("bin").join(command)).unwrap();
        }
        let authorities = "etc/ssl/certs/ca-certificates.crt";
        fs::copy(Path::new("/").join(authorities), root.join(authorities)).expect("Debian's ca-certificates");
        let archive = self.folder.path().join("base.tar");
        said(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg("."));
        said(self.command(&["import", "--quiet"]).arg(&archive).arg(BASE));
    }

    /// Builds the project's `Dockerfile` with the program and [`BASE`], whatever was built before; answers with the image's id.
    pub fn build(&self, options: &[&str]) -> String {
        let mut build =
            self.command(&["build", "--quiet", "--no-cache", "--pull=never", "--isolation=chroot"]);
        for argument in ["BINARY=greenroom", &format!("BUILD_BASE={BASE}"), &format!("CI_BASE={BASE}")] {
            build.args(["--build-arg", argument]);
        }
        build.args(options).arg("--file").arg(project("Dockerfile"));
        said(build.arg(self.context())).trim().to_owned()
    }

    /// What podman knows of an image.
    pub fn image(&self, id: &str) -> Value {
        let known: Value = serde_json::from_str(&self.says(&["image", "inspect", id])).unwrap();
        known[0].clone()
    }

    /// The regular files of an image, without the leading `/`.
    pub fn files(&self, image: &str) -> Vec<String> {
        let container = self.says(&["create", image]).trim().to_owned();
        let archive = self.folder.path().join("root.tar");
        self.command(&["export", "--output"]).arg(&archive).arg(&container).status().unwrap();
        let all = said(Command::new("tar").arg("-tf").arg(&archive));
        all.lines().filter(|path| !path.ends_with('/')).map(str::to_owned).collect()
    }

    /// Runs an image to its end, with this as its input.
    pub fn run(&self, options: &[&str], image: &str, command: &[&str], input: &str) -> Output {
        let mut child = self
            .command(&["run", "--rm", "--interactive"])
            .args(RUN)
            .args(options)
            .arg(image)
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Starts an image.
    pub fn serve(&self, options: &[&str], image: &str) -> Container<'_> {
        let run = [&["run", "--detach"], RUN, options, &[image]].concat();
        Container { podman: self, id: self.says(&run).trim().to_owned() }
    }

    fn context(&self) -> PathBuf {
        self.folder.path().join("context")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut podman = Command::new("podman");
        podman.args(["--runtime=runc", "--cgroup-manager=cgroupfs", "--storage-driver=vfs"]);
        for (option, folder) in [("--root", "store"), ("--runroot", "run")] {
            podman.arg(option).arg(self.folder.path().join(folder));
        }
        podman.args(args).stdin(Stdio::null());
        podman
    }

    fn says(&self, args: &[&str]) -> String {
        said(&mut self.command(args))
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _gone = self.command(&["rm", "--all", "--force", "--volumes", "--time=0"]).output();
    }
}

impl Container<'_> {
    /// What podman knows of it.
    pub fn state(&self) -> Value {
        let known: Value = serde_json::from_str(&self.podman.says(&["inspect", &self.id])).unwrap();
        known[0]["State"].clone()
    }

    /// Runs its health check, and tells what podman then holds it for: `starting`, `healthy` or `unhealthy`.
    pub fn health(&self) -> String {
        self.podman.command(&["healthcheck", "run", &self.id]).output().unwrap();
        self.state()["Health"]["Status"].as_str().expect("a health check").to_owned()
    }

    /// Runs a command in it.
    pub fn exec(&self, command: &[&str]) -> Output {
        self.podman.command(&["exec", &self.id]).args(command).output().unwrap()
    }

    /// The users that its processes run as, by number.
    pub fn users(&self) -> Vec<String> {
        let table = self.podman.says(&["top", &self.id, "huser"]);
        table.lines().skip(1).map(|user| user.trim().to_owned()).collect()
    }

    /// Asks it to end, and tells its exit code.
    pub fn stop(&self) -> i64 {
        self.podman.says(&["stop", "--time=60", &self.id]);
        self.state()["ExitCode"].as_i64().unwrap()
    }

    pub fn log(&self) -> String {
        let output = self.podman.command(&["logs", &self.id]).output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }
}

/// A file of the project.
pub fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Its output; it must succeed.
pub fn said(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
