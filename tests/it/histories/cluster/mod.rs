//! A few merge requests whose previews are in namespaces of a real cluster.

mod hands;
mod known;
mod outage;
mod revision;
mod step;
mod story;
mod truth;

use super::all_end_well;
use hands::ControlPlane;
use story::Story;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_quiet_time_cluster_and_gitlab_equal_the_truth() {
    if ControlPlane::start().await.is_some() {
        all_end_well::<Story>(24).await;
    }
}
