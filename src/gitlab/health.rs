//! What GitLab says of itself and of our tokens: asked at start, every day, and when tokens were replaced.
//!
//! Nothing waits for it: a GitLab that is down is a warning like the others.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use gitlab::api::personal_access_tokens::PersonalAccessTokenSelf;
use http::Method;
use jiff::civil::Date;
use jiff::{Timestamp, ToSpan, tz::TimeZone};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::{Call, Error, Forge, built};
use crate::clock::Clock;
use crate::telemetry::Warning;

/// The oldest GitLab that greenroom is made for, major and minor. It is the first whose webhooks carry an id that stays the
/// same when a delivery is repeated; before 17 the API of environments keeps no description, which is how we know ours.
pub const OLDEST: (u32, u32) = (17, 4);

/// How long before its end a token is warned of.
const SOON: i64 = 14;

/// How often everything is asked again.
const DAILY: Duration = Duration::from_hours(24);

/// How soon it is asked again when GitLab did not answer.
const AGAIN: Duration = Duration::from_mins(1);

/// What GitLab last said of itself and of our tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Health {
    /// GitLab's version, such as `19.2.0-ee`; `None` when it was not told yet.
    pub version: Option<String>,
    /// Each token that is used.
    pub tokens: Vec<TokenHealth>,
    /// Why GitLab could not be asked the last time.
    pub unavailable: Option<String>,
    /// The day, in UTC, of the last time.
    pub checked_on: Option<Date>,
}

/// What GitLab says of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenHealth {
    /// The setting it comes from.
    pub name: String,
    /// The first day on which it is no good any more; `None` when it has no end, or is not known.
    pub expires_at: Option<Date>,
    /// What it may be used for; `None` when it is not known.
    pub scopes: Option<Vec<String>>,
    /// Whether GitLab refused it: expired, revoked, or mistyped.
    pub refused: bool,
}

impl Health {
    /// Everything that an operator should know, the worst first.
    pub fn warnings(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        if let Some(why) = &self.unavailable {
            warnings.push(Warning::new(
                "gitlab_unavailable",
                why.clone(),
                "see whether GREENROOM_GITLAB_URL is right and GitLab can be reached from here",
            ));
        }
        warnings.extend(self.tokens.iter().flat_map(|token| token.warnings(self.checked_on)));
        if let Some(version) = self.version.as_ref().filter(|version| is_old(version)) {
            let (major, minor) = OLDEST;
            warnings.push(Warning::new(
                "gitlab_old",
                format!("GitLab is {version}, and greenroom is made for {major}.{minor} and newer"),
                "upgrade GitLab; until then some of what greenroom promises may not hold",
            ));
        }
        warnings
    }
}

impl TokenHealth {
    /// Everything that an operator should know of it, where this is the day.
    pub fn warnings(&self, today: Option<Date>) -> Vec<Warning> {
        let name = &self.name;
        let renew = "rotate it in GitLab and put the new one in its place; a token in a file is taken without a restart";
        let mut warnings = Vec::new();
        if self.refused {
            warnings.push(Warning::new(
                "token_refused",
                format!("GitLab refuses the token of {name}: it is expired, revoked or mistyped"),
                renew.to_owned(),
            ));
        }
        let soon = today.map(|today| today.saturating_add(SOON.days()));
        if let Some(end) = self.expires_at.filter(|end| soon.is_some_and(|soon| *end <= soon)) {
            warnings.push(Warning::new(
                "token_expires",
                format!("the token of {name} expires on {end}"),
                renew.to_owned(),
            ));
        }
        if let Some(scopes) = self.scopes.as_ref().filter(|scopes| !scopes.iter().any(|scope| scope == "api"))
        {
            let has = if scopes.is_empty() { "none that is known" } else { &scopes.join(", ") };
            warnings.push(Warning::new(
                "token_scope",
                format!("the token of {name} lacks the scope `api` (it has {has})"),
                "create a token with scope `api` and role Developer",
            ));
        }
        warnings
    }
}

/// Whether a version is before [`OLDEST`]. One that cannot be read is not.
fn is_old(version: &str) -> bool {
    is_before(version, OLDEST).unwrap_or(false)
}

/// Whether a version is before this one; `None` when it cannot be read.
pub(super) fn is_before(version: &str, other: (u32, u32)) -> Option<bool> {
    let mut parts = version.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Some((major, minor) < other),
        _ => None,
    }
}

#[derive(Deserialize)]
struct Version {
    version: String,
}

#[derive(Deserialize)]
struct Own {
    expires_at: Option<Date>,
    #[serde(default)]
    scopes: Vec<String>,
}

