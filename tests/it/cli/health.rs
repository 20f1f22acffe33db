//! `greenroom health`, as a container asks it.

use insta::assert_snapshot;
use sqlx::{Connection, Executor, SqliteConnection};

use super::{Shell, shown};
use crate::support::{free_address, world::World};

#[tokio::test]
async fn is_good_as_long_as_the_store_can_be_written() {
    let world = World::start().await;
    let health = || {
        let (status, text) = world.greenroom.verb(&["health"]);
        (status.code().unwrap(), text.replace(world.greenroom.url().as_str(), "[server]/"))
    };
    assert_eq!(health(), (0, "ready\n".into()));

    let file = format!("sqlite://{}", world.greenroom.data().join("greenroom.db").display());
    let mut other = SqliteConnection::connect(&file).await.unwrap();
    other.execute("BEGIN EXCLUSIVE").await.unwrap();
    let (code, text) = health();
    assert_eq!(code, 1);
    assert!(
        text.starts_with("error: [server]/readyz answered 503 Service Unavailable: the store does not"),
        "{text}"
    );
    other.execute("ROLLBACK").await.unwrap();
    assert_eq!(health().0, 0);

    world.greenroom.kill9();
    let (code, text) = health();
    assert_eq!(code, 3);
    assert!(text.starts_with("error: [server]/readyz does not answer: "), "{text}");
}

#[test]
fn asks_where_the_settings_say_that_the_server_listens() {
    let shell = Shell::new();
    shell.writes("greenroom.toml", &format!("listen = '{}'\n", free_address()));
    assert_eq!(shell.runs(&["health", "--config", "greenroom.toml"]).0, 3);
    shell.writes("greenroom.toml", "listen = 'here'\n");
    assert_snapshot!(shown(shell.runs(&["health", "--config", "greenroom.toml"])));
}
