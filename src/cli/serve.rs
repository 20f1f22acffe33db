//! `greenroom serve`: all rooms, wired.

use std::fs::{DirBuilder, File};
use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer, guard, web};
use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::clusters;
use super::desk;
use super::secrets::{SecretsInUse, webhook_secrets};
use super::{ConfigFlag, Failure};
use crate::checks::Asker;
use crate::clock::Clock;
use crate::engine::Engine;
use crate::engine::static_site::{Limits, StaticSite};
use crate::gateway::{self, Gateway};
use crate::gitlab::{self, ArtifactLimits, Credentials, Forge, Token};
use crate::hooks::Watch;
use crate::preview::{EngineKind, Place};
use crate::reconcile::{
    Awaited, Brake, Controller, Engines, Jobs, Links, Parts, Planner, Strays, forget_foreign_instances,
};
use crate::report::Reporter;
use crate::settings::{Layer, Origin, Settings};
use crate::store::{Retention, Store};
use crate::telemetry::{self, Deploys, GitLabUse, Health, Looks, Warning};
use crate::web::{self as api, Api, ApiToken, Readiness};
use crate::webhook::{self, Intake, SigningKey};

#[derive(Debug, clap::Args)]
pub(super) struct Flags {
    #[command(flatten)]
    config: ConfigFlag,
    /// Address to listen on; as GREENROOM_LISTEN.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Folder for everything that is kept; as GREENROOM_DATA_DIR.
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<String>,
    /// What to log, such as `info`, `debug` or `greenroom::reconcile=debug`.
    #[arg(
        long,
        value_name = "FILTER",
        default_value = "info,actix_server=warn,rustls_platform_verifier=off"
    )]
    log: String,
}

/// How long requests and looks that were begun may take to end.
const DRAIN: Duration = Duration::from_secs(20);

/// How long a request's head may take. GitLab hangs up after 10 s; until then a busy server must not tell it 408.
const REQUEST_HEAD: Duration = Duration::from_secs(15);

/// How often it is asked whether webhooks come as they should.
const WATCH: Duration = Duration::from_secs(30);

pub(super) async fn run(flags: Flags) -> Result<(), Failure> {
    let mut layer = Layer::default();
    layer.set("listen", flags.listen, Origin::Flag);
    layer.set("data_dir", flags.data_dir, Origin::Flag);
    let settings = Settings::load(flags.config.config.as_deref(), layer, check_signing_token)
        .map_err(|problems| Failure::Findings(problems.to_string()))?;
    telemetry::start(settings.log_json, &flags.log);
    let listener = TcpListener::bind(settings.listen)
        .with_context(|| format!("cannot listen on {} (GREENROOM_LISTEN)", settings.listen))?;
    let server = Server::start(settings, listener).await?;
    let ended = tokio::select! {
        asked = asked_to_end() => asked.map(|()| None)?,
        ended = server.ended() => Some(ended),
    };
    tracing::info!("stopping: what was begun is brought to its end");
    server.stop().await;
    match ended {
        None => Ok(()),
        Some(what) => Err(Failure::Failed(anyhow::anyhow!("{what} ended unexpectedly"))),
    }
}

/// Waits for SIGTERM or Ctrl-C.
pub(super) async fn asked_to_end() -> std::io::Result<()> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(())
}

/// For the settings: whether a signing token has the right form.
pub(super) fn check_signing_token(token: &str) -> Result<(), String> {
    token.parse::<SigningKey>().map(drop).map_err(|error| error.to_string())
}

/// A running server.
pub(super) struct Server {
    http: ServerHandle,
    http_task: JoinHandle<std::io::Result<()>>,
    controller: JoinHandle<()>,
    beside: TaskTracker,
    stop: CancellationToken,
    store: Store,
    _lock: Option<File>,
}

