//! Templates of strangers, rendered in a process apart: the program itself, under the kernel's limits on memory and time.
//!
//! Whatever a template does there ends that process and no other: memory, time, a stack that values lie too deep for. What
//! comes back is read as any stranger's JSON, up to a limit. How it dies does not say where. That is found out by letting it
//! take fewer and fewer steps, for a template does the same each time: the last step that does no harm names the line.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::error::RenderError;
use super::template::{Batch, Rendered, STEPS, Source, Wrong};
use crate::process::{self, Call, Limits};

/// The hidden verb of the program that reads a batch and prints what became of it.
pub const VERB: &str = "render-apart";

const LIMITS: Limits = Limits { time: Duration::from_secs(10), memory: 128 << 20, output: 64 << 20 };
/// How long one try may take while the line is looked for. One that is too slow costs no more than a line that is less near.
const TRY: Duration = Duration::from_secs(1);
/// How long the line is looked for; after that, the last one that is known to do no harm has to do.
const SEARCH: Duration = Duration::from_secs(10);

/// Templates that may be rendered at the same time: their memory counts as ours.
static TURNS: Semaphore = Semaphore::const_new(2);

/// What the child prints.
#[derive(Serialize, Deserialize)]
enum Answer {
    Rendered(Vec<Rendered>),
    Wrong(Wrong),
}

/// Renders a batch in a child.
pub(super) async fn render(
    program: &Path,
    batch: &Batch,
) -> Result<Result<Vec<Rendered>, Wrong>, RenderError> {
    // Nobody closes it.
    let _turn = TURNS.acquire().await;
    match child(program, batch, LIMITS.time).await? {
        Ok(Answer::Rendered(rendered)) if rendered.len() == batch.sources.len() => Ok(Ok(rendered)),
        Ok(Answer::Wrong(wrong)) if wrong.source < batch.sources.len() => Ok(Err(wrong)),
        Ok(_) => Err(RenderError::Trouble(String::from(
            "what renders templates gave no answer to what it was asked",
        ))),
        Err(why) => {
            let (source, line) = find(program, batch).await?;
            Ok(Err(Wrong { source, line, why }))
        }
    }
}

/// What the child says; or, in words for people, why it came to no end.
async fn child(program: &Path, batch: &Batch, time: Duration) -> Result<Result<Answer, String>, RenderError> {
    let trouble = |what: &str| RenderError::Trouble(format!("templates cannot be rendered: {what}"));
    let input = serde_json::to_vec(batch).map_err(|error| trouble(&error.to_string()))?;
    let arguments = [OsString::from(VERB)];
    let call = Call {
        program,
        arguments: &arguments,
        folder: Path::new("/"),
        input: &input,
        limits: Limits { time, ..LIMITS },
    };
    Ok(match process::run(call).await {
        Ok(output) => {
            serde_json::from_slice(&output).map_err(|_| String::from("it renders to what cannot be read"))
        }
        Err(process::Error::TooSlow(_)) => {
            Err(format!("it takes longer than {} s to render, which is the limit", LIMITS.time.as_secs()))
        }
        Err(process::Error::TooMuch(_)) => {
            Err(format!("it renders to more than {} MiB, which is the limit", LIMITS.output >> 20))
        }
        Err(process::Error::Failed(said)) if said.contains("memory allocation of") => {
            Err(format!("it takes more than {} MiB of memory, which is the limit", LIMITS.memory >> 20))
        }
        Err(process::Error::Failed(said)) if said.contains("overflowed its stack") => {
            Err(String::from("its values lie too deep in each other"))
        }
        Err(process::Error::Failed(said)) => Err(format!("rendering it ends with {said}")),
        Err(error @ process::Error::Io { .. }) => return Err(trouble(&error.to_string())),
    })
}

/// Which template of a batch ends its renderer, and in which line.
async fn find(program: &Path, batch: &Batch) -> Result<(usize, u64), RenderError> {
    let until = Instant::now() + SEARCH;
    let part = |sources: &[Source], steps| Batch {
        context: batch.context.clone(),
        files: batch.files.clone(),
        sources: sources.to_vec(),
        marked: batch.marked,
        steps,
    };
    // The first `harmless` templates are; one of the first `deadly` is not.
    let (mut harmless, mut deadly) = (0, batch.sources.len());
    while deadly - harmless > 1 && Instant::now() < until {
        let middle = usize::midpoint(harmless, deadly);
        // Not in haste: on a busy machine the harmless ones would be blamed.
        match child(program, &part(&batch.sources[..middle], STEPS), LIMITS.time).await? {
            Ok(_) => harmless = middle,
            Err(_) => deadly = middle,
        }
    }
    let source = deadly - 1;
    let (mut harmless, mut deadly, mut line) = (0, STEPS, 1);
    while deadly - harmless > 1 && Instant::now() < until {
        // Most take few steps, and what does no harm is the fastest to try.
        let most = if deadly == STEPS { harmless * 4 + 64 } else { u64::MAX };
        let middle = u64::midpoint(harmless, deadly).min(most);
        match child(program, &part(&batch.sources[source..=source], middle), TRY).await? {
            Ok(answer) => {
                harmless = middle;
                if let Answer::Wrong(wrong) = answer {
                    line = wrong.line;
                }
            }
            Err(_) => deadly = middle,
        }
    }
    Ok((source, line))
}

/// What the child does: reads a batch, and prints what became of it.
///
/// # Errors
/// When what it reads is no batch, or nobody listens.
pub fn answer(input: impl Read, mut output: impl Write) -> io::Result<()> {
    let batch: Batch = serde_json::from_reader(io::BufReader::new(input))?;
    let answer = match batch.render() {
        Ok(rendered) => Answer::Rendered(rendered),
        Err(wrong) => Answer::Wrong(wrong),
    };
    output.write_all(&serde_json::to_vec(&answer)?)
}
