//! The clusters of the settings, connected; and what the settings say of previews on them, in the engine's words.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::header::AUTHORIZATION;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Api, Client, Config};
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use tower::util::MapRequestLayer;

use crate::clock::Clock;
use crate::engine::Engine;
use crate::engine::kubernetes::{Egress, Kubernetes, PodSecurity, Profile};
use crate::outgoing::Roots;
use crate::preview::Place;
use crate::reconcile::{Links, OnCluster};
use crate::render::kubernetes::{Exception, Exposure, ManifestRules, Tools};
use crate::settings::{self, Access, Cluster, PodSecurityLevel};
use crate::store::Store;
use crate::telemetry::{Health, Warning};

/// How long a revision may take to become ready, unless the settings say otherwise.
const READY_WITHIN: Duration = Duration::from_mins(10);

/// How often a cluster is asked whether all is well there.
const WATCH: Duration = Duration::from_secs(30);

/// The same while it is not: the end of it is worth knowing soon.
const WATCH_TROUBLE: Duration = Duration::from_secs(5);

/// How long a cluster may take to say what we may do.
const PATIENCE: Duration = Duration::from_secs(10);

/// A cluster as it was found at the start: a way to ask it, or why there is none.
pub(super) struct Reached {
    name: String,
    client: Result<Client, String>,
}

impl Reached {
    /// Why there is no way to it, if there is none.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.client.as_ref().err().map(String::as_str)
    }
}

/// The engines for the clusters. Nothing is asked of a cluster here: one that is down keeps nobody from starting.
pub(super) async fn engines(
    clusters: &[Cluster],
    roots: &Roots,
    instance: &str,
    clock: Clock,
) -> (Vec<(Place, Arc<dyn Engine>)>, Vec<Reached>) {
    let mut by_address: HashMap<String, Arc<dyn Engine>> = HashMap::new();
    let (mut engines, mut reached) = (Vec::new(), Vec::new());
    for cluster in clusters {
        let config = match config(&cluster.access, roots).await {
            Ok(Some(config)) => config,
            Ok(None) => continue,
            Err(why) => {
                tracing::error!(
                    cluster = cluster.name,
                    setting = cluster.origin,
                    error = why,
                    "no way to a cluster"
                );
                reached.push(Reached { name: cluster.name.clone(), client: Err(told(cluster, &why)) });
                continue;
            }
        };
        let address = config.cluster_url.to_string();
        let client = match client(config, &cluster.access) {
            Ok(client) => client,
            Err(error) => {
                reached.push(Reached {
                    name: cluster.name.clone(),
                    client: Err(told(cluster, &error.to_string())),
                });
                continue;
            }
        };
        // Two names for one cluster are one engine: a move between them must remove nothing.
        let engine = by_address.entry(address).or_insert_with(|| {
            let engine: Arc<dyn Engine> = Kubernetes::connect(client.clone(), &cluster.name, instance, clock);
            engine
        });
        engines.push((Place::cluster(&cluster.name), Arc::clone(engine)));
        reached.push(Reached { name: cluster.name.clone(), client: Ok(client) });
    }
    (engines, reached)
}

fn told(cluster: &Cluster, why: &str) -> String {
    format!("there is no way to the cluster `{}` ({}): {why}", cluster.name, cluster.origin)
}

/// How a cluster is reached; nothing when the usual rules lead nowhere, which is no mistake. Where nothing says whose
/// certificates it has, `roots` are trusted as everywhere.
async fn config(access: &Access, roots: &Roots) -> Result<Option<Config>, String> {
    let mut config = match access {
        Access::Usual => match Config::from_kubeconfig(&KubeConfigOptions::default()).await {
            Ok(config) => config,
            Err(error) => match Config::incluster() {
                Ok(config) => config,
                Err(_) if is_none(&error) => return Ok(None),
                Err(_) => return Err(error.to_string()),
            },
        },
        Access::Kubeconfig { path, context } => {
            let kubeconfig = Kubeconfig::read_from(path).map_err(|error| error.to_string())?;
            let options = KubeConfigOptions { context: context.clone(), ..KubeConfigOptions::default() };
            let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
            config.map_err(|error| error.to_string())?
        }
        Access::Rancher { url, cluster, .. } => {
            let address = format!("{}/k8s/clusters/{cluster}", url.as_str().trim_end_matches('/'));
            Config::new(address.parse().map_err(|_| String::from("its address is none"))?)
        }
    };
    if config.root_cert.is_none() {
        config.root_cert = roots.with_the_systems();
    }
    Ok(Some(config))
}

/// Whether there is just no kubeconfig, or one that chooses no cluster, which is no mistake.
fn is_none(error: &KubeconfigError) -> bool {
    match error {
        KubeconfigError::FindPath | KubeconfigError::CurrentContextNotSet => true,
        KubeconfigError::ReadConfig(error, _) => error.kind() == std::io::ErrorKind::NotFound,
        KubeconfigError::LoadContext(name) => name.is_empty(),
        _ => false,
    }
}

