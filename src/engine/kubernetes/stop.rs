//! Taking a preview away, and saying what is left.

use k8s_openapi::api::core::v1::Namespace;
use kube::core::ObjectMeta;
use serde_json::Value;

use super::super::Error;
use super::Inner;
use super::names::is_ours;
use super::reference::Kind;
use super::refusal::Refusal;
use crate::preview::{PreviewName, Quoted};

/// Conditions of a namespace that say what holds it.
const HOLDS: [&str; 5] = [
    "NamespaceFinalizersRemaining",
    "NamespaceContentRemaining",
    "NamespaceDeletionDiscoveryFailure",
    "NamespaceDeletionGroupVersionParsingFailure",
    "NamespaceDeletionContentFailure",
];

/// How many objects that are held are named.
const NAMED: usize = 5;

impl Inner {
    /// Removes everything of a preview; what is left, in words. The cluster deletes a namespace by and by: its end is an
    /// event, and the next call finds it gone.
    pub(super) async fn stop(&self, name: &PreviewName) -> Result<Vec<String>, Error> {
        if let Some(attempt) = self.attempt(name) {
            attempt.overtaken.cancel();
        }
        let turn = self.turn(name).lock_owned().await;
        let namespace = name.as_str();
        let refused = |what: &'static str| move |refusal: Refusal| self.refused(what, &refusal);
        let found = self.server.namespace(namespace).await.map_err(refused("show a namespace"))?;
        let Some(found) = found.filter(|found| is_ours(&found.metadata, &self.instance)) else {
            let left = self.volumes(namespace).await.map_err(refused("list its volumes"))?;
            self.forget(name);
            drop(turn);
            self.tidy(namespace);
            return Ok(left);
        };
        if found.metadata.deletion_timestamp.is_none() {
            let uid = found.metadata.uid.as_deref().unwrap_or_default();
            match self.server.delete_namespace(namespace, uid).await {
                Ok(()) | Err(Refusal::NotFound) => {}
                Err(refusal) => return Err(self.refused("delete a namespace", &refusal)),
            }
        }
        self.forget(name);
        let mut left = vec![format!("the namespace {}, which is being deleted", Quoted::new(namespace))];
        left.extend(self.held(namespace));
        left.extend(conditions(&found));
        drop(turn);
        Ok(left)
    }

    /// Forgets an order that a stop has overtaken.
    fn forget(&self, name: &PreviewName) {
        let mut desks = self.desks();
        let Some(desk) = desks.get_mut(name) else { return };
        // An order that was given since waits for its turn.
        if desk
            .attempt
            .as_ref()
            .is_some_and(|attempt| attempt.overtaken.is_cancelled() || !attempt.is_sending())
        {
            desk.attempt = None;
        }
    }

    /// Objects that are being deleted and that a finalizer holds.
    fn held(&self, namespace: &str) -> Vec<String> {
        let cache = self.cache();
        let held: Vec<String> = cache
            .objects
            .get(namespace)
            .into_iter()
            .flatten()
            .filter(|(_, seen)| seen.deleting && !seen.finalizers.is_empty())
            .map(|((kind, name), seen)| {
                let finalizers: Vec<String> =
                    seen.finalizers.iter().map(|it| Quoted::new(it).to_string()).collect();
                format!("{kind} {}, held by the finalizer {}", Quoted::new(name), finalizers.join(" and "))
            })
            .collect();
        if held.len() <= NAMED {
            return held;
        }
        let more = format!("{} more objects that are held by finalizers", held.len() - NAMED);
        held.into_iter().take(NAMED).chain([more]).collect()
    }

    /// Volumes that outlive their claims. Those with our labels are removed, the others told of.
    async fn volumes(&self, namespace: &str) -> Result<Vec<String>, Refusal> {
        let volumes = self.server.list(None, &Kind::new("v1", "PersistentVolume"), 0).await?;
        let mut left = Vec::new();
        for volume in volumes
            .iter()
            .filter(|volume| volume.pointer("/spec/claimRef/namespace") == Some(&Value::from(namespace)))
        {
            let metadata: ObjectMeta = serde_json::from_value(volume["metadata"].clone()).unwrap_or_default();
            let mut ours = is_ours(&metadata, &self.instance);
            if ours && metadata.deletion_timestamp.is_none() {
                match self.server.delete_volume(&metadata).await {
                    Ok(()) | Err(Refusal::NotFound) => {}
                    // Volumes are the cluster's: few let greenroom remove any.
                    Err(Refusal::Access(_)) => ours = false,
                    Err(refusal) => return Err(refusal),
                }
            }
            left.push(describe(volume, &metadata, ours));
        }
        Ok(left)
    }
}

fn describe(volume: &Value, metadata: &ObjectMeta, ours: bool) -> String {
    let text = |pointer| volume.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let name = Quoted::new(metadata.name.as_deref().unwrap_or_default());
    let claim = Quoted::new(text("/spec/claimRef/name"));
    if ours {
        return format!("PersistentVolume {name} of the claim {claim}, which is being deleted");
    }
    let policy = text("/spec/persistentVolumeReclaimPolicy");
    if policy == "Retain" {
        format!(
            "PersistentVolume {name} of the claim {claim}, whose reclaim policy `Retain` keeps it; an operator has to \
             remove it"
        )
    } else {
        format!("PersistentVolume {name} of the claim {claim}, which its storage has not removed yet")
    }
}

/// What holds a namespace, in the cluster's words.
fn conditions(namespace: &Namespace) -> Vec<String> {
    let conditions = namespace.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
    conditions
        .filter(|condition| condition.status == "True" && HOLDS.contains(&condition.type_.as_str()))
        .filter_map(|condition| condition.message.as_deref())
        .map(|message| format!("the cluster says {}", Quoted::new(message)))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_holds_a_namespace_is_told() {
        let condition = |kind: &str, status: &str, message: &str| json!({"type": kind, "status": status, "message": message, "lastTransitionTime": "2026-11-21T00:00:00Z"});
        let namespace: Namespace = serde_json::from_value(json!({"status": {"conditions": [
            condition("NamespaceDeletionDiscoveryFailure", "False", "All resources successfully discovered"),
            condition("NamespaceContentRemaining", "True", "Some resources are remaining: configmaps. has 1 resource instances"),
            condition(
                "NamespaceFinalizersRemaining",
                "True",
                "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances",
            ),
        ]}}))
        .unwrap();
        insta::assert_snapshot!(conditions(&namespace).join("\n"));
    }

    #[test]
    fn a_volume_that_stays_says_who_has_to_remove_it() {
        let volume = |policy: &str, ours| {
            let volume = json!({
                "spec": {"persistentVolumeReclaimPolicy": policy, "claimRef": {"name": "data"}},
            });
            describe(&volume, &ObjectMeta { name: Some("pv-1".into()), ..ObjectMeta::default() }, ours)
        };
        insta::assert_snapshot!(
            [volume("Retain", false), volume("Delete", false), volume("Retain", true)].join("\n")
        );
    }
}
