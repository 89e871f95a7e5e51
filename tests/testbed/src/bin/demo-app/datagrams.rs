//! UDP mode: answers each datagram with the version and the datagram.

use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::sync::watch;

use crate::settings::Settings;

pub async fn serve(
    settings: Arc<Settings>,
    mut stopping: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let socket = UdpSocket::bind((settings.bind, settings.port)).await?;
    settings.log(&format!("listening on {} (udp)", socket.local_addr()?));
    let mut datagram = [0; 2048];
    loop {
        tokio::select! {
            received = socket.recv_from(&mut datagram) => {
                // A client that is gone already makes recv fail on the next call; that is its affair.
                let Ok((length, peer)) = received else { continue };
                let answer = [settings.version.as_bytes(), b" ", &datagram[..length]].concat();
                let _ = socket.send_to(&answer, peer).await;
            }
            _ = stopping.changed() => return Ok(()),
        }
    }
}
