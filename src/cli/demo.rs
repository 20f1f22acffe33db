//! placeholder
use super::{Failure, Output};
#[derive(Debug, clap::Args)]
pub(super) struct Flags {
    /// End when the story is told.
    #[arg(long)]
    once: bool,
}
pub(super) async fn run(_f: Flags, _o: Output) -> Result<(), Failure> { Ok(()) }
