//! Previews on a real cluster, seen from outside.

mod bench;
mod checks;
mod conversations;
mod credentials;
mod images;
mod installation;
mod moves;
mod outage;
mod plan;
mod registry;
mod sleep;
pub mod town;
