//! Deliveries over real HTTP: what is answered, and what holds after the answer.

use std::time::{Duration, Instant};

use futures::future::join_all;
use sqlx::{Connection, Executor, SqliteConnection};

use super::{alone, deliveries, metric};
use crate::support::{
    PATIENCE, courier::Delivery, gitlab::Gitlab, greenroom::Greenroom, until, wire::Wire, world::World,
};

/// A GitLab that sends nothing by itself: what is delivered is up to the test.
async fn silent_world() -> World {
    let gitlab = Gitlab::start(None).await;
    let wire = Wire::to_gitlab(&gitlab.url()).await;
    let url = wire.url().to_string();
    let greenroom = alone(&[("GREENROOM_GITLAB_URL", &*url)]).await;
    World { greenroom, wire, gitlab }
}

async fn looks(greenroom: &Greenroom) -> u64 {
    metric(greenroom, "greenroom_looks_done_total").await
}

#[tokio::test]
async fn what_was_accepted_survives_a_kill() {
    let world = silent_world().await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    world.wire.cut();
    let delivery = Delivery::about(mr);
    assert_eq!(delivery.deliver(&world.greenroom).await, 202);
    world.greenroom.kill9();
    world.wire.heal();
    world.greenroom.restart().await;
    world.becomes(mr, "waiting").await;
    assert_eq!(
        delivery.deliver(&world.greenroom).await,
        202,
        "known from before the kill, the answer is the same"
    );
    assert_eq!(deliveries(&world.greenroom, "repeated").await, 1);
    world.ends_well().await;
}

#[tokio::test]
async fn a_repetition_gets_the_same_answer_and_no_second_look() {
    let world = silent_world().await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let delivery = Delivery::about(mr);
    assert_eq!(delivery.deliver(&world.greenroom).await, 202);
    world.becomes(mr, "waiting").await;
    world.rests().await;
    let before = (looks(&world.greenroom).await, world.wire.calls().len());
    for _ in 0..3 {
        assert_eq!(delivery.deliver(&world.greenroom).await, 202);
    }
    world.rests().await;
    assert_eq!((looks(&world.greenroom).await, world.wire.calls().len()), before);
    assert_eq!(deliveries(&world.greenroom, "look").await, 1);
    assert_eq!(deliveries(&world.greenroom, "repeated").await, 3);

    assert_eq!(Delivery::about(mr).deliver(&world.greenroom).await, 202);
    until("another delivery is another look", PATIENCE, || async {
        let now = looks(&world.greenroom).await;
        if now > before.0 { Ok(()) } else { Err(now) }
    })
    .await;
    world.ends_well().await;
}

#[tokio::test]
async fn who_cannot_prove_to_be_gitlab_is_refused() {
    let greenroom = alone(&[]).await;
    let stranger = "whsec_bm9ib2R5bm9ib2R5bm9ib2R5bm9ib2R5bm9ib2R5ISE=";
    let minutes = |n: u64| Duration::from_secs(60 * n);
    for (delivery, expected) in [
        (Delivery::about(1).signed_with(stranger), 401),
        (Delivery::about(1).with_token("guessed"), 401),
        (Delivery::about(1).sent_before(minutes(6)), 401),
        (Delivery::about(1).sent_before(minutes(4)), 202),
    ] {
        assert_eq!(delivery.deliver(&greenroom).await, expected, "{delivery:?}");
    }
    assert_eq!(greenroom.post("/webhooks/gitlab").body("{}").send().await.unwrap().status(), 401);
    assert_eq!(deliveries(&greenroom, "refused").await, 4);
}

#[tokio::test]
async fn what_gitlab_would_not_send_is_too_large() {
    let greenroom = alone(&[]).await;
    let large = Delivery::saying(vec![b' '; 25 * 1024 * 1024 + 1]);
    assert_eq!(large.deliver(&greenroom).await, 413);
    assert_eq!(large.stream(&greenroom).await, 413);
    assert_eq!(deliveries(&greenroom, "too_large").await, 2);
}

#[tokio::test]
async fn what_cannot_be_read_is_taken_all_the_same() {
    let greenroom = alone(&[]).await;
    for body in [
        &b""[..],
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe",
        b"\0",
        b"<html>",
        br#"{"object_kind":"merge_request"}"#,
        br#"{"object_kind":"merge_request","project":{"id":-1},"object_attributes":{"iid":"one"}}"#,
    ] {
        let status = Delivery::saying(body).deliver(&greenroom).await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(body));
    }
    let deep = "[".repeat(100_000);
    assert_eq!(Delivery::saying(deep).deliver(&greenroom).await, 200);
    assert_eq!(Delivery::saying(r#"{"object_kind":"moon_phase"}"#).deliver(&greenroom).await, 200);
    assert_eq!(deliveries(&greenroom, "unknown").await, 1);
}

#[tokio::test]
async fn only_post_is_meant() {
    let greenroom = alone(&[]).await;
    let answer = greenroom.get("/webhooks/gitlab").await;
    assert_eq!((answer.status().as_u16(), answer.headers()["allow"].to_str().unwrap()), (405, "POST"));
}

#[tokio::test]
async fn many_at_once_are_all_taken() {
    let world = silent_world().await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let all: Vec<_> = (0..200).map(|_| Delivery::about(mr)).collect();
    let statuses = join_all(all.iter().map(|delivery| delivery.deliver(&world.greenroom))).await;
    assert!(statuses.iter().all(|status| *status == 202), "{statuses:?}");
    assert_eq!(deliveries(&world.greenroom, "look").await, 200);
    world.becomes(mr, "waiting").await;
    world.rests().await;
    let looks = looks(&world.greenroom).await;
    assert!(looks < 100, "{looks} looks for what one could see");
    world.ends_well().await;
}

#[tokio::test]
async fn while_the_store_is_down_gitlab_is_told_in_time() {
    let world = silent_world().await;
    let mr = world.gitlab.open_mr("feature", "A feature").await;
    let file = format!("sqlite://{}", world.greenroom.data().join("greenroom.db").display());
    let mut other = SqliteConnection::connect(&file).await.unwrap();
    other.execute("BEGIN EXCLUSIVE").await.unwrap();

    let deliver = async |delivery: &Delivery| {
        let began = Instant::now();
        let status = delivery.deliver(&world.greenroom).await;
        let time = began.elapsed();
        assert_eq!(status, 503);
        assert!(time < PATIENCE, "it does not wait for the store for ever: {time:?}");
    };
    // Some come while others are waiting already.
    let all: Vec<_> = (0..20).map(|_| Delivery::about(mr)).collect();
    let (first, later) = all.split_at(10);
    tokio::join!(join_all(first.iter().map(deliver)), async {
        assert_eq!(world.greenroom.get("/livez").await.status(), 200);
        assert_eq!(world.greenroom.get("/readyz").await.status(), 503);
        join_all(later.iter().map(deliver)).await;
    });

    other.execute("ROLLBACK").await.unwrap();
    assert_eq!(all[0].deliver(&world.greenroom).await, 202);
    world.becomes(mr, "waiting").await;
    assert_eq!(world.greenroom.get("/readyz").await.status(), 200);
    world.ends_well().await;
}
