//! Deliveries as GitLab sends them, each part in the test's hand.
//!
//! ```ignore
//! let delivery = Delivery::about(mr).signed_with(SIGNING_TOKEN);
//! assert_eq!(delivery.deliver(&greenroom).await, 202);
//! ```

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::header::HOST;
use serde_json::json;
use sha2::Sha256;

use super::{
    gitlab::{Gitlab, SIGNING_TOKEN},
    greenroom::Greenroom,
};

/// What a delivery proves itself with.
#[derive(Debug, Clone)]
enum Proof {
    Signature(String),
    Token(String),
}

/// One delivery; sent twice, it is a repetition. Signed with [`SIGNING_TOKEN`] unless something else is said.
#[derive(Debug, Clone)]
pub struct Delivery {
    id: String,
    body: Vec<u8>,
    sent: SystemTime,
    proof: Proof,
    host: Option<String>,
}

impl Delivery {
    /// Somebody edited the merge request.
    pub fn about(mr: u64) -> Self {
        let body = json!({
            "object_kind": "merge_request",
            "project": { "id": Gitlab::PROJECT, "path_with_namespace": "acme/web" },
            "object_attributes": { "iid": mr, "action": "update" },
        });
        Self::saying(body.to_string())
    }

    /// With any body.
    pub fn saying(body: impl Into<Vec<u8>>) -> Self {
        Self {
            id: uuid::Uuid::new_v4().to_string(),
            body: body.into(),
            sent: SystemTime::now(),
            proof: Proof::Signature(SIGNING_TOKEN.to_owned()),
            host: None,
        }
    }

    pub fn signed_with(mut self, token: &str) -> Self {
        self.proof = Proof::Signature(token.to_owned());
        self
    }

    /// With a secret token instead of a signature.
    pub fn with_token(mut self, token: &str) -> Self {
        self.proof = Proof::Token(token.to_owned());
        self
    }

    pub fn sent_before(mut self, age: Duration) -> Self {
        self.sent -= age;
        self
    }

    /// To the same address, under another name.
    pub fn under_host(mut self, host: &str) -> Self {
        self.host = Some(host.to_owned());
        self
    }

    /// The status it was answered with.
    pub async fn deliver(&self, to: &Greenroom) -> u16 {
        self.request(to).body(self.body.clone()).send().await.expect("an answer").status().as_u16()
    }

    /// As [`Self::deliver`], in pieces and without saying how long it is.
    pub async fn stream(&self, to: &Greenroom) -> u16 {
        let pieces: Vec<_> =
            self.body.chunks(1 << 16).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
        let body = reqwest::Body::wrap_stream(futures::stream::iter(pieces));
        self.request(to).body(body).send().await.expect("an answer").status().as_u16()
    }

    fn request(&self, to: &Greenroom) -> reqwest::RequestBuilder {
        let request = to.post("/webhooks/gitlab").header("x-gitlab-event", "Merge Request Hook");
        let request = match &self.host {
            Some(host) => request.header(HOST, host),
            None => request,
        };
        match &self.proof {
            Proof::Token(token) => {
                request.header("idempotency-key", &self.id).header("x-gitlab-token", token)
            }
            Proof::Signature(token) => {
                let timestamp = self.sent.duration_since(UNIX_EPOCH).unwrap().as_secs().to_string();
                request
                    .header("webhook-signature", self.signature(token, &timestamp))
                    .header("webhook-id", &self.id)
                    .header("webhook-timestamp", timestamp)
            }
        }
    }

    fn signature(&self, token: &str, timestamp: &str) -> String {
        let key = BASE64_STANDARD.decode(token.strip_prefix("whsec_").unwrap()).unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        mac.update(format!("{}.{timestamp}.", self.id).as_bytes());
        mac.update(&self.body);
        format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
    }
}
