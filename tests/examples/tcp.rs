//! `tcp`: an open connection lives on with the old replica until it is closed, and each new one reaches the new.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{sync::watch, time::sleep};

use super::folder::Example;
use crate::shapes::lines::{Talk, conversation, moved_at_once, repeated, until_answered};
use testbed::free_port;

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_a_tcp_service_end_where_they_began() {
    let mut example = Example::new("tcp", "ECHO_IMAGE");
    let port = free_port();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    // The application's own health check speaks HTTP.
    example.stack.set("ECHO_IMAGE", "rollout-demo:v1-plain");
    example.stack.set("TCP_PORT", port);
    example.stack.compose(&["up", "-d"]).await;
    until_answered("v1", || conversation(address)).await;
    let stop = watch::Sender::new(false);
    let load = repeated(&stop, move || conversation(address));
    let mut long = Talk::open(address).await.unwrap();
    long.ask("before").await.unwrap();
    example.stack.set("ECHO_IMAGE", "rollout-demo:v2-plain");
    example.is_well_but_for(&["health-check"]).await;
    let mut running = example.stack.start_rollout(&["echo"]);
    running.reaches("step_started", "drain").await;
    for number in 0..10 {
        let kept = long.ask(&format!("line {number}")).await;
        assert_eq!(kept.as_deref(), Ok("v1"));
        assert_eq!(conversation(address).await.as_deref(), Ok("v2"));
        sleep(Duration::from_millis(100)).await;
    }
    drop(long);
    let run = running.wait().await;
    stop.send_replace(true);
    run.code(0);
    moved_at_once(&load.await.unwrap());
    let after = example.replicas(&["echo"]).await;
    example.stack.compose(&["up", "-d"]).await;
    assert_eq!(example.replicas(&["echo"]).await, after);
    example.stack.no_leftovers().await;
    example.taken_down().await;
}
