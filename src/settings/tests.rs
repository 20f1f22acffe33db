use insta::assert_snapshot;

use super::*;

fn load(file: &str) -> Result<Settings, Problems> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("greenroom.toml");
    std::fs::write(&path, file).unwrap();
    let refuse = |token: &str| {
        if token.starts_with("whsec_") { Ok(()) } else { Err(String::from("does not begin with `whsec_`")) }
    };
    Settings::load(Some(&path), Layer::default(), refuse).map_err(|Problems(all)| {
        let shorten = |text: String| text.replace(&path.display().to_string(), "greenroom.toml");
        Problems(all.into_iter().map(|p| Problem { name: shorten(p.name), ..p }).collect())
    })
}

const ENOUGH: &str =
    "gitlab_url = 'https://gitlab.example.com'\ngitlab_token = 't'\nwebhook_secret_token = ['s']\n";

#[test]
fn the_defaults_hold_what_is_documented() {
    let settings = load(ENOUGH).unwrap();
    assert_eq!(settings.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(settings.public_url.as_str(), "http://localhost:8080/");
    assert_eq!(settings.preview_domain, "preview.localhost");
    assert_eq!(settings.resync_interval, Duration::from_mins(5));
    assert_eq!(settings.store_url, "sqlite://./greenroom-data/greenroom.db?mode=rwc");
    assert_eq!(settings.keep_deliveries, Duration::from_hours(8 * 24));
    assert!(settings.projects.serves("any/thing"));
    assert!(settings.api_token.is_none());
    assert_eq!(settings.commit_status, CommitStatusMode::Info);
}

#[test]
fn all_problems_are_told_together_each_with_name_and_remedy() {
    let told = load(
        "listen = 'localhost'\npublic_url = 'ftp://x'\npreview_domain = 'a b'\ngitlab_url = 'https://u:p@h'\n\
         resync_interval = '10ms'\nstore_url = 'mysql://x'\nprojects = ['a[']\nkeep_history = 'long'\n\
         artifact_max_mib = 0\nlog_format = 'xml'\nwebhook_signing_token = ['hush']\ninstance = 'A_B'\n\
         gitlab_tokn = 'x'\ngitlab_rate = 'fast'\nca_file = '/not/there.pem'\ncommit_status = 'maybe'\n",
    )
    .unwrap_err();
    assert_snapshot!(told);
}

#[test]
fn what_is_most_likely_not_meant_is_warned_of() {
    let settings = load(&format!("{ENOUGH}listen = '127.0.0.1:9000'\n")).unwrap();
    assert_eq!(
        settings.warnings,
        ["preview links will lead to http://localhost:8080/, but greenroom listens on 127.0.0.1:9000; set \
          GREENROOM_PUBLIC_URL"]
    );
    assert_eq!(load(ENOUGH).unwrap().warnings, [""; 0]);
    let api = ENOUGH.replace("gitlab.example.com", "gitlab.example.com/api/v4");
    assert!(load(&api).unwrap_err().to_string().contains("the base URL ends before `/api`"));
}

#[test]
fn secrets_are_never_printed() {
    let settings = load(&ENOUGH.replace("'t'", "'glpat-secret'").replace("'s'", "'hush-hush'")).unwrap();
    let printed = format!("{settings:?}");
    assert!(!printed.contains("glpat-secret") && !printed.contains("hush-hush"), "{printed}");
}

#[test]
fn a_file_that_is_no_toml_is_told_with_its_line() {
    assert_snapshot!(load("listen = '127.0.0.1:1'\npublic_url =\n").unwrap_err().0[0].problem);
}