impl Server {
    /// Opens the store and starts everything. GitLab is not called yet.
    pub(super) async fn start(settings: Settings, listener: TcpListener) -> anyhow::Result<Self> {
        let address = listener.local_addr()?;
        let clock = Clock;
        let (store, lock) = open_store(&settings).await?;
        if lock.is_some() {
            // One process per SQLite file: whatever is leased was leased by one that died.
            store.release_all().await?;
        }
        let fresh = settings.instance.clone().unwrap_or_else(new_instance);
        let instance = store.remember("instance", &fresh).await?;
        if let Some(asked) = settings.instance.as_ref().filter(|asked| **asked != instance) {
            anyhow::bail!(
                "GREENROOM_INSTANCE is `{asked}`, but this store belongs to instance `{instance}`\nhint: unset it, or \
                 use the store of `{asked}`"
            );
        }

        let born = store.remember("born", &clock.now().to_string()).await?;

        let made = store.remember("password_key", &uuid::Uuid::new_v4().simple().to_string()).await?;
        let password_key = settings.password_key.clone().unwrap_or_else(|| made.into());
        forget_foreign_instances(&store).await?;
        let limits = Limits { archive_bytes: settings.artifact_max_bytes, ..Limits::default() };
        let sites = StaticSite::open(&settings.data_dir.join("static"), &instance, limits, clock)?;
        let (forge, credentials) = forge(&settings, paths(store.clone()))?;
        let looks = Arc::new(Looks::default());
        let deploys = Arc::new(Deploys::of(EngineKind::ALL.map(EngineKind::as_str)));
        let brake = Brake::new(settings.brake_settle, settings.resync_interval);
        let unseen_after = i64::try_from(settings.unseen_after.as_millis()).unwrap_or(i64::MAX);
        let health = Health::new(move || clock.now());
        let projects = settings.projects.clone();
        let per_project = settings.per_project.clone();
        let statuses = settings.per_project.clone();
        let filter = projects.clone();
        let served: Arc<dyn Fn(&str) -> bool + Send + Sync> = Arc::new(move |path| filter.serves(path));
        let uploads = desk::uploads(&settings)?;
        let (engines, reached) =
            clusters::engines(&settings.clusters, &settings.roots, &instance, clock).await;
        let engines = Engines::new(
            std::iter::once((Place::STATIC, Arc::clone(&sites) as Arc<dyn Engine>)).chain(engines),
        );
        let (on_cluster, preview_links) = (settings.per_project.clone(), links(&settings));
        let watched_projects = Arc::clone(&served);
        let parts = Parts {
            store: store.clone(),
            forge: forge.clone(),
            engines: engines.clone(),
            strays: Strays::default(),
            on_cluster: Arc::new(move |path| {
                clusters::on_cluster(&preview_links, &on_cluster.of(path).on_cluster)
            }),
            tools: clusters::tools(),
            asker: Arc::new(Asker::new(&settings.roots)?),
            password_key: Some(password_key),
            reporter: Reporter::new(forge.clone(), instance.clone()),
            links: links(&settings),
            clock,
            incoming: sites.incoming().to_owned(),
            uploads: uploads.clone(),
            limits: ArtifactLimits { bytes: settings.artifact_max_bytes },
            served: Arc::clone(&served),
            rules: Arc::new(move |path| per_project.of(path).rules()),
            commit_status: Arc::new(move |path| statuses.of(path).commit_status.value),
            named_projects: projects.named().to_vec(),
            born: born.parse().unwrap_or(i64::MAX),
            has_wildcards: projects.has_wildcards(),
            health: health.clone(),
            looks: Arc::clone(&looks),
            deploys: Arc::clone(&deploys),
            awaited: Awaited::default(),
            brake,
            unseen_after,
            instance_is_chosen: settings.instance.is_some(),
        };
        let planner = Planner::new(parts.clone());
        let controller = Controller::new(parts);

        let secrets = webhook_secrets(&settings.signing_tokens, &settings.secret_tokens)?;
        let intake = web::Data::new(Intake::new(
            secrets,
            Box::new(move |path| projects.serves(path)),
            store.clone(),
            clock,
        ));
        let api_token = ApiToken::new(settings.api_token.clone());
        let secrets =
            SecretsInUse::new(&settings, credentials, forge.clone(), intake.clone(), api_token.clone());
        let (counts, hooks, calls) = (intake.clone(), intake.clone(), forge.clone());
        let stop = CancellationToken::new();
        let jobs = Jobs { forge: forge.clone(), store: store.clone(), served: Arc::clone(&served) };
        let desk = desk::desk(&settings, jobs, planner.clone(), uploads, stop.clone())?;
        let desk = web::Data::new(desk);
        let api = web::Data::new(Api {
            store: store.clone(),
            readiness: Readiness::default(),
            clock,
            token: api_token,
            looks,
            deploys,
            deliveries: Arc::new(move || counts.counts().map(|(outcome, n)| (outcome.as_str(), n)).collect()),
            gitlab: Arc::new(move || GitLabUse {
                calls: calls.calls().snapshot().to_vec(),
                endpoints: calls.calls().by_endpoint().collect(),
                budget_left: calls.budget().map(|budget| budget.left),
            }),
            health: health.clone(),
            brake,
            engines,
            planner,
            served,
            unseen_after,
            instance: instance.clone(),
        });
        let gateway = web::Data::new(Gateway::new(&settings.preview_domain, sites, store.clone()));

        let http = HttpServer::new(move || {
            let previews = gateway.clone();
            let is_unclear = |context: &guard::GuardContext<'_>| !gateway::names_its_host(context.head());
            let is_preview = move |context: &guard::GuardContext<'_>| previews.owns_request(context.head());
            App::new()
                .app_data(gateway.clone())
                .app_data(intake.clone())
                .app_data(api.clone())
                .app_data(desk.clone())
                .service(
                    web::scope("")
                        .guard(guard::fn_guard(is_unclear))
                        .default_service(web::to(api::unclear_host)),
                )
                .service(
                    web::scope("")
                        .guard(guard::fn_guard(is_preview))
                        .default_service(web::to(gateway::handle)),
                )
                .configure(webhook::configure)
                .configure(api::configure)
        })
        // Head and body of a file are written one after the other; the body must not wait for the head to be acknowledged.
        .tcp_nodelay(true)
        .client_request_timeout(REQUEST_HEAD)
        .disable_signals()
        .shutdown_timeout(DRAIN.as_secs())
        .listen(listener)?
        .run();
        let handle = http.handle();
        let http_task = tokio::spawn(http);
        let retention = Retention { deliveries: settings.keep_deliveries, history: settings.keep_history };
        let run = controller.run(settings.resync_interval, retention, stop.clone());
        let controller = tokio::spawn(run);
        let every = settings.resync_interval.min(WATCH);
        let remedy = "change the setting and start greenroom again";
        let found = settings.warnings.iter().map(|text| Warning::new("settings", text, remedy));
        health.set("settings", found.collect());
        let beside = TaskTracker::new();
        beside.spawn(webhook::watch(hooks, health.clone(), every, settings.resync_interval, stop.clone()));
        beside.spawn(secrets.follow(settings.secret_files, stop.clone()));
        beside.spawn(clusters::watch(reached, health.clone(), store.clone(), clock, stop.clone()));
        let (asked, watched, webhooks) = (stop.clone(), forge.clone(), health.clone());
        beside.spawn(async move { forge.watch_health(|found| health.set("gitlab", found), &asked).await });
        if let Some(every) = settings.watch_webhooks {
            let (store, url) = (store.clone(), settings.webhook_url.clone());
            let watch =
                Watch { store, forge: watched, health: webhooks, served: watched_projects, url, every };
            beside.spawn(watch.run(stop.clone()));
        }
        beside.close();
        tracing::info!(%address, instance, gitlab = %settings.gitlab_url, "serving");
        Ok(Self { http: handle, http_task, controller, beside, stop, store, _lock: lock })
    }

