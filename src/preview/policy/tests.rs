use proptest::prelude::*;

use super::*;
use crate::preview::{MergeRequestState, PreviewKey};

fn sha(digit: char) -> Sha {
    Sha::parse(&String::from(digit).repeat(40)).unwrap()
}

fn merge_request(draft: bool, labels: &[&str], target: &str) -> MergeRequest {
    MergeRequest {
        key: PreviewKey::of_mr(42, 7),
        project_path: "acme/web".into(),
        state: MergeRequestState::Opened,
        sha: Some(sha('b')),
        source_branch: "feature".into(),
        target_branch: target.into(),
        created_at: None,
        source_project_id: Some(42),
        draft,
        title: String::new(),
        author: String::new(),
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        diff: Some(diff(None)),
        branch_deleted: false,
    }
}

fn diff(count: Option<u64>) -> Diff {
    Diff { base: sha('a'), head: sha('b'), count, cut: false }
}

fn when(text: &str) -> When {
    serde_saphyr::from_str(text).unwrap()
}

fn files(paths: &[(&str, &str)]) -> Vec<ChangedFile> {
    let file = |(old, new): &(&str, &str)| ChangedFile { old_path: (*old).into(), new_path: (*new).into() };
    paths.iter().map(file).collect()
}

fn judge(when: &When, merge_request: &MergeRequest, changes: &Changes) -> String {
    let mut rules = Vec::new();
    match when.judge(merge_request, changes, &mut rules) {
        Judgement::Admitted => format!("admitted: {}", rules.join("; ")),
        Judgement::Excluded(reason) => {
            assert!(reason.is_exclusion());
            format!("excluded: {reason}")
        }
        Judgement::Undecided => String::from("undecided"),
    }
}

#[test]
fn each_part_excludes_with_its_own_reason_and_the_first_one_is_told() {
    let all = "{drafts: false, labels: {any: [preview, ui], none: [no-preview]}, target_branches: [main, release/*]}";
    let mut told = Vec::new();
    for (text, merge_request) in [
        ("{}", merge_request(true, &["no-preview"], "anywhere")),
        ("{drafts: true}", merge_request(true, &[], "main")),
        ("{labels: {any: [], none: []}, target_branches: [], paths: []}", merge_request(false, &[], "x")),
        (all, merge_request(true, &["no-preview"], "dev")),
        (all, merge_request(false, &["ui", "no-preview"], "dev")),
        (all, merge_request(false, &["UI"], "dev")),
        (all, merge_request(false, &["ui"], "dev")),
        (all, merge_request(false, &["ui"], "release/1/2")),
        ("{labels: {any: [a, b, c, d, e, f, g]}}", merge_request(false, &[], "main")),
        ("{target_branches: ['*']}", merge_request(false, &[], "release/1/2")),
    ] {
        told.push(judge(&when(text), &merge_request, &Changes::Unknown));
    }
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn a_changed_file_counts_by_its_old_and_its_new_path() {
    let open = merge_request(false, &[], "main");
    let web = when("{paths: ['web/**', '*.toml']}");
    let mut told = Vec::new();
    for changed in [
        files(&[("api/a", "api/a"), ("web/x", "web/x")]),
        files(&[("web/x", "old/x")]),
        files(&[("old/x", "web/x")]),
        files(&[("api/a", "api/a"), ("api/Cargo.toml", "api/Cargo.toml")]),
        files(&[]),
    ] {
        let count = changed.len() as u64;
        told.push(judge(&web, &open, &web.compare(&diff(Some(count)), &changed)));
    }
    told.push(judge(&web, &open, &Changes::Cut));
    told.push(judge(&web, &open, &Changes::Unknown));
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn a_list_that_is_shorter_than_gitlabs_count_is_a_match_and_an_empty_one_without_a_count_says_nothing() {
    let web = when("{paths: ['web/**']}");
    let other = files(&[("api/a", "api/a")]);
    let cut = Diff { cut: true, ..diff(Some(1)) };
    assert_eq!(web.compare(&cut, &other), Changes::Cut);
    assert_eq!(web.compare(&diff(Some(2)), &other), Changes::Cut);
    assert_eq!(web.compare(&diff(Some(2)), &[]), Changes::Cut);
    assert_eq!(web.compare(&diff(None), &[]), Changes::Unknown);
    let Changes::Compared(known) = web.compare(&diff(None), &other) else { panic!("it is known") };
    assert!(known.is_of(&diff(Some(1)), &web));
    assert!(!known.is_of(&Diff { base: sha('c'), ..diff(None) }, &web), "another target");
    assert!(!known.is_of(&Diff { head: sha('c'), ..diff(None) }, &web), "another head");
    assert!(!known.is_of(&diff(None), &when("{paths: ['web/**', x]}")), "other globs");
    // Nothing is between a commit and itself.
    let same = Diff { head: sha('a'), ..diff(None) };
    assert!(matches!(web.compare(&same, &[]), Changes::Compared(Compared { hit: None, .. })));
}

fn label() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "A", "b", "no-preview"]).prop_map(str::to_owned)
}

