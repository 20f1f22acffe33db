//! The signature of a webhook (Standard Webhooks v1): HMAC-SHA256 over `id.timestamp.body`. The key
//! is the base64 part of the `whsec_…` token, decoded.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// `v1,<base64>`; None for a token that is none.
pub(super) fn sign(token: &str, id: &str, timestamp: &str, body: &str) -> Option<String> {
    let key = STANDARD.decode(token.strip_prefix("whsec_")?).ok()?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_worked_example_of_the_standard_comes_out() {
        let signature = super::sign(
            "whsec_dGVzdHRlc3R0ZXN0dGVzdHRlc3R0ZXN0dGVzdHRlc3Q=",
            "f5e5f430-f57b-4e6e-9fac-d9128cd7232f",
            "1744578123",
            r#"{"object_kind":"push","ref":"refs/heads/main"}"#,
        );
        assert_eq!(signature.as_deref(), Some("v1,JJLPUQdHVZhy2g97l6D7t6vUjYNtwb+uAtztp44KhxE="));
    }
}
