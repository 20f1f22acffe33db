//! What the tests stand on: a real greenroom, a stand-in GitLab, and between them a wire that breaks on command.

#![allow(dead_code, reason = "a tool box: not every tool is in use at all times")]

pub mod browser;
pub mod cluster;
pub mod courier;
pub mod database;
pub mod gitlab;
pub mod greenroom;
pub mod openapi;
pub mod parts;
pub mod podman;
pub mod prism;
pub mod raw;
pub mod registry;
pub mod tls;
pub mod until;
pub mod wire;
pub mod world;

pub use until::until;

use std::{
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

/// How long a test waits for anything that must come: no measure of speed, machines are busy at times.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// The names in the first column of a page's table below this heading.
pub fn documented(page: &str, heading: &str) -> std::collections::BTreeSet<String> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let text = std::fs::read_to_string(path).unwrap();
    let (_, section) = text.split_once(&format!("\n## {heading}\n")).expect("the heading");
    let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
    let names = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    names.map(|(name, _)| name.to_owned()).collect()
}

/// A loopback address nobody listens on at the moment, and that nobody is given by chance: below the ports that the
/// kernel hands out, each one once. A greenroom that is started again finds its port free.
pub fn free_address() -> std::net::SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + u16::try_from(std::process::id() % 200).expect("below 200") * 100;
    (0..20_000)
        .map(|_| 10_000 + (first - 10_000 + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000)
        .map(|port| std::net::SocketAddr::from(([127, 0, 0, 1], port)))
        .find(|address| std::net::TcpListener::bind(address).is_ok())
        .expect("a free port")
}
