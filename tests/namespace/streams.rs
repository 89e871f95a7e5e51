//! Connections whose requests cannot be counted one by one: HTTP/2, WebSockets.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::client;
use super::helper::Helper;
use testbed::Replica;

#[tokio::test]
async fn one_silent_stream_of_two_keeps_an_h2c_connection_unanswered() {
    let replica = Replica::start(&[]).await;
    for protocol in ["http1", "h2c"] {
        let mut watch = Helper::watch_for(&replica, protocol, &[]).await;
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
    let mut watch = Helper::watch_for(&replica, "h2c", &["--quiet", "2500"]).await;
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
