//! A few branches, with merge requests and without, that CI jobs deploy and stop.

mod step;
mod story;
mod truth;

use super::all_end_well;
use story::Story;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_quiet_time_the_world_equals_the_truth() {
    all_end_well::<Story>(24).await;
}
