//! Accepts readers: limits their number, the size of a request and the time that it may take to arrive.

use std::{
    convert::Infallible,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpStream};

use super::{
    answer::{Peer, answer},
    daemon::Daemon,
    limits::Quota,
};

/// The largest head of a request, in bytes.
const MAX_HEAD: usize = 8 * 1024;
/// The longest time from the start of a connection, or from the end of an answer, to the end of the next head. A reader that
/// is idle for longer connects again.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// Serves readers until the process ends.
pub async fn serve(listener: TcpListener, daemon: Arc<Daemon>) {
    static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
    let refused = |address| daemon.refuse(address, "(too many connections)");
    accept(listener, &daemon.connections, refused, |stream, address| {
        let peer = Peer {
            connection: CONNECTIONS.fetch_add(1, Ordering::Relaxed),
            address,
        };
        connection(stream, peer, daemon.clone())
    })
    .await;
}

/// Has `connection` serve each peer that is within the quota, until the process ends.
pub async fn accept<F>(
    listener: TcpListener,
    quota: &Quota,
    refused: impl Fn(IpAddr),
    connection: impl Fn(TcpStream, IpAddr) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // A dual-stack socket shows an IPv4 peer with an IPv4-mapped address.
        let address = address.ip().to_canonical();
        let Some(permit) = quota.take(address) else {
            refused(address);
            continue;
        };
        if let Err(error) = watch_liveness(&stream) {
            tracing::debug!(%error, "no keep-alive probes on a connection");
        }
        let served = connection(stream, address);
        tokio::spawn(async move {
            served.await;
            drop(permit);
        });
    }
}

async fn connection(stream: TcpStream, peer: Peer, daemon: Arc<Daemon>) {
    let (peer, daemon) = (&peer, &daemon);
    let service =
        service_fn(
            |request| async move { Ok::<_, Infallible>(answer(daemon, peer, request).await) },
        );
    let served = limited().serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        tracing::debug!(%error, peer = %peer.address, "a connection ended");
    }
    daemon.snapshots.lock().unwrap().closed(peer.connection);
}

/// The limits of each connection.
pub fn limited() -> http1::Builder {
    let mut http = http1::Builder::new();
    http.max_buf_size(MAX_HEAD)
        .max_header_size(MAX_HEAD)
        .timer(TokioTimer::new())
        .header_read_timeout(MAX_WAIT);
    http
}

// A reader whose machine or network is gone sends no FIN. Its connection would count against the limit for ever.
fn watch_liveness(stream: &TcpStream) -> nix::Result<()> {
    setsockopt(stream, sockopt::TcpNoDelay, &true)?;
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &15)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &5)?;
    setsockopt(stream, sockopt::TcpKeepCount, &3)?;
    setsockopt(stream, sockopt::TcpUserTimeout, &30_000)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::stream;
    use http_body_util::StreamBody;
    use hyper::{Response, body::Frame};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        time::{sleep, timeout},
    };

    use super::*;
    use crate::socket_proxy::testing::{FakeEngine, daemon};

    const HOUR: Duration = Duration::from_secs(3600);
    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: d\r\n\r\n";

    // The client's end of a connection whose answers take an hour to begin and an hour for each part.
    fn slow_server() -> DuplexStream {
        let (client, server) = duplex(1024);
        tokio::spawn(async {
            let service = service_fn(|_| async {
                sleep(HOUR).await;
                let parts = stream::unfold(0, |part| async move {
                    sleep(HOUR).await;
                    let frame = Frame::data(Bytes::from_static(b"part"));
                    (part < 2).then_some((Ok::<_, Infallible>(frame), part + 1))
                });
                Ok::<_, Infallible>(Response::new(StreamBody::new(Box::pin(parts))))
            });
            let served = limited().serve_connection(TokioIo::new(server), service);
            let _ = served.await;
        });
        client
    }

    // Whether the server closes the connection within an hour, after what it still sends.
    async fn closes(client: &mut DuplexStream) -> bool {
        let mut rest = Vec::new();
        let read = timeout(HOUR, client.read_to_end(&mut rest)).await;
        read.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_request_is_closed() {
        assert!(closes(&mut slow_server()).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_arrives_too_slowly_is_not_waited_for() {
        let mut client = slow_server();
        let mut written = 0;
        for byte in GET {
            if client.write_u8(*byte).await.is_err() {
                break;
            }
            written += 1;
            sleep(Duration::from_secs(1)).await;
        }
        assert!(written < GET.len());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_may_take_long_and_the_idle_connection_after_it_is_closed() {
        let mut client = slow_server();
        client.write_all(GET).await.unwrap();
        let mut answer = String::new();
        while !answer.ends_with("\r\n0\r\n\r\n") {
            let mut bytes = [0; 1024];
            let read = client.read(&mut bytes).await.unwrap();
            assert_ne!(read, 0, "{answer}");
            answer += &String::from_utf8_lossy(&bytes[..read]);
        }
        assert_eq!(answer.matches("part").count(), 2, "{answer}");
        assert!(closes(&mut client).await);
    }

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
