//! The only room that knows the order of things: observe → desired → plan → apply → report.
//!
//! Needs: the store, GitLab ([`Forge`](crate::gitlab::Forge)) and an engine.
//!
//! Properties:
//! * Level-triggered: a hint only names what to look at. What to do is decided from what is observed now.
//! * `desired` and `plan` are pure.
//! * One key is worked on once at a time; a hint during a run causes exactly one more.
//! * An error, an empty list or a 404 removes nothing. A removal needs, in the same look, the merge request's own
//!   `GET` = 200 with `closed` or `merged`, or `opened` with a hand, policy or expiry reason. Of a branch without one its
//!   environment's says it: `stopped` or `stopping` (`branch.rs`).
//! * Removals for a reason that may be a mistake stop when they come in numbers (`brake.rs`). What is not shown, not served
//!   (`unseen.rs`), not remembered (`sweep.rs`) or another instance's (`foreign.rs`) is left, and reported.
//! * Neither serving nor removing waits for what people are told: where GitLab refuses an environment, a deployment or a
//!   comment, the look goes on without.
//! * Intent is saved before each step that makes something outside, its result after: a crash between any two steps is
//!   mended by the next look.
//!
//! Races, and what was decided:
//! * *A push while a deploy is being prepared*: the head is read again after the artifact is there; when it moved, the
//!   deploy is dropped and the key is looked at again at once.
//! * *A push while the engine works*: the engine lets the newest order win; the older deployment ends as cancelled, or
//!   as a success when it came to serve in between.
//! * *The engine is done while the look that ordered it goes on*: that look waits a moment for the engine's event and
//!   takes it for itself; it asks the engine after it has stopped waiting, so an event that comes late is seen too.
//! * *A commit status that runs for a deploy that nobody waits for any more*: ended at the next look (`commit_status.rs`).
//! * *Close while the engine works*: `stop` makes the engine forget the order; desired is "gone" from then on.
//! * *Close and reopen before we looked*: the webhook says that it was a reopen, which lifts a stop by hand and an expiry,
//!   and makes a new environment where GitLab stopped the old one at the close.
//! * *The operator asks during a look*: what was asked for has a row of its own, which the look does not touch, and the
//!   next look follows at once (`store/intents.rs`). Of a stop and a reopen the later one counts.
//! * *A reopen before the removal came to its end*: the environment is stopped, and nobody did that by hand. Only one that
//!   was seen to be available counts.
//! * *Two previews want a project's last place*: one transaction gives it to one of them; the other looks again, and waits.

mod act;
mod admission;
mod alone;
mod apply;
mod awaited;
mod brake;
mod branch;
mod by_hand;
mod checks;
mod commit_status;
mod controller;
mod deploy;
mod desired;
mod dry_run;
mod elsewhere;
mod engines;
mod foreign;
mod intent;
#[cfg(test)]
mod laws;
mod look;
mod manifests;
mod moving;
mod observe;
mod orders;
mod places;
mod plan;
mod resync;
mod sleep;
mod sweep;
mod unreachable;
mod unseen;
mod uploads;

pub use admission::{Admitted, Jobs, Refusal};
pub use alone::{Alone, AloneError};
pub use awaited::Awaited;
pub use brake::{Brake, BrakeState};
pub use controller::{Controller, Links, Parts};
pub use desired::{Decision, Desired, Facts, FileFact, HeadFact, Life, Target, desired};
pub use dry_run::{Outlook, PlanError, Planned, Planner};
pub use engines::Engines;
pub use foreign::{foreign_instances, forget_foreign_instances};
pub use manifests::OnCluster;
pub use moving::Strays;
pub use plan::{Step, plan};
pub use uploads::{UploadError, Uploads};
