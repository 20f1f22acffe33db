//! What an order would change, asked of the API server itself.

use futures::future::{join_all, try_join_all};
use serde_json::Value;

use super::super::{Action, Change, Error};
use super::Inner;
use super::diff::diff;
use super::names::is_ours;
use super::record::Record;
use super::reference::Reference;
use super::refusal::Refusal;
use super::submit::Parcel;

impl Inner {
    /// What sending `parcel` would change. Nothing is touched.
    pub(super) async fn plan(&self, parcel: &Parcel) -> Result<Vec<Change>, Error> {
        let name = parcel.name.as_str();
        let refused = |what: &'static str| move |refusal: Refusal| self.refused(what, &refusal);
        let found = self.server.namespace(name).await.map_err(refused("show a namespace"))?;
        let metadata = match found.map(|found| found.metadata) {
            Some(metadata) if !is_ours(&metadata, &self.instance) => {
                return Err(self.error(
                    "plan a preview",
                    "it has a namespace of that name that this greenroom did not make; remove or rename it",
                ));
            }
            // What is being deleted will be made anew.
            found => found.filter(|metadata| metadata.deletion_timestamp.is_none()),
        };
        let objects = parcel.guards.iter().chain(&parcel.objects);
        let Some(metadata) = metadata else {
            let namespace = Change {
                object: format!("Namespace {}", parcel.name),
                action: Action::Create,
                diff: String::new(),
                refused: None,
            };
            let created = try_join_all(objects.map(|object| self.appear(name, object))).await?;
            return Ok([namespace].into_iter().chain(created.into_iter().flatten()).collect());
        };
        let compared = try_join_all(objects.map(|object| self.compare(name, object))).await?;
        let mut changes: Vec<Change> = compared.into_iter().flatten().collect();
        let empty = std::collections::BTreeMap::new();
        let record = Record::read(metadata.annotations.as_ref().unwrap_or(&empty));
        let old = record.leftovers(&parcel.wanted);
        let live = join_all(old.iter().map(|object| self.server.get(name, object))).await;
        for (reference, live) in old.iter().zip(live) {
            match live {
                Ok(Some(live)) => changes.push(change(reference, Action::Delete, Some(&live), None)),
                Ok(None) | Err(Refusal::UnknownKind) => {}
                Err(refusal) => return Err(self.refused("show what is there", &refusal)),
            }
        }
        Ok(changes)
    }

    /// An object of a namespace that is not there yet, where the API server tries nothing out but knows its kinds.
    async fn appear(&self, namespace: &str, object: &Value) -> Result<Option<Change>, Error> {
        let Some(reference) = Reference::of(object) else { return Ok(None) };
        let refused = match self.server.get(namespace, &reference).await {
            Ok(_) => None,
            Err(refusal) => Some(self.of_object(&reference, &refusal)?),
        };
        Ok(Some(Change { refused, ..change(&reference, Action::Create, None, Some(object)) }))
    }

    async fn compare(&self, namespace: &str, object: &Value) -> Result<Option<Change>, Error> {
        let Some(reference) = Reference::of(object) else { return Ok(None) };
        let live = match self.server.get(namespace, &reference).await {
            Ok(live) => live,
            // The API server says so below, in the words for it.
            Err(Refusal::UnknownKind) => None,
            Err(refusal) => return Err(self.refused("show what is there", &refusal)),
        };
        let action = if live.is_some() { Action::Update } else { Action::Create };
        match self.server.dry_run(namespace, object).await {
            // What the server adds to something new says nothing to who wrote it.
            Ok(_) if live.is_none() => Ok(Some(change(&reference, action, None, Some(object)))),
            Ok(after) => {
                let change = change(&reference, action, live.as_ref(), Some(&after));
                Ok((!change.diff.is_empty()).then_some(change))
            }
            Err(Refusal::Immutable(_)) if reference.kind.may_be_replaced(object) => {
                Ok(Some(change(&reference, Action::Replace, live.as_ref(), Some(object))))
            }
            Err(refusal) => {
                let refused = Some(self.of_object(&reference, &refusal)?);
                Ok(Some(Change { refused, ..change(&reference, action, live.as_ref(), Some(object)) }))
            }
        }
    }

    /// Why an object is refused; an error where it may not be its fault.
    fn of_object(&self, reference: &Reference, refusal: &Refusal) -> Result<String, Error> {
        refusal.of_object().ok_or_else(|| self.refused(&format!("accept {reference}"), refusal))
    }
}

fn change(reference: &Reference, action: Action, before: Option<&Value>, after: Option<&Value>) -> Change {
    let object = format!("{} {}", reference.kind.kind, reference.name);
    Change { object, action, diff: diff(before, after), refused: None }
}
