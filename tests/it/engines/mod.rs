//! The engines behind the trait, without the rest of greenroom: what every engine promises ([`contract`]), and what one of them
//! does beyond that.

mod contract;
mod kubernetes;
mod static_site;

use std::sync::Arc;

use async_trait::async_trait;
use greenroom::{
    engine::{Engine, Errand, Order, Progress, Status},
    preview::{PreviewKey, PreviewName, Sha},
};
use tokio::sync::broadcast;

use crate::support::{PATIENCE, until};

/// What a bench is asked to run.
#[derive(Debug, Clone, Copy)]
pub enum App {
    /// Something that works, in this version.
    Works(u8),
    /// Something the engine has to refuse.
    Broken,
}

/// An engine that can be given orders and opened again.
#[async_trait]
pub trait Bench: Send {
    fn engine(&self) -> Arc<dyn Engine>;
    /// An order for that preview at the commit of so many `sha`s.
    fn order(&self, name: &PreviewName, sha: char, app: App) -> Order;
    /// An order that is for another engine.
    fn misdirected(&self, name: &PreviewName) -> Order;
    /// A program that runs beside that preview, and whether it ends well.
    fn errand(&self, name: &PreviewName, run: &str, ends_well: bool) -> Errand {
        kubernetes::errand(name, run, ends_well)
    }
    /// As if greenroom was ended and started.
    async fn reopen(&mut self);
}

pub fn commit(digit: char) -> Sha {
    Sha::parse(&digit.to_string().repeat(40)).unwrap()
}

/// A preview that no other test has: of the merge request with that number.
pub fn preview(iid: u64) -> (PreviewName, PreviewKey) {
    let key = PreviewKey::of_mr(5005, iid);
    (PreviewName::new("acme/web", key, ""), key)
}

/// Gives an order and waits until it is served or given up.
pub async fn run(engine: &dyn Engine, order: Order) -> Status {
    let name = order.name.clone();
    let mut events = engine.events();
    engine.apply(order).await.unwrap();
    settled(engine, &mut events, &name).await
}

/// Waits for an engine's events until the newest order is served or given up.
pub async fn settled(
    engine: &dyn Engine,
    events: &mut broadcast::Receiver<PreviewKey>,
    name: &PreviewName,
) -> Status {
    let mut last = Status::default();
    let wait = async {
        loop {
            last = engine.status(name).await.unwrap();
            if !matches!(last.pending, Some((_, _, Progress::Working))) {
                return;
            }
            events.recv().await.unwrap();
        }
    };
    let waited = tokio::time::timeout(PATIENCE, wait).await;
    assert!(waited.is_ok(), "the order does not end: {last:#?}");
    last
}

/// Stops a preview, again and again until nothing is left.
pub async fn stopped(engine: &dyn Engine, name: &PreviewName) {
    until("nothing is left", PATIENCE * 2, || async {
        let left = engine.stop(name).await.unwrap();
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
}
