//! What a project asks of its own previews, through the link that reviewers click: between it and greenroom lies a wire, as an
//! Ingress would.

use serde_json::{Value, json};

use crate::support::{
    PATIENCE,
    gitlab::Gitlab,
    tls::{Authority, TlsFront},
    until,
    wire::Wire,
    world::{Before, World, page},
};

/// A world whose links lead over a wire.
struct Street {
    world: World,
    link: Wire,
}

impl Street {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let before = Before::start().await;
        let link = Wire::to(&before.greenroom_url()).await;
        let public = [("GREENROOM_PUBLIC_URL", link.url().as_str())];
        let world = before.greenroom(&[&public, settings].concat()).await;
        Self { world, link }
    }

    /// A merge request whose head has these checks, and whose pipeline has built a page.
    async fn open(&self, checks: &str) -> u64 {
        self.push(checks).await;
        let mr = self.world.gitlab.open_mr("feature", "A feature").await;
        self.world.build(mr, "one").await;
        mr
    }

    async fn push(&self, checks: &str) {
        let file = format!(
            "version: 1\nengine: static\nstatic: {{job: build, path: dist}}\nchecks:\n{}",
            checks.trim_start_matches('\n')
        );
        self.world.gitlab.push("feature", &[(".greenroom.yml", &file)]).await;
    }

    /// Waits until every check of the head has come to its end, and the comment says so; how they stand.
    async fn checked(&self, mr: u64) -> Vec<Value> {
        let preview = self.world.becomes(mr, "ready").await;
        until("the checks have ended", PATIENCE, || async {
            let now = self.world.preview(mr).await.ok_or("no preview is known")?;
            let comment = self.world.gitlab.comment(mr).await.unwrap_or_default();
            let checks = now["checks"].as_array().cloned().unwrap_or_default();
            let ended = !checks.is_empty() && checks.iter().all(|check| check["state"] != "running");
            if ended && !comment.contains("being asked") && now["sha"] == preview["sha"] {
                Ok(checks)
            } else {
                Err(format!("{checks:#?}\n{comment}"))
            }
        })
        .await
    }

    /// How often this path was asked for.
    fn asked(&self, path: &str) -> usize {
        self.link.count("GET", path)
    }
}

fn found(checks: &[Value]) -> Vec<(&str, &str)> {
    checks.iter().map(|check| (check["state"].as_str().unwrap(), check["reason"].as_str().unwrap())).collect()
}

const GOOD: &str = "
- http: /
- {http: /index.html, body: 'title>(one|two)<'}
- {http: /missing, status: 404}
";

#[tokio::test]
async fn what_passes_is_told_once_for_each_revision_and_again_after_a_refresh() {
    let street = Street::start(&[]).await;
    let mr = street.open(GOOD).await;
    let checks = street.checked(mr).await;
    assert_eq!(
        found(&checks),
        [
            ("passed", "it answered with 200 OK"),
            ("passed", "it answered with 200 OK, and its body matches"),
            ("passed", "it answered with 404 Not Found"),
        ]
    );
    street.world.rests().await;
    let comment = street.world.gitlab.comment(mr).await.unwrap();
    assert!(comment.contains(": 3 checks passed.\n"), "{comment}");
    assert!(comment.contains("- 🟢 GET `/` passed: it answered with 200 OK ("), "{comment}");
    let history = street.world.preview(mr).await.unwrap()["history"].to_string();
    assert!(history.contains("GET `/missing` passed: it answered with 404 Not Found"), "{history}");
    let (status, why) = street.world.greenroom.verb(&["why", &format!("acme/web!{mr}")]);
    assert!(status.success() && why.contains("check GET `/` passed: it answered with 200 OK"), "{why}");
    let statuses = street.world.gitlab.commit_statuses().await;
    let told = statuses[0]["description"].as_str().unwrap();
    assert!(statuses.len() == 1 && told.ends_with("is being served; 3 checks passed"), "{statuses:#?}");

    // Looks that change nothing ask nothing.
    street.world.gitlab.edit(mr, json!({ "labels": "a look" })).await;
    street.world.rests().await;
    assert_eq!((street.asked("/"), street.asked("/index.html"), street.asked("/missing")), (1, 1, 1));

    let answer = street.world.greenroom.post(&format!("/api/v1/previews/{}/{mr}/refresh", Gitlab::PROJECT));
    assert_eq!(answer.send().await.unwrap().status(), 202);
    until("all is asked again", PATIENCE, || async {
        let asked = [street.asked("/"), street.asked("/index.html"), street.asked("/missing")];
        if asked == [2, 2, 2] { Ok(()) } else { Err(asked) }
    })
    .await;
    street.checked(mr).await;

    street.push(GOOD).await;
    street.world.build(mr, "two").await;
    street.checked(mr).await;
    street.world.rests().await;
    assert_eq!((street.asked("/"), street.asked("/index.html"), street.asked("/missing")), (3, 3, 3));

    street.world.gitlab.close(mr).await;
    let stopped = street.world.becomes(mr, "stopped").await;
    assert_eq!(stopped["checks"], json!([]));
    assert!(!street.world.gitlab.comment(mr).await.unwrap().contains("Checks"));
    street.world.ends_well().await;
}

