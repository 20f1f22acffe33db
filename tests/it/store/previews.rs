//! Previews come back as they were saved, and are found by all that they are looked up by.

use std::collections::{BTreeSet, HashSet};

use greenroom::{
    preview::{
        BranchId, CheckResult, CheckRun, CheckState, CommitStatus, CommitStatusState, Compared, Deployment,
        FileAt, Hold, HoldOrigin, Place, Preview, PreviewKey, PreviewName, ProjectId, Release, Said, Serving,
        Sha, Sleep, State, Subject,
    },
    store::{Error, HistoryEntry, Store},
};
use proptest::{option, prelude::*, sample, strategy::ValueTree as _, test_runner::TestRunner};

use super::{Database, preview};
use crate::on_both_databases;

on_both_databases! {
    whatever_is_saved_comes_back
    the_largest_ids_stay_apart
    a_preview_is_found_by_its_name
    previews_are_found_by_their_branch
    what_is_stopped_does_not_live
    a_history_is_told_from_its_end
    a_preview_and_its_history_are_saved_together_or_not_at_all
    a_name_belongs_to_one_preview
    a_document_that_cannot_be_read_is_an_error
}

async fn whatever_is_saved_comes_back(database: &Database) {
    let store = database.open().await;
    let mut runner = TestRunner::deterministic();
    for _ in 0..100 {
        let any = any_preview().new_tree(&mut runner).unwrap().current();
        store.save(&any, Some(&any.reason)).await.unwrap();
        assert_eq!(store.preview(any.key).await.unwrap().as_ref(), Some(&any));
        assert_eq!(store.preview_by_name(&any.name).await.unwrap().as_ref(), Some(&any));
        let live = (any.state != State::Stopped).then_some(any.key);
        assert_eq!(
            store.previews_of_branch(any.key.project_id, &any.source_branch).await.unwrap(),
            Vec::from_iter(live)
        );
        let told = (any.updated_at, any.state.to_string(), any.reason.clone());
        assert_eq!(history(&store, any.key, 9).await, [told]);
    }
    assert_eq!(store.previews().await.unwrap().len(), 100);
}

