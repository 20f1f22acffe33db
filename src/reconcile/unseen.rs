//! Looks that must not remove anything of their own accord: GitLab does not show the merge request, or the settings do not
//! serve its project any more.
//!
//! A 404 is no proof of an end: GitLab answers it for whatever a token may not see. What serves goes on serving, and only
//! what was decided before takes it away: the end of the lifetime that people were told of, or somebody's hand.

use super::brake;
use super::controller::Parts;
use super::desired::{Decision, Desired, Life};
use super::look::{Error, Next, act_and_tell, keep};
use crate::preview::{MergeRequest, Preview, Reason, State, rfc3339};

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
        return remove(parts, record, saved, &decision).await;
    }
    if now - since >= parts.unseen_after {
        let (state, sha) = (record.state, record.sha.clone());
        record.enter(state, &Reason::Unseen(rfc3339(since)), sha.as_ref());
    }
    keep(parts, &mut record, &mut saved).await?;
    Err(error.into())
}

/// The settings do not serve the merge request's project. An end of the merge request or of the lifetime changes nothing;
/// whoever wants such a preview to go says so.
pub(super) async fn unserved(
    parts: &Parts,
    record: Option<Preview>,
    merge_request: &MergeRequest,
) -> Result<Next, Error> {
    let path = &merge_request.project_path;
    tracing::info!(mr.key = %merge_request.key, project.path = path, "left alone: the settings do not serve this project");
    let Some(mut record) = record else { return Ok(Next::Rest) };
    let mut saved = Some(record.clone());
    record.project_path.clone_from(path);
    match by_hand(&record) {
        Some(decision) => remove(parts, record, saved, &decision).await,
        None => keep(parts, &mut record, &mut saved).await.map(|()| Next::Rest),
    }
}

async fn remove(
    parts: &Parts,
    mut record: Preview,
    mut saved: Option<Preview>,
    decision: &Decision,
) -> Result<Next, Error> {
    record.decision.clone_from(&decision.rules);
    let head = record.sha.clone();
    act_and_tell(parts, &mut record, &mut saved, decision, head.as_ref()).await
}

/// What ends a preview whose merge request is not shown. Pure.
fn end(record: &Preview, now: i64) -> Option<Decision> {
    let ended = by_hand(record).or_else(|| {
        let mut decision = Decision {
            desired: Desired::Keep(record.state, Reason::Unseen(String::new())),
            life: Life::AsTold,
            rules: vec![String::from("GitLab does not show the merge request")],
        };
        decision.expire(record, now);
        Some(decision)
    });
    ended.filter(|decision| matches!(decision.desired, Desired::Gone(_)))
}

/// Somebody stopped it by hand.
fn by_hand(record: &Preview) -> Option<Decision> {
    let held = record.hold.is_some() && record.state != State::Stopped;
    held.then(|| Decision {
        desired: Desired::Gone(Reason::StoppedInGitlab),
        life: Life::AsTold,
        rules: vec![String::from("it was stopped by hand")],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preview::{Hold, MrKey, Serving, Sha};

    fn serving() -> Preview {
        let mut record = Preview::new(MrKey::new(42, 7), "acme/web", |name| format!("http://{name}.example"), 0);
        record.state = State::Ready;
        record.serving = Some(Serving { sha: Sha::parse(&"a".repeat(40)).unwrap(), since: 0 });
        record
    }

    #[test]
    fn only_its_lifetime_or_a_hand_ends_what_gitlab_does_not_show() {
        let reason = |record: &Preview, now| match end(record, now).map(|decision| decision.desired) {
            Some(Desired::Gone(reason)) => Some(reason.to_string()),
            _ => None,
        };
        let expiring = Preview { expires_at: Some(60_000), ..serving() };
        let held = Preview { hold: Some(Hold { sha: None, since: 1 }), ..serving() };
        let gone = Preview { state: State::Stopped, ..held.clone() };
        let unseen = Preview { unseen_since: Some(1), ..serving() };
        assert_eq!(reason(&unseen, i64::MAX), None);
        assert_eq!(reason(&expiring, 59_999), None);
        assert_eq!(reason(&expiring, 60_000).as_deref(), Some("its lifetime ended at 1970-01-01T00:01:00Z"));
        assert_eq!(reason(&held, 1).as_deref(), Some("somebody stopped the environment in GitLab"));
        assert_eq!(reason(&gone, 1), None);
    }
}
