//! greenroom

pub mod sandbox;
