//! An HTTP client of Docker's API that forwards requests, streams and upgrades.

use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{Request, Response, StatusCode, Uri, body::Incoming, header, http::uri::PathAndQuery};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
};

use crate::{docker::endpoint::Stream, error::Error};

pub use crate::docker::endpoint::Endpoint;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub type Body = BoxBody<Bytes, BoxError>;
/// The largest answer that is read whole, in bytes.
pub const MAX_REWRITTEN: usize = 64 * 1024 * 1024;

/// A pooled client of one engine; clones share the pool.
#[derive(Clone)]
pub struct Upstream {
    client: Client<Connector, Body>,
}

impl Upstream {
    /// Connects on first use, so this never fails.
    pub fn new(endpoint: Endpoint) -> Self {
        let client = Client::builder(TokioExecutor::new()).build(Connector(endpoint));
        Self { client }
    }

    /// Sends a request whose URI is a path and query. Returns when the head of the answer has arrived.
    pub async fn send(&self, mut request: Request<Body>) -> Result<Response<Incoming>, BoxError> {
        let path = request
            .uri()
            .path_and_query()
            .cloned()
            .unwrap_or(PathAndQuery::from_static("/"));
        // Only for the Host header; the connector ignores it.
        *request.uri_mut() = Uri::builder()
            .scheme("http")
            .authority("docker")
            .path_and_query(path)
            .build()?;
        Ok(self.client.request(request).await?)
    }

    /// GETs a path and reads the whole answer, up to [`MAX_REWRITTEN`] bytes.
    pub async fn get(&self, path_and_query: &str) -> Result<(StatusCode, Bytes), BoxError> {
        let response = self
            .send(Request::get(path_and_query).body(empty())?)
            .await?;
        let status = response.status();
        Ok((status, read_whole(response.into_body()).await?))
    }

    /// Forwards a request unchanged, with a connection upgrade (attach, exec, build sessions).
    pub async fn forward(&self, mut request: Request<Body>) -> Result<Response<Body>, BoxError> {
        let upgrades = request.headers().contains_key(header::UPGRADE);
        let client_side = upgrades.then(|| hyper::upgrade::on(&mut request));
        let mut response = self.send(request).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS
            && let Some(client_side) = client_side
        {
            let engine_side = hyper::upgrade::on(&mut response);
            tokio::spawn(async move {
                let (Ok(client), Ok(engine)) = (client_side.await, engine_side.await) else {
                    return;
                };
                let (mut client, mut engine) = (TokioIo::new(client), TokioIo::new(engine));
                if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut engine).await {
                    tracing::debug!(%error, "an upgraded connection ended");
                }
            });
        }
        Ok(response.map(|body| body.map_err(Into::into).boxed()))
    }
}

/// Reads a body whole; an answer larger than [`MAX_REWRITTEN`] is an error.
pub async fn read_whole<B>(body: B) -> Result<Bytes, BoxError>
where
    B: hyper::body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    Ok(http_body_util::Limited::new(body, MAX_REWRITTEN)
        .collect()
        .await?
        .to_bytes())
}

pub fn empty() -> Body {
    full(Bytes::new())
}

pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed()
}

pub fn json(status: StatusCode, value: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(full(value.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    response
}

/// An error in Docker's format: `{"message": …}`.
pub fn refusal(status: StatusCode, message: &str) -> Response<Body> {
    json(status, &serde_json::json!({ "message": message }))
}

/// Dials one engine for hyper's client, and ignores the URI. Its errors are those of [`Endpoint::dial`].
#[derive(Clone)]
pub struct Connector(pub Endpoint);

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<TokioIo<Stream>, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let endpoint = self.0.clone();
        Box::pin(async move { endpoint.dial().await.map(TokioIo::new) })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::stream;
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    use super::*;

    #[tokio::test]
    async fn an_endless_body_is_an_error_once_it_is_too_large() {
        const CHUNK: usize = 1024 * 1024;
        let read = Cell::new(0);
        let endless = stream::repeat_with(|| {
            read.set(read.get() + CHUNK);
            Ok::<_, BoxError>(Frame::data(Bytes::from_static(&[b'x'; CHUNK])))
        });
        assert!(read_whole(StreamBody::new(endless)).await.is_err());
        assert_eq!(read.get(), MAX_REWRITTEN + CHUNK);
        let known = read_whole(full("{}")).await;
        assert_eq!(known.unwrap(), "{}");
    }
}
