//! The command line, as people and scripts use it.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Stdio},
    time::Duration,
};

use assert_cmd::{Command, cargo::cargo_bin_cmd};
use insta::{assert_snapshot, with_settings};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{free_address, world::World};

const VERBS: [&str; 26] = [
    "serve",
    "demo",
    "sandbox",
    "check",
    "init",
    "install",
    "render",
    "deploy",
    "connect",
    "list",
    "why",
    "open",
    "logs",
    "plan",
    "stop",
    "refresh",
    "sleep",
    "wake",
    "doctor",
    "health",
    "brake",
    "adopt",
    "schema",
    "defaults",
    "completions",
    "man",
];

/// Somebody at a shell: an empty folder, an empty environment.
struct Shell(TempDir);

/// How a command ended: exit code, stdout, stderr.
type Ended = (i32, String, String);

impl Shell {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn writes(&self, file: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(file);
        fs::write(&path, text).unwrap();
        path
    }

    fn greenroom(&self, args: &[&str]) -> Command {
        let mut greenroom = cargo_bin_cmd!("greenroom");
        greenroom.env_clear().current_dir(&self.0).timeout(Duration::from_mins(1)).args(args);
        greenroom
    }

    fn runs(&self, args: &[&str]) -> Ended {
        let output = self.greenroom(args).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
    }

    /// What a successful command prints; it has nothing to add on stderr.
    fn reads(&self, args: &[&str]) -> String {
        let (code, stdout, stderr) = self.runs(args);
        assert_eq!((code, &*stderr), (0, ""), "{args:?}");
        stdout
    }
}

/// All three of them, for a snapshot.
fn shown((code, stdout, stderr): Ended) -> String {
    format!("exit code {code}\n── stdout\n{stdout}── stderr\n{stderr}")
}

#[test]
fn help_is_there_for_every_verb() {
    let shell = Shell::new();
    assert_snapshot!("help", shell.reads(&["--help"]));
    for verb in VERBS {
        assert_snapshot!(format!("help_of_{verb}"), shell.reads(&[verb, "--help"]));
    }
}

