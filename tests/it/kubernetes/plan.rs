//! `greenroom plan`: what would change on the cluster, and nothing does.

use insta::{assert_snapshot, with_settings};
use serde_json::{Value, json};

use super::town::{App, Town};
use crate::support::cluster::Cluster;

/// What differs from run to run.
const FILTERS: [(&str, &str); 3] = [
    (r"[0-9a-f]{40}", "[commit]"),
    (r"(at |`)[0-9a-f]{8}\b", "${1}[commit]"),
    (r"localhost:\d+", "localhost:[port]"),
];

impl Town<'_> {
    /// Somebody asks for a plan: exit code, and what is printed.
    async fn plan(&self, args: &[&str]) -> (i32, String) {
        let server = self.world.greenroom.url();
        let args = [&["plan"], args].concat();
        self.world.greenroom.ask(&args, &[("GREENROOM_SERVER", server.as_str())]).await
    }

    /// What happens in GitLab from now on, greenroom does not hear of.
    async fn loses_events(&self) {
        self.world.gitlab.fault(json!({ "deliveries": { "lose": true } })).await;
    }

    /// How many calls to GitLab asked for a change.
    fn changes_in_gitlab(&self) -> usize {
        self.world.wire.calls().iter().filter(|call| call.method != "GET").count()
    }

    /// How many requests asked for a change of the preview's namespace, and not only for what it would come to.
    fn changes_in_cluster(&self, mr: u64, account: &str) -> usize {
        let (namespace, changes) = (self.namespace(mr), ["create", "update", "patch", "delete"]);
        let mut requests = self.cluster.requests_of(account);
        requests.retain(|it| it.namespace == namespace || it.name == namespace);
        requests
            .iter()
            .filter(|it| changes.contains(&it.verb.as_str()) && !it.path.contains("dryRun="))
            .count()
    }
}

#[tokio::test]
async fn a_plan_tells_what_would_change_and_changes_nothing() {
    let Some(cluster) = Cluster::start().await else { return };
    let town = Town::start(cluster, "planned").await;
    town.loses_events().await;
    let first = App { config_maps: vec!["old"], ..App::works(1) };
    let mr = town.open("feature", &first).await;
    let name = format!("acme/planned!{mr}");

    // Nothing was heard of the project, and its pipeline has not run.
    let (code, waits) = town.plan(&[&name]).await;
    assert_eq!(code, 0, "{waits}");
    with_settings!({ filters => FILTERS }, { assert_snapshot!(waits) });
    town.pass(mr).await;
    let (code, first_plan) = town.plan(&[&name]).await;
    assert_eq!(code, 2, "{first_plan}");
    with_settings!({ filters => FILTERS }, { assert_snapshot!(first_plan) });
    assert_eq!(town.changes_in_gitlab(), 0, "{:#?}", town.world.wire.calls());
    assert_eq!(town.changes_in_cluster(mr, "planned"), 0);
    assert_eq!(town.world.preview(mr).await, None, "nothing is remembered either");

    town.world.gitlab.fault(json!({})).await;
    town.world.gitlab.edit(mr, json!({ "title": "Somebody tells" })).await;
    town.world.becomes(mr, "ready").await;
    town.world.rests().await;
    let (code, unchanged) = town.plan(&[&name]).await;
    assert_eq!(code, 0, "{unchanged}");
    with_settings!({ filters => FILTERS }, { assert_snapshot!(unchanged) });

    town.loses_events().await;
    town.update(mr, "feature", &App { config_maps: vec!["new"], ..App::works(2) }).await;
    let before = (town.changes_in_gitlab(), town.changes_in_cluster(mr, "planned"));
    let (code, changes) = town.plan(&[&name]).await;
    assert_eq!(code, 2, "{changes}");
    with_settings!({ filters => FILTERS }, { assert_snapshot!(changes) });
    assert!(!changes.contains('\x1b'), "no colours where it is no terminal");
    let (code, text) = town.plan(&[&format!("42!{mr}"), "--output", "json"]).await;
    assert_eq!(code, 2, "{text}");
    let plan: Value = serde_json::Deserializer::from_str(&text).into_iter().next().unwrap().unwrap();
    assert_eq!(
        (&plan["outcome"], &plan["engine"], &plan["cluster"]),
        (&json!("changes"), &json!("kubernetes"), &json!("default"))
    );
    assert!(plan["changes"].as_array().unwrap().iter().any(|change| change["action"] == "delete"), "{plan}");
    assert_eq!((town.changes_in_gitlab(), town.changes_in_cluster(mr, "planned")), before);
    town.serves(mr, &first).await;

    // Now it is done, and nothing is left to do.
    town.world.gitlab.fault(json!({})).await;
    town.world.gitlab.edit(mr, json!({ "title": "Somebody tells again" })).await;
    town.world.becomes(mr, "ready").await;
    town.world.rests().await;
    assert_eq!(town.plan(&[&name]).await.0, 0);
    town.loses_events().await;
    town.world.gitlab.close(mr).await;
    let (code, end) = town.plan(&[&name]).await;
    assert_eq!(code, 2, "{end}");
    with_settings!({ filters => FILTERS }, { assert_snapshot!(end) });
}

