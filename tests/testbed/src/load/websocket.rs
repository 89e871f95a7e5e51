//! One WebSocket that talks all the time, stays open across the cutover, and closes itself a while after it.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::report::WebSocketReport;
use super::{PATIENCE, Shared};

const PERIOD: Duration = Duration::from_millis(200);
/// Open for so long after the first answer of a new version.
const LINGER: Duration = Duration::from_secs(3);

pub async fn run(shared: Arc<Shared>) {
    let mut report = WebSocketReport::default();
    report.error = talk(&shared, &mut report).await.err();
    *shared
        .websocket
        .lock()
        .unwrap_or_else(PoisonError::into_inner) = Some(report);
}

async fn talk(shared: &Shared, report: &mut WebSocketReport) -> Result<(), String> {
    let mut socket = open(shared, report).await?;
    while shared.running() {
        let since_cutover = cutover(shared).map(|cutover| cutover.elapsed());
        if since_cutover.is_some_and(|since| since > LINGER) {
            break;
        }
        exchange(&mut socket, report.messages).await?;
        report.messages += 1;
        report.messages_after_cutover += usize::from(since_cutover.is_some());
        sleep(PERIOD).await;
    }
    socket
        .close(None)
        .await
        .map_err(|error| format!("close: {error}"))
}

async fn open(
    shared: &Shared,
    report: &mut WebSocketReport,
) -> Result<WebSocketStream<TcpStream>, String> {
    let options = &shared.options;
    let stream = TcpStream::connect(options.addr)
        .await
        .map_err(|error| format!("connect: {error}"))?;
    let url = format!("ws://{}/echo", options.host);
    let (socket, response) = client_async(url, stream)
        .await
        .map_err(|error| format!("handshake: {error}"))?;
    let version = response
        .headers()
        .get("x-version")
        .and_then(|value| value.to_str().ok());
    report.version = version.map(String::from);
    Ok(socket)
}

async fn exchange(socket: &mut WebSocketStream<TcpStream>, number: usize) -> Result<(), String> {
    let message = Message::text(format!("message {number}"));
    socket
        .send(message.clone())
        .await
        .map_err(|error| format!("send: {error}"))?;
    match timeout(PATIENCE, socket.next()).await {
        Ok(Some(Ok(echo))) if echo == message => Ok(()),
        Ok(Some(Ok(other))) => Err(format!("another message came back: {other:?}")),
        Ok(Some(Err(error))) => Err(format!("receive: {error}")),
        Ok(None) => Err("closed by the other side".into()),
        Err(_) => Err("no echo".into()),
    }
}

/// When the second version first answered.
fn cutover(shared: &Shared) -> Option<Instant> {
    shared.versions.borrow().get(1).map(|(_, first)| *first)
}
