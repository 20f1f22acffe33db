//! Previews on a real cluster.

mod bench;
