//! `greenroom adopt`: an empty store takes over another instance's previews.

use anyhow::anyhow;

use super::serve::{check_signing_token, open_store};
use super::{ConfigFlag, Failure, output};
use crate::settings::{Layer, Origin, Settings};

#[derive(Debug, clap::Args)]
pub(super) struct Flags {
    /// The instance that made them, as the log of `greenroom serve` names it.
    #[arg(long, value_name = "ID", value_parser = instance)]
    instance: String,
    #[command(flatten)]
    config: ConfigFlag,
    /// Folder for everything that is kept; as GREENROOM_DATA_DIR.
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<String>,
}

fn instance(text: &str) -> Result<String, String> {
    let valid = crate::preview::valid_dns_label(text);
    if valid { Ok(text.to_owned()) } else { Err(String::from("an id has 1 to 63 of `a-z`, `0-9` and `-`")) }
}

pub(super) async fn run(flags: Flags) -> Result<(), Failure> {
    let mut layer = Layer::default();
    layer.set("data_dir", flags.data_dir, Origin::Flag);
    let settings = Settings::load(flags.config.config.as_deref(), layer, check_signing_token)
        .map_err(|problems| Failure::Findings(problems.to_string()))?;
    let id = flags.instance;
    if let Some(chosen) = settings.instance.as_ref().filter(|chosen| **chosen != id) {
        return Err(Failure::Findings(format!(
            "error: GREENROOM_INSTANCE is `{chosen}`, so this greenroom cannot be `{id}`\nhint: unset it"
        )));
    }
    // Held while the store is changed: `serve` reads its id once, at its start.
    let (store, _lock) = open_store(&settings).await?;
    let known = store.previews().await?.len();
    if known > 0 {
        return Err(Failure::Failed(anyhow!(
            "this store has previews of its own ({known}), so it cannot become that of instance `{id}`\nhint: use the \
             store that `{id}` had, or an empty one"
        )));
    }
    store.note("instance", &id).await?;
    store.close().await;
    output::prose(&format!(
        "this store is that of instance `{id}` from now on; `greenroom serve` takes up what it finds of it"
    ));
    Ok(())
}
