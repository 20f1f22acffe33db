//! Names derived from GitLab's: slugs as GitLab makes them, the preview's own name, its environment.
//!
//! The two slug algorithms are GitLab's (`lib/gitlab/slug/environment.rb`, `Gitlab::Utils.slugify`) and are held to
//! its test vectors in `tests/fixtures/gitlab/slug_vectors.json`.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::ids::{BranchId, PreviewKey, Subject};
use super::quoted::Quoted;

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
        slug.extend(base36_tail::<6>(digest).map(char::from));
        slug
    } else {
        slug.strip_suffix('-').map(str::to_owned).unwrap_or(slug)
    }
}

/// The last `N` digits, at most 10, of a big-endian number written in base 36.
pub(super) fn base36_tail<const N: usize>(number: &[u8]) -> [u8; N] {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let modulus = (0..N).fold(1_u64, |modulus, _| modulus * 36);
    let mut rest = number.iter().fold(0_u64, |value, byte| (value * 256 + u64::from(*byte)) % modulus);
    let mut tail = [b'0'; N];
    for slot in tail.iter_mut().rev() {
        *slot = DIGITS[usize::try_from(rest % 36).unwrap_or_default()];
        rest /= 36;
    }
    tail
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
/// `<slug of the project path's last part, cut to fit>-<project id>-mr-<iid>`, such as `web-42-mr-7`; that of a branch without a
/// merge request has the branch's slug and [id](super::BranchId), such as `web-feature-login-42-b-3k9d2m1q`. At most 63 characters,
/// `[a-z0-9-]`, no `-` at either end. It is stored when the preview is first created and kept when the project is renamed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct PreviewName(String);

impl PreviewName {
    /// The name of the preview of `key` in the project now called `project_path`; `branch` is named where it is a branch's.
    pub fn new(project_path: &str, key: PreviewKey, branch: &str) -> Self {
        let last = project_path.rsplit('/').next().unwrap_or_default();
        let text = match key.subject {
            Subject::MergeRequest(_) => last.to_owned(),
            // Room for both, whatever the project is called.
            Subject::Branch(_) => format!("{}-{branch}", last.chars().take(LABEL / 4).collect::<String>()),
        };
        let suffix = suffix(key);
        let mut slug: String = dashed(&text).take(LABEL.saturating_sub(suffix.len())).collect();
        slug.dedup_dashes();
        let slug = slug.trim_matches('-');
        Self(format!("{}{suffix}", if slug.is_empty() { "app" } else { slug }))
    }

    /// A name read back from where it was stored, or from a host; `None` when it is no DNS label.
    pub fn parse(text: &str) -> Option<Self> {
        valid_dns_label(text).then(|| Self(text.to_owned()))
    }

    /// The key that [`PreviewName::new`] was given; `None` when this was not made there.
    pub fn key(&self) -> Option<PreviewKey> {
        // A branch may be called `fix-mr-7`, but no merge request has a number like a branch's id.
        let of_branch = self.0.rsplit_once("-b-").and_then(|(rest, id)| Some((rest, id.parse().ok()?)));
        let (rest, subject) = if let Some((rest, id)) = of_branch {
            (rest, Subject::Branch(id))
        } else {
            let (rest, iid) = self.0.rsplit_once("-mr-")?;
            (rest, Subject::MergeRequest(iid.parse().ok()?))
        };
        let key = PreviewKey::new(rest.rsplit('-').next()?.parse().ok()?, subject);
        self.0.ends_with(&suffix(key)).then_some(key)
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

/// What ends every name, and leads back to its key.
fn suffix(key: PreviewKey) -> String {
    let kind = if key.subject.is_branch() { "" } else { "mr-" };
    format!("-{}-{kind}{}", key.project_id, key.subject)
}

/// Whether `text` is one lower-case DNS label: 1 to 63 of `[a-z0-9-]`, no `-` at either end (RFC 1123, 2.1).
pub fn valid_dns_label(text: &str) -> bool {
    (1..=LABEL).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// How the names of the GitLab environments of all previews begin.
pub const ENVIRONMENT_PREFIX: &str = "review/";

/// How those of merge requests begin.
pub const MR_ENVIRONMENT_PREFIX: &str = "review/mr-";

/// Whose preview it is, in words such as `merge request !7`.
pub(super) fn called(subject: Subject, branch: &str) -> String {
    match subject {
        Subject::MergeRequest(iid) => format!("merge request !{iid}"),
        Subject::Branch(_) => format!("branch {}", Quoted::new(branch)),
    }
}

/// The GitLab environment of a preview: `review/mr-<iid>`, or of a branch without a merge request `review/<slug>`, which in a job
/// is `review/$CI_COMMIT_REF_SLUG`.
pub fn environment_name(subject: Subject, branch: &str) -> String {
    match subject {
        Subject::MergeRequest(iid) => format!("{MR_ENVIRONMENT_PREFIX}{iid}"),
        Subject::Branch(_) => format!("{ENVIRONMENT_PREFIX}{}", ref_slug(branch)),
    }
}

/// The name of the commit status of a merge request's preview, `greenroom/mr-<iid>`. Two merge requests of one branch share
/// its pipelines, but not their statuses.
pub fn commit_status_name(iid: u64) -> String {
    format!("greenroom/mr-{iid}")
}

/// The merge request that [`environment_name`] was made for, if `name` is such a name.
pub fn merge_request_of_environment(name: &str) -> Option<u64> {
    let iid = name.strip_prefix(MR_ENVIRONMENT_PREFIX)?.parse().ok()?;
    // `+7` and `007` are numbers too, but not names of ours.
    (environment_name(Subject::MergeRequest(iid), "") == name).then_some(iid)
}

/// What [`environment_name`] was made for, if `name` is such a name: a merge request, else a branch with that slug.
pub fn subject_of_environment(name: &str) -> Option<Subject> {
    if let Some(iid) = merge_request_of_environment(name) {
        return Some(Subject::MergeRequest(iid));
    }
    let slug = name.strip_prefix(ENVIRONMENT_PREFIX)?;
    BranchId::of(slug).filter(|_| ref_slug(slug) == slug).map(Subject::Branch)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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

    fn of_branch(project: u64, branch: &str) -> Option<PreviewKey> {
        BranchId::of(branch).map(|id| PreviewKey::new(project, Subject::Branch(id)))
    }

    #[test]
    fn a_preview_name_reads_well() {
        for (path, name) in [
            ("acme/web", "web-42-mr-7"),
            ("acme/sub/My_App.js", "my-app-js-42-mr-7"),
            ("acme/---", "app-42-mr-7"),
            ("Ünïcode/日本", "app-42-mr-7"),
        ] {
            assert_eq!(PreviewName::new(path, PreviewKey::of_mr(42, 7), "").as_str(), name);
        }
        for (path, branch, name) in [
            ("acme/web", "feature/Login", "web-feature-login-42-b-lwhxqj6v"),
            ("acme/a-project-with-a-very-long-name", "fix-mr-7", "a-project-with-fix-mr-7-42-b-1scw8k98"),
        ] {
            let name_of = PreviewName::new(path, of_branch(42, branch).unwrap(), branch);
            assert_eq!(name_of.as_str(), name);
        }
    }

    proptest! {
        #[test]
        fn a_preview_name_is_always_a_dns_label_and_never_shared(
            path in ".{0,300}", a: (u64, u64), b: (u64, u64), branch in ".{0,300}",
        ) {
            let keys = [PreviewKey::of_mr(a.0, a.1), PreviewKey::of_mr(b.0, b.1)];
            let keys: BTreeSet<_> = keys.into_iter().chain(of_branch(a.0, &branch)).collect();
            let names: BTreeSet<_> = keys.iter().map(|key| PreviewName::new(&path, *key, &branch)).collect();
            prop_assert_eq!(names.len(), keys.len());
            for name in names {
                prop_assert!(valid_dns_label(name.as_str()), "{name}");
            }
        }

        #[test]
        fn a_name_leads_back_to_its_key(
            path in "([a-zA-Z0-9._-]{1,80}/)?[a-zA-Z0-9._-]{1,80}", id: u64, iid: u64, branch in ".{0,80}|[a-z0-9]{0,3}-(mr|b)-[a-z0-9]{0,9}",
        ) {
            for key in std::iter::once(PreviewKey::of_mr(id, iid)).chain(of_branch(id, &branch)) {
                prop_assert_eq!(PreviewName::new(&path, key, &branch).key(), Some(key));
            }
        }

        #[test]
        fn only_our_own_environment_names_lead_to_merge_requests(name in "review/mr-[+0]?[0-9]{1,3}") {
            let iid = merge_request_of_environment(&name);
            let own = iid.map(|iid| environment_name(Subject::MergeRequest(iid), ""));
            prop_assert_eq!(own.unwrap_or(name.clone()), name);
        }

        #[test]
        fn an_environment_name_leads_back(iid: u64, branch in ".{0,80}|mr-[0-9]{1,3}") {
            let name = environment_name(Subject::MergeRequest(iid), &branch);
            prop_assert_eq!(subject_of_environment(&name), Some(Subject::MergeRequest(iid)));
            if let Some(id) = BranchId::of(&branch) {
                let name = environment_name(Subject::Branch(id), &branch);
                // A branch that is called like a merge request's environment has none of its own.
                let taken = merge_request_of_environment(&name).map(Subject::MergeRequest);
                prop_assert_eq!(subject_of_environment(&name), taken.or(Some(Subject::Branch(id))));
            }
        }
    }
}
