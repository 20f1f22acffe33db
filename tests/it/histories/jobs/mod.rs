//! A few branches, with merge requests and without, that CI jobs deploy and stop.

mod step;
mod story;
mod truth;

use proptest::strategy::{BoxedStrategy, Strategy};

use super::{Kind, all_end_well};
use step::Step;

struct Jobs;

impl Kind for Jobs {
    type Step = Step;

    fn histories() -> BoxedStrategy<Vec<Step>> {
        step::history().boxed()
    }

    fn play(steps: &[Step]) -> impl Future<Output = Result<(), String>> + Send {
        story::play(steps)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_quiet_time_the_world_equals_the_truth() {
    all_end_well::<Jobs>(24).await;
}
