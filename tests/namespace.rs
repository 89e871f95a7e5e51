//! The program inside a replica's network namespace, beside the demo application on the real engine.

mod client;
mod helper;
mod probe;
mod replica;

use std::time::{Duration, Instant};

use client::Client;
use helper::Helper;
use replica::Replica;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn an_idle_keep_alive_connection_is_not_busy() {
    let replica = Replica::start(&[]).await;
    let mut watch = Helper::watch(&replica, &[]).await;
    let mut client = Client::connect(&replica).await;
    for _ in 0..20 {
        client.get("/").await;
    }
    let idle = watch
        .until("idle", |traffic| {
            traffic.connections == 1 && !traffic.busy()
        })
        .await;
    assert!(idle.exact);
    sleep(Duration::from_millis(300)).await;
    assert!(!watch.ask().await.busy());
}

#[tokio::test]
async fn a_silent_request_is_unanswered_until_it_is_answered() {
    let replica = Replica::start(&[]).await;
    let mut watch = Helper::watch(&replica, &[]).await;
    let mut client = Client::connect(&replica).await;
    client.send("/?wait=3s").await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(2500) {
        assert_eq!(
            watch.ask().await.unanswered,
            u32::from(began.elapsed() > Duration::ZERO)
        );
        sleep(Duration::from_millis(50)).await;
    }
    client.answer().await;
    assert_eq!(watch.ask().await.unanswered, 0);
    let answered = Instant::now();
    watch.until("not busy", |traffic| !traffic.busy()).await;
    assert!(answered.elapsed() < Duration::from_millis(500));
}

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
            .send(if number < 3 { "/?wait=2s" } else { "/" })
            .await;
    }
    for client in &mut clients[3..] {
        client.answer().await;
    }
    let silent = Instant::now();
    while silent.elapsed() < Duration::from_millis(1500) {
        assert_eq!(watch.ask().await.unanswered, 3);
        sleep(Duration::from_millis(20)).await;
    }
    for client in &mut clients[..3] {
        client.answer().await;
    }
    assert_eq!(watch.ask().await.unanswered, 0);
}

#[tokio::test]
async fn a_chunked_answer_is_unanswered_through_its_pauses() {
    let replica = Replica::start(&[]).await;
    let mut watch = Helper::watch(&replica, &[]).await;
    let mut client = Client::connect(&replica).await;
    client.send("/chunks?n=3&pause=1s").await;
    let began = Instant::now();
    sleep(Duration::from_millis(20)).await;
    while began.elapsed() < Duration::from_millis(1900) {
        assert_eq!(watch.ask().await.unanswered, 1);
        sleep(Duration::from_millis(50)).await;
    }
    client.chunks().await;
    assert_eq!(watch.ask().await.unanswered, 0);
}

#[tokio::test]
async fn one_silent_stream_of_two_keeps_an_h2c_connection_unanswered() {
    let replica = Replica::start(&[]).await;
    for protocol in ["http1", "h2c"] {
        let mut watch = Helper::watch(&replica, &["--protocol", protocol]).await;
        let http2 = client::http2(&replica).await;
        let silent = tokio::spawn(client::get_http2(http2.clone(), "/?wait=2s"));
        client::get_http2(http2.clone(), "/").await;
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(1500) {
            assert_eq!(watch.ask().await.unanswered, 1, "{protocol}");
            client::get_http2(http2.clone(), "/").await;
            sleep(Duration::from_millis(50)).await;
        }
        silent.await.unwrap();
        assert_eq!(watch.ask().await.unanswered, 0, "{protocol}");
        watch.until("not busy", |traffic| !traffic.busy()).await;
    }
}

