//! One GET on a connection of its own.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, Response, client::conn::http1::handshake};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

const LIMIT: Duration = Duration::from_secs(5);

/// The answer of a port of 127.0.0.1, whole; `None` if there is none within 5 s.
pub async fn get(port: u16, host: &str, path: &str) -> Option<Response<Bytes>> {
    get_with(port, host, path, &[]).await
}

/// The same with more headers.
pub async fn get_with(
    port: u16,
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Option<Response<Bytes>> {
    let exchange = exchange(port, host, path, headers);
    timeout(LIMIT, exchange).await.ok()?.ok()
}

async fn exchange(
    port: u16,
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<Response<Bytes>, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let mut request = Request::get(path)
        .header("host", host)
        .header("connection", "close");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (head, body) = sender
        .send_request(request.body(Empty::<Bytes>::new())?)
        .await?
        .into_parts();
    let body = body.collect().await?.to_bytes();
    connection.abort();
    Ok(Response::from_parts(head, body))
}
