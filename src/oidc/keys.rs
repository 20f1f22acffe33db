//! The keys that GitLab signs with, kept for a while.

use std::time::Duration;

use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use reqwest::redirect::Policy;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use url::Url;

use super::Error;
use crate::clock::Clock;
use crate::outgoing::{Outgoing, certificate_refused};

/// How long keys count before they are asked for again, milliseconds: one that GitLab withdraws counts no longer than this.
const TRUSTED: i64 = 3_600_000;

/// How often GitLab is asked for a key that it may have made since, milliseconds.
const ASKED: i64 = 5_000;

/// The most that is read of an answer, in bytes; a key has less than 1 KiB.
const LARGEST: usize = 256 << 10;

#[derive(Debug)]
pub(super) struct Keys {
    http: Outgoing,
    discovery: Url,
    list: Url,
    clock: Clock,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    issuer: String,
    keys: Vec<Jwk>,
    /// When they came, and when they were asked for last; Unix milliseconds.
    since: Option<i64>,
    asked: Option<i64>,
    /// How the last asking failed, if it did.
    trouble: Option<String>,
}

/// The part of the discovery document that counts. Where its keys are is known, whatever it says.
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
}

impl Keys {
    pub(super) fn new(
        gitlab: &Url,
        timeout: Duration,
        roots: &crate::outgoing::Roots,
        clock: Clock,
    ) -> Result<Self, reqwest::Error> {
        let at = |path: &str| {
            let mut url = gitlab.clone();
            url.set_path(&format!("{}/{path}", gitlab.path().trim_end_matches('/')));
            url
        };
        Ok(Self {
            http: Outgoing::new(roots, |http| http.redirect(Policy::none()).timeout(timeout))?,
            discovery: at(".well-known/openid-configuration"),
            list: at("oauth/discovery/keys"),
            clock,
            known: Mutex::default(),
        })
    }

    /// What GitLab calls itself, and its key with this id.
    pub(super) async fn find(&self, kid: &str) -> Result<(String, Jwk), Error> {
        let mut known = self.known.lock().await;
        let now = self.clock.now();
        let is_young = |at: Option<i64>, age: i64| at.is_some_and(|at| (0..age).contains(&(now - at)));
        let trusted = is_young(known.since, TRUSTED);
        if !trusted || known.key(kid).is_none() {
            if is_young(known.asked, ASKED) {
                if let Some(why) = &known.trouble {
                    return Err(Error::Unavailable(why.clone()));
                }
            } else {
                self.ask(&mut known, now).await?;
            }
        }
        let key = known.key(kid).ok_or(Error::UnknownKey)?;
        Ok((known.issuer.clone(), key.clone()))
    }

    async fn ask(&self, known: &mut Known, now: i64) -> Result<(), Error> {
        let asked = async {
            let Discovery { issuer } = self.get(&self.discovery).await?;
            let JwkSet { keys } = self.get(&self.list).await?;
            Ok((issuer, keys))
        };
        let answered = asked.await;
        // From here on, for those who waited must not ask one after the other.
        known.asked = Some(self.clock.now());
        match answered {
            Ok((issuer, keys)) => {
                *known = Known { issuer, keys, since: Some(now), asked: known.asked, trouble: None };
                Ok(())
            }
            Err(why) => {
                tracing::warn!(error = why, "GitLab's keys cannot be had");
                known.trouble = Some(why);
                Err(Error::Unavailable(known.trouble.clone().unwrap_or_default()))
            }
        }
    }

    async fn get<T: DeserializeOwned>(&self, url: &Url) -> Result<T, String> {
        let path = url.path();
        let failed = |error: reqwest::Error| {
            certificate_refused(&error)
                .unwrap_or_else(|| format!("GitLab did not answer `GET {path}`: {}", error.without_url()))
        };
        let mut answer = self.http.to(url).get(url.clone()).send().await.map_err(failed)?;
        if !answer.status().is_success() {
            return Err(format!("GitLab answered `GET {path}` with {}", answer.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            body.extend_from_slice(&chunk);
            if body.len() > LARGEST {
                return Err(format!("GitLab's answer to `GET {path}` is larger than {LARGEST} bytes"));
            }
        }
        serde_json::from_slice(&body)
            .map_err(|error| format!("GitLab's answer to `GET {path}` cannot be read: {error}"))
    }
}

impl Known {
    /// The key with this id that is meant for signing.
    fn key(&self, kid: &str) -> Option<&Jwk> {
        self.keys.iter().find(|key| {
            let signs = matches!(key.common.public_key_use, None | Some(PublicKeyUse::Signature));
            signs && key.common.key_id.as_deref() == Some(kid)
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::outgoing::Roots;

    /// Longer than it takes until GitLab may be asked again.
    const SILENT: Duration = Duration::from_millis(ASKED.unsigned_abs() + 200);

    #[tokio::test]
    async fn those_who_wait_for_a_gitlab_that_is_silent_do_not_ask_it_one_after_the_other() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let keys = Keys::new(&url, SILENT, &Roots::default(), Clock).unwrap();
        let asked = tokio::join!(keys.find("one"), keys.find("two"), keys.find("three"));
        for answer in [asked.0, asked.1, asked.2] {
            assert!(matches!(answer, Err(Error::Unavailable(_))), "{answer:?}");
        }
        let mut calls = 0;
        while tokio::time::timeout(Duration::from_millis(100), listener.accept()).await.is_ok() {
            calls += 1;
        }
        assert_eq!(calls, 1, "one asks for all");
    }
}
