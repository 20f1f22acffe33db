//! `kill -9` between any two steps: whatever greenroom was doing, after a restart the end is the same.
//!
//! Every step that makes something outside is a call to GitLab, so a crash is planned at each call in turn: once so that
//! GitLab never hears of it, once so that GitLab did it and greenroom never learns.

use futures::{StreamExt, stream};

use crate::support::{PATIENCE, until, world::World};

#[derive(Debug, Clone, Copy)]
pub enum Crash {
    /// GitLab never hears of the call.
    Instead,
    /// GitLab did it; the answer is not heard.
    After,
}

impl Crash {
    /// Kills greenroom at its `n`-th call from now on. What is asked of GitLab itself at the start may come late, and is no part of
    /// it: who is not there yet hears no webhook.
    pub fn plan(self, world: &World, n: usize) {
        let kill = world.greenroom.kill_switch();
        let call = world.wire.on("*", "*/projects/*").nth(n);
        match self {
            Self::Instead => call.instead(kill),
            Self::After => call.after(kill),
        }
    }

    /// Plays what `survives` a crash with one at each call in turn, until it says that there is no such call.
    pub async fn everywhere<F: Future<Output = bool>>(
        what: impl std::fmt::Debug,
        survives: impl Fn(Self, usize) -> F,
    ) {
        let crashes = stream::iter((1..=40).flat_map(|n| [(Self::Instead, n), (Self::After, n)]))
            .map(|(crash, n)| survives(crash, n))
            .buffered(4)
            .take_while(|crashed| std::future::ready(*crashed))
            .count()
            .await;
        assert!(
            (6..80).contains(&crashes),
            "{what:?} crashed {crashes} times, which is not all of its calls"
        );
    }
}

/// One part of a preview's life.
#[derive(Debug, Clone, Copy)]
enum Part {
    FirstDeploy,
    RequiredDeploy,
    SecondPush,
    Teardown,
}

impl Part {
    /// The settings it is played with.
    const fn settings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::RequiredDeploy => &[("GREENROOM_COMMIT_STATUS", "required")],
            _ => &[],
        }
    }

    /// How many commit statuses are posted in all, each a success in the end.
    const fn statuses(self) -> usize {
        match self {
            Self::SecondPush => 2,
            _ => 1,
        }
    }

    /// What has happened before.
    async fn before(self, world: &World) -> u64 {
        match self {
            Self::FirstDeploy | Self::RequiredDeploy => 0,
            Self::SecondPush | Self::Teardown => world.ready_mr("feature", "one").await,
        }
    }

    /// What people do, and the state that it leads to.
    async fn act(self, world: &World, mr: u64) -> (u64, &'static str) {
        match self {
            Self::FirstDeploy | Self::RequiredDeploy => {
                let mr = world.gitlab.open_mr("feature", "one").await;
                world.build(mr, "one").await;
                (mr, "ready")
            }
            Self::SecondPush => {
                world.gitlab.push("feature", &[("a", "2")]).await;
                world.build(mr, "two").await;
                (mr, "ready")
            }
            Self::Teardown => {
                world.gitlab.close(mr).await;
                (mr, "stopped")
            }
        }
    }

    /// The end, crash or no crash.
    async fn check(self, world: &World, mr: u64) {
        match self {
            Self::FirstDeploy | Self::RequiredDeploy => world.shows(mr, "one").await,
            Self::SecondPush => world.shows(mr, "two").await,
            Self::Teardown => world.is_gone(mr).await,
        }
    }
}

