//! Looks that must not remove anything of their own accord: GitLab does not show the merge request, or the settings do not
//! serve its project any more.
//!
//! A 404 is no proof of an end: GitLab answers it for whatever a token may not see. What serves goes on serving, and only
//! what needs nothing of GitLab takes it away: the end of the lifetime that people were told of, or the operator (`intent.rs`).

use super::brake;
use super::controller::Parts;
use super::desired::{Decision, Desired, Life};
use super::look::{Error, Next, act_and_tell, keep};
use crate::preview::{MergeRequest, Preview, Reason, rfc3339};
use crate::report::NoteCheck;

/// GitLab answers the merge request's `GET` with this 404.
pub(super) async fn unseen(
    parts: &Parts,
    mut record: Preview,
    error: crate::gitlab::Error,
) -> Result<Next, Error> {
    let now = parts.clock.now();
    let mut saved = Some(record.clone());
    let since = *record.unseen_since.get_or_insert(now);
    if let Some(decision) = end(&record, now) {
        brake::forget(parts, record.key).await?;
        record.decision.clone_from(&decision.rules);
        let head = record.sha.clone();
        return act_and_tell(parts, &mut record, &mut saved, &decision, head.as_ref(), NoteCheck::ALL).await;
    }
    if now - since >= parts.unseen_after {
        let (state, sha) = (record.state, record.sha.clone());
        let unseen = if record.key.subject.is_branch() { Reason::BranchUnseen } else { Reason::Unseen };
        record.enter(state, &unseen(rfc3339(since)), sha.as_ref());
    }
    keep(parts, &mut record, &mut saved).await?;
    Err(error.into())
}

/// The settings do not serve the merge request's project any more: whatever became of it, its preview stays as it is.
pub(super) async fn unserved(
    parts: &Parts,
    record: Option<Preview>,
    merge_request: &MergeRequest,
) -> Result<Next, Error> {
    let path = &merge_request.project_path;
    tracing::info!(mr.key = %merge_request.key, project.path = path, "left alone: the settings do not serve this project");
    if let Some(mut record) = record {
        let mut saved = Some(record.clone());
        record.project_path.clone_from(path);
        keep(parts, &mut record, &mut saved).await?;
    }
    Ok(Next::Rest)
}

/// What ends a preview whose merge request is not shown: its lifetime, as people were told. Pure.
fn end(record: &Preview, now: i64) -> Option<Decision> {
    let mut decision = Decision {
        desired: Desired::Keep(record.state, Reason::Unseen(String::new())),
        life: Life::AsTold,
        rules: vec![String::from("GitLab does not show the merge request")],
    };
    decision.expire(record, now);
    matches!(decision.desired, Desired::Gone(_)).then_some(decision)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preview::{PreviewKey, Serving, Sha, State};

    #[test]
    fn only_its_lifetime_ends_what_gitlab_does_not_show() {
        let mut record = Preview::new(
            PreviewKey::of_mr(42, 7),
            "acme/web",
            "feature",
            |name| format!("http://{name}.example"),
            0,
        );
        record.state = State::Ready;
        record.serving = Some(Serving { sha: Sha::parse(&"a".repeat(40)).unwrap(), since: 0 });
        record.unseen_since = Some(1);
        assert_eq!(end(&record, i64::MAX), None);
        record.expires_at = Some(60_000);
        assert_eq!(end(&record, 59_999), None);
        let ended = end(&record, 60_000).map(|decision| decision.desired);
        assert_eq!(ended, Some(Desired::Gone(Reason::Expired("1970-01-01T00:01:00Z".into()))));
    }
}
