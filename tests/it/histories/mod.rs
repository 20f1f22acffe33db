//! Random histories of a few merge requests: whatever people do, whatever is lost, repeated, shuffled or refused, and
//! wherever greenroom is killed, after a quiet time the world equals the truth.
//!
//! `step.rs` says what may happen, `story.rs` lets it happen to the real program, and `truth.rs` is an oracle that knows
//! nothing of greenroom: it reads GitLab's side and what was built, and says what must be seen.
//!
//! `GREENROOM_TEST_HISTORIES=500` plays more of them, `GREENROOM_TEST_SEED=1000` others. A history that fails is made
//! smaller and printed in a form that the tests at the end of this file take.

mod step;
mod story;
mod truth;

use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use step::Step::{self, Kill, Open, Push, Rest, StopByHand, Succeed};
use story::play;

/// Histories that are played at once: most of their time they wait.
const AT_ONCE: usize = 8;

/// How long a failing history is made smaller.
const SHRINKING: Duration = Duration::from_mins(3);

fn number(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).map_or(usual, |text| text.parse().expect("a number"))
}

/// The history of this seed, and its smaller ones.
fn history(seed: u64) -> impl ValueTree<Value = Vec<Step>> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    step::history().new_tree(&mut runner).expect("a history")
}

/// Plays a history on a task of its own: a panic is a failure like any other.
async fn outcome(steps: Vec<Step>) -> Result<(), String> {
    let played = tokio::spawn(async move { play(&steps).await });
    played.await.unwrap_or_else(|panic| Err(format!("{panic}")))
}

/// The smallest history found that still fails, and how.
async fn smallest(seed: u64, failure: String) -> (Vec<Step>, String) {
    let (began, mut tree, mut found) = (Instant::now(), history(seed), failure);
    let mut smallest = tree.current();
    if !tree.simplify() {
        return (smallest, found);
    }
    while began.elapsed() < SHRINKING {
        let goes_on = match outcome(tree.current()).await {
            Err(failure) => {
                (smallest, found) = (tree.current(), failure);
                tree.simplify()
            }
            Ok(()) => tree.complicate(),
        };
        if !goes_on {
            break;
        }
    }
    (smallest, found)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_quiet_time_the_world_equals_the_truth() {
    let (first, count) = (number("GREENROOM_TEST_SEED", 0), number("GREENROOM_TEST_HISTORIES", 32));
    let failures: Vec<(u64, String)> = stream::iter(first..first + count)
        .map(|seed| async move {
            let failure = outcome(history(seed).current()).await.err()?;
            eprintln!("== seed {seed} fails: {:?}\n{failure}", history(seed).current());
            Some((seed, failure))
        })
        .buffer_unordered(AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await;
    let Some((seed, failure)) = failures.first().cloned() else { return };
    let (steps, failure) = smallest(seed, failure).await;
    panic!(
        "{} of {count} histories fail; the smallest one found, from seed {seed}: {steps:?}\n{failure}",
        failures.len()
    );
}

async fn plays(steps: &[Step]) {
    if let Err(failure) = play(steps).await {
        panic!("{steps:?}\n{failure}");
    }
}

/// The stop was for the old head, though both were found at once.
#[tokio::test]
async fn stopped_by_hand_and_pushed_to_before_anybody_looked_the_new_head_counts() {
    plays(&[Open(0), Succeed(0), Rest, Kill, StopByHand(0), Push(0)]).await;
    plays(&[Open(0), Succeed(0), Rest, Kill, StopByHand(0), Push(0), Succeed(0)]).await;
}
