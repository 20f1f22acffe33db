//! `greenroom why` and `greenroom open` in a job: of the job's own merge request, with no token but the one that GitLab signs.

use serde_json::{Value, json};

use super::{DEPLOY, site};
use crate::support::world::World;

impl World {
    /// The job asks about its own preview: exit code, stdout, stderr.
    async fn job_asks(&self, job: u64, mr: u64, args: &[&str]) -> (i32, String, String) {
        let token = self.id_token(job, json!({})).await;
        let output = self.verb_command(args, mr, &token).output().await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().expect("it ended by itself"), text(output.stdout), text(output.stderr))
    }
}

#[tokio::test]
async fn a_job_asks_why_and_where_of_its_own_preview() {
    // The server's own API is not for jobs.
    let world = World::start_with(&[("GREENROOM_API_TOKEN", "hush-hush-hush-hush")]).await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let job = world.pipeline_with_jobs(mr).await;
    let folder = site("mine");
    let deploy = ["deploy", folder.path().to_str().unwrap()];
    assert_eq!(world.job_verb(job.deploy, mr, &deploy).await.code, 0);

    let (code, why, _) = world.job_asks(job.deploy, mr, &["why"]).await;
    assert_eq!(code, 0, "{why}");
    assert!(why.starts_with(&format!("acme/web!{mr}: ready")), "{why}");
    let (_, why, _) = world.job_asks(job.deploy, mr, &["why", "--output", "json"]).await;
    let why: Value = serde_json::from_str(&why).unwrap();
    assert_eq!(why["mr_iid"], mr);
    let (code, link, _) = world.job_asks(job.deploy, mr, &["open"]).await;
    assert_eq!((code, link.trim_end()), (0, format!("{}/", why["url"].as_str().unwrap()).as_str()));

    // Of another's it is told nothing, and without a name it has to be a job.
    let other = world.gitlab.open_mr("other", "Another").await;
    let (code, _, told) = world.job_asks(job.deploy, other, &["why"]).await;
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("a job speaks only for the merge request of its own pipeline"), "{told}");
    let (_, told) = world.greenroom.ask(&["open"], &[]).await;
    assert!(told.contains("GREENROOM_ID_TOKEN"), "{told}");

    // Nothing is there yet, of a merge request that a job may ask about.
    let jobs = json!([{ "name": DEPLOY, "status": "running" }]);
    let made = world.gitlab.act("pipelines", json!({ "mr_iid": other, "jobs": jobs })).await;
    world.gitlab.drain().await;
    let (code, _, told) = world.job_asks(made["jobs"][0]["id"].as_u64().unwrap(), other, &["open"]).await;
    assert_eq!(code, 1, "{told}");
}
