//! The oracle: what must be seen, from GitLab's side, from what people and the operator did, and from the projects' files. It
//! knows nothing of how greenroom works.

use std::{collections::BTreeSet, time::Duration};

use serde_json::Value;

use super::{
    hands::{Hands, KINDS},
    known::{Fact, Known},
    revision::{Flaw, Revision, said},
    story::Story,
};
use crate::histories::{
    comes_to_stay,
    side::{Side, nothing_stray, nudge},
};

/// The pause between two looks: each asks the API server for much.
const LOOK: Duration = Duration::from_millis(300);

/// What must be seen of a merge request's preview.
#[derive(Debug)]
struct Truth {
    state: &'static str,
    /// How the reason begins.
    reason: String,
    there: There,
}

/// What is in the cluster.
#[derive(Debug)]
enum There {
    Nothing,
    /// This revision, nothing more and nothing less, awake or asleep.
    Exactly(Revision, bool),
    /// Parts of one that failed beside what served, and what serves goes on.
    Something,
}

/// Waits until the world equals the truth and stays so. Then what is there is known for certain.
pub async fn holds(story: &mut Story) -> Result<(), String> {
    for known in story.known.iter().flatten() {
        nudge(&story.world, known.iid).await;
    }
    comes_to_stay(&story.world, LOOK, || equals(story)).await?;
    let environments = story.world.gitlab.environments().await;
    let Story { world, hands, known, .. } = story;
    for known in known.iter_mut().flatten() {
        let side = Side::of(world, known.iid, &environments, &[]).await?;
        let Some(preview) = &side.preview else { continue };
        let runs = running(hands, &known.namespace).await;
        let state = preview["state"].as_str().unwrap_or_default();
        let is_over = side.shown["state"] != "opened";
        known.rests(state, is_over, side.head(), runs, side.is_available());
    }
    Ok(())
}

/// What certainly serves goes on serving, whatever happens around it.
pub async fn unbroken(story: &Story) -> Result<(), String> {
    for known in story.known.iter().flatten().filter(|known| known.serves) {
        serves(&story.hands, known).await?;
    }
    Ok(())
}

async fn serves(hands: &Hands, known: &Known) -> Result<(), String> {
    let runs = running(hands, &known.namespace).await;
    if runs.is_disjoint(&known.good) {
        return Err(format!("!{} runs {runs:?} instead of one of {:?}", known.iid, known.good));
    }
    Ok(())
}

/// The images of pods that are ready.
async fn running(hands: &Hands, namespace: &str) -> BTreeSet<String> {
    let is_ready = |pod: &&Value| {
        let conditions = pod["status"]["conditions"].as_array();
        pod["metadata"]["deletionTimestamp"].is_null()
            && conditions
                .is_some_and(|all| all.iter().any(|it| it["type"] == "Ready" && it["status"] == "True"))
    };
    let pods = hands.pods(namespace).await;
    let images =
        pods.iter().filter(is_ready).filter_map(|pod| pod["spec"]["containers"][0]["image"].as_str());
    images.map(str::to_owned).collect()
}

/// Whether the world equals the truth; the first difference.
async fn equals(story: &Story) -> Result<(), String> {
    let world = &story.world;
    if !world.greenroom.is_running() {
        world.greenroom.restart().await;
    }
    let environments = world.gitlab.environments().await;
    let deployments = world.gitlab.deployments().await;
    for known in story.known.iter().flatten() {
        let at = |what: String| format!("!{}: {what}", known.iid);
        let side = Side::of(world, known.iid, &environments, &deployments).await?;
        one(story, known, &side).await.map_err(at)?;
    }
    let iids: Vec<_> = story.known.iter().flatten().map(|known| known.iid).collect();
    nothing_stray(&environments, &deployments, &iids)?;
    for (name, was) in &story.foreign {
        match story.hands.whole(name).await {
            Some(is) if is == *was => {}
            is => return Err(format!("somebody else's {name} is {is:?} and was {was:?}")),
        }
    }
    let ours = |name: &String| {
        story.foreign.contains_key(name) || story.known.iter().flatten().any(|known| known.namespace == *name)
    };
    match story.hands.namespaces_of(&story.name).await.iter().find(|name| !ours(name)) {
        Some(stray) => Err(format!("a namespace of nobody: {stray}")),
        None => Ok(()),
    }
}

/// Compares one merge request with the truth.
async fn one(story: &Story, known: &Known, side: &Side) -> Result<(), String> {
    let Some(preview) = &side.preview else {
        let there = story.hands.namespace(&known.namespace).await.is_some_and(|_| !known.squatted);
        // Over before anybody saw it, or forgotten since.
        let is_over = !side.open && !there && (side.comment.is_none() || known.forgotten);
        return if is_over { Ok(()) } else { Err("no preview is known".to_owned()) };
    };
    let url = preview["url"].as_str().ok_or("no link")?;
    let mut differences = Vec::new();
    for truth in &truths(story, known, side).await {
        let told = match side.tells(preview, truth.state, &truth.reason) {
            Ok(()) => there(&story.hands, known, truth).await,
            told => told,
        };
        let serves = matches!(truth.there, There::Exactly(..));
        match told.and_then(|()| side.environment(truth.state, url, serves)) {
            Ok(()) => return Ok(()),
            Err(difference) => differences.push(format!("{difference}\nby {truth:?}")),
        }
    }
    Err(format!("{}\nand it is {preview:#}", differences.join("\nor ")))
}