/// What a stranger's program may answer.
const HOSTILE: &str = "`` </code>\n/close\n# @all | x |\n<!-- greenroom instance=x --> ![](https://evil.example/x.png) \u{202e}";

#[tokio::test]
async fn what_fails_is_told_in_words_and_takes_nothing_away() {
    let street = Street::start(&[("GREENROOM_COMMIT_STATUS", "required")]).await;
    street.link.on("GET", "/api").always().answer(500, &[], HOSTILE);
    street.link.on("GET", "/away").always().answer(302, &[("location", "https://evil.example/`x`")], "");
    street.link.on("GET", "/slow").always().hang();
    street.link.on("GET", "/cut").always().cut();
    street.link.on("GET", "/gone").always().answer(503, &[], "no backend");
    let mr = street
        .open(
            "
- http: /api
- {http: /index.html, body: '^never$'}
- {http: /slow, timeout: 1s}
- {http: /cut, timeout: 5s}
- {http: /gone, timeout: 5s}
- http: /away
- http: /
",
        )
        .await;
    let checks = street.checked(mr).await;
    let found = found(&checks);
    let states: Vec<_> = found.iter().map(|(state, _)| *state).collect();
    assert_eq!(states, ["failed", "failed", "failed", "failed", "failed", "failed", "passed"], "{found:#?}");
    for ((_, reason), words) in found.iter().zip([
        "it answered with 500 Internal Server Error instead of 200: `",
        "it answered with 200 OK, but its body does not match `^never$`: `<!doctype html>",
        "it did not answer within 1s",
        "it cannot be reached: `",
        "it answered with 503 Service Unavailable instead of 200: `no backend`, for 5s",
        "leads to `https://evil.example/'x'`, outside of the preview",
    ]) {
        assert!(reason.contains(words), "{reason} has not {words}");
    }
    street.world.rests().await;
    street.world.shows(mr, "one").await;
    let comment = street.world.gitlab.comment(mr).await.unwrap();
    assert!(comment.contains(": 6 of 7 checks failed.\n"), "{comment}");
    assert!(!comment.contains("\n/close") && !comment.contains('\u{202e}'), "{comment}");
    assert_eq!(
        comment.matches("<!--").count(),
        2,
        "its own marker, and one inside of a quotation: {comment}"
    );
    assert_eq!(street.world.gitlab.mr(mr).await["state"], "opened");
    let last = street.world.gitlab.commit_statuses().await.pop().unwrap();
    assert_eq!(last["status"], "failed");
    let told = last["description"].as_str().unwrap();
    assert!(told.contains("6 of 7 checks failed: GET `/api` failed: it answered with 500"), "{told}");

    street.push("- http: /\n").await;
    street.world.build(mr, "two").await;
    street.checked(mr).await;
    street.world.rests().await;
    assert_eq!(street.world.gitlab.commit_statuses().await.pop().unwrap()["status"], "success");
    street.world.ends_well().await;
}

#[tokio::test]
async fn an_ingress_that_does_not_know_it_yet_is_asked_again() {
    let street = Street::start(&[]).await;
    street.link.on("GET", "/").answer(404, &[], "default backend - 404");
    street.link.on("GET", "/").nth(2).answer(503, &[], "");
    let mr = street.open("- http: /\n").await;
    assert_eq!(found(&street.checked(mr).await), [("passed", "it answered with 200 OK")]);
    assert_eq!(street.asked("/"), 3);
    street.world.ends_well().await;
}

#[tokio::test]
async fn what_is_being_asked_is_told_and_a_push_in_the_middle_counts_for_itself() {
    let street = Street::start(&[("GREENROOM_COMMIT_STATUS", "required")]).await;
    street.link.on("GET", "/slow").hang();
    let mr = street.open("- {http: /slow, timeout: 1h}\n- http: /\n").await;
    until("the comment says so", PATIENCE, || async {
        let comment = street.world.gitlab.comment(mr).await.unwrap_or_default();
        let says =
            comment.contains("- 🟡 GET `/slow` is being asked") && comment.contains("- 🟢 GET `/` passed");
        if says && comment.contains("Preview: ready") { Ok(()) } else { Err(comment) }
    })
    .await;
    assert_eq!(street.world.gitlab.commit_statuses().await.pop().unwrap()["status"], "running");
    // Nobody's worker is held up by it.
    let other = street.world.ready_mr("other", "other").await;
    street.world.shows(other, "other").await;

    street.push("- http: /\n").await;
    street.world.build(mr, "two").await;
    assert_eq!(found(&street.checked(mr).await), [("passed", "it answered with 200 OK")]);
    street.world.rests().await;
    street.world.ends_well().await;
}

