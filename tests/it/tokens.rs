//! Which token goes with which project, and how well it is.

use std::{sync::Arc, time::Duration};

use greenroom::{
    gitlab::{Class, Credentials, Error, Forge, Settings, Token},
    outgoing::Roots,
    preview::MrKey,
    settings::ProjectFilter,
};
use jiff::{ToSpan, Zoned};
use serde_json::json;

use crate::support::{
    PATIENCE,
    gitlab::{BOT, Gitlab},
    wire::Wire,
    world::Before,
};

const WEB: u64 = Gitlab::PROJECT;
const TEAM: &str = "team-token";

/// `acme/web`, which the bot may see, and `team/app`, which both may see; each has a merge request.
struct Two {
    wire: Wire,
    _gitlab: Gitlab,
    app: u64,
}

impl Two {
    async fn start() -> Self {
        let gitlab = Gitlab::start(None).await;
        gitlab.open_mr("feature", "A feature").await;
        let app = gitlab.control("projects", json!({ "path": "team/app" })).await["id"].as_u64().unwrap();
        gitlab.control("users", json!({ "username": "team", "token": TEAM, "access_level": 30 })).await;
        let wire = Wire::to_gitlab(&gitlab.url()).await;
        Self { wire, _gitlab: gitlab, app }
    }

    /// The token of the team is for `team/**`; webhooks named these paths.
    fn forge(&self, paths: &[(u64, &'static str)]) -> Forge {
        let token = |name: &str, secret: &str| Token { name: name.to_owned(), secret: secret.into() };
        let team = ProjectFilter::new(&["team/**".to_owned()]).unwrap();
        let paths = paths.to_vec();
        Forge::new(Settings {
            url: self.wire.url().clone(),
            credentials: Credentials {
                default: token("all", BOT),
                projects: vec![(team, token("team", TEAM))],
            },
            timeout: PATIENCE,
            rate: None,
            roots: Roots::default(),
            paths: Arc::new(move |project| {
                let path = paths.iter().find(|(id, _)| *id == project).map(|(_, path)| (*path).to_owned());
                Box::pin(std::future::ready(path))
            }),
        })
        .unwrap()
    }

    /// The tokens that were sent so far, in order.
    fn sent(&self) -> Vec<String> {
        self.wire.calls().into_iter().filter_map(|call| call.token).collect()
    }
}

#[tokio::test]
async fn each_call_carries_the_token_of_its_project() {
    let two = Two::start().await;
    let forge = two.forge(&[(WEB, "acme/web"), (two.app, "team/app")]);
    for (project, path, token) in [(WEB, "acme/web", BOT), (two.app, "team/app", TEAM)] {
        let before = two.wire.calls().len();
        forge.open_merge_requests(project).await.unwrap();
        forge.in_background().merge_requests_of_branch(project, "feature").await.unwrap();
        forge.environment_by_name(project, "review/mr-1").await.unwrap();
        let environment =
            forge.create_environment(project, "review/mr-1", "https://x.test", "x").await.unwrap();
        forge.stop_environment(project, environment.unwrap().id).await.unwrap();
        forge.me(project).await.unwrap();
        assert_eq!(forge.project_id(path).await.unwrap(), project);
        let sent = two.sent().split_off(before);
        assert!(sent.len() > 6 && sent.iter().all(|sent| sent == token), "{path}: {sent:?}");
    }
    assert_ne!(forge.me(WEB).await.unwrap(), forge.me(two.app).await.unwrap());
    assert_eq!(two.sent().len(), two.wire.calls().len(), "every call has one");
}

#[tokio::test]
async fn a_project_that_is_not_what_it_was_said_to_be_is_not_asked_for_again_with_that_token() {
    let two = Two::start().await;
    // A delivery that the team's webhook token proved claims the other project's number.
    let forge = two.forge(&[(WEB, "team/app")]);
    let key = MrKey::new(WEB, 1);
    let error = forge.merge_request(key).await.unwrap_err();
    assert!(matches!(&error, Error::OtherToken { project: WEB, path } if path == "acme/web"), "{error}");
    assert_eq!(two.sent(), [TEAM]);
    assert_eq!(forge.merge_request(key).await.unwrap().project_path, "acme/web");
    assert_eq!(two.sent(), [TEAM, BOT], "GitLab itself said which project it is");
}

#[tokio::test]
async fn a_project_nobody_named_gets_no_token_at_all() {
    let two = Two::start().await;
    let forge = two.forge(&[]);
    let error = forge.merge_request(MrKey::new(WEB, 1)).await.unwrap_err();
    assert!(matches!(error, Error::NoToken { project: WEB }), "{error}");
    assert_eq!(error.class(), Class::Operator);
    assert_eq!(two.sent(), [""; 0]);
    // One that the settings name by path is known from GitLab's own answer.
    forge.project_id("acme/web").await.unwrap();
    forge.merge_request(MrKey::new(WEB, 1)).await.unwrap();
    assert_eq!(two.sent(), [BOT, BOT]);
}

#[tokio::test]
async fn a_pause_is_the_tokens_that_was_told() {
    let two = Two::start().await;
    let forge = two.forge(&[(WEB, "acme/web"), (two.app, "team/app")]);
    two.wire.on("GET", "*/merge_requests").answer(429, &[("retry-after", "600")], "Retry later");
    for _ in 0..2 {
        let error = forge.open_merge_requests(WEB).await.unwrap_err();
        let Class::Retry(Some(after)) = error.class() else { panic!("{error}") };
        assert!(after > Duration::from_mins(5), "{after:?}");
    }
    forge.open_merge_requests(two.app).await.unwrap();
    assert_eq!(two.sent(), [BOT, TEAM], "nothing more was asked with the one that is to wait");
}

#[tokio::test]
async fn an_old_gitlab_and_a_token_that_ends_soon_are_warned_of() {
    let before = Before::start().await;
    let end = Zoned::now().date().saturating_add(5.days());
    let rotation = json!({ "token": BOT, "new": "short", "scopes": ["read_api"], "expires_at": end });
    before.gitlab.control("tokens/rotate", rotation).await;
    before.gitlab.control("instance", json!({ "version": "16.11.10-ee", "metadata": false })).await;
    let world = before.greenroom(&[("GREENROOM_GITLAB_TOKEN", "short")]).await;
    for warning in [
        "GitLab is 16.11.10-ee, and greenroom is made for 17.4 and newer",
        &format!("the token of GREENROOM_GITLAB_TOKEN expires on {end}"),
        "the token of GREENROOM_GITLAB_TOKEN lacks the scope `api` (it has read_api)",
    ] {
        world.greenroom.logs(warning, 1).await;
    }
    assert_eq!(world.greenroom.log().matches("WARN").count(), 3, "{}", world.greenroom.log());
}