/// Whether the cluster has what must be there.
async fn there(hands: &Hands, known: &Known, truth: &Truth) -> Result<(), String> {
    if known.squatted {
        return Ok(());
    }
    let namespace = hands.namespace(&known.namespace).await;
    match &truth.there {
        There::Nothing => match namespace {
            None => Ok(()),
            Some(namespace) => Err(format!("the cluster still has {namespace:#}")),
        },
        There::Something if known.serves => serves(hands, known).await,
        There::Something => Ok(()),
        There::Exactly(revision, awake) => {
            let namespace = namespace.ok_or("it has no namespace")?;
            let level = &namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"];
            if level != "restricted" {
                return Err(format!("its pods are held to {level}"));
            }
            let mut wanted = revision.objects(*awake);
            wanted.extend(known.added.iter().cloned());
            let found = objects(hands, &known.namespace).await;
            if found != wanted {
                let (less, more): (Vec<_>, Vec<_>) =
                    (wanted.difference(&found).collect(), found.difference(&wanted).collect());
                return Err(format!("the cluster lacks {less:?} and has {more:?} beyond it"));
            }
            let runs = running(hands, &known.namespace).await;
            let should = BTreeSet::from_iter(awake.then(|| revision.image()));
            if runs == should { Ok(()) } else { Err(format!("{runs:?} runs")) }
        }
    }
}

async fn objects(hands: &Hands, namespace: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for (kind, _) in KINDS {
        all.extend(hands.list(namespace, kind).await.iter().filter_map(|object| said(kind, object)));
    }
    all
}

/// What must be seen; more than one where nobody could tell two stories apart.
async fn truths(story: &Story, known: &Known, side: &Side) -> Vec<Truth> {
    let gone = |reason: &str| Truth { state: "stopped", reason: reason.to_owned(), there: There::Nothing };
    match side.shown["state"].as_str() {
        Some("closed") => return vec![gone("the merge request was closed")],
        Some("merged") => return vec![gone("the merge request was merged")],
        _ => {}
    }
    let mut truths = Vec::new();
    let stops = [
        (&known.by_operator, "it was stopped by the operator"),
        (&known.by_hand, "somebody stopped the environment in GitLab"),
    ];
    for (fact, reason) in stops {
        if let (true, certain) = fact.at(side.head()) {
            truths.push(gone(reason));
            if certain {
                return truths;
            }
        }
    }
    truths.extend(of_head(story, known, side.head()).await);
    truths
}

/// What the head's newest pipeline leads to.
async fn of_head(story: &Story, known: &Known, head: &str) -> Vec<Truth> {
    let revision = known.revisions[head];
    let kept = |awake| known.exact.map_or(There::Something, |exact| There::Exactly(exact, awake));
    let keeps = |state, reason: String| {
        let there = match known.asleep {
            Fact::No => kept(true),
            Fact::At(_) => kept(false),
            Fact::Perhaps => There::Something,
        };
        Truth { state, reason, there }
    };
    let ready =
        |there| Truth { state: "ready", reason: format!("commit `{}` is being served", &head[..8]), there };
    if revision.flaw == Some(Flaw::BadFile) {
        return vec![keeps("failed", "`.greenroom.yml` cannot be used".to_owned())];
    }
    let mut pipelines = story.world.gitlab.pipelines_of(known.iid).await;
    pipelines.retain(|pipeline| pipeline["sha"] == head);
    let Some(pipeline) = pipelines.iter().max_by_key(|pipeline| pipeline["id"].as_u64()) else {
        return vec![keeps("waiting", format!("no pipeline has finished for commit `{}` yet", &head[..8]))];
    };
    let id = &pipeline["id"];
    match pipeline["status"].as_str() {
        Some("success") => {}
        status => {
            let mut truths = vec![match status {
                Some("failed") => {
                    keeps("failed", format!("pipeline {id} did not pass: job `build` did not succeed"))
                }
                _ => keeps("waiting", format!("pipeline {id} has not finished")),
            }];
            if known.forgotten && known.exact == Some(revision) {
                truths.push(ready(kept(true)));
            }
            return truths;
        }
    }
    let fails = |reason: &str| keeps("failed", reason.to_owned());
    match revision.flaw {
        Some(Flaw::Forbidden) => vec![fails("it cannot be deployed: ")],
        _ if known.squatted => {
            let why = format!("it did not become ready: the cluster has a namespace `{}`", known.namespace);
            vec![fails(&why)]
        }
        Some(_) => vec![fails("it did not become ready: ")],
        None => {
            let ready = ready(There::Exactly(revision, true));
            let asleep = Truth {
                state: "asleep",
                reason: format!("the operator has put commit `{}` to sleep", &head[..8]),
                there: kept(false),
            };
            match known.asleep.at(head) {
                (true, true) => vec![asleep],
                (true, false) => vec![ready, asleep],
                (false, _) => vec![ready],
            }
        }
    }
}
