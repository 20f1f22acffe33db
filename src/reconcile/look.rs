//! One look at one merge request: observe, decide, act, tell.

use super::act::{Acted, act};
use super::brake::{self, Word};
use super::controller::Parts;
use super::desired::{
    Decision, Desired, Facts, FileFact, HeadFact, desired, end_of_life, is_held_by_operator, wanted_place,
};
use super::plan::outcome;
use super::{
    apply, branch, by_hand, checks, commit_status, elsewhere, foreign, intent, observe, orders, places,
    sleep, sweep, unreachable, unseen,
};
use crate::engine::Progress;
use crate::preview::{
    Changes, FileAt, Hold, HoldOrigin, JobOrder, Judgement, MergeRequest, Place, Preview, PreviewKey, Reason,
    Serving, Sha, State,
};
use crate::report::{NoteCheck, note_is_due};

/// What is to happen with the key after a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing until the next hint or resync.
    Rest,
    /// Look again at this time, Unix milliseconds.
    At(i64),
    /// The same, to make sure; nobody waits for it.
    InBackground(i64),
}

/// Why a look failed. Retried, all of them.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    GitLab(#[from] crate::gitlab::Error),
    #[error(transparent)]
    Engine(crate::engine::Error),
    /// What a cluster was asked, it did not do.
    #[error("{error}")]
    Place { place: Place, error: crate::engine::Error },
    #[error("the server's settings do not name {0} any more; what is there is removed once they do again")]
    NoPlace(Place),
    #[error(transparent)]
    Store(#[from] crate::store::Error),
    #[error(transparent)]
    Report(crate::report::Error),
    #[error("not everything is gone yet: {0}")]
    Left(String),
    #[error("the engine is in trouble: {0}")]
    Trouble(String),
    #[error("{}", Reason::ChangesUnknown)]
    ChangesUnknown,
    #[error("greenroom made a mistake; its log has more")]
    Panicked,
}

impl From<crate::report::Error> for Error {
    fn from(error: crate::report::Error) -> Self {
        match error {
            crate::report::Error::GitLab(error) => Self::GitLab(error),
            other => Self::Report(other),
        }
    }
}

/// How soon an engine that works is asked again when its event was missed.
const ENGINE_FALLBACK: i64 = 5_000;

/// How soon what is waited for outside GitLab, such as an image, is asked for again, milliseconds.
const AWAITED: i64 = 5_000;

/// A look that is done never asks for another one sooner than this.
pub(super) const SOONEST: i64 = 1_000;

/// How often a preview that is ready is looked at in full, milliseconds. Each is early by up to a tenth, so that those
/// that became ready together are looked at apart.
const HOURLY: i64 = 3_600_000;

/// How long a comment that was seen is taken to be there, milliseconds: greenroom's own events come back at once.
const NOTE_TRUST: i64 = 10_000;

/// How old a merge request may be whose comments are not searched for one of ours before the first, milliseconds.
const YOUNG: i64 = 3_600_000;

/// How old the row of a preview that is gone may get while its merge request is still looked at, milliseconds.
const TOUCH: i64 = 86_400_000;

