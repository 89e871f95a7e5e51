//! The real engine, by its Unix socket: what is not to fail is passed on to it.

use std::path::PathBuf;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{Request, Response, StatusCode, body::Incoming, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::UnixStream;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub type Body = BoxBody<Bytes, BoxError>;

/// One engine; each request has a connection of its own.
#[derive(Clone)]
pub struct Upstream {
    socket: PathBuf,
}

impl Upstream {
    /// `host` is a `DOCKER_HOST`; the default is the engine of this machine.
    pub fn new(host: &str) -> Self {
        let default = "unix:///var/run/docker.sock";
        let host = if host.is_empty() { default } else { host };
        let socket = host.strip_prefix("unix://").expect("a Unix socket");
        Self {
            socket: socket.into(),
        }
    }

    /// Answers as soon as the engine's head is there.
    pub async fn send(&self, mut request: Request<Body>) -> Result<Response<Incoming>, BoxError> {
        let stream = UnixStream::connect(&self.socket).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection.with_upgrades());
        let host = header::HeaderValue::from_static("docker");
        request.headers_mut().insert(header::HOST, host);
        Ok(sender.send_request(request).await?)
    }

    /// GETs a path; the status and the whole answer.
    pub async fn get(&self, path_and_query: &str) -> Result<(StatusCode, Bytes), BoxError> {
        let response = self
            .send(Request::get(path_and_query).body(empty())?)
            .await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }

    /// Passes a request through, a connection upgrade included.
    pub async fn forward(&self, mut request: Request<Body>) -> Result<Response<Body>, BoxError> {
        let upgrades = request.headers().contains_key(header::UPGRADE);
        let client = upgrades.then(|| hyper::upgrade::on(&mut request));
        let mut response = self.send(request).await?;
        if let Some(client) = client
            && response.status() == StatusCode::SWITCHING_PROTOCOLS
        {
            let engine = hyper::upgrade::on(&mut response);
            tokio::spawn(async move {
                if let (Ok(client), Ok(engine)) = (client.await, engine.await) {
                    let (mut client, mut engine) = (TokioIo::new(client), TokioIo::new(engine));
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut engine).await;
                }
            });
        }
        Ok(response.map(|body| body.map_err(Into::into).boxed()))
    }
}

pub fn empty() -> Body {
    full(Bytes::new())
}

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed()
}

/// An error in the shape of Docker's own: `{"message": …}`.
pub fn refusal(status: StatusCode, message: &str) -> Response<Body> {
    let response = Response::builder()
        .status(status)
        .header("content-type", "application/json");
    response
        .body(full(json!({ "message": message }).to_string()))
        .unwrap()
}
