//! The images that `Dockerfile` makes, built and run for real.

use std::{collections::BTreeSet, fs, io::Write as _, os::unix::fs::PermissionsExt, process::Command};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    PATIENCE, free_address,
    gitlab::{BOT, Gitlab, SIGNING_TOKEN},
    parts::part,
    podman::{Podman, project, said},
    until,
};

/// Whom the images run as; nobody else has this number.
const NOBODY: &str = "65532";

/// All that can be taken from a container that needs none of it.
const LOCKED: &[&str] =
    &["--read-only", "--read-only-tmpfs=false", "--cap-drop=all", "--security-opt=no-new-privileges"];

#[tokio::test(flavor = "multi_thread")]
async fn the_server_needs_nothing_but_a_folder_for_its_data() {
    let Some(podman) = Podman::start() else { return };
    let image = podman.build(&["--format=docker"]);
    let address = free_address();
    let gitlab = Gitlab::start(Some(&format!("http://{address}/webhooks/gitlab").parse().unwrap())).await;
    // By a name, for a static program looks names up in its own way.
    let mut gitlab_url = gitlab.url();
    gitlab_url.set_host(Some("gitlab.test")).unwrap();
    let settings = [
        format!("--env=GREENROOM_LISTEN={address}"),
        format!("--env=GREENROOM_PUBLIC_URL=http://{address}"),
        format!("--env=GREENROOM_GITLAB_URL={gitlab_url}"),
        format!("--env=GREENROOM_GITLAB_TOKEN={BOT}"),
        format!("--env=GREENROOM_WEBHOOK_SIGNING_TOKEN={SIGNING_TOKEN}"),
        String::from("--add-host=gitlab.test:127.0.0.1"),
    ];
    let options: Vec<&str> = LOCKED.iter().copied().chain(settings.iter().map(String::as_str)).collect();
    let server = podman.serve(&options, &image);
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let get = async |host: &str, path: &str| {
        let answer = http.get(format!("http://{address}{path}")).header("host", host).send().await?;
        let status = answer.status().as_u16();
        Ok::<_, reqwest::Error>((status, answer.text().await?))
    };
    let own = address.to_string();

    until("it is alive", PATIENCE, || async {
        let alive = get(&own, "/livez").await.map_err(|error| error.to_string())?;
        if alive == (200, "ok\n".into()) { Ok(()) } else { Err(format!("{alive:?}\n{}", server.log())) }
    })
    .await;
    until("it is healthy", PATIENCE, || async {
        let health = server.health();
        if health == "healthy" { Ok(()) } else { Err(health) }
    })
    .await;
    assert_eq!(server.users(), [NOBODY]);

    let mr = gitlab.open_mr("feature", "A feature").await;
    let pipeline = gitlab.start_pipeline(mr).await;
    gitlab.succeed_job(pipeline.job, &[("dist/index.html", "from a container")]).await;
    let preview = until("the preview is ready", PATIENCE, || async {
        let (status, text) = get(&own, &format!("/api/v1/previews/42/{mr}")).await.unwrap();
        let preview: Value = serde_json::from_str(&text).map_err(|_| format!("{status}: {text}"))?;
        if preview["state"] == "ready" { Ok(preview) } else { Err(format!("{preview:#}\n{}", server.log())) }
    })
    .await;
    let link: url::Url = preview["url"].as_str().unwrap().parse().unwrap();
    let host = format!("{}:{}", link.host_str().unwrap(), address.port());
    assert_eq!(get(&host, "/").await.unwrap(), (200, "from a container".into()));

    let elsewhere = ["/usr/bin/greenroom", "man", "--to", "/man"];
    let refused = String::from_utf8(server.exec(&elsewhere).stderr).unwrap();
    assert!(refused.contains("Read-only file system"), "{refused}");
    assert_eq!(server.stop(), 0, "{}", server.log());
}

#[test]
fn the_same_commit_gives_the_same_image() {
    let Some(podman) = Podman::start() else { return };
    for target in ["server", "ci"] {
        // Only the OCI format leaves out what is of one build: its container's id and host name.
        let build = || podman.build(&["--format=oci", "--layers=false", "--timestamp=0", "--target", target]);
        assert_eq!(build(), build(), "{target}");
    }
}