/// Looks at `key` once. `lift`: a person reopened it. `thorough`: ask also what hardly ever changes.
pub(super) async fn look(parts: &Parts, key: PreviewKey, lift: bool, thorough: bool) -> Result<Next, Error> {
    let asked = parts.store.asked(key).await?;
    // Before GitLab is asked: what it shows then is no older than what the job was admitted for.
    let order = parts.store.job_order(key).await?;
    let mut record = parts.store.preview(key).await?;
    if key.subject.is_branch()
        && order.is_none()
        && asked.is_none()
        && record.as_ref().is_none_or(branch::is_over)
    {
        // Nobody but a job brings it up.
        return Ok(Next::Rest);
    }
    let known = order.as_ref().map(|kept| &kept.order);
    let answer = branch::read(parts, key, record.as_ref(), known).await;
    if let (Some(record), Some(asked)) = (&mut record, &asked) {
        intent::take_up(parts, record, asked, answer.as_ref().ok()).await?;
    }
    let unseen = match &answer {
        Err(error) => Some(format!("GitLab does not show the merge request: {error}")),
        Ok(shown) => (!(parts.served)(&shown.project_path))
            .then(|| String::from("the settings do not serve its project")),
    };
    if let Some(why) = unseen
        && let Some(held) = record.take_if(|record| record.held_by_operator().is_some())
    {
        return intent::stop_unseen(parts, held, why).await;
    }
    let merge_request = match answer {
        // Nothing of ours depends on it. Should it be shown some day, an event or the resync tells.
        Err(error) if error.is_not_found() => {
            if let Some(record) = record.filter(|record| record.state != State::Stopped) {
                return unseen::unseen(parts, record, error).await;
            }
            tracing::info!(mr.key = %key, %error, "left alone");
            return Ok(Next::Rest);
        }
        answer => answer?,
    };
    if !(parts.served)(&merge_request.project_path) {
        return unseen::unserved(parts, record, &merge_request).await;
    }
    let order = orders::current(parts, order, &merge_request).await?;
    let order = order.as_ref();
    let now = parts.clock.now();
    // A stop by hand before a push must not be taken for one after it.
    let pushed = |record: &Preview| record.environment_seen && record.sha != merge_request.sha;
    let due = |record: &Preview| pushed(record) || now - record.looked_at >= HOURLY * 9 / 10;
    let thorough = thorough || lift || record.as_ref().is_some_and(due);
    let mut record = match record {
        Some(mut record) => {
            if lift || merge_request.state.is_over() {
                record.hold = None;
            }
            if lift && record.serving.is_none() {
                // A reopen brings back what had expired too, though nobody looked at the close before it.
                record.deployed_at = None;
            }
            orders::note(&mut record, order);
            if key.subject.is_branch() {
                record.source_branch.clone_from(&merge_request.source_branch);
                sweep::take_over(parts, &mut record).await?;
                branch::notice_end(parts, &mut record, &merge_request, order).await?;
            } else if thorough && !merge_request.state.is_over() {
                sweep::take_over(parts, &mut record).await?;
                by_hand::notice(parts, &mut record, &merge_request, lift).await?;
            }
            if order.is_none() && !merge_request.state.is_over() {
                elsewhere::notice(parts, &mut record, &merge_request).await?;
            }
            Some(record)
        }
        None => None,
    };
    let Decided { mut decision, file, changes, place, unfit } =
        decide(parts, &merge_request, record.as_ref(), order).await?;
    if unfit {
        orders::refuse(parts, key, order, orders::UNFIT).await?;
    }
    if order.is_none() {
        elsewhere::leave(parts, record.as_ref(), &merge_request, &mut decision).await?;
    }
    tracing::info!(mr.key = %key, decision = ?decision.rules, "looked");
    if decision.desired == Desired::Leave {
        orders::refuse(parts, key, order, "its head has no `.greenroom.yml`, so it gets no preview").await?;
        return Ok(Next::Rest);
    }
    if record.is_none() && foreign::stands_back(parts, key.project_id).await? {
        let why = "this server stands back until an operator has said whose previews there are";
        orders::refuse(parts, key, order, why).await?;
        return Ok(Next::Rest);
    }

    let before = record.clone();
    let mut record = record.take().unwrap_or_else(|| {
        let MergeRequest { project_path, source_branch, .. } = &merge_request;
        Preview::new(key, project_path, source_branch, |name| parts.links.of(name), parts.clock.now())
    });
    if let Some(place) = place.filter(|_| !record.has_begun()) {
        // Nothing is anywhere yet. What has begun moves when it is deployed.
        record.move_to(&place);
    }
    if thorough || record.looked_at == 0 {
        record.looked_at = now;
    }
    record.file = file.or(record.file);
    orders::note(&mut record, order);
    parts.strays.take_up(&mut record);
    note_facts(&mut record, &merge_request, &decision, now);
    if let Changes::Compared(compared) = changes {
        record.compared = Some(compared);
    }

    // Before anything is made outside, the record stands: whatever a crash leaves behind has an owner.
    let mut saved = before;
    if saved.is_none() {
        keep(parts, &mut record, &mut saved).await?;
    }
    orders::own_environment(parts, &mut record).await?;
    elsewhere::own_environment(parts, &mut record).await?;
    let young = |created: i64| created >= parts.born && now - created < YOUNG;
    let note = NoteCheck {
        exists: thorough || now - record.note_seen_at >= NOTE_TRUST,
        search: record.note_begun || record.note_id.is_some() || !merge_request.created_at.is_some_and(young),
    };
    let word = brake::ask(parts, &mut record, &mut decision).await?;
    let head = match word {
        Word::GoOn => merge_request.sha,
        Word::Held(_) => record.sha.clone(),
        Word::Wait(until) => {
            keep(parts, &mut record, &mut saved).await?;
            let sooner = branch::next_look(&record, now).unwrap_or(until);
            return Ok(Next::At(until.min(sooner)));
        }
    };
    let next = act_and_tell(parts, &mut record, &mut saved, &decision, head.as_ref(), note).await;
    if next.is_err() {
        // What was learned on the way (ids) must not be lost with the error.
        keep(parts, &mut record, &mut saved).await?;
    }
    brake::settle(parts, &record, word, next).await
}

