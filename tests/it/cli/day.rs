//! What an operator does in a day.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::Stdio,
};

use insta::{assert_snapshot, with_settings};
use serde_json::Value;

use super::{Shell, ask, child, shown};
use crate::support::{PATIENCE, gitlab::Gitlab, until, wire::Wire, world::World};

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
    let followed = tokio::time::timeout(PATIENCE, followed).await.expect("the end").unwrap();
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

#[tokio::test]
async fn a_server_that_sends_elsewhere_has_done_nothing_and_that_is_told() {
    let wire = Wire::to(&"http://localhost".parse().unwrap()).await;
    let server = wire.url().to_string();
    let to = format!("{server}api/v1/brake");
    wire.on("POST", "*").always().answer(301, &[("location", &to)], "");
    // To follow would be to look only, and to tell of it as if it had been done.
    let held = r#"{"engaged":true,"held":4,"live":4,"removals":[{"project_path":"acme/web","mr_iid":7}]}"#;
    wire.on("GET", "*").always().answer(200, &[("content-type", "application/json")], held);
    let (code, stdout, stderr) = ask(&["brake", "--release", "--server", &server]).await;
    assert_eq!((code, &*stdout), (1, ""), "{stderr}");
    assert!(stderr.contains(&format!("sends elsewhere, to `{to}`: use `--server`")), "{stderr}");
}

#[tokio::test]
async fn a_proxy_with_nobody_behind_it_is_worth_another_try() {
    let wire = Wire::to(&"http://localhost".parse().unwrap()).await;
    wire.any().always().answer(502, &[("content-type", "text/html")], "<h1>502 Bad Gateway</h1>");
    let server = wire.url().to_string();
    for args in [&["list"][..], &["why", "42!7"], &["stop", "42!7"], &["plan", "acme/web!7"]] {
        let (code, stdout, stderr) = ask(&[args, &["--server", &server]].concat()).await;
        assert_eq!((code, &*stdout), (3, ""), "{args:?}: {stderr}");
        assert!(stderr.contains("answered 502"), "{stderr}");
    }
}
