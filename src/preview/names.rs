//! Names derived from GitLab's: slugs as GitLab makes them, the preview's own name, its environment.
//!
//! The two slug algorithms are GitLab's (`lib/gitlab/slug/environment.rb`, `Gitlab::Utils.slugify`) and are held to
//! its test vectors in `tests/fixtures/gitlab/slug_vectors.json`.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::ids::MrKey;

/// The longest label DNS allows (RFC 1035, 2.3.4), and Kubernetes with it.
const LABEL: usize = 63;

/// `CI_COMMIT_REF_SLUG`: lower case, anything but `a-z0-9` becomes `-`, the first 63 characters, no `-` at either end.
pub fn ref_slug(name: &str) -> String {
    let slug: String = dashed(name).take(LABEL).collect();
    slug.trim_matches('-').to_owned()
}

/// `CI_ENVIRONMENT_SLUG` of an environment created under `name`: at most 24 characters, starting with a letter.
pub fn environment_slug(name: &str) -> String {
    environment_slug_with(name, &Sha256::digest(name.as_bytes()))
}

fn environment_slug_with(name: &str, digest: &[u8]) -> String {
    let mut slug: String = dashed(name).collect();
    if !slug.starts_with(|c: char| c.is_ascii_lowercase()) {
        slug.insert_str(0, "env-");
    }
    slug.dedup_dashes();
    if slug.len() > 24 || slug != name {
        slug.truncate(17);
        if !slug.ends_with('-') {
            slug.push('-');
        }
        slug + &base36_tail(digest)
    } else {
        slug.strip_suffix('-').map(str::to_owned).unwrap_or(slug)
    }
}

/// The last six digits of a big-endian number written in base 36.
fn base36_tail(digest: &[u8]) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    const MODULUS: u64 = 36_u64.pow(6);
    let mut rest = digest.iter().fold(0_u64, |value, byte| (value * 256 + u64::from(*byte)) % MODULUS);
    let mut tail = [b'0'; 6];
    for slot in tail.iter_mut().rev() {
        *slot = DIGITS[usize::try_from(rest % 36).unwrap_or_default()];
        rest /= 36;
    }
    tail.iter().map(|b| char::from(*b)).collect()
}

fn dashed(name: &str) -> impl Iterator<Item = char> + '_ {
    name.chars()
        .flat_map(char::to_lowercase)
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' })
}

trait DedupDashes {
    fn dedup_dashes(&mut self);
}

impl DedupDashes for String {
    fn dedup_dashes(&mut self) {
        let mut last = ' ';
        self.retain(|c| {
            let keep = c != '-' || last != '-';
            last = c;
            keep
        });
    }
}

/// The name of a preview: host label, namespace, label value and folder at once.
///
/// `<slug of the project path's last part, cut to fit>-<project id>-mr-<iid>`, such as `web-42-mr-7`: unique without a
/// hash, at most 63 characters, `[a-z0-9-]`, no `-` at either end. It is stored when the preview is first created and
/// kept when the project is renamed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct PreviewName(String);

impl PreviewName {
    /// The name of the preview of `key` in the project now called `project_path`.
    pub fn new(project_path: &str, key: MrKey) -> Self {
        let suffix = format!("-{}-mr-{}", key.project_id, key.iid);
        let last = project_path.rsplit('/').next().unwrap_or_default();
        let mut slug: String = dashed(last).take(LABEL.saturating_sub(suffix.len())).collect();
        slug.dedup_dashes();
        let slug = slug.trim_matches('-');
        Self(format!("{}{suffix}", if slug.is_empty() { "app" } else { slug }))
    }

    /// A name read back from where it was stored, or from a host; `None` when it is no DNS label.
    pub fn parse(text: &str) -> Option<Self> {
        valid_dns_label(text).then(|| Self(text.to_owned()))
    }

    /// The merge request that [`PreviewName::new`] was given; `None` when this was not made there.
    pub fn key(&self) -> Option<MrKey> {
        let (rest, iid) = self.0.rsplit_once("-mr-")?;
        let key = MrKey::new(rest.rsplit('-').next()?.parse().ok()?, iid.parse().ok()?);
        self.0.ends_with(&format!("-{}-mr-{}", key.project_id, key.iid)).then_some(key)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PreviewName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<'de> Deserialize<'de> for PreviewName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("`{text}` is not a DNS label")))
    }
}

