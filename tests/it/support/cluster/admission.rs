//! An admission webhook in the test process: it is asked before an object is there, and may refuse it, or do something else
//! at exactly that moment, such as killing the API server.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use http::{Response, header};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};
use url::Url;

use super::{ACCOUNTS, Cluster};
use crate::support::{
    PATIENCE,
    tls::{Authority, TlsFront},
    until, wire,
};

/// Answers as long as this is there; afterwards the API server refuses what it would have asked about.
pub struct Admission {
    _front: TlsFront,
    accepting: JoinHandle<()>,
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Cluster {
    /// From now on the API server asks `judge` before it creates objects of this resource (plural, such as `deployments`) in
    /// this namespace, which need not be there yet. `judge` is handed the object; `Err` refuses it with these words.
    pub async fn asks_before_creating<J>(&self, resource: &str, namespace: &str, judge: J) -> Admission
    where
        J: Fn(&Value) -> Result<(), String> + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server: Url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let (judge, asked) = (Arc::new(judge), Arc::new(AtomicBool::new(false)));
        let accepting = tokio::spawn({
            let asked = asked.clone();
            wire::serve(listener, move |request| {
                let (judge, asked) = (judge.clone(), asked.clone());
                async move {
                    let body = request.into_body().collect().await?.to_bytes();
                    let review: Value = serde_json::from_slice(&body)?;
                    let request = &review["request"];
                    if request["namespace"] == ACCOUNTS {
                        asked.store(true, Ordering::Relaxed);
                        return Ok(verdict(request, &Ok(())));
                    }
                    Ok(verdict(request, &judge(&request["object"])))
                }
            })
        });
        let authority = Authority::new();
        let front = TlsFront::before(&server, &authority, "127.0.0.1").await;
        let rule = |group: &str, resource: &str| {
            let (groups, resources) = ([group], [resource]);
            json!({ "apiGroups": groups, "apiVersions": ["*"], "operations": ["CREATE"], "resources": resources })
        };
        // Also of the object by which it is seen that the API server asks: others ask too, or did.
        let name = format!("{namespace}-{resource}");
        let webhook = json!({
            "name": "admission.test.example.com",
            "clientConfig": {
                "url": format!("https://{}/", front.address),
                "caBundle": BASE64_STANDARD.encode(authority.pem()),
            },
            "rules": [rule("*", resource), rule("", "configmaps")],
            "matchConditions": [{
                "name": "there",
                "expression": format!(
                    "(request.namespace == '{ACCOUNTS}' && request.name == '{name}') || \
                     (request.namespace == '{namespace}' && request.resource.resource == '{resource}')"
                ),
            }],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "timeoutSeconds": 30,
        });
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": { "name": name },
            "webhooks": [webhook],
        });
        self.apply(&configuration.to_string()).await;
        until("the API server asks", PATIENCE, || async {
            let probe = ["create", "configmap", &name, "--namespace", ACCOUNTS, "--dry-run=server"];
            self.kubectl(&probe, "").await;
            asked.load(Ordering::Relaxed).then_some(())
        })
        .await;
        Admission { _front: front, accepting }
    }
}

fn verdict(request: &Value, judged: &Result<(), String>) -> Response<Full<Bytes>> {
    let mut response = json!({ "uid": request["uid"], "allowed": judged.is_ok() });
    if let Err(words) = judged {
        response["status"] = json!({ "code": 403, "message": words });
    }
    let review =
        json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response });
    let answer = Response::builder().header(header::CONTENT_TYPE, "application/json");
    answer.body(Full::from(review.to_string())).unwrap()
}
