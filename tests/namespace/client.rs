//! Clients that can stop anywhere: in the middle of a request, or with an answer half read.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use testbed::Replica;

const PATIENCE: Duration = Duration::from_secs(20);

/// One HTTP/1.1 connection.
pub struct Client {
    pub stream: TcpStream,
}

impl Client {
    pub async fn connect(replica: &Replica) -> Self {
        let stream = TcpStream::connect(replica.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    /// Takes a few kilobytes from the application and leaves the rest with it.
    pub async fn with_a_small_window(replica: &Replica) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let stream = socket.connect(replica.address).await.unwrap();
        Self { stream }
    }

    pub async fn send(&mut self, path: &str) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: web\r\n\r\n");
        self.stream.write_all(request.as_bytes()).await.unwrap();
    }

    /// Reads one answer that has a length.
    pub async fn answer(&mut self) {
        let head = self.until(b"\r\n\r\n").await;
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let (_, rest) = head.split_once("content-length: ").expect("a length");
        let length = rest.lines().next().unwrap().parse().unwrap();
        let mut body = vec![0; length];
        let read = timeout(PATIENCE, self.stream.read_exact(&mut body)).await;
        read.expect("an answer in time").unwrap();
    }

    /// Reads one answer that is chunked.
    pub async fn chunks(&mut self) {
        self.until(b"\r\n0\r\n\r\n").await;
    }

    pub async fn get(&mut self, path: &str) {
        self.send(path).await;
        self.answer().await;
    }

    async fn until(&mut self, end: &[u8]) -> Vec<u8> {
        let mut read = Vec::new();
        let whole = async {
            while !read.ends_with(end) {
                read.push(self.stream.read_u8().await.unwrap());
            }
        };
        timeout(PATIENCE, whole).await.expect("an answer in time");
        read
    }
}

pub type Http2 = SendRequest<Empty<Bytes>>;

/// A connection with prior knowledge.
pub async fn http2(replica: &Replica) -> Http2 {
    let stream = TcpStream::connect(replica.address).await.unwrap();
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

pub async fn get_http2(mut http2: Http2, path: &str) {
    let request = Request::get(format!("http://web{path}"))
        .body(Empty::new())
        .unwrap();
    let answer = http2.send_request(request).await.unwrap();
    answer.into_body().collect().await.unwrap();
}

/// An open WebSocket that has said nothing.
pub async fn websocket(replica: &Replica) -> WebSocketStream<TcpStream> {
    let stream = TcpStream::connect(replica.address).await.unwrap();
    client_async("ws://web/echo", stream).await.unwrap().0
}

pub async fn echo(socket: &mut WebSocketStream<TcpStream>) {
    socket.send(Message::text("ping")).await.unwrap();
    timeout(PATIENCE, socket.next())
        .await
        .expect("an echo in time")
        .unwrap()
        .unwrap();
}
