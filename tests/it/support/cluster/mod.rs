//! A real Kubernetes control plane on loopback: etcd, kube-apiserver, kube-controller-manager and kube-scheduler, with nodes
//! and kubelets played by kwok ([`kubelet`]). Nothing runs in its pods, and no network policy is enforced; all else is real.
//!
//! Nothing of it outlives the test process, however that ends: the kernel ends the servers with the thread that has started
//! them, and a shell that waits for our end removes the folder.

pub mod admission;
pub mod kubelet;
mod process;
pub mod rancher;
mod requests;

use std::{
    env,
    ffi::OsString,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client, Config,
    api::PostParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpSocket, sync::OnceCell};

use super::{
    PATIENCE, free_address,
    parts::part,
    tls::{Authority, key_pair},
    until,
    wire::Wire,
};
use process::{Folder, Process};
pub use requests::Request;

/// Each test process has one that all its tests use; [`Cluster::own`] starts another one.
static SHARED: OnceCell<Option<Cluster>> = OnceCell::const_new();

/// Who the tests are.
const ADMIN: &str = "tests";
/// Who the servers of the control plane are; they are not counted.
const SERVERS: &str = "control-plane";
/// Where [`Cluster::account`] keeps its accounts.
const ACCOUNTS: &str = "accounts";

/// etcd's socket, in the folder; it has to look like a host and a port.
const ETCD: &str = "unix://etcd:1";
/// What the containers write, in the folder.
const LOG: &str = "container.log";
const PREVIOUS_LOG: &str = "previous.log";

/// So many lines every container has written, `line 1` and so on, unless [`Cluster::container_writes`] says otherwise.
pub const LOG_LINES: usize = 40;

/// A running control plane.
pub struct Cluster {
    port: Port,
    authority: String,
    servers: Servers,
    // Removed after the servers have ended.
    home: Folder,
}

/// A port of loopback that is ours as long as this is there, whether the API server listens on it or not: nobody gets it by
/// chance or while that starts again, and who connects meanwhile is refused.
struct Port {
    address: SocketAddr,
    _held: TcpSocket,
}

impl Port {
    fn hold() -> Self {
        let held = TcpSocket::new_v4().unwrap();
        held.set_reuseport(true).unwrap();
        held.bind(([127, 0, 0, 1], 0).into()).unwrap();
        Self { address: held.local_addr().unwrap(), _held: held }
    }
}

struct Servers {
    etcd: Process,
    api: Process,
    rest: Vec<Process>,
}

