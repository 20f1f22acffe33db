//! GitLab's signing tokens (`whsec_…`, Standard Webhooks v1) and the signatures made with them.

use std::fmt;
use std::str::FromStr;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// What GitLab's signing tokens start with.
const PREFIX: &str = "whsec_";

/// How many bytes a signing token stands for.
const KEY_LENGTH: usize = 32;

/// A signing token, read and ready to sign. `Debug` does not show it.
#[derive(Clone)]
pub struct SigningKey(Hmac<Sha256>);

/// Why a text is no signing token. The text itself is never part of the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSigningToken {
    /// It has another beginning.
    #[error("a signing token starts with `whsec_`; this text does not")]
    Prefix,
    /// What follows cannot be decoded.
    #[error(
        "a signing token is `whsec_` and standard base64 with `=` padding; what follows `whsec_` is something else"
    )]
    Base64,
    /// What follows decodes to something too short or too long.
    #[error("a signing token stands for 32 bytes; this one for {0}: was it cut while copying?")]
    Length(usize),
}

impl FromStr for SigningKey {
    type Err = BadSigningToken;

    /// Reads `whsec_…`; blanks and line ends around it, as a file has them, do not matter.
    fn from_str(token: &str) -> Result<Self, Self::Err> {
        let encoded = token.trim().strip_prefix(PREFIX).ok_or(BadSigningToken::Prefix)?;
        let key = BASE64_STANDARD.decode(encoded).map_err(|_| BadSigningToken::Base64)?;
        if key.len() != KEY_LENGTH {
            return Err(BadSigningToken::Length(key.len()));
        }
        Hmac::new_from_slice(&key).map(Self).map_err(|_| BadSigningToken::Length(key.len()))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

impl SigningKey {
    /// The entry that a delivery signed with this key has in `webhook-signature`.
    pub(super) fn sign(&self, id: &[u8], timestamp: &[u8], body: &[u8]) -> String {
        let mut mac = self.0.clone();
        for part in [id, b".", timestamp, b".", body] {
            mac.update(part);
        }
        format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "whsec_dGVzdHRlc3R0ZXN0dGVzdHRlc3R0ZXN0dGVzdHRlc3Q=";

    #[test]
    fn a_token_that_cannot_be_read_is_explained_but_not_shown() {
        let long = format!("whsec_{}", BASE64_STANDARD.encode([7; 33]));
        for (token, why) in [
            ("dGVzdHRlc3R0ZXN0dGVzdHRlc3R0ZXN0dGVzdHRlc3Q=", BadSigningToken::Prefix),
            ("whsec_dGVzdHRlc3R0ZXN0dGVzdHRlc3R0ZXN0dGVzdHRlc3Q", BadSigningToken::Base64),
            ("whsec_dGVzdHRlc3R0ZXN0dGVzdHRlc3R0ZXN0dGVzdHRlc3R=", BadSigningToken::Base64),
            ("whsec_", BadSigningToken::Length(0)),
            (&long, BadSigningToken::Length(33)),
        ] {
            let error = token.parse::<SigningKey>().unwrap_err();
            assert_eq!(error, why);
            assert!(!error.to_string().contains("dGVzd"), "{error}");
        }
        assert!(format!("{KEY}\n").parse::<SigningKey>().is_ok(), "a file ends with a line break");
        assert_eq!(format!("{:?}", KEY.parse::<SigningKey>()), "Ok(SigningKey(…))");
    }
}
