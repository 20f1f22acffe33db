//! Whether a delivery was sent by somebody who knows one of our secrets.
//!
//! GitLab can prove itself in two ways, and a hook may use both at once: by signing the body (Standard Webhooks v1,
//! GitLab 19.0 and later), or by sending a secret token along in plain text.
//!
//! **Which one decides.** A server that has a signing key believes the signature and nothing else as soon as
//! `webhook-signature` is there; the token counts only when it is not. A server that was given tokens only cannot
//! judge a signature, so it looks at the token whether or not the hook also signs. Who wants signatures only,
//! configures no token.
//!
//! All comparisons take constant time. Several keys and several tokens may be configured, so that a secret can be
//! changed without losing a delivery in between.

use actix_web::http::header::HeaderMap;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use super::signing_key::SigningKey;

/// How far `webhook-timestamp` may be from our clock, in seconds, as Standard Webhooks advises.
const TOLERANCE: u64 = 300;

/// Every secret that proves a delivery.
#[derive(Debug, Default)]
pub struct Secrets {
    signing: Vec<SigningKey>,
    tokens: Vec<SecretString>,
}

/// Why a delivery was not believed. The text goes back to the sender, so it says what to check and shows no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nothing is configured here, so nothing can be believed.
    #[error("this server has no webhook secret, so it believes nobody; give it the hook's secret")]
    NoSecret,
    /// The sender offered nothing.
    #[error("the request has neither a signature nor a token; set one of the two in the hook's settings")]
    NoProof,
    /// Only a signature counts, and there is none.
    #[error("the request has no signature, and only that counts here; set the hook's signing token")]
    Unsigned,
    /// Only a token counts, and there is none.
    #[error("the request has no token, and only that counts here; set the hook's secret token")]
    NoToken,
    /// A signature without what it signs.
    #[error("a signature needs a `webhook-id` and a `webhook-timestamp`; does a proxy drop headers?")]
    Incomplete,
    /// Too old, or from the future: maybe replayed.
    #[error("the request's timestamp is {0} s off, and at most 300 s are allowed; check both clocks")]
    Stale(u64),
    /// The signature is by another key or over another body.
    #[error("the signature does not fit; compare the hook's signing token with this server's")]
    WrongSignature,
    /// An unknown token. GitLab clears it when the hook's URL is changed.
    #[error("the token is not known here; compare the hook's secret token with this server's")]
    WrongToken,
}

/// What is left to check once the headers look right: nothing, or a signature over the body.
#[derive(Debug)]
pub(super) enum Proof<'a> {
    Token,
    Signature { id: &'a [u8], timestamp: &'a [u8] },
}

impl Secrets {
    /// All secrets of this server. Line breaks are taken out of tokens, as GitLab does; an empty token would be known to
    /// everybody and is left out.
    pub fn new(signing: Vec<SigningKey>, tokens: Vec<SecretString>) -> Self {
        let tokens = tokens
            .into_iter()
            .map(|token| SecretString::from(token.expose_secret().replace(['\r', '\n'], "")))
            .filter(|token| !token.expose_secret().is_empty())
            .collect();
        Self { signing, tokens }
    }

    /// Whether the delivery was sent by somebody who knows one of the secrets, about now.
    pub fn verify(&self, headers: &HeaderMap, body: &[u8], now_seconds: i64) -> Result<(), Refusal> {
        let proof = self.proof(headers, now_seconds)?;
        self.check(&proof, headers, body)
    }

