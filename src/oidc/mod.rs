//! Who a CI job is: GitLab's ID tokens, verified.
//!
//! Needs: the GitLab that is configured. Its discovery document says what issuer it calls itself, and its key list what it
//! signs with; both are asked of the configured address and nowhere else, whatever a token or the document says.
//!
//! Properties:
//! * RS256 and ES256 only, with a key of the kind that goes with it: no `none`, and no shared secret that anybody could
//!   make of a public key.
//! * Issuer, audience, expiry and signature must be there and right. A claim that is missing counts as wrong.
//! * GitLab out of reach is an error of its own, never a pass: keys are trusted for an hour and then asked for again.
//! * No token, and no part of one, stands in an error or in the log.
//!
//! Races, and what was decided:
//! * *GitLab has rotated its keys*: a key id that is not known makes us ask again, at most every five seconds, so that made-up
//!   ids cost GitLab nothing.
//! * *Many jobs at once*: one of them asks, the others wait for its answer.

mod claims;
mod keys;

use std::time::Duration;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use url::Url;

pub use claims::Claims;

use crate::clock::Clock;
use crate::outgoing::Roots;
use keys::Keys;

/// How far GitLab's clock may be from ours, seconds.
const LEEWAY: u64 = 30;

/// What GitLab signs ID tokens with.
const ALGORITHMS: [Algorithm; 2] = [Algorithm::RS256, Algorithm::ES256];

/// Why a token does not prove who asks.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no signed token at all.
    #[error("the ID token cannot be read: it is no signed JSON Web Token")]
    Malformed,
    /// It is signed in a way that GitLab does not.
    #[error("the ID token is not signed with RS256 or ES256, as GitLab signs")]
    Algorithm,
    /// It names no key, or one that GitLab does not have.
    #[error("the ID token is signed with a key that GitLab does not publish")]
    UnknownKey,
    /// The signature is somebody else's.
    #[error("the ID token's signature is not GitLab's")]
    Signature,
    /// It was issued by somebody else.
    #[error("the ID token was not issued by the GitLab of this server, which calls itself {expected}")]
    Issuer {
        /// What our GitLab calls itself.
        expected: String,
    },
    /// It is meant for somebody else.
    #[error("the ID token is not meant for this server: its audience (`aud`) has to be {expected}")]
    Audience {
        /// What stands for us.
        expected: String,
    },
    /// It is over.
    #[error("the ID token has expired: it lives as long as the job's timeout")]
    Expired,
    /// It does not count yet.
    #[error("the ID token is not valid yet: the clocks of GitLab and this server differ")]
    NotYet,
    /// What it must say is missing or something else.
    #[error("the ID token cannot be used: {0}")]
    Claim(String),
    /// GitLab cannot be asked for its keys.
    #[error("GitLab's keys cannot be had, so no ID token can be verified: {0}")]
    Unavailable(String),
}

impl Error {
    /// Whether the same token may be right later.
    pub const fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

/// Verifies ID tokens of one GitLab for one audience.
#[derive(Debug)]
pub struct Verifier {
    keys: Keys,
    audience: String,
}

impl Verifier {
    /// For the GitLab at this address, and tokens that are meant for `audience`, with or without a slash at its end. `timeout` is for each answer of GitLab's.
    /// Nothing is asked yet.
    pub fn new(
        gitlab: &Url,
        audience: String,
        timeout: Duration,
        roots: &Roots,
        clock: Clock,
    ) -> Result<Self, reqwest::Error> {
        Ok(Self { keys: Keys::new(gitlab, timeout, roots, clock)?, audience })
    }

    /// What the token says, once it is proven.
    pub async fn verify(&self, token: &str) -> Result<Claims, Error> {
        let header = decode_header(token).map_err(|_| unreadable(token))?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(Error::Algorithm);
        }
        let kid = header.kid.ok_or(Error::UnknownKey)?;
        let (issuer, key) = self.keys.find(&kid).await?;
        let key = DecodingKey::from_jwk(&key).map_err(|_| Error::UnknownKey)?;

        let mut validation = Validation::new(header.alg);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.set_issuer(&[&issuer]);
        let audience = self.audience.trim_end_matches('/');
        validation.set_audience(&[audience.to_owned(), format!("{audience}/")]);
        let decoded = decode::<Claims>(token, &key, &validation);
        decoded.map(|data| data.claims).map_err(|error| self.refused(error.into_kind(), issuer))
    }

    fn refused(&self, kind: ErrorKind, issuer: String) -> Error {
        let audience = || Error::Audience { expected: self.audience.clone() };
        match kind {
            ErrorKind::InvalidIssuer => Error::Issuer { expected: issuer },
            ErrorKind::InvalidAudience => audience(),
            ErrorKind::MissingRequiredClaim(claim) => match claim.as_str() {
                "iss" => Error::Issuer { expected: issuer },
                "aud" => audience(),
                _ => Error::Claim(format!("it has no `{claim}`")),
            },
            ErrorKind::ExpiredSignature => Error::Expired,
            ErrorKind::ImmatureSignature => Error::NotYet,
            ErrorKind::Json(error) => Error::Claim(error.to_string()),
            ErrorKind::InvalidClaimFormat(claim) => Error::Claim(format!("`{claim}` is not as it should be")),
            // A key of another kind than the header says, such as an EC key for RS256.
            ErrorKind::InvalidAlgorithm | ErrorKind::InvalidKeyFormat => Error::Algorithm,
            _ => Error::Signature,
        }
    }
}

/// A header that the library has no name for is still one that says how it is signed.
fn unreadable(token: &str) -> Error {
    if token.split('.').count() == 3 { Error::Algorithm } else { Error::Malformed }
}
