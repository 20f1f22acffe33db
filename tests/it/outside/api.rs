//! Previews as JSON: which fields, of which kind, and what is said when there are none.

use http::header::CONTENT_TYPE;
use insta::assert_snapshot;
use serde_json::Value;

use super::alone;
use crate::support::{gitlab::Gitlab, raw, world::World};

/// One line per field: its name and what kind of value it has.
fn shape(value: &Value) -> String {
    let object = value.as_object().unwrap_or_else(|| panic!("no object: {value}"));
    let lines: Vec<_> = object.iter().map(|(name, value)| format!("{name}: {}", kind(value))).collect();
    lines.join("\n")
}

fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(number) => if number.is_u64() { "natural number" } else { "number" }.to_owned(),
        Value::String(text) if is_rfc3339(text) => "time".to_owned(),
        Value::String(_) => "text".to_owned(),
        Value::Array(all) => format!("[{}]", all.first().map(kind).unwrap_or_default()),
        Value::Object(fields) => {
            let fields: Vec<_> =
                fields.iter().map(|(name, value)| format!("{name}: {}", kind(value))).collect();
            format!("{{{}}}", fields.join(", "))
        }
    }
}

fn is_rfc3339(text: &str) -> bool {
    text.parse::<jiff::Timestamp>().is_ok() && text.ends_with('Z') && text.contains('T')
}

async fn list(world: &World) -> Vec<Value> {
    let answer = world.greenroom.get("/api/v1/previews").await;
    assert_eq!(answer.headers()[CONTENT_TYPE], "application/json");
    let list: Value = answer.json().await.unwrap();
    assert_eq!(list.as_object().unwrap().len(), 1, "{list}");
    list["previews"].as_array().unwrap().clone()
}

