//! The servers that are measured, each a child process on loopback that ends with its handle.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use anyhow::{Context, bail};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use sha2::Sha256;

use super::load::{SECRET_TOKEN, SIGNING_TOKEN};

/// How long a server may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server that runs.
pub struct Server {
    pub address: SocketAddr,
    child: Child,
    log: PathBuf,
}

impl Server {
    fn start(command: &mut Command, address: SocketAddr, folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(format!("{}.log", address.port()));
        let log = File::options().create(true).append(true).open(&path)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let mut server = Self { address, child, log: path };
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = server.child.try_wait()? {
                bail!("{command:?} ended at its start, {status}: {}", server.log());
            }
            if began.elapsed() > PATIENCE {
                bail!("{command:?} does not listen: {}", server.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    /// What it said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The most memory it ever had, in MiB (`VmHWM`).
    pub fn peak_memory(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    }

    /// The processor time that it and the children it waited for have taken, in seconds.
    pub fn cpu(&self) -> anyhow::Result<f64> {
        /// `USER_HZ`, which is 100 wherever Linux runs.
        const TICKS_PER_SECOND: f64 = 100.0;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let (_, fields) = stat.rsplit_once(')').context("no name")?;
        let ticks = fields.split_whitespace().skip(11).take(4).map(str::parse::<u32>);
        Ok(f64::from(ticks.sum::<Result<u32, _>>()?) / TICKS_PER_SECOND)
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(mut self) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let began = Instant::now();
        while self.child.try_wait()?.is_none() {
            if began.elapsed() > PATIENCE {
                bail!("it does not end: {}", self.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// `greenroom serve` as it is shipped, with its data in `folder`.
pub fn greenroom(folder: &Path, gitlab: &str, settings: &[(&str, &str)]) -> anyhow::Result<Server> {
    let address = free_address()?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_greenroom"));
    command
        .arg("serve")
        .env_clear()
        .env("GREENROOM_LISTEN", address.to_string())
        .env("GREENROOM_PUBLIC_URL", format!("http://{address}"))
        .env("GREENROOM_DATA_DIR", folder.join("data"))
        .env("GREENROOM_GITLAB_URL", gitlab)
        .env("GREENROOM_GITLAB_TOKEN", super::gitlab::BOT)
        .env("GREENROOM_GITLAB_RATE", "off")
        .env("GREENROOM_WEBHOOK_SIGNING_TOKEN", SIGNING_TOKEN)
        .envs(settings.iter().copied())
        .current_dir(folder);
    Server::start(&mut command, address, folder)
}

/// Debian's `webhook`, which knows the token; `runs` a command, or goes no further than reading the body.
pub fn webhook(folder: &Path, runs: bool) -> anyhow::Result<Server> {
    let address = free_address()?;
    let is = |source: &str, name: &str, value: &str| json!({ "match": { "type": "value", "value": value, "parameter": { "source": source, "name": name } } });
    let token = is("header", "X-Gitlab-Token", SECRET_TOKEN);
    let rule = if runs { token } else { json!({ "and": [token, is("payload", "object_kind", "none")] }) };
    let hooks = folder.join("hooks.json");
    let hook = json!([{ "id": "gitlab", "execute-command": "/bin/true", "trigger-rule": rule }]);
    std::fs::write(&hooks, hook.to_string())?;
    let mut command = Command::new("webhook");
    command.arg("-hooks").arg(hooks).args(["-urlprefix", "webhooks", "-ip", "127.0.0.1"]);
    command.args(["-port", &address.port().to_string()]);
    Server::start(&mut command, address, folder)
}

/// The least that a webhook server on actix has to do: this program again, as [`serve_bare`].
pub fn bare(folder: &Path) -> anyhow::Result<Server> {
    let address = free_address()?;
    let mut command = Command::new(std::env::current_exe()?);
    Server::start(command.arg("bare").arg(address.to_string()), address, folder)
}

/// Answers a delivery once it is read and its signature is computed.
pub fn serve_bare(address: &str) -> anyhow::Result<()> {
    let key = BASE64_STANDARD.decode(SIGNING_TOKEN.trim_start_matches("whsec_"))?;
    let key = web::Data::new(Hmac::<Sha256>::new_from_slice(&key)?);
    let handler = async |key: web::Data<Hmac<Sha256>>, request: HttpRequest, body: web::Bytes| {
        let mut mac = Hmac::clone(&key);
        for name in ["webhook-id", "webhook-timestamp"] {
            mac.update(request.headers().get(name).map_or(&[][..], |value| value.as_bytes()));
            mac.update(b".");
        }
        mac.update(&body);
        let signature = format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()));
        let given = request.headers().get("webhook-signature");
        if given.is_some_and(|given| given.as_bytes() == signature.as_bytes()) {
            HttpResponse::Accepted()
        } else {
            HttpResponse::Unauthorized()
        }
        .finish()
    };
    let app = move || App::new().app_data(key.clone()).route("/webhooks/gitlab", web::post().to(handler));
    let server = HttpServer::new(app).bind(address)?;
    actix_web::rt::System::new().block_on(server.run()).map_err(Into::into)
}
