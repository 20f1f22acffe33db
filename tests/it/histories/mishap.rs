//! What goes wrong while people work: webhooks, the network, GitLab, the machine.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use crate::support::world::World;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    /// What happens to webhooks from here on.
    Deliveries(Fate),
    /// What happens to these calls to GitLab: after so many that pass, to so many.
    GitLab(Calls, Trouble, usize, usize),
    /// GitLab and webhooks are well again.
    Heal,
    /// `kill -9` at the n-th call from here.
    KillAt(usize, Moment),
    /// `kill -9` now.
    Kill,
    Restart,
    /// Nothing happens for so many milliseconds.
    Pause(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Lost,
    Twice,
    Shuffled,
    Late,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calls {
    All,
    Reads,
    Posts,
    Puts,
    Deletes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    Answer500,
    Answer429,
    Answer404,
    EmptyList,
    Hang,
    Cut,
    /// GitLab does it, and the answer is lost.
    Unheard,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// GitLab never hears of the call.
    Before,
    /// GitLab did it; greenroom never learns.
    After,
}

fn trouble() -> impl Strategy<Value = Mishap> {
    let calls = prop_oneof![
        4 => Just(Calls::All),
        2 => Just(Calls::Reads),
        3 => Just(Calls::Posts),
        2 => Just(Calls::Puts),
        1 => Just(Calls::Deletes),
    ];
    let trouble = prop_oneof![
        2 => Just(Trouble::Answer500),
        1 => Just(Trouble::Answer429),
        1 => Just(Trouble::Answer404),
        1 => Just(Trouble::EmptyList),
        1 => Just(Trouble::Hang),
        2 => Just(Trouble::Cut),
        3 => Just(Trouble::Unheard),
    ];
    let many = prop_oneof![3 => 1_usize..6, 1 => Just(1_000)];
    (calls, trouble, 0_usize..12, many).prop_map(|(calls, trouble, pass, many)| match (calls, trouble) {
        // A GitLab that answers a write with "no" means it.
        (Calls::Reads, _) => Mishap::GitLab(calls, trouble, pass, many),
        (Calls::All, Trouble::Answer404 | Trouble::EmptyList) => {
            Mishap::GitLab(Calls::Reads, trouble, pass, many)
        }
        (_, Trouble::Answer404 | Trouble::EmptyList) => {
            Mishap::GitLab(calls, Trouble::Unheard, pass % 3, many)
        }
        _ => Mishap::GitLab(calls, trouble, pass, many),
    })
}

pub fn mishap() -> impl Strategy<Value = Mishap> {
    use Mishap as M;
    let fate = prop_oneof![3 => Just(Fate::Lost), 1 => Just(Fate::Twice), 1 => Just(Fate::Shuffled), 1 => Just(Fate::Late)];
    let moment = prop_oneof![Just(Moment::Before), Just(Moment::After)];
    prop_oneof![
        2 => fate.prop_map(M::Deliveries),
        4 => trouble(),
        1 => Just(M::Heal),
        3 => (1_usize..12, moment).prop_map(|(n, moment)| M::KillAt(n, moment)),
        1 => Just(M::Kill),
        2 => Just(M::Restart),
        3 => (1_u64..500).prop_map(M::Pause),
    ]
}

impl Mishap {
    /// Lets it happen; what happened, in words.
    pub async fn happen(self, world: &World) -> Option<String> {
        Some(match self {
            Self::Deliveries(fate) => {
                let fault = match fate {
                    Fate::Lost => json!({ "lose": true }),
                    Fate::Twice => json!({ "repeat": 1_000 }),
                    Fate::Shuffled => json!({ "shuffle": true }),
                    Fate::Late => json!({ "delay_ms": 150 }),
                };
                world.gitlab.fault(json!({ "deliveries": fault })).await;
                format!("webhooks from here on: {fate:?}")
            }
            Self::GitLab(calls, trouble, pass, many) => {
                disturb(world, calls, trouble, pass, many);
                format!("calls to GitLab, {calls:?}: {pass} pass, then {many} times {trouble:?}")
            }
            Self::Heal => heal(world).await,
            Self::KillAt(n, moment) if world.greenroom.is_running() => {
                let (kill, call) = (world.greenroom.kill_switch(), world.wire.any().nth(n));
                match moment {
                    Moment::Before => call.instead(kill),
                    Moment::After => call.after(kill),
                }
                format!("greenroom dies at call {n} from here, {moment:?}")
            }
            Self::Kill => {
                world.greenroom.kill9();
                "greenroom is killed".to_owned()
            }
            Self::Restart if !world.greenroom.is_running() => {
                world.greenroom.restart().await;
                "greenroom is started again".to_owned()
            }
            // Not to wait for anything: how things fall together differs.
            Self::Pause(milliseconds) => {
                tokio::time::sleep(Duration::from_millis(milliseconds)).await;
                format!("{milliseconds} ms pass")
            }
            Self::KillAt(..) | Self::Restart => return None,
        })
    }
}

/// All is well again; in words.
pub async fn heal(world: &World) -> String {
    world.wire.heal();
    world.gitlab.fault(json!({})).await;
    "network and GitLab are well".to_owned()
}

fn disturb(world: &World, calls: Calls, trouble: Trouble, pass: usize, many: usize) {
    let wire = &world.wire;
    let on = match calls {
        Calls::All => wire.any(),
        Calls::Reads => wire.on("GET", "*"),
        Calls::Posts => wire.on("POST", "*"),
        Calls::Puts => wire.on("PUT", "*"),
        Calls::Deletes => wire.on("DELETE", "*"),
    };
    let on = on.after_passing(pass, many);
    match trouble {
        Trouble::Answer500 => on.answer(500, &[], r#"{"message":"500 Internal Server Error"}"#),
        Trouble::Answer429 => on.answer(429, &[("retry-after", "1")], "Retry later\n"),
        Trouble::Answer404 => on.answer(404, &[], r#"{"message":"404 Not found"}"#),
        Trouble::EmptyList => on.answer(200, &[("content-type", "application/json")], "[]"),
        Trouble::Hang => on.hang(),
        Trouble::Cut => on.cut(),
        Trouble::Unheard => on.lose(),
    }
}
