//! Artifacts as strangers make them: gone, hostile, enormous. Each is refused in words, and the last good one stays.

use std::io::{Cursor, Write};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;
use zip::{ZipWriter, write::SimpleFileOptions};

use crate::support::world::World;

type Zip = ZipWriter<Cursor<Vec<u8>>>;

/// A zip archive with a page, and whatever `more` puts in.
fn zip(more: impl FnOnce(&mut Zip)) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::default());
    file(&mut zip, "dist/index.html", b"<h1>page</h1>");
    more(&mut zip);
    zip.finish().unwrap().into_inner()
}

fn file(zip: &mut Zip, name: &str, content: &[u8]) {
    zip.start_file(name, SimpleFileOptions::default()).unwrap();
    zip.write_all(content).unwrap();
}

/// The merge request's head gets this archive as its artifact; what people are told when it is refused.
async fn refused(world: &World, mr: u64, archive: &[u8]) -> String {
    world.gitlab.push("feature", &[("a", &archive.len().to_string())]).await;
    let pipeline = world.gitlab.start_pipeline(mr).await;
    let artifact = json!({ "zip_base64": STANDARD.encode(archive) });
    world
        .gitlab
        .act(&format!("jobs/{}", pipeline.job), json!({ "status": "success", "artifact": artifact }))
        .await;
    let failed = world.becomes(mr, "failed").await;
    world.shows(mr, "good").await;
    failed["reason"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn hostile_archives_are_refused_in_words_and_the_last_good_one_serves() {
    let world = World::start().await;
    let mr = world.ready_mr("feature", "good").await;

    let outside = zip(|zip| file(zip, "dist/../../../../tmp/greenroom-was-here", b"x"));
    let told = refused(&world, mr, &outside).await;
    assert!(told.contains("greenroom-was-here"), "{told}");
    assert!(!std::path::Path::new("/tmp/greenroom-was-here").exists());

    let link =
        zip(|zip| zip.add_symlink("dist/passwd", "/etc/passwd", SimpleFileOptions::default()).unwrap());
    let told = refused(&world, mr, &link).await;
    assert!(told.contains("dist/passwd") && told.contains("link"), "{told}");

    let bomb = zip(|zip| {
        zip.start_file("dist/bomb", SimpleFileOptions::default()).unwrap();
        for _ in 0..300 {
            zip.write_all(&vec![0; 1 << 20]).unwrap();
        }
    });
    assert!(bomb.len() < 1 << 20, "a bomb is small: {}", bomb.len());
    let told = refused(&world, mr, &bomb).await;
    assert!(told.contains("200"), "the ratio is named: {told}");

    let many = zip(|zip| (0..100_000).for_each(|n| file(zip, &format!("dist/{n}"), b"")));
    let told = refused(&world, mr, &many).await;
    assert!(told.contains("50000") || told.contains("50,000"), "the limit is named: {told}");

    let told = refused(&world, mr, b"this is no zip").await;
    assert!(told.contains("zip"), "{told}");

    // And then a good one again.
    world.gitlab.push("feature", &[("a", "last")]).await;
    world.build(mr, "good again").await;
    world.becomes(mr, "ready").await;
    world.shows(mr, "good again").await;
    world.ends_well().await;
}

#[tokio::test]
async fn an_expired_artifact_is_told_and_a_served_one_may_expire() {
    let world = World::start().await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    world.becomes(mr, "waiting").await;
    world.wire.cut();
    let pipeline = world.build(mr, "one").await;
    world.gitlab.act(&format!("jobs/{}", pipeline.job), json!({ "expire_artifact": true })).await;
    world.wire.heal();
    let failed = world.becomes(mr, "failed").await;
    assert!(failed["reason"].as_str().unwrap().contains("has expired"), "{failed}");

    let again = world.gitlab.retry(pipeline.job).await;
    world.gitlab.succeed_job(again, &[("dist/index.html", &crate::support::world::page("two"))]).await;
    world.becomes(mr, "ready").await;
    world.gitlab.act(&format!("jobs/{again}"), json!({ "expire_artifact": true })).await;
    world.gitlab.edit(mr, json!({ "labels": "a look" })).await;
    world.rests().await;
    world.becomes(mr, "ready").await;
    world.shows(mr, "two").await;
    world.ends_well().await;
}

#[tokio::test]
async fn an_archive_above_the_limit_is_not_fetched_whole() {
    let world = World::start_with(&[("GREENROOM_ARTIFACT_MAX_MIB", "1")]).await;
    let mr = world.ready_mr("feature", "good").await;
    let mut noise = vec![0_u8; 3 << 20];
    let mut state = 0x9E37_79B9_u32;
    for byte in &mut noise {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        *byte = state.to_le_bytes()[0];
    }
    let told = refused(&world, mr, &zip(|zip| file(zip, "dist/noise", &noise))).await;
    assert!(told.contains("larger than 1 MiB"), "{told}");
    world.ends_well().await;
}

#[tokio::test]
async fn the_token_never_reaches_object_storage() {
    // The sandbox's storage refuses every request that carries a token, so a ready preview is the proof.
    let world = World::start().await;
    let mr = world.ready_mr("feature", "one").await;
    let answers: Vec<_> =
        world.wire.calls().into_iter().filter(|call| call.path.ends_with("/artifacts")).collect();
    assert!(answers.iter().any(|call| call.status == Some(302)), "{answers:?}");
    world.shows(mr, "one").await;
    world.ends_well().await;
}
