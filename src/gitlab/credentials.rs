//! Which token goes with which project.
//!
//! A token is sent for a project only if the project's path, as a verified webhook or GitLab itself named it, is one the token
//! was given for. GitLab's answers name the path again; one that asks for another token ends the call with an error.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::OnceCell;

use crate::settings::ProjectFilter;

/// A token, with the name of the setting it came from.
#[derive(Debug, Clone)]
pub struct Token {
    /// Shown to operators, such as `GREENROOM_GITLAB_TOKEN`.
    pub name: String,
    /// The token itself.
    pub secret: SecretString,
}

/// The tokens that are used, and for what.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// For every project that none of `projects` matches.
    pub default: Token,
    /// For the projects that the filter matches; of several the last.
    pub projects: Vec<(ProjectFilter, Token)>,
}

impl Credentials {
    /// One token for all projects.
    pub const fn one(token: Token) -> Self {
        Self { default: token, projects: Vec::new() }
    }
}

/// A token at work. What GitLab says of it is kept as long as it is the same token.
#[derive(Debug)]
pub(super) struct Credential {
    pub(super) name: String,
    pub(super) secret: SecretString,
    /// The user id that it acts as.
    pub(super) me: OnceCell<u64>,
    /// GitLab wants to hear nothing before this time.
    quiet_until: Mutex<Option<Instant>>,
}

impl Credential {
    fn new(token: Token) -> Self {
        let Token { name, secret } = token;
        Self { name, secret, me: OnceCell::new(), quiet_until: Mutex::default() }
    }

    fn is(&self, token: &Token) -> bool {
        self.name == token.name && self.secret.expose_secret() == token.secret.expose_secret()
    }

    /// How long GitLab still wants to hear nothing.
    pub(super) fn quiet_for(&self) -> Option<Duration> {
        let until = *self.quiet_until();
        until?.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }

    /// GitLab wants to hear nothing for this long.
    pub(super) fn be_quiet_for(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut quiet = self.quiet_until();
        *quiet = Some(quiet.map_or(until, |before| before.max(until)));
    }

    fn quiet_until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.quiet_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The tokens at work, as they were at one moment.
#[derive(Debug)]
pub(super) struct Table {
    default: Arc<Credential>,
    projects: Vec<(ProjectFilter, Arc<Credential>)>,
}

impl Table {
    /// The token for the project with this path.
    pub(super) fn of(&self, path: &str) -> &Arc<Credential> {
        let matching = self.projects.iter().rev().find(|(filter, _)| filter.serves(path));
        matching.map_or(&self.default, |(_, credential)| credential)
    }

    /// The token, when there is one for all projects.
    pub(super) fn only(&self) -> Option<&Arc<Credential>> {
        self.projects.is_empty().then_some(&self.default)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Credential>> {
        std::iter::once(&self.default).chain(self.projects.iter().map(|(_, credential)| credential))
    }
}

/// The table that counts now.
#[derive(Debug)]
pub(super) struct Keyring(RwLock<Arc<Table>>);

impl Keyring {
    pub(super) fn new(credentials: Credentials) -> Self {
        Self(RwLock::new(Arc::new(table(credentials, None))))
    }

    pub(super) fn table(&self) -> Arc<Table> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Calls that were begun keep the token they began with.
    pub(super) fn replace(&self, credentials: Credentials) {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(table(credentials, Some(&current)));
    }
}

fn table(credentials: Credentials, before: Option<&Table>) -> Table {
    let credential = |token: Token| {
        let known = before.and_then(|before| before.all().find(|credential| credential.is(&token)));
        known.map_or_else(|| Arc::new(Credential::new(token)), Arc::clone)
    };
    let projects = credentials.projects.into_iter().map(|(filter, token)| (filter, credential(token)));
    Table { projects: projects.collect(), default: credential(credentials.default) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(name: &str, secret: &str) -> Token {
        Token { name: name.to_owned(), secret: SecretString::from(secret) }
    }

    fn credentials(default: &str, projects: &[(&str, &str)]) -> Credentials {
        let filter = |glob: &str| ProjectFilter::new(&[glob.to_owned()]).unwrap();
        Credentials {
            default: token("all", default),
            projects: projects.iter().map(|(glob, secret)| (filter(glob), token(glob, secret))).collect(),
        }
    }

    #[test]
    fn the_last_that_matches_counts_and_else_the_default() {
        let ring = Keyring::new(credentials("d", &[("team-a/**", "a"), ("team-a/secret/*", "s")]));
        for (path, secret) in [
            ("team-a/web", "a"),
            ("Team-A/Web", "a"),
            ("team-a/secret/web", "s"),
            ("team-a/secret/sub/web", "a"),
            ("team-ab/web", "d"),
            ("team-b/team-a/web", "d"),
        ] {
            assert_eq!(ring.table().of(path).secret.expose_secret(), secret, "{path}");
        }
        assert!(ring.table().only().is_none());
    }

    #[test]
    fn a_pause_stays_with_its_token_and_ends_with_it() {
        let ring = Keyring::new(credentials("d", &[("team-a/**", "a")]));
        ring.table().of("team-a/web").be_quiet_for(Duration::from_mins(5));
        assert!(ring.table().of("other/web").quiet_for().is_none());
        ring.replace(credentials("new", &[("team-a/**", "a")]));
        assert!(ring.table().of("team-a/web").quiet_for().is_some(), "it is the same token");
        ring.replace(credentials("new", &[("team-a/**", "rotated")]));
        assert!(ring.table().of("team-a/web").quiet_for().is_none());
    }

    #[test]
    fn a_shorter_pause_ends_no_longer_one() {
        let ring = Keyring::new(credentials("d", &[]));
        let table = ring.table();
        let only = table.only().unwrap();
        only.be_quiet_for(Duration::from_mins(5));
        only.be_quiet_for(Duration::from_secs(1));
        assert!(only.quiet_for() > Some(Duration::from_mins(4)));
    }
}