#[tokio::test]
async fn previews_are_listed_with_their_facts() {
    let world = World::start().await;
    assert!(list(&world).await.is_empty());

    let mr = world.gitlab.open_mr("feature", "A feature").await;
    world.becomes(mr, "waiting").await;
    world.rests().await;
    assert_snapshot!(shape(&list(&world).await[0]), @"
branch: text
cluster: null
created_at: time
engine: text
expires_at: null
mr_iid: natural number
name: text
notice: null
project_id: natural number
project_path: text
reason: text
serving: null
sha: text
state: text
subject: text
updated_at: time
url: text
");

    world.build(mr, "one").await;
    let ready = world.becomes(mr, "ready").await;
    world.rests().await;
    let listed = &list(&world).await[0];
    assert_snapshot!(shape(listed), @"
branch: text
cluster: null
created_at: time
engine: text
expires_at: null
mr_iid: natural number
name: text
notice: null
project_id: natural number
project_path: text
reason: text
serving: {sha: text, since: time}
sha: text
state: text
subject: text
updated_at: time
url: text
");
    let head = world.gitlab.mr(mr).await["sha"].clone();
    for (field, value) in [
        ("project_id", Gitlab::PROJECT.into()),
        ("project_path", "acme/web".into()),
        ("mr_iid", mr.into()),
        ("subject", mr.to_string().into()),
        ("branch", "feature".into()),
        ("name", "web-42-mr-1".into()),
        ("state", "ready".into()),
        ("sha", head.clone()),
        ("engine", "static".into()),
        (
            "url",
            format!("http://web-42-mr-1.preview.localhost:{}", world.greenroom.url().port().unwrap()).into(),
        ),
    ] {
        assert_eq!(listed[field], value, "{field}");
    }
    assert_eq!(listed["serving"]["sha"], head);
    assert_eq!(listed["serving"], ready["serving"]);
    world.ends_well().await;
}

#[tokio::test]
async fn one_preview_is_told_with_decision_and_history() {
    let world = World::start().await;
    let mr = world.ready_mr("feature", "one").await;
    world.rests().await;
    let preview = world.preview(mr).await.unwrap();
    assert_snapshot!(shape(&preview), @"
asked: null
asleep_since: null
branch: text
checks: []
cluster: null
created_at: time
decision: [text]
engine: text
expires_at: null
history: [{at: time, id: text, state: text, text: text}]
hold: null
leaving: []
log: []
mr_iid: natural number
name: text
next: text
notice: null
project_id: natural number
project_path: text
reason: text
serving: {sha: text, since: time}
sha: text
state: text
subject: text
trouble: null
updated_at: time
url: text
waits_for: []
");
    let states: Vec<_> = preview["history"].as_array().unwrap().iter().map(|line| &line["state"]).collect();
    assert_eq!(states.first().unwrap(), &"ready", "newest first: {states:?}");

    let mut listed = list(&world).await.remove(0);
    for own in [
        "asked",
        "asleep_since",
        "checks",
        "log",
        "decision",
        "history",
        "hold",
        "leaving",
        "next",
        "trouble",
        "waits_for",
    ] {
        listed[own] = preview[own].clone();
    }
    assert_eq!(listed, preview, "the rest is as in the list");
    world.ends_well().await;
}

#[tokio::test]
async fn a_stopped_preview_stays_in_the_list() {
    let world = World::start().await;
    let mr = world.ready_mr("feature", "one").await;
    world.gitlab.close(mr).await;
    world.becomes(mr, "stopped").await;
    let listed = list(&world).await;
    assert_eq!(
        (listed.len(), &listed[0]["state"], &listed[0]["serving"]),
        (1, &"stopped".into(), &Value::Null)
    );
    world.ends_well().await;
}

#[tokio::test]
async fn what_is_not_there_is_told_as_a_problem() {
    let greenroom = alone(&[]).await;
    for path in [
        "/api/v1/previews/42/1",
        "/api/v1/previews/42/one",
        "/api/v1/previews/-1/1",
        "/api/v1/previews/42/0",
        "/api/v1/previews/42/1/",
        "/api/v1/previews/18446744073709551615/18446744073709551615",
        "/api/v1/previews/99999999999999999999/1",
        "/api/v1/previews/acme%2Fweb/1",
        "/api/v1/previews/%00/%ff",
        "/api/v1/deliveries/1",
        "/api/v1/deliveries/%00",
        "/api/v1/",
        "/api",
        "/",
        "//livez",
        "/livez/",
        "/api/v1/../../livez",
    ] {
        let answer = raw::say(
            &greenroom.url(),
            &[&format!("GET {path} HTTP/1.1"), "Host: localhost", "Connection: close"],
        )
        .await;
        let problem: Value =
            serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("{path}: {answer:?}"));
        assert_eq!(
            (answer.status, &problem["status"], &problem["type"]),
            (404, &404.into(), &"about:blank".into())
        );
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
    }
    let unknown = greenroom.get("/api/v1/previews/42/1").await;
    assert_eq!(unknown.headers()[CONTENT_TYPE], "application/problem+json");
}

#[tokio::test]
async fn each_address_has_its_methods() {
    let greenroom = alone(&[]).await;
    for path in
        ["/api/v1/previews", "/api/v1/previews/42/1", "/api/v1/health", "/metrics", "/livez", "/readyz"]
    {
        for method in ["POST", "PUT", "DELETE"] {
            let line = format!("{method} {path} HTTP/1.1");
            let lines = [&*line, "Host: localhost", "Content-Length: 0", "Connection: close"];
            assert_eq!(raw::say(&greenroom.url(), &lines).await.status, 405, "{line}");
        }
        let line = format!("HEAD {path} HTTP/1.1");
        let head = raw::say(&greenroom.url(), &[&line, "Host: localhost", "Connection: close"]).await;
        let expected = if path.ends_with("/1") { 404 } else { 200 };
        assert_eq!((head.status, &*head.body), (expected, ""), "{line}");
    }
    for path in ["/api/v1/previews/42/1/stop", "/api/v1/previews/42/1/refresh"] {
        for (method, expected) in [("POST", 404), ("GET", 405), ("HEAD", 405), ("PUT", 405), ("DELETE", 405)]
        {
            let line = format!("{method} {path} HTTP/1.1");
            let lines = [&*line, "Host: localhost", "Content-Length: 0", "Connection: close"];
            assert_eq!(raw::say(&greenroom.url(), &lines).await.status, expected, "{line}");
        }
    }
}

#[tokio::test]
async fn a_refused_method_is_told_the_right_one() {
    let greenroom = alone(&[]).await;
    let post = greenroom.post("/api/v1/previews").send().await.unwrap();
    assert_eq!(post.headers()["allow"], "GET, HEAD");
    let post: Value = post.json().await.unwrap();
    assert_eq!(post["detail"], "use GET or HEAD");
    let get = greenroom.get("/api/v1/previews/42/1/stop").await;
    assert_eq!(get.headers()["allow"], "POST");
}
