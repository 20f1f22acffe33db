//! What operators give to `serve`, and what it says when that cannot work.

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt, path::Path};

use assert_cmd::{Command, cargo::cargo_bin_cmd};
use insta::assert_snapshot;
use tempfile::TempDir;

use crate::support::{
    PATIENCE,
    courier::Delivery,
    free_address,
    gitlab::{BOT, SIGNING_TOKEN},
    greenroom::Greenroom,
    world::World,
};

const OTHER_SIGNING_TOKEN: &str = "whsec_b3RoZXJvdGhlcm90aGVyb3RoZXJvdGhlcm90aGVyISE=";
const NOBODYS_SIGNING_TOKEN: &str = "whsec_bm9ib2R5bm9ib2R5bm9ib2R5bm9ib2R5bm9ib2R5ISE=";

/// All that `serve` cannot do without; nobody listens at this GitLab.
const ENOUGH: [(&str, &str); 3] = [
    ("GREENROOM_GITLAB_URL", "http://127.0.0.1:9"),
    ("GREENROOM_GITLAB_TOKEN", BOT),
    ("GREENROOM_WEBHOOK_SIGNING_TOKEN", SIGNING_TOKEN),
];

/// An operator's machine: nothing in the environment, an empty folder.
struct Operator(TempDir);

impl Operator {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn writes(&self, file: &str, text: &str) -> String {
        let path = self.0.path().join(file);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// A store that is not in the data folder.
    fn database(&self) -> String {
        format!("sqlite://{}?mode=rwc", self.0.path().join("elsewhere.db").display())
    }

    /// `greenroom serve`, which is expected to refuse.
    fn serve(&self, settings: &[(&str, &str)]) -> Command {
        let mut serve = cargo_bin_cmd!("greenroom");
        serve.env_clear().current_dir(&self.0).timeout(PATIENCE).arg("serve");
        serve.envs(settings.iter().copied());
        serve
    }
}

/// The exit code of a `serve` that refused, and what it said on stderr; on stdout it says nothing.
fn refusal(mut serve: Command) -> (i32, String) {
    let output = serve.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.stdout.is_empty(), "{:?}", String::from_utf8_lossy(&output.stdout));
    (output.status.code().unwrap_or_else(|| panic!("it did not end by itself: {said}")), said)
}

#[test]
fn without_any_setting_it_says_all_that_is_missing_at_once() {
    let (code, said) = refusal(Operator::new().serve(&[]));
    assert_eq!(code, 2);
    assert_snapshot!(said);
}

#[test]
fn without_a_webhook_token_it_does_not_start() {
    let (code, said) = refusal(Operator::new().serve(&ENOUGH[..2]));
    assert_eq!(code, 2);
    assert_snapshot!(said);
}

#[test]
fn a_key_that_is_no_setting_is_told_with_its_line() {
    let operator = Operator::new();
    operator.writes("greenroom.toml", "listen = '127.0.0.1:0'\n\npreview_domian = 'p.example.com'\n");
    let mut serve = operator.serve(&ENOUGH);
    serve.args(["--config", "greenroom.toml"]);
    let (code, said) = refusal(serve);
    assert_eq!(code, 2);
    assert_snapshot!(said);
}

#[test]
fn the_environment_wins_over_the_file_and_a_flag_over_both() {
    let operator = Operator::new();
    operator.writes("greenroom.toml", "listen = 'of the file'\n");
    let said = |environment: Option<&str>, flag: Option<&str>| {
        let mut serve = operator.serve(&ENOUGH);
        serve.args(["--config", "greenroom.toml"]);
        serve.envs(environment.map(|value| ("GREENROOM_LISTEN", value)));
        serve.args(flag.map(|value| format!("--listen={value}")));
        let (code, said) = refusal(serve);
        assert_eq!(code, 2);
        said.lines().nth(1).unwrap_or_default().trim().to_owned()
    };
    let (environment, flag) = (Some("of the environment"), Some("of the flag"));
    assert_eq!(said(None, None), "greenroom.toml:1: listen: `of the file` is no socket address");
    assert_eq!(said(environment, None), "GREENROOM_LISTEN: `of the environment` is no socket address");
    assert_eq!(said(environment, flag), "--listen: `of the flag` is no socket address");
    assert_eq!(said(None, flag), "--listen: `of the flag` is no socket address");
    // Empty is not set: what is below shows through.
    assert_eq!(said(Some(""), None), "greenroom.toml:1: listen: `of the file` is no socket address");
}

#[tokio::test]
async fn what_is_set_to_nothing_has_its_default() {
    let address = free_address().to_string();
    let empty =
        [("GREENROOM_LISTEN", address.as_str()), ("GREENROOM_DATA_DIR", ""), ("GREENROOM_PUBLIC_URL", "")];
    let greenroom = Greenroom::start(&[&ENOUGH[..], &empty[..]].concat()).await;
    let default = greenroom.data().with_file_name("greenroom-data");
    assert!(default.join("greenroom.db").exists(), "{}", default.display());
}

