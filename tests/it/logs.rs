//! The log: the same words everywhere, and nothing in it that is nobody's business.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::json;

use crate::support::{
    courier::Delivery,
    documented,
    gitlab::{BOT, Gitlab, SIGNING_TOKEN},
    world::World,
};

/// The names of the fields that a macro call gives, `mr.key = %key` or `%error`, up to its message.
fn fields(arguments: &str) -> Vec<String> {
    let mut fields = Vec::new();
    for argument in split(arguments) {
        let argument = argument.trim();
        if argument.starts_with('"') {
            break;
        }
        let name = argument.split(" = ").next().unwrap_or(argument);
        fields.push(name.trim_start_matches(['%', '?']).to_owned());
    }
    fields
}

/// The arguments of a call, of which `text` is what follows the opening bracket.
fn split(text: &str) -> Vec<&str> {
    let (mut found, mut depth, mut start, mut quoted, mut escaped) = (Vec::new(), 0, 0, false, false);
    for (at, letter) in text.char_indices() {
        if quoted {
            quoted = escaped || letter != '"';
            escaped = !escaped && letter == '\\';
            continue;
        }
        match letter {
            '"' => quoted = true,
            '(' | '[' | '{' => depth += 1,
            ')' if depth == 0 => {
                found.push(&text[start..at]);
                return found;
            }
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    panic!("a call without an end: {text:.80}");
}

/// Every field that the sources log, the stand-in GitLab's aside.
fn logged(folder: &Path, found: &mut BTreeSet<String>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.file_stem().is_some_and(|name| name == "sandbox") {
            continue;
        }
        if path.is_dir() {
            logged(&path, found);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for call in ["error!(", "warn!(", "info!(", "debug!(", "trace!(", "event!("] {
            for (at, _) in text.match_indices(&format!("tracing::{call}")) {
                found.extend(fields(&text[at + "tracing::".len() + call.len()..]));
            }
        }
        for (at, _) in text.match_indices("_span!(") {
            let arguments = split(&text[at + "_span!(".len()..]);
            let names = arguments.iter().skip(1).map(|argument| fields(&format!("{argument})")).concat());
            found.extend(names.filter(|name| !name.is_empty()));
        }
    }
}

#[test]
fn the_same_fields_have_the_same_names_and_all_are_explained() {
    assert_eq!(
        fields(r#"mr.key = %f(a, "b)"), %error, ?rules, rows, "text {}", other)"#),
        ["mr.key", "error", "rules", "rows"]
    );
    let mut found = BTreeSet::new();
    logged(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert!(found.contains("mr.key") && found.contains("error"), "{found:?}");
    assert_eq!(found, documented("docs/operations.md", "Log fields"), "left: in src, right: explained");
}

#[tokio::test]
async fn no_secret_no_body_and_no_rendered_text_is_logged() {
    let world = World::start_with(&[
        ("--log", "trace"),
        ("GREENROOM_WEBHOOK_SECRET_TOKEN", "marker-secret-token"),
        ("GREENROOM_LOG_FORMAT", "json"),
        ("GREENROOM_RESYNC_INTERVAL", "1s"),
    ])
    .await;
    let mr = world.gitlab.open_mr("feature", "marker-title").await;
    world.becomes(mr, "waiting").await;
    world.build(mr, "marker-artifact").await;
    world.becomes(mr, "ready").await;
    world.gitlab.say(mr, "marker-note").await;
    let pipeline = json!({
        "object_kind": "pipeline",
        "project": { "id": Gitlab::PROJECT, "path_with_namespace": "acme/web" },
        "object_attributes": {
            "id": 1, "ref": "feature", "status": "success",
            "variables": [{ "key": "PASSWORD", "value": "marker-variable" }],
        },
        "merge_request": { "iid": mr },
    });
    let sent = Delivery::saying(pipeline.to_string()).with_token("marker-secret-token");
    assert_eq!(sent.deliver(&world.greenroom).await, 202);
    let odd = Delivery::saying(r#"{"object_kind": "pipeline", "marker-odd": "#);
    assert_eq!(odd.deliver(&world.greenroom).await, 200);
    let guessed = Delivery::about(mr).with_token("marker-guessed");
    assert_eq!(guessed.deliver(&world.greenroom).await, 401);
    let bearer = world.greenroom.post(&format!("/api/v1/previews/42/{mr}/refresh"));
    assert_eq!(bearer.bearer_auth("marker-bearer").send().await.unwrap().status(), 202);
    world.shows(mr, "marker-artifact").await;
    world.wire.any().nth(1).answer(500, &[], r#"{"message": "500 Internal Server Error"}"#);
    world.gitlab.push("feature", &[("a", "2")]).await;
    world.build(mr, "marker-second").await;
    world.becomes(mr, "ready").await;
    world.gitlab.close(mr).await;
    world.becomes(mr, "stopped").await;

    let comment = world.gitlab.comment(mr).await.unwrap();
    world.greenroom.logs("\"level\":\"TRACE\"", 1).await;
    let log = world.greenroom.logs("\"mr.key\":\"42!1\"", 1).await;
    let key = SIGNING_TOKEN.strip_prefix("whsec_").unwrap();
    let rendered = comment.lines().find(|line| line.starts_with("| Commit")).unwrap();
    for secret in ["marker-", BOT, key, rendered, "### "] {
        let leak = log.lines().find(|line| line.contains(secret));
        assert_eq!(leak, None, "`{secret}` is in the log");
    }
    world.ends_well().await;
}
