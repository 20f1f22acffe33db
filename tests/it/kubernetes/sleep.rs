//! What an operator puts to sleep sleeps until somebody has it woken, whatever else goes on.

use insta::{assert_snapshot, with_settings};
use serde_json::{Value, json};

use super::town::{App, Town};
use crate::support::{PATIENCE, cluster::Cluster, gitlab::Gitlab, until};

const FILTERS: [(&str, &str); 4] = [
    (r"`[0-9a-f]{8}`", "`[commit]`"),
    (r" [0-9a-f]{8} ", " [commit] "),
    (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d( UTC|Z)", "[time]"),
    (r"localhost:\d+", "localhost:[port]"),
];

impl Town<'_> {
    /// A verb about the merge request; what it prints.
    async fn verb(&self, verb: &str, mr: u64) -> (i32, String) {
        let server = self.world.greenroom.url();
        let name = format!("42!{mr}");
        self.world.greenroom.ask(&[verb, &name], &[("GREENROOM_SERVER", server.as_str())]).await
    }

    /// Puts it to sleep; it sleeps when this returns.
    async fn puts_to_sleep(&self, mr: u64) -> Value {
        let (code, told) = self.verb("sleep", mr).await;
        assert_eq!(code, 0, "{told}");
        let asleep = self.world.becomes(mr, "asleep").await;
        self.has_replicas(mr, 0).await;
        until("nothing runs", PATIENCE, || async {
            let runs = self.runs(mr).await;
            if runs.is_empty() { Ok(()) } else { Err(runs) }
        })
        .await;
        asleep
    }

    async fn has_replicas(&self, mr: u64, count: u64) {
        let web = self.object(mr, "deployments.apps", "web").await.expect("the Deployment");
        assert_eq!(web["spec"]["replicas"], count, "{web:#}");
    }
}

/// With a resync every second.
async fn town<'a>(cluster: &'a Cluster, name: &str) -> Town<'a> {
    let projects = format!("acme/{name}");
    let settings = [("GREENROOM_RESYNC_INTERVAL", "1s"), ("GREENROOM_PROJECTS", &projects)];
    Town::start_with(cluster, name, &settings, "").await
}

#[tokio::test]
async fn what_sleeps_is_woken_by_nobody_but_who_wakes_it() {
    let Some(cluster) = Cluster::start().await else { return };
    let town = town(cluster, "sleeper").await;
    let app = App::works(1);
    let mr = town.ready("feature", &app).await;
    town.world.rests().await;
    let told_before = (town.world.gitlab.commit_statuses().await, town.world.gitlab.deployments().await);

    let asleep = town.puts_to_sleep(mr).await;
    assert!(asleep["asleep_since"].is_string(), "{asleep}");
    let comment = town.world.gitlab.comment(mr).await.unwrap();
    with_settings!({ filters => FILTERS }, { assert_snapshot!("comment", comment) });
    let (_, why) = town.verb("why", mr).await;
    let why = why.split("\nhistory:").next().unwrap().to_owned();
    with_settings!({ filters => FILTERS }, { assert_snapshot!("why", why) });
    let environment = town.world.gitlab.environments().await;
    assert!(environment.iter().all(|one| one["state"] == "available"), "{environment:#?}");

    // A resync, a look at everything, somebody's hand, a restart, the job that runs again.
    let namespace = town.namespace(mr);
    cluster.kubectl(&["delete", "service", "web", "--namespace", &namespace], "").await;
    town.world.gitlab.edit(mr, json!({ "title": "Another title" })).await;
    town.pass(mr).await;
    town.world.rests().await;
    town.world.greenroom.restart().await;
    town.world.rests().await;
    town.world.becomes(mr, "asleep").await;
    town.has_replicas(mr, 0).await;
    assert!(town.object(mr, "services", "web").await.is_none(), "what sleeps is left as it is");
    let (code, plan) = town.verb("plan", mr).await;
    assert_eq!(code, 0, "{plan}");
    let told = (town.world.gitlab.commit_statuses().await, town.world.gitlab.deployments().await);
    assert_eq!(told, told_before, "GitLab is told nothing of it but in the comment");

    let (code, told) = town.verb("wake", mr).await;
    assert_eq!(code, 0, "{told}");
    let ready = town.world.becomes(mr, "ready").await;
    assert!(ready["asleep_since"].is_null(), "{ready}");
    town.serves(mr, &app).await;
    until("what was missing is back", PATIENCE, || town.object(mr, "services", "web")).await;
    town.world.becomes(mr, "ready").await;
    let history = town.world.preview(mr).await.unwrap()["history"].to_string();
    // That it is being woken is told only where that takes a while.
    for line in ["the operator asked to put it to sleep", "the operator asked to wake it"] {
        assert!(history.contains(line), "{history}");
    }
    town.world.ends_well().await;
}

