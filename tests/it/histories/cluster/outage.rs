//! What goes wrong between greenroom and the API server.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::hands::ControlPlane;
use crate::histories::mishap::Moment;
use crate::support::{greenroom::Greenroom, wire::Wire};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outage {
    /// What happens to these requests: after so many that pass, to so many.
    Requests(Verbs, Trouble, usize, usize),
    /// `kill -9` for greenroom at the n-th of these requests from here.
    KillAt(Verbs, usize, Moment),
    /// Nobody reaches the API server, until it is back.
    Unreachable,
    /// It takes requests and answers none, nor do watches show anything, until it is back.
    Frozen,
    Back,
    /// Every connection breaks.
    HangUp,
    /// `kill -9` for the real API server, and it is started again.
    Dies,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbs {
    All,
    Reads,
    Creates,
    Patches,
    Deletes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    Answer500,
    Answer429,
    /// The account may not do it.
    Answer403,
    /// The token is not known.
    Answer401,
    Cut,
    /// It is done, and the answer is lost.
    Unheard,
}

pub fn outage() -> impl Strategy<Value = Outage> {
    let verbs = || {
        prop_oneof![
            3 => Just(Verbs::All),
            2 => Just(Verbs::Reads),
            1 => Just(Verbs::Creates),
            4 => Just(Verbs::Patches),
            1 => Just(Verbs::Deletes),
        ]
    };
    let trouble = prop_oneof![
        2 => Just(Trouble::Answer500),
        1 => Just(Trouble::Answer429),
        2 => Just(Trouble::Answer403),
        1 => Just(Trouble::Answer401),
        2 => Just(Trouble::Cut),
        3 => Just(Trouble::Unheard),
    ];
    let many = prop_oneof![3 => 1_usize..6, 1 => Just(1_000)];
    let requests = (verbs(), trouble, 0_usize..8, many);
    let kill = (verbs(), 1_usize..12, prop_oneof![Just(Moment::Before), Just(Moment::After)]);
    prop_oneof![
        8 => requests.prop_map(|(verbs, trouble, pass, many)| Outage::Requests(verbs, trouble, pass, many)),
        8 => kill.prop_map(|(verbs, n, moment)| Outage::KillAt(verbs, n, moment)),
        2 => Just(Outage::Unreachable),
        2 => Just(Outage::Frozen),
        2 => Just(Outage::Back),
        3 => Just(Outage::HangUp),
        1 => Just(Outage::Dies),
    ]
}

impl Outage {
    /// Lets it happen; what happened, in words.
    pub async fn happen(self, wire: &Wire, greenroom: &Greenroom, plane: &ControlPlane) -> Option<String> {
        Some(match self {
            Self::Requests(verbs, trouble, pass, many) => {
                let on = verbs.on(wire).after_passing(pass, many);
                match trouble {
                    Trouble::Answer500 => {
                        on.answer(500, &JSON, &status(500, "InternalError", "etcd is slow"));
                    }
                    Trouble::Answer429 => {
                        on.answer(429, &JSON, &status(429, "TooManyRequests", "storage is (re)initializing"));
                    }
                    Trouble::Answer403 => on.answer(403, &JSON, &status(403, "Forbidden", FORBIDDEN)),
                    Trouble::Answer401 => on.answer(401, &JSON, &status(401, "Unauthorized", "Unauthorized")),
                    Trouble::Cut => on.cut(),
                    Trouble::Unheard => on.lose(),
                }
                format!("requests to the API server, {verbs:?}: {pass} pass, then {many} times {trouble:?}")
            }
            Self::KillAt(verbs, n, moment) if greenroom.is_running() => {
                let (kill, request) = (greenroom.kill_switch(), verbs.on(wire).nth(n));
                match moment {
                    Moment::Before => request.instead(kill),
                    Moment::After => request.after(kill),
                }
                format!("greenroom dies at request {n} from here to the API server, {verbs:?}, {moment:?}")
            }
            Self::KillAt(..) => return None,
            Self::Unreachable => {
                wire.cut();
                wire.hang_up();
                "nobody reaches the API server".to_owned()
            }
            Self::Frozen => {
                wire.freeze();
                "the API server freezes".to_owned()
            }
            Self::Back => back(wire),
            Self::HangUp => {
                wire.hang_up();
                "every connection to the API server breaks".to_owned()
            }
            Self::Dies => {
                plane.dies().await;
                "the API server dies, and is started again".to_owned()
            }
        })
    }
}

/// The way to the API server is free again; in words.
pub fn back(wire: &Wire) -> String {
    wire.heal();
    wire.thaw();
    "the API server is back".to_owned()
}

impl Verbs {
    fn on(self, wire: &Wire) -> crate::support::wire::On<'_> {
        match self {
            Self::All => wire.any(),
            Self::Reads => wire.on("GET", "*"),
            Self::Creates => wire.on("POST", "*"),
            Self::Patches => wire.on("PATCH", "*"),
            Self::Deletes => wire.on("DELETE", "*"),
        }
    }
}

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];
const FORBIDDEN: &str = "it is forbidden: User \"system:serviceaccount:greenroom:greenroom\" cannot do that to resource \
                         \"things\" in API group \"\" at the cluster scope";

fn status(code: u16, reason: &str, message: &str) -> String {
    let status: Value = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    });
    status.to_string()
}
