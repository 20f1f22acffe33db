//! Our own pages: why there is no site to see, in words.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header;
use minijinja::value::Value;
use minijinja::{Environment, HtmlEscape, context};

use super::files::without_body;
use crate::preview::rfc3339;
use crate::preview::{Preview, Quoted, State, Subject};

/// The pages, by the name of their template.
const TEMPLATES: [(&str, &str); 7] = [
    ("layout.html", include_str!("../../templates/pages/layout.html")),
    ("unknown.html", include_str!("../../templates/pages/unknown.html")),
    ("stopped.html", include_str!("../../templates/pages/stopped.html")),
    ("not_yet.html", include_str!("../../templates/pages/not_yet.html")),
    ("missing.html", include_str!("../../templates/pages/missing.html")),
    ("refused.html", include_str!("../../templates/pages/refused.html")),
    ("trouble.html", include_str!("../../templates/pages/trouble.html")),
];

/// Our pages need nothing but their own few rules of style.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// How long a visitor waits before looking again when the fault is ours, in seconds.
const TROUBLE: u32 = 10;

/// A page of ours.
#[derive(Debug)]
pub(super) enum Page<'a> {
    /// No preview has this host.
    Unknown,
    /// The preview is there no more, or not yet.
    Absent(&'a Preview),
    /// The site has no such file.
    Missing(&'a str),
    /// Sites are read, not written.
    Method,
    /// The path cannot be that of a file.
    Malformed,
    /// The store does not answer.
    StoreDown,
    /// A file of the site cannot be read.
    Unreadable,
}

/// Makes the pages.
#[derive(Debug)]
pub(super) struct Pages(Environment<'static>);

impl Pages {
    pub(super) fn new() -> Self {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
        environment.add_filter("code", code);
        for (name, text) in TEMPLATES {
            #[expect(
                clippy::expect_used,
                reason = "the templates are part of the program, and each is tested"
            )]
            environment.add_template(name, text).expect("the page does not parse");
        }
        Self(environment)
    }

    /// The page as a response; without its body for a `HEAD` request.
    pub(super) fn respond(&self, page: &Page<'_>, head: bool) -> HttpResponse {
        let (status, reload, template, values) = describe(page);
        let text = self.0.get_template(template).and_then(|template| template.render(values)).unwrap_or_else(
            |error| {
                tracing::error!(%error, template, "a page could not be made");
                String::from("greenroom could not make this page")
            },
        );
        let mut response = HttpResponse::build(status);
        response.insert_header((header::CONTENT_TYPE, "text/html; charset=utf-8"));
        response.insert_header((header::CONTENT_SECURITY_POLICY, POLICY));
        response.insert_header((header::CACHE_CONTROL, "no-store"));
        if let Some(seconds) = reload {
            response.insert_header((header::RETRY_AFTER, seconds));
        }
        if status == StatusCode::METHOD_NOT_ALLOWED {
            response.insert_header((header::ALLOW, "GET, HEAD"));
        }
        if head { without_body(&mut response, text.len() as u64) } else { response.body(text) }
    }
}

/// Status, seconds until the next look, template and its values.
type Description = (StatusCode, Option<u32>, &'static str, Value);

fn describe(page: &Page<'_>) -> Description {
    let refused = |status, why: &str| (status, None, "refused.html", context! { reload => None::<u32>, why });
    let trouble =
        |status, why: &str| (status, Some(TROUBLE), "trouble.html", context! { reload => TROUBLE, why });
    match page {
        Page::Unknown => (StatusCode::NOT_FOUND, None, "unknown.html", context! { reload => None::<u32> }),
        Page::Absent(preview) => absent(preview),
        Page::Missing(path) => (
            StatusCode::NOT_FOUND,
            None,
            "missing.html",
            context! { reload => None::<u32>, path => Quoted::new(path).to_string() },
        ),
        Page::Method => refused(
            StatusCode::METHOD_NOT_ALLOWED,
            "A preview of a static site can only be read: use GET or HEAD.",
        ),
        Page::Malformed => {
            refused(StatusCode::BAD_REQUEST, "The address is not well-formed: no file can have such a path.")
        }
        Page::StoreDown => trouble(
            StatusCode::SERVICE_UNAVAILABLE,
            "The record of this preview cannot be read. Previews that are served already are not affected.",
        ),
        Page::Unreadable => {
            trouble(StatusCode::INTERNAL_SERVER_ERROR, "A file of this preview cannot be read from the disk.")
        }
    }
}

/// A preview that has no site: because it is over, or because there is nothing yet.
///
/// What a failed or excluded head means to a visitor is the same as a waiting one: there is nothing yet, the next push
/// may change it, and the reason is on the page. They are looked at less often.
fn absent(preview: &Preview) -> Description {
    // The reason says how it is there, not why it is not here.
    let elsewhere = preview.cluster.as_ref().filter(|_| preview.state == State::Ready).map(|cluster| {
        format!(
            "it runs on the cluster {}, and this request came to greenroom in place of the cluster's ingress controller or \
             gateway; where that stays so, the operator has to let the DNS record of this host lead there, or give the \
             project another `base_domain`",
            Quoted::new(cluster)
        )
    });
    let (heading, reload) = match preview.state {
        State::Stopping | State::Stopped => return over(preview),
        State::Waiting => ("The preview is not there yet", 10),
        State::Ready if elsewhere.is_some() => ("The preview is elsewhere", 10),
        State::Deploying | State::Ready => ("The preview is about to be there", 3),
        State::Asleep => ("The preview is asleep", 30),
        State::Failed => ("The preview could not be deployed", 30),
        State::Skipped => ("This merge request has no preview", 60),
    };
    let values = context! {
        reload,
        heading,
        whose => whose(preview),
        state => preview.state.as_str(),
        reason => elsewhere.as_deref().unwrap_or(&preview.reason),
    };
    (StatusCode::SERVICE_UNAVAILABLE, Some(reload), "not_yet.html", values)
}

/// `acme/web!7`, or `acme/web@feature`.
fn whose(preview: &Preview) -> String {
    match preview.key.subject {
        Subject::MergeRequest(iid) => format!("{}!{iid}", preview.project_path),
        Subject::Branch(_) => format!("{}@{}", preview.project_path, preview.source_branch),
    }
}

fn over(preview: &Preview) -> Description {
    let values = context! {
        reload => None::<u32>,
        whose => whose(preview),
        removed => preview.state == State::Stopped,
        reason => preview.reason.as_str(),
        at => rfc3339(preview.stopped_at.unwrap_or(preview.updated_at)),
    };
    (StatusCode::GONE, None, "stopped.html", values)
}

/// A sentence in Markdown, with inline code and nothing else, as HTML.
fn code(sentence: &str) -> Value {
    let parts = sentence.split('`').enumerate().map(|(index, part)| {
        let part = HtmlEscape(part);
        if index % 2 == 0 { part.to_string() } else { format!("<code>{part}</code>") }
    });
    Value::from_safe_string(parts.collect())
}
