//! How what a job asked for goes: one JSON object a line, as it happens, until it is decided.
//!
//! Lines of the preview's history come as they are in the API. The last line has `end`: how it came out, and where the preview is.

use std::fmt::Write as _;
use std::time::Duration;

use actix_web::{HttpResponse, web};
use bytes::Bytes;
use futures::stream::{self, Stream};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{Caller, JobDesk};
use crate::clock::Clock;
use crate::preview::{CheckResult, Preview, PreviewKey, Release, State, rfc3339};
use crate::reconcile::Jobs;
use crate::store::{Error, Store};
use crate::web::Problem;

/// How often the store is asked for news.
const EVERY: Duration = Duration::from_millis(250);

/// The first pause after something has happened, for more may follow soon; each is a quarter longer than the one before, so that
/// nobody waits for news much longer than they took to come.
const SOON: Duration = Duration::from_millis(10);

/// How often something is sent at least, in askings: proxies hang up on who says nothing for long. An empty line is no event.
const HEARTBEAT: u32 = 50;

/// The most lines that are told at once.
const LINES: i64 = 200;

/// What is followed.
#[derive(Debug, Deserialize)]
pub struct Wanted {
    /// The order whose end is waited for; without one, for the preview to be gone.
    pub order: Option<String>,
    /// The last line that is known already.
    pub after: Option<String>,
}

/// How it came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Done,
    Failed,
}

#[derive(Debug, Serialize)]
struct End<'a> {
    outcome: Outcome,
    reason: &'a str,
    state: State,
    name: Option<&'a str>,
    url: Option<&'a str>,
    sha: Option<&'a str>,
    /// How long the deploy took, milliseconds.
    took_ms: Option<i64>,
    /// How the project's own checks came out.
    checks: &'a [CheckResult],
}

/// Follows what was asked for in the store, until it is decided.
pub struct Follower {
    store: Store,
    stop: CancellationToken,
    key: PreviewKey,
    wanted: Wanted,
    /// Lines before it are of no interest to who has none yet.
    since: i64,
    /// Whether a line has told that the preview was gone, which may not be so any more.
    was_gone: bool,
    quiet: u32,
    pause: Duration,
    ended: bool,
}

pub(super) async fn events(
    caller: Caller,
    desk: web::Data<JobDesk>,
    path: web::Path<(u64, String)>,
    wanted: web::Query<Wanted>,
) -> Result<HttpResponse, Problem> {
    let (project, subject) = path.into_inner();
    let subject =
        subject.parse().map_err(|_| Problem::bad_request(format!("`{subject}` names no preview")))?;
    let key = PreviewKey::new(project, subject);
    if !Jobs::may_follow(&caller.0, key) {
        return Err(Problem::forbidden("the job runs in another project"));
    }
    let follower =
        Follower::new(desk.jobs.store.clone(), desk.clock, desk.stop.clone(), key, wanted.into_inner())
            .await?;
    Ok(HttpResponse::Ok()
        .content_type("application/x-ndjson")
        .insert_header(("Cache-Control", "no-store"))
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(follower.lines()))
}

impl Follower {
    /// Begins where what is wanted was asked for, and hangs up when `stop` is cancelled.
    pub async fn new(
        store: Store,
        clock: Clock,
        stop: CancellationToken,
        key: PreviewKey,
        wanted: Wanted,
    ) -> Result<Self, Error> {
        let since = match &wanted.order {
            Some(_) => store.job_order(key).await?.map(|kept| kept.order.at),
            None => store.asked(key).await?.map(|asked| asked.at),
        };
        let since = since.unwrap_or_else(|| clock.now());
        Ok(Self {
            store,
            stop,
            key,
            wanted,
            since,
            was_gone: false,
            quiet: HEARTBEAT,
            pause: SOON,
            ended: false,
        })
    }

