//! Connections that were there before the watch began, or of which it has missed something.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio::time::sleep;

use super::client::Client;
use super::helper::Helper;
use testbed::Replica;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn silent_requests_are_seen_on_connections_that_were_busy_the_moment_before() {
    let replica = Replica::start(&[]).await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(Client::connect(&replica).await);
    }
    let warm_up = Instant::now();
    let mut watch = None;
    while warm_up.elapsed() < SECOND {
        if watch.is_none() && warm_up.elapsed() > SECOND / 2 {
            watch = Some(Helper::watch(&replica, &[]).await);
        }
        for client in &mut clients {
            client.get("/").await;
        }
    }
    let mut watch = watch.expect("the warm-up lasts a second");
    for (number, client) in clients.iter_mut().enumerate() {
        client
            .send(if number < 3 { "/?wait=10s" } else { "/" })
            .await;
    }
    for client in &mut clients[3..] {
        client.answer().await;
    }
    watch
        .stays("unanswered", |traffic| traffic.unanswered == 3)
        .await;
    for client in &mut clients[..3] {
        client.answer().await;
    }
    assert_eq!(watch.ask().await.unanswered, 0);
}

#[tokio::test]
async fn connections_that_were_idle_before_the_watch_began_are_not_busy() {
    let replica = Replica::start(&[]).await;
    let mut clients = Vec::new();
    for requests in 1..6 {
        let mut client = Client::connect(&replica).await;
        for _ in 0..requests {
            client.get("/").await;
        }
        clients.push(client);
    }
    sleep(Duration::from_millis(300)).await;
    let mut watch = Helper::watch(&replica, &[]).await;
    let idle = watch.ask().await;
    assert_eq!((idle.connections, idle.busy()), (5, false));
}

#[tokio::test]
async fn a_request_that_was_silent_before_the_watch_began_is_unanswered() {
    let replica = Replica::start(&[]).await;
    let mut client = Client::connect(&replica).await;
    client.get("/").await;
    sleep(Duration::from_millis(50)).await;
    client.send("/?wait=10s").await;
    sleep(Duration::from_millis(300)).await;
    let mut watch = Helper::watch(&replica, &[]).await;
    watch
        .stays("unanswered", |traffic| traffic.unanswered == 1)
        .await;
    client.answer().await;
    watch.until("not busy", |traffic| !traffic.busy()).await;
}

#[tokio::test]
async fn an_answer_that_paused_when_the_watch_began_streams_once_it_goes_on() {
    let replica = Replica::start(&[]).await;
    let mut client = Client::connect(&replica).await;
    client.send("/chunks?n=4&pause=2s").await;
    sleep(Duration::from_millis(300)).await;
    let mut watch = Helper::watch(&replica, &[]).await;
    watch
        .until("streaming", |traffic| traffic.streaming == 1)
        .await;
    client.chunks().await;
    assert!(watch.ask().await.busy());
    // The next request makes the connection known, and its end certain.
    client.get("/").await;
    assert_eq!(watch.ask().await.streaming, 0);
}

#[tokio::test]
async fn without_the_capability_the_ages_decide() {
    let replica = Replica::start(&[]).await;
    for (options, exact) in [(&[][..], true), (&["--cap-drop", "NET_RAW"][..], false)] {
        let mut watch = Helper::watch_in_container(&replica, options).await;
        let mut client = Client::connect(&replica).await;
        client.get("/").await;
        sleep(Duration::from_millis(50)).await;
        client.send("/?wait=3s").await;
        watch
            .until("one request", |traffic| traffic.unanswered == 1)
            .await;
        assert_eq!(watch.ask().await.exact, exact);
        client.answer().await;
        watch.until("not busy", |traffic| !traffic.busy()).await;
    }
}

#[tokio::test]
async fn a_watch_that_missed_packets_still_sees_the_silent_request_among_them() {
    let replica = Replica::start(&[]).await;
    let mut watch = Helper::watch(&replica, &["--quiet", "1000"]).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = Client::connect(&replica).await;
        client.get("/").await;
        clients.push(client);
    }
    watch.signal(Signal::SIGSTOP);
    for client in &mut clients {
        // More than the queue of the packet socket holds.
        client.get("/data?size=20000000").await;
    }
    clients[0].send("/?wait=15s").await;
    clients[1].get("/").await;
    sleep(Duration::from_millis(300)).await;
    watch.signal(Signal::SIGCONT);
    watch
        .stays("unanswered", |traffic| traffic.unanswered >= 1)
        .await;
    // The others count as answered once they have been silent.
    watch
        .until("the silent one alone", |traffic| traffic.unanswered == 1)
        .await;
    clients[0].answer().await;
    watch.until("not busy", |traffic| !traffic.busy()).await;
}
