//! What the tests stand on: a real greenroom, a stand-in GitLab, and between them a wire that breaks on command.

#![allow(dead_code, reason = "a tool box: not every tool is in use at all times")]

pub mod browser;
pub mod gitlab;
pub mod greenroom;
pub mod openapi;
pub mod parts;
pub mod prism;
pub mod until;
pub mod wire;
pub mod world;

pub use until::until;

/// A loopback address nobody listens on at the moment.
pub fn free_address() -> std::net::SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
}
