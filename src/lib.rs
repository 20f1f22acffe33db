//! greenroom: a running copy of the app for every GitLab merge request.
//!
//! This file is the map. Data moves forward only, from top to bottom:
//!
//! | room | holds |
//! |---|---|
//! | [`preview`] | the domain, pure: ids, names, states, reasons, what we know of a merge request |
//! | [`clock`] | the only place that reads the time |
//! | [`settings`] | the only place that reads the environment and the settings file |
//! | [`outgoing`] | how others are reached over HTTP: trusted certificates, proxies |
//! | [`telemetry`] | logs and metrics |
//! | [`oidc`] | who a CI job is: GitLab's ID tokens, verified |
//! | [`webhook`] | GitLab's POST → a verified, stored hint |
//! | [`store`] | all SQL: deliveries, work queue, previews, history |
//! | [`gitlab`] | the only room that calls GitLab |
//! | [`process`] | child processes, with limits and without our environment |
//! | [`render`] | `.greenroom.yml` and the templates |
//! | [`engine`] | what runs previews: the `Engine` trait and the engines |
//! | [`checks`] | asks previews what their projects want to know, over HTTP |
//! | [`report`] | what people are told: comment, environment, deployment |
//! | [`hooks`] | GitLab's webhooks that lead here: how they should be, and whether they work |
//! | [`reconcile`] | desired → plan → apply, and who is looked at when |
//! | [`gateway`] | host name → preview |
//! | [`web`] | JSON API, health, metrics |
//! | [`sandbox`] | a GitLab in memory, for the demo and the tests |
//! | [`cli`] | one file per verb; wires the rooms together and prints |

pub mod checks;
pub mod cli;
pub mod clock;
pub mod engine;
pub mod gateway;
pub mod gitlab;
pub mod hooks;
pub mod oidc;
pub mod outgoing;
pub mod preview;
pub mod process;
pub mod reconcile;
pub mod render;
pub mod report;
pub mod sandbox;
pub mod settings;
pub mod store;
pub mod telemetry;
pub mod web;
pub mod webhook;
