//! Previews on a real cluster, seen from outside.

mod bench;
mod conversations;
mod images;
mod outage;
mod registry;
pub mod town;