#[tokio::test]
async fn a_new_head_is_deployed_awake_and_until_then_the_old_one_sleeps_on() {
    let Some(cluster) = Cluster::start().await else { return };
    let town = town(cluster, "pushed").await;
    let mr = town.ready("feature", &App::works(1)).await;
    town.puts_to_sleep(mr).await;

    town.push("feature", &App::works(2)).await;
    town.world.becomes(mr, "waiting").await;
    town.world.rests().await;
    town.has_replicas(mr, 0).await;
    let comment = town.world.gitlab.comment(mr).await.unwrap();
    assert!(comment.contains("sleeps since"), "{comment}");
    town.pass(mr).await;
    town.world.becomes(mr, "ready").await;
    town.serves(mr, &App::works(2)).await;

    // A refresh wakes too, also what is not the head's.
    town.puts_to_sleep(mr).await;
    town.push("feature", &App::works(3)).await;
    town.world.becomes(mr, "waiting").await;
    assert_eq!(town.verb("refresh", mr).await.0, 0);
    town.serves(mr, &App::works(2)).await;
    town.world.becomes(mr, "waiting").await;
}

#[tokio::test]
async fn what_sleeps_goes_with_its_merge_request() {
    let Some(cluster) = Cluster::start().await else { return };
    let town = town(cluster, "closed").await;
    let mr = town.ready("feature", &App::works(1)).await;
    town.puts_to_sleep(mr).await;
    town.world.gitlab.close(mr).await;
    town.world.becomes(mr, "stopped").await;
    town.is_gone(mr).await;

    let (code, told) = town.verb("sleep", mr).await;
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("only what serves can be put to sleep, and it is stopped"), "{told}");

    // Nor does the sleep outlive it.
    town.world.gitlab.reopen(mr).await;
    town.world.becomes(mr, "ready").await;
    town.serves(mr, &App::works(1)).await;
    town.puts_to_sleep(mr).await;
    assert_eq!(town.verb("stop", mr).await.0, 0);
    town.world.becomes(mr, "stopped").await;
    town.is_gone(mr).await;
    town.world.ends_well().await;
}

#[tokio::test]
async fn what_sleeps_and_is_not_remembered_sleeps_on() {
    let Some(cluster) = Cluster::start().await else { return };
    let town = town(cluster, "forgotten").await;
    let mr = town.ready("feature", &App::works(1)).await;
    town.puts_to_sleep(mr).await;
    town.world.greenroom.kill9();
    town.world.greenroom.lose_store();
    town.world.greenroom.restart().await;
    town.world.becomes(mr, "asleep").await;
    town.has_replicas(mr, 0).await;
    let path = format!("/api/v1/previews/{}/{mr}/wake", Gitlab::PROJECT);
    assert_eq!(town.world.greenroom.post(&path).send().await.unwrap().status(), 202);
    town.world.becomes(mr, "ready").await;
    town.serves(mr, &App::works(1)).await;
}