/// Any preview. No field can be left out, or this does not compile.
fn any_preview() -> impl Strategy<Value = Preview> {
    // No NUL: neither git nor GitLab has it in a name, and what people write is cleaned before.
    let text = || "[^\0]{0,300}";
    let id = any::<u64>;
    let branch = (0..36_u64.pow(8)).prop_map(|number| Subject::Branch(BranchId::from_number(number)));
    let iid = (0..1_u64 << 63).prop_map(Subject::MergeRequest);
    let key =
        (id(), prop_oneof![iid, branch]).prop_map(|(project, subject)| PreviewKey::new(project, subject));
    let serving = (sha(), any::<i64>()).prop_map(|(sha, since)| Serving { sha, since });
    let texts = [option::of(text()), option::of(text())];
    let release = (sha(), id(), text(), any::<i64>(), any::<Option<i64>>(), texts, any::<bool>()).prop_map(
        |(sha, job_id, digest, submitted_at, settled_at, [failure, settings], by_job)| Release {
            sha,
            job_id,
            digest,
            submitted_at,
            settled_at,
            failure,
            settings,
            by_job,
        },
    );
    let deployment = (any::<Option<u64>>(), sha(), text(), any::<bool>())
        .prop_map(|(id, sha, reference, finished)| Deployment { id, sha, reference, finished });
    let said = option::of(
        (sample::select(&CommitStatusState::ALL), text())
            .prop_map(|(state, description)| Said { state, description }),
    );
    let commit_status = (any::<u64>(), sha(), said, any::<[bool; 2]>()).prop_map(
        |(pipeline_id, sha, said, [answered, open])| CommitStatus { pipeline_id, sha, said, answered, open },
    );
    let origin = prop_oneof![Just(HoldOrigin::Gitlab), Just(HoldOrigin::Operator)];
    let hold = (option::of(sha()), any::<i64>(), origin).prop_map(|(sha, since, origin)| Hold {
        sha,
        since,
        origin,
    });
    let sleep =
        (sha(), any::<i64>(), any::<bool>()).prop_map(|(sha, since, waking)| Sleep { sha, since, waking });
    let compared = (sha(), sha(), prop::collection::vec(text(), 0..3), option::of(text()))
        .prop_map(|(base, head, globs, hit)| Compared { base, head, globs, hit });
    let names = (key, text(), text(), text(), text(), text(), text());
    let times = (any::<[i64; 4]>(), any::<[Option<i64>; 7]>());
    let file = (sha(), text()).prop_map(|(sha, text)| FileAt { sha, text });
    let check_state =
        prop_oneof![Just(CheckState::Running), Just(CheckState::Passed), Just(CheckState::Failed)];
    let check =
        (text(), check_state, text(), prop::collection::vec(text(), 0..3), any::<Option<i64>>()).prop_map(
            |(name, state, reason, lines, took_ms)| CheckResult { name, state, reason, lines, took_ms },
        );
    let check_run = (text(), sha(), text(), prop::collection::vec(check, 0..3))
        .prop_map(|(id, sha, digest, checks)| CheckRun { id, sha, digest, checks });
    let ids = (
        any::<[Option<u64>; 2]>(),
        any::<[bool; 3]>(),
        option::of(text()),
        [(); 3].map(|()| prop::collection::vec(text(), 0..5)),
        (option::of(file), option::of(check_run)),
        (option::of(text()), prop::collection::vec(text().prop_map(|name| Place::cluster(&name)), 0..3)),
    );
    let parts = (
        sample::select(&State::ALL),
        option::of(sha()),
        option::of(serving),
        option::of(release),
        option::of(deployment),
        option::of(commit_status),
        option::of(hold),
        option::of(sleep),
        option::of(compared),
    );
    (names, times, ids, parts).prop_map(
        |(
            (key, project_path, source_branch, reason, next, url, engine),
            (
                [created_at, updated_at, note_seen_at, looked_at],
                [
                    expires_at,
                    deployed_at,
                    stopped_at,
                    unseen_since,
                    found_at,
                    place_since,
                    waits_for_place_since,
                ],
            ),
            (
                [note_id, environment_id],
                [environment_seen, at_rest, note_begun],
                note_digest,
                [decision, waits_for, log],
                (file, check_run),
                (cluster, leaving),
            ),
            (state, sha, serving, release, deployment, commit_status, hold, sleep, compared),
        )| Preview {
            name: PreviewName::new(&project_path, key, &source_branch),
            key,
            project_path,
            source_branch,
            state,
            reason,
            next,
            url,
            sha,
            engine,
            cluster,
            leaving,
            waits_for,
            log,
            check_run,
            serving,
            served: note_digest.clone(),
            created_at,
            updated_at,
            expires_at,
            deployed_at,
            stopped_at,
            release,
            note_id,
            note_digest,
            environment_id,
            environment_seen,
            deployment,
            file,
            note_begun,
            at_rest,
            note_seen_at,
            looked_at,
            commit_status,
            decision,
            hold,
            sleep,
            unseen_since,
            found_at,
            compared,
            place_since,
            waits_for_place_since,
            order: None,
        },
    )
}

/// The merge requests whose previews the resync sees.
async fn live(store: &Store, project: ProjectId) -> Vec<PreviewKey> {
    let live = store.live_previews(project).await.unwrap();
    live.iter().map(|preview| preview.key).collect()
}

fn sha() -> impl Strategy<Value = Sha> {
    "[0-9a-f]{40}|[0-9a-f]{64}".prop_map(|text| Sha::parse(&text).unwrap())
}