#[test]
fn an_environment_that_is_no_text_is_no_reason_to_fall_over() {
    let operator = Operator::new();
    let odd = OsStr::from_bytes(b"\xff\xfe");

    let mut serve = operator.serve(&ENOUGH[..2]);
    serve.env("SOMEBODY_ELSES", odd);
    let (code, said) = refusal(serve);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("no webhook token is set"), "{said}");

    let mut serve = operator.serve(&ENOUGH);
    serve.env("GREENROOM_LISTEN", odd);
    let (code, said) = refusal(serve);
    assert_eq!(code, 2, "{said}");
    assert_snapshot!(said);
}

#[tokio::test]
async fn every_secret_may_stand_in_a_file_of_its_own() {
    let operator = Operator::new();
    let world = World::start_with(&[
        ("GREENROOM_GITLAB_TOKEN", ""),
        ("GREENROOM_GITLAB_TOKEN_FILE", &operator.writes("gitlab", &format!("{BOT}\n"))),
        ("GREENROOM_WEBHOOK_SIGNING_TOKEN", ""),
        ("GREENROOM_WEBHOOK_SIGNING_TOKEN_FILE", &operator.writes("signing", &format!("{SIGNING_TOKEN}\n"))),
        ("GREENROOM_WEBHOOK_SECRET_TOKEN_FILE", &operator.writes("secret", "one\ntwo\n")),
        ("GREENROOM_STORE_URL_FILE", &operator.writes("store", &operator.database())),
    ])
    .await;
    world.ready_mr("feature", "by files").await;
    for secret in ["one", "two"] {
        assert_eq!(Delivery::about(1).with_token(secret).deliver(&world.greenroom).await, 202, "{secret}");
    }
    assert!(operator.0.path().join("elsewhere.db").exists());
    world.ends_well().await;
}

#[tokio::test]
async fn the_api_token_may_stand_in_a_file() {
    let operator = Operator::new();
    let token = [("GREENROOM_API_TOKEN_FILE", &*operator.writes("api", "hush\n"))];
    let greenroom = Greenroom::start(&[&ENOUGH[..], &token[..]].concat()).await;
    assert_eq!(greenroom.get("/api/v1/previews").await.status(), 401);
}

#[test]
fn a_secret_is_given_once_and_its_file_must_be_there() {
    let operator = Operator::new();
    let file = operator.writes("token", "t");
    let twice = [("GREENROOM_GITLAB_TOKEN_FILE", &*file), ("GREENROOM_API_TOKEN_FILE", "not/there")];
    let (code, said) = refusal(operator.serve(&[&ENOUGH[..], &twice[..]].concat()));
    assert_eq!(code, 2);
    assert_snapshot!(said);
}