/// Whether `text` is one lower-case DNS label: 1 to 63 of `[a-z0-9-]`, no `-` at either end (RFC 1123, 2.1).
pub fn valid_dns_label(text: &str) -> bool {
    (1..=LABEL).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// How the names of the GitLab environments of all previews begin.
pub const ENVIRONMENT_PREFIX: &str = "review/mr-";

/// The GitLab environment of a merge request's preview, `review/mr-<iid>`.
pub fn environment_name(iid: u64) -> String {
    format!("{ENVIRONMENT_PREFIX}{iid}")
}

/// The name of the commit status of a merge request's preview, `greenroom/mr-<iid>`. Two merge requests of one branch share
/// its pipelines, but not their statuses.
pub fn commit_status_name(iid: u64) -> String {
    format!("greenroom/mr-{iid}")
}

/// The merge request that [`environment_name`] was made for, if `name` is such a name.
pub fn merge_request_of_environment(name: &str) -> Option<u64> {
    let iid = name.strip_prefix(ENVIRONMENT_PREFIX)?.parse().ok()?;
    // `+7` and `007` are numbers too, but not names of ours.
    (environment_name(iid) == name).then_some(iid)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Vector {
        input: Option<String>,
        environment_slug: Option<String>,
        ref_slug: Option<String>,
        sha256_hex: Option<String>,
    }

    #[test]
    fn slugs_are_the_ones_gitlab_makes() {
        let text = include_str!("../../tests/fixtures/gitlab/slug_vectors.json");
        let vectors: Vec<Vector> = serde_json::from_str(text).unwrap();
        assert_eq!(vectors.len(), 122);
        for vector in vectors {
            let input = vector.input.unwrap_or_default();
            if let Some(expected) = vector.environment_slug {
                let digest = vector
                    .sha256_hex
                    .map_or_else(|| Sha256::digest(input.as_bytes()).to_vec(), |h| hex::decode(h).unwrap());
                assert_eq!(environment_slug_with(&input, &digest), expected, "environment `{input}`");
            }
            if let Some(expected) = vector.ref_slug {
                assert_eq!(ref_slug(&input), expected, "ref `{input}`");
            }
        }
    }

    #[test]
    fn a_preview_name_reads_well() {
        for (path, name) in [
            ("acme/web", "web-42-mr-7"),
            ("acme/sub/My_App.js", "my-app-js-42-mr-7"),
            ("acme/---", "app-42-mr-7"),
            ("Ünïcode/日本", "app-42-mr-7"),
        ] {
            assert_eq!(PreviewName::new(path, MrKey::new(42, 7)).as_str(), name);
        }
    }

    proptest! {
        #[test]
        fn a_preview_name_is_always_a_dns_label_and_never_shared(
            path in ".{0,300}", a in any::<(u64, u64)>(), b in any::<(u64, u64)>(),
        ) {
            let name = PreviewName::new(&path, MrKey::new(a.0, a.1));
            prop_assert!(valid_dns_label(name.as_str()), "{name}");
            if a != b {
                prop_assert_ne!(name, PreviewName::new(&path, MrKey::new(b.0, b.1)));
            }
        }

        #[test]
        fn a_name_leads_back_to_its_merge_request(path in "([a-zA-Z0-9._-]{1,80}/)?[a-zA-Z0-9._-]{1,80}", id: u64, iid: u64) {
            let key = MrKey::new(id, iid);
            prop_assert_eq!(PreviewName::new(&path, key).key(), Some(key));
        }

        #[test]
        fn only_our_own_environment_names_lead_anywhere(name in "review/mr-[+0]?[0-9]{1,3}") {
            let iid = merge_request_of_environment(&name);
            prop_assert_eq!(iid.map(environment_name).unwrap_or(name.clone()), name);
        }

        #[test]
        fn an_environment_name_leads_back_to_its_merge_request(iid in any::<u64>()) {
            prop_assert_eq!(merge_request_of_environment(&environment_name(iid)), Some(iid));
        }
    }
}