fn some_when() -> impl Strategy<Value = When> {
    let labels = || prop::collection::vec(label().prop_map(LabelName), 0..3);
    let branches = prop::collection::vec(prop::sample::select(vec!["main", "release/*", "*"]), 0..2);
    let paths = prop::collection::vec(prop::sample::select(vec!["web/**", "*.md"]), 0..2);
    (any::<bool>(), labels(), labels(), branches, paths).prop_map(|(drafts, any, none, branches, paths)| {
        When {
            drafts,
            labels: Labels { any, none },
            target_branches: branches.into_iter().map(|glob| glob.to_owned().try_into().unwrap()).collect(),
            paths: paths.into_iter().map(|glob| glob.to_owned().try_into().unwrap()).collect(),
        }
    })
}

fn some_merge_request() -> impl Strategy<Value = MergeRequest> {
    let target = prop::sample::select(vec!["main", "dev", "release/1.0"]);
    (any::<bool>(), prop::collection::vec(label(), 0..3), target).prop_map(|(draft, labels, target)| {
        let labels: Vec<_> = labels.iter().map(String::as_str).collect();
        merge_request(draft, &labels, target)
    })
}

fn outcome(when: &When, merge_request: &MergeRequest, changes: &Changes) -> Judgement {
    when.judge(merge_request, changes, &mut Vec::new())
}

proptest! {
    #[test]
    fn what_is_unknown_or_cut_excludes_nobody(when in some_when(), merge_request in some_merge_request()) {
        let open = When { paths: Vec::new(), ..when.clone() };
        let expected = outcome(&open, &merge_request, &Changes::Unknown);
        prop_assert_eq!(&outcome(&when, &merge_request, &Changes::Cut), &expected);
        let unknown = outcome(&when, &merge_request, &Changes::Unknown);
        prop_assert!(unknown == expected || (unknown == Judgement::Undecided && expected == Judgement::Admitted));
    }

    #[test]
    fn an_unwanted_label_admits_nobody_and_a_wanted_one_excludes_nobody(
        when in some_when(), merge_request in some_merge_request(), more in label(),
    ) {
        let admitted = |merge_request: &MergeRequest| {
            outcome(&when, merge_request, &Changes::Cut) == Judgement::Admitted
        };
        let mut labelled = merge_request.clone();
        labelled.labels.push(more.clone());
        let is_in = |names: &[LabelName]| names.iter().any(|name| name.as_str() == more);
        if is_in(&when.labels.none) {
            prop_assert!(!admitted(&labelled));
        } else if admitted(&merge_request) {
            prop_assert!(admitted(&labelled));
        }
    }

    #[test]
    fn ready_is_never_worse_than_draft(when in some_when(), merge_request in some_merge_request()) {
        let as_draft = |draft| {
            outcome(&when, &MergeRequest { draft, ..merge_request.clone() }, &Changes::Cut)
        };
        if as_draft(true) == Judgement::Admitted {
            prop_assert_eq!(as_draft(false), Judgement::Admitted);
        }
        prop_assert_eq!(matches!(as_draft(true), Judgement::Excluded(Reason::Draft)), !when.drafts);
    }
}