    /// The part of [`verify`](Self::verify) that needs no body, so that most strangers are refused before one is read.
    pub(super) fn proof<'a>(&self, headers: &'a HeaderMap, now_seconds: i64) -> Result<Proof<'a>, Refusal> {
        let (signatures, tokens) = (!self.signing.is_empty(), !self.tokens.is_empty());
        match headers.get("x-gitlab-token") {
            _ if !signatures && !tokens => Err(Refusal::NoSecret),
            _ if signatures && headers.contains_key("webhook-signature") => signature(headers, now_seconds),
            _ if !tokens => Err(Refusal::Unsigned),
            Some(token) if self.knows(token.as_bytes()) => Ok(Proof::Token),
            Some(_) => Err(Refusal::WrongToken),
            None if signatures => Err(Refusal::NoProof),
            None => Err(Refusal::NoToken),
        }
    }

    /// The rest of [`verify`](Self::verify).
    pub(super) fn check(&self, proof: &Proof<'_>, headers: &HeaderMap, body: &[u8]) -> Result<(), Refusal> {
        let Proof::Signature { id, timestamp } = proof else { return Ok(()) };
        let mut matches = Choice::from(0);
        for key in &self.signing {
            let expected = key.sign(id, timestamp, body);
            // Entries of another version are never equal to ours, which is how they are ignored.
            for header in headers.get_all("webhook-signature") {
                for entry in header.as_bytes().split(|byte| *byte == b' ') {
                    matches |= entry.ct_eq(expected.as_bytes());
                }
            }
        }
        if matches.into() { Ok(()) } else { Err(Refusal::WrongSignature) }
    }

    /// Whether `token` is one of ours. Digests are compared, so that not even the length of ours can be measured.
    fn knows(&self, token: &[u8]) -> bool {
        let token = Sha256::digest(token);
        let known = self.tokens.iter().fold(Choice::from(0), |known, ours| {
            known | Sha256::digest(ours.expose_secret().as_bytes()).ct_eq(&token)
        });
        known.into()
    }
}

