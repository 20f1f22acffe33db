//! How greenroom proves itself to a cluster, and whose certificates it trusts.

use tempfile::NamedTempFile;

use super::town::{App, Town};
use crate::support::{
    PATIENCE,
    cluster::{
        Cluster,
        rancher::{ID, Rancher},
    },
    tls::Authority,
    until,
};

#[tokio::test]
async fn a_cluster_of_ranchers_is_reached_through_it_and_its_token_may_change() {
    let Some(cluster) = Cluster::start().await else { return };
    let authority = Authority::new();
    let rancher = Rancher::of(cluster, &authority).await;
    rancher.takes(&["first"]);
    let (ca_file, token_file) = (NamedTempFile::new().unwrap(), NamedTempFile::new().unwrap());
    std::fs::write(ca_file.path(), authority.pem()).unwrap();
    std::fs::write(token_file.path(), "first\n").unwrap();
    let file = format!(
        "[[cluster]]\nname = \"default\"\nrancher = {{url = \"{}\", cluster = \"{ID}\", token_file = \"{}\"}}\n\
         [[project]]\nmatch = [\"**\"]\nrancher_project = \"c-m-abcde:p-12345\"\n",
        rancher.url,
        token_file.path().display()
    );
    let settings = [("GREENROOM_CA_FILE", ca_file.path().to_str().unwrap())];
    let town = Town::start_with(cluster, "ranch", &settings, &file).await;
    let mr = town.ready("feature", &App::works(1)).await;
    town.serves(mr, &App::works(1)).await;
    let namespace = cluster.get("namespaces", "", &town.namespace(mr)).await.expect("the namespace");
    assert_eq!(namespace["metadata"]["annotations"]["field.cattle.io/projectId"], "c-m-abcde:p-12345");

    // Another token, and some time later the first one is worth nothing any more.
    rancher.takes(&["first", "second"]);
    std::fs::write(token_file.path(), "second\n").unwrap();
    until("the new token is used", PATIENCE, || async { rancher.has_seen("second").then_some(()) }).await;
    rancher.takes(&["second"]);
    town.update(mr, "feature", &App::works(2)).await;
    town.world.becomes(mr, "ready").await;
    town.serves(mr, &App::works(2)).await;
    assert!(!town.world.greenroom.log().contains("(401)"), "{}", town.world.greenroom.log());
    town.world.gitlab.close(mr).await;
    town.world.becomes(mr, "stopped").await;
    town.is_gone(mr).await;
}
