//! The engine for teams with a cluster: a namespace per preview.

mod profile;

pub use profile::{Egress, PodSecurity, Profile};