    /// One JSON object a line, as it happens; the last one has `end`.
    pub fn lines(self) -> impl Stream<Item = Result<Bytes, Error>> {
        stream::unfold(self, |mut follower| async move {
            if follower.ended {
                return None;
            }
            loop {
                let text = match follower.news().await {
                    Ok(text) => text,
                    Err(error) => {
                        // Whoever follows comes back, and asks from the last line on.
                        tracing::warn!(mr.key = %follower.key, %error, "progress cannot be told");
                        return None;
                    }
                };
                if !text.is_empty() {
                    (follower.quiet, follower.pause) = (0, SOON);
                    return Some((Ok(Bytes::from(text)), follower));
                }
                follower.quiet += 1;
                if follower.quiet >= HEARTBEAT {
                    follower.quiet = 0;
                    return Some((Ok(Bytes::from_static(b"\n")), follower));
                }
                tokio::select! {
                    () = tokio::time::sleep(follower.pause) => {}
                    () = follower.stop.cancelled() => return None,
                }
                follower.pause = (follower.pause * 5 / 4).min(EVERY);
            }
        })
    }

    /// The lines that are new, and the end if it is there. The end is read first, so that every line before it is told.
    async fn news(&mut self) -> Result<String, Error> {
        let end = self.end().await?;
        let mut text = String::new();
        let history = self.store.history(self.key, LINES).await?;
        for entry in history.into_iter().rev() {
            let known = match &self.wanted.after {
                Some(after) => entry.id <= *after,
                None => entry.at < self.since,
            };
            if !known {
                self.was_gone |= entry.state == State::Stopped.as_str();
                let (at, id) = (rfc3339(entry.at), entry.id);
                let line = json!({ "id": id, "at": at, "state": entry.state, "text": entry.text });
                let _ = writeln!(text, "{line}");
                self.wanted.after = Some(id);
            }
        }
        if let Some(end) = end {
            self.ended = true;
            let _ = writeln!(text, "{end}");
        }
        Ok(text)
    }

    async fn end(&self) -> Result<Option<serde_json::Value>, Error> {
        let preview = self.store.preview(self.key).await?;
        let told = |outcome, reason: Option<&str>| {
            let preview = preview.as_ref();
            let end = End {
                outcome,
                reason: reason.or(preview.map(|preview| preview.reason.as_str())).unwrap_or_default(),
                state: preview.map_or(State::Stopped, |preview| preview.state),
                name: preview.map(|preview| preview.name.as_str()),
                url: preview.map(|preview| preview.url.as_str()),
                took_ms: preview.and_then(|preview| preview.release.as_ref()).and_then(Release::took),
                checks: preview.and_then(|preview| preview.check_run.as_ref()).map_or(&[], |run| &run.checks),
                sha: preview.and_then(|preview| preview.sha.as_ref()).map(crate::preview::Sha::as_str),
            };
            json!({ "end": end })
        };
        let Some(order) = &self.wanted.order else {
            let is_gone = |preview: &Preview| matches!(preview.state, State::Stopped | State::Skipped);
            let ended = self.was_gone || preview.as_ref().is_none_or(is_gone);
            let ended = ended && self.store.asked(self.key).await?.is_none();
            return Ok(ended.then(|| told(Outcome::Done, None)));
        };
        match self.store.job_order(self.key).await? {
            Some(kept) if kept.order.id == *order => {
                if let Some(why) = &kept.refused {
                    return Ok(Some(told(Outcome::Failed, Some(why))));
                }
            }
            _ => {
                return Ok(Some(told(
                    Outcome::Failed,
                    Some("a newer job, or a newer try of this one, deploys this preview"),
                )));
            }
        }
        Ok(preview
            .as_ref()
            .filter(|preview| preview.has_answered(order))
            .and_then(outcome)
            .map(|(outcome, why)| told(outcome, why.as_deref())))
    }
}

/// How a deploy came out, once it and its checks have; and why, where that is not the preview's reason.
fn outcome(preview: &Preview) -> Option<(Outcome, Option<String>)> {
    match preview.state {
        State::Ready | State::Asleep => {
            let Some(run) = &preview.check_run else { return Some((Outcome::Done, None)) };
            let summary = run.summary()?;
            let failed = run.failed().next().is_some();
            Some(if failed { (Outcome::Failed, Some(summary)) } else { (Outcome::Done, None) })
        }
        State::Failed | State::Skipped | State::Stopping | State::Stopped => Some((Outcome::Failed, None)),
        State::Waiting | State::Deploying => None,
    }
}
