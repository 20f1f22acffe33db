//! What has to be there before a head is deployed.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::static_site::checked_job_name;

/// What has to be there before a head is deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitFor {
    /// Everything in the pipeline that must succeed has.
    Pipeline,
    /// The image is in the registry.
    Image,
    /// The job of this name succeeded.
    Job(String),
}

/// The same, as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Written {
    Pipeline,
    Image,
    /// Without a name: the one whose artifact is served.
    Job(Option<String>),
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;

        impl<'de> Visitor<'de> for Words {
            type Value = Written;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("pipeline, image, job or {job: name}")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<Written, E> {
                match word {
                    "pipeline" => Ok(Written::Pipeline),
                    "image" => Ok(Written::Image),
                    "job" => Ok(Written::Job(None)),
                    other => Err(E::unknown_variant(other, &["pipeline", "image", "job", "{job: name}"])),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Written, A::Error> {
                let mut name = None;
                while let Some(key) = map.next_key::<String>()? {
                    if key != "job" {
                        return Err(de::Error::unknown_field(&key, &["job"]));
                    }
                    name = Some(checked_job_name(map.next_value()?)?);
                }
                if name.is_none() {
                    return Err(de::Error::missing_field("job"));
                }
                Ok(Written::Job(name))
            }
        }

        deserializer.deserialize_any(Words)
    }
}

impl JsonSchema for Written {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "WaitFor".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "What has to be there before a head is deployed.",
            "oneOf": [
                {
                    "description": "Everything in the pipeline that must succeed has. Default of engine kubernetes.",
                    "type": "string",
                    "const": "pipeline",
                },
                {
                    "description": "The image is in the registry, whatever the pipeline does. Of engine kubernetes.",
                    "type": "string",
                    "const": "image",
                },
                {
                    "description": "The job whose artifact is served succeeded. Default of engine static, and of it alone.",
                    "type": "string",
                    "const": "job",
                },
                {
                    "description": "The job of this name succeeded, whatever the rest of the pipeline does.",
                    "type": "object",
                    "properties": { "job": { "type": "string", "minLength": 1, "maxLength": 255 } },
                    "additionalProperties": false,
                    "required": ["job"],
                },
            ],
        })
    }
}
