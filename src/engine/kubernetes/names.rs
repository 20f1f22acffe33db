//! Labels and annotations, and the test of what is ours.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::preview::{PreviewKey, Subject};

pub(super) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
pub(super) const GREENROOM: &str = "greenroom";
pub(super) const INSTANCE: &str = "greenroom.dev/instance";
pub(super) const PROJECT: &str = "greenroom.dev/project-id";
pub(super) const MERGE_REQUEST: &str = "greenroom.dev/merge-request";
/// Of a branch without a merge request its id.
pub(super) const BRANCH: &str = "greenroom.dev/branch";

/// Labels of namespaces that begin so make the API server refuse pods.
pub(super) const POD_SECURITY: &str = "pod-security.kubernetes.io/";

/// Annotation of every object: the digest of the order that it was last applied for.
pub(super) const DIGEST: &str = "greenroom.dev/digest";

/// Label of Jobs that run beside a preview, and of their pods: the run that they belong to.
pub(super) const ERRAND: &str = "greenroom.dev/errand";

/// Field manager of what an order says.
pub(super) const FIELD_MANAGER: &str = "greenroom";
/// Field manager of counts that sleeping and waking change.
pub(super) const SLEEP_MANAGER: &str = "greenroom-sleep";

/// The Secret with the operator's values, which pods may use.
pub(super) const SECRET: &str = "greenroom";
/// The Secret that images are pulled with.
pub(super) const PULL_SECRET: &str = "greenroom-pull";

/// The labels of everything that belongs to the preview of `key`.
pub(super) fn labels(instance: &str, key: PreviewKey) -> BTreeMap<String, String> {
    [
        (MANAGED_BY, GREENROOM.to_owned()),
        (INSTANCE, instance.to_owned()),
        (PROJECT, key.project_id.to_string()),
        match key.subject {
            Subject::MergeRequest(iid) => (MERGE_REQUEST, iid.to_string()),
            Subject::Branch(id) => (BRANCH, id.to_string()),
        },
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// Selects everything of `instance`.
pub(super) fn ours(instance: &str) -> String {
    format!("{MANAGED_BY}={GREENROOM},{INSTANCE}={instance}")
}

/// Selects everything of other instances.
pub(super) fn theirs(instance: &str) -> String {
    format!("{MANAGED_BY}={GREENROOM},{INSTANCE},{INSTANCE}!={instance}")
}

/// Whether an object carries our label and the id of `instance`.
pub(super) fn is_ours(metadata: &ObjectMeta, instance: &str) -> bool {
    let label = |name| metadata.labels.as_ref().and_then(|labels| labels.get(name)).map(String::as_str);
    label(MANAGED_BY) == Some(GREENROOM) && label(INSTANCE) == Some(instance)
}

/// Whose preview it is, as labels say.
pub(super) fn key(labels: &BTreeMap<String, String>) -> Option<PreviewKey> {
    let subject = match labels.get(BRANCH) {
        Some(id) => Subject::Branch(id.parse().ok()?),
        None => Subject::MergeRequest(labels.get(MERGE_REQUEST)?.parse().ok()?),
    };
    Some(PreviewKey::new(labels.get(PROJECT)?.parse().ok()?, subject))
}
