//! The filters and the order of the merge request list.

use super::MergeRequest;
use crate::sandbox::{params::Params, state::State};

/// Whether a merge request is in the list that was asked for.
pub(super) fn wanted(params: &Params, state: &State, merge_request: &MergeRequest) -> bool {
    let text = |name: &str, value: &str| params.text(name).is_none_or(|wanted| wanted == value);
    let after = |name: &str, at| params.moment(name).is_none_or(|bound| at >= bound);
    let before = |name: &str, at| params.moment(name).is_none_or(|bound| at <= bound);
    let labels = params.list("labels").is_none_or(|wanted| match wanted.first().map(String::as_str) {
        Some("None") => merge_request.labels.is_empty(),
        Some("Any") => !merge_request.labels.is_empty(),
        _ => wanted.iter().all(|label| merge_request.labels.contains(label)),
    });
    let in_state =
        params.text("state").is_none_or(|wanted| wanted == "all" || wanted == merge_request.state.name());
    let draft = params
        .flag("wip")
        .or_else(|| params.flag("draft"))
        .is_none_or(|wanted| wanted == merge_request.draft());
    let iids = params.list("iids").is_none_or(|iids| iids.contains(&merge_request.iid.to_string()));
    let author = params.number("author_id").is_none_or(|author| author == merge_request.author);
    let author_name = state.users.get(&merge_request.author).map_or("", |user| &user.username);
    let search = params.text("search").is_none_or(|term| {
        let description = merge_request.description.as_deref().unwrap_or_default();
        merge_request.title.contains(&term) || description.contains(&term)
    });
    in_state
        && labels
        && draft
        && iids
        && author
        && search
        && text("author_username", author_name)
        && text("source_branch", &merge_request.source_branch)
        && text("target_branch", &merge_request.target_branch)
        && params.number("source_project_id").is_none_or(|id| merge_request.source_project == Some(id))
        && after("updated_after", merge_request.updated_at)
        && before("updated_before", merge_request.updated_at)
        && after("created_after", merge_request.created_at)
        && before("created_before", merge_request.created_at)
}

/// Sorts as asked; newest first by creation unless told otherwise.
pub(super) fn sort(params: &Params, merge_requests: &mut [&MergeRequest]) {
    match params.text("order_by").as_deref() {
        Some("updated_at") => merge_requests.sort_by_key(|one| (one.updated_at, one.id)),
        Some("title") => merge_requests.sort_by_cached_key(|one| (one.title.clone(), one.id)),
        _ => merge_requests.sort_by_key(|one| (one.created_at, one.id)),
    }
    if params.text("sort").as_deref() != Some("asc") {
        merge_requests.reverse();
    }
}