async fn the_largest_ids_stay_apart(database: &Database) {
    let store = database.open().await;
    let largest = [u64::MAX, u64::MAX - 1, 1 << 63, (1 << 63) - 1, 0];
    // GitLab's own numbers end there; below zero come branches.
    let of = |id: u64| match i64::try_from(id) {
        Ok(_) => Subject::MergeRequest(id),
        Err(_) => Subject::Branch(BranchId::from_number(u64::MAX - id)),
    };
    for (n, id) in largest.into_iter().enumerate() {
        for key in [PreviewKey::of_mr(id, 1), PreviewKey::new(7, of(id))] {
            store.save(&preview(key, State::Ready, n.try_into().unwrap()), None).await.unwrap();
        }
    }
    for (n, id) in largest.into_iter().enumerate() {
        for key in [PreviewKey::of_mr(id, 1), PreviewKey::new(7, of(id))] {
            let expected = preview(key, State::Ready, n.try_into().unwrap());
            assert_eq!(store.preview(key).await.unwrap(), Some(expected));
        }
        assert_eq!(live(&store, id).await, [PreviewKey::of_mr(id, 1)]);
    }
    let live: BTreeSet<_> = live(&store, 7).await.into_iter().collect();
    assert_eq!(live, largest.map(|id| PreviewKey::new(7, of(id))).into());
}

async fn a_preview_is_found_by_its_name(database: &Database) {
    let store = database.open().await;
    let seven = preview(PreviewKey::of_mr(42, 7), State::Ready, 1);
    store.save(&seven, None).await.unwrap();
    store.save(&preview(PreviewKey::of_mr(42, 77), State::Ready, 1), None).await.unwrap();
    // The project is renamed; the name stays.
    let seven = Preview { project_path: "acme/renamed".to_owned(), ..seven };
    store.save(&seven, None).await.unwrap();
    assert_eq!(seven.name.as_str(), "web-42-mr-7");
    assert_eq!(store.preview_by_name(&seven.name).await.unwrap(), Some(seven));
    let unknown = PreviewName::parse("web-42-mr").unwrap();
    assert_eq!(store.preview_by_name(&unknown).await.unwrap(), None);
    assert_eq!(store.preview(PreviewKey::of_mr(7, 42)).await.unwrap(), None);
}

async fn previews_are_found_by_their_branch(database: &Database) {
    let store = database.open().await;
    let on = async |key: PreviewKey, branch: &str| {
        let preview = Preview { source_branch: branch.to_owned(), ..preview(key, State::Failed, 1) };
        store.save(&preview, None).await.unwrap();
    };
    let of = async |branch: &str| store.previews_of_branch(42, branch).await.unwrap();
    let long = "x".repeat(5_000);
    for branch in ["feature", "Feature", "feature%", "it's \"\\", "ünï/😀", &long] {
        on(PreviewKey::of_mr(42, 8), branch).await;
        on(PreviewKey::of_mr(42, 7), branch).await;
        on(PreviewKey::of_mr(43, 7), branch).await;
        assert_eq!(of(branch).await, [PreviewKey::of_mr(42, 7), PreviewKey::of_mr(42, 8)], "{branch}");
    }
    on(PreviewKey::of_mr(42, 8), "another").await;
    let gone =
        Preview { source_branch: long.clone(), ..preview(PreviewKey::of_mr(42, 9), State::Stopped, 1) };
    store.save(&gone, None).await.unwrap();
    assert_eq!(of(&long).await, [PreviewKey::of_mr(42, 7)]);
    assert_eq!(of("feature").await, []);
}

async fn what_is_stopped_does_not_live(database: &Database) {
    let store = database.open().await;
    for (iid, state) in (1..).zip(State::ALL) {
        store.save(&preview(PreviewKey::of_mr(42, iid), state, 1), None).await.unwrap();
        store.save(&preview(PreviewKey::of_mr(43, iid), state, 1), None).await.unwrap();
    }
    let live = live(&store, 42).await;
    let expected: Vec<_> = (1..)
        .zip(State::ALL)
        .filter(|(_, state)| *state != State::Stopped)
        .map(|(iid, _)| PreviewKey::of_mr(42, iid))
        .collect();
    assert_eq!(live, expected);
    assert_eq!(store.previews().await.unwrap().len(), 16, "those that are gone included");
}

