//! The keys of a `[[project]]` table that are about previews on a cluster.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::address::domain;
use super::layer::{flat, read_file};
use super::secret_file::whole_text;
use crate::preview::{Given, valid_dns_label};

/// A secret in a file. Clones share it: when the file is read again, all of them have the new one.
#[derive(Debug, Clone, Serialize)]
#[serde(into = "PathBuf")]
pub struct SharedSecret {
    path: PathBuf,
    text: Arc<RwLock<SecretString>>,
}

impl SharedSecret {
    pub(super) fn read(path: &str, name: String) -> Result<Self, super::Problem> {
        let text = read_file(path, name, whole_text)?;
        Ok(Self { path: PathBuf::from(path.trim()), text: Arc::new(RwLock::new(text.into())) })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it is now.
    pub fn text(&self) -> SecretString {
        self.text.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The file says something else.
    pub fn replace(&self, text: SecretString) {
        *self.text.write().unwrap_or_else(PoisonError::into_inner) = text;
    }
}

impl From<SharedSecret> for PathBuf {
    fn from(secret: SharedSecret) -> Self {
        secret.path
    }
}

/// A name as Kubernetes has them for namespaces, classes and the like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Label(pub String);

impl TryFrom<String> for Label {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if valid_dns_label(&text) { Ok(Self(text)) } else { Err(format!("`{text}` is no name")) }
    }
}

/// A domain, lower case, and the port that is part of links where it is not the scheme's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BaseDomain {
    /// The domain.
    pub domain: String,
    /// The port.
    pub port: Option<u16>,
}

impl TryFrom<String> for BaseDomain {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => match port.parse() {
                Ok(port) if port > 0 => (name, Some(port)),
                _ => return Err(format!("`{text}` ends with no port")),
            },
            None => (&*text, None),
        };
        let domain = domain(name).map_err(|problem| format!("`{text}` {problem}"))?;
        Ok(Self { domain, port })
    }
}

impl From<BaseDomain> for String {
    fn from(BaseDomain { domain, port }: BaseDomain) -> Self {
        port.map_or_else(|| domain.clone(), |port| format!("{domain}:{port}"))
    }
}

/// A Gateway, `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GatewayName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl TryFrom<String> for GatewayName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, name)) if valid_dns_label(namespace) && valid_dns_label(name) => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err(format!("`{text}` is no `namespace/name`")),
        }
    }
}

impl From<GatewayName> for String {
    fn from(gateway: GatewayName) -> Self {
        format!("{}/{}", gateway.namespace, gateway.name)
    }
}

/// What the guard objects hold previews to by default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// What a container gets that asks for nothing.
    #[serde(default)]
    pub limits: BTreeMap<String, String>,
    /// What it is counted for.
    #[serde(default)]
    pub requests: BTreeMap<String, String>,
}

/// Level of the Pod Security Standards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PodSecurityLevel {
    /// The default.
    Restricted,
    /// For images that want to be root.
    Baseline,
}

/// A destination that previews may connect to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EgressRule {
    /// Addresses in CIDR notation.
    pub cidr: Cidr,
    /// TCP ports; empty for all.
    #[serde(default)]
    pub ports: Vec<u16>,
}

/// Addresses in CIDR notation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Cidr(pub String);

impl TryFrom<String> for Cidr {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is = text.split_once('/').is_some_and(|(address, bits)| {
            let most = address.parse().map(|address: IpAddr| if address.is_ipv4() { 32 } else { 128 });
            most.is_ok_and(|most| bits.parse::<u8>().is_ok_and(|bits| bits <= most))
        });
        if is { Ok(Self(text)) } else { Err(format!("`{text}` is no range of addresses")) }
    }
}

/// Something risky that is allowed, by the name that Kubernetes has for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Risk(pub String);

/// What can be allowed; `render` knows what each of them means.
const RISKS: [&str; 9] = [
    "hostPath",
    "privileged",
    "hostNetwork",
    "hostPID",
    "hostPort",
    "nodePort",
    "loadBalancer",
    "externalIPs",
    "serviceAccountToken",
];

