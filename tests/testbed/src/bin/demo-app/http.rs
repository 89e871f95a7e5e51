//! HTTP/1.1 and h2c (prior knowledge) on one port, with the answers a rollout has to get through whole.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::settings::Settings;
use crate::websocket;

pub type Body = UnsyncBoxBody<Bytes, Infallible>;

const LONGEST_WAIT: Duration = Duration::from_secs(120);
const LARGEST_ANSWER: usize = 1 << 30;

pub async fn serve(
    settings: Arc<Settings>,
    mut stopping: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let listener = TcpListener::bind((settings.bind, settings.port)).await?;
    settings.log(&format!("listening on {} (http)", listener.local_addr()?));
    if settings.loopback_check {
        tokio::spawn(ask_oneself(settings.clone()));
    }
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // One connection that fails in its handshake is no reason to end.
                if let Ok((stream, _)) = accepted {
                    connections.spawn(connection(stream, settings.clone(), stopping.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
            _ = stopping.changed() => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
    settings.log("stopped");
    Ok(())
}

async fn connection(
    stream: TcpStream,
    settings: Arc<Settings>,
    mut stopping: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| answer(request, settings.clone()));
    let server = Builder::new(TokioExecutor::new());
    let connection = server.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stopping.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

async fn answer(
    request: Request<Incoming>,
    settings: Arc<Settings>,
) -> Result<Response<Body>, Infallible> {
    let query = Query::of(&request);
    let mut response = match request.uri().path() {
        "/health" if settings.is_unhealthy() => {
            status(StatusCode::SERVICE_UNAVAILABLE, "unhealthy")
        }
        "/health" => text(format!("healthy {}", settings.signature())),
        "/echo" => websocket::upgrade(request),
        "/chunks" => chunks(&settings, query.number("n", 3), query.duration("pause")),
        "/data" => data(query.number("size", 1024)),
        "/upload" => upload(request, &settings).await,
        path => {
            let answer = format!("{} path={path}", settings.signature());
            tokio::time::sleep(query.duration("wait") + settings.answer_delay).await;
            let number = settings.answers.fetch_add(1, Ordering::Relaxed) + 1;
            match settings.error_every {
                Some(every) if number.is_multiple_of(every) => {
                    status(StatusCode::INTERNAL_SERVER_ERROR, &answer)
                }
                _ => text(answer),
            }
        }
    };
    let version =
        HeaderValue::from_str(&settings.version).unwrap_or(HeaderValue::from_static("invalid"));
    response.headers_mut().insert("x-version", version);
    Ok(response)
}

/// A chunk at once, then a pause before each further one.
fn chunks(settings: &Settings, count: usize, pause: Duration) -> Response<Body> {
    let signature = settings.signature();
    let stream = futures_util::stream::iter(1..=count).then(move |number| {
        let chunk = format!("{signature} chunk={number}/{count}\n");
        async move {
            if number > 1 {
                tokio::time::sleep(pause).await;
            }
            Ok(Frame::data(Bytes::from(chunk)))
        }
    });
    Response::new(StreamBody::new(stream).boxed_unsync())
}

fn data(size: usize) -> Response<Body> {
    const BLOCK: &[u8] = &[b'x'; 64 * 1024];
    let size = size.min(LARGEST_ANSWER);
    let lengths = std::iter::successors(Some(size), |left| left.checked_sub(BLOCK.len()))
        .take_while(|left| *left > 0);
    let blocks = lengths.map(|left| {
        Ok(Frame::data(Bytes::from_static(
            &BLOCK[..left.min(BLOCK.len())],
        )))
    });
    let mut response =
        Response::new(StreamBody::new(futures_util::stream::iter(blocks)).boxed_unsync());
    response
        .headers_mut()
        .insert("content-length", HeaderValue::from(size));
    response
}

async fn upload(request: Request<Incoming>, settings: &Settings) -> Response<Body> {
    let mut body = request.into_body();
    let mut received = 0;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => received += frame.data_ref().map_or(0, Bytes::len),
            Err(error) => return status(StatusCode::BAD_REQUEST, &format!("broken body: {error}")),
        }
    }
    text(format!("{} received={received}", settings.signature()))
}

/// Keeps an unanswered request on a loopback connection at all times: a drain must not wait for it.
async fn ask_oneself(settings: Arc<Settings>) {
    loop {
        if let Ok(stream) = TcpStream::connect(("127.0.0.1", settings.port)).await {
            ask_repeatedly(stream).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn ask_repeatedly(mut stream: TcpStream) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let request = b"GET /?wait=2s HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut answer = [0; 4096];
    while stream.write_all(request).await.is_ok() {
        if !matches!(stream.read(&mut answer).await, Ok(length) if length > 0) {
            return;
        }
    }
}

pub fn text(body: String) -> Response<Body> {
    Response::new(Full::new(Bytes::from(body + "\n")).boxed_unsync())
}

pub fn status(status: StatusCode, body: &str) -> Response<Body> {
    let mut response = text(body.to_string());
    *response.status_mut() = status;
    response
}

struct Query(HashMap<String, String>);

impl Query {
    fn of(request: &Request<Incoming>) -> Self {
        let query = request.uri().query().unwrap_or_default();
        Self(
            form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect(),
        )
    }

    fn number(&self, name: &str, default: usize) -> usize {
        self.0
            .get(name)
            .and_then(|value| value.parse().ok())
            .unwrap_or(default)
    }

    fn duration(&self, name: &str) -> Duration {
        let given = self
            .0
            .get(name)
            .and_then(|value| humantime::parse_duration(value).ok());
        given.unwrap_or_default().min(LONGEST_WAIT)
    }
}
