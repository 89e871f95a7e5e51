//! Accepts readers: bounded in number, size and time, and each request answered by one function.

use std::{
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{
    Response,
    body::{Frame, SizeHint},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpStream};

use super::{
    answer::{self, Peer},
    daemon::Daemon,
    deadline::{Busy, Deadline},
};
use crate::docker_http::{Body, BoxError};

/// The largest head of a request, in bytes.
const MAX_HEAD: usize = 8 * 1024;

/// Serves readers until the process ends.
pub async fn serve(listener: TcpListener, daemon: Arc<Daemon>) {
    static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let peer = Peer {
            connection: CONNECTIONS.fetch_add(1, Ordering::Relaxed),
            address: canonical(address),
        };
        let Some(permit) = daemon.connections.take(peer.address) else {
            daemon.refuse(peer.address, "(too many connections)");
            continue;
        };
        let daemon = daemon.clone();
        tokio::spawn(async move {
            connection(stream, peer, &daemon).await;
            drop(permit);
        });
    }
}

// An IPv4 peer of a dual-stack socket is the same peer.
fn canonical(address: SocketAddr) -> IpAddr {
    address.ip().to_canonical()
}

async fn connection(stream: TcpStream, peer: Peer, daemon: &Arc<Daemon>) {
    if let Err(error) = watch_liveness(&stream) {
        tracing::debug!(%error, "no keep-alive probes on a connection");
    }
    let busy = Busy::default();
    let stream = TokioIo::new(Deadline::new(stream, busy.clone()));
    let peer = &peer;
    let service = service_fn(|request| {
        let busy = busy.clone();
        async move {
            busy.set(true);
            let response = answer::answer(daemon, peer, request).await;
            Ok::<_, std::convert::Infallible>(until_sent(response, busy))
        }
    });
    let served = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .max_header_size(MAX_HEAD)
        .header_read_timeout(None)
        .serve_connection(stream, service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, peer = %peer.address, "a connection ended");
    }
    daemon.snapshots.lock().unwrap().closed(peer.connection);
}

// A reader whose machine or network is gone sends no FIN, and would count for ever.
fn watch_liveness(stream: &TcpStream) -> nix::Result<()> {
    setsockopt(stream, sockopt::TcpNoDelay, &true)?;
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &15)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &5)?;
    setsockopt(stream, sockopt::TcpKeepCount, &3)?;
    setsockopt(stream, sockopt::TcpUserTimeout, &30_000)
}

// The connection is idle again once the body has been dropped.
fn until_sent(response: Response<Body>, busy: Busy) -> Response<Body> {
    response.map(|body| Sending { body, busy }.boxed())
}

struct Sending {
    body: Body,
    busy: Busy,
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.busy.set(false);
    }
}

impl hyper::body::Body for Sending {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::socket_proxy::testing::{FakeEngine, daemon};

    // The answer to a request whose head has this size and ends with `end`.
    async fn answered(size: usize, end: &str) -> String {
        let (_engine, directory) = FakeEngine::start(false);
        let daemon = daemon(&directory).await;
        let mut stream = TcpStream::connect(daemon.listen).await.unwrap();
        let start = "GET /version HTTP/1.1\r\nConnection: close\r\nX-Long: ";
        let filler = "x".repeat(size - start.len() - end.len());
        let head = format!("{start}{filler}{end}");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_head_is_refused_as_soon_as_it_is_too_large_and_answered_below_that() {
        let answer = answered(MAX_HEAD - 1, "\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let answer = answered(MAX_HEAD, "").await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
}
