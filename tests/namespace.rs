//! The program inside a replica's network namespace, beside the demo application on the real engine.

mod answers;
mod client;
mod connect;
mod helper;
mod joined;
mod probe;
mod streams;

use std::time::{Duration, Instant};

use helper::Helper;
use testbed::Replica;
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn an_idle_database_connection_that_last_received_is_nothing() {
    let database = Replica::start_image("rollout-demo:db", &[]).await;
    let replica = Replica::start(&["DB", &database.address.to_string()]).await;
    let mut watch = Helper::watch(&replica, &[]).await;
    // The one that found out whether the application listens may still be closing.
    let alone = watch
        .until("alone", |traffic| traffic.connections == 0)
        .await;
    assert!(!alone.busy());
}

#[tokio::test]
async fn what_comes_from_inside_the_container_never_counts() {
    let replica = Replica::start(&["LOOPBACK_CHECK", "1"]).await;
    let mut watch = Helper::watch(&replica, &[]).await;
    let _probe = Helper::start(
        &replica,
        &["probe", "--port", "80", "--http", "/?wait=500ms"],
    )
    .await;
    // The one that found out whether the application listens may still be closing.
    watch
        .until("alone", |traffic| traffic.connections == 0)
        .await;
    let began = Instant::now();
    while began.elapsed() < 2 * SECOND {
        assert_eq!(watch.ask().await.connections, 0);
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn the_helper_leaves_when_its_input_ends_and_when_it_is_told_to() {
    let replica = Replica::start(&[]).await;
    let watch = Helper::watch(&replica, &[]).await;
    assert_eq!(watch.close_input().await.code(), Some(0));
    let watch = Helper::watch(&replica, &[]).await;
    assert_eq!(watch.terminate().await.code(), Some(0));
}
