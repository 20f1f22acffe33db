//! What is to be changed so that a project's webhook tells us what we need to know, and can prove it.

use secrecy::SecretString;
use url::Url;

use crate::gitlab::{Hook, HookChange};

/// The events that ask for looks, as GitLab's API names their flags.
pub const EVENTS: [&str; 6] = [
    "push_events",
    "merge_requests_events",
    "note_events",
    "pipeline_events",
    "job_events",
    "deployment_events",
];

/// How deliveries can be proven.
#[derive(Debug, Clone)]
pub struct Proof {
    /// The signing token that the server knows.
    pub signing: Option<SecretString>,
    /// The secret token that the server knows.
    pub secret: Option<SecretString>,
    /// Whether this GitLab signs; `None` when its version is not known.
    pub gitlab_signs: Option<bool>,
    /// Write the tokens even where the webhook has some.
    pub replace: bool,
}

/// What is to be done to one project.
#[derive(Debug, Clone)]
pub struct Change {
    /// The webhook that is there.
    pub hook: Option<u64>,
    /// What to send; of no matter when there are no steps.
    pub change: HookChange,
    /// What that does, in words; none: all is as it should be.
    pub steps: Vec<String>,
    /// What was found and is left as it is, in words.
    pub left: Vec<String>,
}

/// Nothing that both sides know could prove a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unprovable {
    /// GitLab does not sign, and there is no secret token.
    #[error(
        "this GitLab is older than 19.0 and cannot sign, and no secret token is set\nhint: set \
         GREENROOM_WEBHOOK_SECRET_TOKEN for `connect` and for `serve`"
    )]
    NoSecretToken,
    /// GitLab's version is not known, and there is only one kind of token.
    #[error("there is neither a signing nor a secret token\nhint: set GREENROOM_WEBHOOK_SIGNING_TOKEN")]
    NoToken,
}

/// The webhooks that lead to this URL.
pub fn ours<'a>(hooks: &'a [Hook], url: &Url) -> impl Iterator<Item = &'a Hook> {
    let wanted = normal(url.clone());
    hooks.iter().filter(move |hook| hook.url.parse().is_ok_and(|url| normal(url) == wanted))
}

/// A slash at the end makes no difference to us, and what is behind `#` is not sent.
fn normal(mut url: Url) -> Url {
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    url.set_fragment(None);
    url
}

/// The events that a webhook does not tell, though we need them.
pub fn missing_events(hook: &Hook) -> Vec<&'static str> {
    EVENTS.into_iter().filter(|event| !hook.has(event)).collect()
}

/// What to do so that these webhooks of a project tell us what we need to know at `url`.
pub fn plan(hooks: &[Hook], url: &Url, proof: &Proof) -> Result<Change, Unprovable> {
    let ours: Vec<_> = ours(hooks, url).collect();
    // Of several the best proven one.
    let hook = ours.iter().max_by_key(|hook| (hook.signing_token_present, std::cmp::Reverse(hook.id)));
    let (signing, secret) = tokens(hook.copied(), proof)?;
    let mut steps = Vec::new();
    let mut left = Vec::new();
    let on: Vec<_> = match hook {
        None => {
            steps.push(format!("make a webhook to {url} for {}", spoken(&EVENTS)));
            EVENTS.into_iter().chain(["enable_ssl_verification"]).collect()
        }
        Some(hook) => {
            let missing = missing_events(hook);
            if !missing.is_empty() {
                steps.push(format!("let it tell of {}", spoken(&missing)));
            }
            left.extend(ours.iter().filter(|other| other.id != hook.id).map(|other| {
                format!("webhook {} leads here, too, so everything is told twice: remove one", other.id)
            }));
            if hook.custom_webhook_template.as_deref().is_some_and(|template| !template.is_empty()) {
                left.push(String::from(
                    "it has a custom webhook template, which greenroom cannot read: clear it on its page",
                ));
            }
            if hook.verifies_tls() == Some(false) && url.scheme() == "https" {
                left.push(String::from(
                    "it does not verify the server's certificate: switch SSL verification on, on its page",
                ));
            }
            missing
        }
    };
    steps.extend(signing.as_ref().map(|_| String::from("set its signing token")));
    steps.extend(secret.as_ref().map(|_| String::from("set its secret token")));
    let written = hook.map_or_else(|| url.to_string(), |hook| hook.url.clone());
    let change = HookChange { url: written, on, signing_token: signing, secret_token: secret };
    Ok(Change { hook: hook.map(|hook| hook.id), change, steps, left })
}

/// The tokens to write: a signing token where GitLab knows such, else a secret one. One that is there stays, unless it is to
/// be replaced.
fn tokens(
    hook: Option<&Hook>,
    proof: &Proof,
) -> Result<(Option<SecretString>, Option<SecretString>), Unprovable> {
    let Proof { signing, secret, gitlab_signs, replace } = proof;
    let wanted = |present: Option<bool>, new: bool| *replace || present == Some(false) || new;
    let signed = hook.and_then(|hook| hook.signing_token_present);
    let has_secret = hook.map_or(Some(false), |hook| hook.token_present);
    // Where the version is not known, a hook that tells whether it has a signing token is of a GitLab that signs.
    let signs = gitlab_signs.or_else(|| signed.map(|_| true));
    let sign = signing.clone().filter(|_| signs != Some(false));
    let signing_is_enough = signs == Some(true) && (sign.is_some() || signed == Some(true));
    match secret {
        None if signs == Some(false) => return Err(Unprovable::NoSecretToken),
        None if signing.is_none() => return Err(Unprovable::NoToken),
        _ => {}
    }
    let sign = sign.filter(|_| wanted(signed, hook.is_none() || signed.is_none()));
    let secret = secret.clone().filter(|_| !signing_is_enough && wanted(has_secret, false));
    Ok((sign, secret))
}

