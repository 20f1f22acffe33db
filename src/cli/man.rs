//! `greenroom man`: the manual pages, made from what `--help` is made from.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use clap::CommandFactory;
use clap_mangen::Man;

use super::{Cli, Failure, output};

#[derive(Debug, clap::Args)]
pub(super) struct Flags {
    /// Write greenroom.1 and one page for each command into this folder, which is made if need be.
    #[arg(long, value_name = "FOLDER")]
    to: Option<PathBuf>,
}

pub(super) fn run(flags: &Flags) -> Result<(), Failure> {
    let Some(folder) = &flags.to else {
        let mut page = Vec::new();
        // `help` has no page of its own.
        Man::new(Cli::command().disable_help_subcommand(true)).render(&mut page)?;
        output::data(String::from_utf8_lossy(&page).trim_end());
        return Ok(());
    };
    fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), folder))
        .with_context(|| format!("the manual pages cannot be written to {}", folder.display()))?;
    Ok(())
}
