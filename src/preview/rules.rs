//! What the operator lets a project do: bounds on what its `.greenroom.yml` asks for.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::lifetime::Lifetime;

/// What runs a preview.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// A job's artifact, served as it is.
    Static,
    /// Objects in a namespace of its own on a cluster.
    Kubernetes,
}

impl EngineKind {
    /// Every engine.
    pub const ALL: [Self; 2] = [Self::Static, Self::Kubernetes];

    /// The name used in `.greenroom.yml`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Kubernetes => "kubernetes",
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for EngineKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|engine| engine.as_str() == text).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|engine| engine.as_str()).collect();
            format!("is no engine; known: {}", known.join(", "))
        })
    }
}

/// A value that the operator gave, and where, such as `greenroom.toml:12`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Given<T> {
    /// The value itself.
    pub value: T,
    /// Where it was given.
    pub origin: String,
}

/// The bounds of one project. What is `None` has none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProjectRules {
    /// Engines it may use.
    pub engines: Option<Given<Vec<EngineKind>>>,
    /// How long a preview may live after the last deploy of a new head.
    pub max_lifetime: Option<Given<Lifetime>>,
    /// How many of its previews may run at once.
    pub max_previews: Option<Given<u64>>,
    /// Which cluster its previews run on, where they need one.
    pub cluster: Option<Given<String>>,
}

impl ProjectRules {
    /// The lifetime that holds where a project file asks for `asked`; adds a sentence to `rules` where that is not what
    /// it gets.
    pub fn lifetime(&self, asked: Option<Lifetime>, rules: &mut Vec<String>) -> Option<Lifetime> {
        let Some(Given { value: most, origin }) = &self.max_lifetime else { return asked };
        match asked {
            Some(asked) if asked <= *most => return Some(asked),
            Some(asked) => {
                rules.push(format!(
                    "`expires_after: {asked}` is cut to {most}, as the server's settings say ({origin})"
                ));
            }
            None => {
                rules.push(format!("it lives for {most}, as the server's settings say ({origin})"));
            }
        }
        Some(*most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_cut_to_the_bound_and_a_missing_one_becomes_it() {
        let bounded = |most: &str| ProjectRules {
            max_lifetime: Some(Given { value: most.parse().unwrap(), origin: "greenroom.toml:3".into() }),
            ..ProjectRules::default()
        };
        let (day, week) = ("1d".parse().ok(), "7d".parse().ok());
        for (rules, asked, lives, told) in [
            (ProjectRules::default(), None, None, None),
            (ProjectRules::default(), week, week, None),
            (bounded("7d"), day, day, None),
            (bounded("7d"), week, week, None),
            (
                bounded("1d"),
                week,
                day,
                Some("`expires_after: 7d` is cut to 1d, as the server's settings say (greenroom.toml:3)"),
            ),
            (
                bounded("1d"),
                None,
                day,
                Some("it lives for 1d, as the server's settings say (greenroom.toml:3)"),
            ),
        ] {
            let mut said = Vec::new();
            assert_eq!(rules.lifetime(asked, &mut said), lives);
            assert_eq!(said, told.into_iter().map(str::to_owned).collect::<Vec<_>>());
        }
    }
}
