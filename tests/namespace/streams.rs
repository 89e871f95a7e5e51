//! Connections whose requests cannot be counted one by one: HTTP/2, WebSockets.

use std::time::Duration;

use tokio::time::sleep;

use super::client;
use super::helper::Helper;
use testbed::Replica;

async fn one_silent_stream_of_two_keeps_it_unanswered(protocol: &str) {
    let replica = Replica::start(&[]).await;
    let mut watch = Helper::watch_for(&replica, protocol, &[]).await;
    let http2 = client::http2(&replica).await;
    let silent = tokio::spawn(client::get_http2(http2.clone(), "/?wait=10s"));
    client::get_http2(http2.clone(), "/").await;
    // Short against what is waited for.
    for _ in 0..20 {
        assert_eq!(watch.ask().await.unanswered, 1);
        client::get_http2(http2.clone(), "/").await;
        sleep(Duration::from_millis(50)).await;
    }
    silent.await.unwrap();
    assert_eq!(watch.ask().await.unanswered, 0);
    watch.until("not busy", |traffic| !traffic.busy()).await;
}

#[tokio::test]
async fn one_silent_stream_of_two_keeps_an_h2c_connection_unanswered() {
    one_silent_stream_of_two_keeps_it_unanswered("h2c").await;
}

#[tokio::test]
async fn one_silent_stream_of_two_keeps_an_h2c_connection_that_passes_for_http1_unanswered() {
    one_silent_stream_of_two_keeps_it_unanswered("http1").await;
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
    watch.until("not busy", |traffic| !traffic.busy()).await;
}

#[tokio::test]
async fn a_websocket_streams_while_it_moves_and_an_idle_one_is_not_busy() {
    let replica = Replica::start(&[]).await;
    let mut watch = Helper::watch(&replica, &["--quiet", "500"]).await;
    let mut socket = client::websocket(&replica).await;
    let open = watch.until("streaming", |own| own.streaming == 1).await;
    assert_eq!(open.unanswered, 0);
    watch.until("silent", |traffic| !traffic.busy()).await;
    client::echo(&mut socket).await;
    watch
        .until("streaming again", |own| own.streaming == 1)
        .await;
    let idle = watch.until("silent again", |traffic| !traffic.busy()).await;
    assert_eq!(idle.connections, 1);
}
