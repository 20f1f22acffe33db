//! Offset pagination: `page`, `per_page` (20, at most 100), the `X-*` headers and `Link`. Above
//! 10,000 records GitLab leaves out the totals and the link to the last page.

use super::params::Params;
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use serde_json::Value;

const DEFAULT_PER_PAGE: usize = 20;
const MAX_PER_PAGE: usize = 100;
const MAX_COUNTED: usize = 10_000;

/// Answers 200 with the page of `items` that the request asks for.
pub(super) fn paginate(request: &HttpRequest, params: &Params, items: &[Value]) -> HttpResponse {
    paginate_by(request, params, items, |item| item)
}

/// As [`paginate`], for many items: only those on the page are made into JSON.
pub(super) fn paginate_by<'items, T, J: Serialize>(
    request: &HttpRequest,
    params: &Params,
    items: &'items [T],
    shown: impl Fn(&'items T) -> J,
) -> HttpResponse {
    let ask = |name: &str| {
        params.number(name).and_then(|number| usize::try_from(number).ok()).filter(|number| *number > 0)
    };
    let page = ask("page").unwrap_or(1);
    let per_page = ask("per_page").unwrap_or(DEFAULT_PER_PAGE).min(MAX_PER_PAGE);
    let total = items.len();
    let last = total.div_ceil(per_page).max(1);
    let start = (page - 1).saturating_mul(per_page).min(total);
    let end = start.saturating_add(per_page).min(total);
    let previous = (page > 1).then(|| page - 1);
    let next = (page < last).then(|| page + 1);
    let counted = total <= MAX_COUNTED;

    let link = |to: usize, relation: &str| {
        let connection = request.connection_info();
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in url::form_urlencoded::parse(request.query_string().as_bytes()) {
            if name != "page" && name != "per_page" {
                query.append_pair(&name, &value);
            }
        }
        query.append_pair("page", &to.to_string()).append_pair("per_page", &per_page.to_string());
        let (scheme, host, path) = (connection.scheme(), connection.host(), request.uri().path());
        format!("<{scheme}://{host}{path}?{}>; rel=\"{relation}\"", query.finish())
    };
    let links = previous
        .map(|to| link(to, "prev"))
        .into_iter()
        .chain(next.map(|to| link(to, "next")))
        .chain([link(1, "first")])
        .chain(counted.then(|| link(last, "last")))
        .collect::<Vec<_>>()
        .join(", ");

    let header = |number: Option<usize>| number.map(|number| number.to_string()).unwrap_or_default();
    let mut answer = HttpResponse::Ok();
    answer
        .insert_header(("Link", links))
        .insert_header(("X-Next-Page", header(next)))
        .insert_header(("X-Page", page.to_string()))
        .insert_header(("X-Per-Page", per_page.to_string()))
        .insert_header(("X-Prev-Page", header(previous)));
    if counted {
        answer
            .insert_header(("X-Total", total.to_string()))
            .insert_header(("X-Total-Pages", last.to_string()));
    }
    answer.json(items[start..end].iter().map(shown).collect::<Vec<_>>())
}
