//! `greenroom open <project>!<iid>`: the link, and a browser that shows it where there is one. In a job: the link of the job's own.

use anyhow::anyhow;
use serde_json::Value;
use url::Url;

use super::client::{name, text};
use super::job::Whose;
use super::{Failure, output};
use crate::process;
use crate::settings::{browsers, search_path};

#[derive(Debug, clap::Args)]
pub(super) struct Flags {
    #[command(flatten)]
    whose: Whose,
    /// Print the link, and open no browser.
    #[arg(long)]
    print: bool,
}

pub(super) async fn run(flags: Flags) -> Result<(), Failure> {
    let in_job = flags.whose.is_job();
    let preview = flags.whose.preview().await?;
    let link: Url = text(&preview["url"]).parse()?;
    output::data(link.as_str());
    if let Some(why) = unseen(&preview) {
        return Err(Failure::Failed(anyhow!(why)));
    }
    if !flags.print && !in_job && matches!(link.scheme(), "http" | "https") {
        show(&link)?;
    }
    Ok(())
}

/// Why there is nothing to see at the link, if that is so.
fn unseen(preview: &Value) -> Option<String> {
    let name = name(preview);
    if preview["serving"].is_null() {
        let (state, reason) = (text(&preview["state"]), text(&preview["reason"]));
        return Some(format!("nothing is served there: {name} is {state}, because {reason}"));
    }
    preview["asleep_since"].is_string().then(|| format!("{name} sleeps; `greenroom wake '{name}'` wakes it"))
}

/// Has the first browser that is installed show the link. Without one, it was printed.
fn show(link: &Url) -> Result<(), Failure> {
    let path = search_path().unwrap_or_default();
    let Some(browser) = browsers().iter().find_map(|program| process::find(program, &path)) else {
        return Ok(());
    };
    process::launch(&browser, link.as_str())
        .map_err(|error| anyhow!(error).context(format!("cannot start {}", browser.display())).into())
}
