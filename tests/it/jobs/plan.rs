//! `greenroom plan` in a job: what a deploy by the job would do. Under the rules that let a deploy in.

use insta::{assert_snapshot, with_settings};
use serde_json::json;

use super::DEPLOY;
use crate::support::world::{World, page};

const FILTERS: [(&str, &str); 1] = [(r"(at |`)[0-9a-f]{8}\b", "${1}[commit]")];

impl World {
    /// A pipeline of the head whose build has left a page that says `text`, and whose deploy job runs.
    async fn built_and_deploying(&self, mr: u64, text: &str) -> u64 {
        let environment = json!({ "name": format!("review/mr-{mr}") });
        let jobs = json!([
            { "name": "build", "status": "success", "artifact": { "files": { "dist/index.html": page(text) } } },
            { "name": DEPLOY, "status": "running", "environment": environment },
        ]);
        let made = self.gitlab.act("pipelines", json!({ "mr_iid": mr, "jobs": jobs })).await;
        made["jobs"][1]["id"].as_u64().expect("an id")
    }

    /// The job asks for a plan: exit code, and what it prints.
    async fn job_plans(&self, job: u64, mr: u64, wishes: serde_json::Value) -> (i32, String) {
        let token = self.id_token(job, wishes).await;
        let output = self.verb_command(&["plan"], mr, &token).env("NO_COLOR", "1").output().await.unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().expect("it ended by itself"), String::from_utf8(text).unwrap())
    }
}

#[tokio::test]
async fn a_job_is_told_what_its_deploy_would_do() {
    let world = World::start().await;
    // Whatever happens, only the job's question is heard.
    world.gitlab.fault(json!({ "deliveries": { "lose": true } })).await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let job = world.built_and_deploying(mr, "planned").await;

    // Its own pipeline runs, and is not waited for.
    let (code, told) = world.job_plans(job, mr, json!({})).await;
    assert_eq!(code, 2, "{told}");
    with_settings!({ filters => FILTERS }, { assert_snapshot!(told) });
    let writes: Vec<_> = world.wire.calls().into_iter().filter(|call| call.method != "GET").collect();
    assert!(writes.is_empty(), "{writes:#?}");
    assert_eq!(world.preview(mr).await, None, "no order is kept, and nothing is deployed");

    let ended = world.job_verb(job, mr, &["deploy"]).await;
    assert_eq!(ended.code, 0, "{}", ended.all());
    world.shows(mr, "planned").await;
    let (code, told) = world.job_plans(job, mr, json!({})).await;
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("nothing would be done"), "{told}");

    // For scripts.
    let token = world.id_token(job, json!({})).await;
    let output = world.verb_command(&["plan", "--output", "json"], mr, &token).output().await.unwrap();
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&plan["outcome"], &plan["state"]), (&json!("unchanged"), &json!("ready")), "{plan}");
}

#[tokio::test]
async fn whoever_may_not_deploy_is_told_of_no_plan() {
    let world = World::start().await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let job = world.built_and_deploying(mr, "planned").await;
    let (code, told) = world.job_plans(job, mr, json!({ "aud": "https://elsewhere.example.com" })).await;
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("401"), "{told}");

    // Another job's merge request.
    let other = world.gitlab.open_mr("other", "Another").await;
    let (code, told) = world.job_plans(job, other, json!({})).await;
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("a job speaks only for the merge request of its own pipeline"), "{told}");

    // A head that was left behind.
    world.gitlab.push("feature", &[("a", "2")]).await;
    let (code, told) = world.job_plans(job, mr, json!({})).await;
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("is not for the head"), "{told}");
}
