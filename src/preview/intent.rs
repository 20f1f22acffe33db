//! What an operator, or a stop job in GitLab, can ask for.

use serde::Serialize;

/// What is asked for; the next look does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Intent {
    /// Take the preview away, until a new head, a reopen or a refresh.
    Stop,
    /// The same, as a stop job in GitLab asks for it.
    StopInGitlab,
    /// Look at everything anew: a hold is lifted, a failed release tried again, and its life begins again.
    Refresh,
    /// Let what serves use as little as can be while it answers nothing, until a wake, a refresh or a new head.
    Sleep,
    /// Bring back what sleeps.
    Wake,
}

impl Intent {
    /// The word used in the API and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::StopInGitlab => "stop-in-gitlab",
            Self::Refresh => "refresh",
            Self::Sleep => "sleep",
            Self::Wake => "wake",
        }
    }

    /// From that word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Stop, Self::StopInGitlab, Self::Refresh, Self::Sleep, Self::Wake]
            .into_iter()
            .find(|intent| intent.as_str() == word)
    }

    /// The line of history that it leaves.
    pub const fn told(self) -> &'static str {
        match self {
            Self::Stop => "the operator asked to stop it",
            Self::StopInGitlab => "a stop job in GitLab asked to stop it",
            Self::Refresh => "the operator asked to refresh it",
            Self::Sleep => "the operator asked to put it to sleep",
            Self::Wake => "the operator asked to wake it",
        }
    }
}