#[tokio::test]
async fn a_plan_names_what_the_cluster_would_refuse_and_shows_no_secret() {
    let Some(cluster) = Cluster::start().await else { return };
    let kinds = ["Deployment", "Service", "Secret", "ConfigMap", "Widget", "Widget.example.com"];
    let file = format!("[[project]]\nmatch = [\"**\"]\nkinds = {kinds:?}\n");
    let town = Town::start_with(cluster, "refused", &[], &file).await;
    town.loses_events().await;
    let mr = town.open("feature", &App::works(1)).await;
    let secret =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: db}\nstringData: {password: '{{ password }}'}\n";
    let careless =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: careless}\ndata: {password: '{{ password }}'}\n";
    let add = async |files: &[(&str, &str)]| {
        town.world.gitlab.push("feature", files).await;
        town.pass(mr).await;
        town.plan(&[&format!("42!{mr}")]).await
    };
    let (code, told) =
        add(&[(".greenroom/k8s/secret.yaml", secret), (".greenroom/k8s/careless.yaml", careless)]).await;
    assert_eq!(code, 2, "{told}");
    assert_eq!(told.matches("password: (not shown)").count(), 2, "{told}");

    // A kind that no API of the cluster has, before there is a namespace and after.
    let widget = "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\n";
    let (code, told) = add(&[(".greenroom/k8s/widget.yaml", widget)]).await;
    assert_eq!(code, 1, "{told}");
    let sentence = "Widget w: the cluster does not know this kind in this version; write another apiVersion, or have its definition installed first";
    assert!(told.contains(sentence), "{told}");

    town.world.gitlab.fault(json!({})).await;
    town.world.gitlab.remove_file("feature", ".greenroom/k8s/widget.yaml").await;
    town.pass(mr).await;
    town.world.becomes(mr, "ready").await;
    let object = town.object(mr, "configmaps", "careless").await.unwrap();
    let password = object["data"]["password"].as_str().unwrap().to_owned();
    town.loses_events().await;
    let invalid =
        "apiVersion: v1\nkind: Service\nmetadata: {name: invalid}\nspec: {ports: [{port: 99999999}]}\n";
    let core = "apiVersion: v1\nkind: Widget\nmetadata: {name: core}\n";
    let (code, told) = add(&[
        (".greenroom/k8s/widget.yaml", widget),
        (".greenroom/k8s/core.yaml", core),
        (".greenroom/k8s/invalid.yaml", invalid),
        (
            ".greenroom/k8s/careless.yaml",
            &careless.replace("name: careless", "name: careless, labels: {new: label}"),
        ),
    ])
    .await;
    assert_eq!(code, 1, "{told}");
    assert!(!told.contains(&password), "{told}");
    with_settings!({ filters => FILTERS }, { assert_snapshot!(told) });
}
