//! Asks a preview what its project wants to know of it, over HTTP.
//!
//! Needs: the preview's link, as a reviewer clicks it. Properties:
//! * What is asked goes through everything that a reviewer's browser meets: names, certificates, the Ingress.
//! * Redirects are followed within the preview alone, and never where one is what the project expects.
//! * Time, size and number of what is asked are bounded. All of an answer is a stranger's: what is told of it is Markdown-safe
//!   and shows no secret.
//! * What passes by itself, as an Ingress that does not know the preview yet, is asked again for as long as the project says.

mod answer;

use std::time::Duration;

use reqwest::header::{ACCEPT, LOCATION};
use reqwest::redirect::Policy;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};
use url::Url;

use crate::outgoing::{Outgoing, Roots};
use crate::preview::{Quoted, Redaction};
use crate::render::HttpCheck;
use answer::Wrong;

/// How many requests are under way at once.
const AT_ONCE: usize = 64;

/// How long any wrong answer is asked for again: what came before may speak for a moment longer.
const SETTLES: Duration = Duration::from_secs(3);

/// The pauses between two tries, doubling from the first to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// How often a preview may lead on to another of its pages.
const REDIRECTS: usize = 5;

/// Asks previews.
#[derive(Debug)]
pub struct Asker {
    http: Outgoing,
    slots: Semaphore,
}

impl Asker {
    /// Trusts these certificates beside the usual ones.
    pub fn new(roots: &Roots) -> reqwest::Result<Self> {
        let http = Outgoing::new(roots, |http| {
            // Each question is a visit of its own, from the name on.
            http.redirect(Policy::none()).pool_max_idle_per_host(0).user_agent("greenroom")
        })?;
        Ok(Self { http, slots: Semaphore::new(AT_ONCE) })
    }

    /// Asks the preview behind `link`, which has no path, until the answer is right or the check's time is over. What was
    /// found, good or bad, is words without a full stop, Markdown-safe.
    pub async fn ask(&self, link: &str, check: &HttpCheck, secrets: &Redaction) -> Result<String, String> {
        let patience = check.timeout.duration();
        let said = || format!("{:#}", jiff::SignedDuration::try_from(patience).unwrap_or_default());
        // Joined as text, a path that begins with two slashes names no other host.
        let url = Url::parse(&format!("{link}{}", check.path))
            .map_err(|error| format!("{} is no URL: {error}", Quoted::new(link)))?;
        let began = Instant::now();
        let mut deadline = began + patience;
        let mut pause = FIRST_PAUSE;
        let mut last = None;
        loop {
            let queued = Instant::now();
            let slot = self.slots.acquire().await; // never closed
            deadline += queued.elapsed();
            let answered = timeout_at(deadline, self.once(&url, check, secrets)).await;
            drop(slot);
            let wrong = match answered {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(wrong)) => wrong,
                Err(_) => {
                    let nothing = || format!("it did not answer within {}", said());
                    return Err(last.map_or_else(nothing, |last: Wrong| last.after(&said())));
                }
            };
            let until = if wrong.passes { deadline } else { deadline.min(began + SETTLES) };
            if Instant::now() + pause >= until {
                return Err(wrong.after(&said()));
            }
            last = Some(wrong);
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One visit.
    async fn once(&self, url: &Url, check: &HttpCheck, secrets: &Redaction) -> Result<String, Wrong> {
        let mut at = url.clone();
        for _ in 0..=REDIRECTS {
            let request = self.http.to(&at).get(at.clone()).header(ACCEPT, "text/html,*/*;q=0.8");
            let response = request.send().await.map_err(|error| answer::unreached(&error))?;
            let leads = response.headers().get(LOCATION).and_then(|to| to.to_str().ok());
            let Some(to) =
                leads.filter(|_| response.status().is_redirection() && !(300..400).contains(&check.status))
            else {
                return answer::judge(response, check, secrets).await;
            };
            at = at
                .join(to)
                .ok()
                .filter(|to| is_within(url, to))
                .ok_or_else(|| answer::leads_away(response.status(), &secrets.hide(to)))?;
        }
        Err(Wrong::stays(format!("it leads on from one page to another more than {REDIRECTS} times")))
    }
}

/// Whether `to` belongs to the preview whose page is `from`: the same host and port, or the same host with certificates.
fn is_within(from: &Url, to: &Url) -> bool {
    let port = Url::port_or_known_default;
    let secured = port(from) == Some(80) && port(to) == Some(443) && to.scheme() == "https";
    let plain = from.scheme() == to.scheme() && port(from) == port(to);
    from.host() == to.host() && (plain || secured) && to.username().is_empty() && to.password().is_none()
}

#[cfg(test)]
mod tests;
