//! Previews on a real cluster, seen from outside.

mod bench;
mod conversations;
mod credentials;
mod images;
mod installation;
mod moves;
mod outage;
mod registry;
mod town;
