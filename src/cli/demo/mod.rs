//! `greenroom demo`: the whole thing on this machine, told as a conversation.

mod stage;

use super::Failure;
use super::serve::asked_to_end;
use crate::telemetry;

use stage::{Page, Stage, say, scene};

#[derive(Debug, clap::Args)]
pub(super) struct Flags {
    /// End when the story is told, instead of serving the last preview until Ctrl-C.
    #[arg(long)]
    once: bool,
    /// What to log besides, such as `info`.
    #[arg(long, value_name = "FILTER", default_value = "error")]
    log: String,
}

pub(super) async fn run(flags: Flags) -> Result<(), Failure> {
    telemetry::start(false, &flags.log);
    let mut stage = Stage::set().await?;
    let told = story(&mut stage, &flags).await;
    stage.strike().await;
    told.map_err(Failure::Failed)
}

async fn story(stage: &mut Stage, flags: &Flags) -> anyhow::Result<()> {
    scene("A developer opens a merge request");
    stage.push("brighter-header", "Make the header brighter").await?;
    let first = stage.open_merge_request("brighter-header", "Make the header brighter").await?;
    stage.expect(first, "waiting").await?;

    scene("CI runs; its job `build` leaves an artifact");
    let page = Page { headline: "A brighter header", text: "The first version, as pushed." };
    stage.run_pipeline(first, Some(page)).await?;
    stage.expect(first, "ready").await?;
    stage.visit(first, 200, page.headline).await?;

    scene("A second push: the page changes, link and comment stay");
    stage.push("brighter-header", "Warmer, too").await?;
    let page = Page { headline: "A brighter, warmer header", text: "The second version." };
    stage.run_pipeline(first, Some(page)).await?;
    stage.expect(first, "ready").await?;
    stage.visit(first, 200, page.headline).await?;

    scene("A third push breaks the build: the last good preview stays");
    stage.push("brighter-header", "Break the build").await?;
    stage.run_pipeline(first, None).await?;
    stage.expect(first, "failed").await?;
    stage.visit(first, 200, page.headline).await?;

    scene("The merge request is closed: everything goes");
    stage.close(first).await?;
    stage.expect(first, "stopped").await?;
    stage.visit(first, 410, "").await?;
    stage.prove_gone(first).await?;

    scene("Another merge request, left open");
    stage.push("new-footer", "Add a footer").await?;
    let second = stage.open_merge_request("new-footer", "Add a footer").await?;
    let page = Page { headline: "Now with a footer", text: "Press the button: this is a real page." };
    stage.run_pipeline(second, Some(page)).await?;
    stage.expect(second, "ready").await?;
    stage.visit(second, 200, page.headline).await?;

    if flags.once {
        say("That was all of it.");
        return Ok(());
    }
    let url = stage.url(second).await?;
    say(&format!("Open {url} in a browser. Ctrl-C ends the demo and removes what it made."));
    asked_to_end().await?;
    Ok(())
}
