//! What happens next to a preview, in words.

use super::reason::Reason;
use super::state::State;

impl Reason {
    /// As [`Self::next`], of a branch without a merge request.
    pub const fn next_of_branch(&self, state: State) -> &'static str {
        match (state, self) {
            (_, Self::BranchUnseen(_) | Self::BranchGone(_)) => {
                "It stays as it is until GitLab stops its environment, its lifetime ends or an operator stops it."
            }
            (State::Asleep, _) | (_, Self::RemovalWanted(_) | Self::RemovalHeld(..)) => self.next(state),
            (State::Waiting, Self::LeftToBranch(_)) => "The deploy job of that commit updates it.",
            (State::Waiting, Self::NoRoom { .. }) => "It begins by itself when another one goes.",
            (State::Waiting, _) => "What is missing is waited for.",
            (State::Deploying, _) => "The job that asked for it tells how it ends.",
            (State::Ready, _) => {
                "The next deploy job of its branch updates it. It goes when GitLab stops its environment, as it does when the \
                 branch is deleted."
            }
            (State::Failed, Self::EngineFailed(_)) => "It is tried again without anybody's doing.",
            (State::Failed | State::Skipped, _) => "The next deploy job of its branch tries again.",
            (State::Stopping, _) => "Removal is repeated until nothing is left.",
            (State::Stopped, Self::Replaced) => "Nothing of it is left.",
            (State::Stopped, _) => "Nothing of it is left. The next deploy job of its branch brings it back.",
        }
    }

    /// What happens next to a preview that is in `state` for this reason, in a sentence or two.
    pub const fn next(&self, state: State) -> &'static str {
        match (state, self) {
            (_, Self::Unseen(_)) => {
                "It stays as it is until GitLab shows the merge request again, its lifetime ends or an operator stops it."
            }
            (_, Self::RemovalWanted(_)) => "It is removed in a moment, unless its cause is mended.",
            (_, Self::RemovalHeld(..)) => {
                "It stays as it is until an operator lets it go or its cause is mended."
            }
            (_, Self::Unreachable(_) | Self::RegistryTrouble(_)) => {
                "It is tried again without anybody's doing. What serves goes on serving."
            }
            (State::Waiting, Self::NoRoom { .. }) => {
                "It begins by itself when another one goes, such as by closing its merge request."
            }
            (State::Waiting, _) => "What is missing is waited for; this comment changes when it is there.",
            (State::Deploying, _) => "This comment changes when it is done.",
            (State::Ready, _) => {
                "The next push updates this preview. Closing or merging the merge request removes it."
            }
            (State::Asleep, _) => {
                "Until then its link leads to an error of the cluster's ingress, such as 503. A refresh or the next push \
                 wakes it too."
            }
            (State::Failed, Self::EngineNotAllowed { .. }) => {
                "The operator of greenroom decides which engines a project may use."
            }
            (State::Failed, Self::NoCluster { .. }) => {
                "The operator of greenroom gives projects their cluster."
            }
            (State::Failed, Self::FileBroken(_)) => "The next push tries again.",
            (State::Failed, Self::EngineFailed(_)) => "It is tried again without anybody's doing.",
            (State::Failed, _) => "The next push or a new attempt of the job tries again.",
            (State::Stopping, _) => "Removal is repeated until nothing is left; this comment changes then.",
            (State::Stopped, Self::Closed) => "Nothing of it is left. A reopen brings it back.",
            (State::Stopped, Self::Expired(_)) => "Nothing of it is left. The next push brings it back.",
            (State::Stopped, Self::StoppedInGitlab) => {
                "Nothing of it is left. The next push or a reopen brings it back."
            }
            (State::Stopped, Self::StoppedByOperator) => {
                "Nothing of it is left until a new commit, a reopen or `greenroom refresh` brings it back."
            }
            (State::Stopped, Self::FileRemoved) => {
                "Nothing of it is left. A push with the file brings it back."
            }
            (State::Stopped, Self::Draft) => "Nothing of it is left. Marking it as ready brings it back.",
            (State::Stopped, Self::LabelExcluded(_)) => {
                "Nothing of it is left. Taking the label away brings it back."
            }
            (State::Stopped, Self::LabelMissing(_)) => {
                "Nothing of it is left. One of these labels brings it back."
            }
            (State::Stopped, Self::TargetBranch(..)) => {
                "Nothing of it is left. Another target branch brings it back."
            }
            (State::Stopped, Self::PathsUntouched(_)) => {
                "Nothing of it is left. A push that changes such a file brings it back."
            }
            (State::Stopped, _) => "Nothing of it is left.",
            (State::Skipped, Self::Draft) => "Marking it as ready brings a preview.",
            (State::Skipped, Self::LabelExcluded(_)) => "Taking the label away brings a preview.",
            (State::Skipped, Self::LabelMissing(_)) => "One of these labels brings a preview.",
            (State::Skipped, Self::TargetBranch(..)) => "Another target branch brings a preview.",
            (State::Skipped, Self::PathsUntouched(_)) => "A push that changes such a file brings a preview.",
            (State::Skipped, Self::LeftToJob(..)) => "The job's log tells how it went.",
            (State::Skipped, _) => "This comment changes when the rule does not apply any more.",
        }
    }
}
