//! What an answer says, in words.

use std::error::Error;
use std::io;

use reqwest::{Response, StatusCode};

use crate::outgoing::certificate_refused;
use crate::preview::{Quoted, Redaction};
use crate::render::HttpCheck;

/// How much of a body is read, in bytes.
const LARGEST: usize = 1 << 20;

/// How much of a body is shown, in characters.
const EXCERPT: usize = 120;

/// Something that is not as the project expects.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// What, in words without a full stop, Markdown-safe.
    pub why: String,
    /// Whether it may pass by itself: the preview is not reached yet.
    pub passes: bool,
}

impl Wrong {
    pub(super) const fn stays(why: String) -> Self {
        Self { why, passes: false }
    }

    const fn passes(why: String) -> Self {
        Self { why, passes: true }
    }

    /// What is told once it was asked for this long.
    pub(super) fn after(self, patience: &str) -> String {
        if self.passes { format!("{}, for {patience}", self.why) } else { self.why }
    }
}

/// Compares an answer with what is expected.
pub(super) async fn judge(
    mut response: Response,
    check: &HttpCheck,
    secrets: &Redaction,
) -> Result<String, Wrong> {
    let status = response.status();
    let right = status.as_u16() == check.status;
    let expected = check.body.as_ref();
    if right && expected.is_none() {
        return Ok(format!("it answered with {}", named(status)));
    }
    let (mut body, mut whole) = (Vec::new(), true);
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(error) => {
                let why = format!("its answer with {} broke off: {}", named(status), cause(&error));
                return Err(Wrong::passes(why));
            }
        }
        if body.len() > LARGEST {
            body.truncate(LARGEST);
            whole = false;
            break;
        }
    }
    let text = String::from_utf8_lossy(&body);
    let shown = excerpt(&secrets.hide(&text));
    if !right {
        // An Ingress that does not know the preview yet, or whose backend is not there yet, says so.
        let passes = matches!(status.as_u16(), 404 | 429 | 502 | 503 | 504);
        let why = format!("it answered with {} instead of {}: {shown}", named(status), check.status);
        return Err(Wrong { why, passes });
    }
    match expected {
        Some(pattern) if !pattern.regex().is_match(&text) => {
            let part = if whole { "its body does not" } else { "the first MiB of its body does not" };
            let pattern = Quoted::new(pattern.regex().as_str());
            Err(Wrong::stays(format!(
                "it answered with {}, but {part} match {pattern}: {shown}",
                named(status)
            )))
        }
        _ => Ok(format!("it answered with {}, and its body matches", named(status))),
    }
}

/// A redirect to somewhere else.
pub(super) fn leads_away(status: StatusCode, to: &str) -> Wrong {
    Wrong::stays(format!(
        "it answered with {} and leads to {}, outside of the preview, where nothing is asked",
        named(status),
        Quoted::new(to)
    ))
}

/// Nobody answered.
pub(super) fn unreached(error: &reqwest::Error) -> Wrong {
    if let Some(why) = certificate_refused(error) {
        return Wrong::passes(why);
    }
    Wrong::passes(if is_refused(error) {
        String::from("the connection was refused")
    } else {
        format!("it cannot be reached: {}", cause(error))
    })
}

fn is_refused(error: &(dyn Error + 'static)) -> bool {
    let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    error.downcast_ref().is_some_and(refused) || error.source().is_some_and(is_refused)
}

/// The last reason behind an error, which names no URL.
fn cause(error: &(dyn Error + 'static)) -> Quoted {
    error.source().map_or_else(|| Quoted::new(&error.to_string()), cause)
}

/// Such as `404 Not Found`.
fn named(status: StatusCode) -> String {
    status.canonical_reason().map_or_else(|| status.as_u16().to_string(), |_| status.to_string())
}

/// The beginning of a body.
fn excerpt(text: &str) -> String {
    if text.trim().is_empty() {
        return String::from("its body is empty");
    }
    let mut start: String = text.chars().filter(|c| *c != '\u{fffd}').take(EXCERPT).collect();
    if start.len() < text.len() {
        start.push('…');
    }
    Quoted::new(&start).to_string()
}