#[test]
fn the_version_is_the_packages() {
    assert_eq!(Shell::new().reads(&["--version"]), format!("greenroom {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn what_is_no_verb_is_a_mistake_in_usage() {
    let shell = Shell::new();
    for args in [&[][..], &["preview"], &["serve", "--port", "80"], &["completions", "tcsh"], &["sandbox"]] {
        let (code, stdout, stderr) = shell.runs(args);
        assert_eq!((code, &*stdout), (2, ""), "{args:?}");
        assert!(stderr.contains("Usage:") || stderr.contains("For more information"), "{args:?}: {stderr}");
    }
}

#[test]
fn a_good_file_passes() {
    let shell = Shell::new();
    shell.writes(".greenroom.yml", "version: 1\nengine: static\nstatic: {job: build, path: dist}\n");
    assert_snapshot!(shown(shell.runs(&["check"])));
    assert_snapshot!(shown(shell.runs(&["check", "--output", "json", ".greenroom.yml"])));
}

#[test]
fn a_bad_file_is_told_with_its_place() {
    let shell = Shell::new();
    shell.writes("bad.yml", "version: 1\nengine: static\nstatic: {job: build, paht: dist}\n");
    assert_snapshot!(shown(shell.runs(&["check", "bad.yml"])));
    assert_snapshot!(shown(shell.runs(&["check", "--output", "json", "bad.yml"])));
}

#[test]
fn the_templates_of_a_preview_are_tried_out() {
    let shell = Shell::new();
    fs::create_dir_all(shell.0.path().join(".greenroom/k8s")).unwrap();
    let project = "version: 1\nengine: kubernetes\nkubernetes: {manifests: .greenroom/k8s}\n";
    shell.writes(".greenroom.yml", project);
    let map = |value: &str| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata:\n  b: '{{{{ {value} }}}}'\n")
    };
    shell.writes(".greenroom/k8s/a.yaml", &map("host"));
    assert_eq!(shell.runs(&["check"]).0, 0);
    shell.writes(".greenroom/k8s/a.yaml", &map("hots"));
    assert_snapshot!(shown(shell.runs(&["check"])));
    // What only the operator knows can be given.
    shell.writes(".greenroom/k8s/a.yaml", &map("colour"));
    assert_eq!(shell.runs(&["check"]).0, 2);
    assert_eq!(shell.runs(&["check", "--value", "colour=green"]).0, 0);
    let file =
        shell.writes("greenroom.toml", "[[project]]\nmatch = ['acme/*']\nvalues = {colour = 'green'}\n");
    let given = ["check", "--config", file.to_str().unwrap(), "--project", "acme/web"];
    let (_, told, _) = shell.runs(&given);
    assert!(!told.contains("colour is not"), "{told}");
    shell.writes(".greenroom/k8s/a.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n");
    assert_snapshot!(shown(shell.runs(&["check"])));
}

#[test]
fn what_the_include_is_given_is_checked_beside_the_project_file() {
    let shell = Shell::new();
    shell.writes(".greenroom.yml", "version: 1\nengine: static\nstatic: {job: build, path: dist}\n");
    let pipeline = |inputs: &str| {
        format!(
            "build: {{script: [make]}}\ninclude:\n  - component: $CI_SERVER_FQDN/acme/greenroom/greenroom@0.1.0\n    inputs: {inputs}\n"
        )
    };
    let right =
        "{server: https://greenroom.example.com, image: registry.example.com/greenroom, folder: dist}";
    shell.writes(".gitlab-ci.yml", &pipeline(right));
    assert_snapshot!(shown(shell.runs(&["check"])));
    shell.writes(".gitlab-ci.yml", &pipeline("{server: greenroom, foldr: dist, version: 1}"));
    assert_snapshot!(shown(shell.runs(&["check"])));
    shell.writes(".gitlab-ci.yml", "build: {script: [make]}\n");
    assert!(!shell.runs(&["check"]).2.contains("gitlab-ci"), "there is nothing of ours in it");
}

#[test]
fn a_file_that_is_not_there_is_a_finding() {
    assert_snapshot!(shown(Shell::new().runs(&["check", "elsewhere.yml"])));
}

#[test]
fn with_nothing_to_check_check_says_so() {
    assert_snapshot!(shown(Shell::new().runs(&["check"])));
}

#[test]
fn settings_and_project_file_are_checked_together() {
    let shell = Shell::new();
    shell.writes(".greenroom.yml", "version: 2\n");
    shell.writes(
        "greenroom.toml",
        "gitlab_url = 'gitlab.example.com'\nwebhook_signing_token = ['whsec_short']\n",
    );
    assert_snapshot!(shown(shell.runs(&["check", "--config", "greenroom.toml"])));
}

#[test]
fn what_holds_for_a_project_is_told_with_where_it_was_written() {
    let shell = Shell::new();
    shell.writes("token", "glpat-secret\n");
    shell.writes(
        "greenroom.toml",
        "gitlab_url = 'https://gitlab.example.com'\ngitlab_token = 't'\nwebhook_secret_token = ['s']\n\
         projects = ['team-a/**']\n\n[[project]]\nmatch = ['**']\nmax_lifetime = '14d'\n\n[[project]]\n\
         match = ['team-a/*']\nmax_lifetime = '7d'\nmax_previews = 20\ngitlab_token_file = 'token'\nengines = []\n",
    );
    let check = ["check", "--config", "greenroom.toml", "--project"];
    assert_snapshot!(shown(shell.runs(&[&check[..], &["team-a/web"]].concat())));
    assert_snapshot!(shown(shell.runs(&[&check[..], &["other/web"]].concat())));
    assert_snapshot!(shown(shell.runs(&[&check[..], &["team-a/web", "--output", "json"]].concat())));
    assert_snapshot!(shown(shell.runs(&[&check[..], &["web"]].concat())));
    // Whatever else is wrong, what can be told is.
    shell.writes("greenroom.toml", "[[project]]\nmatch = ['**']\nmax_lifetime = '7d'\nmax_previews = -1\n");
    assert_snapshot!(shown(shell.runs(&[&check[..], &["team-a/web"]].concat())));
}

#[test]
fn the_schema_is_one_and_knows_every_key() {
    let schema: Value = serde_json::from_str(&Shell::new().reads(&["schema"])).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let keys: Vec<_> = schema["properties"].as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        ["checks", "engine", "expires_after", "kubernetes", "static", "version", "wait_for", "when"]
    );
    assert_eq!(schema["additionalProperties"], false, "unknown keys are errors");
}

