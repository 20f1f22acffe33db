//! The sandbox behaves as GitLab does: one test per fact of GitLab's contract, told over HTTP.

mod access;
mod bodies;
mod delivery;
mod environments;
mod events;
mod faults;
mod hooks;
mod id_tokens;
mod merge_requests;
mod notes;
mod pipelines;
mod repository;
mod statuses;
mod world;
