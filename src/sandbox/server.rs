//! Two listeners, the API and the object storage, and the task that sends webhooks.

use super::{
    Config, control, delivery, deployments, environments, hooks, id_tokens, instance, jobs, journal,
    merge_requests, notes,
    params::Params,
    pipelines, projects,
    refusal::Refusal,
    repository,
    state::{Shared, State},
    statuses, users,
};
use actix_web::{App, HttpServer, dev::ServerHandle, middleware::from_fn, web};
use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};
use tokio::task::JoinHandle;

/// Largest request body.
const MAX_BODY: usize = 64 << 20;

/// How long a connection may say nothing.
const PATIENCE: Duration = Duration::from_mins(1);

/// Why the sandbox did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The HTTP client for webhooks cannot be made.
    #[error("cannot make the webhook client")]
    Client(#[from] reqwest::Error),
    /// The start configuration is one that GitLab would refuse.
    #[error("`{0}` is not a project path such as `acme/web`, or the webhook's URL is not http")]
    Config(String),
}

/// A running sandbox. It ends with [`Sandbox::stop`] or with the runtime.
#[derive(Debug)]
pub struct Sandbox {
    url: String,
    listeners: [ServerHandle; 2],
    sender: JoinHandle<()>,
}

impl Sandbox {
    /// The instance's address, such as `http://127.0.0.1:8929`, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Stops listening and sending.
    pub async fn stop(self) {
        self.sender.abort();
        // Their tasks end with them. One that is aborted meanwhile may leave its stop unanswered for ever.
        for listener in self.listeners {
            listener.stop(false).await;
        }
    }
}

pub(super) async fn start(config: &Config) -> Result<Sandbox, Error> {
    let api_socket = listen(config.listen).await?;
    let storage_socket = listen(SocketAddr::new(config.listen.ip(), 0)).await?;
    let address = |listener: &TcpListener| listener.local_addr().map(|address| format!("http://{address}"));
    let failed = |source| Error::Listen { address: config.listen, source };
    let url = address(&api_socket).map_err(failed)?;
    let storage_url = address(&storage_socket).map_err(failed)?;

    let (outbox, fired) = tokio::sync::mpsc::unbounded_channel();
    let mut state = State::new(url.clone(), storage_url, outbox);
    furnish(&mut state, config).map_err(|_| Error::Config(config.project.clone()))?;
    // A connection for each delivery, as GitLab does: a kept one may end just when the next delivery is sent.
    let http = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .pool_max_idle_per_host(0)
        .build()?;
    let shared = Arc::new(Shared::new(state, http));
    let sender = tokio::spawn(delivery::run(Arc::clone(&shared), fired));

    let gitlab = web::Data::from(shared);
    let for_storage = gitlab.clone();
    let api = HttpServer::new(move || {
        App::new()
            .app_data(gitlab.clone())
            .app_data(web::PayloadConfig::new(MAX_BODY))
            .service(web::scope("/sandbox").configure(control::routes))
            .service(web::scope("/api/v4").wrap(from_fn(journal::record)).configure(routes))
            .service(
                web::resource("/.well-known/openid-configuration")
                    .wrap(from_fn(journal::record))
                    .get(id_tokens::discovery),
            )
            .service(
                web::resource("/oauth/discovery/keys").wrap(from_fn(journal::record)).get(id_tokens::keys),
            )
    });
    let storage = HttpServer::new(move || {
        App::new()
            .app_data(for_storage.clone())
            .route("/artifacts/{secret}/artifacts.zip", web::get().to(jobs::download))
    });
    // GitLab's front waits long for a request; 408 into a connection that a client keeps in store would be ours alone.
    let (api, storage) = (api.client_request_timeout(PATIENCE), storage.client_request_timeout(PATIENCE));
    let (api, storage) = (api.keep_alive(PATIENCE), storage.keep_alive(PATIENCE));
    let api = api.workers(2).disable_signals().listen(api_socket).map_err(failed)?.run();
    let storage = storage.workers(1).disable_signals().listen(storage_socket).map_err(failed)?.run();
    let listeners = [api.handle(), storage.handle()];
    for server in [api, storage] {
        tokio::spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "the sandbox stopped serving");
            }
        });
    }
    Ok(Sandbox { url, listeners, sender })
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    let listener = tokio::net::TcpListener::bind(address).await.and_then(tokio::net::TcpListener::into_std);
    listener.map_err(|source| Error::Listen { address, source })
}

fn routes(api: &mut web::ServiceConfig) {
    let nouns = [
        instance::routes,
        users::routes,
        projects::routes,
        repository::routes,
        merge_requests::routes,
        notes::routes,
        pipelines::routes,
        jobs::routes,
        statuses::routes,
        environments::routes,
        deployments::routes,
        hooks::routes,
    ];
    for routes in nouns {
        routes(api);
    }
    api.default_service(web::route().to(async || Err::<String, _>(Refusal::not_found(""))));
}

/// The person, the project, its bot and its webhook.
fn furnish(state: &mut State, config: &Config) -> Result<(), Refusal> {
    let scope = ["api".to_owned()];
    let dev = state.add_user(control::DEV, "Dana Developer", false);
    state.add_token(dev, "dev-token", &scope, None);
    let project = state.create_project(&config.project, dev, "private")?;
    let random = uuid::Uuid::new_v4().simple().to_string();
    let bot = state.add_user(&format!("project_{project}_bot_{random}"), "greenroom", true);
    state.add_token(bot, &config.token, &scope, None);
    state.admit_bot(project, users::MAINTAINER)?;
    if let Some(webhook) = &config.webhook {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("url", webhook.as_str());
        for event in [
            "merge_requests",
            "pipeline",
            "job",
            "push",
            "tag_push",
            "note",
            "confidential_note",
            "deployment",
        ] {
            query.append_pair(&format!("{event}_events"), "true");
        }
        for (name, token) in [("token", &config.secret_token), ("signing_token", &config.signing_token)] {
            if let Some(token) = token {
                query.append_pair(name, token);
            }
        }
        state.add_hook(project, &Params::from_query(&query.finish()))?;
    }
    Ok(())
}
