//! Random histories: whatever people and jobs do, whatever is lost, repeated, shuffled or refused, and wherever greenroom is
//! killed, after a quiet time the world equals the truth.
//!
//! `webhooks` are of merge requests that greenroom deploys itself, `jobs` of branches and merge requests that jobs deploy,
//! `cluster` of merge requests whose previews are on a real cluster. In each, `step.rs` says what may happen, `story.rs` lets
//! it happen to the real program, and `truth.rs` is an oracle that knows nothing of greenroom: it reads GitLab's side (`side.rs`),
//! the cluster, and what was built, and says what must be seen.
//!
//! `GREENROOM_TEST_HISTORIES=500` plays more of them, `GREENROOM_TEST_SEED=1000` others. A history that fails is made
//! smaller and printed in a form that the tests beside them take.

mod cluster;
mod jobs;
mod mishap;
mod side;
mod webhooks;

use std::fmt::Debug;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use proptest::{
    strategy::{BoxedStrategy, Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use crate::support::{
    PATIENCE,
    world::{World, page},
};

/// Histories that are played at once: most of their time they wait.
const AT_ONCE: usize = 8;

/// The pause between two looks at whether the world equals the truth, where a look costs little.
const GLANCE: Duration = Duration::from_millis(50);

/// How long a failing history is made smaller.
const SHRINKING: Duration = Duration::from_mins(3);

/// A history of one kind as it happens.
trait Story: Sized + Send + Sync + 'static {
    type Step: Debug + Copy + Send + Sync + 'static;

    /// All is healed, and the world must equal the truth.
    const REST: Self::Step;

    fn histories() -> BoxedStrategy<Vec<Self::Step>>;

    fn begin() -> impl Future<Output = Self> + Send;

    fn happen(&mut self, step: Self::Step) -> impl Future<Output = Result<(), String>> + Send;

    /// Whether what certainly serves still does.
    fn unbroken(&self) -> impl Future<Output = Result<(), String>> + Send;

    /// The world, and what really happened in it, in words; what else there was is cleared away.
    fn end(self) -> impl Future<Output = (World, Vec<String>)> + Send;
}

/// Plays a history to its end. A failure tells what happened, what is wrong, and greenroom's last words.
async fn play<S: Story>(steps: &[S::Step]) -> Result<(), String> {
    let mut story = S::begin().await;
    let mut outcome = Ok(());
    for step in steps.iter().chain([&S::REST]) {
        outcome = story.happen(*step).await;
        if outcome.is_ok() {
            outcome = story.unbroken().await;
        }
        if outcome.is_err() {
            break;
        }
    }
    let (world, said) = story.end().await;
    let outcome = outcome.map_err(|failure| failed(&world, &said, &failure));
    world.end().await;
    outcome
}

fn number(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).map_or(usual, |text| text.parse().expect("a number"))
}

/// The history of this seed, and its smaller ones.
fn history<S: Story>(seed: u64) -> impl ValueTree<Value = Vec<S::Step>> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    S::histories().new_tree(&mut runner).expect("a history")
}

/// Plays a history on a task of its own: a panic is a failure like any other.
async fn outcome<S: Story>(steps: Vec<S::Step>) -> Result<(), String> {
    let played = tokio::spawn(async move { play::<S>(&steps).await });
    played.await.unwrap_or_else(|panic| Err(format!("{panic}")))
}

/// The smallest history found that still fails, and how.
async fn smallest<S: Story>(seed: u64, failure: String) -> (Vec<S::Step>, String) {
    let (began, mut tree, mut found) = (Instant::now(), history::<S>(seed), failure);
    let mut smallest = tree.current();
    if !tree.simplify() {
        return (smallest, found);
    }
    while began.elapsed() < SHRINKING {
        let goes_on = match outcome::<S>(tree.current()).await {
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

/// Plays so many histories of a kind, if nobody asks for more.
async fn all_end_well<S: Story>(usual: u64) {
    let (first, count) = (number("GREENROOM_TEST_SEED", 0), number("GREENROOM_TEST_HISTORIES", usual));
    let failures: Vec<(u64, String)> = stream::iter(first..first + count)
        .map(|seed| async move {
            let failure = outcome::<S>(history::<S>(seed).current()).await.err()?;
            eprintln!("== seed {seed} fails: {:?}\n{failure}", history::<S>(seed).current());
            Some((seed, failure))
        })
        .buffer_unordered(AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await;
    let Some((seed, failure)) = failures.first().cloned() else { return };
    let (steps, failure) = smallest::<S>(seed, failure).await;
    panic!(
        "{} of {count} histories fail; the smallest one found, from seed {seed}: {steps:?}\n{failure}",
        failures.len()
    );
}

/// What happened, what is wrong, and greenroom's last words.
fn failed(world: &World, said: &[String], failure: &str) -> String {
    let log = world.greenroom.log();
    let lines: Vec<_> = log.lines().collect();
    let last = lines[lines.len().saturating_sub(60)..].join("\n");
    format!("{}\nafter which {failure}\ngreenroom said last:\n{last}", said.join("\n"))
}

/// Waits until the world equals the truth and stays so.
///
/// On its way it may look like the truth: what is still to be done, or comes late, or is found by the net, changes it once
/// more, but not for ever.
async fn comes_to_stay<F: Future<Output = Result<(), String>>>(
    world: &World,
    pause: Duration,
    equals: impl Fn() -> F,
) -> Result<(), String> {
    let began = Instant::now();
    let mut since = None;
    loop {
        let lists = world.wire.count("GET", "*/merge_requests");
        let difference = equals().await.err();
        match since {
            _ if difference.is_some() => since = None,
            None => since = Some(lists),
            // Two resyncs came and found nothing.
            Some(before) if lists >= before + 2 => return Ok(()),
            Some(_) => {}
        }
        if began.elapsed() > PATIENCE {
            let difference = difference.unwrap_or_else(|| "no resync comes".to_owned());
            return Err(format!("the world does not come to equal the truth for long: {difference}"));
        }
        tokio::time::sleep(pause).await;
    }
}

/// What the link shows.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Shown {
    /// Nothing, for good.
    Gone,
    /// Nothing yet.
    Nothing,
    Text(String),
}

/// What a reviewer sees; nothing where nobody answers.
async fn visit(world: &World, url: &str) -> Option<Shown> {
    let host = url.split_once("://")?.1;
    let answer = world.greenroom.try_get(host, "/").await?;
    let status = answer.status().as_u16();
    let body = answer.text().await.ok()?;
    Some(match status {
        200 => {
            let title = body.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>"));
            let text = title.map_or(body.as_str(), |(text, _)| text).to_owned();
            Shown::Text(if body == page(&text) { text } else { body })
        }
        410 => Shown::Gone,
        _ => Shown::Nothing,
    })
}

/// The engine's pointers, one for each preview that it serves.
fn engine_files(world: &World) -> Vec<String> {
    let folder = std::fs::read_dir(world.greenroom.data().join("static/previews"));
    let files = folder.into_iter().flatten().filter_map(Result::ok);
    files.map(|file| file.file_name().to_string_lossy().into_owned()).collect()
}
