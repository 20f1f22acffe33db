//! What is printed for machines and for copying: the schema of project files, and the default settings.

use serde_json::Value;

use super::Shell;

#[test]
fn the_schema_is_one_and_knows_every_key() {
    let schema: Value = serde_json::from_str(&Shell::new().reads(&["schema"])).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let keys: Vec<_> = schema["properties"].as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        ["checks", "engine", "expires_after", "kubernetes", "static", "version", "wait_for", "when"]
    );
    assert_eq!(schema["additionalProperties"], false, "unknown keys are errors");
}

#[test]
fn the_defaults_that_are_printed_are_the_defaults() {
    let shell = Shell::new();
    let printed = shell.reads(&["defaults"]);
    assert_eq!(printed.trim_end(), include_str!("../../../templates/defaults.toml").trim_end());
    printed.parse::<toml::Table>().unwrap();
    // Given back as a file, they are nothing new: what has no default is missing still, and nothing else.
    shell.writes("defaults.toml", &printed);
    shell.writes("empty.toml", "");
    let findings = |file| {
        let (code, stdout, _) = shell.runs(&["check", "--config", file, "--output", "json"]);
        assert_eq!(code, 2);
        serde_json::from_str::<Value>(&stdout).unwrap()
    };
    assert_eq!(findings("defaults.toml"), findings("empty.toml"));
    assert_eq!(findings("empty.toml")["findings"].as_array().unwrap().len(), 3);
}
