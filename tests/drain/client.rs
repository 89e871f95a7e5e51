//! Clients of a service behind Traefik that take their time: silent requests, uploads, downloads, WebSockets.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Empty, StreamBody, combinators::UnsyncBoxBody};
use hyper::Request;
use hyper::body::{Body as _, Frame};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Between two requests, messages or pieces of an upload.
const PERIOD: Duration = Duration::from_millis(200);

/// An answer that has arrived whole; a connection that breaks fails the test.
pub struct Answer {
    pub path: String,
    pub status: u16,
    pub version: String,
    pub body: Vec<u8>,
    /// When the last of it was there.
    pub at: Instant,
}

/// Asks on a connection of its own.
pub fn ask(port: u16, path: &str) -> JoinHandle<Answer> {
    let request = request(path, Empty::new().boxed_unsync());
    tokio::spawn(exchange(port, request, None))
}

fn request(path: &str, body: Body) -> Request<Body> {
    let method = if body.size_hint().exact() == Some(0) {
        "GET"
    } else {
        "POST"
    };
    let request = Request::builder().method(method).uri(path);
    request.header("host", "localhost").body(body).unwrap()
}

/// `pause` comes after the first piece of the answer.
async fn exchange(
    port: u16,
    request: Request<Body>,
    pause: Option<oneshot::Receiver<()>>,
) -> Answer {
    let path = request.uri().to_string();
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let (head, mut rest) = sender.send_request(request).await.unwrap().into_parts();
    let mut body = Vec::new();
    if let Some(pause) = pause {
        let first = rest.frame().await.unwrap().unwrap();
        body.extend_from_slice(&first.into_data().unwrap());
        pause.await.unwrap();
    }
    while let Some(frame) = rest.frame().await {
        let frame = frame.unwrap_or_else(|error| panic!("the answer to {path} broke: {error}"));
        body.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new()));
    }
    let version = head
        .headers
        .get("x-version")
        .map_or(&b""[..], |name| name.as_bytes());
    Answer {
        status: head.status.as_u16(),
        version: String::from_utf8_lossy(version).into_owned(),
        body,
        at: Instant::now(),
        path,
    }
}

/// Requests that begin again and again, so that some are under way at any moment.
pub struct Trickle {
    stop: oneshot::Sender<()>,
    answers: JoinHandle<Vec<Answer>>,
}

impl Trickle {
    pub fn start(port: u16, paths: &'static [&str]) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let answers = tokio::spawn(async move {
            let mut under_way = JoinSet::new();
            while stopped.try_recv().is_err() {
                for path in paths {
                    let request = request(path, Empty::new().boxed_unsync());
                    under_way.spawn(exchange(port, request, None));
                }
                sleep(PERIOD).await;
            }
            under_way.join_all().await
        });
        Self { stop, answers }
    }

    /// Begins no more; what is under way comes to its end.
    pub fn stop(self) -> JoinHandle<Vec<Answer>> {
        self.stop.send(()).unwrap();
        self.answers
    }
}

/// A transfer that pauses until it is released.
pub struct Flow(oneshot::Receiver<()>);

impl Flow {
    pub fn new() -> (Self, oneshot::Sender<()>) {
        let (go_on, wait) = oneshot::channel();
        (Self(wait), go_on)
    }

    /// Reads a little, and the rest once it may go on.
    pub fn download(self, port: u16, size: usize) -> JoinHandle<Answer> {
        let path = format!("/data?size={size}");
        let request = request(&path, Empty::new().boxed_unsync());
        tokio::spawn(exchange(port, request, Some(self.0)))
    }

    /// Sends piece after piece until it may end; the answer, and how much was sent.
    pub fn upload(mut self, port: u16) -> JoinHandle<(Answer, usize)> {
        const PIECE: &[u8] = &[b'u'; 32 * 1024];
        tokio::spawn(async move {
            let (pieces, body) = tokio::sync::mpsc::channel(4);
            let body = futures_util::stream::unfold(body, async |mut body| {
                body.recv().await.map(|piece| (piece, body))
            });
            let request = request("/upload", StreamBody::new(body).boxed_unsync());
            let answer = tokio::spawn(exchange(port, request, None));
            let mut sent = 0;
            while self.0.try_recv().is_err() {
                pieces
                    .send(Ok(Frame::data(Bytes::from_static(PIECE))))
                    .await
                    .unwrap();
                sent += PIECE.len();
                sleep(PERIOD).await;
            }
            drop(pieces);
            (answer.await.unwrap(), sent)
        })
    }
}

/// An open WebSocket whose other end sends everything back.
pub struct Echo(WebSocketStream<TcpStream>);

impl Echo {
    pub async fn open(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (socket, answer) = client_async("ws://localhost/echo", stream).await.unwrap();
        assert_eq!(answer.headers()["x-version"], "v1");
        Self(socket)
    }

    /// Sends message after message until the other end is gone.
    pub fn keep_talking(mut self) -> JoinHandle<()> {
        tokio::spawn(async move {
            while self.0.send(Message::text("hello")).await.is_ok()
                && matches!(self.0.next().await, Some(Ok(Message::Text(_))))
            {
                sleep(PERIOD).await;
            }
        })
    }
}