async fn a_history_is_told_from_its_end(database: &Database) {
    let store = database.open().await;
    let key = PreviewKey::of_mr(42, 7);
    assert_eq!(history(&store, key, 9).await, []);
    // All within one millisecond, some of them silent; and another preview's between them.
    for n in 0..30 {
        store.save(&preview(key, State::Deploying, 5), Some(&format!("step {n}"))).await.unwrap();
        store.save(&preview(key, State::Ready, 5), None).await.unwrap();
        store.save(&preview(PreviewKey::of_mr(43, 7), State::Ready, 5), Some("another's")).await.unwrap();
    }
    let told = |n| (5, "deploying".to_owned(), format!("step {n}"));
    let all: Vec<_> = (0..30).rev().map(told).collect();
    assert_eq!(history(&store, key, 100).await, all);
    assert_eq!(history(&store, key, 3).await, all[..3]);
    assert_eq!(history(&store, key, 0).await, []);
    let ids: HashSet<_> = store.history(key, 100).await.unwrap().into_iter().map(|line| line.id).collect();
    assert_eq!(ids.len(), 30);
}

/// What a preview's history says, without the ids.
async fn history(store: &Store, key: PreviewKey, limit: i64) -> Vec<(i64, String, String)> {
    let lines = store.history(key, limit).await.unwrap().into_iter();
    lines.map(|HistoryEntry { at, state, text, id: _ }| (at, state, text)).collect()
}

#[test]
fn a_hold_of_older_times_was_somebodys_in_gitlab() {
    let hold: Hold = serde_json::from_str(r#"{"sha": null, "since": 1}"#).unwrap();
    assert_eq!(hold, Hold { sha: None, since: 1, origin: HoldOrigin::Gitlab });
}

async fn a_preview_and_its_history_are_saved_together_or_not_at_all(database: &Database) {
    let store = database.open().await;
    let key = PreviewKey::of_mr(42, 7);
    store.save(&preview(key, State::Deploying, 1), Some("a NUL:\0")).await.unwrap();
    assert_eq!(store.history(key, 1).await.unwrap()[0].text, "a NUL:");
    sqlx::query("DROP TABLE history").execute(&database.raw().await).await.unwrap();
    let error = store.save(&preview(key, State::Ready, 2), Some("ready")).await.unwrap_err().to_string();
    assert!(error.starts_with("the store cannot save a preview: "), "{error}");
    assert_eq!(store.preview(key).await.unwrap(), Some(preview(key, State::Deploying, 1)));
}

async fn a_name_belongs_to_one_preview(database: &Database) {
    let store = database.open().await;
    let seven = preview(PreviewKey::of_mr(42, 7), State::Ready, 1);
    let impostor = Preview { name: seven.name.clone(), ..preview(PreviewKey::of_mr(42, 8), State::Ready, 1) };
    store.save(&seven, None).await.unwrap();
    assert!(matches!(store.save(&impostor, None).await, Err(Error::Database { .. })));
    assert_eq!(store.previews().await.unwrap(), [seven]);
}

async fn a_document_that_cannot_be_read_is_an_error(database: &Database) {
    let store = database.open().await;
    let seven = preview(PreviewKey::of_mr(42, 7), State::Ready, 1);
    store.save(&seven, None).await.unwrap();
    sqlx::query("UPDATE previews SET document = '{\"key\":7}'").execute(&database.raw().await).await.unwrap();
    for answer in [
        store.preview(seven.key).await.map(drop),
        store.preview_by_name(&seven.name).await.map(drop),
        store.previews().await.map(drop),
    ] {
        assert!(matches!(answer, Err(Error::Document { .. })), "{answer:?}");
    }
    assert_eq!(live(&store, 42).await, [seven.key], "it is still looked at");
    store.save(&seven, None).await.unwrap();
    assert_eq!(store.preview(seven.key).await.unwrap(), Some(seven));
}
