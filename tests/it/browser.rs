//! What a reviewer sees in a real browser who follows the link.

use crate::support::{browser::Browser, world::World};

/// A page whose script says `text`; without the script it says something else.
fn application(text: &str) -> [(&'static str, String); 3] {
    let index = "<!doctype html><title>waiting</title><link rel=stylesheet href=style.css>\
                 <p id=told>nothing yet</p><script src=app.js defer></script>";
    let script = format!(
        "document.getElementById('told').textContent = '{text}'; \
         document.title = getComputedStyle(document.body).color;"
    );
    [
        ("dist/index.html", index.to_owned()),
        ("dist/style.css", "body { color: rgb(1, 2, 3) }".to_owned()),
        ("dist/app.js", script),
    ]
}

async fn shown(world: &World, branch: &str, files: &[(&'static str, String)]) -> (u64, String) {
    let mr = world.gitlab.open_mr(branch, branch).await;
    let pipeline = world.gitlab.start_pipeline(mr).await;
    let files: Vec<_> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
    world.gitlab.succeed_job(pipeline.job, &files).await;
    let ready = world.becomes(mr, "ready").await;
    (mr, ready["url"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn the_link_opens_an_application_that_runs() {
    let Some(browser) = Browser::find() else { return };
    let world = World::start().await;
    let (mr, url) = shown(&world, "feature", &application("the script ran")).await;
    let port = world.greenroom.url().port().unwrap();
    assert_eq!(url, format!("http://web-42-mr-{mr}.preview.localhost:{port}"));
    let dom = browser.dom(&format!("{url}/")).await;
    assert!(dom.contains("<p id=\"told\">the script ran</p>"), "{dom}");
    assert!(dom.contains("<title>rgb(1, 2, 3)</title>"), "the style sheet counts: {dom}");
    world.ends_well().await;
}

#[tokio::test]
async fn before_the_first_deployment_the_link_says_what_is_waited_for() {
    let Some(browser) = Browser::find() else { return };
    let world = World::start().await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let waiting = world.becomes(mr, "waiting").await;
    let dom = browser.dom(waiting["url"].as_str().unwrap()).await;
    assert!(dom.contains("no pipeline has finished for commit"), "{dom}");
    assert!(dom.contains("This page looks again every "), "{dom}");
    world.ends_well().await;
}

#[tokio::test]
async fn two_previews_do_not_see_each_others_files() {
    let Some(browser) = Browser::find() else { return };
    let world = World::start().await;
    let mut secret = application("the first").to_vec();
    secret.push(("dist/secret.txt", "of the first".to_owned()));
    let (_, first) = shown(&world, "first", &secret).await;
    // The second one tries to read the first one's file, at its own host and across.
    let index = format!(
        "<!doctype html><p id=told>nothing yet</p><script>\
         \
         const read = url => {{ const r = new XMLHttpRequest(); r.open('GET', url, false); \
         try {{ r.send(); return r.status }} catch {{ return 'refused' }} }}; \
         document.getElementById('told').textContent = \
         `own host: ${{read('/secret.txt')}}, across: ${{read('{first}/secret.txt')}}`;</script>"
    );
    let (_, second) = shown(&world, "second", &[("dist/index.html", index)]).await;
    let dom = browser.dom(&format!("{second}/")).await;
    assert!(dom.contains("<p id=\"told\">own host: 404, across: refused</p>"), "{dom}");
    let dom = browser.dom(&format!("{first}/secret.txt")).await;
    assert!(dom.contains("of the first"), "its own host has it: {dom}");
    world.ends_well().await;
}