/// `push, merge requests and comments`.
fn spoken(events: &[&str]) -> String {
    let words: Vec<_> = events
        .iter()
        .map(|event| match *event {
            "push_events" => "pushes",
            "merge_requests_events" => "merge requests",
            "note_events" => "comments",
            "pipeline_events" => "pipelines",
            "job_events" => "jobs",
            "deployment_events" => "deployments",
            other => other,
        })
        .collect();
    match words.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const URL: &str = "https://greenroom.example.com/webhooks/gitlab";

    /// A hook that is as it should be, changed by `with`.
    fn hook(with: &Value) -> Hook {
        let mut hook = json!({
            "id": 71, "url": URL, "alert_status": "executable", "token_present": false,
            "signing_token_present": true, "enable_ssl_verification": true,
        });
        let events = EVENTS.iter().map(|event| ((*event).to_owned(), Value::Bool(true)));
        hook.as_object_mut().unwrap().extend(events);
        hook.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
        serde_json::from_value(hook).unwrap()
    }

    fn proof(signing: bool, secret: bool, gitlab_signs: impl Into<Option<bool>>) -> Proof {
        let token = |given: bool| given.then(|| SecretString::from("t"));
        Proof {
            signing: token(signing),
            secret: token(secret),
            gitlab_signs: gitlab_signs.into(),
            replace: false,
        }
    }

    fn planned(hooks: &[Hook], proof: &Proof) -> Change {
        plan(hooks, &URL.parse().unwrap(), proof).unwrap()
    }

    #[test]
    fn what_is_as_it_should_be_is_left_alone() {
        let change = planned(&[hook(&json!({}))], &proof(true, true, true));
        assert_eq!((change.steps, change.left, change.hook), (vec![], vec![], Some(71)));
    }

    #[test]
    fn a_hook_is_ours_by_its_url() {
        let url = URL.parse().unwrap();
        for (written, is_ours) in [
            (URL, true),
            ("https://GREENROOM.example.com:443/webhooks/gitlab/", true),
            ("http://greenroom.example.com/webhooks/gitlab", false),
            ("https://greenroom.example.com/webhooks/other", false),
            ("https://{host}/webhooks/gitlab", false),
        ] {
            assert_eq!(
                ours(&[hook(&json!({ "url": written }))], &url).count(),
                usize::from(is_ours),
                "{written}"
            );
        }
        let change = planned(
            &[hook(&json!({ "url": format!("{URL}/"), "job_events": false }))],
            &proof(true, false, true),
        );
        assert_eq!(change.change.url, format!("{URL}/"), "as it was written");
        assert_eq!(change.steps, ["let it tell of jobs"]);
    }

    #[test]
    fn the_strongest_proof_that_both_sides_know_is_set_and_none_is_taken_away() {
        let fresh = |signing, secret, signs| planned(&[], &proof(signing, secret, signs)).change;
        let set = |change: HookChange| (change.signing_token.is_some(), change.secret_token.is_some());
        assert_eq!(set(fresh(true, true, Some(true))), (true, false));
        assert_eq!(set(fresh(true, true, Some(false))), (false, true));
        assert_eq!(set(fresh(false, true, Some(true))), (false, true));
        assert_eq!(set(fresh(true, true, None)), (true, true), "what an old GitLab does not know it ignores");

        let with = |present: &Value, proof: &Proof| set(planned(&[hook(present)], proof).change);
        let secret_only = json!({ "signing_token_present": false, "token_present": true });
        assert_eq!(with(&secret_only, &proof(true, true, true)), (true, false), "raised");
        assert_eq!(with(&secret_only, &proof(false, true, true)), (false, false));
        let none = json!({ "signing_token_present": null, "token_present": false });
        assert_eq!(with(&none, &proof(true, true, false)), (false, true));
        let untold = json!({ "signing_token_present": null, "token_present": null });
        assert_eq!(with(&untold, &proof(false, true, false)), (false, false), "it may have one");
        let replace = Proof { replace: true, ..proof(true, true, true) };
        assert_eq!(with(&json!({}), &replace), (true, false));
    }

    #[test]
    fn without_a_proof_that_both_know_nothing_is_made() {
        let refused = |proof: &Proof| plan(&[], &URL.parse().unwrap(), proof).unwrap_err();
        assert_eq!(refused(&proof(true, false, false)), Unprovable::NoSecretToken);
        assert_eq!(refused(&proof(false, false, true)), Unprovable::NoToken);
    }

    #[test]
    fn what_is_odd_is_told_and_left() {
        let odd = hook(&json!({ "custom_webhook_template": "{}", "enable_ssl_verification": false }));
        let change = planned(&[odd, hook(&json!({ "id": 72 }))], &proof(true, false, true));
        assert_eq!((change.hook, change.steps), (Some(71), vec![]));
        insta::assert_snapshot!(change.left.join("\n"));
    }
}
