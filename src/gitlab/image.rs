//! Names of images, and who may ask for them. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;
use serde::Deserialize;

/// The registry of a name that says none.
const DOCKER_HUB: &str = "registry-1.docker.io";

/// A name such as `registry.example.com/acme/web:1.2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// As it was written, without tag and digest.
    written: String,
    /// Host of the registry, with its port.
    pub(super) registry: String,
    /// Path in the registry.
    pub(super) repository: String,
    /// The tag; `latest` when none was written.
    pub(super) tag: String,
    digest: Option<String>,
}

impl Image {
    /// Reads a name; `None` when it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        let sound = |digest: &str| {
            digest.split_once(':').is_some_and(|(kind, hex)| {
                !kind.is_empty() && hex.len() >= 32 && hex.bytes().all(|b| b.is_ascii_hexdigit())
            })
        };
        if !digest.is_none_or(sound) {
            return None;
        }
        let last = name.rfind('/').map_or(0, |slash| slash + 1);
        let (written, tag) = match name[last..].find(':') {
            Some(colon) => (&name[..last + colon], &name[last + colon + 1..]),
            None => (name, "latest"),
        };
        let is_host = |part: &str| part.contains(['.', ':']) || part == "localhost";
        let (registry, repository) = match written.split_once('/') {
            Some((host, path)) if is_host(host) => match host {
                "docker.io" | "index.docker.io" => (DOCKER_HUB, hub(path)),
                host => (host, path.to_owned()),
            },
            _ => (DOCKER_HUB, hub(written)),
        };
        let tag_ok = (1..=128).contains(&tag.len())
            && tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
            && !tag.starts_with(['.', '-']);
        let part_ok = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'.' | b'-'))
                && part.starts_with(|c: char| c.is_ascii_alphanumeric())
        };
        let host_ok = registry.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':'));
        (tag_ok && host_ok && repository.split('/').all(part_ok)).then(|| Self {
            written: written.to_owned(),
            registry: registry.to_owned(),
            repository,
            tag: tag.to_owned(),
            digest: digest.map(str::to_owned),
        })
    }

    /// Whether it names one image for all time.
    pub const fn has_digest(&self) -> bool {
        self.digest.is_some()
    }

    /// What its registry is asked for: the digest where it has one, else the tag.
    pub(super) fn reference(&self) -> &str {
        self.digest.as_deref().unwrap_or(&self.tag)
    }

    /// The same by its digest.
    pub fn with_digest(&self, digest: &str) -> String {
        format!("{}@{digest}", self.written)
    }
}

/// Docker's own images have a folder that nobody writes.
fn hub(path: &str) -> String {
    if path.contains('/') { path.to_owned() } else { format!("library/{path}") }
}

/// A user and a password.
#[derive(Debug, Clone)]
pub(super) struct Login {
    pub(super) user: String,
    pub(super) password: SecretString,
}

#[derive(Deserialize)]
struct DockerConfig {
    auths: std::collections::BTreeMap<String, Auth>,
}

#[derive(Deserialize)]
struct Auth {
    #[serde(rename = "auth")]
    both: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

/// What a `.dockerconfigjson` has for a registry.
pub(super) fn login_of(config: &str, registry: &str) -> Option<Login> {
    let config: DockerConfig = serde_json::from_str(config).ok()?;
    let host = |key: &str| {
        let host = key.split_once("://").map_or(key, |(_, rest)| rest);
        host.split('/').next().unwrap_or_default().to_owned()
    };
    let is_for = |key: &str| {
        let host = host(key);
        host == registry || (registry == DOCKER_HUB && host.ends_with("docker.io"))
    };
    let auth = config.auths.into_iter().find(|(key, _)| is_for(key))?.1;
    if let (Some(user), Some(password)) = (auth.username, auth.password) {
        return Some(Login { user, password: password.into() });
    }
    let text = String::from_utf8(STANDARD.decode(auth.both?).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some(Login { user: user.to_owned(), password: password.to_owned().into() })
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_name_says_where_an_image_is() {
        for (text, registry, repository, tag) in [
            ("registry.example.com/acme/web:1.2", "registry.example.com", "acme/web", "1.2"),
            ("localhost:5000/web", "localhost:5000", "web", "latest"),
            ("127.0.0.1:5000/acme/sub/web:a_B-c", "127.0.0.1:5000", "acme/sub/web", "a_B-c"),
            ("nginx", DOCKER_HUB, "library/nginx", "latest"),
            ("acme/web:2", DOCKER_HUB, "acme/web", "2"),
            ("docker.io/nginx:1", DOCKER_HUB, "library/nginx", "1"),
        ] {
            let image = Image::parse(text).unwrap();
            assert_eq!(
                (&*image.registry, &*image.repository, &*image.tag),
                (registry, repository, tag),
                "{text}"
            );
        }
        for text in
            ["", ":1", "a b", "Acme/web", "web:", "web:-x", "x.y/../z", "web@sha256:0", "http://x.y/z"]
        {
            assert_eq!(Image::parse(text), None, "{text:?}");
        }
        let digest = format!("sha256:{}", "0f".repeat(32));
        let image = Image::parse("registry.example.com/acme/web:1").unwrap();
        assert_eq!(image.with_digest(&digest), format!("registry.example.com/acme/web@{digest}"));
        assert!(Image::parse(&format!("web@{digest}")).unwrap().has_digest());
    }

    #[test]
    fn a_login_is_for_one_registry() {
        let config = r#"{"auths": {"https://registry.example.com/v2/": {"auth": "bWU6c2VjcmV0OjE="},
            "https://index.docker.io/v1/": {"username": "hub", "password": "p"}}}"#;
        let found =
            |registry| login_of(config, registry).map(|l| (l.user, l.password.expose_secret().to_owned()));
        assert_eq!(found("registry.example.com"), Some(("me".into(), "secret:1".into())));
        assert_eq!(found(DOCKER_HUB), Some(("hub".into(), "p".into())));
        assert_eq!(found("example.com"), None);
        assert!(login_of("no json", "example.com").is_none());
    }
}