/// Plays `part` with a crash at its `n`-th call. `false` when it has no such call.
async fn survives(part: Part, crash: Crash, n: usize) -> bool {
    let world = World::start_with(part.settings()).await;
    let mr = part.before(&world).await;
    world.rests().await;
    crash.plan(&world, n);
    let (mr, state) = part.act(&world, mr).await;
    let what = format!("{part:?} comes to its end or to its crash at call {n}, {crash:?}");
    until(&what, PATIENCE, || async {
        if !world.greenroom.is_running() {
            return Ok(());
        }
        let head = world.gitlab.mr(mr).await["sha"].clone();
        match world.greenroom.try_preview(42, mr).await {
            Some(preview) if preview["state"] == state && preview["sha"] == head => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    // What comes after the state is still part of it: the comment, the commit status, echoes.
    until("the last call is made or the crash has come", PATIENCE, || async {
        if !world.greenroom.is_running() {
            return Ok(());
        }
        let before = world.wire.calls().len();
        world.gitlab.drain().await;
        tokio::task::yield_now().await;
        let comment = world.gitlab.comment(mr).await.unwrap_or_default();
        let statuses = world.gitlab.commit_statuses().await;
        let ended = statuses.iter().filter(|status| status["status"] == "success").count();
        let told = comment.contains(&format!("Preview: {state}")) && ended == part.statuses();
        if told && world.wire.calls().len() == before { Ok(()) } else { Err("still busy") }
    })
    .await;
    world.wire.heal();
    let crashed = !world.greenroom.is_running();
    if crashed {
        world.greenroom.restart().await;
    }
    world.becomes(mr, state).await;
    part.check(&world, mr).await;
    world.rests().await;
    let statuses = world.gitlab.commit_statuses().await;
    let good = statuses.iter().all(|status| status["status"] == "success");
    assert!(good && statuses.len() == part.statuses(), "{what}: {statuses:#?}");
    world.ends_well().await;
    crashed
}

/// Crashes at every call of `part`.
async fn survives_everywhere(part: Part) {
    Crash::everywhere(part, |crash, n| survives(part, crash, n)).await;
}

#[tokio::test]
async fn a_crash_anywhere_in_a_first_deploy_changes_nothing() {
    survives_everywhere(Part::FirstDeploy).await;
}

#[tokio::test]
async fn a_crash_anywhere_in_a_deploy_that_is_required_leaves_no_status_running() {
    survives_everywhere(Part::RequiredDeploy).await;
}

#[tokio::test]
async fn a_crash_anywhere_in_an_update_changes_nothing() {
    survives_everywhere(Part::SecondPush).await;
}

#[tokio::test]
async fn a_crash_anywhere_in_a_teardown_changes_nothing() {
    survives_everywhere(Part::Teardown).await;
}

#[tokio::test]
async fn asked_to_end_it_ends_soon_and_goes_on_where_it_was() {
    let world = World::start().await;
    let mr = world.gitlab.open_mr("feature", "one").await;
    world.becomes(mr, "waiting").await;
    let (status, time) = world.greenroom.terminate().await;
    assert!(status.success(), "{status}");
    assert!(time < PATIENCE, "{time:?}");
    // What happens while nobody listens is found at the start.
    world.build(mr, "one").await;
    world.greenroom.restart().await;
    world.becomes(mr, "ready").await;
    world.shows(mr, "one").await;
    world.ends_well().await;
}

#[tokio::test]
async fn files_that_were_damaged_on_the_disk_are_made_anew() {
    let world = World::start().await;
    let mr = world.ready_mr("feature", "one").await;
    world.rests().await;
    world.greenroom.terminate().await;
    for release in std::fs::read_dir(world.greenroom.data().join("static/releases")).unwrap() {
        let manifest = release.unwrap().path().join("manifest.json");
        let text = std::fs::read_to_string(&manifest).unwrap();
        std::fs::write(&manifest, text.replace("index", "outdex")).unwrap();
    }
    world.greenroom.restart().await;
    until("it is served again", PATIENCE, || async {
        let (status, body) = world.visit(mr, "/").await;
        if status == 200 { Ok(()) } else { Err(body) }
    })
    .await;
    world.shows(mr, "one").await;
    world.becomes(mr, "ready").await;
    world.ends_well().await;
}
