//! One file per verb; the only place that wires rooms together and prints.
//!
//! Exit codes: 0 done, 1 failed, 2 usage or findings, 3 unavailable (try again).
//! Data goes to stdout, prose to stderr.

mod adopt;
mod brake;
mod check;
mod client;
mod clusters;
mod connect;
mod demo;
mod desk;
mod doctor;
mod health;
mod init;
mod install;
mod job;
mod list;
mod logs;
mod man;
mod open;
mod output;
mod plan;
mod refresh;
mod render;
mod sandbox;
mod secrets;
mod serve;
mod sleep;
mod stop;
mod why;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::render::kubernetes::{APART, render_apart};

/// A running copy of the app for every GitLab merge request.
#[derive(Debug, Parser)]
#[command(
    name = "greenroom",
    version,
    about,
    max_term_width = 100,
    after_help = "Exit codes: 0 done, 1 failed, 2 used wrongly or something was found, 3 a server does not answer."
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Receive webhooks, keep previews as they should be, and serve them.
    Serve(serve::Flags),
    /// Show the whole thing on this machine: a GitLab in memory, a merge request, its preview.
    Demo(demo::Flags),
    /// Serve a GitLab in memory, for trials and tests.
    Sandbox(sandbox::Flags),
    /// Check the settings, a `.greenroom.yml` with its templates, and the include in `.gitlab-ci.yml`. Exit code 2 when
    /// something is found.
    Check(check::Flags),
    /// In a CI job: have this head's preview made, show how it goes, and end as it ends.
    Deploy(job::Flags),
    /// Write a first `.greenroom.yml` for what lies in a repository, and say why.
    Init(init::Flags),
    /// Print what greenroom needs in a Kubernetes cluster.
    Install(install::Flags),
    /// Print the objects of a preview on a cluster, without asking anybody.
    Render(render::Flags),
    /// Render templates that are read from stdin, where nothing else is harmed.
    #[command(name = APART, hide = true)]
    RenderApart,
    /// Make or repair the webhooks of projects in GitLab, and prove that they lead here.
    Connect(connect::Flags),
    /// List every preview of a running server.
    List(list::Flags),
    /// Ask a running server why a merge request's preview is as it is. In a CI job: the job's own.
    Why(why::Flags),
    /// Print the link of a merge request's preview, and open it where there is a browser. In a CI job: that of the job's own.
    Open(open::Flags),
    /// Print what happened to a merge request's preview, oldest first.
    Logs(logs::Flags),
    /// Show what would be done for a merge request now, and do nothing. Exit code 2 when something would. In a CI job: for
    /// the job's own, as if it deployed.
    Plan(plan::Flags),
    /// Take a merge request's preview away, until a new commit, a reopen or a refresh. In a CI job: the job's own, and wait for it.
    Stop(stop::Flags),
    /// Look at a merge request anew: lifts a stop, tries again what failed, begins its life again.
    Refresh(refresh::Flags),
    /// Scale a merge request's preview on a cluster to nothing, until a wake, a refresh or a new commit.
    Sleep(sleep::Flags),
    /// Bring back a preview that was put to sleep.
    Wake(sleep::Flags),
    /// Find out what is wrong, and what to do about it. Exit code 1 when something is.
    Doctor(doctor::Flags),
    /// Ask the server on this machine whether it is ready, as a container's health check does.
    Health(health::Flags),
    /// Show the removals that a running server holds back because they are many at once, or let them go on.
    Brake(brake::Flags),
    /// Make an empty store that of another instance, whose store was lost. While `serve` is stopped.
    Adopt(adopt::Flags),
    /// Print the JSON Schema of `.greenroom.yml`.
    Schema,
    /// Print every setting with its default, as a commented `greenroom.toml`.
    Defaults,
    /// Print completions for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write the pages of all commands.
    Man(man::Flags),
}

/// Where the settings come from.
#[derive(Debug, Clone, Default, clap::Args)]
struct ConfigFlag {
    /// A `greenroom.toml` with settings; see `greenroom defaults`.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// How a verb ended, short of success.
#[derive(Debug)]
enum Failure {
    /// It did not work.
    Failed(anyhow::Error),
    /// Used wrongly, or something was found.
    Findings(String),
    /// Somebody we need does not answer.
    Unavailable(anyhow::Error),
}

impl Failure {
    /// Of several failures the heaviest decides how a verb ends.
    const fn weight(&self) -> u8 {
        match self {
            Self::Findings(_) => 0,
            Self::Unavailable(_) => 1,
            Self::Failed(_) => 2,
        }
    }

    /// What went wrong, in words.
    fn told(&self) -> String {
        match self {
            Self::Findings(text) => text.clone(),
            Self::Failed(error) | Self::Unavailable(error) => told(error),
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Runs the binary.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    // One crypto provider for the whole process; a second install would be a mistake of ours.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let ended = match cli.verb {
        Verb::Schema => schema(),
        Verb::Defaults => {
            output::data(crate::settings::DEFAULTS.trim_end());
            Ok(())
        }
        Verb::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "greenroom", &mut text);
            output::data(String::from_utf8_lossy(&text).trim_end());
            Ok(())
        }
        Verb::Man(flags) => man::run(&flags),
        Verb::Check(flags) => run(check::run(flags)),
        Verb::Init(flags) => init::run(&flags),
        Verb::Install(flags) => install::run(&flags),
        Verb::Render(flags) => run(render::run(flags)),
        Verb::RenderApart => apart(),
        Verb::Serve(flags) => run(serve::run(flags)),
        Verb::Sandbox(flags) => run(sandbox::run(flags)),
        Verb::Demo(flags) => run(demo::run(flags)),
        Verb::Connect(flags) => run(connect::run(flags)),
        Verb::Deploy(flags) => run(job::run(flags)),
        Verb::List(flags) => run(list::run(flags)),
        Verb::Why(flags) => run(why::run(flags)),
        Verb::Open(flags) => run(open::run(flags)),
        Verb::Logs(flags) => run(logs::run(flags)),
        Verb::Plan(flags) => run(plan::run(flags)),
        Verb::Stop(flags) => run(stop::run(flags)),
        Verb::Refresh(flags) => run(refresh::run(flags)),
        Verb::Sleep(flags) => run(sleep::run(flags)),
        Verb::Wake(flags) => run(sleep::wake(flags)),
        Verb::Doctor(flags) => run(doctor::run(flags)),
        Verb::Health(flags) => run(health::run(flags)),
        Verb::Brake(flags) => run(brake::run(flags)),
        Verb::Adopt(flags) => run(adopt::run(flags)),
    };
    match ended {
        Ok(()) if output::is_lost() => {
            output::prose("error: stdout cannot be written, so a part of what was asked for is missing");
            ExitCode::from(1)
        }
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Failed(error)) => {
            output::prose(&format!("error: {}", told(&error)));
            ExitCode::from(1)
        }
        Err(Failure::Findings(text)) => {
            output::prose(&text);
            ExitCode::from(2)
        }
        Err(Failure::Unavailable(error)) => {
            output::prose(&format!("error: {}", told(&error)));
            ExitCode::from(3)
        }
    }
}

/// The error and its causes, each said once: some errors name their cause themselves.
fn told(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn run(verb: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(verb)
}

fn apart() -> Result<(), Failure> {
    Ok(render_apart(std::io::stdin().lock(), std::io::stdout().lock())?)
}

fn schema() -> Result<(), Failure> {
    output::data(&serde_json::to_string_pretty(&crate::render::schema())?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
