//! Keeps the borders between the rooms: who may use whom, and how long a file may get.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// Each room and the rooms it may use. `cli` wires everything together and may use all of them.
const ROOMS: &[(&str, &[&str])] = &[
    ("preview", &[]),
    ("clock", &[]),
    ("telemetry", &[]),
    ("process", &["telemetry"]),
    ("outgoing", &[]),
    ("settings", &["preview", "outgoing", "telemetry"]),
    ("store", &["preview", "clock", "telemetry"]),
    ("gitlab", &["preview", "clock", "outgoing", "settings", "telemetry"]),
    ("oidc", &["preview", "clock", "outgoing", "telemetry"]),
    ("webhook", &["preview", "clock", "store", "telemetry"]),
    ("render", &["preview", "process"]),
    ("engine", &["preview", "clock", "process", "render", "telemetry"]),
    ("checks", &["preview", "outgoing", "render"]),
    ("report", &["preview", "gitlab", "render", "telemetry"]),
    (
        "reconcile",
        &["preview", "clock", "oidc", "store", "gitlab", "render", "engine", "report", "checks", "telemetry"],
    ),
    ("hooks", &["preview", "store", "gitlab", "telemetry"]),
    ("gateway", &["preview", "clock", "store", "engine", "telemetry"]),
    ("web", &["preview", "clock", "oidc", "store", "reconcile", "render", "telemetry"]),
    ("sandbox", &["telemetry"]),
];

/// Verbs and wiring: everything is allowed here, and nobody else may use it.
const WIRING: &[&str] = &["cli", "demo", "lib", "main"];

const LONGEST_FILE: usize = 500;

#[test]
fn rooms_use_only_what_the_table_allows() {
    let rooms: BTreeMap<&str, &[&str]> = ROOMS.iter().copied().collect();
    let mut faults = String::new();
    for (path, text) in sources() {
        let room = room_of(&path);
        if WIRING.contains(&room.as_str()) {
            continue;
        }
        let Some(allowed) = rooms.get(room.as_str()) else {
            let _ = writeln!(faults, "src/{}: `{room}` is not in the table of rooms", path.display());
            continue;
        };
        for (line, root, used) in uses(&text) {
            let known = rooms.contains_key(used) || WIRING.contains(&used);
            let foreign = used != room && known && !(root == "super::" && has_module(&room, used));
            if foreign && !allowed.contains(&used) {
                let allowed = if allowed.is_empty() { "nothing of ours".into() } else { allowed.join(", ") };
                let _ = writeln!(
                    faults,
                    "src/{}:{line}: `{room}` uses `{used}`; it may use {allowed}",
                    path.display()
                );
            }
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
}

#[test]
fn files_hold_one_idea() {
    let long: Vec<String> = sources()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > LONGEST_FILE)
        .map(|(path, lines)| format!("src/{}: {lines} lines", path.display()))
        .collect();
    assert!(long.is_empty(), "past 350 lines look for the second noun, {LONGEST_FILE} is the end: {long:#?}");
}

#[test]
fn uses_are_found_however_they_are_written() {
    let text = "use crate::store;\nuse crate::{\n    preview::{Name, state::State},\n    engine as e,\n};\n\
                // crate::web\npub(crate) fn f() -> crate::clock::Clock { super::super::gitlab::x() }\n\
                use super::Other;";
    let names: Vec<_> = uses(text).into_iter().map(|(line, _, name)| (line, name)).collect();
    let expected = [
        (1, "store"),
        (2, "preview"),
        (2, "engine"),
        (7, "clock"),
        (7, "super"),
        (7, "gitlab"),
        (8, "Other"),
    ];
    assert_eq!(names, expected);
}

/// Every Rust file under `src/`, by its path there.
fn sources() -> impl Iterator<Item = (PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                files.push(entry);
            }
        }
    }
    files.sort();
    files.into_iter().map(move |file| {
        let text = fs::read_to_string(&file).unwrap();
        (file.strip_prefix(&root).unwrap().to_owned(), text)
    })
}

/// `store/work.rs` and `store.rs` are both of the room `store`.
fn room_of(path: &Path) -> String {
    path.with_extension("").iter().next().unwrap().to_string_lossy().into_owned()
}

/// Whether the room has a module of its own by that name, which `super::` then means.
fn has_module(room: &str, name: &str) -> bool {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(room);
    folder.join(name).exists() || folder.join(name).with_extension("rs").exists()
}

/// The names that code takes from the crate's root, with their lines: `crate::x`, `crate::{x, y::z}`, and what follows a
/// chain of `super::`, which may reach the root. A name that is no room's is for the caller to ignore.
fn uses(text: &str) -> Vec<(usize, &'static str, &str)> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
        for root in ["crate::", "super::"] {
            for (at, _) in line.match_indices(root) {
                let start = line.as_ptr() as usize - text.as_ptr() as usize + at + root.len();
                found.extend(heads(&text[start..]).into_iter().map(|name| (number + 1, root, name)));
            }
        }
    }
    found
}

/// The first name of a path, or of each path in a group: `a` of `a::b`, `a` and `c` of `{a::{b, x}, c}`.
fn heads(path: &str) -> Vec<&str> {
    let head =
        |path: &'_ str| path.len() - path.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_').len();
    let Some(group) = path.strip_prefix('{') else { return vec![&path[..head(path)]] };
    let mut depth = 1;
    let mut names = Vec::new();
    let mut fresh = true;
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => fresh = true,
            _ if letter.is_whitespace() => {}
            _ if std::mem::take(&mut fresh) => names.push(&group[at..at + head(&group[at..])]),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}
