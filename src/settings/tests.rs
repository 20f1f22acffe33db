//! What the layers come to, and what is said of mistakes.

use insta::assert_snapshot;
use secrecy::ExposeSecret;

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
fn an_address_among_the_previews_is_warned_of() {
    for (public, domain, warned) in [
        ("https://greenroom.example.com", "example.com", true),
        ("https://preview.example.com", "preview.example.com", true),
        ("https://greenroom.example.com", "preview.greenroom.example.com", false),
        ("https://greenroom.example.com", "room.example.com", false),
    ] {
        let settings =
            load(&format!("{ENOUGH}public_url = '{public}'\npreview_domain = '{domain}'\n")).unwrap();
        let told = settings.warnings.join("\n");
        assert_eq!(told.contains("is among the previews"), warned, "{public} {domain}: {told}");
    }
}

#[test]
fn a_token_is_sent_without_the_end_of_its_line() {
    let padded = ENOUGH.replace("'t'", "\" glpat-secret\\n\"");
    let settings = load(&format!("{padded}api_token = \"hush\\r\\n\"\n")).unwrap();
    assert_eq!(settings.gitlab_token.expose_secret(), "glpat-secret");
    assert_eq!(settings.api_token.unwrap().expose_secret(), "hush");
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

#[test]
fn of_several_tables_the_later_one_wins_for_each_key() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "glpat-of-team-a\n").unwrap();
    let settings = load(&format!(
        "{ENOUGH}\n[[project]]\nmatch = ['**']\nmax_lifetime = '14d'\nmax_previews = 50\n\n[[project]]\n\
         match = ['team-a/**']\nmax_lifetime = '7d'\ngitlab_token_file = '{}'\nengines = []\n\n[[project]]\n\
         match = 'Team-A/web'\nmax_previews = 5\nengines = ['static']\ncommit_status = 'required'\n",
        token.display()
    ))
    .unwrap();
    let shown = |path: &str| {
        let project = settings.project(path);
        let token = project.gitlab_token_file.value.as_ref().map(|file| {
            assert_eq!(file.token.expose_secret(), "glpat-of-team-a");
            "token"
        });
        let commit_status = &project.commit_status;
        format!(
            "{path}: {:?} {}, {:?} {}, {:?} {}, {:?} {}, {:?} {}",
            project.max_lifetime.value.map(|life| life.to_string()),
            project.max_lifetime.origin,
            project.max_previews.value,
            project.max_previews.origin,
            project.engines.value,
            project.engines.origin,
            token,
            project.gitlab_token_file.origin,
            commit_status.value,
            commit_status.origin,
        )
    };
    let told = ["other/app", "team-a/sub/app", "team-a/web", "team-ab/web"].map(shown).join("\n");
    assert_snapshot!(told, @r#"
    other/app: Some("14d") greenroom.toml:7, Some(50) greenroom.toml:8, None default, None default, Info default
    team-a/sub/app: Some("7d") greenroom.toml:12, Some(50) greenroom.toml:8, Some([]) greenroom.toml:14, Some("token") greenroom.toml:13, Info default
    team-a/web: Some("7d") greenroom.toml:12, Some(5) greenroom.toml:18, Some([Static]) greenroom.toml:19, Some("token") greenroom.toml:13, Required greenroom.toml:20
    team-ab/web: Some("14d") greenroom.toml:7, Some(50) greenroom.toml:8, None default, None default, Info default
    "#);
    let rules = settings.project("team-a/app").rules();
    assert_eq!(rules.engines.map(|given| given.value), Some(Vec::new()), "none are allowed");
    assert_eq!(rules.max_previews.map(|given| given.origin).as_deref(), Some("greenroom.toml:8"));
    assert!(!format!("{settings:?}").contains("glpat-of-team-a"));
}

#[test]
fn mistakes_in_tables_are_told_with_all_others_each_with_its_line() {
    let told = load(
        "listen = 'localhost'\n\n[[project]]\nmax_lifetime = '7d'\n\n[[project]]\nmatch = []\n\n[[project]]\n\
         match = ['a[']\nengines = ['docker', 'static']\nmax_lifetime = 'soon'\nmax_previews = 0\n\
         commit_status = 'maybe'\ngitlab_token_file = '/nowhere/token'\nmax_live = 3\n",
    )
    .unwrap_err();
    assert_snapshot!(told);
    assert_snapshot!(load(&format!("{ENOUGH}[project]\nmatch = ['a/*']\n")).unwrap_err());
}