#[tokio::test]
async fn an_h2c_connection_joined_halfway_holds_until_it_is_silent_or_known() {
    let replica = Replica::start(&[]).await;
    let http2 = client::http2(&replica).await;
    let silent = tokio::spawn(client::get_http2(http2.clone(), "/?wait=2s"));
    client::get_http2(http2.clone(), "/").await;
    let mut watch = Helper::watch(&replica, &["--protocol", "h2c", "--quiet", "2500"]).await;
    assert!(watch.ask().await.busy());
    silent.await.unwrap();
    let began = Instant::now();
    watch.until("not busy", |traffic| !traffic.busy()).await;
    assert!(began.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn a_websocket_streams_while_it_moves_and_an_idle_one_is_not_busy() {
    let replica = Replica::start(&[]).await;
    let mut watch = Helper::watch(&replica, &["--quiet", "500"]).await;
    let mut socket = client::websocket(&replica).await;
    let open = watch.ask().await;
    assert_eq!((open.streaming, open.unanswered), (1, 0));
    watch.until("silent", |traffic| !traffic.busy()).await;
    client::echo(&mut socket).await;
    assert_eq!(watch.ask().await.streaming, 1);
    let idle = watch.until("silent again", |traffic| !traffic.busy()).await;
    assert_eq!(idle.connections, 1);
}

#[tokio::test]
async fn an_idle_database_connection_that_last_received_is_nothing() {
    let database = Replica::start_image("rollout-demo:db", &[]).await;
    let replica = Replica::start(&["DB", &database.address.to_string()]).await;
    let mut watch = Helper::watch(&replica, &[]).await;
    let traffic = watch.ask().await;
    assert_eq!((traffic.connections, traffic.busy()), (0, false));
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
async fn a_download_is_busy_until_the_client_has_taken_its_last_byte() {
    let replica = Replica::start(&[]).await;
    let mut watch = Helper::watch(&replica, &[]).await;
    let mut client = Client::connect(&replica).await;
    client.send("/data?size=30000000").await;
    let stuck = watch.until("unsent", |traffic| traffic.unsent == 1).await;
    assert_eq!(stuck.connections, 1);
    sleep(SECOND).await;
    assert!(watch.ask().await.busy());
    client.answer().await;
    watch.until("not busy", |traffic| !traffic.busy()).await;
}

#[tokio::test]
async fn a_small_answer_that_only_the_send_queue_holds_is_busy() {
    let replica = Replica::start(&[]).await;
    let mut watch = Helper::watch(&replica, &[]).await;
    let mut client = Client::with_a_small_window(&replica).await;
    client.send("/data?size=200000").await;
    // By now the application has written everything and thinks of other things.
    sleep(SECOND).await;
    let stuck = watch.ask().await;
    assert!(stuck.unsent == 1 && stuck.busy(), "{stuck:?}");
    client.answer().await;
    watch.until("not busy", |traffic| !traffic.busy()).await;
}

#[tokio::test]
async fn an_upload_under_way_is_unanswered() {
    let replica = Replica::start(&[]).await;
    let mut watch = Helper::watch(&replica, &[]).await;
    let mut client = Client::connect(&replica).await;
    let head = b"POST /upload HTTP/1.1\r\nHost: web\r\nContent-Length: 20\r\n\r\n0123456789";
    client.stream.write_all(head).await.unwrap();
    sleep(SECOND).await;
    assert_eq!(watch.ask().await.unanswered, 1);
    client.stream.write_all(b"0123456789").await.unwrap();
    client.answer().await;
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
    client.send("/?wait=2s").await;
    sleep(Duration::from_millis(300)).await;
    let mut watch = Helper::watch(&replica, &[]).await;
    assert_eq!(watch.ask().await.unanswered, 1);
    client.answer().await;
    watch.until("not busy", |traffic| !traffic.busy()).await;
}

#[tokio::test]
async fn an_answer_that_paused_when_the_watch_began_streams_once_it_goes_on() {
    let replica = Replica::start(&[]).await;
    let mut client = Client::connect(&replica).await;
    client.send("/chunks?n=4&pause=600ms").await;
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
        client.send("/?wait=1s").await;
        sleep(Duration::from_millis(200)).await;
        let traffic = watch.ask().await;
        assert_eq!((traffic.unanswered, traffic.exact), (1, exact));
        client.answer().await;
        watch.until("not busy", |traffic| !traffic.busy()).await;
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

#[tokio::test]
async fn a_connection_that_closes_without_an_answer_leaves_nothing_behind() {
    let replica = Replica::start(&[]).await;
    let mut watch = Helper::watch(&replica, &[]).await;
    let mut client = Client::connect(&replica).await;
    client.send("/?wait=30s").await;
    watch
        .until("unanswered", |traffic| traffic.unanswered == 1)
        .await;
    client.stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    client.stream.read_to_end(&mut rest).await.unwrap();
    watch
        .until("gone", |traffic| traffic.connections == 0)
        .await;
    assert!(!watch.ask().await.busy());
}