    /// Waits until a part ends that should not; names it.
    async fn ended(&self) -> &'static str {
        loop {
            if self.http_task.is_finished() {
                return "the web server";
            }
            if self.controller.is_finished() {
                return "the controller";
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Takes no more work, brings to its end what was begun, closes the store.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        let drained = async {
            let ((), controller, ()) =
                tokio::join!(self.http.stop(true), self.controller, self.beside.wait());
            if let Err(error) = controller {
                tracing::error!(%error, "the controller did not end well");
            }
        };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            tracing::warn!(
                "some work did not end in time; its lease runs out and it is done again at the next start"
            );
        }
        self.store.close().await;
    }
}

/// Project paths as verified webhooks told them.
fn paths(store: Store) -> gitlab::Paths {
    Arc::new(move |project| {
        let store = store.clone();
        Box::pin(async move {
            store.project_path(project).await.unwrap_or_else(|error| {
                tracing::warn!(project.id = project, %error, "the path of a project cannot be read");
                None
            })
        })
    })
}

/// Opens the store; with SQLite for this process alone, as long as the lock is held.
pub(super) async fn open_store(settings: &Settings) -> anyhow::Result<(Store, Option<File>)> {
    // The store holds a key to passwords, and a project's files may be private.
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&settings.data_dir)
        .with_context(|| format!("cannot create {} (GREENROOM_DATA_DIR)", settings.data_dir.display()))?;
    // Before anything is touched: somebody else may be at work in there.
    let lock = if Store::is_shared(&settings.store_url) { None } else { Some(lock(&settings.data_dir)?) };
    Ok((Store::open(&settings.store_url).await?, lock))
}

fn links(settings: &Settings) -> Links {
    Links {
        scheme: settings.public_url.scheme().to_owned(),
        domain: settings.preview_domain.clone(),
        port: settings.public_url.port(),
    }
}

/// GitLab as the settings name it, and the tokens for it.
pub(super) fn forge(
    settings: &Settings,
    paths: gitlab::Paths,
) -> Result<(Forge, Credentials), gitlab::Error> {
    let credentials = credentials(settings);
    let forge = Forge::new(gitlab::Settings {
        url: settings.gitlab_url.clone(),
        credentials: credentials.clone(),
        timeout: settings.gitlab_timeout,
        rate: settings.gitlab_rate,
        roots: settings.roots.clone(),
        paths,
    })?;
    Ok((forge, credentials))
}

/// The tokens for GitLab, each with the projects it is for.
fn credentials(settings: &Settings) -> Credentials {
    let default =
        Token { name: String::from("GREENROOM_GITLAB_TOKEN"), secret: settings.gitlab_token.clone() };
    let own = settings.per_project.token_files().map(|(projects, file)| {
        (projects.clone(), Token { name: file.origin.clone(), secret: file.value.token.clone() })
    });
    Credentials { default, projects: own.collect() }
}

fn new_instance() -> String {
    uuid::Uuid::new_v4().simple().to_string().chars().take(12).collect()
}

fn lock(folder: &Path) -> anyhow::Result<File> {
    let path = folder.join("lock");
    let file = File::create(&path)
        .with_context(|| format!("cannot write into {} (GREENROOM_DATA_DIR)", folder.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => anyhow::bail!(
            "another greenroom uses the data folder {}\nhint: stop it, or give this one a folder of its own \
             (GREENROOM_DATA_DIR)",
            folder.display()
        ),
        Err(std::fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}