/// What a look has decided, and what it found out on the way.
pub(super) struct Decided {
    pub(super) decision: Decision,
    /// The project file, to be kept.
    file: Option<FileAt>,
    changes: Changes,
    /// Where it is to run.
    pub(super) place: Option<Place>,
    /// Whether a job has sent what cannot be deployed.
    unfit: bool,
}

/// Reads what is to be known beside the merge request, and decides. Changes nothing.
pub(super) async fn decide(
    parts: &Parts,
    merge_request: &MergeRequest,
    record: Option<&Preview>,
    order: Option<&JobOrder>,
) -> Result<Decided, Error> {
    let now = parts.clock.now();
    let rules = (parts.rules)(&merge_request.project_path);
    let (mut file, mut head, mut kept) = (FileFact::NotRead, HeadFact::NotRead, None);
    let (mut changes, mut left_to_jobs, mut unfit) = (Changes::Unknown, false, false);
    let held = is_held_by_operator(record, merge_request);
    if !merge_request.state.is_over() && !held && !merge_request.is_lost_branch() {
        let known = record.and_then(|record| record.file.as_ref());
        (file, kept) = observe::file(&parts.forge, merge_request, known).await?;
        if let FileFact::Present(file) = &mut file {
            left_to_jobs = orders::leave_to_jobs(parts, order, merge_request.key, file).await?;
        }
        if let (FileFact::Present(file), false) = (&file, merge_request.from_fork()) {
            let judge = |changes: &Changes| file.when.judge(merge_request, changes, &mut Vec::new());
            if judge(&changes) == Judgement::Undecided {
                let known = record.and_then(|record| record.compared.as_ref());
                changes = observe::changes(&parts.forge, merge_request, &file.when, known).await?;
            }
            if judge(&changes) == Judgement::Admitted {
                unfit = order.is_some_and(|order| orders::is_unfit(order, file));
                head = orders::head(parts, order, merge_request, file).await?;
            }
        }
    }
    let others = places::others(parts, merge_request.key, &rules).await?;
    let (file, head) = (&file, &head);
    let clusters = parts.engines.clusters();
    let on_cluster = (parts.on_cluster)(&merge_request.project_path);
    let facts = Facts {
        merge_request,
        file,
        changes: &changes,
        head,
        rules: &rules,
        clusters: &clusters,
        settings: &on_cluster.digest,
        others,
        record,
        now,
    };
    let mut decision = desired(facts);
    orders::tell(&mut decision, order.filter(|_| matches!(head, HeadFact::Pipeline(_))), left_to_jobs);
    let place = match file {
        FileFact::Present(file) => Some(wanted_place(file, &rules)),
        _ => None,
    };
    Ok(Decided { decision, file: kept, changes, place, unfit })
}