#[test]
fn the_servers_image_says_what_it_is_and_holds_nothing_else() {
    let Some(podman) = Podman::start() else { return };
    let labels = ["CREATED=2026-11-21T12:00:00Z", "REVISION=abc", "SOURCE=https://s.test", "VERSION=1.2.3"];
    let labels = labels.iter().flat_map(|label| ["--build-arg", label]);
    let id = podman.build(&["--format=docker"].into_iter().chain(labels).collect::<Vec<_>>());
    let image = podman.image(&id);
    let label = |name: &str| &image["Config"]["Labels"][format!("org.opencontainers.image.{name}")];
    for (name, value) in [
        ("title", "greenroom"),
        ("description", env!("CARGO_PKG_DESCRIPTION")),
        ("licenses", env!("CARGO_PKG_LICENSE")),
        ("created", "2026-11-21T12:00:00Z"),
        ("revision", "abc"),
        ("source", "https://s.test"),
        ("version", "1.2.3"),
    ] {
        assert_eq!(label(name), value, "{name}");
    }
    assert_eq!(image["Config"]["User"], format!("{NOBODY}:{NOBODY}"));
    assert_eq!(image["Config"]["ExposedPorts"], json!({ "8080/tcp": {} }));

    let files = podman.files(&id);
    let (share, ours): (BTreeSet<&str>, BTreeSet<&str>) =
        files.iter().map(String::as_str).partition(|file| file.starts_with("usr/share/"));
    assert_eq!(Vec::from_iter(ours), ["etc/ssl/certs/ca-certificates.crt", "usr/bin/greenroom"]);
    for page in ["man/man1/greenroom.1", "man/man1/greenroom-serve.1", "zsh/site-functions/_greenroom"] {
        assert!(share.contains(format!("usr/share/{page}").as_str()), "{page}: {share:?}");
    }
    let size = image["Size"].as_u64().unwrap();
    let version = podman.run(&[], &id, &["--version"], "");
    assert_eq!(
        String::from_utf8_lossy(&version.stdout),
        format!("greenroom {}\n", env!("CARGO_PKG_VERSION"))
    );
    // Not `eprintln!`: the harness swallows that of a test that passes.
    let _ = writeln!(std::io::stderr(), "the server's image has {} MB", size / 1_000_000);
}

#[test]
fn a_job_has_a_shell_and_the_program() {
    let Some(podman) = Podman::start() else { return };
    let image = podman.build(&["--format=docker", "--target=ci"]);
    // As GitLab Runner does it: no entrypoint, a shell that reads the script, a folder that everybody may write to.
    let builds = tempfile::tempdir().unwrap();
    fs::set_permissions(&builds, PermissionsExt::from_mode(0o777)).unwrap();
    fs::write(builds.path().join(".greenroom.yml"), "version: 1\nengine: static\nstatic: {job: build}\n")
        .unwrap();
    let options = [format!("--volume={}:/builds", builds.path().display()), "--workdir=/builds".to_owned()];
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let script = "set -eu; id -u; greenroom --version; greenroom check; greenroom schema >schema.json";
    let job = podman.run(&options, &image, &["sh"], script);
    let (said, complained) = (String::from_utf8_lossy(&job.stdout), String::from_utf8_lossy(&job.stderr));
    assert!(job.status.success(), "{complained}");
    let first: Vec<_> = said.lines().take(2).collect();
    assert_eq!(first, [NOBODY, &format!("greenroom {}", env!("CARGO_PKG_VERSION"))]);
    let schema: Value =
        serde_json::from_slice(&fs::read(builds.path().join("schema.json")).unwrap()).unwrap();
    assert_eq!(schema["additionalProperties"], false);
    let failed = podman.run(&options, &image, &["sh"], "greenroom check elsewhere.yml");
    assert_eq!(failed.status.code(), Some(2), "a verb's exit code is the job's");
}

#[test]
fn a_release_is_archives_that_are_the_same_each_time_and_their_checksums() {
    let Some(program) = part("GREENROOM_TEST_STATIC", "no release is packed") else { return };
    let version = env!("CARGO_PKG_VERSION");
    let pack = || {
        let folder = tempfile::tempdir().unwrap();
        let dist = folder.path().join("dist");
        for target in ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"] {
            fs::create_dir_all(dist.join(target)).unwrap();
        }
        fs::copy(&program, dist.join("x86_64-unknown-linux-gnu/greenroom")).unwrap();
        fs::write(dist.join("aarch64-unknown-linux-gnu/greenroom"), "for another machine").unwrap();
        said(Command::new(project("ci/package")).arg(version).current_dir(&folder));
        folder
    };
    let (folder, again) = (pack(), pack());
    let sums = |folder: &TempDir| fs::read_to_string(folder.path().join("dist/SHA256SUMS")).unwrap();
    assert_eq!(sums(&folder), sums(&again));
    said(
        Command::new("sha256sum")
            .args(["--check", "--strict", "SHA256SUMS"])
            .current_dir(folder.path().join("dist")),
    );
    let name = format!("greenroom-{version}-aarch64-unknown-linux-gnu");
    let archive = folder.path().join("dist").join(&name).with_added_extension("tar.gz");
    let files = said(Command::new("tar").arg("-tf").arg(archive));
    for file in ["LICENSE", "usr/bin/greenroom", "usr/share/man/man1/greenroom-serve.1"] {
        assert!(files.lines().any(|line| line == format!("{name}/{file}")), "{file}: {files}");
    }
    let mistaken = Command::new(project("ci/package")).arg("9.9.9").current_dir(&folder).output().unwrap();
    assert_eq!(mistaken.status.code(), Some(1));
}
