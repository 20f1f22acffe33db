//! The pages people read, held to the program: what is generated is equal, what is linked exists, what is shown is so.
//!
//! `UPDATE=1 cargo test --test it reference` writes what can be written.

use std::fmt::Write as _;
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use greenroom::preview::State;

const SETTINGS: [&str; 2] = [
    "<!-- settings: made from templates/defaults.toml by tests/it/reference.rs -->\n",
    "<!-- end of settings -->\n",
];

#[test]
fn the_settings_table_is_the_defaults_file() {
    let mut table = String::from("| name | default | meaning |\n|---|---|---|\n");
    for (key, default, meaning) in defaults() {
        let default = default.trim_matches('"');
        let default = if matches!(default, "" | "[]") { String::from("–") } else { format!("`{default}`") };
        let name = format!("GREENROOM_{}", key.to_ascii_uppercase());
        let _ = writeln!(table, "| `{name}` | {default} | {} |", meaning.replace('|', "\\|"));
    }
    let text = page("README.md");
    let (before, rest) = text.split_once(SETTINGS[0]).expect("README.md marks where the settings begin");
    let (_, after) = rest.split_once(SETTINGS[1]).expect("README.md marks where the settings end");
    holds("README.md", &format!("{before}{}{table}{}{after}", SETTINGS[0], SETTINGS[1]));
}

#[test]
fn the_schema_is_the_one_the_program_prints() {
    holds("docs/greenroom.schema.json", &stdout(&greenroom(&["schema"], Path::new("/"))));
}

#[test]
fn the_installation_is_the_one_the_program_prints() {
    let printed =
        |flags: &[&str]| stdout(&greenroom(&[&["install", "--print"], flags].concat(), Path::new("/")));
    holds("docs/install/greenroom.yaml", &printed(&[]));
    holds("docs/install/greenroom-postgres.yaml", &printed(&["--postgres"]));
    // What jobs may send has to come through.
    let largest = stdout(&greenroom(&["defaults"], Path::new("/")));
    let largest =
        largest.lines().find_map(|line| line.strip_prefix("artifact_max_mib = ")).expect("a default");
    let passed = format!("nginx.ingress.kubernetes.io/proxy-body-size: {}m", largest.trim_matches('"'));
    assert!(printed(&[]).contains(&passed), "{passed}");
}

#[test]
fn the_secret_of_the_installation_is_made_of_the_files_of_the_five_steps() {
    let (readme, installation) = (page("README.md"), page("docs/install/greenroom.yaml"));
    let guide = page("docs/kubernetes.md");
    let given: Vec<_> = guide.split_whitespace().filter_map(|it| it.strip_prefix("--from-file=")).collect();
    assert_eq!(given.len(), 2, "{given:?}");
    for given in given {
        let (key, file) = given.split_once('=').unwrap_or((given, given));
        let is_made = readme
            .lines()
            .any(|line| line.split_whitespace().any(|it| it.ends_with(&format!("_TOKEN_FILE={file}"))));
        assert!(is_made, "README.md makes no file `{file}`");
        assert!(installation.contains(&format!("value: /secrets/{key}}}")), "nothing reads `{key}`");
    }
}

#[test]
fn every_example_of_a_project_file_does_what_the_page_says() {
    examples("docs/greenroom-yml.md", 6);
    examples("docs/policy.md", 3);

    let readme = page("README.md");
    let (yaml, _) = block(&readme, "yaml", 0).expect("README.md shows a project file");
    assert_eq!(check(&readme[yaml]), "");
}

/// Checks every project file that a page shows, and what the page says of it.
fn examples(name: &str, at_least: usize) {
    let mut text = page(name);
    let mut from = 0;
    let mut seen = 0;
    while let Some((yaml, end)) = block(&text, "yaml", from) {
        from = end;
        if !text[yaml.clone()].contains("engine:") {
            continue;
        }
        seen += 1;
        let said = check(&text[yaml.clone()]);
        // What follows at once, with a blank line between, is what `greenroom check` says of it.
        match block(&text, "text", end).filter(|(told, _)| text[end..told.start].trim() == "```text") {
            Some((told, _)) => {
                text.replace_range(told, &said);
                assert!(!said.is_empty(), "{name} shows a mistake that is none:\n{}", &text[yaml]);
            }
            None => assert_eq!(said, "", "{name} shows this as right:\n{}", &text[yaml]),
        }
    }
    assert!(seen >= at_least, "{name} has only {seen} examples");
    holds(name, &text);
}

