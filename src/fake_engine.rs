//! An engine for tests, which answers from a table and keeps a record of what it was asked.

use std::sync::{Arc, Mutex};

use hyper::{Request, Response, StatusCode, Uri, body::Incoming, header, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt, net::UnixListener};

use crate::docker::http::{Body, Endpoint, full, read_whole};

/// What the engine was asked: method, path and query, body.
pub type Asked = Arc<Mutex<Vec<(String, String, Value)>>>;

pub struct FakeEngine {
    directory: TempDir,
    pub asked: Asked,
}

impl FakeEngine {
    /// `table` answers a method, a path without the version of the API, and a query.
    pub fn start<T>(table: T) -> Self
    where
        T: Fn(&str, &str, &str) -> Response<Body> + Send + Sync + 'static,
    {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("engine.sock")).unwrap();
        let asked = Asked::default();
        let (record, table) = (Arc::clone(&asked), Arc::new(table));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (record, table) = (Arc::clone(&record), Arc::clone(&table));
                let service = service_fn(move |request| {
                    answer(request, Arc::clone(&record), Arc::clone(&table))
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades(),
                );
            }
        });
        Self { directory, asked }
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint::Unix(self.directory.path().join("engine.sock"))
    }

    /// The requests that would have changed something.
    pub fn changes(&self) -> Vec<(String, String, Value)> {
        let asked = self.asked.lock().unwrap();
        let changes = asked.iter().filter(|(method, ..)| method != "GET");
        changes.cloned().collect()
    }
}

async fn answer<T>(
    mut request: Request<Incoming>,
    record: Asked,
    table: Arc<T>,
) -> Result<Response<Body>, hyper::Error>
where
    T: Fn(&str, &str, &str) -> Response<Body>,
{
    if request.headers().contains_key(header::UPGRADE) {
        return Ok(echo(&mut request));
    }
    let (head, body) = request.into_parts();
    let body = read_whole(body).await.unwrap();
    let asked = (
        head.method.to_string(),
        head.uri.to_string(),
        serde_json::from_slice(&body).unwrap_or_default(),
    );
    record.lock().unwrap().push(asked);
    let query = head.uri.query().unwrap_or_default();
    Ok(table(head.method.as_str(), unversioned(&head.uri), query))
}

/// The path without `/v1.41` or the like.
fn unversioned(uri: &Uri) -> &str {
    let path = uri.path();
    let versioned = path.strip_prefix("/v1.");
    let end = versioned.and_then(|rest| Some(&rest[rest.find('/')?..]));
    end.unwrap_or(path)
}

/// Switches protocols, says what arrives back, and ends with the client.
fn echo(request: &mut Request<Incoming>) -> Response<Body> {
    let upgraded = hyper::upgrade::on(request);
    tokio::spawn(async move {
        let (mut read, mut write) = tokio::io::split(TokioIo::new(upgraded.await.unwrap()));
        tokio::io::copy(&mut read, &mut write).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let mut response = Response::new(full(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for (name, value) in [(header::CONNECTION, "Upgrade"), (header::UPGRADE, "tcp")] {
        let value = header::HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}