pub(super) fn note_facts(record: &mut Preview, merge_request: &MergeRequest, decision: &Decision, now: i64) {
    record.project_path.clone_from(&merge_request.project_path);
    record.unseen_since = merge_request.is_lost_branch().then(|| record.unseen_since.unwrap_or(now));
    record.source_branch.clone_from(&merge_request.source_branch);
    record.decision.clone_from(&decision.rules);
    // What GitLab has stopped of a branch only a job brings back.
    let stays = |hold: &Hold| {
        hold.sha == merge_request.sha
            || (record.key.subject.is_branch() && hold.origin != HoldOrigin::Operator)
    };
    if record.hold.as_ref().is_some_and(|hold| !stays(hold)) {
        record.hold = None;
    }
}

/// Acts on the decision, then tells people how it came out.
pub(super) async fn act_and_tell(
    parts: &Parts,
    record: &mut Preview,
    saved: &mut Option<Preview>,
    decision: &Decision,
    head: Option<&Sha>,
    note: NoteCheck,
) -> Result<Next, Error> {
    let rules = (parts.rules)(&record.project_path);
    let standing = places::Standing::of(record);
    let url = parts.link(record);
    if record.url != url {
        // The operator has moved the previews.
        record.url = url;
        apply::unless_refused(parts.reporter.link_environment(record).await)?;
    }
    apply::unless_refused(parts.reporter.recover_deployment(record).await)?;
    let acted = match act(parts, record, saved, &decision.desired, head, &rules).await {
        Err(error @ (Error::Place { .. } | Error::NoPlace(_))) => {
            return unreachable::tell(parts, record, saved, &decision.desired, head, note, error).await;
        }
        acted => acted?,
    };
    let Acted { status, left, head_moved, waits, remains } = acted;
    if head_moved {
        return Ok(Next::At(parts.clock.now()));
    }

    let (state, reason) = match &waits {
        Some(reason) => (State::Waiting, reason.clone()),
        None => outcome(&decision.desired, record, &status, &left),
    };
    record.waits_for.clone_from(&status.waits_for);
    record.log.clone_from(&status.log);
    let now = parts.clock.now();
    record.enter(state, &reason, head);
    if let Some(order) = &mut record.order {
        order.answered = true;
    }
    record.stopped_at = (state == State::Stopped).then(|| record.stopped_at.unwrap_or(now));
    if state == State::Stopped && !matches!(reason, Reason::Expired(_)) && !reason.is_exclusion() {
        // Whatever brings it back starts a new life; a label that comes and goes does not.
        record.deployed_at = None;
    }
    if state == State::Stopped && now - record.updated_at > TOUCH {
        // Its merge request is still looked at: what was decided about it must outlive the pruning of what is over.
        record.updated_at = now;
    }
    sleep::settle(record, &status, now);
    places::note(record, &status, &reason, now);
    let trouble = match (&decision.desired, status.pending) {
        (Desired::Run(_), Some((_, _, Progress::Trouble(why)))) => Some(why),
        _ => None,
    };
    let serves_there = record.serving.take().filter(|_| !record.leaving.is_empty());
    record.served.take_if(|_| status.serving.is_none());
    record.serving = status.serving.map(|running| Serving { sha: running.sha, since: running.since });
    // Until it serves where it goes to, it serves where it comes from.
    record.serving = record.serving.take().or(serves_there);
    record.expires_at = end_of_life(decision.life, record, &decision.desired);
    let mut checked = checks::note(parts, record, &decision.desired, state).await?;
    record.at_rest = reason.is_at_rest() && !record.is_being_checked();
    record.note_begun |= note_is_due(state);
    keep(parts, record, saved).await?;
    places::pass_on(parts, standing, record, &rules).await?;
    if record.is_being_checked() {
        checks::ask(parts, record, &decision.desired, state).await;
        checked = checks::note(parts, record, &decision.desired, state).await?;
        keep(parts, record, saved).await?;
    }
    if checked {
        parts.store.forget_checks(record.key).await?;
    }
    if state == State::Ready {
        branch::pass_on(parts, record).await?;
    }
    apply::unless_refused(parts.reporter.comment(record, now, note).await)?;
    keep(parts, record, saved).await?;
    commit_status::tell(parts, record, saved, &decision.desired).await?;

    if let Some(why) = trouble {
        return Err(Error::Trouble(why));
    }
    if reason == Reason::ChangesUnknown {
        return Err(Error::ChangesUnknown);
    }
    if !remains.is_empty() {
        return Err(Error::Left(remains.join("; ")));
    }
    if let Some(Reason::RegistryTrouble(why)) = waits {
        return Err(Error::Trouble(why));
    }
    if waits.is_some() {
        return Ok(Next::At(now + AWAITED));
    }
    match state {
        State::Stopping => Err(Error::Left(left.join("; "))),
        State::Deploying => Ok(Next::At(now + ENGINE_FALLBACK)),
        _ if record.is_being_checked() => Ok(Next::At(now + checks::FALLBACK)),
        _ => Ok(next_look(record, now)),
    }
}

