//! What a project asks of its previews on a cluster: through an Ingress, which a listener on loopback stands for, and by
//! programs in the preview's own namespace.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use super::town::{App, Town};
use crate::support::{
    PATIENCE,
    cluster::{Cluster, LOG_LINES, kubelet::Says},
    registry::Registry,
    until, wire,
};

/// What stands for the Ingress of a cluster: it answers by `Host`, and knows nobody at first.
struct Ingress {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
    accepting: JoinHandle<()>,
}

impl Ingress {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let accepting = tokio::spawn({
            let asked = asked.clone();
            wire::serve(listener, move |request: Request<Incoming>| {
                let asked = asked.clone();
                async move {
                    let host = request.headers()[header::HOST].to_str()?.to_owned();
                    asked.lock().unwrap().push(format!("{host}{}", request.uri().path()));
                    let number = asked.lock().unwrap().len();
                    let (status, text) = match number {
                        1 => (404, "default backend - 404".to_owned()),
                        2 => (503, "no endpoints".to_owned()),
                        _ => (200, format!("the app of {host} is well")),
                    };
                    Ok(Response::builder().status(status).body(Full::new(Bytes::from(text)))?)
                }
            })
        });
        Self { port, asked, accepting }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Ingress {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Town<'_> {
    /// Waits until every check of the head has ended and the comment says so; how they stand.
    async fn checked(&self, mr: u64) -> Vec<Value> {
        self.world.becomes(mr, "ready").await;
        until("the checks have ended", PATIENCE, || async {
            let preview = self.world.preview(mr).await.unwrap_or_default();
            let comment = self.world.gitlab.comment(mr).await.unwrap_or_default();
            let checks = preview["checks"].as_array().cloned().unwrap_or_default();
            let ended = !checks.is_empty() && checks.iter().all(|check| check["state"] != "running");
            if ended && !comment.contains("being asked") { Ok(checks) } else { Err(preview) }
        })
        .await
    }

    /// The Jobs of checks in the preview's namespace.
    async fn jobs(&self, mr: u64) -> Vec<Value> {
        self.cluster.list("jobs", &self.namespace(mr)).await
    }
}

/// A check whose program is in this image, which is known by its digest already.
fn job(image: &str, timeout: &str) -> String {
    format!("{{job: [./smoke.sh, --fast], image: '{image}@sha256:{}', timeout: {timeout}}}", "a".repeat(64))
}

const IMAGES: &str = "registry.test/acme/smoke";

#[tokio::test]
async fn a_check_goes_the_way_of_a_reviewer_and_waits_for_the_ingress() {
    let Some(cluster) = Cluster::start().await else { return };
    let ingress = Ingress::start().await;
    let domain = format!("preview.localhost:{}", ingress.port);
    let file = format!("[[project]]\nmatch = [\"**\"]\nbase_domain = \"{domain}\"\n");
    let town = Town::start_with(cluster, "asked", &[], &file).await;
    let app = App { checks: "{http: /healthz, body: 'the app of asked-'}".to_owned(), ..App::works(1) };
    let mr = town.ready("feature", &app).await;
    let preview = town.world.preview(mr).await.unwrap();
    let host = format!("{}.{domain}", town.namespace(mr));
    assert_eq!(preview["url"], format!("http://{host}"));
    let checks = town.checked(mr).await;
    assert_eq!(checks[0]["reason"], "it answered with 200 OK, and its body matches", "{checks:#?}");
    town.world.rests().await;
    assert_eq!(ingress.asked(), vec![format!("{host}/healthz"); 3]);
    // A template's `host` has no port: an Ingress knows none.
    let web = town.object(mr, "deployments", "web").await.unwrap();
    let env = &web["spec"]["template"]["spec"]["containers"][0]["env"][0];
    assert_eq!(env["value"], format!("http://{host}"));
    town.world.ends_well().await;
}

#[tokio::test]
async fn programs_run_once_beside_the_preview_and_their_end_is_told() {
    let Some(cluster) = Cluster::start().await else { return };
    let settings = [("GREENROOM_COMMIT_STATUS", "required")];
    let town = Town::start_with(cluster, "errands", &settings, "").await;
    let fails = Says::Fails.image(IMAGES);
    let checks = [job(IMAGES, "1m"), job(&fails, "1m")].join(", ");
    let app = App { checks, ..App::works(1) };
    let mr = town.ready("feature", &app).await;
    let found = town.checked(mr).await;
    assert_eq!(
        (&found[0]["state"], &found[0]["reason"]),
        (&json!("passed"), &json!("it ended with exit code 0"))
    );
    assert_eq!(found[0]["name"], "job `./smoke.sh --fast`");
    let reason = found[1]["reason"].as_str().unwrap();
    assert!(found[1]["state"] == "failed" && reason.contains("ends with exit code 3"), "{found:#?}");
    assert_eq!(found[1]["lines"].as_array().unwrap().last().unwrap(), &json!(format!("line {LOG_LINES}")));
    town.world.rests().await;
    let comment = town.world.gitlab.comment(mr).await.unwrap();
    assert!(comment.contains("1 of 2 checks failed") && comment.contains("\n  │ line 39\n"), "{comment}");
    let (_, why) = town.world.greenroom.verb(&["why", &format!("acme/errands!{mr}")]);
    assert!(why.contains("    │ line 39\n"), "{why}");
    let status = town.world.gitlab.commit_statuses().await.pop().unwrap();
    assert_eq!(status["status"], "failed", "{status}");

    // They are no part of the preview: it stays ready, and nothing is sent again.
    let uids = |jobs: Vec<Value>| jobs.iter().map(|job| job["metadata"]["uid"].clone()).collect::<Vec<_>>();
    let first = uids(town.jobs(mr).await);
    assert_eq!(first.len(), 2);
    town.world.gitlab.edit(mr, json!({ "labels": "a look" })).await;
    town.world.rests().await;
    town.world.becomes(mr, "ready").await;
    assert_eq!(uids(town.jobs(mr).await), first);

    // The next revision gets ready in spite of what the last one's checks have left, and has checks of its own.
    let next = App { checks: job(IMAGES, "1m"), ..App::works(2) };
    town.update(mr, "feature", &next).await;
    town.world.becomes(mr, "ready").await;
    town.serves(mr, &next).await;
    assert_eq!(town.checked(mr).await[0]["state"], "passed");
    until("the old ones are gone", PATIENCE, || async {
        let jobs = uids(town.jobs(mr).await);
        if jobs.len() == 1 && !first.contains(&jobs[0]) { Ok(()) } else { Err(jobs) }
    })
    .await;
    town.world.gitlab.close(mr).await;
    town.world.becomes(mr, "stopped").await;
    town.is_gone(mr).await;
    town.world.ends_well().await;
}

#[tokio::test]
async fn a_program_that_was_begun_before_a_crash_is_found_again() {
    let Some(cluster) = Cluster::start().await else { return };
    let town = Town::start(cluster, "crashed").await;
    let app = App { checks: job(&Says::Creating.image(IMAGES), "30m"), ..App::works(1) };
    let mr = town.ready("feature", &app).await;
    let pod = until("its pod is there", PATIENCE, || async {
        let pods = cluster.list("pods", &town.namespace(mr)).await;
        pods.into_iter().find(|pod| {
            !pod["metadata"]["labels"]["greenroom.dev/errand"].is_null()
                && !pod["status"]["startTime"].is_null()
        })
    })
    .await;
    let job = town.jobs(mr).await[0]["metadata"]["uid"].clone();
    town.world.greenroom.kill9();
    let name = pod["metadata"]["name"].as_str().unwrap();
    let namespace = town.namespace(mr);
    let done = json!({ "status": { "phase": "Succeeded" } }).to_string();
    let patch =
        ["patch", "pod", name, "--namespace", &namespace, "--subresource=status", "--type=merge", "--patch"];
    cluster.kubectl(&[&patch[..], &[&done]].concat(), "").await;
    town.world.greenroom.restart().await;
    assert_eq!(town.checked(mr).await[0]["state"], "passed");
    let jobs: Vec<_> = town.jobs(mr).await.iter().map(|job| job["metadata"]["uid"].clone()).collect();
    assert_eq!(jobs, [job]);
    town.world.ends_well().await;
}

#[tokio::test]
async fn what_never_ends_and_what_never_begins_is_told() {
    let Some(cluster) = Cluster::start().await else { return };
    let town = Town::start(cluster, "endless").await;
    let missing = job(&Says::ImageMissing.image(IMAGES), "1h");
    let checks = [job(&Says::Creating.image(IMAGES), "2s"), missing].join(", ");
    let mr = town.ready("feature", &App { checks, ..App::works(1) }).await;
    let found = town.checked(mr).await;
    assert_eq!(found[0]["reason"], "it did not end within 2s", "{found:#?}");
    let reason = found[1]["reason"].as_str().unwrap();
    assert!(reason.contains("does not exist"), "{reason}");
    town.world.ends_well().await;
}

#[tokio::test]
async fn the_image_of_a_program_is_what_its_tag_was() {
    let Some(cluster) = Cluster::start().await else { return };
    let registry = Registry::start().await;
    registry.make_public("acme/smoke");
    let digest = registry.push("acme/smoke", "1.0");
    let town = Town::start(cluster, "tagged").await;
    let image = format!("{}/acme/smoke", registry.host());
    let checks = format!("{{job: [./smoke.sh], image: '{image}:1.0'}}");
    let mr = town.ready("feature", &App { checks, ..App::works(1) }).await;
    assert_eq!(town.checked(mr).await[0]["state"], "passed");
    let job = &town.jobs(mr).await[0];
    assert_eq!(job["spec"]["template"]["spec"]["containers"][0]["image"], format!("{image}@{digest}"));
    town.world.ends_well().await;
}
