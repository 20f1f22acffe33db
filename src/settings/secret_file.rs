//! Secrets in files, which may be replaced while the program runs.
//!
//! A file is read again and compared: mounted Kubernetes secrets are swapped by a link, which leaves no reliable trace but
//! the content. What is missing, blank or of a wrong form leaves the secret as it was.

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

/// Which secret a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secret {
    /// The API token for GitLab.
    GitLabToken,
    /// The API token for the projects of a table, by its place among those that have one.
    ProjectToken(usize),
    /// A secret of previews on a cluster, by its place among them.
    OnCluster(usize),
    /// The webhook signing tokens.
    SigningTokens,
    /// The webhook secret tokens.
    SecretTokens,
    /// The bearer token of our own API.
    ApiToken,
}

/// A file with a secret that is in use.
#[derive(Debug, Clone)]
pub struct SecretFile {
    /// Which secret it holds.
    pub secret: Secret,
    /// The setting that names the file, such as `GREENROOM_GITLAB_TOKEN_FILE`.
    pub name: String,
    path: PathBuf,
    current: SecretString,
    /// Another text that was seen once: whoever writes it may not be done.
    next: Option<SecretString>,
    /// What is wrong with the file, which was told already.
    trouble: Option<String>,
}

impl SecretFile {
    /// Watches `path`, whose lines, with commas between them, are `current`.
    pub fn new(secret: Secret, name: String, path: &Path, current: &str) -> Self {
        let current = SecretString::from(current);
        Self { secret, name, path: path.to_owned(), current, next: None, trouble: None }
    }

    /// The new text, once the file has held it for two looks in a row and `check` has nothing against it. What is wrong
    /// is logged, once.
    pub async fn replaced(&mut self, check: impl Fn(&str) -> Result<(), String>) -> Option<SecretString> {
        let read = match tokio::fs::read_to_string(&self.path).await {
            Ok(text) => match self.secret {
                Secret::OnCluster(_) => whole_text(&text),
                _ => secret_text(&text),
            }
            .ok_or_else(|| String::from("is empty")),
            Err(error) => Err(format!("cannot be read ({error})")),
        };
        let read = read.and_then(|text| check(&text).map(|()| text));
        let text = match read {
            Ok(text) => text,
            Err(trouble) => {
                self.next = None;
                if self.trouble.as_ref() != Some(&trouble) {
                    let path = self.path.display();
                    tracing::warn!(setting = self.name, "`{path}` {trouble}; the secret stays as it was");
                }
                self.trouble = Some(trouble);
                return None;
            }
        };
        self.trouble = None;
        if text == self.current.expose_secret() {
            self.next = None;
            return None;
        }
        let settled = self.next.take().is_some_and(|next| next.expose_secret() == text);
        let text = SecretString::from(text);
        if !settled {
            self.next = Some(text);
            return None;
        }
        self.current = text.clone();
        Some(text)
    }
}

/// Whether this is most likely what a file was to hold, where its path belongs: a token, a kubeconfig or a whole file of settings.
/// It must not be shown, as a path would be that leads nowhere.
pub(super) fn is_no_path(text: &str) -> bool {
    // The last is how a kubeconfig begins in Base64.
    let holds = ["\n", "{", "apiVersion", "YXBpVmVyc2lvbj"].iter().any(|part| text.trim().contains(part));
    holds || text.starts_with("glpat-") || text.starts_with("whsec_")
}

/// What a file says that may have several lines: all of it, but the end of its last line; `None` when there is nothing.
pub(super) fn whole_text(file: &str) -> Option<String> {
    let text = file.strip_suffix('\n').unwrap_or(file);
    (!text.trim().is_empty()).then(|| text.to_owned())
}

/// What a secret's file says: its lines, trimmed, with commas between them; `None` when there is nothing.
pub(super) fn secret_text(file: &str) -> Option<String> {
    let lines: Vec<_> = file.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    (!lines.is_empty()).then(|| lines.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_new_text_counts_once_it_stays_and_a_broken_file_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let mut file = SecretFile::new(Secret::GitLabToken, String::from("X_FILE"), &path, "old");
        let short = |text: &str| if text.len() < 9 { Ok(()) } else { Err(String::from("is too long")) };
        for (text, replaced) in [
            (Some("old\n"), None),
            (Some("ne"), None),
            (Some("new"), None),
            (Some("new\n"), Some("new")),
            (Some("new\n"), None),
            (None, None),
            (Some(" \n"), None),
            (Some("much too long"), None),
            (Some("much too long"), None),
            (Some("old"), None),
            (None, None),
            (Some("old"), None),
            (Some("old"), Some("old")),
            (Some("a\n\n b"), None),
            (Some("a\nb\n"), Some("a,b")),
        ] {
            match text {
                Some(text) => std::fs::write(&path, text).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            let got = file.replaced(short).await;
            assert_eq!(got.as_ref().map(ExposeSecret::expose_secret), replaced, "{text:?}");
        }
    }
}
