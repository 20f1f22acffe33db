//! The one token bucket for all calls to GitLab, with two lanes in front of it.
//!
//! Properties:
//! * Never more calls than the rate allows, over any time, besides one burst; whatever token they carry.
//! * Within a lane first come, first served. A background call goes only when no interactive one waits.
//! * Whoever waits hears of a pause that GitLab asked for meanwhile, and spends nothing.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::settings::Rate;

/// How urgent a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Lane {
    /// Somebody waits for what comes of it.
    #[default]
    Interactive,
    /// The resync and other housekeeping.
    Background,
}

#[derive(Debug)]
pub(super) struct Budget {
    rate: Rate,
    bucket: Mutex<Bucket>,
    /// Held by whoever is first in its lane.
    interactive: tokio::sync::Mutex<()>,
    background: tokio::sync::Mutex<()>,
    /// How many interactive calls wait.
    waiting: watch::Sender<usize>,
}

/// What was left at some time.
#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Budget {
    pub(super) fn new(rate: Rate) -> Self {
        Self {
            rate,
            bucket: Mutex::new(Bucket { tokens: rate.burst(), at: Instant::now() }),
            interactive: tokio::sync::Mutex::default(),
            background: tokio::sync::Mutex::default(),
            waiting: watch::Sender::new(0),
        }
    }

    /// Calls per second.
    pub(super) fn per_second(&self) -> f64 {
        self.rate.per_second()
    }

    /// How many calls could go at once now.
    pub(super) fn left(&self) -> f64 {
        self.filled(|bucket| bucket.tokens)
    }

    /// Waits for leave to make one call. `quiet` tells how long GitLab wants to hear nothing; while it does, there is none
    /// and that time is the error.
    pub(super) async fn leave(
        &self,
        lane: Lane,
        quiet: impl Fn() -> Option<Duration>,
    ) -> Result<(), Duration> {
        let (turns, _waits) = match lane {
            Lane::Interactive => (&self.interactive, Some(Waits::new(&self.waiting))),
            Lane::Background => (&self.background, None),
        };
        let _turn = turns.lock().await;
        let mut waiting = self.waiting.subscribe();
        loop {
            if lane == Lane::Background {
                // It fails only without a sender, which is ours.
                let _ = waiting.wait_for(|waiting| *waiting == 0).await;
            }
            if let Some(after) = quiet() {
                return Err(after);
            }
            match self.take() {
                None => return Ok(()),
                Some(wait) => tokio::time::sleep(wait).await,
            }
        }
    }

    /// Takes a token, or tells how long it is until there is one.
    fn take(&self) -> Option<Duration> {
        self.filled(|bucket| {
            if bucket.tokens >= 1.0 {
                bucket.tokens -= 1.0;
                return None;
            }
            let wait = Duration::from_secs_f64((1.0 - bucket.tokens) / self.rate.per_second());
            Some(wait.max(Duration::from_millis(1)))
        })
    }

    /// Puts in what has come since the last time, then does something with the bucket.
    fn filled<T>(&self, then: impl FnOnce(&mut Bucket) -> T) -> T {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let come = now.duration_since(bucket.at).as_secs_f64() * self.rate.per_second();
        *bucket = Bucket { tokens: (bucket.tokens + come).min(self.rate.burst()), at: now };
        then(&mut bucket)
    }
}

/// Counts an interactive call for as long as it waits, however that ends.
struct Waits<'a>(&'a watch::Sender<usize>);

