//! A reader that has been broken into gets nowhere, and takes nothing from the others.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
};

use testbed::{
    Temporary,
    daemon::{Daemon, status},
    eventually,
};

const HOST: &str = "Host: docker\r\nConnection: close\r\n";

#[tokio::test]
async fn everything_but_the_allowlist_is_forbidden() {
    let proxy = Daemon::start().await;
    let target = Temporary::container(&["create"], &["rollout-demo:v1"]);
    let paths = [
        "/info",
        "/images/json",
        "/containers/ID/logs?stdout=1",
        "/containers/ID/export",
        "/containers/ID/archive?path=/",
        "/containers/ID/attach/ws",
        "/containers/ID/top",
        "/containers/ID/stats",
        "/containers/ID/changes",
        "/exec/ID/json",
        "/volumes",
        "/secrets",
        "/configs",
        "/services",
        "/nodes",
        "/swarm",
        "/plugins",
        "/system/df",
        "//version",
        "/v1.24//version",
        "/containers//ID/json",
        "/containers/ID//json",
        "/./version",
        "/containers/ID/../ID/json",
        "/containers/x/../../version",
        "/%76ersion",
        "/containers/ID%2fjson",
        "/containers/ID%2f..%2fID/json",
        "/containers/ID/json%00",
        "/containers/ID/json/",
        "/version/",
        "/v1.41",
        "/containers/ID/logs/../json",
        "/containers/ID/json;x",
        "/networks/bridge/json",
        "/session",
        "/grpc",
        "/build",
        "/",
    ];
    for path in paths {
        let path = path.replace("ID", &target.name);
        let answer = proxy.raw(format!("GET {path} HTTP/1.1\r\n{HOST}\r\n").as_bytes());
        assert_eq!(status(&answer), 403, "GET {path}: {answer}");
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
        let path = format!("/containers/{}/json", target.name);
        let answer = proxy.raw(format!("{method} {path} HTTP/1.1\r\n{HOST}\r\n").as_bytes());
        assert_eq!(status(&answer), 403, "{method}: {answer}");
    }
}

// Each must be answered once at most, never with success, and the connection must end.
#[tokio::test]
async fn tricks_end_the_connection_without_an_answer_from_the_engine() {
    let proxy = Daemon::start().await;
    let hidden = "GET /version HTTP/1.1\r\nHost: docker\r\n\r\n";
    let requests = [
        format!("GET http://docker/version HTTP/1.1\r\n{HOST}\r\n"),
        format!("CONNECT docker:80 HTTP/1.1\r\n{HOST}\r\n{hidden}"),
        format!(
            "GET /version HTTP/1.1\r\nHost: d\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n{hidden}"
        ),
        format!(
            "GET /containers/a/attach/ws HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n{hidden}"
        ),
        format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{hidden}"),
        format!(
            "GET /version HTTP/1.1\r\nHost: d\r\nContent-Length: {}\r\n\r\n{hidden}",
            hidden.len()
        ),
        format!(
            "GET /version HTTP/1.1\r\nHost: d\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"
        ),
        format!(
            "GET /version HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"
        ),
        format!(
            "GET /version HTTP/1.1\r\nHost: d\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n{hidden}"
        ),
        format!(
            "GET /version HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{hidden}"
        ),
        format!(
            "GET /version HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\nContent-Length: 7\r\n\r\n{hidden}"
        ),
        format!("GET /version HTTP/1.1\r\nHost: d\r\nContent-Length: -1\r\n\r\n{hidden}"),
        format!("GET /version HTTP/1.1\r\nHost: d\r\n X: folded\r\n\r\n{hidden}"),
        format!("GET /version?\0 HTTP/1.1\r\nHost: d\r\n\r\n{hidden}"),
        format!(
            "GET /version HTTP/1.1\r\nHost: d\r\nX: {}\r\n\r\n{hidden}",
            "x".repeat(9 * 1024)
        ),
        format!(
            "GET /version HTTP/1.1\r\nHost: d\r\n{}\r\n{hidden}",
            "X: y\r\n".repeat(2000)
        ),
        format!(
            "GET /{} HTTP/1.1\r\nHost: d\r\n\r\n{hidden}",
            "x".repeat(9 * 1024)
        ),
    ];
    for request in requests {
        let answer = proxy.raw(request.as_bytes());
        let shown = &request[..request.len().min(120)];
        assert!(
            answer.matches("HTTP/1.1 ").count() <= 1,
            "{shown:?}: {answer}"
        );
        assert!(!answer.contains("ApiVersion"), "{shown:?}: {answer}");
        assert!(
            matches!(status(&answer), 0 | 400..=499 | 505),
            "{shown:?}: {answer}"
        );
    }
}

#[tokio::test]
async fn a_head_that_never_ends_ends_the_connection() {
    let proxy = Daemon::start().await;
    let mut stream = TcpStream::connect(proxy.listen).unwrap();
    stream
        .write_all(b"GET /version HTTP/1.1\r\nHost: d\r\n")
        .unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let mut answer = Vec::new();
    // The end of the connection, and not this side's limit for reading.
    stream
        .read_to_end(&mut answer)
        .expect("the daemon ends the connection");
    assert!(!String::from_utf8_lossy(&answer).contains("200"));
}

#[tokio::test]
async fn a_thousand_idle_connections_keep_no_honest_reader_out() {
    let proxy = Daemon::start().await;
    let mut idle = Vec::new();
    for _ in 0..1000 {
        // More than the peer may have are taken and ended at once.
        if let Ok(stream) = tokio::net::TcpStream::connect(proxy.listen).await {
            idle.push(stream);
        }
        // This process may have fewer files open than that.
        if idle.len() > 500 {
            idle.drain(100..200);
        }
    }
    let honest = TcpSocket::new_v4().unwrap();
    honest.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut honest = honest.connect(proxy.listen).await.unwrap();
    let request = format!("GET /version HTTP/1.1\r\n{HOST}\r\n");
    honest.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = honest.read_to_string(&mut answer);
    tokio::time::timeout(Duration::from_secs(5), read)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status(&answer), 200, "{answer}");
}

#[tokio::test]
async fn a_peer_has_eight_event_streams_and_no_more() {
    let proxy = Daemon::start().await;
    let open = || {
        let mut stream = TcpStream::connect(proxy.listen).unwrap();
        stream
            .write_all(b"GET /events HTTP/1.1\r\nHost: d\r\n\r\n")
            .unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).unwrap();
        (stream, status(&String::from_utf8_lossy(&head)))
    };
    let streams: Vec<_> = (0..8).map(|_| open()).collect();
    assert!(streams.iter().all(|(_, status)| *status == 200));
    assert_eq!(open().1, 429);
    drop(streams);
    eventually(
        "streams are counted down",
        Duration::from_secs(30),
        async || match open().1 {
            200 => Ok(()),
            status => Err(status),
        },
    )
    .await;
}