impl Cluster {
    /// The one of this test process; started by the first who asks. Nothing where the parts are not built, which is said,
    /// and is a failure under `GREENROOM_TEST_REQUIRE_ALL=1`. Tests share it: name namespaces as nobody else does, and leave
    /// the servers alone.
    pub async fn start() -> Option<&'static Self> {
        let shared = SHARED.get_or_init(|| async { Some(Self::launch(&Parts::find()?).await) });
        shared.await.as_ref()
    }

    /// One for a test that kills and restarts the API server; ended when it drops.
    pub async fn own() -> Option<Self> {
        Some(Self::launch(&Parts::find()?).await)
    }

    async fn launch(parts: &Parts) -> Self {
        let home = Folder::new();
        let folder = home.path.as_path();
        let (port, kubelets) = (Port::hold(), free_address());
        let api = port.address;
        let authority = Authority::new();
        let file = |name: &str, text: &str| write(folder, name, text);
        let (certificate, key) = authority.certify(&["127.0.0.1", "localhost"]);
        let [certificate, key] = [file("api.crt", &certificate), file("api.key", &key)];
        // They sign the tokens of service accounts, and prove them.
        let (private, public) = key_pair();
        let [private, public] = [file("accounts.key", &private), file("accounts.pub", &public)];
        let ca = file("ca.crt", &authority.pem());
        let tokens =
            [ADMIN, SERVERS].map(|user| format!("{},{user},{user},system:masters\n", token(user))).concat();
        let tokens = file("tokens.csv", &tokens);
        let audit = file("audit.yaml", &requests::policy(SERVERS));
        let server = format!("https://{api}");
        let kubeconfig = file("servers.kubeconfig", &kubeconfig(&server, &authority.pem(), &token(SERVERS)));
        file("kubeconfig", &self::kubeconfig(&server, &authority.pem(), &token(ADMIN)));
        let kwok = file("kwok.yaml", &kubelet::configuration(&folder.join(LOG), &folder.join(PREVIOUS_LOG)));

        let database = Process::start(
            &parts.binary("etcd"),
            folder,
            &[
                "--data-dir=etcd".to_owned(),
                "--unsafe-no-fsync".to_owned(),
                // Sockets in the folder, which take no port, and which no other test can take for its own.
                format!("--listen-client-urls={ETCD}"),
                format!("--advertise-client-urls={ETCD}"),
                "--listen-peer-urls=unix://peer:1".to_owned(),
            ],
        );
        let server = Process::start(
            &parts.binary("kube-apiserver"),
            folder,
            &[
                format!("--secure-port={}", api.port()),
                format!("--bind-address={}", api.ip()),
                "--permit-port-sharing".to_owned(),
                format!("--tls-cert-file={certificate}"),
                format!("--tls-private-key-file={key}"),
                format!("--etcd-servers={ETCD}"),
                "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
                format!("--service-account-key-file={public}"),
                format!("--service-account-signing-key-file={private}"),
                format!("--token-auth-file={tokens}"),
                "--authorization-mode=RBAC,Node".to_owned(),
                "--endpoint-reconciler-type=none".to_owned(),
                "--service-cluster-ip-range=10.96.0.0/12".to_owned(),
                "--kubelet-preferred-address-types=InternalIP".to_owned(),
                format!("--audit-policy-file={audit}"),
                format!("--audit-log-path={}", folder.join(requests::LOG).display()),
            ],
        );
        let mut cluster = Self {
            port,
            authority: authority.pem(),
            servers: Servers { etcd: database, api: server, rest: Vec::new() },
            home,
        };
        cluster.container_writes(&(1..=LOG_LINES).map(|n| format!("line {n}")).collect::<Vec<_>>());
        cluster.answers().await;

        let program = |name: &str, args: &[String]| {
            let args = [&[format!("--kubeconfig={kubeconfig}")], args].concat();
            Process::start(&parts.binary(name), cluster.folder(), &args)
        };
        // Their stock 20 requests a second would be all that a test of many previews measures.
        let unhurried =
            ["--kube-api-qps=1000", "--kube-api-burst=2000", "--leader-elect=false", "--secure-port=0"];
        let unhurried = unhurried.map(str::to_owned);
        let of_controllers = [
            "--use-service-account-credentials".to_owned(),
            format!("--service-account-private-key-file={private}"),
            format!("--root-ca-file={ca}"),
            "--concurrent-namespace-syncs=50".to_owned(),
            // No node is ever NotReady, however long the API server is away or everybody slow: pods would stay unready for
            // good, which a kubelet would mend and kwok does not.
            "--node-monitor-grace-period=24h".to_owned(),
        ];
        let controllers = program("kube-controller-manager", &[&unhurried[..], &of_controllers].concat());
        let scheduler = program("kube-scheduler", &unhurried);
        let nodes = program(
            "kwok",
            &[
                format!("--config={kwok}"),
                "--manage-all-nodes=true".to_owned(),
                // Nobody asks for them, see above.
                "--node-lease-duration-seconds=0".to_owned(),
                format!("--server-address={kubelets}"),
                format!("--node-ip={}", kubelets.ip()),
                format!("--node-port={}", kubelets.port()),
            ],
        );
        cluster.servers.rest = vec![controllers, scheduler, nodes];
        cluster.add_node("node-1").await;
        cluster.kubectl(&["create", "namespace", ACCOUNTS], "").await;
        cluster
    }

    /// Waits until the API server says that it is ready.
    async fn answers(&self) {
        until("the API server is ready", PATIENCE * 3, || async {
            self.all_run();
            let ready = http::Request::get("/readyz").body(Vec::new()).unwrap();
            self.client().await.request_text(ready).await
        })
        .await;
    }

    /// Panics if one of the servers has ended by itself.
    fn all_run(&self) {
        let Servers { etcd, api, rest } = &self.servers;
        [etcd, api].into_iter().chain(rest).for_each(Process::must_run);
    }

    /// Where a client of the API server finds it, and the certificate it proves itself with, as an administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder().join("kubeconfig")
    }

    /// A kubeconfig with this token, such as one that was revoked.
    pub fn kubeconfig_with(&self, token: &str) -> PathBuf {
        self.kubeconfig_at(&format!("https://{}", self.port.address), token)
    }

    fn kubeconfig_at(&self, server: &str, token: &str) -> PathBuf {
        let name = format!("{}.kubeconfig", uuid::Uuid::new_v4().simple());
        write(self.folder(), &name, &kubeconfig(server, &self.authority, token)).into()
    }

    /// A wire to the API server, and an administrator's kubeconfig that leads through it.
    pub async fn wire(&self) -> (Wire, PathBuf) {
        let api = format!("https://{}", self.port.address).parse().unwrap();
        let wire = Wire::to_cluster(&api, &self.authority).await;
        let kubeconfig = self.kubeconfig_at(wire.url().as_str().trim_end_matches('/'), &token(ADMIN));
        (wire, kubeconfig)
    }

    /// The kubeconfig of a new service account that may do whatever these rules of a ClusterRole say, in all namespaces.
    /// Requests are counted by its [`user`].
    pub async fn account(&self, name: &str, rules: &Value) -> PathBuf {
        let role = format!("{ACCOUNTS}-{name}");
        let group = "rbac.authorization.k8s.io";
        let objects = [
            json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name, "namespace": ACCOUNTS } }),
            json!({ "apiVersion": format!("{group}/v1"), "kind": "ClusterRole", "metadata": { "name": role }, "rules": rules }),
            json!({
                "apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding", "metadata": { "name": role },
                "roleRef": { "apiGroup": group, "kind": "ClusterRole", "name": role },
                "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": ACCOUNTS }],
            }),
        ];
        self.apply(&objects.map(|object| object.to_string()).join("\n---\n")).await;
        self.kubeconfig_of(ACCOUNTS, name).await
    }

    /// The kubeconfig of a service account that may do everything; for whoever is to be counted apart from others.
    pub async fn administrator(&self, name: &str) -> PathBuf {
        let everything = json!([
            { "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"] },
            { "nonResourceURLs": ["*"], "verbs": ["*"] },
        ]);
        self.account(name, &everything).await
    }

    /// The kubeconfig of a service account that is there.
    pub async fn kubeconfig_of(&self, namespace: &str, account: &str) -> PathBuf {
        let token = self.kubectl(&["create", "token", account, "--namespace", namespace], "").await;
        self.kubeconfig_with(token.trim())
    }

    /// An administrator's client. Each test asks for its own: connections belong to a test's runtime.
    pub async fn client(&self) -> Client {
        self.client_of(&self.kubeconfig()).await
    }

    /// The client of whom this kubeconfig is for.
    pub async fn client_of(&self, kubeconfig: &Path) -> Client {
        let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        Client::try_from(config).unwrap()
    }

    /// Runs kubectl as administrator with this on its standard input, and takes nothing but success; what it printed.
    pub async fn kubectl(&self, args: &[&str], input: &str) -> String {
        let mut command = tokio::process::Command::new(Parts::find().expect("the parts").binary("kubectl"));
        command.args(args).env_clear().env("KUBECONFIG", self.kubeconfig()).env("HOME", self.folder());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // Small enough for the pipe, or read at once.
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
        let output = child.wait_with_output().await.unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {args:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Brings these objects there, YAML or JSON documents.
    pub async fn apply(&self, documents: &str) {
        self.kubectl(&["apply", "--server-side", "--filename", "-"], documents).await;
    }

    /// One object in JSON; nothing where it is not there. `kind` as kubectl takes it, such as `deployments.apps`.
    pub async fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let args = ["get", kind, name, "--namespace", namespace, "--ignore-not-found", "--output=json"];
        let text = self.kubectl(&args, "").await;
        (!text.is_empty()).then(|| serde_json::from_str(&text).expect("JSON"))
    }

    /// All objects of a kind in a namespace, in JSON.
    pub async fn list(&self, kind: &str, namespace: &str) -> Vec<Value> {
        let text = self.kubectl(&["get", kind, "--namespace", namespace, "--output=json"], "").await;
        let list: Value = serde_json::from_str(&text).expect("JSON");
        list["items"].as_array().expect("a list").clone()
    }

    /// Adds a node on which 1,000 pods find place, with 64 processors and 256 GiB; returns when it takes pods.
    pub async fn add_node(&self, name: &str) {
        let room = json!({ "cpu": "64", "memory": "256Gi", "ephemeral-storage": "1Ti", "pods": "1000" });
        let labels = json!({
            "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
        });
        let node = json!({
            "metadata": { "name": name, "labels": labels }, "status": { "capacity": room, "allocatable": room },
        });
        let nodes = Api::<Node>::all(self.client().await);
        nodes.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await.unwrap();
        until(&format!("{name} takes pods"), PATIENCE, || async {
            self.all_run();
            let node = nodes.get(name).await.unwrap();
            let conditions = node.status.unwrap_or_default().conditions.unwrap_or_default();
            let ready = conditions.iter().any(|one| one.type_ == "Ready" && one.status == "True");
            let spec = node.spec.unwrap_or_default();
            let taints = spec.taints.unwrap_or_default();
            if ready && taints.is_empty() { Ok(()) } else { Err((conditions, taints)) }
        })
        .await;
    }

    /// What every container has written from now on, oldest line first, the one before it was started again included.
    pub fn container_writes<S: AsRef<str>>(&self, lines: &[S]) {
        self.write_log(LOG, lines);
        self.container_wrote_before(lines);
    }

    /// What every container has written before it was started again.
    pub fn container_wrote_before<S: AsRef<str>>(&self, lines: &[S]) {
        self.write_log(PREVIOUS_LOG, lines);
    }

    fn write_log<S: AsRef<str>>(&self, log: &str, lines: &[S]) {
        let cri = |line: &S| format!("2026-01-01T00:00:00.000000000Z stderr F {}", line.as_ref());
        write(self.folder(), log, &(lines.iter().map(cri).collect::<Vec<_>>().join("\n") + "\n"));
    }

    /// `kill -9` for the API server. The others go on without it.
    pub fn kill_api(&self) {
        self.servers.api.kill();
    }

    /// The same for a hook, which outlives the borrow.
    pub fn kill_switch(&self) -> impl Fn() + Send + Sync + 'static {
        let api = self.servers.api.clone();
        move || api.kill()
    }

    /// Starts the API server again if it does not run, at the same place, and waits until it is ready.
    pub async fn restart_api(&self) {
        self.servers.api.kill();
        self.servers.api.restart();
        self.answers().await;
    }

    /// The API server takes connections and answers nothing, until [`Self::thaw_api`].
    pub fn freeze_api(&self) {
        self.servers.api.signal(Signal::STOP);
    }

    /// The same for a hook, which outlives the borrow.
    pub fn freeze_switch(&self) -> impl Fn() + Send + Sync + 'static {
        let api = self.servers.api.clone();
        move || api.signal(Signal::STOP)
    }

    /// Ends what [`Self::freeze_api`] began.
    pub fn thaw_api(&self) {
        self.servers.api.signal(Signal::CONT);
    }

    /// Every request so far that did not come from the control plane itself, in order of arrival; a watch is one request.
    pub fn requests(&self) -> Vec<Request> {
        requests::read(self.folder())
    }

    /// Those of the service account `name` of [`Self::account`].
    pub fn requests_of(&self, name: &str) -> Vec<Request> {
        let user = user(name);
        self.requests().into_iter().filter(|request| request.user == user).collect()
    }

    fn folder(&self) -> &Path {
        &self.home.path
    }
}

/// What the API server calls a service account of [`Cluster::account`].
pub fn user(account: &str) -> String {
    format!("system:serviceaccount:{ACCOUNTS}:{account}")
}

/// The folders in which the programs are, as `PATH` has them.
struct Parts(OsString);

impl Parts {
    fn find() -> Option<Self> {
        part("GREENROOM_TEST_CONTROL_PLANE", "previews on a real Kubernetes control plane").map(Self)
    }

    fn binary(&self, name: &str) -> PathBuf {
        let found = env::split_paths(&self.0).map(|folder| folder.join(name)).find(|file| file.is_file());
        found.unwrap_or_else(|| panic!("no {name} in GREENROOM_TEST_CONTROL_PLANE={}", self.0.display()))
    }
}

fn token(user: &str) -> String {
    format!("{user}-token")
}

fn kubeconfig(server: &str, authority: &str, token: &str) -> String {
    let authority = BASE64_STANDARD.encode(authority);
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
        "clusters": [{ "name": "test", "cluster": {
            "server": server, "certificate-authority-data": authority,
        } }],
        "users": [{ "name": "test", "user": { "token": token } }],
    });
    format!("{kubeconfig:#}\n")
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path.into_os_string().into_string().unwrap()
}
