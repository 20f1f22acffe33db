//! Previews on a real cluster, seen from outside.

mod bench;
mod checks;
mod conversations;
mod images;
mod outage;
mod plan;
mod registry;
mod sleep;
mod town;
