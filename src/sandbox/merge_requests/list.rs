//! The filters and the order of the merge request list.

use super::MergeRequest;
use crate::sandbox::{params::Params, projects::Project, state::State};
use jiff::Timestamp;

/// What a list was asked to hold; read once, since a list may have to go through thousands.
pub(super) struct Wanted {
    state: Option<String>,
    labels: Option<Vec<String>>,
    draft: Option<bool>,
    iids: Option<Vec<String>>,
    authors: Option<Vec<u64>>,
    search: Option<String>,
    source_branch: Option<String>,
    target_branch: Option<String>,
    source_project: Option<u64>,
    updated: Period,
    created: Period,
}

/// The moments from one to another, both included.
struct Period {
    after: Option<Timestamp>,
    before: Option<Timestamp>,
}

impl Period {
    fn has(&self, at: Timestamp) -> bool {
        self.after.is_none_or(|bound| at >= bound) && self.before.is_none_or(|bound| at <= bound)
    }
}

impl Wanted {
    pub(super) fn new(params: &Params, state: &State) -> Self {
        let by_id = params.number("author_id").map(|id| vec![id]);
        let named = |name: String| {
            state.users.values().filter(|user| user.username == name).map(|user| user.id).collect()
        };
        let by_name: Option<Vec<_>> = params.text("author_username").map(named);
        Self {
            state: params.text("state").filter(|state| state != "all"),
            labels: params.list("labels"),
            draft: params.flag("wip").or_else(|| params.flag("draft")),
            iids: params.list("iids"),
            authors: match (by_id, by_name) {
                (Some(ids), Some(named)) => Some(ids.into_iter().filter(|id| named.contains(id)).collect()),
                (ids, named) => ids.or(named),
            },
            search: params.text("search"),
            source_branch: params.text("source_branch"),
            target_branch: params.text("target_branch"),
            source_project: params.number("source_project_id"),
            updated: Period {
                after: params.moment("updated_after"),
                before: params.moment("updated_before"),
            },
            created: Period {
                after: params.moment("created_after"),
                before: params.moment("created_before"),
            },
        }
    }

    pub(super) fn has(&self, one: &MergeRequest) -> bool {
        let labels = |wanted: &Vec<String>| match wanted.first().map(String::as_str) {
            Some("None") => one.labels.is_empty(),
            Some("Any") => !one.labels.is_empty(),
            _ => wanted.iter().all(|label| one.labels.contains(label)),
        };
        let found = |term: &String| {
            one.title.contains(term) || one.description.as_deref().unwrap_or_default().contains(term)
        };
        self.state.as_ref().is_none_or(|state| state == one.state.name())
            && self.labels.as_ref().is_none_or(labels)
            && self.draft.is_none_or(|draft| draft == one.draft())
            && self.iids.as_ref().is_none_or(|iids| iids.contains(&one.iid.to_string()))
            && self.authors.as_ref().is_none_or(|authors| authors.contains(&one.author))
            && self.search.as_ref().is_none_or(found)
            && self.source_branch.as_ref().is_none_or(|branch| *branch == one.source_branch)
            && self.target_branch.as_ref().is_none_or(|branch| *branch == one.target_branch)
            && self.source_project.is_none_or(|project| one.source_project == Some(project))
            && self.updated.has(one.updated_at)
            && self.created.has(one.created_at)
    }
}

/// Sorts as asked; newest first by creation unless told otherwise.
pub(super) fn sort(params: &Params, found: &mut [(&Project, &MergeRequest)]) {
    match params.text("order_by").as_deref() {
        Some("updated_at") => found.sort_by_key(|(_, one)| (one.updated_at, one.id)),
        Some("title") => found.sort_by_cached_key(|(_, one)| (one.title.clone(), one.id)),
        _ => found.sort_by_key(|(_, one)| (one.created_at, one.id)),
    }
    if params.text("sort").as_deref() != Some("asc") {
        found.reverse();
    }
}