/// When a preview that is settled is looked at again without any event.
fn next_look(record: &Preview, now: i64) -> Next {
    let end = record.expires_at.into_iter().chain(branch::next_look(record, now)).min();
    let end = end.map(|end| end.max(now + SOONEST));
    let hourly = matches!(record.state, State::Ready | State::Asleep).then(|| {
        let early = HOURLY / 10 * i64::from(record.name.as_str().bytes().fold(0, u8::wrapping_add)) / 256;
        (record.looked_at + HOURLY - early).max(now + SOONEST)
    });
    match (end, hourly) {
        (Some(end), Some(hourly)) if hourly < end => Next::InBackground(hourly),
        (Some(end), _) => Next::At(end),
        (None, Some(hourly)) => Next::InBackground(hourly),
        (None, None) => Next::Rest,
    }
}

/// Saves the record when it changed, with a line of history when state or reason did.
pub(super) async fn keep(
    parts: &Parts,
    record: &mut Preview,
    saved: &mut Option<Preview>,
) -> Result<(), Error> {
    if saved.as_ref() == Some(record) {
        return Ok(());
    }
    // That it was looked at is no change.
    let seen = |saved: &Preview| Preview {
        looked_at: record.looked_at,
        note_seen_at: record.note_seen_at,
        ..saved.clone()
    };
    if saved.as_ref().map(seen).as_ref() != Some(record) {
        record.updated_at = parts.clock.now();
    }
    let told = |preview: &Preview| (preview.state, preview.reason.clone());
    let news = saved.as_ref().map(told) != Some(told(record)) && !record.reason.is_empty();
    let progress = saved.as_ref().is_some_and(|saved| saved.waits_for != record.waits_for);
    let checked = saved.as_ref().and_then(|saved| saved.check_run.as_ref());
    let checked = record.check_run.iter().flat_map(|run| run.news(checked));
    let waits_for = record.waits_for.iter().filter(|_| progress).cloned();
    let lines: Vec<String> = news.then(|| record.reason.clone()).into_iter().chain(checked).collect();
    let lines = if news { lines } else { waits_for.chain(lines).collect() };
    let line = (!lines.is_empty()).then(|| lines.join("; "));
    parts.store.save(record, line.as_deref()).await?;
    if news {
        tracing::info!(mr.key = %record.key, state = %record.state, reason = record.reason, "told");
    }
    *saved = Some(record.clone());
    Ok(())
}