impl TryFrom<String> for Risk {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if RISKS.contains(&&*text) {
            Ok(Self(text))
        } else {
            Err(format!("`{text}` is nothing that can be allowed"))
        }
    }
}

/// Names with plain values; numbers and the like are taken as text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, toml::Value>")]
pub struct Texts(pub BTreeMap<String, String>);

impl TryFrom<BTreeMap<String, toml::Value>> for Texts {
    type Error = String;

    fn try_from(values: BTreeMap<String, toml::Value>) -> Result<Self, String> {
        let text = |(name, value): (String, toml::Value)| match value {
            toml::Value::Array(_) | toml::Value::Table(_) => Err(format!("`{name}` is no plain value")),
            value => Ok((name, flat(&value))),
        };
        values.into_iter().map(text).collect::<Result<_, _>>().map(Self)
    }
}

/// A time, such as `10m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(pub Duration);

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let span = text.parse::<jiff::SignedDuration>().ok().and_then(|span| Duration::try_from(span).ok());
        let span = span.filter(|span| *span >= Duration::from_secs(1));
        span.map(Self).ok_or_else(|| format!("`{text}` is no duration of a second or more"))
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        format!("{}s", span.0.as_secs())
    }
}

macro_rules! keys {
    ($($(#[doc = $doc:literal])* $name:ident: $type:ty = $remedy:literal,)*) => {
        /// What holds for a project's previews on a cluster, each value with where it was given.
        #[derive(Debug, Clone, Serialize)]
        pub struct OnCluster {
            $($(#[doc = $doc])* pub $name: Given<Option<$type>>,)*
            /// Values of the Secret that pods may use, each in a file of its own.
            pub secrets: Given<Option<BTreeMap<String, SharedSecret>>>,
            /// The `.dockerconfigjson` that images are pulled with.
            pub pull_secret: Given<Option<SharedSecret>>,
        }

        impl OnCluster {
            /// The names of all keys.
            pub const NAMES: &[&str] = &[$(stringify!($name),)* "secrets", "pull_secret"];
        }

        impl Default for OnCluster {
            fn default() -> Self {
                Self { $($name: super::project::default(),)* secrets: super::project::default(), pull_secret: super::project::default() }
            }
        }

        /// What one table gives.
        #[derive(Debug, Clone, Default)]
        pub(super) struct Keys {
            $($name: Option<Given<$type>>,)*
            pub(super) secrets: Option<Given<BTreeMap<String, SharedSecret>>>,
            pub(super) pull_secret: Option<Given<SharedSecret>>,
        }

        impl Keys {
            pub(super) fn lay_over(&self, settings: &mut OnCluster) {
                $(super::project::lay(&mut settings.$name, self.$name.as_ref());)*
                super::project::lay(&mut settings.secrets, self.secrets.as_ref());
                super::project::lay(&mut settings.pull_secret, self.pull_secret.as_ref());
            }

            /// Takes a plain value; what is wrong with it, and a remedy.
            fn plain(&mut self, key: &str, value: toml::Value, origin: &str) -> Result<(), (String, &'static str)> {
                match key {
                    $(stringify!($name) => {
                        let value = value.try_into().map_err(|error: toml::de::Error| (error.message().to_owned(), $remedy))?;
                        self.$name = Some(Given { value, origin: origin.to_owned() });
                        Ok(())
                    })*
                    _ => Err((String::from("is no setting of a project"), "see `greenroom defaults`")),
                }
            }
        }
    };
}

keys! {
    /// Which cluster they run on; without, `default`.
    cluster: Label = "use the name of a `[[cluster]]`, or `default`",
    /// Domain below which they live; without, the preview domain.
    base_domain: BaseDomain = "use a host name such as `preview.example.com`, or one with a port",
    /// Class of the Ingress; without, the cluster's own default.
    ingress_class: Label = "use the name of an IngressClass",
    /// Namespace of the ingress controller, which may reach them.
    ingress_namespace: Label = "use the name of a namespace, such as `ingress-nginx`",
    /// The Gateway that routes belong to, in place of an Ingress.
    gateway: GatewayName = "use `namespace/name` of a Gateway",
    /// Name of the Secret with the wildcard certificate.
    tls_secret: Label = "use the name of a Secret",
    /// Level of Pod Security that is enforced; without, `restricted`.
    pod_security: PodSecurityLevel = "use `restricted` or `baseline`",
    /// What all objects of one preview may use together (a ResourceQuota); without, a moderate one, `{}` for none.
    quota: Texts = "use a table such as `{pods = 20, \"limits.memory\" = \"4Gi\"}`",
    /// What a container gets that asks for nothing (a LimitRange); without, moderate ones, `{}` for none.
    limits: Limits = "use a table such as `{limits = {memory = \"512Mi\"}, requests = {cpu = \"50m\"}}`",
    /// Where they may connect to, beside DNS and each other.
    egress: Vec<EgressRule> = "use a list of tables such as `{cidr = \"10.0.0.0/8\", ports = [5432]}`",
    /// Kinds of objects that are allowed; without, the usual ones.
    kinds: Vec<String> = "use a list of kinds, such as `[\"Deployment\", \"Service\"]`",
    /// What is allowed though it is risky.
    allow: Vec<Risk> = "use names such as `hostPath`, `privileged`, `hostNetwork` and `nodePort`",
    /// Values for the project's templates.
    values: Texts = "use a table of plain values, such as `{region = \"eu\"}`",
    /// How long a revision may take to become ready; without, 10 minutes.
    ready_within: Span = "use a duration such as `10m`",
    /// The Rancher project that namespaces belong to.
    rancher_project: String = "use the project's id, such as `c-m-abcde:p-12345`",
}

impl Keys {
    /// Takes one key; `None` when it is none of these. What is wrong goes to `problems`.
    pub(super) fn take(
        &mut self,
        (key, value): (&str, toml::Value),
        origin: &str,
        name: &str,
        problems: &mut Vec<super::Problem>,
    ) -> bool {
        if !OnCluster::NAMES.contains(&key) {
            return false;
        }
        let mut read = |path: &str| {
            SharedSecret::read(path, name.to_owned()).map_err(|problem| problems.push(problem)).ok()
        };
        let outcome = match (key, value) {
            ("pull_secret", toml::Value::String(path)) => {
                let secret = read(&path).map(|value| Given { value, origin: origin.to_owned() });
                self.pull_secret = secret.or(self.pull_secret.take());
                Ok(())
            }
            ("pull_secret", _) => Err((String::from("is no path"), "give the path of a `.dockerconfigjson`")),
            ("secrets", value) => match value.try_into::<BTreeMap<String, String>>() {
                Ok(paths) => {
                    let read = paths.into_iter().filter_map(|(name, path)| Some((name, read(&path)?)));
                    self.secrets = Some(Given { value: read.collect(), origin: origin.to_owned() });
                    Ok(())
                }
                Err(_) => Err((
                    String::from("is no table of names and paths"),
                    "give each secret a file of its own, such as `{DB_PASSWORD = \"/run/secrets/db\"}`",
                )),
            },
            (key, value) => self.plain(key, value, origin),
        };
        if let Err((problem, remedy)) = outcome {
            problems.push(super::Problem { name: name.to_owned(), problem, remedy: remedy.to_owned() });
        }
        true
    }

    /// The secrets that stand in files.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &SharedSecret)> {
        let secrets = self.secrets.iter();
        let secrets = secrets.flat_map(|given| given.value.values().map(|secret| (&*given.origin, secret)));
        secrets.chain(self.pull_secret.iter().map(|given| (&*given.origin, &given.value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_domain_may_have_a_port() {
        let read = |text: &str| BaseDomain::try_from(text.to_owned());
        for (text, domain, port) in [
            ("Preview.Example.com.", "preview.example.com", None),
            ("preview.localhost:8080", "preview.localhost", Some(8080)),
        ] {
            let given = read(text).unwrap();
            assert_eq!((given.domain.as_str(), given.port), (domain, port), "{text}");
        }
        for wrong in
            ["preview.example.com:0", "preview.example.com:70000", "a:b:1", ":80", "https://x.example"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert_eq!(String::from(read("a.example:81").unwrap()), "a.example:81");
    }
}