#[test]
fn what_the_example_of_project_tables_leads_to_is_what_the_page_says() {
    let name = "docs/policy.md";
    let mut text = page(name);
    let (file, end) = block(&text, "toml", 0).expect("a settings file");
    let (shown, _) = block(&text, "console", end).expect("a command");
    let command = text[shown.clone()].lines().next().unwrap().to_owned();
    let arguments: Vec<_> = command.strip_prefix("$ greenroom ").unwrap().split(' ').collect();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("greenroom.toml"), &text[file]).unwrap();
    let secrets = [("GREENROOM_GITLAB_TOKEN", "t"), ("GREENROOM_WEBHOOK_SECRET_TOKEN", "s")];
    let program = env!("CARGO_BIN_EXE_greenroom");
    let mut check = Command::new(program);
    let output = check.args(arguments).env_clear().envs(secrets).current_dir(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    text.replace_range(shown, &format!("{command}\n{}", stdout(&output)));
    holds(name, &text);
}

#[test]
fn every_key_of_a_project_file_is_explained() {
    let schema: serde_json::Value = serde_json::from_str(&page("docs/greenroom.schema.json")).unwrap();
    let text = page("docs/greenroom-yml.md");
    let keys = |pointer: &str| {
        schema.pointer(pointer).unwrap().as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    };
    let rows = [("/properties", ""), ("/$defs/StaticSettings/properties", "static.")];
    let more = [("/$defs/Kubernetes/properties", "kubernetes."), ("/$defs/Check/properties", "checks.")];
    for (keys, section) in rows.into_iter().chain(more).map(|(place, section)| (keys(place), section)) {
        for key in keys {
            let row = format!("| `{section}{key}` |");
            assert!(text.contains(&row), "docs/greenroom-yml.md has no row for `{section}{key}`");
        }
    }
    let text = page("docs/policy.md");
    let labels = keys("/$defs/Labels/properties").into_iter().map(|key| format!("labels.{key}"));
    for key in keys("/$defs/When/properties").into_iter().filter(|key| key != "labels").chain(labels) {
        assert!(text.contains(&format!("| `when.{key}` |")), "docs/policy.md has no row for `when.{key}`");
    }
}

#[test]
fn every_warning_is_explained() {
    let mut codes = std::collections::BTreeSet::new();
    warning_codes(&root().join("src"), &mut codes);
    let explained = crate::support::documented("docs/operations.md", "Warnings");
    assert_eq!(codes, explained, "left: in src, right: explained in docs/operations.md");
}

/// The codes of all warnings that the sources give, tests aside.
fn warning_codes(folder: &Path, found: &mut std::collections::BTreeSet<String>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            warning_codes(&path, found);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap();
        for (_, rest) in text.match_indices("Warning::new(").map(|(at, call)| (at, &text[at + call.len()..]))
        {
            let code = rest.trim_start().strip_prefix('"').and_then(|rest| rest.split_once('"'));
            let code = code.unwrap_or_else(|| panic!("{}: a code that is no literal", path.display())).0;
            found.insert(code.to_owned());
        }
    }
}

#[test]
fn the_readme_is_short_and_names_every_state_and_command() {
    let text = page("README.md");
    let lines = text.lines().count();
    assert!(lines <= 250, "README.md has {lines} lines");

    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    let states = |name: &&str| State::ALL.iter().any(|state| state.as_str() == *name);
    let named: Vec<_> = rows.map(|(name, _)| name).filter(states).collect();
    assert_eq!(named.len(), State::ALL.len(), "the table of states: {named:?}");

    let help = stdout(&greenroom(&["--help"], Path::new("/")));
    let (_, commands) = help.split_once("Commands:\n").expect("a list of commands");
    let commands = commands.lines().take_while(|line| !line.is_empty());
    let commands = commands.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let listed =
        text.lines().find(|line| line.starts_with("Commands: ")).expect("README.md lists the commands");
    for command in commands.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help") {
        assert!(listed.contains(&format!("`{command}`")), "README.md does not name `greenroom {command}`");
    }
}

