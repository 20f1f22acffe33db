//! The part of the engine for clusters.

use std::collections::BTreeMap;
use std::num::{NonZeroU8, NonZeroU32};
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RelativePath;
use super::text::{DatabaseName, EnvName, Label, MountPath, Patience, Quantity, UrlPath};

/// What runs on a cluster. Exactly one of `preset`, `manifests`, `helm` and `kustomize`. Templates see the other keys as
/// `app`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Kubernetes")]
pub struct KubernetesSettings {
    /// Name of a preset, such as `web`.
    #[serde(skip_serializing)]
    preset: Option<Label>,
    /// Folder of the repository with the project's own templates, such as `.greenroom/k8s`: its `*.yaml` and `*.yml`.
    #[serde(skip_serializing)]
    #[schemars(with = "Option<String>")]
    manifests: Option<RelativePath>,
    /// A Helm chart of the repository.
    #[serde(skip_serializing)]
    helm: Option<Helm>,
    /// Folder of the repository with a kustomization, such as `k8s/overlays/review`. Its files are templates.
    #[serde(skip_serializing)]
    #[schemars(with = "Option<String>")]
    kustomize: Option<RelativePath>,
    /// The image, a template such as `{{ registry_image }}:{{ sha }}`. Required with a preset.
    #[serde(skip_serializing)]
    pub image: Option<String>,
    /// Port that the program listens on.
    #[schemars(range(min = 1))]
    pub port: Port,
    /// Environment variables; their values are templates.
    #[schemars(with = "BTreeMap<EnvName, String>")]
    pub env: BTreeMap<EnvName, String>,
    /// Names of the operator's secrets that become environment variables.
    pub secrets: Vec<EnvName>,
    /// How many pods run.
    #[schemars(range(min = 1, max = 20))]
    pub replicas: Replicas,
    /// What a pod is given, as Kubernetes writes it.
    pub resources: Resources,
    /// How it is known that the program is ready: `http`, `tcp` or `command`. Default: its port accepts connections.
    pub probe: Probe,
    /// The program, instead of the image's own.
    pub command: Vec<String>,
    /// The program's arguments, instead of the image's own; templates.
    pub args: Vec<String>,
    /// User id that the program runs as. Default: the image's, which must not be 0.
    #[schemars(range(min = 1))]
    pub user: Option<NonZeroU32>,
    /// Whether the program may write to its root file system. `/tmp` can be written to in any case.
    pub writable_root: bool,
    /// Folders that can be written to.
    pub volumes: Vec<Volume>,
    /// Where the program serves its metrics; the pods are annotated for Prometheus.
    pub metrics: Option<Metrics>,
    /// More pods under load, by a HorizontalPodAutoscaler.
    pub autoscale: Option<Autoscale>,
    /// The database of `web-postgres`.
    pub postgres: Postgres,
    /// The Job of `web-postgres` that fills the database.
    pub seed: Option<Seed>,
}

/// Where the objects come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KubernetesSource<'a> {
    /// One of ours, or of the operator's.
    Preset(&'a str),
    /// A folder of the repository with templates.
    Manifests(&'a Path),
    /// A chart of the repository.
    Helm(&'a Helm),
    /// A folder of the repository with a kustomization.
    Kustomize(&'a Path),
}

impl KubernetesSource<'_> {
    /// Whether the repository's files are needed.
    pub const fn needs_tree(&self) -> bool {
        !matches!(self, Self::Preset(_))
    }
}

impl KubernetesSettings {
    /// Where the objects come from.
    pub fn source(&self) -> KubernetesSource<'_> {
        match self {
            Self { helm: Some(helm), .. } => KubernetesSource::Helm(helm),
            Self { kustomize: Some(path), .. } => KubernetesSource::Kustomize(path.as_path()),
            Self { manifests: Some(path), .. } => KubernetesSource::Manifests(path.as_path()),
            Self { preset, .. } => KubernetesSource::Preset(preset.as_ref().map_or("", Label::as_str)),
        }
    }

    /// What the types alone do not say.
    pub(super) fn check(&self) -> Result<(), String> {
        let sources =
            [self.preset.is_some(), self.manifests.is_some(), self.helm.is_some(), self.kustomize.is_some()];
        if sources.into_iter().filter(|given| *given).count() != 1 {
            return Err(String::from(
                "kubernetes needs one of preset, manifests, helm and kustomize, such as kubernetes: {preset: web}",
            ));
        }
        if self.preset.is_some() && self.image.is_none() {
            return Err(String::from("a preset needs an image, such as '{{ registry_image }}:{{ sha }}'"));
        }
        if self.helm.is_some() || self.kustomize.is_some() {
            let bare = Self {
                helm: self.helm.clone(),
                kustomize: self.kustomize.clone(),
                image: self.image.clone(),
                ..Self::default()
            };
            if *self != bare {
                return Err(String::from(
                    "helm and kustomize know nothing of the keys of a preset; say it in their own files",
                ));
            }
        }
        let Probe { http, tcp, command, .. } = &self.probe;
        if [http.is_some(), tcp.is_some(), command.is_some()].into_iter().filter(|given| *given).count() > 1 {
            return Err(String::from("probe has more than one of http, tcp and command, expected one"));
        }
        let commands = [command.as_ref(), self.seed.as_ref().map(|seed| &seed.command)];
        if commands.into_iter().flatten().any(Vec::is_empty) {
            return Err(String::from("a command is empty, expected a program and its arguments"));
        }
        Ok(())
    }
}

/// A chart of the repository.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Helm {
    /// Folder of the chart, such as `chart`.
    #[schemars(with = "String")]
    pub chart: RelativePath,
    /// Files with values, such as `[.greenroom/values.yaml]`; templates. A later one wins.
    #[schemars(with = "Vec<String>")]
    #[serde(default)]
    pub values: Vec<RelativePath>,
}