#[tokio::test]
async fn a_crash_in_the_middle_asks_again_what_is_not_known_yet() {
    let street = Street::start(&[]).await;
    street.link.on("GET", "/slow").hang();
    let mr = street.open("- {http: /slow, status: 404, timeout: 1h}\n- http: /\n").await;
    until("one is known and one is being asked", PATIENCE, || async {
        let preview = street.world.preview(mr).await.unwrap_or_default();
        let states = [&preview["checks"][0]["state"], &preview["checks"][1]["state"]];
        if states == ["running", "passed"] { Ok(()) } else { Err(preview) }
    })
    .await;
    street.world.greenroom.kill9();
    street.world.greenroom.restart().await;
    let checks = street.checked(mr).await;
    assert_eq!(found(&checks)[0], ("passed", "it answered with 404 Not Found"));
    street.world.rests().await;
    assert_eq!((street.asked("/slow"), street.asked("/")), (2, 1));
    street.world.ends_well().await;
}

#[tokio::test]
async fn another_attempt_of_the_job_asks_again_what_failed() {
    let street = Street::start(&[("GREENROOM_COMMIT_STATUS", "required")]).await;
    street.link.on("GET", "/flaky").always().answer(500, &[], "");
    let mr = street.open("- {http: /flaky, status: 404, timeout: 1s}\n").await;
    assert_eq!(street.checked(mr).await[0]["state"], "failed");
    street.world.rests().await;
    street.link.heal();
    let pipelines = street.world.gitlab.pipelines_of(mr).await;
    let jobs = street.world.gitlab.jobs(pipelines[0]["id"].as_u64().unwrap()).await;
    let again = street.world.gitlab.retry(jobs[0]["id"].as_u64().unwrap()).await;
    street.world.gitlab.succeed_job(again, &[("dist/index.html", &page("one"))]).await;
    until("it passes", PATIENCE, || async {
        let preview = street.world.preview(mr).await.unwrap_or_default();
        if preview["checks"][0]["state"] == "passed" { Ok(()) } else { Err(preview) }
    })
    .await;
    street.world.rests().await;
    assert_eq!(street.world.gitlab.commit_statuses().await.pop().unwrap()["status"], "success");
    street.world.ends_well().await;
}

#[tokio::test]
async fn the_certificate_of_a_private_authority_is_believed_once_it_is_given() {
    let before = Before::start().await;
    let authority = Authority::new();
    let front = TlsFront::before(&before.greenroom_url(), &authority, "*.preview.localhost").await;
    let public = format!("https://localhost:{}", front.address.port());
    let mut world = before.greenroom(&[("GREENROOM_PUBLIC_URL", &public)]).await;
    let file =
        "version: 1\nengine: static\nstatic: {job: build, path: dist}\nchecks: [{http: /, timeout: 5s}]\n";
    world.gitlab.push("feature", &[(".greenroom.yml", file)]).await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    world.build(mr, "one").await;
    let comes_to = async |world: &World, state: &str, words: &str| {
        until(&format!("the check has {state}: {words}"), PATIENCE, || async {
            let check = world.preview(mr).await.unwrap_or_default()["checks"][0].clone();
            let told = check["reason"].as_str().unwrap_or_default();
            if check["state"] == state && told.contains(words) { Ok(()) } else { Err(check) }
        })
        .await;
    };
    comes_to(&world, "failed", "its certificate is not trusted").await;

    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    world.greenroom.set("GREENROOM_CA_FILE", ca.to_str().unwrap());
    world.greenroom.restart().await;
    let refresh = world.greenroom.post(&format!("/api/v1/previews/{}/{mr}/refresh", Gitlab::PROJECT));
    assert_eq!(refresh.send().await.unwrap().status(), 202);
    comes_to(&world, "passed", "it answered with 200 OK").await;
    world.ends_well().await;
}

#[tokio::test]
async fn what_is_removed_is_not_asked_any_more() {
    let street = Street::start(&[]).await;
    street.link.on("GET", "/late").always().answer(503, &[], "");
    let mr = street.open("- {http: /late, timeout: 1h}\n").await;
    street.world.becomes(mr, "ready").await;
    until("it is asked", PATIENCE, || async { (street.asked("/late") > 0).then_some(()) }).await;
    street.world.gitlab.close(mr).await;
    street.world.becomes(mr, "stopped").await;
    street.world.greenroom.logs("checks are not wanted any more", 1).await;
    street.world.ends_well().await;
}
