//! The one test binary (linking is what costs time): black-box tests by capability, over one support library.
#![allow(
    clippy::disallowed_methods,
    reason = "tests read the switches of ci/test, start the binary and look at the clock; the rooms do not"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::missing_docs_in_private_items,
    missing_docs,
    unreachable_pub,
    reason = "in a test a panic is the failure report, and nobody outside uses these names"
)]

mod architecture;
mod artifacts;
mod browser;
mod checks;
mod cli;
mod commit_status;
mod connect;
mod doctor;
mod doubt;
mod engines;
mod histories;
mod hook_watch;
mod image;
mod jobs;
mod kubernetes;
mod lifecycle;
mod logs;
mod machinery;
mod mistrust;
mod network;
mod operator;
mod outage;
mod outside;
mod plan;
mod policy;
mod reference;
mod regression;
mod render;
mod report;
mod restart;
mod resync;
mod rotation;
mod sandbox;
mod settings;
mod stand_in;
mod store;
mod support;
mod tokens;