/// A TCP port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "u16")]
pub struct Port(u16);

impl Port {
    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl Default for Port {
    fn default() -> Self {
        Self(8080)
    }
}

impl TryFrom<u16> for Port {
    type Error = String;

    fn try_from(number: u16) -> Result<Self, String> {
        if number == 0 { Err(String::from("0 is no port, expected 1 to 65535")) } else { Ok(Self(number)) }
    }
}

/// A number of pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "u8")]
pub struct Replicas(u8);

impl Default for Replicas {
    fn default() -> Self {
        Self(1)
    }
}

impl TryFrom<u8> for Replicas {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        if (1..=20).contains(&number) {
            Ok(Self(number))
        } else {
            Err(format!("{number} pods are not possible, expected 1 to 20"))
        }
    }
}

/// What a container is given.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Resources {
    /// What is set aside, such as `{cpu: 100m, memory: 128Mi}`. Default: what the operator says.
    #[serde(skip_serializing_if = "Amounts::is_empty")]
    pub requests: Amounts,
    /// What it may use at most, such as `{memory: 512Mi}`. Default: what the operator says.
    #[serde(skip_serializing_if = "Amounts::is_empty")]
    pub limits: Amounts,
}

/// Amounts of resources.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Amounts {
    /// In cores, such as `250m` for a quarter of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Quantity>,
    /// In bytes, such as `512Mi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Quantity>,
    /// On the node's disk, in bytes, such as `1Gi`.
    #[serde(rename = "ephemeral-storage", skip_serializing_if = "Option::is_none")]
    pub ephemeral_storage: Option<Quantity>,
}

impl Amounts {
    const fn is_empty(&self) -> bool {
        self.cpu.is_none() && self.memory.is_none() && self.ephemeral_storage.is_none()
    }
}

/// How it is known that a program is ready. At most one of `http`, `tcp` and `command`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Probe {
    /// Path that is answered with 2xx or 3xx, such as `/healthz`.
    pub http: Option<UrlPath>,
    /// Port that accepts connections. Default: `port`.
    #[schemars(range(min = 1))]
    pub tcp: Option<Port>,
    /// Program in the container that ends with exit code 0.
    pub command: Option<Vec<String>>,
    /// How long the program may take to start before it is started again, from `1s` to `1h`.
    #[schemars(extend("default" = "2m"))]
    pub starts_within: Patience,
}

impl Default for Probe {
    fn default() -> Self {
        Self { http: None, tcp: None, command: None, starts_within: Patience::from_secs(120) }
    }
}

/// A folder that can be written to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// Its name, unique within the preview.
    pub name: Label,
    /// Where the program sees it.
    pub path: MountPath,
    /// Size of a PersistentVolumeClaim, such as `1Gi`. Without it, the folder is empty in every new pod.
    pub size: Option<Quantity>,
}

/// Where a program serves its metrics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// Path, such as `/metrics`.
    #[serde(default = "metrics_path")]
    #[schemars(extend("default" = "/metrics"))]
    pub path: UrlPath,
    /// Port. Default: `port`.
    #[schemars(range(min = 1))]
    pub port: Option<Port>,
}

fn metrics_path() -> UrlPath {
    UrlPath::known("/metrics")
}

/// More pods under load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Autoscale {
    /// Fewest pods. Default: `replicas`.
    #[schemars(range(min = 1, max = 20))]
    pub min: Option<Replicas>,
    /// Most pods.
    #[schemars(range(min = 1, max = 20))]
    pub max: Replicas,
    /// Use of the requested CPU that is aimed at, in percent.
    #[serde(default = "aimed_at")]
    #[schemars(range(min = 1))]
    pub cpu: NonZeroU8,
}

const fn aimed_at() -> NonZeroU8 {
    NonZeroU8::MIN.saturating_add(79)
}

/// A PostgreSQL server beside the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Postgres {
    /// Image of the server.
    pub image: String,
    /// User id that the image's server runs as: 70 in its Alpine images, 999 in its Debian ones.
    #[schemars(range(min = 1))]
    pub user: NonZeroU32,
    /// Name of the database and of the user that owns it.
    pub database: DatabaseName,
    /// Size of its PersistentVolumeClaim.
    pub size: Quantity,
}

impl Default for Postgres {
    fn default() -> Self {
        Self {
            image: String::from("docker.io/library/postgres:18-alpine"),
            user: NonZeroU32::MIN.saturating_add(69),
            database: DatabaseName::known("app"),
            size: Quantity::known("1Gi"),
        }
    }
}

/// A Job that fills the database, once for every revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Seed {
    /// The program and its arguments.
    #[schemars(length(min = 1))]
    pub command: Vec<String>,
    /// Its image, a template. Default: `image`.
    pub image: Option<String>,
}
