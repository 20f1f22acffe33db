//! The stand-in for GitLab's container registry: an image is found by who has GitLab's token for it.

use reqwest::{Client, Method, Response, StatusCode, Url};
use serde_json::Value;

use crate::support::registry::{Fault, PASSWORD, Registry, USER};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

struct Puller {
    client: Client,
    registry: Registry,
}

impl Puller {
    async fn start() -> Self {
        Self { client: Client::builder().no_proxy().build().unwrap(), registry: Registry::start().await }
    }

    fn manifest(&self, method: Method, name: &str, reference: &str) -> reqwest::RequestBuilder {
        let url = self.registry.url().join(&format!("/v2/{name}/manifests/{reference}")).unwrap();
        self.client.request(method, url).header("accept", format!("{MANIFEST}, {INDEX}"))
    }

    /// The token flow of every client; the answer to who asks again with the token.
    async fn pull(&self, name: &str, reference: &str, credentials: Option<(&str, &str)>) -> Response {
        let refused = self.manifest(Method::HEAD, name, reference).send().await.unwrap();
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
        let challenge = refused.headers()["www-authenticate"].to_str().unwrap();
        let part =
            |name: &str| challenge.split_once(&format!("{name}=\"")).unwrap().1.split('"').next().unwrap();
        let query = [("service", part("service")), ("scope", part("scope"))];
        let realm = Url::parse_with_params(part("realm"), &query).unwrap();
        let request = self.client.get(realm);
        let request = match credentials {
            Some((user, password)) => request.basic_auth(user, Some(password)),
            None => request,
        };
        let answer = request.send().await.unwrap();
        if answer.status() != StatusCode::OK {
            return answer;
        }
        let token: Value = answer.json().await.unwrap();
        let token = token["token"].as_str().unwrap();
        self.manifest(Method::HEAD, name, reference).bearer_auth(token).send().await.unwrap()
    }
}

const KNOWN: Option<(&str, &str)> = Some((USER, PASSWORD));

#[tokio::test]
async fn an_image_is_found_by_tag_and_by_digest() {
    let puller = Puller::start().await;
    let digest = puller.registry.push("acme/web", "1.0");
    for reference in ["1.0", &digest] {
        let found = puller.pull("acme/web", reference, KNOWN).await;
        assert_eq!(found.status(), StatusCode::OK);
        assert_eq!(found.headers()["docker-content-digest"], *digest);
        assert_eq!(found.headers()["content-type"], MANIFEST);
    }
    let again = puller.registry.push("acme/web", "1.0");
    assert_ne!(again, digest);
    puller.registry.remove_tag("acme/web", "1.0");
    assert_eq!(puller.pull("acme/web", "1.0", KNOWN).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(puller.pull("acme/web", &digest, KNOWN).await.status(), StatusCode::OK);
    assert_eq!(puller.pull("acme/other", "1.0", KNOWN).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_digest_is_that_of_the_text() {
    use sha2::{Digest, Sha256};
    let puller = Puller::start().await;
    let digest = puller.registry.push_index("acme/web", "1.0");
    puller.pull("acme/web", "1.0", KNOWN).await;
    puller.registry.make_public("acme/web");
    let url = format!(
        "{}jwt/auth?service=container_registry&scope=repository:acme/web:pull",
        puller.registry.url()
    );
    let token: Value = puller.client.get(url).send().await.unwrap().json().await.unwrap();
    let token = token["token"].as_str().unwrap();
    let answer = puller.manifest(Method::GET, "acme/web", "1.0").bearer_auth(token).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], INDEX);
    let text = answer.bytes().await.unwrap();
    assert_eq!(digest, format!("sha256:{}", hex::encode(Sha256::digest(&text))));

    // Who does not say that it takes an index is told that there is none.
    let url = puller.registry.url().join("/v2/acme/web/manifests/1.0").unwrap();
    let narrow = puller.client.get(url).header("accept", MANIFEST).bearer_auth(token).send().await.unwrap();
    assert_eq!(narrow.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn without_the_right_credentials_there_is_no_token() {
    let puller = Puller::start().await;
    puller.registry.push("acme/web", "1.0");
    assert_eq!(
        puller.pull("acme/web", "1.0", Some((USER, "wrong"))).await.status(),
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(puller.pull("acme/web", "1.0", None).await.status(), StatusCode::FORBIDDEN);
    puller.registry.make_public("acme/web");
    assert_eq!(puller.pull("acme/web", "1.0", None).await.status(), StatusCode::OK);
    let schemes: Vec<_> = puller.registry.asked().into_iter().map(|asked| asked.authorization).collect();
    assert_eq!(schemes, ["", "Basic", "", "", "", "", "Bearer"]);
}

#[tokio::test]
async fn it_fails_as_it_is_told_to() {
    let puller = Puller::start().await;
    puller.registry.push("acme/web", "1.0");
    let head = || puller.manifest(Method::HEAD, "acme/web", "1.0").send();
    puller.registry.fails(Fault::Answers(502));
    assert_eq!(head().await.unwrap().status(), StatusCode::BAD_GATEWAY);
    puller.registry.fails(Fault::Breaks);
    assert!(head().await.is_err());
    puller.registry.fails(Fault::TokensAnswer(503));
    assert_eq!(puller.pull("acme/web", "1.0", KNOWN).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    puller.registry.fails(Fault::NoDigestHeader);
    let nameless = puller.pull("acme/web", "1.0", KNOWN).await;
    assert_eq!((nameless.status(), nameless.headers().get("docker-content-digest")), (StatusCode::OK, None));
    puller.registry.heals();
    assert!(puller.pull("acme/web", "1.0", KNOWN).await.headers().contains_key("docker-content-digest"));
}