#[test]
fn the_defaults_that_are_printed_are_the_defaults() {
    let shell = Shell::new();
    let printed = shell.reads(&["defaults"]);
    assert_eq!(printed.trim_end(), include_str!("../../templates/defaults.toml").trim_end());
    printed.parse::<toml::Table>().unwrap();
    // Given back as a file, they are nothing new: what has no default is missing still, and nothing else.
    shell.writes("defaults.toml", &printed);
    shell.writes("empty.toml", "");
    let findings = |file| {
        let (code, stdout, _) = shell.runs(&["check", "--config", file, "--output", "json"]);
        assert_eq!(code, 2);
        serde_json::from_str::<Value>(&stdout).unwrap()
    };
    assert_eq!(findings("defaults.toml"), findings("empty.toml"));
    assert_eq!(findings("empty.toml")["findings"].as_array().unwrap().len(), 3);
}

#[test]
fn shells_complete_every_verb() {
    let shell = Shell::new();
    for kind in ["bash", "zsh", "fish"] {
        let script = shell.reads(&["completions", kind]);
        for verb in VERBS {
            assert!(script.contains(verb), "{kind} does not know {verb}");
        }
    }
}

#[test]
fn every_verb_has_a_manual_page() {
    let shell = Shell::new();
    let page = shell.reads(&["man"]);
    assert!(page.contains(".TH greenroom 1"), "{page}");
    assert_eq!(shell.reads(&["man", "--to", "new/pages"]), "");
    let read = |name: &str| fs::read_to_string(shell.0.path().join("new/pages").join(name)).unwrap();
    assert_eq!(read("greenroom.1"), page);
    for verb in VERBS {
        assert!(page.contains(&format!("greenroom\\-{verb}(1)")), "{verb}: {page}");
        let page = read(&format!("greenroom-{verb}.1"));
        assert!(page.contains(&format!("\\fBgreenroom {verb}\\fR")), "{page}");
    }
    shell.writes("file", "");
    assert_snapshot!(shown(shell.runs(&["man", "--to", "file"])));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let shell = Shell::new();
    for args in [
        &["schema"][..],
        &["defaults"],
        &["completions", "bash"],
        &["man"],
        &["--help"],
        &["serve", "--help"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut child = child(&shell, args, writer, Stdio::piped());
        let mut said = String::new();
        std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
        assert_eq!((child.wait().unwrap().code(), &*said), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut demo = child(&Shell::new(), &["demo", "--once", "--log", "debug"], Stdio::null(), writer);
    assert!(demo.wait().unwrap().success());
}

#[test]
fn the_sandbox_prints_its_address_and_answers_there() {
    let shell = Shell::new();
    let mut sandbox = child(&shell, &["sandbox", "--token", "t"], Stdio::piped(), Stdio::null());
    let mut url = String::new();
    BufReader::new(sandbox.stdout.as_mut().unwrap()).read_line(&mut url).unwrap();
    let version = get(&format!("{}/api/v4/version", url.trim()), ("PRIVATE-TOKEN", "t"));
    kill_process(Pid::from_child(&sandbox), Signal::INT).unwrap();
    assert!(sandbox.wait().unwrap().success());
    assert!(version["version"].is_string(), "{version}");
}

#[test]
fn the_demo_tells_its_story_and_ends() {
    let (code, story, stderr) = Shell::new().runs(&["demo", "--once"]);
    assert_eq!((code, &*stderr), (0, ""), "{story}");
    assert!(story.lines().filter(|line| line.starts_with("   GitLab    sends ")).count() > 20, "{story}");
    // Which deliveries GitLab has sent by the time greenroom has decided is up to the moment.
    let story: Vec<_> = story.lines().filter(|line| !line.starts_with("   GitLab    sends ")).collect();
    let filters = [
        (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "[time]"),
        (r"(127\.0\.0\.1|localhost):\d+", "$1:[port]"),
        (r"`[0-9a-f]{8}`", "`[commit]`"),
        (r"Deployed in \| .* \|", "Deployed in | [duration] |"),
        (r"that took \d+ ms", "that took [duration]"),
        // GitLab numbers commit statuses along with jobs, and which of them comes first is up to the moment.
        (r"\(id 540000000\d+\)", "(id [job])"),
        (r"\b5[34]0000000", "[id]"),
    ];
    with_settings!({ filters => filters }, { assert_snapshot!(story.join("\n")) });
}

mod why {
    use super::*;

    #[tokio::test]
    async fn tells_what_led_to_a_preview() {
        let world = World::start().await;
        let mr = world.gitlab.open_mr("feature", "A feature").await;
        world.becomes(mr, "waiting").await;
        world.build(mr, "one").await;
        world.becomes(mr, "ready").await;
        world.rests().await;

        let server = world.greenroom.url().to_string();
        let told = ask(&["why", "acme/web!1", "--server", &server]).await;
        let filters = [
            (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "[time]"),
            (r"\b[0-9a-f]{8}\b", "[commit]"),
            (r"localhost:\d+", "localhost:[port]"),
            (r"\b5[34]0000000", "[id]"),
        ];
        with_settings!({ filters => filters }, { assert_snapshot!(shown(told.clone())) });
        assert_eq!(ask(&["why", "42!1", "--server", &server]).await, told, "by its number");
        assert_eq!(
            ask(&["why", "ACME/Web!1", "--server", &server]).await,
            told,
            "GitLab's paths know no case"
        );

        let (code, json, _) = ask(&["why", "42!1", "--output", "json", "--server", &server]).await;
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!((code, json), (0, world.preview(mr).await.unwrap()));
        world.ends_well().await;
    }

    #[tokio::test]
    async fn says_what_it_does_not_know() {
        let world = World::start().await;
        world.ready_mr("feature", "one").await;
        let server = world.greenroom.url().to_string();
        for (question, answer) in [
            ("acme/web!2", "no preview of merge request 42!2 is known"),
            ("acme/app!1", "no preview of a project `acme/app` is known"),
        ] {
            let (code, stdout, stderr) = ask(&["why", question, "--server", &server]).await;
            assert_eq!((code, &*stdout), (1, ""), "{question}");
            assert!(stderr.contains(answer), "{stderr}");
        }
        world.ends_well().await;
    }

    #[tokio::test]
    async fn needs_the_token_where_the_server_has_one() {
        let world = World::start_with(&[("GREENROOM_API_TOKEN", "hush")]).await;
        let server = world.greenroom.url().to_string();
        let refused = ask(&["why", "42!1", "--server", &server]).await;
        assert_eq!(refused.0, 1);
        assert_snapshot!(refused.2.replace(&server, "[server]"), @"error: [server] answered 401 Unauthorized: send the API token as `Authorization: Bearer …`");
        let shell = Shell::new();
        let token = shell.writes("token", "hush\n");
        let mut why = shell.greenroom(&["why", "42!1"]);
        why.env("GREENROOM_API_TOKEN_FILE", token).env("GREENROOM_SERVER", &server);
        let output = tokio::task::spawn_blocking(move || why.output().unwrap()).await.unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains("no preview of merge request 42!1 is known"), "{stderr}");
    }

    #[test]
    fn says_when_nobody_listens() {
        let server = format!("http://{}", free_address());
        let (code, stdout, stderr) = Shell::new().runs(&["why", "acme/web!1", "--server", &server]);
        assert_eq!((code, &*stdout), (3, ""));
        assert!(stderr.starts_with(&format!("error: {server}/ does not answer")), "{stderr}");
    }

    #[test]
    fn says_how_to_name_a_merge_request() {
        for nonsense in ["nonsense", "acme/web", "acme/web!", "!1", "acme/web!one", "acme/web!-1"] {
            let (code, stdout, stderr) = Shell::new().runs(&["why", nonsense]);
            assert_eq!((code, &*stdout), (2, ""), "{nonsense}");
            assert_eq!(
                stderr,
                format!("error: `{nonsense}` names no merge request\nhint: write it as `acme/web!7`\n")
            );
        }
    }
}

mod health {
    use sqlx::{Connection, Executor, SqliteConnection};

    use super::*;

    #[tokio::test]
    async fn is_good_as_long_as_the_store_can_be_written() {
        let world = World::start().await;
        let health = || {
            let (status, text) = world.greenroom.verb(&["health"]);
            (status.code().unwrap(), text.replace(world.greenroom.url().as_str(), "[server]/"))
        };
        assert_eq!(health(), (0, "ready\n".into()));

        let file = format!("sqlite://{}", world.greenroom.data().join("greenroom.db").display());
        let mut other = SqliteConnection::connect(&file).await.unwrap();
        other.execute("BEGIN EXCLUSIVE").await.unwrap();
        let (code, text) = health();
        assert_eq!(code, 1);
        assert!(
            text.starts_with("error: [server]/readyz answered 503 Service Unavailable: the store does not"),
            "{text}"
        );
        other.execute("ROLLBACK").await.unwrap();
        assert_eq!(health().0, 0);

        world.greenroom.kill9();
        let (code, text) = health();
        assert_eq!(code, 3);
        assert!(text.starts_with("error: [server]/readyz does not answer: "), "{text}");
    }

    #[test]
    fn asks_where_the_settings_say_that_the_server_listens() {
        let shell = Shell::new();
        shell.writes("greenroom.toml", &format!("listen = '{}'\n", free_address()));
        assert_eq!(shell.runs(&["health", "--config", "greenroom.toml"]).0, 3);
        shell.writes("greenroom.toml", "listen = 'here'\n");
        assert_snapshot!(shown(shell.runs(&["health", "--config", "greenroom.toml"])));
    }
}

/// What an operator does in a day.
mod day {
    use super::*;
    use crate::support::{PATIENCE, gitlab::Gitlab, until};

    /// What changes from run to run.
    const FILTERS: [(&str, &str); 6] = [
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "[time]"),
        (r"\b[0-9a-f]{8}\b", "[commit]"),
        (r"localhost:\d+", "localhost:[port]"),
        (r"127\.0\.0\.1:\d+", "127.0.0.1:[port]"),
        (r"\b5[34]0000000", "[id]"),
        (r"\b\d+[sm] ", "[age] "),
    ];

    #[tokio::test]
    async fn from_the_list_to_a_stop_and_back() {
        let world = World::start().await;
        let server = world.greenroom.url().to_string();
        assert_snapshot!(shown(ask(&["list", "--server", &server]).await));
        let mr = world.ready_mr("feature", "one").await;
        let waiting = world.gitlab.open_mr("waiting", "Another").await;
        world.becomes(waiting, "waiting").await;
        world.rests().await;
        let list = ask(&["list", "--server", &server]).await;
        with_settings!({ filters => FILTERS }, { assert_snapshot!(shown(list)) });
        let (code, json, _) = ask(&["list", "--output", "json", "--server", &server]).await;
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!((code, json["previews"].as_array().unwrap().len()), (0, 2));

        let stopped = ask(&["stop", "acme/web!1", "--server", &server]).await;
        with_settings!({ filters => FILTERS }, { assert_snapshot!(shown(stopped)) });
        world.becomes(mr, "stopped").await;
        world.rests().await;
        let why = ask(&["why", "acme/web!1", "--server", &server]).await;
        with_settings!({ filters => FILTERS }, { assert_snapshot!(shown(why)) });

        let refreshed = ask(&["refresh", "42!1", "--server", &server]).await;
        with_settings!({ filters => FILTERS }, { assert_snapshot!(shown(refreshed)) });
        world.becomes(mr, "ready").await;
        world.rests().await;
        let logs = ask(&["logs", "acme/web!1", "--server", &server]).await;
        with_settings!({ filters => FILTERS }, { assert_snapshot!(shown(logs)) });
        world.ends_well().await;
    }

    #[tokio::test]
    async fn a_link_is_printed_and_shown_where_there_is_a_browser() {
        let world = World::start().await;
        let mr = world.ready_mr("feature", "one").await;
        let waiting = world.gitlab.open_mr("waiting", "Another").await;
        world.becomes(waiting, "waiting").await;
        let folder = tempfile::tempdir().unwrap();
        let browser = folder.path().join("browser");
        fs::write(&browser, "#!/bin/sh\nprintf %s \"$1\" > \"$0.part\" && mv \"$0.part\" \"$0.shows\"\n")
            .unwrap();
        fs::set_permissions(&browser, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let shows = folder.path().join("browser.shows");
        let server = world.greenroom.url().to_string();
        let names = format!("/nowhere/browser:{}", browser.display());
        let open = async |args: &[&str]| {
            let args = [&["open"], args].concat();
            world.greenroom.ask(&args, &[("GREENROOM_SERVER", &server), ("BROWSER", &names)]).await
        };
        let link = format!("{}/", world.preview(mr).await.unwrap()["url"].as_str().unwrap());
        assert_eq!(open(&["42!1", "--print"]).await, (0, format!("{link}\n")));
        assert_eq!(open(&["acme/web!2"]).await.0, 1, "there is nothing to see");
        assert_eq!(open(&["acme/web!1"]).await, (0, format!("{link}\n")));
        let shown = until("the browser shows it", PATIENCE, || async { fs::read_to_string(&shows) }).await;
        assert_eq!(shown, link);
    }

    #[tokio::test]
    async fn logs_go_on_as_long_as_somebody_follows() {
        let world = World::start().await;
        let mr = world.ready_mr("feature", "one").await;
        let server = world.greenroom.url().to_string();
        let args = ["logs", "42!1", "--follow", "--output", "json", "--server", &server];
        let mut logs = child(&Shell::new(), &args, Stdio::piped(), Stdio::null());
        let mut lines = BufReader::new(logs.stdout.take().unwrap()).lines();
        world.gitlab.close(mr).await;
        world.becomes(mr, "stopped").await;
        let followed = tokio::task::spawn_blocking(move || {
            let lines = lines.by_ref().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
            let mut seen = Vec::new();
            for line in lines {
                let ends = line["state"] == "stopped";
                seen.push(line["id"].as_str().unwrap().to_owned());
                if ends {
                    break;
                }
            }
            seen
        });
        let followed =
            tokio::time::timeout(crate::support::PATIENCE, followed).await.expect("the end").unwrap();
        logs.kill().unwrap();
        logs.wait().unwrap();
        let preview = world.greenroom.preview(Gitlab::PROJECT, mr).await.unwrap();
        let told = preview["history"].as_array().unwrap().iter().rev();
        let told: Vec<_> = told.map(|line| line["id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(followed, told, "each line once, oldest first");
        world.ends_well().await;
    }

    #[tokio::test]
    async fn a_doctor_names_what_is_wrong_and_what_helps() {
        let world = World::start().await;
        let server = world.greenroom.url().to_string();
        assert_snapshot!(shown(ask(&["doctor", "--server", &server]).await));
        world.ends_well().await;

        let world = World::start_with(&[("GREENROOM_COLOUR", "green")]).await;
        let server = world.greenroom.url().to_string();
        let found = ask(&["doctor", "--server", &server]).await;
        assert_eq!(found.0, 1);
        with_settings!({ filters => FILTERS }, { assert_snapshot!(shown(found)) });
        let (code, json, _) = ask(&["doctor", "--output", "json", "--server", &server]).await;
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!((code, &json["status"]), (1, &"warning".into()));
        world.ends_well().await;
    }

    #[tokio::test]
    async fn what_is_not_known_cannot_be_stopped() {
        let world = World::start().await;
        let server = world.greenroom.url().to_string();
        for verb in ["stop", "refresh", "logs"] {
            let (code, stdout, stderr) = ask(&[verb, "42!9", "--server", &server]).await;
            assert_eq!((code, &*stdout), (1, ""), "{verb}");
            assert!(stderr.contains("no preview of merge request 42!9 is known"), "{stderr}");
        }
        world.ends_well().await;
    }
}

/// As [`Shell::runs`], while the world goes on.
async fn ask(args: &[&str]) -> Ended {
    let args: Vec<_> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let ask = move || Shell::new().runs(&args.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(ask).await.unwrap()
}

/// One that goes on by itself.
fn child(shell: &Shell, args: &[&str], stdout: impl Into<Stdio>, stderr: impl Into<Stdio>) -> Child {
    std::process::Command::new(env!("CARGO_BIN_EXE_greenroom"))
        .args(args)
        .env_clear()
        .current_dir(&shell.0)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .unwrap()
}

fn get(url: &str, (name, value): (&'static str, &'static str)) -> Value {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        client.get(url).header(name, value).send().await.unwrap().json().await.unwrap()
    })
}