impl Forge {
    /// What GitLab last said of itself and of our tokens.
    pub fn health(&self) -> Health {
        self.shared.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks at once, every day and when tokens were replaced, until stopped. Each time `tell` gets everything that there is
    /// to warn of.
    pub async fn watch_health(&self, tell: impl Fn(Vec<Warning>) + Send, stop: &CancellationToken) {
        let quietly = self.in_background();
        loop {
            let mut now = tokio::select! {
                now = quietly.ask_health() => now,
                () = stop.cancelled() => return,
            };
            now.version = now.version.or_else(|| self.health().version);
            tell(now.warnings());
            let pause = if now.unavailable.is_some() { AGAIN } else { DAILY };
            *self.shared.health.lock().unwrap_or_else(PoisonError::into_inner) = now;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.shared.replaced.notified() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Asks GitLab for its version, and what it says of each token.
    pub async fn ask_health(&self) -> Health {
        let today =
            Timestamp::from_millisecond(Clock.now()).unwrap_or_default().to_zoned(TimeZone::UTC).date();
        let mut health = Health { checked_on: Some(today), ..Health::default() };
        let table = self.shared.keyring.table();
        let mut asked: Vec<&str> = Vec::new();
        for credential in table.all() {
            if asked.contains(&credential.name.as_str()) {
                continue;
            }
            asked.push(&credential.name);
            let client = self.through(Arc::clone(&table), Arc::clone(credential));
            if health.version.is_none() {
                match version(&client).await {
                    Ok(version) => health.version = version,
                    Err(error) => health.unavailable = Some(error.to_string()),
                }
            }
            match own_token(&client).await {
                Ok(token) => health.tokens.push(token),
                Err(error) => health.unavailable = Some(error.to_string()),
            }
        }
        health
    }
}

/// GitLab's version; `None` when it does not tell a token such as ours.
async fn version(client: &Client) -> Result<Option<String>, Error> {
    let get = |path: &str| Call { method: Method::GET, path: path.to_owned(), form: Vec::new() };
    // Servers before 15.2 have no metadata.
    let mut answer: Result<Version, Error> = client.get(get("metadata")).await;
    if answer.as_ref().is_err_and(Error::is_not_found) {
        answer = client.get(get("version")).await;
    }
    match answer {
        Ok(answer) => Ok(Some(answer.version)),
        Err(error) if matches!(error.status(), Some(401 | 403 | 404)) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn own_token(client: &Client) -> Result<TokenHealth, Error> {
    let name = client.credential.name.clone();
    let unknown = TokenHealth { name, expires_at: None, scopes: None, refused: false };
    let endpoint = PersonalAccessTokenSelf::builder().build();
    match client.get::<Own>(built(endpoint)?).await {
        Ok(own) => Ok(TokenHealth { expires_at: own.expires_at, scopes: Some(own.scopes), ..unknown }),
        Err(error) if error.status() == Some(401) => Ok(TokenHealth { refused: true, ..unknown }),
        Err(error) if error.status() == Some(403) && error.is_refusal() => {
            Ok(TokenHealth { scopes: Some(Vec::new()), ..unknown })
        }
        // Tokens of another kind, such as OAuth's, cannot be asked for.
        Err(error) if error.is_refusal() => Ok(unknown),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn token(expires_at: &str, scopes: &[&str]) -> TokenHealth {
        TokenHealth {
            name: String::from("GREENROOM_GITLAB_TOKEN"),
            expires_at: expires_at.parse().ok(),
            scopes: Some(scopes.iter().map(|&scope| scope.to_owned()).collect()),
            refused: false,
        }
    }

    fn health(version: &str, token: TokenHealth) -> Health {
        Health {
            version: Some(version.to_owned()),
            tokens: vec![token],
            unavailable: None,
            checked_on: "2026-11-21".parse().ok(),
        }
    }

    #[test]
    fn a_token_that_lasts_and_a_gitlab_that_is_new_enough_are_nothing_to_warn_of() {
        for version in ["17.4.0", "17.10.1-ee", "19.2.0-ee", "100.0.0-pre", "unheard of"] {
            let all_well = health(version, token("2026-12-06", &["api", "read_api"]));
            assert_eq!(all_well.warnings(), [], "{version}");
        }
        assert_eq!(health("19.2.0-ee", token("never", &["api"])).warnings(), []);
        assert_eq!(Health::default().warnings(), [], "nothing is known yet");
    }

    #[test]
    fn each_warning_says_what_to_do() {
        let mut worst = health("17.3.9-ee", token("2026-12-05", &["read_api", "read_repository"]));
        worst.tokens[0].refused = true;
        worst.unavailable = Some(String::from("GitLab answered `GET metadata` with 502: Bad Gateway"));
        let told = |Warning { code, text, remedy }| format!("{code}: {text}\n  hint: {remedy}");
        assert_snapshot!(worst.warnings().into_iter().map(told).collect::<Vec<_>>().join("\n"));
    }
}
