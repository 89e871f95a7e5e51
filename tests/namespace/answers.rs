//! HTTP/1.1 connections that the watch has seen from their beginning.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::client::Client;
use super::helper::{Helper, Traffic};
use testbed::Replica;

fn is_unanswered(traffic: &Traffic) -> bool {
    traffic.unanswered == 1
}

#[tokio::test]
async fn an_idle_keep_alive_connection_is_not_busy() {
    let replica = Replica::start(&[]).await;
    let mut watch = Helper::watch(&replica, &[]).await;
    let mut client = Client::connect(&replica).await;
    for _ in 0..20 {
        client.get("/").await;
    }
    // Earlier looks may show a pause between two requests.
    watch.ask().await;
    let idle = watch
        .until("idle", |traffic| {
            traffic.connections == 1 && !traffic.busy()
        })
        .await;
    assert!(idle.exact);
    watch.stays("idle", |traffic| !traffic.busy()).await;
}

#[tokio::test]
async fn a_silent_request_is_unanswered_until_it_is_answered() {
    let replica = Replica::start(&[]).await;
    // Far longer than this test waits for anything: silence ends nothing here.
    let mut watch = Helper::watch(&replica, &["--quiet", "600000"]).await;
    let mut silent = Client::connect(&replica).await;
    silent.send("/?wait=60s").await;
    watch.stays("unanswered", is_unanswered).await;
    drop(silent);
    watch
        .until("gone", |traffic| traffic.connections == 0)
        .await;
    let mut client = Client::connect(&replica).await;
    client.send("/?wait=1s").await;
    watch.until("unanswered", is_unanswered).await;
    client.answer().await;
    assert_eq!(watch.ask().await.unanswered, 0);
    watch.until("not busy", |traffic| !traffic.busy()).await;
}

#[tokio::test]
async fn a_chunked_answer_is_unanswered_through_its_pauses() {
    let replica = Replica::start(&[]).await;
    let mut watch = Helper::watch(&replica, &[]).await;
    let mut pausing = Client::connect(&replica).await;
    pausing.send("/chunks?n=2&pause=60s").await;
    watch.stays("unanswered", is_unanswered).await;
    drop(pausing);
    watch
        .until("gone", |traffic| traffic.connections == 0)
        .await;
    let mut client = Client::connect(&replica).await;
    client.send("/chunks?n=2&pause=1500ms").await;
    watch.until("unanswered", is_unanswered).await;
    client.chunks().await;
    assert_eq!(watch.ask().await.unanswered, 0);
}

#[tokio::test]
async fn an_upload_under_way_is_unanswered() {
    let replica = Replica::start(&[]).await;
    let mut watch = Helper::watch(&replica, &[]).await;
    let mut client = Client::connect(&replica).await;
    let head = b"POST /upload HTTP/1.1\r\nHost: web\r\nContent-Length: 20\r\n\r\n0123456789";
    client.stream.write_all(head).await.unwrap();
    watch.stays("unanswered", is_unanswered).await;
    client.stream.write_all(b"0123456789").await.unwrap();
    client.answer().await;
    assert_eq!(watch.ask().await.unanswered, 0);
}

#[tokio::test]
async fn a_download_is_busy_until_the_client_has_taken_its_last_byte() {
    let replica = Replica::start(&[]).await;
    // On a busy machine packets are dropped, and then silence settles it.
    let mut watch = Helper::watch(&replica, &["--quiet", "1000"]).await;
    let mut client = Client::connect(&replica).await;
    client.send("/data?size=30000000").await;
    let stuck = watch.until("unsent", |traffic| traffic.unsent == 1).await;
    assert_eq!(stuck.connections, 1);
    watch.stays("busy", Traffic::busy).await;
    client.answer().await;
    watch.until("not busy", |traffic| !traffic.busy()).await;
}

#[tokio::test]
async fn a_small_answer_that_only_the_send_queue_holds_is_busy() {
    let replica = Replica::start(&[]).await;
    let mut watch = Helper::watch(&replica, &[]).await;
    let mut client = Client::with_a_small_window(&replica).await;
    client.send("/data?size=200000").await;
    // Meanwhile the application has written everything and thinks of other things.
    watch
        .stays("unsent", |traffic| traffic.unsent == 1 && traffic.busy())
        .await;
    client.answer().await;
    watch.until("not busy", |traffic| !traffic.busy()).await;
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

#[tokio::test]
async fn an_ipv4_client_of_an_application_that_listens_on_ipv6_counts() {
    let replica = Replica::start(&["BIND", "::"]).await;
    let mut watch = Helper::watch(&replica, &[]).await;
    let mut client = Client::connect(&replica).await;
    client.get("/").await;
    client.send("/?wait=500ms").await;
    watch
        .until("unanswered", |traffic| traffic.unanswered == 1)
        .await;
    client.answer().await;
    assert_eq!(watch.ask().await.unanswered, 0);
}

#[tokio::test]
async fn a_connection_that_was_closed_before_it_asked_anything_is_nothing() {
    let replica = Replica::start(&[]).await;
    for _ in 0..20 {
        let mut watch = Helper::watch(&replica, &[]).await;
        let closed = Client::connect(&replica).await;
        drop(closed);
        for _ in 0..10 {
            assert!(!watch.ask().await.busy());
        }
    }
}
