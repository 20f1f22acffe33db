//! Waiting for something to become true, with a deadline; tests have no other way to wait.

use std::{
    fmt::Debug,
    future::Future,
    time::{Duration, Instant},
};

/// One look at the world: what was waited for, or what was there instead.
pub trait Look {
    type Found;
    /// What was found, or a description of what was seen.
    fn found(self) -> Result<Self::Found, String>;
}

impl<T> Look for Option<T> {
    type Found = T;
    fn found(self) -> Result<T, String> {
        self.ok_or_else(|| "nothing".to_owned())
    }
}

impl<T, E: Debug> Look for Result<T, E> {
    type Found = T;
    fn found(self) -> Result<T, String> {
        self.map_err(|seen| format!("{seen:#?}"))
    }
}

/// Looks again and again until `look` finds what it wants. Past the deadline it panics with `what` and what was seen last;
/// a `look` that answers `Err(seen)` rather than `None` makes that message worth reading.
#[track_caller]
pub fn until<L, F>(
    what: &str,
    deadline: Duration,
    mut look: L,
) -> impl Future<Output = <F::Output as Look>::Found>
where
    L: FnMut() -> F,
    F: Future<Output: Look>,
{
    let caller = std::panic::Location::caller();
    async move {
        let began = Instant::now();
        loop {
            let seen = match look().await.found() {
                Ok(found) => return found,
                Err(seen) => seen,
            };
            assert!(
                began.elapsed() < deadline,
                "{caller}: not within {deadline:?}: {what}; last seen: {seen}"
            );
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }
}