/// A client that shows what its cluster wants to see; a token of ours as it is at each request.
fn client(config: Config, access: &Access) -> kube::Result<Client> {
    let builder = ClientBuilder::try_from(config)?;
    let Access::Rancher { token, .. } = access else { return Ok(builder.build()) };
    let token = token.clone();
    let shows = move |mut request: http::Request<kube::client::Body>| {
        let bearer = format!("Bearer {}", token.text().expose_secret().trim());
        if let Ok(mut bearer) = HeaderValue::try_from(bearer) {
            bearer.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, bearer);
        }
        request
    };
    Ok(builder.with_layer(&MapRequestLayer::new(shows)).build())
}

/// Tells of clusters that do not answer, or do not let us do what has to be done. Once one does, what failed is looked at
/// again: a pause that has grown while it was away would go on for minutes.
pub(super) async fn watch(
    reached: Vec<Reached>,
    health: Health,
    store: Store,
    clock: Clock,
    stop: CancellationToken,
) {
    // All is asked at first and while something is wrong; then one thing after the other, so that a quiet cluster stays so.
    let (mut troubled, mut turns) = (None::<BTreeSet<&str>>, VERBS.chunks(1).cycle());
    while !reached.is_empty() {
        let all_is_well = troubled.as_ref().is_some_and(BTreeSet::is_empty);
        let verbs = turns.next().filter(|_| all_is_well).unwrap_or(&VERBS);
        let asked = reached.iter().map(|cluster| async move {
            let found = match &cluster.client {
                Ok(client) => permitted(client, verbs).await,
                Err(why) => Err(why.clone()),
            };
            found.err().map(|why| (cluster.name.as_str(), why))
        });
        let found: Vec<_> = futures::future::join_all(asked).await.into_iter().flatten().collect();
        let now: BTreeSet<_> = found.iter().map(|(name, _)| *name).collect();
        let pause = if now.is_empty() { WATCH } else { WATCH_TROUBLE };
        let before = troubled.replace(now.clone()).unwrap_or_default();
        if !before.is_subset(&now)
            && let Err(error) = store.begin_anew(clock.now()).await
        {
            tracing::error!(%error, "what failed while a cluster was away waits for its next try");
        }
        let warnings = found.into_iter().map(|(name, why)| {
            let text = format!("cluster `{name}`: {why}");
            Warning::new("cluster", text, format!("{REMEDY}; previews on other clusters go on"))
        });
        health.set("clusters", warnings.collect());
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// What helps where a cluster does not answer or lets us do too little.
pub(super) const REMEDY: &str =
    "see that it runs and that its account may do what `greenroom install --print` lists";

/// Asks each cluster of the settings, once: its name, and why previews cannot run there, if they cannot.
pub(super) async fn ask<'a>(clusters: &'a [Cluster], roots: &Roots) -> Vec<(&'a str, Option<String>)> {
    let mut all = Vec::new();
    for cluster in clusters {
        let client = match config(&cluster.access, roots).await {
            Ok(Some(config)) => client(config, &cluster.access).map_err(|error| error.to_string()),
            Ok(None) => continue,
            Err(why) => Err(why),
        };
        let asked = match client {
            Ok(client) => permitted(&client, &VERBS).await,
            Err(why) => Err(format!("there is no way to it ({}): {why}", cluster.origin)),
        };
        all.push((cluster.name.as_str(), asked.err()));
    }
    all
}

/// What we have to be allowed to do with namespaces, without which nothing works.
const VERBS: [&str; 4] = ["create", "delete", "list", "watch"];

/// Whether we may do so.
async fn permitted(client: &Client, verbs: &[&str]) -> Result<(), String> {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    for verb in verbs {
        let attributes = ResourceAttributes {
            verb: Some((*verb).to_owned()),
            resource: Some(String::from("namespaces")),
            ..ResourceAttributes::default()
        };
        let spec =
            SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
        let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
        let parameters = PostParams::default();
        let asked = tokio::time::timeout(PATIENCE, reviews.create(&parameters, &review));
        match asked.await {
            Err(_) => return Err(String::from("it does not answer in time")),
            Ok(Err(kube::Error::Api(status))) if status.code == 401 => {
                return Err(String::from("it does not accept greenroom's credentials (401)"));
            }
            Ok(Err(error)) => return Err(format!("it cannot be asked ({error})")),
            Ok(Ok(review)) if review.status.as_ref().is_some_and(|status| status.allowed) => {}
            Ok(Ok(_)) => return Err(format!("it does not let greenroom {verb} namespaces")),
        }
    }
    Ok(())
}

/// The programs that rendering uses, where they are installed.
pub(super) fn tools() -> Tools {
    let found = Tools::find(&settings::search_path().unwrap_or_default());
    // By the kernel's own name for it: the file may be replaced while we run.
    let own = Path::new("/proc/self/exe");
    let renderer = if own.exists() { Some(own.to_owned()) } else { std::env::current_exe().ok() };
    Tools { renderer, ..found }
}

/// What one preview may use at most where the settings say nothing: enough for an app with its database, too little to
/// fill a cluster.
const QUOTA: &[(&str, &str)] = &[
    ("limits.memory", "8Gi"),
    ("persistentvolumeclaims", "10"),
    ("pods", "30"),
    ("requests.cpu", "4"),
    ("requests.storage", "20Gi"),
];

fn table(rows: &[(&str, &str)]) -> BTreeMap<String, String> {
    rows.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// What the settings say of a project's previews on a cluster. `links` are those of all others.
pub(super) fn on_cluster(links: &Links, given: &settings::OnCluster) -> OnCluster {
    let texts = |texts: &Option<settings::Texts>| texts.clone().unwrap_or_default().0;
    let (default_limits, default_requests) = match &given.limits.value {
        Some(limits) => (limits.limits.clone(), limits.requests.clone()),
        None => (table(&[("memory", "512Mi")]), table(&[("cpu", "50m"), ("memory", "128Mi")])),
    };
    let egress = given.egress.value.iter().flatten();
    let rancher = given.rancher_project.value.iter();
    let profile = Profile {
        pod_security: match given.pod_security.value {
            Some(PodSecurityLevel::Baseline) => PodSecurity::Baseline,
            Some(PodSecurityLevel::Restricted) | None => PodSecurity::Restricted,
        },
        quota: given.quota.value.as_ref().map_or_else(|| table(QUOTA), |quota| quota.0.clone()),
        default_limits,
        default_requests,
        ingress_namespace: given
            .ingress_namespace
            .value
            .as_ref()
            .map_or_else(|| String::from("ingress-nginx"), |name| name.0.clone()),
        egress: egress.map(|rule| Egress { cidr: rule.cidr.0.clone(), ports: rule.ports.clone() }).collect(),
        pull_secret: given.pull_secret.value.as_ref().map(settings::SharedSecret::text),
        secrets: given
            .secrets
            .value
            .iter()
            .flatten()
            .map(|(name, secret)| (name.clone(), secret.text()))
            .collect(),
        annotations: rancher
            .map(|project| (String::from("field.cattle.io/projectId"), project.clone()))
            .collect(),
        ready_within: given.ready_within.value.map_or(READY_WITHIN, |span| span.0),
    };
    let rules = ManifestRules {
        kinds: given.kinds.value.iter().flatten().cloned().collect(),
        allow: given
            .allow
            .value
            .iter()
            .flatten()
            .filter_map(|risk| risk.0.parse::<Exception>().ok())
            .collect(),
        exposure: match &given.gateway.value {
            Some(gateway) => Exposure::Gateway {
                name: gateway.name.clone(),
                namespace: gateway.namespace.clone(),
                section: None,
            },
            None => {
                Exposure::Ingress { class: given.ingress_class.value.as_ref().map(|class| class.0.clone()) }
            }
        },
        tls_secret: given.tls_secret.value.as_ref().map(|name| name.0.clone()),
        secrets: profile.secrets.keys().cloned().collect(),
    };
    let values: BTreeMap<_, _> = texts(&given.values.value)
        .into_iter()
        .map(|(name, text)| (name, serde_json::Value::String(text)))
        .collect();
    let links = Links {
        scheme: if rules.tls_secret.is_some() { String::from("https") } else { links.scheme.clone() },
        domain: given
            .base_domain
            .value
            .as_ref()
            .map_or_else(|| links.domain.clone(), |given| given.domain.clone()),
        port: match &given.base_domain.value {
            Some(given) => given.port,
            None => links.port.filter(|_| rules.tls_secret.is_none()),
        },
    };
    let digest = digest(&profile, &rules, &values, &links);
    OnCluster { links, profile: Arc::new(profile), rules, values, digest }
}

/// SHA-256 of all of it, secrets included, in hexadecimal.
fn digest(profile: &Profile, rules: &ManifestRules, values: &impl std::fmt::Debug, links: &Links) -> String {
    let mut hash = Sha256::new();
    // `Debug` of a secret shows nothing of it.
    hash.update(format!("{profile:?}\0{rules:?}\0{values:?}\0{links:?}"));
    let secrets = profile.secrets.values().chain(&profile.pull_secret);
    for secret in secrets {
        hash.update([0]);
        hash.update(secret.expose_secret());
    }
    hex::encode(hash.finalize())
}
