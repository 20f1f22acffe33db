//! Where a preview runs.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::rules::EngineKind;

/// The name of the cluster that is meant where none is named.
pub const DEFAULT_CLUSTER: &str = "default";

/// An engine, and which of its clusters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// What runs it.
    pub engine: EngineKind,
    /// The cluster's name in the settings, for an engine that has clusters.
    pub cluster: Option<String>,
}

impl Place {
    /// The gateway's own files.
    pub const STATIC: Self = Self { engine: EngineKind::Static, cluster: None };

    /// A cluster, by its name in the settings.
    pub fn cluster(name: &str) -> Self {
        Self { engine: EngineKind::Kubernetes, cluster: Some(name.to_owned()) }
    }
}

impl fmt::Display for Place {
    /// For people, inside a sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cluster {
            Some(cluster) => write!(f, "cluster `{cluster}`"),
            None => write!(f, "engine `{}`", self.engine),
        }
    }
}
