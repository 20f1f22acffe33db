//! `[[cluster]]` tables of `greenroom.toml`: the clusters that previews run on.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeArray, DeValue, ValueDeserializer};
use url::Url;

use super::on_cluster::SharedSecret;
use super::project::origin;
use super::secret_file::is_no_path;
use super::{Problem, Reader};
use crate::preview::{DEFAULT_CLUSTER, valid_dns_label};

/// What the tables are called.
pub(super) const KEY: &str = "cluster";

/// A cluster, and how it is reached.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// Its name here.
    pub name: String,
    /// How it is reached.
    pub access: Access,
    /// Where it was given, such as `greenroom.toml:12`.
    pub origin: String,
}

impl Cluster {
    /// The secret that stands in a file of ours.
    pub fn secret(&self) -> Option<&SharedSecret> {
        match &self.access {
            Access::Rancher { token, .. } => Some(token),
            Access::Usual | Access::Kubeconfig { .. } => None,
        }
    }
}

/// How a cluster is reached.
#[derive(Debug, Clone)]
pub enum Access {
    /// `KUBECONFIG`, else the file in the home folder, else as the account of the pod we run in.
    Usual,
    /// By this file, and of several contexts by this one.
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// The context; without, the file's current one.
        context: Option<String>,
    },
    /// Through Rancher's endpoint for the cluster.
    Rancher {
        /// Rancher's base URL.
        url: Url,
        /// The cluster's id there, such as `c-m-abcde`.
        cluster: String,
        /// The API token.
        token: SharedSecret,
    },
}

/// One table as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    kubeconfig: Option<PathBuf>,
    context: Option<String>,
    rancher: Option<Rancher>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rancher {
    url: Url,
    cluster: String,
    token_file: String,
}

/// Reads the tables. `line_of` tells the line of a place in the file called `file`.
pub(super) fn read(
    tables: &DeArray<'_>,
    line_of: &dyn Fn(usize) -> usize,
    file: &str,
    problems: &mut Vec<Problem>,
) -> Vec<Cluster> {
    let mut clusters: Vec<Cluster> = Vec::new();
    for table in tables {
        let line = line_of(table.span().start);
        let named = |remedy: &str, problem: String| Problem {
            name: format!("{file}:{line}: {KEY}"),
            problem,
            remedy: remedy.to_owned(),
        };
        match one(table, origin(file, line), &format!("{file}:{line}: {KEY}")) {
            Ok(cluster) if clusters.iter().any(|other| other.name == cluster.name) => {
                let problem = format!("`{}` is the name of another cluster already", cluster.name);
                problems.push(named("give each cluster a name of its own", problem));
            }
            Ok(cluster) => clusters.push(cluster),
            Err(problem) => problems.push(problem),
        }
    }
    clusters
}

fn one(table: &Spanned<DeValue<'_>>, origin: String, name: &str) -> Result<Cluster, Problem> {
    let wrong =
        |problem: String, remedy: &str| Problem { name: name.to_owned(), problem, remedy: remedy.to_owned() };
    let written = Written::deserialize(ValueDeserializer::from(table.clone())).map_err(|error| {
        let remedy = "use name, and kubeconfig with context, or rancher = {url, cluster, token_file}";
        wrong(error.message().to_owned(), remedy)
    })?;
    if !valid_dns_label(&written.name) {
        let problem = format!("`{}` is no name of a cluster", written.name);
        return Err(wrong(problem, "use 1 to 63 of `a-z`, `0-9` and `-`"));
    }
    let access = match (written.kubeconfig, written.context, written.rancher) {
        (None, None, Some(Rancher { url, cluster, token_file })) => {
            Access::Rancher { url, cluster, token: SharedSecret::read(&token_file, name.to_owned())? }
        }
        (Some(path), context, None) => Access::Kubeconfig { path, context },
        (None, None, None) if written.name == DEFAULT_CLUSTER => Access::Usual,
        _ => {
            let problem = String::from("does not say in one way how the cluster is reached");
            return Err(wrong(problem, "give either kubeconfig, with a context if need be, or rancher"));
        }
    };
    Ok(Cluster { name: written.name, access, origin })
}

impl Reader {
    /// The clusters that `serve` knows.
    pub(super) fn clusters(&mut self) -> Option<Vec<Cluster>> {
        let given = self.layers.get("kubeconfig").map(|value| (value.text, value.origin));
        if let Some((text, origin)) = &given {
            self.path_of_kubeconfig(text, origin, "write it to a file, and set this to the file's path")?;
        }
        Some(with_default(self.layers.clusters.clone(), given))
    }

    /// Refuses a kubeconfig where its path belongs, without showing it.
    pub(super) fn path_of_kubeconfig(&mut self, text: &str, name: &str, remedy: &str) -> Option<()> {
        if is_no_path(text) {
            self.problem(name, "holds a kubeconfig, and not the path of one", remedy);
            return None;
        }
        Some(())
    }
}

/// The clusters there are: those of the tables, and `default` by the setting `kubeconfig` (empty for the usual rules, `off` for
/// none) unless a table has that name.
pub(super) fn with_default(mut tables: Vec<Cluster>, kubeconfig: Option<(String, String)>) -> Vec<Cluster> {
    if tables.iter().any(|cluster| cluster.name == DEFAULT_CLUSTER) {
        return tables;
    }
    let name = DEFAULT_CLUSTER.to_owned();
    let default = match kubeconfig {
        Some((text, _)) if text == "off" => return tables,
        Some((text, origin)) => {
            Cluster { name, access: Access::Kubeconfig { path: text.into(), context: None }, origin }
        }
        None => Cluster { name, access: Access::Usual, origin: String::from("default") },
    };
    tables.insert(0, default);
    tables
}