/// The signed part of the headers, if it is whole and fresh.
fn signature(headers: &HeaderMap, now_seconds: i64) -> Result<Proof<'_>, Refusal> {
    let id = headers.get("webhook-id").filter(|id| !id.is_empty()).ok_or(Refusal::Incomplete)?;
    let timestamp = headers.get("webhook-timestamp").ok_or(Refusal::Incomplete)?;
    let sent: i64 = timestamp.to_str().ok().and_then(|text| text.parse().ok()).ok_or(Refusal::Incomplete)?;
    match sent.abs_diff(now_seconds) {
        0..=TOLERANCE => Ok(Proof::Signature { id: id.as_bytes(), timestamp: timestamp.as_bytes() }),
        away => Err(Refusal::Stale(away)),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};
    use serde::Deserialize;

    use super::*;

    const KEY: &str = "whsec_dGVzdHRlc3R0ZXN0dGVzdHRlc3R0ZXN0dGVzdHRlc3Q=";
    const OTHER_KEY: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const NOW: i64 = 1_744_578_123;
    const BODY: &[u8] = br#"{"object_kind":"push","ref":"refs/heads/main"}"#;

    fn secrets(signing: &[&str], tokens: &[&str]) -> Secrets {
        Secrets::new(
            signing.iter().map(|token| token.parse().unwrap()).collect(),
            tokens.iter().map(|token| SecretString::from(*token)).collect(),
        )
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    fn signed(key: &str, timestamp: i64) -> HeaderMap {
        let timestamp = timestamp.to_string();
        let signature = key.parse::<SigningKey>().unwrap().sign(b"id-1", timestamp.as_bytes(), BODY);
        headers(&[
            ("webhook-id", "id-1"),
            ("webhook-timestamp", &timestamp),
            ("webhook-signature", &signature),
        ])
    }

    fn with(mut headers: HeaderMap, name: &'static str, value: &'static str) -> HeaderMap {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        headers
    }

    #[test]
    fn every_published_vector_is_judged_right() {
        #[derive(Deserialize)]
        struct File {
            vectors: Vec<Vector>,
        }
        #[derive(Deserialize)]
        struct Vector {
            name: String,
            signing_token: String,
            webhook_id: String,
            webhook_timestamp: String,
            body: String,
            webhook_signature: String,
            ok: bool,
        }
        let text = include_str!("../../tests/fixtures/gitlab/signature_vectors.json");
        let file: File = serde_json::from_str(text).unwrap();
        assert_eq!(file.vectors.len(), 12);
        for vector in file.vectors {
            let headers = headers(&[
                ("webhook-id", &vector.webhook_id),
                ("webhook-timestamp", &vector.webhook_timestamp),
                ("webhook-signature", &vector.webhook_signature),
            ]);
            let verdict =
                secrets(&[&vector.signing_token], &[]).verify(&headers, vector.body.as_bytes(), NOW);
            let expected = if vector.ok { Ok(()) } else { Err(Refusal::WrongSignature) };
            assert_eq!(verdict, expected, "{}", vector.name);
        }
    }

    #[test]
    fn a_signature_counts_for_five_minutes_in_both_directions() {
        let server = secrets(&[KEY], &[]);
        for (sent, verdict) in [
            (NOW - 300, Ok(())),
            (NOW + 300, Ok(())),
            (NOW - 301, Err(Refusal::Stale(301))),
            (NOW + 301, Err(Refusal::Stale(301))),
            (i64::MIN, Err(Refusal::Stale(i64::MIN.abs_diff(NOW)))),
        ] {
            assert_eq!(server.verify(&signed(KEY, sent), BODY, NOW), verdict, "sent at {sent}");
        }
    }

    #[test]
    fn a_signature_needs_an_id_and_a_timestamp() {
        let server = secrets(&[KEY], &["token"]);
        for name in ["webhook-id", "webhook-timestamp"] {
            let mut headers = with(signed(KEY, NOW), "x-gitlab-token", "token");
            headers.remove(name);
            assert_eq!(server.verify(&headers, BODY, NOW), Err(Refusal::Incomplete), "without {name}");
        }
        let headers = with(signed(KEY, NOW), "webhook-timestamp", "yesterday");
        assert_eq!(server.verify(&headers, BODY, NOW), Err(Refusal::Incomplete));
    }

    #[test]
    fn who_decides_when_a_hook_signs_and_sends_a_token() {
        let right = || with(signed(KEY, NOW), "x-gitlab-token", "token");
        let wrong_signature = || with(signed(OTHER_KEY, NOW), "x-gitlab-token", "token");
        let token_only = || headers(&[("x-gitlab-token", "token")]);
        let (both, signatures, tokens) =
            (secrets(&[KEY], &["token"]), secrets(&[KEY], &[]), secrets(&[], &["token"]));
        for (server, request, verdict) in [
            (&both, right(), Ok(())),
            (&both, wrong_signature(), Err(Refusal::WrongSignature)),
            (&both, with(right(), "x-gitlab-token", "wrong"), Ok(())),
            (&both, token_only(), Ok(())),
            (&both, HeaderMap::new(), Err(Refusal::NoProof)),
            (&signatures, right(), Ok(())),
            (&signatures, token_only(), Err(Refusal::Unsigned)),
            (&signatures, HeaderMap::new(), Err(Refusal::Unsigned)),
            (&tokens, wrong_signature(), Ok(())),
            (&tokens, token_only(), Ok(())),
            (&tokens, with(right(), "x-gitlab-token", "wrong"), Err(Refusal::WrongToken)),
            (&tokens, signed(KEY, NOW), Err(Refusal::NoToken)),
            (&secrets(&[], &[]), right(), Err(Refusal::NoSecret)),
        ] {
            assert_eq!(server.verify(&request, BODY, NOW), verdict, "{server:?} {request:?}");
        }
    }

    #[test]
    fn old_and_new_secrets_are_believed_while_they_are_changed() {
        let server = secrets(&[OTHER_KEY, KEY], &["old", "new\n"]);
        for headers in [
            signed(KEY, NOW),
            signed(OTHER_KEY, NOW),
            headers(&[("x-gitlab-token", "old")]),
            headers(&[("x-gitlab-token", "new")]),
        ] {
            assert_eq!(server.verify(&headers, BODY, NOW), Ok(()), "{headers:?}");
        }
    }

    #[test]
    fn an_empty_token_proves_nothing() {
        let empty = headers(&[("x-gitlab-token", "")]);
        assert_eq!(secrets(&[], &["", "\n"]).verify(&empty, BODY, NOW), Err(Refusal::NoSecret));
        assert_eq!(secrets(&[], &["token", ""]).verify(&empty, BODY, NOW), Err(Refusal::WrongToken));
    }
}