#[test]
fn every_relative_link_leads_somewhere() {
    let root = root();
    let mut pages = vec![root.join("README.md"), root.join("CHANGELOG.md")];
    let files = fs::read_dir(root.join("docs")).unwrap().map(|file| file.unwrap().path());
    pages.extend(files.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    let mut broken = Vec::new();
    for path in pages {
        let text = fs::read_to_string(&path).unwrap();
        for target in links(&text) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            let there = file.exists()
                && (anchor.is_empty()
                    || anchors(&fs::read_to_string(&file).unwrap()).any(|known| known == anchor));
            if !there {
                broken.push(format!("{}: {target}", path.strip_prefix(&root).unwrap().display()));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere: {broken:#?}");
}

/// Keys of `templates/defaults.toml` in their order, with the default as written and the comment above it.
fn defaults() -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    let mut comment = Vec::new();
    for line in page("templates/defaults.toml").lines() {
        if let Some(text) = line.strip_prefix('#') {
            comment.push(text.trim().to_owned());
        } else if let Some((key, value)) = line.split_once(" = ") {
            assert!(!comment.is_empty(), "templates/defaults.toml does not explain `{key}`");
            found.push((key.to_owned(), value.to_owned(), comment.join(" ")));
            comment.clear();
        } else {
            comment.clear();
        }
    }
    let parsed: toml::Table = page("templates/defaults.toml").parse().unwrap();
    assert_eq!(found.len(), parsed.len(), "each setting stands on one line of templates/defaults.toml");
    found
}

/// What `greenroom check` finds in a `.greenroom.yml` with this text.
fn check(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(".greenroom.yml"), text).unwrap();
    let output = greenroom(&["check"], folder.path());
    assert_eq!(output.status.code(), Some(if output.stdout.is_empty() { 0 } else { 2 }));
    stdout(&output)
}

/// Runs the program with nothing of our environment.
fn greenroom(arguments: &[&str], folder: &Path) -> Output {
    let program = env!("CARGO_BIN_EXE_greenroom");
    Command::new(program).args(arguments).env_clear().current_dir(folder).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The next code block in this language from `from` on: where its text is, and where what follows it begins.
fn block(text: &str, language: &str, from: usize) -> Option<(std::ops::Range<usize>, usize)> {
    let fence = format!("\n```{language}\n");
    let start = from + text[from..].find(&fence)? + fence.len();
    let length = if text[start..].starts_with("```\n") { 0 } else { text[start..].find("\n```\n")? + 1 };
    Some((start..start + length, start + length + "```\n".len()))
}

/// Targets of Markdown links that are no addresses.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target));
    targets.filter(|target| !target.contains("://"))
}

/// The anchors of a page's headings, as GitLab makes them.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter(|line| line.starts_with('#')).map(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.collect::<String>().replace(' ', "-")
    })
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn page(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Compares a page with what it should be; writes it under `UPDATE=1`.
fn holds(name: &str, wanted: &str) {
    if fs::read_to_string(root().join(name)).is_ok_and(|text| text == wanted) {
        return;
    }
    if env::var_os("UPDATE").is_some_and(|update| update == "1") {
        fs::write(root().join(name), wanted).unwrap();
        return;
    }
    let text = fs::read_to_string(root().join(name)).unwrap_or_default();
    let line = text.lines().zip(wanted.lines()).take_while(|(is, should)| is == should).count();
    panic!(
        "{name} is not what the program says, from line {} on; `UPDATE=1 cargo test --test it reference` mends it\n  is:     {}\n  should: {}",
        line + 1,
        text.lines().nth(line).unwrap_or("(the end)"),
        wanted.lines().nth(line).unwrap_or("(the end)"),
    );
}
