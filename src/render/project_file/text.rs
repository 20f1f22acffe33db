//! Texts of a certain form. One pattern each, for the parser and for the JSON Schema.

use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use regex::Regex;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::preview::Quoted;

/// Defines a text that matches a pattern, as a whole, and says in words what was expected where it does not.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $pattern:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(String);

        impl $name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                static PATTERN: LazyLock<Option<Regex>> =
                    LazyLock::new(|| Regex::new(concat!("^(?:", $pattern, ")$")).ok());
                if PATTERN.as_ref().is_some_and(|pattern| pattern.is_match(&text)) {
                    return Ok(Self(text));
                }
                Err(format!(concat!("{} is not ", $expected), Quoted::new(&text)))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": concat!("^(?:", $pattern, ")$") })
            }
        }
    };
}

text!(
    /// A DNS label: the name of an object, a volume, a preset.
    Label,
    "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?",
    "a name such as my-data, expected lower-case letters, digits and -"
);
text!(
    /// The name of an environment variable.
    EnvName,
    "[A-Za-z_][A-Za-z0-9_]{0,254}",
    "the name of an environment variable, expected letters, digits and _"
);
text!(
    /// An amount of a resource in Kubernetes' notation.
    Quantity,
    "[0-9]{1,15}(\\.[0-9]{1,9})?(m|k|M|G|T|Ki|Mi|Gi|Ti)?",
    "an amount, expected one such as 250m, 1.5 or 512Mi"
);
text!(
    /// A path in a container.
    MountPath,
    "(/[A-Za-z0-9_@+.-]*[A-Za-z0-9_@+-][A-Za-z0-9_@+.-]*)+",
    "a path in a container, expected one such as /var/lib/app"
);
text!(
    /// A path of a URL, with its query.
    UrlPath,
    "/[!-~]{0,1023}",
    "a path of a URL, expected one such as /healthz"
);
text!(
    /// The name of a database or of one of its users.
    DatabaseName,
    "[a-z_][a-z0-9_]{0,62}",
    "the name of a database, expected lower-case letters, digits and _"
);

/// Texts of ours that are known to match.
macro_rules! known {
    ($($name:ident),*) => {
        $(impl $name {
            pub(super) fn known(text: &'static str) -> Self {
                Self(text.to_owned())
            }
        })*
    };
}

known!(UrlPath, DatabaseName, Quantity);

/// A time to wait, from one second to one hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Patience(Duration);

impl Patience {
    /// From whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// As a duration.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl TryFrom<String> for Patience {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let duration = text.parse().ok().and_then(|duration: jiff::SignedDuration| duration.try_into().ok());
        duration
            .filter(|duration| (Duration::from_secs(1)..=Duration::from_hours(1)).contains(duration))
            .map(Self)
            .ok_or_else(|| {
                format!("{} is no time to wait, expected one from 1s to 1h such as 30s", Quoted::new(&text))
            })
    }
}

/// In whole seconds, as Kubernetes counts.
impl Serialize for Patience {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0.as_secs())
    }
}

impl JsonSchema for Patience {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Patience".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}
