//! GitLab's webhooks that lead here: how they should be, and whether they do their work.
//!
//! Needs: a token with the role Maintainer in the project; only that role may see webhooks. Without it nothing is done, and
//! one warning says so.
//!
//! | file | holds |
//! |---|---|
//! | `plan` | what is to be changed so that a project tells us what we need to know (pure) |
//! | `lost` | which failed deliveries are worth sending again (pure) |
//! | `watch` | what `serve` does: warn, switch on again, send again |
//!
//! Properties:
//! * A webhook is ours by its URL alone. Others are never touched.
//! * Nothing is weakened: no token is taken away, no verification is switched off, and the URL stays as it was written, for
//!   GitLab drops the secret token of a hook whose URL changes.
//! * A delivery is sent again only if the store does not know its id, and at most twice. Of ids that GitLab does not tell
//!   nothing is sent again.
//! * Nothing here is needed for previews to be right: what no delivery told, the resync finds.
//!
//! Races, and what was decided:
//! * *A delivery failed for GitLab and reached us all the same* (it hung up before our answer): the store knows its id.
//! * *Two replicas send the same delivery again*: the second is a repetition, which changes nothing.
//! * *The webhook is changed while we look*: a change names only what it sets, and a test request proves the outcome.
//! * *GitLab goes away in the middle*: what was found of a project stands until it is looked at again.

mod lost;
mod plan;
mod watch;

pub use plan::{Change, EVENTS, Proof, Unprovable, missing_events, ours, plan};
pub use watch::Watch;
