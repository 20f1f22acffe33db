//! greenroom on a company's network: a certificate authority of its own, a proxy, and fairness to GitLab.

use std::{fs, time::Instant};

use assert_cmd::cargo::cargo_bin_cmd;
use tempfile::TempDir;
use url::Url;

use crate::support::{
    PATIENCE,
    gitlab::{BOT, Gitlab},
    tls::{Authority, Proxy, TlsFront},
    world::{Before, World},
};

/// The authority's certificate in a file.
fn ca_file(authority: &Authority) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    fs::write(&path, format!("# Our own authority\n{}", authority.pem())).unwrap();
    let path = path.display().to_string();
    (folder, path)
}

#[tokio::test]
async fn a_gitlab_with_a_private_authority_is_believed_once_its_certificate_is_given() {
    let before = Before::start().await;
    let authority = Authority::new();
    let front = TlsFront::before(before.wire.url(), &authority, "localhost").await;
    let gitlab = format!("https://localhost:{}", front.address.port());
    let mut world = before.greenroom(&[("GREENROOM_GITLAB_URL", &gitlab)]).await;
    world.greenroom.logs("its certificate is not trusted", 1).await;
    world.greenroom.logs("give its certificate as a PEM file with GREENROOM_CA_FILE", 1).await;
    assert!(world.wire.calls().is_empty(), "nothing was sent, least of all the token");

    let (_folder, ca) = ca_file(&authority);
    world.greenroom.set("GREENROOM_CA_FILE", &ca);
    world.greenroom.restart().await;
    let mr = world.ready_mr("feature", "over TLS").await;
    world.shows(mr, "over TLS").await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused_with_the_authority_known() {
    let before = Before::start().await;
    let authority = Authority::new();
    let front = TlsFront::before(before.wire.url(), &authority, "elsewhere.test").await;
    let (_folder, ca) = ca_file(&authority);
    let gitlab = format!("https://localhost:{}", front.address.port());
    let world = before.greenroom(&[("GREENROOM_GITLAB_URL", &gitlab), ("GREENROOM_CA_FILE", &ca)]).await;
    world.greenroom.logs("its certificate is not valid", 1).await;
    assert!(world.wire.calls().is_empty());
}

#[tokio::test]
async fn gitlab_is_reached_through_the_proxy_unless_it_is_excepted() {
    let before = Before::start().await;
    let authority = Authority::new();
    let front = TlsFront::before(before.wire.url(), &authority, "gitlab.test").await;
    let proxy = Proxy::to(front.address).await;
    let (_folder, ca) = ca_file(&authority);
    let mut world = before
        .greenroom(&[
            ("GREENROOM_GITLAB_URL", "https://gitlab.test"),
            ("GREENROOM_GITLAB_TIMEOUT", "5s"),
            ("GREENROOM_CA_FILE", &ca),
            ("HTTPS_PROXY", &proxy.url),
            ("HTTP_PROXY", &proxy.url),
            ("NO_PROXY", "other.test,gitlab.test"),
        ])
        .await;
    // Nobody but the proxy knows that name.
    world.greenroom.logs("GitLab did not answer", 1).await;
    assert_eq!(proxy.asked(), [""; 0]);

    world.greenroom.set("NO_PROXY", "other.test");
    world.greenroom.restart().await;
    let mr = world.ready_mr("feature", "through the proxy").await;
    world.shows(mr, "through the proxy").await;
    let asked = proxy.asked();
    assert!(!asked.is_empty());
    // Not the object storage either, which is on this machine.
    assert!(asked.iter().all(|name| name == "gitlab.test:443"), "{asked:?}");
    world.ends_well().await;
}

#[tokio::test]
async fn an_object_storage_with_a_private_authority_is_believed_too() {
    let authority = Authority::new();
    let (_folder, ca) = ca_file(&authority);
    let world = World::start_with(&[("GREENROOM_CA_FILE", &ca)]).await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    world.wire.on("GET", "*/artifacts").always().answer(503, &[], "not yet");
    let pipeline = world.build(mr, "from the storage").await;

    let http =
        reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let artifacts = format!("api/v4/projects/{}/jobs/{}/artifacts", Gitlab::PROJECT, pipeline.job);
    let artifacts = world.gitlab.url().join(&artifacts).unwrap();
    let redirect = http.get(artifacts).header("PRIVATE-TOKEN", BOT).send().await.unwrap();
    let storage: Url = redirect.headers()["location"].to_str().unwrap().parse().unwrap();
    let front = TlsFront::before(&storage, &authority, "localhost").await;
    let secured = format!("https://localhost:{}{}", front.address.port(), storage.path());
    world.wire.heal();
    world.wire.on("GET", "*/artifacts").always().answer(302, &[("location", &secured)], "");
    world.becomes(mr, "ready").await;
    world.shows(mr, "from the storage").await;
    world.ends_well().await;
}

#[tokio::test]
async fn a_verb_that_asks_a_server_trusts_the_private_authority_too() {
    let world = World::start().await;
    let mr = world.ready_mr("feature", "asked for").await;
    let authority = Authority::new();
    let front = TlsFront::before(&world.greenroom.url(), &authority, "localhost").await;
    let server = format!("https://localhost:{}", front.address.port());
    let (_folder, ca) = ca_file(&authority);
    let why = async |settings: Vec<(&'static str, String)>| {
        let (server, mr) = (server.clone(), format!("42!{mr}"));
        tokio::task::spawn_blocking(move || {
            let mut why = cargo_bin_cmd!("greenroom");
            why.env_clear().envs(settings).timeout(PATIENCE).args(["why", &mr, "--server", &server]);
            let output = why.output().unwrap();
            let text = |bytes| String::from_utf8(bytes).unwrap();
            (output.status.code(), text(output.stdout), text(output.stderr))
        })
        .await
        .unwrap()
    };
    let (code, _, said) = why(Vec::new()).await;
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("its certificate is not trusted") && said.contains("GREENROOM_CA_FILE"), "{said}");
    let (code, told, said) = why(vec![("GREENROOM_CA_FILE", ca)]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(told.contains("acme/web"), "{told}");
}

#[tokio::test]
async fn calls_keep_to_the_rate() {
    let began = Instant::now();
    let world = World::start_with(&[("GREENROOM_GITLAB_RATE", "4/s")]).await;
    let mr = world.ready_mr("feature", "slowly").await;
    world.shows(mr, "slowly").await;
    // A slow machine takes longer; a fast one must not be faster.
    let calls = f64::from(u32::try_from(world.wire.calls().len()).unwrap());
    let least = (calls - 4.0) / 4.0;
    assert!(least > 0.5, "too few calls to see anything: {calls}");
    assert!(began.elapsed().as_secs_f64() >= least, "{calls} calls in {:?}", began.elapsed());
    world.ends_well().await;
}