impl<'a> Waits<'a> {
    fn new(waiting: &'a watch::Sender<usize>) -> Self {
        waiting.send_modify(|waiting| *waiting += 1);
        Self(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|waiting| *waiting -= 1);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;

    use proptest::prelude::*;
    use tokio::task::JoinSet;

    use super::*;

    const NEVER: fn() -> Option<Duration> = || None;

    fn budget(rate: &str) -> Arc<Budget> {
        Arc::new(Budget::new(rate.parse().unwrap()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_goes_at_once_and_the_rest_at_the_rate() {
        let budget = budget("20/s");
        let began = Instant::now();
        for _ in 0..20 {
            budget.leave(Lane::Interactive, NEVER).await.unwrap();
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert!(budget.left() < 1.0);
        for _ in 0..100 {
            budget.leave(Lane::Background, NEVER).await.unwrap();
        }
        let took = began.elapsed();
        assert!((5.0..5.5).contains(&took.as_secs_f64()), "{took:?}");
        tokio::time::sleep(Duration::from_mins(1)).await;
        assert!((budget.left() - 20.0).abs() < 1e-9, "a long rest saves no more than a burst");
    }

    #[tokio::test(start_paused = true)]
    async fn interactive_calls_overtake_background_ones_that_wait() {
        let budget = budget("1/s");
        budget.leave(Lane::Interactive, NEVER).await.unwrap();
        let (told, mut order) = tokio::sync::mpsc::unbounded_channel();
        let mut calls = JoinSet::new();
        let mut call = |name: &'static str, lane| {
            let (budget, told) = (Arc::clone(&budget), told.clone());
            calls.spawn(async move {
                budget.leave(lane, NEVER).await.unwrap();
                told.send(name).unwrap();
            });
        };
        call("resync 1", Lane::Background);
        call("resync 2", Lane::Background);
        tokio::time::sleep(Duration::from_millis(500)).await;
        call("look 1", Lane::Interactive);
        call("look 2", Lane::Interactive);
        while calls.join_next().await.is_some() {}
        drop(told);
        let mut names = Vec::new();
        while let Some(name) = order.recv().await {
            names.push(name);
        }
        assert_eq!(names, ["look 1", "look 2", "resync 1", "resync 2"]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_hears_of_a_pause_and_spends_nothing() {
        let budget = budget("1/s");
        budget.leave(Lane::Interactive, NEVER).await.unwrap();
        let pause = Cell::new(None);
        let waits = budget.leave(Lane::Interactive, || pause.get());
        let asks = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            pause.set(Some(Duration::from_secs(30)));
        };
        let (waited, ()) = tokio::join!(waits, asks);
        assert_eq!(waited, Err(Duration::from_secs(30)));
        assert!((budget.left() - 1.0).abs() < 1e-9);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_given_up_holds_nobody_up() {
        let budget = budget("1/m");
        budget.leave(Lane::Interactive, NEVER).await.unwrap();
        let given_up = budget.leave(Lane::Interactive, NEVER);
        assert!(tokio::time::timeout(Duration::from_secs(1), given_up).await.is_err());
        let began = Instant::now();
        budget.leave(Lane::Background, NEVER).await.unwrap();
        assert!(began.elapsed() <= Duration::from_mins(1));
    }

    proptest! {
        /// However calls come and whatever lane they take: no window of time holds more of them than rate and burst allow.
        #[test]
        fn no_window_of_time_holds_too_many(
            calls in prop::collection::vec((0u64..3_000, any::<bool>()), 1..60),
            rate in prop::sample::select(vec!["20/s", "3/s", "90/m"]),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            let times = runtime.block_on(async {
                let budget = budget(rate);
                let began = Instant::now();
                let mut all = JoinSet::new();
                for (at, urgent) in calls.clone() {
                    let budget = Arc::clone(&budget);
                    all.spawn(async move {
                        tokio::time::sleep(Duration::from_millis(at)).await;
                        let lane = if urgent { Lane::Interactive } else { Lane::Background };
                        budget.leave(lane, NEVER).await.unwrap();
                        began.elapsed().as_secs_f64()
                    });
                }
                let mut times = all.join_all().await;
                times.sort_by(f64::total_cmp);
                times
            });
            let rate: Rate = rate.parse().unwrap();
            prop_assert_eq!(times.len(), calls.len(), "every call goes at last");
            for (first, start) in times.iter().enumerate() {
                for (last, end) in times.iter().enumerate().skip(first) {
                    let allowed = rate.burst() + (end - start) * rate.per_second() + 1e-6;
                    let went = f64::from(u32::try_from(last - first + 1).unwrap());
                    prop_assert!(went <= allowed, "{} calls from {} s to {} s", went, start, end);
                }
            }
        }
    }
}
