//! `greenroom list`: every preview of a server.

use serde_json::Value;

use super::check::Format;
use super::client::{Client, ServerFlag, elements, name, short, text};
use super::{Failure, output};
use crate::clock::Clock;

#[derive(Debug, clap::Args)]
pub(super) struct Flags {
    #[command(flatten)]
    server: ServerFlag,
    /// How the list is printed.
    #[arg(long, value_enum, default_value = "text")]
    output: Format,
}

pub(super) async fn run(flags: Flags) -> Result<(), Failure> {
    let list = Client::of(flags.server)?.get("api/v1/previews").await?;
    if flags.output == Format::Json {
        output::data(&serde_json::to_string_pretty(&list)?);
        return Ok(());
    }
    let now = Clock.now();
    let previews = elements(&list["previews"]).iter().map(|preview| row(preview, now));
    let head = ["PREVIEW", "STATE", "COMMIT", "AGE", "LINK", "REASON"].map(String::from);
    output::data(&output::columns(&std::iter::once(head).chain(previews).collect::<Vec<_>>()));
    Ok(())
}

fn row(preview: &Value, now: i64) -> [String; 6] {
    let created = text(&preview["created_at"]).parse::<jiff::Timestamp>();
    [
        name(preview),
        text(&preview["state"]).to_owned(),
        short(&preview["sha"]).to_owned(),
        created.map_or_else(|_| String::from("-"), |created| age(now - created.as_millisecond())),
        text(&preview["url"]).to_owned(),
        text(&preview["reason"]).to_owned(),
    ]
}

/// A length of time in its largest whole unit.
fn age(milliseconds: i64) -> String {
    match milliseconds.max(0) / 1000 {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3_600 => format!("{}m", seconds / 60),
        seconds @ 3_600..86_400 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::age;

    #[test]
    fn an_age_is_told_in_its_largest_whole_unit() {
        for (seconds, told) in [
            (-1, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3_599, "59m"),
            (3_600, "1h"),
            (86_399, "23h"),
            (864_000, "10d"),
        ] {
            assert_eq!(age(seconds * 1000), told);
        }
    }
}
