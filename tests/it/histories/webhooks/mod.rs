//! A few merge requests whose pipelines build, and which greenroom deploys by itself.

mod step;
mod story;
mod truth;

use super::{all_end_well, mishap::Mishap::Kill, play};
use step::Step::{self, Meanwhile, Open, Push, Rest, StopByHand, Succeed};
use story::Story;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_quiet_time_the_world_equals_the_truth() {
    all_end_well::<Story>(32).await;
}

async fn plays(steps: &[Step]) {
    if let Err(failure) = play::<Story>(steps).await {
        panic!("{steps:?}\n{failure}");
    }
}

/// The stop was for the old head, though both were found at once.
#[tokio::test]
async fn stopped_by_hand_and_pushed_to_before_anybody_looked_the_new_head_counts() {
    let steps = [Open(0), Succeed(0), Rest, Meanwhile(Kill), StopByHand(0), Push(0)];
    plays(&steps).await;
    plays(&[&steps[..], &[Succeed(0)]].concat()).await;
}