#[test]
fn a_ca_file_without_a_certificate_is_told_before_anybody_is_called() {
    let operator = Operator::new();
    let ca = operator.writes("ca.pem", "our own authority\n");
    let (code, said) = refusal(operator.serve(&[&ENOUGH[..], &[("GREENROOM_CA_FILE", &*ca)]].concat()));
    assert_eq!(code, 2);
    assert_snapshot!(said.replace(&ca, "[ca]"), @"
    the settings have 1 problem
      GREENROOM_CA_FILE: `[ca]` holds no certificate
        hint: give the path of a readable PEM file of certificates
    ");
}

#[tokio::test]
async fn during_a_rotation_the_old_and_the_new_token_count() {
    let both = format!("{SIGNING_TOKEN}, {OTHER_SIGNING_TOKEN}");
    let tokens = [("GREENROOM_WEBHOOK_SIGNING_TOKEN", &*both), ("GREENROOM_WEBHOOK_SECRET_TOKEN", "old,new")];
    let greenroom = Greenroom::start(&[&ENOUGH[..], &tokens[..]].concat()).await;
    for (token, status) in [(SIGNING_TOKEN, 202), (OTHER_SIGNING_TOKEN, 202), (NOBODYS_SIGNING_TOKEN, 401)] {
        assert_eq!(Delivery::about(1).signed_with(token).deliver(&greenroom).await, status, "{token}");
    }
    for (token, status) in [("old", 202), ("new", 202), ("old,new", 401), ("", 401)] {
        assert_eq!(Delivery::about(1).with_token(token).deliver(&greenroom).await, status, "{token:?}");
    }
}

#[tokio::test]
async fn a_store_belongs_to_one_instance() {
    let operator = Operator::new();
    let one = [("GREENROOM_INSTANCE", "one")];
    let greenroom = Greenroom::start(&[&ENOUGH[..], &one[..]].concat()).await;
    greenroom.kill9();

    let data = greenroom.data().display().to_string();
    let two =
        [("GREENROOM_INSTANCE", "two"), ("GREENROOM_DATA_DIR", &*data), ("GREENROOM_LISTEN", "127.0.0.1:0")];
    let (code, said) = refusal(operator.serve(&[&ENOUGH[..], &two[..]].concat()));
    assert_eq!(code, 1);
    assert_snapshot!(said, @"
    error: GREENROOM_INSTANCE is `two`, but this store belongs to instance `one`
    hint: unset it, or use the store of `two`
    ");
}

#[tokio::test]
async fn a_second_greenroom_leaves_the_first_ones_data_alone() {
    let operator = Operator::new();
    let world = World::start().await;
    let data = world.greenroom.data().display().to_string();
    let same = [("GREENROOM_DATA_DIR", &*data), ("GREENROOM_LISTEN", "127.0.0.1:0")];
    let (code, said) = refusal(operator.serve(&[&ENOUGH[..], &same[..]].concat()));
    assert_eq!(code, 1);
    assert_snapshot!(said.replace(&data, "[data]"), @"
    error: another greenroom uses the data folder [data]
    hint: stop it, or give this one a folder of its own (GREENROOM_DATA_DIR)
    ");
    world.ready_mr("feature", "undisturbed").await;
    world.ends_well().await;
}

#[test]
fn a_data_folder_that_is_in_use_is_not_touched() {
    let operator = Operator::new();
    let lock = fs::File::create(operator.0.path().join("lock")).unwrap();
    lock.lock().unwrap();
    let same = [("GREENROOM_DATA_DIR", "."), ("GREENROOM_LISTEN", "127.0.0.1:0")];
    let (code, said) = refusal(operator.serve(&[&ENOUGH[..], &same[..]].concat()));
    assert_eq!(code, 1);
    assert!(said.starts_with("error: another greenroom uses the data folder"), "{said}");
    assert_eq!(fs::read_dir(&operator.0).unwrap().count(), 1, "only the lock is there");
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let greenroom = Greenroom::start(&ENOUGH).await;
    let address = greenroom.url().socket_addrs(|| None).unwrap()[0].to_string();
    let (code, said) =
        refusal(Operator::new().serve(&[&ENOUGH[..], &[("GREENROOM_LISTEN", &*address)]].concat()));
    assert_eq!(code, 1);
    assert_snapshot!(said.replace(&address, "[address]"), @"error: cannot listen on [address] (GREENROOM_LISTEN): Address already in use (os error 98)");
}

#[test]
fn a_data_folder_that_cannot_be_used_is_named() {
    let operator = Operator::new();
    let file = operator.writes("file", "not a folder");
    let data = Path::new(&file).join("data").display().to_string();
    // Even root cannot write into the kernel's own folders.
    for (data, shown) in [
        (&*data, "data_folder_below_a_file"),
        ("/proc/greenroom", "data_folder_that_cannot_be_made"),
        ("/proc/self", "data_folder_that_cannot_be_written"),
    ] {
        let settings = [("GREENROOM_DATA_DIR", data), ("GREENROOM_LISTEN", "127.0.0.1:0")];
        let (code, said) = refusal(operator.serve(&[&ENOUGH[..], &settings[..]].concat()));
        assert_eq!(code, 1, "{shown}");
        assert_snapshot!(shown, said.replace(data, "[data]"));
    }
}

#[tokio::test]
async fn it_starts_while_gitlab_is_down_and_catches_up() {
    let world = World::start().await;
    world.greenroom.kill9();
    fs::remove_dir_all(world.greenroom.data()).unwrap();
    world.wire.cut();
    world.greenroom.restart().await;
    assert_eq!(world.greenroom.get("/livez").await.status(), 200);
    assert_eq!(world.greenroom.get("/readyz").await.status(), 200);

    let mr = world.gitlab.open_mr("feature", "Meanwhile").await;
    world.build(mr, "caught up").await;
    world.rests().await;
    assert!(world.preview(mr).await.is_none(), "GitLab could not be asked");

    world.wire.heal();
    world.becomes(mr, "ready").await;
    world.shows(mr, "caught up").await;
    world.ends_well().await;
}

#[test]
fn a_secret_that_was_meant_and_is_not_there_is_no_open_door() {
    let operator = Operator::new();
    let empty = operator.writes("token", "\n");
    let (code, said) =
        refusal(operator.serve(&[ENOUGH.as_slice(), &[("GREENROOM_API_TOKEN_FILE", &empty)]].concat()));
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("GREENROOM_API_TOKEN_FILE") && said.contains("is empty"), "{said}");
    let (code, said) =
        refusal(operator.serve(&[ENOUGH.as_slice(), &[("GREENROOM_API_TOKEN", " ")]].concat()));
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("GREENROOM_API_TOKEN: is blank"), "{said}");
}

#[tokio::test]
async fn a_mistyped_setting_is_warned_of() {
    let mistyped = [("GREENROOM_PROJEKTS", "acme/web"), ("GREENROOM_TEST_SOMETHING", "1")];
    let greenroom = Greenroom::start(&[ENOUGH.as_slice(), &mistyped].concat()).await;
    let log = greenroom.logs("GREENROOM_PROJEKTS is no setting and is ignored", 1).await;
    assert!(!log.contains("GREENROOM_TEST_SOMETHING"), "{log}");
}
